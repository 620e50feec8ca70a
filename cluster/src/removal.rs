//! Deleting a node: its record, its blocks and their mirrors, in one transaction over what was read.
//!
//! A node that is alive is not deleted. One that does not look alive may be cut off from etcd only, and its pods may
//! run: so one that has blocks is deleted only where the operator asserts that its machine is off. The transaction
//! compares all that it was planned by; a node that comes back meanwhile makes it fail. A claim that comes in between does
//! not; so after the deletion the node is read once more, and what is left deleted ([`Found::rest`]). Called by `twillctl node delete`.

use twill_conf::NodeName;
use twill_ipam::Block;

use crate::key;
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
    /// The keys of its mirror.
    pub mirror: Vec<String>,
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
         others; switch the machine off and say so with --machine-is-off"
    )]
    MayRun {
        /// The node.
        node: NodeName,
        /// How many.
        blocks: usize,
    },
}

impl Found {
    /// Reads what there is of a node.
    pub async fn read<S: Store>(store: &S, node: &NodeName) -> Result<Self, StoreError> {
        let watched = store.read(&Range::watched()).await?;
        let mirror = store.read(&Range::prefix(&format!("addresses/{node}/"))).await?;
        let alive = store.read(&Range::key(&key::alive(node))).await?;
        Ok(Self::of(node, &watched, &mirror, &alive))
    }

    /// What snapshots of the watched range, of the node's mirror and of its sign of life have of it.
    pub fn of(node: &NodeName, watched: &Snapshot, mirror: &Snapshot, alive: &Snapshot) -> Self {
        let mut view = crate::View::default();
        view.replace(watched);
        let own_key = key::node(node);
        // By its key: a record that cannot be read is deleted too.
        let record = watched.entries.iter().find(|entry| entry.key == own_key).map_or(0, |entry| entry.modified);
        let of_node = view.blocks.iter().filter(|(_, record)| record.value.node == *node);
        Self {
            node: node.clone(),
            record,
            blocks: of_node.map(|(block, record)| (*block, record.modified)).collect(),
            mirror: mirror.entries.iter().map(|entry| entry.key.clone()).collect(),
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
        if !machine_is_off && !self.blocks.is_empty() {
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
            if first.then.len() + 2 > MOST || first.when.len() + 1 > MOST {
                plan.push(std::mem::replace(&mut first, next()));
            }
            let key = key::block(*block);
            if stands(Guard::RevisionsInDelete) {
                first.when.push(Compare::Modified { key: key.clone(), revision: *revision });
            }
            first.then.push(Op::Delete { key });
            first.then.push(Op::Delete { key: key::addresses(&self.node, *block) });
        }
        let of_block = |key: &String| self.blocks.iter().any(|(block, _)| *key == key::addresses(&self.node, *block));
        for key in self.mirror.iter().filter(|key| !of_block(key)) {
            if first.then.len() + 1 > MOST {
                plan.push(std::mem::replace(&mut first, next()));
            }
            first.then.push(Op::Delete { key: key.clone() });
        }
        plan.push(first);
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated::SimulatedStore;
    use crate::txn::Outcome;

    fn put(store: &SimulatedStore, key: &str, value: serde_json::Value) {
        let value = value.to_string().into_bytes();
        store.apply(&Txn { when: Vec::new(), then: vec![Op::Put { key: key.into(), value, lease: None }] });
    }

    fn node() -> NodeName {
        "n1".parse().unwrap()
    }

    fn found(store: &SimulatedStore) -> Found {
        let look = |range: Range| store.look(&range);
        let mirror = look(Range::prefix("addresses/n1/"));
        Found::of(&node(), &look(Range::watched()), &mirror, &look(Range::key("alive/n1")))
    }

    fn with_blocks(count: usize) -> SimulatedStore {
        let store = SimulatedStore::new();
        for name in ["n1", "n10"] {
            put(&store, &format!("nodes/{name}"), serde_json::json!({ "machine_id": name, "nonce": "x" }));
        }
        for i in 0..count + 1 {
            let name: NodeName = if i == 0 { "n10".parse().unwrap() } else { node() };
            let block: Block = format!("10.42.{}.{}/32", i / 256, i % 256).parse().unwrap();
            put(
                &store,
                &key::block(block),
                serde_json::json!({ "node": name, "machine_id": "m", "epoch": 2, "nonce": "x" }),
            );
            put(&store, &key::addresses(&name, block), serde_json::json!({ "epoch": 2, "nonce": "x" }));
        }
        store
    }

    #[test]
    fn a_node_goes_with_its_blocks_and_their_mirrors_and_nobody_elses() {
        for (blocks, transactions) in [(0, 1), (2, 1), (63, 1), (64, 2), (200, 4)] {
            let store = with_blocks(blocks);
            let plan = found(&store).plan(true).unwrap();
            assert_eq!(plan.len(), transactions, "{blocks} blocks");
            for txn in &plan {
                assert!(txn.when.len() <= MOST && txn.then.len() <= MOST);
                assert!(matches!(store.apply(txn), Outcome::Done(_)));
            }
            let left = store.look(&Range { start: String::new(), end: "~".into() }).entries;
            let left: Vec<&str> = left.iter().map(|entry| entry.key.as_str()).collect();
            assert_eq!(left, ["addresses/n10/4/0a2a0000-32", "blocks/4/0a2a0000-32", "nodes/n10"]);
        }
    }

    #[test]
    fn what_changed_since_it_was_read_makes_the_deletion_fail() {
        for key in ["nodes/n1", "blocks/4/0a2a0001-32", "alive/n1"] {
            let store = with_blocks(1);
            let plan = found(&store).plan(true).unwrap();
            put(&store, key, serde_json::json!({ "node": "n1", "machine_id": "n1", "epoch": 2, "nonce": "y" }));
            assert!(matches!(store.apply(&plan[0]), Outcome::Refused(_)), "{key}");
        }
    }

    #[test]
    fn a_node_that_is_alive_or_may_run_or_is_not_there_is_not_deleted() {
        let store = with_blocks(1);
        assert!(matches!(found(&store).plan(false), Err(Refusal::MayRun { blocks: 1, .. })));
        put(&store, "alive/n1", serde_json::json!({}));
        assert_eq!(found(&store).plan(true), Err(Refusal::Alive(node())));
        assert_eq!(found(&SimulatedStore::new()).plan(true), Err(Refusal::Unknown(node())));
        assert!(found(&with_blocks(0)).plan(false).is_ok(), "it has nothing to lose");
    }
}
