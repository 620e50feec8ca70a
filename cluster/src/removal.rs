//! Deleting a node: its record, its blocks and their mirrors, in one transaction over what was read.
//!
//! A node that is alive is not deleted. One that does not look alive may be cut off from etcd only, and its pods may
//! run: so one that has blocks is deleted only where the operator asserts that its machine is off, or where it was drained
//! and its mirror proves that it has no pods. The proof: the mirror was taken while the plugin refused new pods for the drain
//! that the record names; and the plugin goes on refusing until the node has written, in the run that says otherwise, a
//! record without it. Of pods in blocks that are others' by now the mirror knows nothing: a node whose record disputes any
//! proves nothing. A node that is back finds its record gone, and its plugin refuses pods until it has registered anew and
//! closed what is not its own.
//!
//! The transaction compares all that it was planned by; a node that comes back meanwhile makes it fail. A claim that comes in
//! between does not; so after the deletion the node is read once more, and what is left deleted ([`Found::rest`]). Called by
//! `twillctl node delete`.

use twill_conf::NodeName;
use twill_ipam::Block;

use crate::key;
use crate::record::MirrorRecord;
use crate::store::{Range, Store, StoreError};
use crate::txn::{Compare, Op, Txn};
use crate::view::Snapshot;
use twill_ipam::guard::{Guard, stands};

/// etcd takes no more compares, nor operations, in one transaction (`--max-txn-ops`).
const MOST: usize = 128;

/// What was found of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The node.
    pub node: NodeName,
    /// The revision of its record; 0 where there is none.
    pub record: i64,
    /// Its blocks, with the revisions of their records.
    pub blocks: Vec<(Block, i64)>,
    /// The keys of its mirror, with their revisions.
    pub mirror: Vec<(String, i64)>,
    /// It is drained, and each of its blocks was mirrored as empty during this drain.
    pub vacated: bool,
    /// Its record says that it has pods in blocks that are others' now, or cannot be read.
    pub disputes: bool,
    /// Its daemon has said within a minute that it is alive.
    pub alive: bool,
}

/// Why a node is not deleted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is nothing of it.
    #[error("there is no node {0}: 'twillctl status' shows those that there are")]
    Unknown(NodeName),
    /// It is alive.
    #[error(
        "node {0} is alive: its daemon has renewed its lease within the last minute; stop twilld there, or switch the \
         machine off, and try again when a minute has passed"
    )]
    Alive(NodeName),
    /// It may have pods.
    #[error(
        "node {node} has {blocks} blocks, and may be running though it is not heard of: its addresses would be given to \
         others; switch the machine off and say so with --machine-is-off, or bring it back, drain it \
         ('twillctl node drain {node}') and stop twilld there once it has no pods"
    )]
    MayRun {
        /// The node.
        node: NodeName,
        /// How many.
        blocks: usize,
    },
    /// It may have pods in blocks of others, who give no address of them as long as its record says so.
    #[error(
        "node {0} has pods in blocks that are other nodes' by now, or a record that cannot be read ('twillctl node show {0}'): \
         those nodes would give the pods' addresses again; switch the machine off and say so with --machine-is-off, or bring \
         it back and remove these pods first"
    )]
    Disputes(NodeName),
}

impl Found {
    /// Reads what there is of a node. `now` is the time of day, in seconds since 1970: what has cooled is free.
    pub async fn read<S: Store>(store: &S, node: &NodeName, now: u64) -> Result<Self, StoreError> {
        let watched = store.read(&Range::watched()).await?;
        let mirror = store.read(&key::mirror(node)).await?;
        let alive = store.read(&Range::key(&key::alive(node))).await?;
        Ok(Self::of(node, &watched, &mirror, &alive, now))
    }

