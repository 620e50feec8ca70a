//! The other nodes, as far as their records may be believed, kept from view to view.
//!
//! Anyone who may write one node's record may write nonsense, by malice or mistake, so a record is taken for what it can
//! prove. A block is believed if it lies in a pool and overlaps no older one ([`Claims`]); a tunnel address, if it lies in a block
//! of its node; an underlay address, if packets can be sent to it at all without coming back to us or into a pool
//! ([`Peer::believed`]). Whoever breaks a rule is left out and named, and nobody else suffers; where it is about something of this
//! node, this node wins.
//!
//! **A change is as much work as it changes.** Views share what they have in common, so what differs from the last one is found
//! without a look at the rest, and a record can matter only to its node, to those whose blocks overlap its own, and to those that
//! give the same address or MAC: only they are judged anew. What comes out is the same as of a roll that begins with this view.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use imbl::OrdMap;
use ipnetwork::IpNetwork;
use twill_cluster::View;
use twill_cluster::record::{BlockRecord, NodeRecord, Underlay, Versioned};
use twill_cluster::view::differences;
use twill_conf::cluster::ClusterConf;
use twill_conf::{NodeName, PoolName};
use twill_ipam::Block;
use twill_linux::MacAddr;

use super::claims::{Claim, Claims};
use super::peer::{Peer, Seniority};
use crate::Local;
use crate::tally::Tally;

/// What records are judged by, beside each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    pub(super) pools: Vec<(PoolName, IpNetwork)>,
    /// This node and its addresses, where it is one of the cluster that looks.
    pub(super) local: Option<(NodeName, Underlay)>,
}

impl Terms {
    /// Those of a node; or, without one, those by which nobody has an advantage.
    pub fn new(conf: &ClusterConf, local: Option<&Local>) -> Self {
        let pools = conf.pools.iter().map(|pool| (pool.name.clone(), pool.cidr)).collect();
        Self { pools, local: local.map(|local| (local.name.clone(), local.underlay.ends())) }
    }

    fn is_local(&self, name: &NodeName) -> bool {
        self.local.as_ref().is_some_and(|(local, _)| local == name)
    }

    fn has_room_for(&self, block: Block) -> bool {
        let contains = |pool: &IpNetwork| pool.contains(block.first()) && block.cidr().prefix() >= pool.prefix();
        self.pools.iter().any(|(_, pool)| contains(pool))
    }
}

/// The other nodes.
#[derive(Debug, Default)]
pub struct Roll {
    terms: Terms,
    // As they were seen last.
    nodes: OrdMap<NodeName, Arc<Versioned<NodeRecord>>>,
    blocks: OrdMap<Block, Arc<Versioned<BlockRecord>>>,
    /// The blocks by what their records give as owner.
    owned: BTreeMap<NodeName, BTreeSet<Block>>,
    claims: Claims,
    /// Of every node that there is anything to say of, this one left out.
    entries: BTreeMap<NodeName, Entry>,
    addresses: BTreeMap<IpAddr, Group>,
    /// The addresses that several give.
    shared: BTreeSet<IpAddr>,
    macs: BTreeMap<MacAddr, Group>,
    senders: BTreeSet<Seniority>,
    /// Whose blocks are there without a record of the node.
    orphans: BTreeSet<NodeName>,
    problems: Tally<String>,
}

/// The nodes that give one address or one MAC, longest registered first: nearly always one, which is why it is no tree.
#[derive(Debug, Default)]
struct Group(Vec<Seniority>);

impl Group {
    fn insert(&mut self, one: Seniority) {
        if let Err(place) = self.0.binary_search(&one) {
            self.0.reserve_exact(1);
            self.0.insert(place, one);
        }
    }

    fn remove(&mut self, one: &Seniority) {
        if let Ok(place) = self.0.binary_search(one) {
            self.0.remove(place);
        }
    }

    fn iter(&self) -> std::slice::Iter<'_, Seniority> {
        self.0.iter()
    }
}

/// What one view has turned over.
#[derive(Debug, Default)]
struct Changed {
    nodes: BTreeSet<NodeName>,
    blocks: BTreeSet<Block>,
    macs: BTreeSet<MacAddr>,
}

/// What is made of one node's records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Entry {
    peer: Option<Arc<Peer>>,
    problems: Vec<String>,
}

