//! What `twillctl status` says.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;
use twill_cluster::{NodeRecord, Versioned};
use twill_conf::NodeName;

use super::pools::PoolUse;
use super::problems::{self, Problem};
use crate::access::{Alive, Picture};

/// The cluster at a glance.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    /// etcd's revision that this is a picture of.
    pub(crate) revision: i64,
    /// The configuration, where one can be read.
    pub(crate) config: Option<Config>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) pools: Vec<PoolUse>,
    pub(crate) problems: Vec<Problem>,
    /// What is worth a word and no problem: it does not change the exit status.
    pub(crate) notes: Vec<Problem>,
}

/// Which configuration it is.
#[derive(Debug, Serialize)]
pub(crate) struct Config {
    /// The mod_revision of the key.
    pub(crate) revision: i64,
    /// The back end's type.
    pub(crate) backend: &'static str,
}

/// A node as its record describes it.
#[derive(Debug, Serialize)]
pub(crate) struct Node {
    pub(crate) name: NodeName,
    /// Whether its daemon renewed its lease within the last minute.
    pub(crate) alive: bool,
    /// Whether it gives no new pod an address.
    pub(crate) draining: bool,
    pub(crate) underlay: Vec<IpAddr>,
    pub(crate) tunnel: Vec<IpAddr>,
    /// The VTEP's MAC.
    pub(crate) vtep: Option<String>,
    /// How many blocks it owns.
    pub(crate) blocks: usize,
    /// The daemon's version.
    pub(crate) version: String,
    pub(crate) labels: BTreeMap<String, String>,
}

impl Status {
    pub(crate) fn new(picture: &Picture, alive: &Alive) -> Self {
        let view = &picture.view;
        let mut counts: BTreeMap<&NodeName, usize> = BTreeMap::new();
        for record in view.blocks.values() {
            *counts.entry(&record.value.node).or_default() += 1;
        }
        let node = |(name, record): (&NodeName, &Arc<Versioned<NodeRecord>>)| {
            Node::new(name, record, alive.contains_key(name), counts.get(name).copied().unwrap_or(0))
        };
        let pools = PoolUse::all(view);
        let mut problems = problems::faults(view);
        problems.extend(
            view.nodes.iter().flat_map(|(name, record)| problems::node(view, name, record, alive.contains_key(name))),
        );
        problems.extend(problems::told(alive.iter().filter(|(name, _)| view.nodes.contains_key(*name))));
        problems.extend(problems::ownerless(view));
        problems.extend(problems::outlived(view));
        problems.extend(pools.iter().filter_map(PoolUse::problem));
        let mut notes: Vec<_> = pools.iter().filter_map(PoolUse::note).collect();
        notes.extend(view.config.iter().flat_map(|config| problems::of_bgp(view, &config.value)));
        Self {
            revision: view.revision,
            config: view
                .config
                .as_ref()
                .map(|config| Config { revision: config.modified, backend: config.value.backend.kind.name() }),
            nodes: view.nodes.iter().map(node).collect(),
            pools,
            problems,
            notes,
        }
    }
}

impl Node {
    fn new(name: &NodeName, record: &Versioned<NodeRecord>, alive: bool, blocks: usize) -> Self {
        let NodeRecord { underlay, tunnel, vxlan, version, labels, drain, .. } = &record.value;
        let families = [underlay.address(false), underlay.address(true)];
        let tunnels = [tunnel.ipv4.map(IpAddr::V4), tunnel.ipv6.map(IpAddr::V6)];
        Self {
            name: name.clone(),
            alive,
            draining: drain.is_some(),
            underlay: families.into_iter().flatten().collect(),
            tunnel: tunnels.into_iter().flatten().collect(),
            vtep: vxlan.as_ref().map(|end| end.mac.clone()),
            blocks,
            version: version.clone(),
            labels: labels.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
