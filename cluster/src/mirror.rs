//! When a node writes the mirror of its blocks, and what: rules without I/O or clock.
//!
//! The mirror is for people and for checks: no address hangs on it. So it costs as little as it can. The daemon feeds a
//! [`Mirror`] with what it learns ([`Input`]) and performs what comes back ([`Output`]), one order at a time.
//!
//! - A write compares the node's epoch, the revision of each block's record and of each mirror: one that comes late, or
//!   after the block went to somebody else, is not done.
//! - A node makes at most one write in a second, and all nodes together about a hundred a second.
//! - It rests after failures, longer each time in a row, and where etcd is slow or out of space; the first write of a run
//!   comes at a time of the node's own, so that nodes that start together do not write together.
//! - What etcd has is read at the start and every ten minutes. A mirror that somebody deleted comes back, and one of a
//!   block that is not this node's goes.

mod words;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use twill_conf::NodeName;
use twill_conf::digest::digest;
use twill_ipam::{Block, BootTime};

use crate::View;
use crate::key;
use crate::record::{Content, LONGEST_MIRROR, MirrorRecord};
use crate::txn::{Compare, Op, Txn};
use crate::view::Snapshot;

pub use words::{Answer, Input, Order, Output, Rest};

/// Between two writes of one node, at least.
const SHORTEST_PACE: Duration = Duration::from_secs(1);
/// All nodes together write so often in a second, at most.
const WRITES_A_SECOND: u32 = 100;
/// The mirrors of one write have so many bytes at most, together.
const LONGEST_WRITE: usize = 2 * LONGEST_MIRROR;
/// One write has so many mirrors at most: etcd takes 128 compares.
const MOST: usize = 60;
/// An answer that takes longer means that etcd has no time for what nobody waits for.
const SLOW: Duration = Duration::from_secs(1);
/// The first rest after a failure, and the longest.
const RESTS: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// How often what etcd has is read.
const AUDIT: Duration = Duration::from_secs(600);

/// What etcd has of one block.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    /// The mirror's mod_revision; 0 where it is not there.
    revision: i64,
    /// `None` where it is of another epoch, or no mirror.
    content: Option<Content>,
}

/// What is on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Flight {
    Read,
    /// The mirrors that are written; `None` for one that is deleted.
    Write(BTreeMap<Block, Option<Content>>),
}

/// The state.
#[derive(Debug, Clone)]
pub struct Mirror {
    node: NodeName,
    /// Fresh at every start, for nonces.
    run: String,
    count: u64,
    view: Option<Arc<View>>,
    epoch: Option<i64>,
    contents: Option<BTreeMap<Block, Content>>,
    /// `None`: it has to be read.
    known: Option<BTreeMap<Block, Known>>,
    flight: Option<Flight>,
    /// Where the next write begins, so that no block waits for others for ever.
    next: Option<Block>,
    /// Nothing is asked before; `None` before the first look at the clock.
    due: Option<BootTime>,
    /// When what etcd has is read again.
    audit: BootTime,
    /// Failures in a row.
    failures: u32,
    rests: bool,
}

impl Mirror {
    /// One that knows nothing yet. `run` is a word that no other run of the daemon has.
    pub fn new(node: NodeName, run: String) -> Self {
        Self {
            node,
            run,
            count: 0,
            view: None,
            epoch: None,
            contents: None,
            known: None,
            flight: None,
            next: None,
            due: None,
            audit: BootTime::default(),
            failures: 0,
            rests: false,
        }
    }

    /// Whether something could be ordered at `now`: otherwise the contents need not be looked at.
    pub fn is_due(&self, now: BootTime) -> bool {
        self.epoch.is_some() && self.flight.is_none() && self.due.is_none_or(|due| due <= now)
    }

    /// The daemon ends: what is due may be written at once, whatever the pace, if etcd took the last write. What was on its
    /// way is forgotten, and looked for. `false` while the mirror rests.
    pub fn hurry(&mut self, now: BootTime) -> bool {
        if self.flight.take().is_some() {
            self.known = None;
        }
        let rests = self.rests && self.due.is_some_and(|due| now < due);
        self.due = Some(BootTime::default());
        self.epoch.is_some() && !rests
    }

