//! What `twillctl node` reports.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::Serialize;
use twill_cluster::{Census, NodeRecord, Versioned};
use twill_conf::NodeName;
use twill_ipam::Block;

use super::addresses::{BlockRow, Sources};
use super::problems::{self, Problem};
use super::untold::Untold;

/// All nodes.
#[derive(Debug, Serialize)]
pub(crate) struct Nodes {
    /// etcd's revision.
    pub(crate) revision: i64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) problems: Vec<Problem>,
    /// What is worth a word and no problem.
    pub(crate) notes: Vec<Problem>,
}

/// One node.
#[derive(Debug, Serialize)]
pub(crate) struct NodeShown {
    /// etcd's revision.
    pub(crate) revision: i64,
    #[serde(flatten)]
    pub(crate) node: Node,
    /// Its blocks with their use.
    pub(crate) own_blocks: Vec<BlockRow>,
    pub(crate) problems: Vec<Problem>,
    /// What is worth a word and no problem.
    pub(crate) notes: Vec<Problem>,
}

/// A node as its record, its blocks and its mirrors describe it.
#[derive(Debug, Serialize)]
pub(crate) struct Node {
    pub(crate) name: NodeName,
    pub(crate) machine_id: String,
    /// Whether its daemon renewed its lease within the last minute.
    pub(crate) alive: bool,
    /// Whether it gives no new pod an address.
    pub(crate) draining: bool,
    /// The daemon's version.
    pub(crate) version: String,
    pub(crate) underlay: Vec<IpAddr>,
    pub(crate) tunnel: Vec<IpAddr>,
    pub(crate) labels: BTreeMap<String, String>,
    /// How many blocks it owns.
    pub(crate) blocks: usize,
    /// Addresses that pods have, as far as it has told.
    pub(crate) used: u64,
    pub(crate) cooling: u64,
    /// What a pod could be given.
    pub(crate) free: u64,
    /// Blocks in which it has pods although they are another node's.
    pub(crate) disputes: Vec<IpNetwork>,
}

/// A node is being drained, or not any more.
#[derive(Debug, Serialize)]
pub(crate) struct Drained {
    pub(crate) node: NodeName,
    pub(crate) draining: bool,
    /// Whether it was so before.
    pub(crate) was_draining: bool,
    /// Addresses that pods have there still, as far as it has told; absent where that could not be read, as the next.
    pub(crate) used: Option<u64>,
    /// Blocks that it owns still.
    pub(crate) blocks: Option<usize>,
    /// What could not be looked at, and why.
    pub(crate) unknown: Vec<Untold>,
}

/// A node was deleted.
#[derive(Debug, Serialize)]
pub(crate) struct Deleted {
    /// Which.
    pub(crate) node: NodeName,
    /// How many blocks others may have now.
    pub(crate) blocks: usize,
}

impl Nodes {
    /// Of all nodes, by etcd alone.
    pub(crate) fn new(sources: &Sources) -> Option<Self> {
        let census = sources.census.as_ref()?;
        let view = &census.view;
        let all: Vec<_> = view.nodes.keys().filter_map(|name| Node::new(sources, name)).collect();
        let notes = all.iter().filter_map(|(node, blocks)| sources.left_out(&node.name, blocks)).collect();
        let mut problems: Vec<Problem> =
            view.nodes.iter().flat_map(|(name, record)| of_node(census, name, record)).collect();
        problems.extend(problems::told(census.told.iter().filter(|(name, _)| view.nodes.contains_key(*name))));
        // A block of which nobody knows whose it is may be any node's.
        problems.extend(["nodes/", "blocks/"].into_iter().flat_map(|keys| problems::unreadable_below(view, keys)));
        problems.sort();
        problems.dedup();
        let nodes = all.into_iter().map(|(node, _)| node).collect();
        Some(Self { revision: view.revision, nodes, problems, notes })
    }
}

impl NodeShown {
    /// Of one node; `None` where there is none of this name.
    pub(crate) fn new(sources: &Sources, name: &NodeName) -> Option<Self> {
        let census = sources.census.as_ref()?;
        let (node, own_blocks) = Node::new(sources, name)?;
        let mut problems = of_node(census, name, census.view.nodes.get(name)?);
        problems.extend(problems::told(census.told.get_key_value(name)));
        let notes = sources.left_out(name, &own_blocks).into_iter().collect();
        Some(Self { revision: census.view.revision, node, own_blocks, problems, notes })
    }
}

fn of_node(census: &Census, name: &NodeName, record: &Versioned<NodeRecord>) -> Vec<Problem> {
    let mut problems = problems::node(&census.view, name, record, census.alive.contains(name));
    problems.extend(record.value.disputes.iter().map(|cidr| {
        let owner = Block::new(*cidr).and_then(|block| census.view.blocks.get(&block));
        let whose = owner.map_or("another node".to_owned(), |record| record.value.node.to_string());
        let what = format!("it has pods in {cidr}, which is {whose}'s now: nobody assigns more of that");
        let fix = format!("restart those pods of {name}; {}", problems::delete(name));
        Problem::new(format!("node {name}"), what, fix)
    }));
    problems
}

impl Node {
    fn new(sources: &Sources, name: &NodeName) -> Option<(Self, Vec<BlockRow>)> {
        let census = sources.census.as_ref()?;
        let record = &census.view.nodes.get(name)?.value;
        let blocks = census.view.blocks_of(name).map(|block| sources.block_row(block, name.clone()));
        let blocks: Vec<BlockRow> = blocks.collect();
        let sum = |of: fn(&BlockRow) -> Option<u64>| blocks.iter().filter_map(of).fold(0, u64::saturating_add);
        let underlay = [record.underlay.address(false), record.underlay.address(true)];
        let tunnel = [record.tunnel.ipv4.map(IpAddr::V4), record.tunnel.ipv6.map(IpAddr::V6)];
        let node = Self {
            name: name.clone(),
            machine_id: record.machine_id.clone(),
            alive: census.alive.contains(name),
            draining: record.drain.is_some(),
            version: record.version.clone(),
            underlay: underlay.into_iter().flatten().collect(),
            tunnel: tunnel.into_iter().flatten().collect(),
            labels: record.labels.clone(),
            blocks: blocks.len(),
            used: sum(|row| row.used),
            cooling: sum(|row| row.cooling),
            free: sum(|row| row.free),
            disputes: record.disputes.clone(),
        };
        Some((node, blocks))
    }
}

impl Drained {
    /// How far it is, by what could be read.
    pub(crate) fn new(
        sources: Option<&Sources>,
        name: &NodeName,
        (was_draining, draining): (bool, bool),
        unknown: Vec<Untold>,
    ) -> Self {
        let node = sources.and_then(|sources| Node::new(sources, name)).map(|(node, _)| (node.used, node.blocks));
        let (used, blocks) = node.unzip();
        Self { node: name.clone(), draining, was_draining, used, blocks, unknown }
    }
}

#[cfg(test)]
mod tests;