    /// What snapshots of the watched range, of the node's mirror and of its sign of life have of it.
    pub fn of(node: &NodeName, watched: &Snapshot, mirror: &Snapshot, alive: &Snapshot, now: u64) -> Self {
        let mut view = crate::View::default();
        view.replace(watched);
        let own_key = key::node(node);
        // By its key: a record that cannot be read is deleted too.
        let record = watched.entries.iter().find(|entry| entry.key == own_key).map_or(0, |entry| entry.modified);
        let of_node = || view.blocks.iter().filter(|(_, record)| record.value.node == *node);
        let is_vacated = |(epoch, drain): (i64, &str)| {
            of_node().all(|(block, record)| {
                let key = key::addresses(node, *block);
                let entry = mirror.entries.iter().find(|entry| entry.key == key);
                let mirror: Option<MirrorRecord> = entry.and_then(|entry| serde_json::from_slice(&entry.value).ok());
                let is_proof = |mirror: MirrorRecord| mirror.epoch == epoch && mirror.content.is_vacated(drain, now);
                record.value.epoch == epoch && mirror.is_some_and(is_proof)
            })
        };
        let own = view.nodes.get(node);
        let disputes = own.map_or(record != 0, |record| !record.value.disputes.is_empty());
        let drain = own.and_then(|record| Some((record.created, record.value.drain.as_deref()?)));
        Self {
            node: node.clone(),
            record,
            vacated: drain.is_some_and(is_vacated),
            blocks: of_node().map(|(block, record)| (*block, record.modified)).collect(),
            mirror: mirror.entries.iter().map(|entry| (entry.key.clone(), entry.modified)).collect(),
            disputes,
            alive: !alive.entries.is_empty(),
        }
    }

    /// After the deletion: the transactions that delete what the node claimed between the reading and the deletion. Its
    /// epoch is over, so nothing more can come. Empty where nothing is left, or where the node is back.
    pub fn rest(&self) -> Result<Vec<Txn>, Refusal> {
        if self.record != 0 || (self.blocks.is_empty() && self.mirror.is_empty()) {
            return Ok(Vec::new());
        }
        self.plan(true)
    }

    /// The transactions that delete it, to be done in this order, each only if the one before was: one, unless it has
    /// more blocks than fit. The first takes the record, and with it the node's right to claim.
    pub fn plan(&self, machine_is_off: bool) -> Result<Vec<Txn>, Refusal> {
        let node = || self.node.clone();
        if self.record == 0 && self.blocks.is_empty() && self.mirror.is_empty() {
            return Err(Refusal::Unknown(node()));
        }
        if self.alive {
            return Err(Refusal::Alive(node()));
        }
        if !machine_is_off && self.disputes {
            return Err(Refusal::Disputes(node()));
        }
        if !machine_is_off && !self.vacated && !self.blocks.is_empty() {
            return Err(Refusal::MayRun { node: node(), blocks: self.blocks.len() });
        }
        let own = key::node(&self.node);
        let mut first = Txn {
            when: vec![
                Compare::Modified { key: own.clone(), revision: self.record },
                Compare::Created { key: key::alive(&self.node), revision: 0 },
            ],
            then: vec![Op::Delete { key: own.clone() }],
        };
        let next = || Txn { when: vec![Compare::Created { key: own.clone(), revision: 0 }], then: Vec::new() };
        let mut plan = Vec::new();
        for (block, revision) in &self.blocks {
            if first.then.len() + 2 > MOST || first.when.len() + 2 > MOST {
                plan.push(std::mem::replace(&mut first, next()));
            }
            let key = key::block(*block);
            if stands(Guard::RevisionsInDelete) {
                first.when.push(Compare::Modified { key: key.clone(), revision: *revision });
            }
            first.then.push(Op::Delete { key });
            let key = key::addresses(&self.node, *block);
            if let (false, Some(revision)) = (machine_is_off, self.mirror_revision(&key)) {
                first.when.push(Compare::Modified { key: key.clone(), revision });
            }
            first.then.push(Op::Delete { key });
        }
        let of_block = |key: &String| self.blocks.iter().any(|(block, _)| *key == key::addresses(&self.node, *block));
        for (key, _) in self.mirror.iter().filter(|(key, _)| !of_block(key)) {
            if first.then.len() + 1 > MOST {
                plan.push(std::mem::replace(&mut first, next()));
            }
            first.then.push(Op::Delete { key: key.clone() });
        }
        plan.push(first);
        Ok(plan)
    }

    fn mirror_revision(&self, key: &str) -> Option<i64> {
        self.mirror.iter().find(|(there, _)| there == key).map(|(_, revision)| *revision)
    }
}

#[cfg(test)]
mod tests;
