//! What etcd keeps: keys with their revisions, and the changes that led to them.

use std::collections::{BTreeMap, BTreeSet};

use crate::store::{Event, Range};
use crate::txn::{Compare, Op, Outcome, Txn};
use crate::view::{Change, Delta, Entry, Snapshot};

/// All of it.
#[derive(Debug)]
pub(super) struct History {
    revision: i64,
    /// Nothing up to this revision can be watched any more.
    compacted: i64,
    keys: BTreeMap<String, (Entry, Option<i64>)>,
    changes: Vec<(i64, Change)>,
    leases: BTreeSet<i64>,
    granted: i64,
}

impl Default for History {
    fn default() -> Self {
        Self {
            revision: 1,
            compacted: 0,
            keys: BTreeMap::new(),
            changes: Vec::new(),
            leases: BTreeSet::new(),
            granted: 0,
        }
    }
}

impl History {
    pub(super) fn revision(&self) -> i64 {
        self.revision
    }

    pub(super) fn read(&self, range: &Range) -> Snapshot {
        let entries = self.keys.range(range.start.clone()..range.end.clone()).map(|(_, (entry, _))| entry.clone());
        Snapshot { revision: self.revision, entries: entries.collect() }
    }

    pub(super) fn commit(&mut self, txn: &Txn) -> Outcome {
        if !txn.when.iter().all(|compare| self.holds(compare)) {
            return Outcome::Refused(self.revision);
        }
        let at = self.revision + 1;
        let before = self.changes.len();
        for op in &txn.then {
            match op {
                Op::Put { key, value, lease } => self.put(at, key, value, *lease),
                Op::Delete { key } => self.delete(at, key),
            }
        }
        if self.changes.len() > before {
            self.revision = at;
        }
        Outcome::Done(self.revision)
    }

    pub(super) fn grant(&mut self) -> i64 {
        self.granted += 1;
        self.leases.insert(self.granted);
        self.granted
    }

    pub(super) fn is_leased(&self, lease: i64) -> bool {
        self.leases.contains(&lease)
    }

    pub(super) fn expire(&mut self, lease: i64) {
        self.leases.remove(&lease);
        let of_lease = self.keys.iter().filter(|(_, (_, held))| *held == Some(lease));
        let keys: Vec<String> = of_lease.map(|(key, _)| key.clone()).collect();
        self.commit(&Txn { when: Vec::new(), then: keys.into_iter().map(|key| Op::Delete { key }).collect() });
    }

    pub(super) fn compact(&mut self) {
        self.compacted = self.revision;
        self.changes.clear();
    }

    /// What a watch that has seen everything up to a revision is told next.
    pub(super) fn next(&self, range: &Range, seen: Option<i64>) -> Option<Event> {
        let Some(seen) = seen.filter(|seen| *seen >= self.compacted) else {
            return Some(Event::Snapshot(self.read(range)));
        };
        let inside = |change: &Change| {
            let key = match change {
                Change::Put(entry) => &entry.key,
                Change::Delete(key) => key,
            };
            range.start <= *key && *key < range.end
        };
        let new = self.changes.iter().filter(|(revision, change)| *revision > seen && inside(change));
        let revision = new.clone().map(|(revision, _)| *revision).next_back()?;
        Some(Event::Delta(Delta { revision, changes: new.map(|(_, change)| change.clone()).collect() }))
    }

    fn holds(&self, compare: &Compare) -> bool {
        let entry = |key| self.keys.get(key).map(|(entry, _)| entry);
        match compare {
            Compare::Created { key, revision } => entry(key).map_or(0, |entry| entry.created) == *revision,
            Compare::Modified { key, revision } => entry(key).map_or(0, |entry| entry.modified) == *revision,
            Compare::NoneIn { start, end } => self.keys.range(start.clone()..end.clone()).next().is_none(),
        }
    }

    fn put(&mut self, at: i64, key: &str, value: &[u8], lease: Option<i64>) {
        let created = self.keys.get(key).map_or(at, |(entry, _)| entry.created);
        let entry = Entry { key: key.to_owned(), value: value.to_vec(), created, modified: at };
        self.changes.push((at, Change::Put(entry.clone())));
        self.keys.insert(key.to_owned(), (entry, lease));
    }

    fn delete(&mut self, at: i64, key: &str) {
        if self.keys.remove(key).is_some() {
            self.changes.push((at, Change::Delete(key.to_owned())));
        }
    }
}
