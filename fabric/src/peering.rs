//! Whom this node speaks BGP with, and what it tells whom: a pure function of the view and of what this node observes of itself.
//!
//! Beside the configuration it goes by the other nodes' records, as far as they can be believed ([`Roll`]). It is made anew at
//! every change; who owns the sessions compares it with what was before. A [`Session`] that is another one now has to be begun
//! anew, for an [`Exchange`] that is another one a route refresh is enough.
//!
//! What it promises: of two nodes that see the same view, each has the other for a peer or neither has; and the nodes of an AS that are
//! meshed have a session with each other, or both with every reflector.
//!
//! **Own blocks are told to everyone inside of the AS, whatever the back end.** Under `bgp` that is the back end. Under another one
//! nobody routes by it; but a node that speaks for others to a router has to know their blocks, and a switch of a running cluster to
//! `bgp` finds them learned, so that there is a route before the other one goes. Outside of the AS only pools with `announce` are told.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;
use twill_cluster::View;
use twill_cluster::record::{NodeRecord, Underlay};
use twill_conf::cluster::{self, Asn, Bgp, Community, Filter, GracefulRestart, Link, Pool};
use twill_conf::digest::digest;
use twill_conf::{NodeName, PeerName};
use twill_ipam::Block;

use crate::Local;
use crate::backend::{Peer, Problems, Roll, Site, Terms};

mod mesh;
mod notes;
mod routers;

pub use notes::{Note, notes};

/// What this node is, as BGP sees it, and all that it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Speaker {
    /// Its AS.
    pub asn: Asn,
    /// Its BGP identifier.
    pub router_id: Ipv4Addr,
    /// What it calls itself where it reflects, which it does if any peer is a client; else its BGP identifier. What has this in its
    /// CLUSTER_LIST is a loop to it.
    pub cluster_id: Ipv4Addr,
    /// The TCP port on which it listens.
    pub port: u16,
    /// Whether it asks its peers to keep its routes over a restart, and keeps theirs.
    pub graceful_restart: GracefulRestart,
    /// Whether it is about to go: it is to be preferred to nobody (RFC 8326).
    pub shutdown: bool,
    /// Its peers, nodes first. No two have the same address.
    pub peerings: Vec<Peering>,
    /// Peers that there is no session with, and why.
    pub left_alone: Vec<LeftAlone>,
    /// What it announces by itself, by prefix: each once.
    pub announced: Vec<Announced>,
    /// What an operator should know, a sentence each.
    pub problems: Vec<String>,
}

/// A peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peering {
    /// Which one.
    pub who: Who,
    /// By what the session goes.
    pub session: Session,
    /// What is taken and given.
    pub exchange: Exchange,
}

/// A peer of the configuration that this node does not speak with, although it is one of those that are to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftAlone {
    /// Which one.
    pub who: Who,
    /// Its address.
    pub address: IpAddr,
    /// Why not.
    pub why: String,
}

/// Who a peer is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// Another node.
    Node(NodeName),
    /// A router of the configuration.
    Router(PeerName),
}

/// What makes a session: where any of it changes, it is another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The peer's address.
    pub address: IpAddr,
    /// Its TCP port.
    pub port: u16,
    /// Our address, of the same family. `None`: that of the route.
    pub source: Option<IpAddr>,
    /// Which AS its OPEN must name.
    pub remote: RemoteAs,
    /// The AS that ours names.
    pub local_as: Asn,
    /// What it is to us.
    pub kind: Kind,
    /// The hop limit (TTL) of packets.
    pub hop_limit: HopLimit,
    /// Whether it is waited for, and not called.
    pub passive: bool,
    /// Timers, the file with the password, BFD.
    pub link: Link,
}

/// The AS of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteAs {
    /// This one.
    Is(Asn),
    /// Any but this one, which is ours.
    AnyBut(Asn),
}

