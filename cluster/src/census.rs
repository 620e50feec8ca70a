//! All that etcd knows at one revision: configuration, nodes, blocks, what nodes gave out of them, and who is alive. For
//! reports and checks; the daemons watch a part of it only. A node may write what it likes below its own keys, as much as it
//! likes: so who asks for one node reads no other node's mirrors ([`Census::watched`], [`Census::look_at`]).

use std::collections::{BTreeMap, BTreeSet};

use twill_conf::NodeName;
use twill_ipam::Block;

use crate::View;
use crate::key;
use crate::record::{AliveRecord, Content, MirrorRecord, Told, Versioned, from_json};
use crate::removal::Found;
use crate::store::{Range, Store, StoreError};
use crate::view::{Entry, Snapshot};

/// A longer mirror is not read, in bytes: what this version writes has a quarter of it.
const LONGEST: usize = 1 << 20;

/// All of it.
#[derive(Debug, Clone, Default)]
pub struct Census {
    /// Configuration, nodes and blocks.
    pub view: View,
    /// The mirrors by node.
    pub mirrors: BTreeMap<NodeName, BTreeMap<Block, Versioned<MirrorRecord>>>,
    /// Keys below `addresses/` that are no mirrors, with the reason.
    pub faults: BTreeMap<String, String>,
    /// Nodes whose daemons renewed their leases within a minute.
    pub alive: BTreeSet<NodeName>,
    /// What these nodes tell of themselves, where they do.
    pub told: BTreeMap<NodeName, Vec<Told>>,
    snapshot: Snapshot,
}

impl Census {
    /// What is read: `addresses/`, `alive/`, `answers/` and what nodes watch lie side by side.
    pub fn range() -> Range {
        Range { start: "addresses/".into(), end: Range::watched().end }
    }

    /// Reads it.
    pub async fn read<S: Store>(store: &S) -> Result<Self, StoreError> {
        store.read(&Self::range()).await.map(Self::of)
    }

    /// Reads what the daemons watch alone: no mirrors, nor who is alive.
    pub async fn watched<S: Store>(store: &S) -> Result<Self, StoreError> {
        store.read(&Range::watched()).await.map(Self::of)
    }

    /// Reads the mirrors and the sign of life of one node, a little later than the rest.
    pub async fn look_at<S: Store>(&mut self, store: &S, node: &NodeName) -> Result<(), StoreError> {
        for range in [key::mirror(node), Range::key(&key::alive(node))] {
            self.add(store.read(&range).await?.entries);
        }
        Ok(())
    }

    /// What a snapshot of the [`range`](Self::range) says.
    pub fn of(snapshot: Snapshot) -> Self {
        let mut census = Self::default();
        census.view.replace(&snapshot);
        census.snapshot.revision = snapshot.revision;
        census.add(snapshot.entries);
        census
    }

    /// Takes in mirrors and signs of life.
    fn add(&mut self, entries: Vec<Entry>) {
        for entry in &entries {
            if let Some(name) = entry.key.strip_prefix("alive/") {
                let Ok(name) = name.parse::<NodeName>() else { continue };
                self.told.insert(name.clone(), AliveRecord::read(&entry.value).problems);
                self.alive.insert(name);
            } else if entry.key.starts_with("addresses/") {
                match mirror(&entry.key, &entry.value) {
                    Ok((node, block, value)) => {
                        let (created, modified) = (entry.created, entry.modified);
                        let record = Versioned { value, created, modified };
                        self.mirrors.entry(node).or_default().insert(block, record);
                    }
                    Err(cause) => drop(self.faults.insert(entry.key.clone(), cause)),
                }
            }
        }
        self.snapshot.entries.extend(entries);
    }

    /// What the owner of a block says to have given out of it, in its present epoch.
    pub fn content(&self, block: Block) -> Option<&Content> {
        let owner = &self.view.blocks.get(&block)?.value;
        let mirror = self.mirrors.get(&owner.node)?.get(&block)?;
        (mirror.value.epoch == owner.epoch).then_some(&mirror.value.content)
    }

    /// Nodes that have no record, and of which there are blocks or mirrors.
    pub fn ghosts(&self) -> BTreeSet<NodeName> {
        let owners = self.view.blocks.values().map(|record| &record.value.node);
        let unreadable = |name: &NodeName| self.view.faults.contains_key(&key::node(name));
        let named = owners.chain(self.mirrors.keys());
        named.filter(|name| !self.view.nodes.contains_key(*name) && !unreadable(name)).cloned().collect()
    }

