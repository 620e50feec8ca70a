//! What was known and etcd does not say any more, though nobody took it back: for the data path.
//!
//! **A restored etcd.** A block that was claimed after the backup is gone from etcd until its node puts it back, and a node's
//! record says what was so on the day of the backup. The pods are where they were all the same, also where the daemon that
//! should write is not running. So routes follow what was known, until etcd's new history has a word of its own about it.
//!
//! **A configuration that cannot be read, or is gone.** Nodes still come, go and change their addresses, so routes go on by the last
//! one that could be read.
//!
//! Nothing is claimed or opened by any of this; the [keeper](crate::keeper) goes by what etcd says. Used by the daemon's watch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use twill_conf::NodeName;
use twill_conf::cluster::ClusterConf;
use twill_ipam::Block;

use crate::View;
use crate::record::{BlockRecord, NodeRecord, Versioned};

/// Records of a history that etcd has lost, and the last configuration.
#[derive(Debug, Clone, Default)]
pub struct Former {
    /// The revision of the new history at which the loss was found.
    found: i64,
    /// The nodes that the new history has shown.
    seen: BTreeSet<NodeName>,
    nodes: BTreeMap<NodeName, Arc<Versioned<NodeRecord>>>,
    blocks: BTreeMap<Block, Arc<Versioned<BlockRecord>>>,
    config: Option<Versioned<ClusterConf>>,
}

impl Former {
    /// A rupture lies between two views. What an earlier one has left is known still, unless the view before this one has it.
    pub fn find(&mut self, before: &View, after: &View) {
        self.found = after.revision;
        self.seen.clear();
        let nodes = before.nodes.iter().filter(|(name, record)| after.nodes.get(*name) != Some(record));
        self.nodes.extend(nodes.map(|(name, record)| (name.clone(), Arc::clone(record))));
        let blocks = before.blocks.iter().filter(|(block, record)| after.blocks.get(*block) != Some(record));
        self.blocks.extend(blocks.map(|(block, record)| (*block, Arc::clone(record))));
    }

    /// A view of the history that goes on: what it says anew is not former any more, and neither is a node that it has shown
    /// and that is gone: somebody deleted it.
    pub fn see(&mut self, view: &View) {
        if view.config.is_some() && view.config != self.config {
            self.config.clone_from(&view.config);
        }
        if self.nodes.is_empty() && self.blocks.is_empty() {
            return;
        }
        let found = self.found;
        let deleted: Vec<_> = self.seen.iter().filter(|name| !view.nodes.contains_key(*name)).cloned().collect();
        for name in deleted {
            self.nodes.remove(&name);
            self.blocks.retain(|_, record| record.value.node != name);
            self.seen.remove(&name);
        }
        self.seen.extend(view.nodes.keys().cloned());
        self.nodes.retain(|name, _| view.nodes.get(name).is_none_or(|record| record.modified <= found));
        let anew: Vec<Block> =
            view.blocks.iter().filter(|(_, record)| record.modified > found).map(|(block, _)| *block).collect();
        self.blocks.retain(|block, _| !anew.iter().any(|there| there.overlaps(*block)));
    }

