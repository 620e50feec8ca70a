//! One node's picture of the cluster at one revision.

mod decode;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use serde::{Deserialize, Serialize};
use twill_conf::{NodeName, cluster::ClusterConf};
use twill_ipam::Block;

pub(crate) use self::decode::LONGEST_CONFIG;
use self::decode::Record;
use crate::continuity;
use crate::key::{self, Key};
use crate::record::{BlockRecord, NodeRecord, Versioned};
use crate::store::Event;

/// What is known: everything under `blocks/`, `config` and `nodes/`, decoded.
///
/// A record that cannot be decoded is left out and kept in `faults`, so that one bad record harms nobody but its writer.
/// Each record is looked at by itself: one that can be decoded but contradicts another (a tunnel address outside of the
/// node's blocks, a block across an older one) stands in its map, and whoever acts by it is to judge.
///
/// A record never changes in its place, and the maps of them share what they have in common: a copy of the view, as is made for the
/// daemon's tasks at every change, costs nothing, and what a change means to a task is found by comparing the maps with those of
/// the view that the task saw last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// The revision up to which it is complete.
    pub revision: i64,
    /// In which of etcd's histories: raised where etcd was found to be restored from a backup. Revisions of different
    /// histories cannot be compared.
    pub history: u32,
    /// The cluster configuration, if there is one.
    pub config: Option<Versioned<ClusterConf>>,
    /// Nodes by name, this one among them.
    pub nodes: OrdMap<NodeName, Arc<Versioned<NodeRecord>>>,
    /// Blocks with their owners, ordered by address.
    pub blocks: OrdMap<Block, Arc<Versioned<BlockRecord>>>,
    /// Keys that could not be read or whose values could not, with the reason.
    pub faults: BTreeMap<String, String>,
}

/// All keys of a range at one revision.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// At which revision.
    pub revision: i64,
    /// The keys, without the prefix.
    pub entries: Vec<Entry>,
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The key, without the prefix.
    pub key: String,
    /// The value's bytes, JSON unless somebody else wrote it.
    pub value: Vec<u8>,
    /// create_revision.
    pub created: i64,
    /// mod_revision.
    pub modified: i64,
}

/// What changed since a revision, in order. Never empty of meaning: nothing in it means nothing changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// The revision after it.
    pub revision: i64,
    /// The changes.
    pub changes: Vec<Change>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A key was written.
    Put(Entry),
    /// A key, without the prefix, was deleted.
    Delete(String),
}

impl Delta {
    /// Adds a delta that follows this one.
    pub fn merge(&mut self, later: Self) {
        self.revision = self.revision.max(later.revision);
        self.changes.extend(later.changes);
    }
}

impl View {
    /// Takes what a watch tells. A snapshot that cannot follow on what is known begins another history, as one does that
    /// was found out by the watch; a view that knows nothing follows on everything.
    pub fn follow(&mut self, event: &Event) {
        let snapshot = match event {
            Event::Delta(delta) => return self.apply(delta),
            Event::Lost(_) => return,
            Event::Restored(snapshot) => {
                self.history += 1;
                snapshot
            }
            Event::Snapshot(snapshot) => {
                if !continuity::follows(self, snapshot) {
                    self.history += 1;
                }
                snapshot
            }
        };
        self.replace(snapshot);
    }

    /// Takes a snapshot: what is not in it is gone, and what it holds as before stays as it is.
    pub fn replace(&mut self, snapshot: &Snapshot) {
        let there: HashSet<&str> = snapshot.entries.iter().map(|entry| entry.key.as_str()).collect();
        retain(&mut self.nodes, |name| there.contains(key::node(name).as_str()));
        retain(&mut self.blocks, |block| there.contains(key::block(*block).as_str()));
        self.config = self.config.take().filter(|_| there.contains(key::CONFIG));
        self.faults.clear();
        for entry in &snapshot.entries {
            self.put(entry);
        }
        self.revision = snapshot.revision;
    }

    /// Takes a delta: as much work as it has changes.
    pub fn apply(&mut self, delta: &Delta) {
        for change in &delta.changes {
            match change {
                Change::Put(entry) => self.put(entry),
                Change::Delete(key) => self.remove(key),
            }
        }
        self.revision = self.revision.max(delta.revision);
    }

