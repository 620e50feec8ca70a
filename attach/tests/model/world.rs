//! The node, its runtime, and what happens to them.

mod processes;
mod rest;
mod runtime;
mod tasks;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;
use twill_ipam::Block;
use twill_testkit::histories::Counts;

use crate::action::{ALL, Action};
use crate::board::Shared;
use processes::Running;
use runtime::key;
use tasks::Daemon;

/// The blocks that the cluster may give the node.
const BLOCKS: [&str; 3] = ["10.42.0.0/30", "10.42.0.4/30", "10.42.0.8/31"];
/// What a node has that stands alone.
const SUBNET: &str = "10.42.0.0/29";

/// All there is.
pub(crate) struct World {
    run: TempDir,
    board: Shared,
    running: Vec<Running>,
    daemon: Option<Daemon>,
    /// The node's blocks, and whether they were claimed a moment ago.
    owns: BTreeMap<Block, bool>,
    alone: bool,
    /// The last DEL's failure.
    failed_del: Option<String>,
    young: bool,
}

impl World {
    pub(crate) fn new() -> Self {
        // On tmpfs, as on a node.
        let run = if std::path::Path::new("/dev/shm").is_dir() {
            tempfile::tempdir_in("/dev/shm")
        } else {
            tempfile::tempdir()
        };
        let mut world = Self {
            run: run.unwrap(),
            board: Shared::new(),
            running: Vec::new(),
            daemon: None,
            owns: BTreeMap::from([(BLOCKS[0].parse().unwrap(), true)]),
            alone: false,
            failed_del: None,
            young: true,
        };
        std::fs::create_dir(world.run_dir()).unwrap();
        world.start(ALL);
        world
    }

    fn run_dir(&self) -> PathBuf {
        self.run.path().join("twill")
    }

    pub(crate) fn failed(&self) -> bool {
        self.board.lock().oracle.failure.is_some()
    }

    /// What happened, and the failure.
    pub(crate) fn end(mut self) -> (Counts, Option<String>) {
        self.kill_where(|_| true);
        let mut board = self.board.lock();
        (std::mem::take(&mut board.counts), board.oracle.failure.take())
    }

    fn count(&self, what: &'static str) {
        self.board.lock().count(what);
    }

    fn fail(&self, why: String) {
        self.board.lock().oracle.fail(why);
    }

    /// Lets something happen.
    pub(crate) fn act(&mut self, action: Action) {
        let young = std::mem::replace(&mut self.young, false);
        match action {
            Action::Alone => {
                if young {
                    self.kill_daemon();
                    (self.alone, self.owns) = (true, BTreeMap::new());
                    self.count("→ a node that stands alone");
                }
            }
            Action::Add(container, other, steps) => self.add(container, other, steps),
            Action::Del(container, steps) => self.del(container, steps),
            Action::Gc(steps) => self.gc(steps),
            Action::Sweep(steps) => self.sweep(steps),
            Action::Look(steps) => self.look(steps),
            Action::Claim => self.claim(),
            Action::GiveBack(which, steps) => self.give_back(which, steps),
            Action::Go(place, steps) => {
                if let Some(place) = self.place(place) {
                    self.count("go");
                    self.go(place, steps);
                }
            }
            Action::Finish => {
                self.count("finish");
                (0..self.running.len()).rev().for_each(|place| self.go(place, ALL));
            }
            Action::Kill(kind) => self.kill(kind),
            Action::KillDaemon => {
                if self.daemon.is_some() {
                    self.kill_daemon();
                    self.count("kill daemon");
                }
            }
            Action::Start(steps) => {
                if self.daemon.is_none() && !self.alone {
                    self.start(steps);
                }
            }
            Action::Wait(seconds) => {
                self.pass(seconds);
                self.count("wait");
            }
            Action::Forget(container) => self.forget(container),
            Action::Unlink(container) => {
                let mut board = self.board.lock();
                if board.links.contains_key(&key(container).hash()) {
                    board.undermine(key(container).hash());
                    board.count("fault: link removed by somebody");
                }
            }
            Action::Rename(container) => self.board.lock().rename(key(container).hash()),
            Action::Stray(container) => {
                let mut board = self.board.lock();
                if board.stray(key(container).hash()) {
                    board.count("fault: link renamed for good");
                }
            }
            Action::Squat(number) => self.squat(number),
            Action::Refuse(changes) => self.board.lock().refusals = changes,
            Action::Full(writes) => self.board.lock().room = Some(writes),
            Action::Room => {
                if self.board.lock().room.take().is_some() {
                    self.count("room again");
                }
            }
            Action::Lose => self.lose(),
            Action::Wipe => self.wipe(),
            Action::Reboot => self.reboot(),
        }
    }

    // ---- what befalls the node ------------------------------------------------------------------------------------

    fn pass(&mut self, seconds: u64) {
        let mut board = self.board.lock();
        board.now.0 += Duration::from_secs(seconds);
        let now = board.now;
        board.renamed = board.renamed.filter(|(_, until)| now < *until);
    }

    fn squat(&mut self, number: u8) {
        let block: Block = SUBNET.parse().unwrap();
        let ip = block.nth(number.into()).expect("the block has eight");
        let mut board = self.board.lock();
        if !board.routes.iter().any(|(there, _)| *there == ip) {
            board.routes.push((ip, 0));
            board.count("fault: somebody's route");
        }
    }

    fn lose(&mut self) {
        let mut lost = false;
        for file in ["node.db", "node.db-wal", "node.db-shm"] {
            lost |= std::fs::remove_file(self.run_dir().join(file)).is_ok();
        }
        if lost {
            self.count("fault: store deleted");
        }
    }

    fn wipe(&mut self) {
        if std::fs::remove_dir_all(self.run_dir()).is_ok() {
            let mut board = self.board.lock();
            board.processes.iter_mut().for_each(|process| process.undermined = true);
            // That there ever was a store is forgotten with it.
            board.oracle.blind();
            board.count("fault: run directory deleted");
        }
    }

    fn reboot(&mut self) {
        self.kill_where(|_| true);
        self.kill_daemon();
        drop(std::fs::remove_dir_all(self.run_dir()));
        {
            let mut board = self.board.lock();
            board.links.clear();
            board.strays.clear();
            board.ifbs.clear();
            board.routes.clear();
            board.namespaces.clear();
            (board.tunnel, board.renamed) = (None, None);
            board.oracle.forget();
            board.count("fault: reboot");
        }
        if !self.alone {
            self.start(ALL);
        }
    }
}