    /// What there is of a node, for its removal. `now` is in seconds since 1970.
    pub fn found(&self, node: &NodeName, now: u64) -> Found {
        let part = |range: Range| Snapshot {
            revision: self.snapshot.revision,
            entries: self.snapshot.entries.iter().filter(|entry| range.contains(&entry.key)).cloned().collect(),
        };
        Found::of(node, &part(Range::watched()), &part(key::mirror(node)), &part(Range::key(&key::alive(node))), now)
    }
}

fn mirror(key: &str, value: &[u8]) -> Result<(NodeName, Block, MirrorRecord), String> {
    let (node, block) =
        key::parse_addresses(key).ok_or("it is not addresses/, a node and a block as in addresses/n1/4/0a2a0040-26")?;
    if value.len() > LONGEST {
        return Err(format!("it is {} bytes long, at most {LONGEST} are read", value.len()));
    }
    Ok((node, block, from_json(value)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated::SimulatedStore;
    use crate::txn::{Op, Txn};

    fn census(entries: &[(&str, &str)]) -> Census {
        let entry = |(i, (key, value)): (i64, &(&str, &str))| Entry {
            key: (*key).into(),
            value: value.as_bytes().to_vec(),
            created: i,
            modified: i,
        };
        Census::of(Snapshot { revision: 9, entries: (1..).zip(entries).map(entry).collect() })
    }

    #[test]
    fn one_range_holds_all_that_is_told_and_neither_requests_nor_policies() {
        let range = Census::range();
        for key in
            ["addresses/n1/4/0a2a0000-26", "alive/n1", "answers/n1/x", "blocks/4/0a2a0000-26", "config", "nodes/n1"]
        {
            assert!(range.contains(key), "{key}");
        }
        assert!(!range.contains("requests/n1/x") && !Range::watched().contains("addresses/n1/4/0a2a0000-26"));
    }

    #[test]
    fn a_mirror_counts_for_the_owners_present_epoch_only_and_garbage_is_told() {
        let block = r#"{"node":"n1","machine_id":"m","epoch":7,"nonce":"x"}"#;
        let census = census(&[
            ("addresses/n1/4/0a2a0000-26", r#"{"epoch":7,"nonce":"x","addresses":{"10.42.0.1":{"state":"attached"}}}"#),
            ("addresses/n1/4/0a2a0040-26", r#"{"epoch":6,"nonce":"x"}"#),
            ("addresses/n2/4/0a2a0080-26", r#"{"epoch":7,"nonce":"x"}"#),
            ("addresses/n1/4/0a2a00c0-26", "rubbish"),
            ("addresses/n1", "{}"),
            ("alive/n1", "{}"),
            ("blocks/4/0a2a0000-26", block),
            ("blocks/4/0a2a0040-26", block),
            ("blocks/4/0a2a0080-26", block),
            ("nodes/n1", r#"{"machine_id":"m","nonce":"x"}"#),
        ]);
        let content = |cidr: &str| census.content(cidr.parse().unwrap()).map(|content| content.addresses.len());
        assert_eq!(content("10.42.0.0/26"), Some(1));
        assert_eq!((content("10.42.0.64/26"), content("10.42.0.128/26")), (None, None));
        assert_eq!(census.faults.keys().collect::<Vec<_>>(), ["addresses/n1", "addresses/n1/4/0a2a00c0-26"]);
        assert_eq!(census.ghosts(), BTreeSet::from(["n2".parse().unwrap()]));
        assert!(census.alive.contains(&"n1".parse().unwrap()));
        assert_eq!(census.found(&"n1".parse().unwrap(), 0).blocks.len(), 3);
    }
    #[tokio::test]
    async fn who_asks_for_one_node_reads_no_other_nodes_mirrors() {
        let store = SimulatedStore::new();
        let mirror = r#"{"epoch":1,"nonce":"x"}"#;
        for (key, value) in [
            ("addresses/n1/4/0a2a0000-26", mirror),
            ("addresses/n10/4/0a2a0040-26", mirror),
            ("alive/n1", "{}"),
            ("alive/n10", "{}"),
            ("answers/n10/x", "{}"),
            ("nodes/n1", r#"{"machine_id":"m","nonce":"x"}"#),
        ] {
            let put = Op::Put { key: key.into(), value: value.as_bytes().to_vec(), lease: None };
            store.apply(&Txn { when: Vec::new(), then: vec![put] });
        }
        let n1: NodeName = "n1".parse().unwrap();
        let mut census = Census::watched(&store).await.unwrap();
        assert_eq!((census.mirrors.len(), census.alive.len(), census.view.nodes.len()), (0, 0, 1));
        census.look_at(&store, &n1).await.unwrap();
        assert_eq!(census.mirrors.keys().collect::<Vec<_>>(), [&n1]);
        assert_eq!(census.alive, BTreeSet::from([n1.clone()]));
        assert_eq!(census.found(&n1, 0), Found::read(&store, &n1, 0).await.unwrap());
    }
}