impl Roll {
    /// Takes a view. The nodes of which something else may be believed now than before, whether they are peers or not.
    pub fn follow(&mut self, view: &View, terms: &Terms) -> BTreeSet<NodeName> {
        let mut changed = Changed::default();
        if self.terms != *terms {
            let before = std::mem::take(self);
            self.terms = terms.clone();
            changed.nodes.extend(before.entries.into_keys());
        }
        self.follow_blocks(view, &mut changed);
        self.follow_nodes(view, &mut changed);
        for block in &changed.blocks {
            self.claims.set(*block, self.claim(*block));
        }
        changed.nodes.extend(self.claims.settle(&changed.blocks));
        for name in &changed.nodes {
            self.enter(name, &mut changed.macs);
        }
        let groups = changed.macs.iter().filter_map(|mac| self.macs.get(mac));
        changed.nodes.extend(groups.flat_map(Group::iter).map(|(_, name)| name.clone()));
        changed.nodes
    }

    /// The believed node of that name.
    pub fn peer(&self, name: &NodeName) -> Option<&Arc<Peer>> {
        self.entries.get(name)?.peer.as_ref()
    }

    /// The believed nodes, by name.
    pub fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.entries.values().filter_map(|entry| entry.peer.as_deref())
    }

    /// The believed nodes, longest registered first.
    pub(crate) fn by_seniority(&self) -> Vec<&Peer> {
        let mut peers: Vec<_> = self.peers().collect();
        peers.sort_by_key(|peer| peer.seniority());
        peers
    }

    /// The believed nodes whose VTEPs have this MAC, longest registered first.
    pub(crate) fn with_mac(&self, mac: MacAddr) -> impl Iterator<Item = &Peer> {
        self.members(self.macs.get(&mac).into_iter().flat_map(Group::iter))
    }

    /// The believed nodes that may send by a tunnel, longest registered first.
    pub(super) fn senders(&self) -> impl Iterator<Item = &Peer> {
        self.members(&self.senders)
    }

    /// The believed nodes that say that they receive by a tunnel.
    pub(super) fn receivers(&self) -> impl Iterator<Item = &Peer> {
        self.members(self.macs.values().flat_map(Group::iter))
    }

    /// What is wrong with the nodes' records, a sentence each.
    pub(crate) fn problems(&self) -> impl Iterator<Item = String> {
        let shared = self.shared.iter().flat_map(|address| self.shared_by(*address));
        self.problems.there().iter().cloned().chain(shared)
    }

    /// Two nodes with one underlay address are reported and both kept: a dead node's record has no end of its own, and its
    /// address may long be a new machine's. Keeping both does no harm, since a VTEP drops frames for another's MAC, and a node
    /// refuses plain packets for blocks that are not its own, while leaving either out would let a record cut off the node that
    /// it names.
    fn shared_by(&self, address: IpAddr) -> impl Iterator<Item = String> {
        let older = self.addresses.get(&address).into_iter().flat_map(Group::iter);
        older.clone().zip(older.skip(1)).map(move |((_, older), (_, younger))| {
            format!(
                "nodes {older} and {younger} both give {address} as their underlay address: one of the records is wrong, or one of \
                 the nodes is gone and should be deleted"
            )
        })
    }

    /// The blocks that lead nowhere, since their nodes have no record: a sentence each node.
    pub(crate) fn orphans(&self) -> impl Iterator<Item = String> {
        self.orphans.iter().map(|name| {
            let blocks = self.owned.get(name).into_iter().flatten();
            let blocks: Vec<String> = blocks.map(ToString::to_string).collect();
            format!("node {name} has no record: its blocks are unreachable: {}", blocks.join(", "))
        })
    }

    fn members<'a>(&'a self, group: impl IntoIterator<Item = &'a Seniority>) -> impl Iterator<Item = &'a Peer> {
        group.into_iter().filter_map(|(_, name)| self.peer(name).map(Arc::as_ref))
    }

    fn follow_blocks(&mut self, view: &View, changed: &mut Changed) {
        let before = std::mem::replace(&mut self.blocks, view.blocks.clone());
        for (block, was, is) in differences(&before, &view.blocks) {
            if let Some(record) = was
                && let Some(blocks) = self.owned.get_mut(&record.value.node)
            {
                blocks.remove(block);
                if blocks.is_empty() {
                    self.owned.remove(&record.value.node);
                }
            }
            if let Some(record) = is {
                self.owned.entry(record.value.node.clone()).or_default().insert(*block);
            }
            changed.nodes.extend(was.into_iter().chain(is).map(|record| record.value.node.clone()));
            changed.blocks.insert(*block);
        }
    }

    fn follow_nodes(&mut self, view: &View, changed: &mut Changed) {
        let before = std::mem::replace(&mut self.nodes, view.nodes.clone());
        for (name, was, is) in differences(&before, &view.nodes) {
            if was.is_none() || is.is_none() {
                // What belongs to nobody is in nobody's way.
                changed.blocks.extend(self.owned.get(name).into_iter().flatten());
            }
            changed.nodes.insert(name.clone());
        }
    }

    /// What is to be judged beside other records of a block; none where it cannot be right in any case.
    ///
    /// An overlap with a block that the view gives to this node is never believed; one with a block that only the node's own
    /// store knows is, since that one is lost, or its record is still to come and no other can lie across it.
    fn claim(&self, block: Block) -> Option<Claim> {
        let record = self.blocks.get(&block)?;
        let owner = record.value.node.clone();
        let own = self.terms.is_local(&owner);
        let counts = own || (self.nodes.contains_key(&owner) && self.terms.has_room_for(block));
        counts.then_some(Claim { owner, created: record.created, own })
    }

    /// Puts what is believed of a node now in the place of what was.
    fn enter(&mut self, name: &NodeName, macs: &mut BTreeSet<MacAddr>) {
        let is_orphaned = self.owned.contains_key(name) && !self.nodes.contains_key(name);
        if is_orphaned {
            self.orphans.insert(name.clone())
        } else {
            self.orphans.remove(name)
        };
        let entry = self.judge(name);
        let before = self.entries.remove(name).unwrap_or_default();
        if entry != before {
            self.strike(&before);
            self.note(&entry);
            macs.extend([&before, &entry].into_iter().filter_map(|entry| entry.peer.as_ref()?.mac()));
        }
        if entry != Entry::default() {
            self.entries.insert(name.clone(), entry);
        }
    }

    fn judge(&self, name: &NodeName) -> Entry {
        let Some(record) = self.nodes.get(name).filter(|_| !self.terms.is_local(name)) else { return Entry::default() };
        let (mut blocks, mut problems) = (Vec::new(), Vec::new());
        for block in self.owned.get(name).into_iter().flatten().copied() {
            if !self.terms.has_room_for(block) {
                problems.push(format!("block {block} of node {name} lies in no pool: no route leads to it"));
            } else if let Err(holder) = self.claims.verdict(block) {
                problems.push(format!(
                    "block {block} of node {name} overlaps a block of node {holder}: no route leads to {name}'s"
                ));
            } else {
                blocks.push(block);
            }
        }
        let peer = match Peer::believed(name, record, blocks, &self.terms) {
            Ok((peer, faults)) => {
                problems.extend(faults);
                Some(Arc::new(peer))
            }
            Err(fault) => {
                problems.push(fault);
                None
            }
        };
        Entry { peer, problems }
    }

    fn strike(&mut self, entry: &Entry) {
        entry.problems.iter().for_each(|problem| self.problems.take(problem));
        let Some(peer) = &entry.peer else { return };
        let seniority = peer.seniority();
        self.senders.remove(&seniority);
        for address in peer.addresses() {
            leave(&mut self.addresses, address, &seniority);
            self.look_at_sharing(address);
        }
        if let Some(mac) = peer.mac() {
            leave(&mut self.macs, mac, &seniority);
        }
    }

    fn note(&mut self, entry: &Entry) {
        entry.problems.iter().for_each(|problem| self.problems.add(problem.clone()));
        let Some(peer) = &entry.peer else { return };
        let seniority = peer.seniority();
        if peer.record().tunnels() {
            self.senders.insert(seniority.clone());
        }
        for address in peer.addresses() {
            self.addresses.entry(address).or_default().insert(seniority.clone());
            self.look_at_sharing(address);
        }
        if let Some(mac) = peer.mac() {
            self.macs.entry(mac).or_default().insert(seniority);
        }
    }

    fn look_at_sharing(&mut self, address: IpAddr) {
        match self.addresses.get(&address) {
            Some(Group(nodes)) if nodes.len() > 1 => self.shared.insert(address),
            _ => self.shared.remove(&address),
        };
    }
}

fn leave<K: Ord>(groups: &mut BTreeMap<K, Group>, key: K, one: &Seniority) {
    if let Some(group) = groups.get_mut(&key) {
        group.remove(one);
        if group.0.is_empty() {
            groups.remove(&key);
        }
    }
}
