//! What etcd keeps: keys with their revisions, and the changes that led to them.

use std::collections::{BTreeMap, BTreeSet};

use crate::continuity::Past;
use crate::store::{Event, Range};
use crate::txn::{Compare, Op, Outcome, Txn};
use crate::view::{Change, Delta, Entry, Snapshot};

type Keys = BTreeMap<String, (Entry, Option<i64>)>;

/// All of it.
#[derive(Debug, Clone)]
pub(super) struct History {
    revision: i64,
    /// Nothing up to this revision can be watched any more.
    compacted: i64,
    keys: Keys,
    /// What `keys` was at the compaction.
    base: Keys,
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
            base: BTreeMap::new(),
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
        Snapshot { revision: self.revision, entries: within(&self.keys, range) }
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
        self.base = self.keys.clone();
        self.changes.clear();
    }

    /// What a key was at a revision.
    pub(super) fn past(&self, key: &str, revision: i64) -> Past {
        if revision > self.revision {
            return Past::Future;
        }
        if revision < self.compacted {
            return Past::Compacted;
        }
        let until = self.changes.partition_point(|(at, _)| *at <= revision);
        let of_key = |change: &&(i64, Change)| match &change.1 {
            Change::Put(entry) => entry.key == key,
            Change::Delete(deleted) => deleted == key,
        };
        Past::Found(match self.changes[..until].iter().rfind(of_key) {
            Some((_, Change::Put(entry))) => Some(entry.clone()),
            Some((_, Change::Delete(_))) => None,
            None => self.base.get(key).map(|(entry, _)| entry.clone()),
        })
    }

    /// The range as it was so many changes ago, or as long ago as is known: what a lagging member answers to a
    /// serializable read.
    pub(super) fn lagging(&self, range: &Range, behind: usize) -> Snapshot {
        let until = self.changes.len().saturating_sub(behind);
        let Some((revision, _)) = self.changes[..until].last() else {
            return Snapshot { revision: self.compacted.max(1), entries: within(&self.base, range) };
        };
        let mut keys = self.base.clone();
        for (_, change) in self.changes.iter().take_while(|(at, _)| at <= revision) {
            match change {
                Change::Put(entry) => drop(keys.insert(entry.key.clone(), (entry.clone(), None))),
                Change::Delete(key) => drop(keys.remove(key)),
            }
        }
        Snapshot { revision: *revision, entries: within(&keys, range) }
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

fn within(keys: &Keys, range: &Range) -> Vec<Entry> {
    keys.range(range.start.clone()..range.end.clone()).map(|(_, (entry, _))| entry.clone()).collect()
}