/// What a peer is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Of the same AS.
    Internal,
    /// Of the same AS, and what others say is reflected to it (RFC 4456).
    Client,
    /// Of another AS.
    External(Hops),
}

/// How far an external peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hops {
    /// On a link of ours.
    Single,
    /// Behind routers.
    Multiple,
}

/// The hop limit of a session's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HopLimit {
    /// They are sent with 255, and those that come with less are dropped: they crossed a router (RFC 5082).
    Guarded,
    /// They are sent with this; nothing is asked of those that come.
    Sent(u8),
}

/// What is taken of a peer and given to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// What is taken.
    pub import: Import,
    /// What is given, of what it may be given at all ([`Peering::may_be_told`], and `transit`).
    pub export: Export,
    /// Whether an external peer is also offered what was learned of others. An internal one is, by the rules of internal BGP.
    pub transit: bool,
    /// Whether an internal peer is told this node as the next hop of all routes, and not only of those of external peers.
    pub next_hop_self: bool,
    /// So many prefixes of each family may it announce.
    pub max_prefixes: Option<u32>,
}

/// What is taken of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Import {
    /// What lies in the pools.
    Pools,
    /// Nothing (RFC 8212).
    Nothing,
    /// What this accepts. A default route only where [`Filter::names_default`].
    Filter(Filter),
}

/// What is given to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Export {
    /// Everything.
    All,
    /// Nothing (RFC 8212).
    Nothing,
    /// What this accepts.
    Filter(Filter),
}

/// A prefix that this node announces by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    /// The prefix.
    pub prefix: IpNetwork,
    /// What is said with it.
    pub communities: Vec<Community>,
    /// Who may be told.
    pub to: Audience,
}

/// Who may be told of a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// All.
    Everyone,
    /// Peers of the own AS.
    Inside,
    /// Routers of the configuration, of whatever AS; other nodes not.
    Routers,
}

impl Peering {
    /// Whether this peer may be told of a prefix that the node announces by itself; its export filter is asked then.
    pub fn may_be_told(&self, announced: &Announced) -> bool {
        match announced.to {
            Audience::Everyone => true,
            Audience::Inside => !matches!(self.session.kind, Kind::External(_)),
            Audience::Routers => matches!(self.who, Who::Router(_)),
        }
    }
}

/// What is known of the other nodes, kept from view to view.
#[derive(Debug, Default)]
pub struct Peerings {
    roll: Roll,
}

impl Peerings {
    /// What this node is to say, and to whom. `None` without `[bgp]`, and until the node is registered. What is wrong with the
    /// others' records is told by who programs the kernel.
    pub fn speaker(&mut self, view: &View, local: &Local) -> Option<Speaker> {
        let conf = &view.config.as_ref()?.value;
        let bgp = conf.bgp.as_ref()?;
        let own = &view.nodes.get(&local.name)?.value;
        self.roll.follow(view, &Terms::new(conf, Some(local)));
        let site = Site::new(conf, local, Some(own), &self.roll);
        Some(speaker(&site, &self.roll, bgp, own, view.blocks_of(&local.name)))
    }
}

fn speaker(site: &Site, roll: &Roll, bgp: &Bgp, own: &NodeRecord, blocks: impl Iterator<Item = Block>) -> Speaker {
    let mut problems = Problems::default();
    let asn = bgp.asn_of(&site.name, &own.labels);
    let router_id = router_id(bgp, &site.name, own, &site.underlay.ends());
    report_twin(roll, bgp, router_id, &mut problems);
    let announced = announced(site, bgp, blocks, own);
    report_unreached(site, &announced, &mut problems);
    let mut peerings = mesh::peerings(site, roll, bgp, own, &mut problems);
    let (routers, left_alone) = routers::peerings(site, bgp, own, &peerings, &mut problems);
    peerings.extend(routers);
    // Of a client it is not the cluster: it would take what its reflectors tell it for a loop.
    let reflects = mesh::reflects(bgp, &site.name, own);
    let cluster_id = bgp.reflectors.as_ref().filter(|_| reflects).and_then(|reflectors| reflectors.cluster_id);
    Speaker {
        asn,
        router_id,
        cluster_id: cluster_id.unwrap_or(router_id),
        port: bgp.port,
        graceful_restart: bgp.graceful_restart,
        shutdown: bgp.is_shut_down(&site.name, &own.labels),
        peerings,
        left_alone,
        announced,
        problems: problems.into_iter().collect(),
    }
}

