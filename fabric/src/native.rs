//! Plain routes: what `host-gw` is, and what `direct` adds to VXLAN. A packet goes to another node as the pod sent it, by that
//! node's underlay address, which must be on a subnet of ours: a router between would know nothing of pods.
//!
//! **Nothing has to stand to receive.** Every node forwards, and filters reverse paths loosely at most ([`crate::node`]), whatever its
//! back end; so a plain packet is understood at any time, and this is what a switch of back ends goes by.
//!
//! IPv4 may travel by an IPv6 address of the other node (RFC 9229), where the nodes have no IPv4; not the other way round.
//! The node's own packets have its underlay address, by the kernel's choice. Pods reach the nodes themselves by their own addresses:
//! the reply comes back by the same way, so those nodes are not masqueraded.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use twill_cluster::record::Underlay;
use twill_conf::NodeName;
use twill_linux::state::{KernelState, METRIC, PROTOCOL_CLUSTER, Route, RouteKey, Target};

use crate::Local;
use crate::backend::{self, Backend, Part, Peer, Problems, Roll, Site, Way};
use crate::family::Family;

/// The back end of plain routes.
#[derive(Debug, Clone, Copy)]
pub struct Native;

impl Backend for Native {
    fn stand(&self, _: &Site, _: &Local, _: &BTreeSet<Family>, _: &mut Problems) -> KernelState {
        KernelState::default()
    }

    fn receive(&self, _: &Site, _: &Roll, _: &Peer, _: &mut Part) {}

    fn send(&self, site: &Site, _: &Roll, peer: &Peer, part: &mut Part) {
        for block in &peer.blocks {
            let family = Family::of_prefix(block.cidr());
            if !site.uses(family) {
                continue;
            }
            match site.way(peer, family) {
                Some(Way::Native) => {}
                Some(Way::Tunnel | Way::Learned) => continue,
                None => {
                    part.problems.report(apart(peer, family));
                    continue;
                }
            }
            let Some(gateway) = gateway(site, peer, family) else { continue };
            let Some(side) = site.underlay.side(Family::of(gateway)) else { continue };
            let device = side.device;
            part.routes.push(Route {
                key: RouteKey { destination: block.cidr(), metric: METRIC },
                protocol: PROTOCOL_CLUSTER,
                target: Target::Gateway { gateway, device, onlink: false },
                source: None,
            });
            // An address that is proven by nothing but the record is not taken for a node's.
            part.native.insert(gateway);
        }
    }

    fn judge(&self, peers: &[&Peer], families: &BTreeSet<Family>, problems: &mut Problems) {
        let nodes: Vec<_> = peers.iter().map(|peer| (&peer.name, &peer.record().underlay)).collect();
        for family in families {
            let names = strangers(&nodes, *family);
            if !names.is_empty() {
                problems.report(format!(
                    "host-gw reaches only nodes on the same subnet, and for {family} these are not on that of the others: {}: \
                     give them addresses there, or take vxlan, which may have direct = true",
                    backend::some_of(names.into_iter())
                ));
            }
        }
    }

    fn overhead(&self, _: Family) -> u32 {
        0
    }
}

/// The address of a peer by which packets of a family can go to it as they are; `None` where the nodes are not on one subnet.
pub fn gateway(site: &Site, peer: &Peer, family: Family) -> Option<IpAddr> {
    reached(&site.underlay.ends(), &peer.record().underlay, family)
}

/// The same, from these addresses to those.
pub(crate) fn reached(ours: &Underlay, theirs: &Underlay, family: Family) -> Option<IpAddr> {
    let both = |here: Option<IpNetwork>, there: Option<IpNetwork>| {
        let (here, there) = (here?, there?);
        (here.contains(there.ip()) && there.contains(here.ip())).then_some(there.ip())
    };
    let ipv6 = || both(ours.ipv6, theirs.ipv6);
    match family {
        Family::V4 => both(ours.ipv4, theirs.ipv4).or_else(ipv6),
        Family::V6 => ipv6(),
    }
}

/// The nodes that cannot exchange packets of a family, as they are, with those that most nodes can. One node of each subnet is
/// asked whom it reaches.
pub fn strangers<'n>(nodes: &[(&'n NodeName, &Underlay)], family: Family) -> Vec<&'n NodeName> {
    let place = |ends: &Underlay| [ends.ipv4, ends.ipv6].map(|end| end.map(|end| (end.network(), end.prefix())));
    let places: BTreeMap<_, _> = nodes.iter().map(|(_, ends)| (place(ends), *ends)).collect();
    let apart = |ends: &Underlay| -> Vec<&'n NodeName> {
        let unreached = nodes.iter().filter(|(_, other)| *other != ends && reached(ends, other, family).is_none());
        unreached.map(|(name, _)| *name).collect()
    };
    places.into_values().map(apart).min_by_key(Vec::len).unwrap_or_default()
}

/// Why there is no way to a peer.
fn apart(peer: &Peer, family: Family) -> String {
    let ends = &peer.record().underlay;
    let addresses: Vec<String> = ends.ipv4.iter().chain(&ends.ipv6).map(ToString::to_string).collect();
    let (name, addresses) = (&peer.name, addresses.join(" and "));
    match family {
        Family::V6 if ends.ipv6.is_none() => {
            format!("node {name} has no IPv6 underlay address: host-gw cannot reach its IPv6 blocks")
        }
        _ => format!("node {name} ({addresses}) is not on this node's subnet: host-gw does not reach it"),
    }
}
