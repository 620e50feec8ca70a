//! What may be believed of the other nodes' records.
//!
//! Anyone who may write one node's record may write nonsense, by malice or mistake, so a record is taken for what it can
//! prove. A block is believed if it lies in a pool and overlaps no older one; a tunnel address, if it lies in a block of
//! its node; an underlay address, if packets can be sent to it at all without coming back to us or into a pool. Whoever
//! breaks a rule is left out and named, and nobody else suffers; where it is about something of this node, this node wins.
//!
//! All of it is one pass over nodes and one over blocks, and nodes are looked up by hash: 5,000 of them are a normal case.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;
use twill_cluster::View;
use twill_cluster::record::{NodeRecord, Tunnel, Underlay, Versioned};
use twill_conf::NodeName;
use twill_conf::cluster::ClusterConf;
use twill_ipam::Block;

use super::Problems;
use super::ranges::Ranges;
use crate::Local;
use crate::family::Family;

/// The cluster as this node sees it, without what cannot be believed.
#[derive(Debug)]
pub struct Cluster<'a> {
    /// Its configuration.
    pub conf: &'a ClusterConf,
    /// This node.
    pub local: &'a Local,
    /// This node's record, once it is registered.
    pub own: Option<&'a NodeRecord>,
    /// The other nodes, longest registered first.
    peers: Vec<Peer<'a>>,
}

/// Another node.
#[derive(Debug)]
pub struct Peer<'a> {
    /// Its name.
    pub name: &'a NodeName,
    /// Its record, for what a single back end needs of it.
    pub record: &'a NodeRecord,
    /// Its tunnel addresses, each inside a block of its own.
    pub tunnel: Tunnel,
    /// Its blocks, none of which overlaps another node's.
    pub blocks: Vec<Block>,
    /// Whether it only just registered: what is missing from its record may still come, and is no problem yet.
    pub new: bool,
}

impl<'a> Cluster<'a> {
    /// Reads the view, reports what is wrong with it.
    pub fn read(view: &'a View, conf: &'a ClusterConf, local: &'a Local, problems: &mut Problems) -> Self {
        for (key, reason) in &view.faults {
            problems.report(format!("{key} cannot be read, and is left out: {reason}"));
        }
        report_orphans(view, problems);
        let own = view.nodes.get(&local.name).map(|record| &record.value);
        Self { conf, local, own, peers: believed(view, conf, Some(local), problems) }
    }

    /// The other nodes, longest registered first.
    pub fn peers(&self) -> impl Iterator<Item = &Peer<'a>> {
        self.peers.iter().inspect(|_| count::visit())
    }

    /// Whether any pool has addresses of this family.
    pub fn uses(&self, family: Family) -> bool {
        uses(self.conf, family)
    }
}

/// Whether any pool has addresses of this family.
pub fn uses(conf: &ClusterConf, family: Family) -> bool {
    conf.pools.iter().any(|pool| Family::of_prefix(pool.cidr) == family)
}

/// What the view's records contradict each other in, a sentence each, by the same rules as what is programmed, but as no
/// single node sees it: where two nodes are at odds, the older is right. Without what a record merely lacks.
pub fn judge(view: &View) -> Vec<String> {
    let mut problems = Problems::default();
    if let Some(conf) = &view.config {
        let peers = believed(view, &conf.value, None, &mut problems);
        super::judge(&conf.value, &peers, &mut problems);
    }
    problems.into_iter().collect()
}

/// The nodes but `local`, longest registered first, with what may be believed of their records.
fn believed<'a>(view: &'a View, conf: &ClusterConf, local: Option<&Local>, problems: &mut Problems) -> Vec<Peer<'a>> {
    let mut blocks = believed_blocks(view, conf, local, problems);
    let mut others: Vec<_> = view.nodes.iter().filter(|(name, _)| !is_local(local, name)).collect();
    others.sort_by_key(|(name, record)| (record.created, *name));
    let mut claimed = HashMap::with_capacity(others.len());
    let mut peers = Vec::with_capacity(others.len());
    for (name, record) in others {
        let blocks = blocks.remove(name).unwrap_or_default();
        match check_underlay(name, &record.value, conf, local) {
            Ok(()) => note_shared_address(name, &record.value.underlay, &mut claimed, problems),
            Err(problem) => {
                problems.report(problem);
                continue;
            }
        }
        peers.push(peer(name, record, blocks, problems));
    }
    peers
}

fn is_local(local: Option<&Local>, name: &NodeName) -> bool {
    local.is_some_and(|local| local.name == *name)
}