/// What a node announces by itself.
fn announced(site: &Site, bgp: &Bgp, blocks: impl Iterator<Item = Block>, own: &NodeRecord) -> Vec<Announced> {
    let holds =
        |pool: &Pool, block: Block| pool.cidr.prefix() <= block.cidr().prefix() && pool.cidr.contains(block.first());
    let block = |block: Block| {
        let pool = site.conf.pools.iter().find(|pool| holds(pool, block))?;
        let to = if pool.announce { Audience::Everyone } else { Audience::Inside };
        Some(Announced { prefix: block.cidr(), communities: Vec::new(), to })
    };
    let mut found: BTreeMap<IpNetwork, Announced> =
        blocks.filter_map(block).map(|announced| (announced.prefix, announced)).collect();
    for extra in bgp.announcements.iter().filter(|extra| extra.nodes.are(&site.name, &own.labels)) {
        let said = Announced { prefix: extra.prefix, communities: extra.communities.clone(), to: Audience::Routers };
        // A pool of one block: it is told as the block that it is, and as what was asked for.
        let known = found.entry(extra.prefix).or_insert_with(|| said.clone());
        if known.to != Audience::Routers {
            *known = Announced { to: Audience::Everyone, ..said };
        }
    }
    found.into_values().collect()
}

/// The BGP identifier of a node: what is written, or its IPv4 address, or else a number that follows from its name.
fn router_id(bgp: &Bgp, name: &NodeName, record: &NodeRecord, ends: &Underlay) -> Ipv4Addr {
    let underlay = || match ends.address(false) {
        Some(IpAddr::V4(address)) => Some(address),
        _ => None,
    };
    let derived = || {
        let [first, second, third, fourth, ..] = digest(&["bgp router id", name.as_str()]);
        // As an address of a machine (1 to 126 first), which is what some routers ask of it.
        Ipv4Addr::new(1 + first % 126, second, third, fourth)
    };
    bgp.router_id_of(name, &record.labels).or_else(underlay).unwrap_or_else(derived)
}

/// Two speakers of one identifier have no session with each other, and take each other's routes for their own.
fn report_twin(roll: &Roll, bgp: &Bgp, router_id: Ipv4Addr, problems: &mut Problems) {
    let same = |peer: &&Peer| self::router_id(bgp, &peer.name, peer.record(), &peer.record().underlay) == router_id;
    let twins: Vec<_> = roll.peers().filter(same).map(|peer| &peer.name).collect();
    if !twins.is_empty() {
        let twins = crate::backend::some_of(twins.into_iter());
        problems.report(format!(
            "{twins} and this node have the router ID {router_id}: give each one of its own by router_id in [[bgp.node]]"
        ));
    }
}

/// A link-local address is no next hop, and IPv6 does not go by IPv4 as IPv4 goes by IPv6.
fn report_unreached(site: &Site, announced: &[Announced], problems: &mut Problems) {
    let is_meant = |announced: &Announced| announced.prefix.is_ipv6() && announced.to != Audience::Routers;
    let under_bgp = site.conf.backend.kind == cluster::Kind::Bgp;
    if under_bgp && site.underlay.ipv6.is_none() && announced.iter().any(is_meant) {
        let what = "this node has no IPv6 underlay address, so that its IPv6 blocks have no next hop: nobody reaches them by BGP";
        problems.report(format!("{what}; give its interface a global IPv6 address, or take vxlan"));
    }
}

#[cfg(test)]
mod tests;