    /// The blocks of one node.
    pub fn blocks_of<'a>(&'a self, node: &'a NodeName) -> impl Iterator<Item = Block> + 'a {
        self.blocks.iter().filter(move |(_, record)| record.value.node == *node).map(|(block, _)| *block)
    }

    /// The first block by address that this one lies in, or that lies in it. As much work as a prefix has bits.
    pub fn overlapping(&self, block: Block) -> Option<(&Block, &Arc<Versioned<BlockRecord>>)> {
        let around = (0..block.cidr().prefix()).find_map(|length| self.blocks.get_key_value(&block.around(length)?));
        let inside = || self.blocks.range(block..).next().filter(|(there, _)| block.covers(**there));
        around.or_else(inside)
    }

    /// The view as a snapshot again, without what could not be read: for the disk.
    pub fn snapshot(&self) -> Snapshot {
        let config = self.config.iter().map(|config| encode(key::CONFIG.to_owned(), config));
        let nodes = self.nodes.iter().map(|(name, record)| encode(key::node(name), record));
        let blocks = self.blocks.iter().map(|(block, record)| encode(key::block(*block), record));
        Snapshot { revision: self.revision, entries: blocks.chain(config).chain(nodes).collect() }
    }

    fn put(&mut self, entry: &Entry) {
        let (created, modified) = (entry.created, entry.modified);
        self.faults.remove(&entry.key);
        match decode::entry(entry) {
            Ok(Record::Config(value)) => self.config = Some(Versioned { value, created, modified }),
            Ok(Record::Node(name, value)) => keep(&mut self.nodes, name, Versioned { value, created, modified }),
            Ok(Record::Block(block, value)) => keep(&mut self.blocks, block, Versioned { value, created, modified }),
            Ok(Record::Unknown) => {}
            Err(cause) => {
                self.remove(&entry.key);
                self.faults.insert(entry.key.clone(), cause);
            }
        }
    }

    fn remove(&mut self, key: &str) {
        self.faults.remove(key);
        match Key::parse(key) {
            Ok(Some(Key::Config)) => self.config = None,
            Ok(Some(Key::Node(name))) => drop(self.nodes.remove(&name)),
            Ok(Some(Key::Block(block))) => drop(self.blocks.remove(&block)),
            Ok(None) | Err(_) => {}
        }
    }
}

/// What differs between a map of one view and that of another, in the order of the keys: each with what was and what is. As much work
/// as there is that the two do not share.
pub fn differences<'m, K: Ord, V: PartialEq>(
    before: &'m OrdMap<K, V>,
    after: &'m OrdMap<K, V>,
) -> impl Iterator<Item = (&'m K, Option<&'m V>, Option<&'m V>)> {
    before.diff(after).map(|difference| match difference {
        DiffItem::Add(key, is) => (key, None, Some(is)),
        DiffItem::Update { old: (_, was), new: (key, is) } => (key, Some(was), Some(is)),
        DiffItem::Remove(key, was) => (key, Some(was), None),
    })
}

/// Whether a view can have this entry: its key is of a kind that is known, and its value can be decoded.
pub(crate) fn is_readable(entry: &Entry) -> bool {
    matches!(decode::entry(entry), Ok(Record::Config(_) | Record::Node(..) | Record::Block(..)))
}

/// Leaves an equal value where it is: what did not change is not moved or allocated again.
fn keep<K: Ord + Clone, V: PartialEq>(map: &mut OrdMap<K, Arc<V>>, key: K, value: V) {
    if map.get(&key).is_none_or(|old| **old != value) {
        map.insert(key, Arc::new(value));
    }
}

fn retain<K: Ord + Clone, V: Clone>(map: &mut OrdMap<K, V>, stays: impl Fn(&K) -> bool) {
    let gone: Vec<K> = map.keys().filter(|key| !stays(key)).cloned().collect();
    for key in &gone {
        map.remove(key);
    }
}

fn encode<T: Serialize>(key: String, record: &Versioned<T>) -> Entry {
    let value = serde_json::to_vec(&record.value).expect("records have string keys and finite numbers");
    Entry { key, value, created: record.created, modified: record.modified }
}

#[cfg(test)]
mod tests;