    /// Learns something at a time, and says what is to be done.
    pub fn step(&mut self, input: Input, now: BootTime) -> Vec<Output> {
        let mut outputs = Vec::new();
        match input {
            Input::View(view) => self.see(view),
            Input::Epoch(epoch) => self.epoch = epoch,
            Input::Contents(contents) => self.contents = Some(contents),
            Input::Answer(answer, took) => self.answered(answer, took, now, &mut outputs),
            Input::Audit => self.known = None,
            Input::Tick => {}
        }
        if self.audit <= now {
            self.audit = now_and(now, AUDIT);
            self.known = None;
        }
        if self.flight.is_none()
            && let Some(order) = self.order(now)
        {
            outputs.push(Output::Order(order));
        }
        outputs
    }

    fn see(&mut self, view: Arc<View>) {
        if self.view.as_ref().is_some_and(|seen| seen.history != view.history) {
            self.known = None;
        }
        let is_ours =
            |view: &View, block: &Block| view.blocks.get(block).is_some_and(|record| record.value.node == self.node);
        if let (Some(seen), Some(known)) = (&self.view, &mut self.known) {
            // What was given back took its mirror along.
            known.retain(|block, _| is_ours(&view, block) || !is_ours(seen, block));
        }
        self.view = Some(view);
    }

    fn pace(&self) -> Duration {
        let nodes = self.view.as_ref().map_or(0, |view| u32::try_from(view.nodes.len()).unwrap_or(u32::MAX));
        SHORTEST_PACE.max(Duration::from_secs(1) * nodes / WRITES_A_SECOND)
    }

    fn order(&mut self, now: BootTime) -> Option<Order> {
        let (view, epoch) = (self.view.clone()?, self.epoch?);
        let first = || now_and(now, self.pace().mul_f64(phase(&[self.node.as_str(), &self.run])));
        let due = *self.due.get_or_insert(first());
        if now < due {
            return None;
        }
        if self.known.is_none() {
            self.flight = Some(Flight::Read);
            return Some(Order::Read(key::mirror(&self.node)));
        }
        let changes = self.changes(&view, epoch)?;
        let txn = self.transaction(&view, epoch, &changes);
        self.next = changes.keys().next_back().copied();
        self.flight = Some(Flight::Write(changes));
        self.due = Some(now_and(now, self.pace()));
        Some(Order::Write(txn))
    }

    /// What etcd lacks, as much as fits; `None` where it has all.
    fn changes(&self, view: &View, epoch: i64) -> Option<BTreeMap<Block, Option<Content>>> {
        let (known, contents) = (self.known.as_ref()?, self.contents.as_ref()?);
        let ours = |block: &Block| {
            let record = view.blocks.get(block).map(|record| &record.value);
            record.is_some_and(|record| record.node == self.node && record.epoch == epoch)
        };
        let lacks = |block: &Block, content: &Content| {
            let known = known.get(block).and_then(|known| known.content.as_ref());
            match (known, view.blocks.get(block)) {
                (Some(known), _) => !known.says(content),
                // The claim made the mirror too, empty.
                (None, _) => !self.is_new(*block) || !Content::default().says(content),
            }
        };
        let written = contents.iter().filter(|(block, content)| ours(block) && lacks(block, content));
        let written = written.map(|(block, content)| (*block, Some(content.clone())));
        let left = known.iter().filter(|(block, known)| known.revision != 0 && !contents.contains_key(*block));
        let left =
            left.filter(|(block, _)| view.blocks.get(*block).is_none_or(|record| record.value.node != self.node));
        let mut all: Vec<_> = written.chain(left.map(|(block, _)| (*block, None))).collect();
        // From where the last write ended, round the corner.
        all.sort_by_key(|(block, _)| (Some(*block) <= self.next, *block));
        let mut room = LONGEST_WRITE;
        let fits = |(_, content): &(Block, Option<Content>)| {
            let length = content.as_ref().map_or(0, Content::length);
            let fits = length <= room;
            room = room.saturating_sub(length);
            fits
        };
        let changes: BTreeMap<_, _> = all.into_iter().take(MOST).take_while(fits).collect();
        (!changes.is_empty()).then_some(changes)
    }

    /// Whether nothing is known of a block's mirror, so that it must be as the claim has made it.
    fn is_new(&self, block: Block) -> bool {
        self.known.as_ref().is_some_and(|known| !known.contains_key(&block))
    }