/// The other nodes' blocks by owner. Of two that overlap, the older record is right: etcd refuses the younger's claim,
/// so that one was written by other means. An overlap with a block that the view gives to this node is never believed;
/// one with a block that only the node's own store knows is, since that one is lost, or its record is still to come and no
/// other can lie across it.
fn believed_blocks<'a>(
    view: &'a View,
    conf: &ClusterConf,
    local: Option<&Local>,
    problems: &mut Problems,
) -> HashMap<&'a NodeName, Vec<Block>> {
    let mut believed: HashMap<_, Vec<Block>> = view.nodes.keys().map(|name| (name, Vec::new())).collect();
    let mut held = Ranges::default();
    let (own, mut others): (Vec<_>, Vec<_>) =
        view.blocks.iter().partition(|(_, record)| is_local(local, &record.value.node));
    for (block, record) in own {
        // That one overlaps another of ours is no matter here: both are ours.
        held.insert(block.cidr(), &record.value.node).ok();
    }
    others.sort_by_key(|(block, record)| (record.created, **block));
    for (block, record) in others {
        let owner = &record.value.node;
        let Some(blocks) = believed.get_mut(owner) else { continue };
        if !conf.pools.iter().any(|pool| contains(pool.cidr, block.cidr())) {
            problems.report(format!("block {block} of node {owner} lies in no pool: no route leads to it"));
        } else if let Err(holder) = held.insert(block.cidr(), owner) {
            problems.report(format!(
                "block {block} of node {owner} overlaps a block of node {holder}: no route leads to {owner}'s"
            ));
        } else {
            blocks.push(*block);
        }
    }
    believed
}

fn report_orphans(view: &View, problems: &mut Problems) {
    let mut orphans: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for (block, record) in view.blocks.iter().filter(|(_, record)| !view.nodes.contains_key(&record.value.node)) {
        orphans.entry(&record.value.node).or_default().insert(block.to_string());
    }
    for (owner, blocks) in orphans {
        let blocks = blocks.into_iter().collect::<Vec<_>>().join(", ");
        problems.report(format!("node {owner} has no record: its blocks are unreachable: {blocks}"));
    }
}

fn contains(pool: IpNetwork, block: IpNetwork) -> bool {
    pool.contains(block.ip()) && block.prefix() >= pool.prefix()
}

/// Refuses a node whose underlay address nobody can send to, or that is ours, or lies in a pool: a tunnel's outer packet
/// would go into the tunnel again.
fn check_underlay(
    name: &NodeName,
    record: &NodeRecord,
    conf: &ClusterConf,
    local: Option<&Local>,
) -> Result<(), String> {
    let ours = local.map(|local| local.underlay.ends()).unwrap_or_default();
    for (family, end) in [(Family::V4, record.underlay.ipv4), (Family::V6, record.underlay.ipv6)] {
        let Some(end) = end else { continue };
        let address = end.ip();
        let pool = conf.pools.iter().find(|pool| pool.cidr.contains(address));
        let fault = if Family::of(address) != family {
            "is of the other family".to_owned()
        } else if !is_unicast(address) {
            "is no address of a machine".to_owned()
        } else if family.underlay(&ours) == Some(address) {
            "is this node's own".to_owned()
        } else if let Some(pool) = pool {
            format!("lies in the pool {}", pool.name)
        } else {
            continue;
        };
        return Err(format!("node {name} is left out: its underlay address {address} {fault}"));
    }
    Ok(())
}

/// Whether packets can be sent to one machine by this address from any link.
fn is_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !(v4.is_multicast() || v4.is_loopback() || v4.octets()[0] == 0 || v4 == Ipv4Addr::BROADCAST),
        IpAddr::V6(v6) => {
            !(v6.is_multicast()
                || v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_unicast_link_local()
                || v6.to_ipv4_mapped().is_some())
        }
    }
}

/// Two nodes with one underlay address are reported and both kept: a dead node's record has no end of its own, and its
/// address may long be a new machine's. Keeping both does no harm, since a VTEP drops frames for another's MAC, and a node
/// refuses plain packets for blocks that are not its own, while leaving either out would let a record cut off the node that
/// it names.
fn note_shared_address<'a>(
    name: &'a NodeName,
    ends: &Underlay,
    claimed: &mut HashMap<IpAddr, &'a NodeName>,
    problems: &mut Problems,
) {
    for address in Family::ALL.into_iter().filter_map(|family| family.underlay(ends)) {
        if let Some(other) = claimed.insert(address, name) {
            problems.report(format!(
                "nodes {other} and {name} both give {address} as their underlay address: one of the records is wrong, \
                 or one of the nodes is gone and should be deleted"
            ));
        }
    }
}

fn peer<'a>(
    name: &'a NodeName,
    record: &'a Versioned<NodeRecord>,
    blocks: Vec<Block>,
    problems: &mut Problems,
) -> Peer<'a> {
    let mut tunnel = record.value.tunnel.clone();
    for family in Family::ALL {
        let Some(address) = family.tunnel(&tunnel) else { continue };
        if blocks.iter().any(|block| block.contains(address)) {
            continue;
        }
        problems
            .report(format!("the tunnel address {address} of node {name} is in no block of that node: it is not used"));
        match family {
            Family::V4 => tunnel.ipv4 = None,
            Family::V6 => tunnel.ipv6 = None,
        }
    }
    Peer { name, record: &record.value, tunnel, blocks, new: record.created == record.modified }
}

/// Counts how often a peer is looked at, for the test that work grows with the cluster and not with its square.
#[cfg(test)]
pub(crate) mod count {
    use std::cell::Cell;

    thread_local! { static VISITS: Cell<usize> = const { Cell::new(0) }; }

    pub(super) fn visit() {
        VISITS.set(VISITS.get() + 1);
    }

    /// How many since the last call, on this thread.
    pub(crate) fn take() -> usize {
        VISITS.take()
    }
}

#[cfg(not(test))]
mod count {
    #[inline]
    pub(super) fn visit() {}
}
