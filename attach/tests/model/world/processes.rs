//! Processes of the plugin and of the daemon: how they begin, go on, end and are killed.

use std::net::IpAddr;

use twill_attach::Error;
use twill_attach::course::sweep::Suspicions;
use twill_ipam::{Block, KeyHash};

use super::World;
use crate::board::{Course, Kind};
use crate::hands::{Hands, Pod};
use crate::stage::{End, Process};

/// So many processes of the plugin are under way at once.
const CROWD: usize = 6;

/// What a process gave.
pub(super) enum Answer {
    Added(Result<Vec<IpAddr>, Error>),
    Deleted(Result<(), Error>),
    Collected,
    Swept(Option<Suspicions>),
    Looked,
    Started(bool),
    Closed(Block, bool),
}

/// A process that has not ended.
pub(super) struct Running {
    pub(super) number: usize,
    pub(super) kind: Kind,
    pub(super) process: Process<Answer>,
}

impl World {
    pub(super) fn place(&self, place: u8) -> Option<usize> {
        (!self.running.is_empty()).then(|| usize::from(place) % self.running.len())
    }

    pub(super) fn is_crowded(&self) -> bool {
        self.running.iter().filter(|one| !matches!(one.kind, Kind::Daemon | Kind::Sweep)).count() >= CROWD
    }

    /// Starts a process and lets it go on.
    pub(super) fn begin(
        &mut self,
        kind: Kind,
        hash: Option<KeyHash>,
        pod: Option<Pod>,
        steps: u32,
        course: impl FnOnce(&mut Hands) -> Answer + Send + 'static,
    ) {
        if self.is_crowded() && !matches!(kind, Kind::Daemon | Kind::Sweep) {
            return;
        }
        let number = {
            let mut board = self.board.lock();
            let (began, number) = (board.serial(), board.processes.len());
            let valid = board.oracle.lives.keys().copied().collect();
            board.processes.push(Course::new(kind, hash, began, valid));
            board.running.push(number);
            board.count(kind.word());
            number
        };
        let board = self.board.clone();
        let process = Process::start(&self.board, number, move |strings| course(&mut Hands::new(strings, &board, pod)));
        self.running.push(Running { number, kind, process });
        self.go(self.running.len() - 1, steps);
    }

    pub(super) fn go(&mut self, place: usize, steps: u32) {
        if let Some(end) = self.running[place].process.go(steps) {
            let ended = self.running.remove(place);
            self.ended(ended.number, end);
        }
    }

    fn ended(&mut self, number: usize, end: End<Answer>) {
        self.board.lock().running.retain(|running| *running != number);
        match end {
            End::Killed => {}
            End::Panicked(text) => self.fail(format!("a process panicked: {text}")),
            End::Done(Answer::Added(Ok(addresses))) => {
                self.board.lock().answered(number, &addresses);
                self.count("→ an ADD succeeded");
            }
            End::Done(Answer::Added(Err(error))) => self.count(word(&error)),
            End::Done(Answer::Deleted(done)) => {
                self.failed_del = done.err().map(|error| error.to_string());
                self.count(if self.failed_del.is_some() { "→ a DEL failed" } else { "→ a DEL succeeded" });
            }
            End::Done(Answer::Swept(suspicions)) => {
                if let (Some(daemon), Some(suspicions)) = (&mut self.daemon, suspicions) {
                    daemon.suspicions = suspicions;
                }
            }
            End::Done(Answer::Looked) => self.owns.values_mut().for_each(|fresh| *fresh = false),
            End::Done(Answer::Started(true)) => {}
            End::Done(Answer::Started(false)) => self.kill_daemon(),
            End::Done(Answer::Closed(block, true)) => {
                self.owns.remove(&block);
                self.count("→ a block was given back");
            }
            End::Done(Answer::Closed(_, false) | Answer::Collected) => {}
        }
    }

    pub(super) fn kill(&mut self, kind: Kind) {
        let Some(place) = self.running.iter().rposition(|one| one.kind == kind) else { return };
        self.count(match kind {
            Kind::Add => "fault: ADD killed",
            Kind::Del => "fault: DEL killed",
            Kind::Gc => "fault: GC killed",
            Kind::Daemon => "fault: daemon killed at a look",
            Kind::Sweep => "fault: daemon killed in a sweep",
        });
        if matches!(kind, Kind::Daemon | Kind::Sweep) {
            return self.kill_daemon();
        }
        let killed = self.running.remove(place);
        self.ended(killed.number, killed.process.kill());
    }

    pub(super) fn kill_where(&mut self, which: impl Fn(Kind) -> bool) {
        let (killed, rest) = std::mem::take(&mut self.running).into_iter().partition(|one| which(one.kind));
        self.running = rest;
        let killed: Vec<Running> = killed;
        for one in killed {
            self.ended(one.number, one.process.kill());
        }
    }

    pub(super) fn kill_daemon(&mut self) {
        self.kill_where(|kind| matches!(kind, Kind::Daemon | Kind::Sweep));
        self.daemon = None;
        self.board.lock().heard = false;
        self.owns.values_mut().for_each(|fresh| *fresh = false);
    }
}

/// What became of an ADD.
fn word(error: &Error) -> &'static str {
    match error {
        Error::Store { source: twill_ipam::Error::Overtaken, .. } => "→ an ADD was overtaken by a DEL",
        Error::Store { source: twill_ipam::Error::Replaced(_), .. } => "→ an ADD lost its store",
        Error::Store { source: twill_ipam::Error::Busy, .. } => "→ an ADD waited for another one in vain",
        Error::Store { .. } | Error::Exhausted { .. } => "→ an ADD had no address",
        Error::AddressTaken { .. } => "→ an ADD's addresses were all taken",
        Error::InterfaceExists { .. } => "→ an ADD met a living pod",
        Error::TooLate(_) => "→ an ADD took too long",
        Error::NotUndone { .. } => "→ an ADD could not be undone",
        _ => "→ an ADD was refused by the kernel",
    }
}