    fn transaction(&mut self, view: &View, epoch: i64, changes: &BTreeMap<Block, Option<Content>>) -> Txn {
        self.count += 1;
        let nonce = format!("{}-m{}", self.run, self.count);
        let mut txn =
            Txn { when: vec![Compare::Created { key: key::node(&self.node), revision: epoch }], then: Vec::new() };
        for (block, content) in changes {
            let (own, mirror) = (key::block(*block), key::addresses(&self.node, *block));
            let record = view.blocks.get(block);
            txn.when.push(match record {
                Some(record) => Compare::Modified { key: own, revision: record.modified },
                None => Compare::Created { key: own, revision: 0 },
            });
            let known = self.known.as_ref().and_then(|known| known.get(block)).map(|known| known.revision);
            let revision = known.or(record.map(|record| record.created)).unwrap_or(0);
            txn.when.push(Compare::Modified { key: mirror.clone(), revision });
            txn.then.push(match content {
                None => Op::Delete { key: mirror },
                Some(content) => {
                    let (nonce, content) = (nonce.clone(), content.clone());
                    let record = MirrorRecord { epoch, nonce, content, other: serde_json::Map::new() };
                    let value = serde_json::to_vec(&record).expect("a record has string keys and finite numbers");
                    Op::Put { key: mirror, value, lease: None }
                }
            });
        }
        txn
    }

    fn answered(&mut self, answer: Answer, took: Duration, now: BootTime, outputs: &mut Vec<Output>) {
        let Some(flight) = self.flight.take() else { return };
        let rest = match (flight, answer) {
            (Flight::Read, Answer::Read(snapshot)) => {
                self.known = Some(self.read(&snapshot));
                let is_lacking = |view: &Arc<View>, epoch| self.changes(view, epoch).is_some();
                if self.view.as_ref().zip(self.epoch).is_some_and(|(view, epoch)| is_lacking(view, epoch)) {
                    // That etcd can be read does not mean that it can be written.
                    return;
                }
                None
            }
            (Flight::Write(changes), Answer::Written(revision)) => {
                let known = self.known.get_or_insert_default();
                for (block, content) in changes {
                    match content {
                        None => drop(known.remove(&block)),
                        content => drop(known.insert(block, Known { revision, content })),
                    }
                }
                (took > SLOW).then_some(Rest::Slow(took))
            }
            (_, Answer::Away(cause) | Answer::Unknown(cause)) => Some(Rest::Away(cause)),
            (_, Answer::Full(cause)) => Some(Rest::Full(cause)),
            // Refused: the view is behind, or somebody else wrote the mirror.
            (_, Answer::Refused | Answer::Read(_) | Answer::Written(_)) => {
                self.known = None;
                return;
            }
        };
        let Some(rest) = rest else {
            self.failures = 0;
            if std::mem::take(&mut self.rests) {
                outputs.push(Output::GoesOn);
            }
            return;
        };
        if !matches!(rest, Rest::Slow(_)) {
            // It may have been done.
            self.known = None;
        }
        let length = RESTS.0.saturating_mul(1 << self.failures.min(10)).min(RESTS.1);
        let spread = 0.5 + phase(&[self.node.as_str(), &self.run, &self.count.to_string()]);
        self.failures += 1;
        self.due = Some(now_and(now, length.mul_f64(spread)));
        if !std::mem::replace(&mut self.rests, true) {
            outputs.push(Output::Rests(rest));
        }
    }

    fn read(&self, snapshot: &Snapshot) -> BTreeMap<Block, Known> {
        let of = |entry: &crate::view::Entry| {
            let (_, block) = key::parse_addresses(&entry.key)?;
            let record: Option<MirrorRecord> = serde_json::from_slice(&entry.value).ok();
            let content = record.filter(|record| Some(record.epoch) == self.epoch).map(|record| record.content);
            Some((block, Known { revision: entry.modified, content }))
        };
        let mut known: BTreeMap<Block, Known> = snapshot.entries.iter().filter_map(of).collect();
        for block in self.view.iter().flat_map(|view| view.blocks_of(&self.node)) {
            known.entry(block).or_insert(Known { revision: 0, content: None });
        }
        known
    }
}

fn now_and(now: BootTime, later: Duration) -> BootTime {
    BootTime(now.0.saturating_add(later))
}

/// A fraction of 1 that the words point at.
fn phase(words: &[&str]) -> f64 {
    let hash = digest(words);
    f64::from(hash.first().copied().unwrap_or_default()) / 256.0
}

#[cfg(test)]
mod tests;
