//! Plain routes: what `host-gw` is, and what `direct` adds to VXLAN. A packet goes to another node as the pod sent it, by that
//! node's underlay address, which must be on a subnet of ours: a router between would know nothing of pods.
//!
//! **Nothing has to stand to receive.** Every node forwards, and filters reverse paths loosely ([`crate::node`]), whatever its back
//! end; so a plain packet is understood at any time, and this is what a switch of back ends goes by.
//!
//! IPv4 may travel by an IPv6 address of the other node (RFC 9229), where the nodes have no IPv4; not the other way round.
//! The node's own packets have its underlay address, by the kernel's choice. Pods reach the nodes themselves by their own addresses:
//! the reply comes back by the same way, so those nodes are not masqueraded.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use twill_linux::state::{KernelState, METRIC, PROTOCOL_CLUSTER, Route, RouteKey, Target};

use crate::Local;
use crate::backend::{Backend, Cluster, Peer, Problems, Sending, Way};
use crate::family::Family;

/// The back end of plain routes.
#[derive(Debug, Clone, Copy)]
pub struct Native;

impl Backend for Native {
    fn receive(&self, _: &Cluster<'_>, _: &mut Problems) -> KernelState {
        KernelState::default()
    }

    fn send(&self, cluster: &Cluster<'_>, problems: &mut Problems) -> Sending {
        let mut sending = Sending::default();
        for peer in cluster.peers() {
            for block in &peer.blocks {
                let family = Family::of_prefix(block.cidr());
                match cluster.way(peer, family) {
                    Some(Way::Native) => {}
                    Some(Way::Tunnel) => continue,
                    None => {
                        problems.report(apart(peer, family));
                        continue;
                    }
                }
                let Some(gateway) = gateway(cluster.local, peer, family) else { continue };
                let Some(side) = cluster.local.underlay.side(Family::of(gateway)) else { continue };
                let device = side.device;
                Route {
                    key: RouteKey { destination: block.cidr(), metric: METRIC },
                    protocol: PROTOCOL_CLUSTER,
                    target: Target::Gateway { gateway, device, onlink: false },
                    source: None,
                }
                .insert_into(&mut sending.state.routes);
                sending.native.extend(family.underlay(&peer.record.underlay));
            }
        }
        sending
    }

    fn judge(&self, peers: &[Peer<'_>], problems: &mut Problems) {
        let mut places: BTreeMap<IpNetwork, Vec<&str>> = BTreeMap::new();
        for peer in peers {
            let ends = &peer.record.underlay;
            let Some(end) = ends.ipv4.or(ends.ipv6) else { continue };
            places.entry(network(end)).or_default().push(peer.name.as_str());
        }
        if places.len() > 1 {
            let told = places.iter().map(|(network, names)| format!("{} on {network}", some_of(names)));
            problems.report(format!(
                "host-gw reaches only nodes on the same subnet, and they are on {}: {}",
                places.len(),
                told.collect::<Vec<_>>().join("; ")
            ));
        }
    }

    fn overhead(&self, _: Family) -> u32 {
        0
    }
}

/// The address of a peer by which packets of a family can go to it as they are; `None` where the nodes are not on one subnet.
pub fn gateway(local: &Local, peer: &Peer<'_>, family: Family) -> Option<IpAddr> {
    let (ours, theirs) = (local.underlay.ends(), &peer.record.underlay);
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

/// Why there is no way to a peer.
fn apart(peer: &Peer<'_>, family: Family) -> String {
    let ends = &peer.record.underlay;
    let addresses: Vec<String> = ends.ipv4.iter().chain(&ends.ipv6).map(ToString::to_string).collect();
    let (name, addresses) = (peer.name, addresses.join(" and "));
    match family {
        Family::V6 if ends.ipv6.is_none() => {
            format!("node {name} has no IPv6 underlay address: host-gw cannot reach its IPv6 blocks")
        }
        _ => format!("node {name} ({addresses}) is not on this node's subnet: host-gw does not reach it"),
    }
}

fn network(end: IpNetwork) -> IpNetwork {
    IpNetwork::new(end.network(), end.prefix()).expect("a network has the length that it had")
}

/// How many names stand in a sentence.
const NAMED: usize = 3;

fn some_of(names: &[&str]) -> String {
    let first = names[..names.len().min(NAMED)].join(", ");
    match names.len().checked_sub(NAMED) {
        None | Some(0) => first,
        Some(more) => format!("{first} and {more} more"),
    }
}