    /// The view as routes follow it.
    pub fn with(&self, view: &Arc<View>) -> Arc<View> {
        let lacks_config = view.config.is_none() && self.config.is_some();
        if self.nodes.is_empty() && self.blocks.is_empty() && !lacks_config {
            return Arc::clone(view);
        }
        let mut reach = View::clone(view);
        reach.config = reach.config.or_else(|| self.config.clone());
        reach.nodes.extend(self.nodes.iter().map(|(name, record)| (name.clone(), Arc::clone(record))));
        reach.blocks.extend(self.blocks.iter().map(|(block, record)| (*block, Arc::clone(record))));
        Arc::new(reach)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::simulated::SimulatedStore;
    use crate::store::{Event, Range};
    use crate::txn::{Op, Txn};

    fn put(store: &SimulatedStore, key: &str, node: &str, nonce: &str) {
        let value = json!({ "node": node, "machine_id": "m", "epoch": 1, "nonce": nonce }).to_string().into_bytes();
        store.apply(&Txn { when: Vec::new(), then: vec![Op::Put { key: key.into(), value, lease: None }] });
    }

    type Pairs = Vec<(String, String)>;

    /// Owners by block, and the nodes with their nonces.
    fn told(view: &View) -> (Pairs, Pairs) {
        let blocks = view.blocks.iter().map(|(block, record)| (block.to_string(), record.value.node.to_string()));
        let nodes = view.nodes.iter().map(|(name, record)| (name.to_string(), record.value.nonce.clone()));
        (blocks.collect(), nodes.collect())
    }

    fn pairs(list: &[(&str, &str)]) -> Pairs {
        list.iter().map(|(one, other)| ((*one).to_owned(), (*other).to_owned())).collect()
    }

    /// What a view and what the data path make of the store now.
    fn look(store: &SimulatedStore, view: &mut View, former: &mut Former) -> Arc<View> {
        let before = view.clone();
        view.follow(&Event::Snapshot(store.look(&Range::watched())));
        if view.history > before.history {
            former.find(&before, view);
        }
        former.see(view);
        former.with(&Arc::new(view.clone()))
    }

    #[test]
    fn what_a_restored_etcd_has_lost_is_known_until_somebody_writes_it() {
        let store = SimulatedStore::new();
        let (mut view, mut former) = (View::default(), Former::default());
        let first = "blocks/4/0a2a0000-26";
        let second = "blocks/4/0a2a0040-26";
        put(&store, "nodes/a", "a", "old");
        put(&store, first, "a", "1");
        let backup = store.backup();
        put(&store, "nodes/a", "a", "new");
        put(&store, "nodes/b", "b", "1");
        put(&store, second, "b", "1");
        let reach = look(&store, &mut view, &mut former);
        assert_eq!(*reach, view, "without a rupture it is the view");
        let known = told(&view);

        store.restore(&backup);
        let reach = look(&store, &mut view, &mut former);
        assert_eq!(told(&view).1, pairs(&[("a", "old")]));
        assert_eq!(told(&reach), known);

        // One writes its record, another takes a part of the other's block.
        put(&store, "nodes/a", "a", "again");
        put(&store, "nodes/c", "c", "1");
        put(&store, "blocks/4/0a2a0050-28", "c", "1");
        let reach = look(&store, &mut view, &mut former);
        let blocks = pairs(&[("10.42.0.0/26", "a"), ("10.42.0.80/28", "c")]);
        assert_eq!(told(&reach), (blocks, pairs(&[("a", "again"), ("b", "1"), ("c", "1")])));
        put(&store, "nodes/b", "b", "2");
        assert_eq!(*look(&store, &mut view, &mut former), view, "nothing is left of it");
    }

    #[test]
    fn a_configuration_that_cannot_be_read_or_is_gone_is_the_last_one_to_routes_alone() {
        let store = SimulatedStore::new();
        let (mut view, mut former) = (View::default(), Former::default());
        let config = |value: &[u8]| {
            store.apply(&Txn {
                when: Vec::new(),
                then: vec![Op::Put { key: "config".into(), value: value.into(), lease: None }],
            });
        };
        let pool = |cidr: &str| json!({ "pool": [{ "name": "main", "cidr": cidr }] }).to_string();
        assert_eq!(look(&store, &mut view, &mut former).config, None);
        config(pool("10.42.0.0/16").as_bytes());
        let first = look(&store, &mut view, &mut former).config.clone();
        assert!(first.is_some());
        config(b"{");
        put(&store, "nodes/a", "a", "1");
        let reach = look(&store, &mut view, &mut former);
        assert_eq!((&view.config, &reach.config), (&None, &first));
        assert_eq!(told(&reach).1, pairs(&[("a", "1")]), "the cluster goes on");
        store.apply(&Txn { when: Vec::new(), then: vec![Op::Delete { key: "config".into() }] });
        assert_eq!(look(&store, &mut view, &mut former).config, first);
        config(pool("10.43.0.0/16").as_bytes());
        assert_eq!(look(&store, &mut view, &mut former).config, view.config);
        assert_ne!(view.config, first);
    }

    #[test]
    fn what_a_restored_etcd_has_lost_of_a_node_goes_when_the_node_is_deleted() {
        let store = SimulatedStore::new();
        let (mut view, mut former) = (View::default(), Former::default());
        put(&store, "nodes/a", "a", "old");
        let backup = store.backup();
        put(&store, "nodes/a", "a", "new");
        put(&store, "blocks/4/0a2a0000-26", "a", "1");
        put(&store, "nodes/b", "b", "1");
        look(&store, &mut view, &mut former);
        store.restore(&backup);
        let reach = look(&store, &mut view, &mut former);
        assert_eq!(told(&reach).1, pairs(&[("a", "new"), ("b", "1")]));
        store.apply(&Txn { when: Vec::new(), then: vec![Op::Delete { key: "nodes/a".into() }] });
        let reach = look(&store, &mut view, &mut former);
        assert_eq!(told(&reach), (Vec::new(), pairs(&[("b", "1")])), "of b nothing was said yet");
    }
}
