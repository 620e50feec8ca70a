//! The daemon as the world has it: its start, its tasks, and the blocks that the cluster gives the node.

use twill_attach::course::sweep::{Suspicions, sweep};
use twill_ipam::sweep::GRACE;

use super::processes::Answer;
use super::{BLOCKS, World};
use crate::board::Kind;
use crate::daemon::{self, Place};
use crate::hands::Hands;

/// A daemon.
#[derive(Default)]
pub(super) struct Daemon {
    pub(super) place: Place,
    pub(super) suspicions: Suspicions,
}

impl World {
    pub(super) fn start(&mut self, steps: u32) {
        let daemon = Daemon::default();
        let (place, run_dir) = (daemon.place.clone(), self.run_dir());
        self.daemon = Some(daemon);
        self.board.lock().heard = true;
        self.begin(Kind::Daemon, None, None, steps, |hands| {
            Answer::Started(daemon::Shared { place, hands: hands.again(), run_dir }.open())
        });
    }

    /// A task of the daemon, which has one of each at a time.
    fn task(
        &mut self,
        kind: Kind,
        steps: u32,
        course: impl FnOnce(&mut Hands, daemon::Shared) -> Answer + Send + 'static,
    ) {
        let Some(daemon) = self.daemon.as_ref().filter(|_| self.running.iter().all(|one| one.kind != kind)) else {
            return;
        };
        let (place, run_dir) = (daemon.place.clone(), self.run_dir());
        self.begin(kind, None, None, steps, |hands| {
            let shared = daemon::Shared { place, hands: hands.again(), run_dir };
            course(hands, shared)
        });
    }

    pub(super) fn sweep(&mut self, steps: u32) {
        let before = self.daemon.as_ref().map(|daemon| daemon.suspicions.clone()).unwrap_or_default();
        self.task(Kind::Sweep, steps, move |hands, mut shared| {
            let run_dir = shared.run_dir.clone();
            Answer::Swept(sweep(hands, &run_dir, &mut shared, &before, GRACE).ok().map(|swept| swept.suspicions))
        });
    }

    pub(super) fn look(&mut self, steps: u32) {
        let owns: Vec<_> = self.owns.iter().map(|(block, fresh)| (*block, *fresh)).collect();
        self.task(Kind::Daemon, steps, move |_, mut shared| {
            drop(shared.look(&owns));
            Answer::Looked
        });
    }

    pub(super) fn claim(&mut self) {
        let mut blocks = BLOCKS.iter().map(|block| block.parse().unwrap());
        // The block task does one thing at a time.
        let idle = self.running.iter().all(|one| one.kind != Kind::Daemon);
        if let Some(block) = blocks.find(|block| !self.owns.contains_key(block))
            && self.daemon.is_some()
            && idle
        {
            self.owns.insert(block, true);
            self.count("claim");
        }
    }

    pub(super) fn give_back(&mut self, which: u8, steps: u32) {
        let Some(block) = self.owns.keys().nth(usize::from(which)).copied() else { return };
        self.task(Kind::Daemon, steps, move |_, mut shared| {
            Answer::Closed(block, shared.close(block).unwrap_or(false))
        });
    }
}
