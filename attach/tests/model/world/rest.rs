//! The end of a history: everybody comes to rest, and all is as it should be.

use std::collections::BTreeSet;

use twill_ipam::store::Role;
use twill_ipam::{KeyHash, State, Store};

use super::World;
use super::runtime::key;
use crate::action::{ALL, CONTAINERS};

impl World {
    /// Faults end, everybody comes to his end, and time passes: then all is as it should be.
    pub(crate) fn come_to_rest(&mut self) {
        {
            let mut board = self.board.lock();
            (board.room, board.refusals, board.renamed) = (None, 0, None);
            board.routes.retain(|(_, to)| *to != 0);
            board.end_strays(|_| true);
        }
        self.finish();
        if self.daemon.is_none() {
            self.start(ALL);
            self.finish();
        }
        self.look(ALL);
        self.finish();
        for _ in 0..3 {
            self.sweep_once();
        }
        for hash in self.check("after the sweep") {
            let container = (0..CONTAINERS as u8).find(|container| key(*container).hash() == hash);
            self.del(container.expect("all keys are those of containers"), ALL);
            self.finish();
            if let Some(error) = self.failed_del.take() {
                self.fail(format!("a DEL failed with nothing in its way: {error}"));
            }
        }
        self.pass(31);
        self.look(ALL);
        self.finish();
        self.check("in the end");
        let board = self.board.lock();
        let (standing, live): (BTreeSet<_>, BTreeSet<_>) =
            (board.links.keys().copied().collect(), board.oracle.lives.keys().copied().collect());
        drop(board);
        if standing != live {
            self.fail(format!("in the end {standing:?} stand and {live:?} are live"));
        }
    }

    fn sweep_once(&mut self) {
        self.pass(31);
        self.sweep(ALL);
        self.finish();
    }

    /// Lets all go on to their ends. Whoever only waits gets time.
    fn finish(&mut self) {
        for _ in 0..200 {
            if self.running.is_empty() || self.failed() {
                return;
            }
            (0..self.running.len()).rev().for_each(|place| {
                if place < self.running.len() {
                    self.go(place, ALL);
                }
            });
            self.pass(1);
        }
        self.fail("a process does not come to its end".into());
    }

    /// What stands is in the store, and nothing else is. Gives what stands and need not.
    fn check(&mut self, when: &str) -> Vec<KeyHash> {
        let store = match Store::open(&self.run_dir(), Role::Reader) {
            Ok(store) => store,
            Err(error) => {
                self.fail(format!("{when} there is no store: {error}"));
                return Vec::new();
            }
        };
        let now = self.board.lock().now;
        let (rows, blocks) = (store.attachments().unwrap(), store.blocks(now).unwrap());
        drop(store);
        let board = self.board.lock();
        let mut wrong = Vec::new();
        for row in &rows {
            let addresses: Vec<_> = row.addresses.iter().map(|(ip, _)| *ip).collect();
            let link = board.links.get(&row.hash);
            let right = link.is_some_and(|link| !link.configured || link.addresses == addresses);
            if row.state != State::Attached || !right {
                wrong.push(format!("{} is {:?} with {addresses:?}, and {link:?} stands", row.hash, row.state));
            }
        }
        for hash in board.links.keys().filter(|hash| rows.iter().all(|row| row.hash != **hash)) {
            wrong.push(format!("the link of {hash} stands and has no row"));
        }
        for hash in board.ifbs.iter().filter(|hash| !board.links.contains_key(hash)) {
            wrong.push(format!("the limiting device of {hash} stands without a link"));
        }
        for has in &blocks {
            let assigned = rows.iter().flat_map(|row| &row.addresses).filter(|(ip, _)| has.block.contains(*ip)).count();
            if has.assigned != assigned as u64 || has.cooling != 0 {
                wrong.push(format!("{} has {} assigned, {} cooling", has.block, has.assigned, has.cooling));
            }
        }
        let needless = board.links.keys().filter(|hash| !board.oracle.lives.contains_key(hash)).copied().collect();
        drop(board);
        if let Some(wrong) = wrong.first() {
            self.fail(format!("{when} {wrong}"));
        }
        needless
    }
}
