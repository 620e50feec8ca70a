//! The peers of the configuration, as one node has them.

use std::collections::HashMap;
use std::net::IpAddr;

use twill_cluster::record::NodeRecord;
use twill_conf::cluster::{self, Asn, Bgp, Distance};

use super::{Exchange, Export, HopLimit, Hops, Import, Kind, LeftAlone, Peering, RemoteAs, Session, Who};
use crate::backend::{Problems, Site};
use crate::family::Family;

/// The routers that this node speaks with, and those that it leaves alone. An address is spoken to once: by `nodes`, or else by the first
/// peer that has it.
pub(super) fn peerings(
    site: &Site,
    bgp: &Bgp,
    own: &NodeRecord,
    nodes: &[Peering],
    problems: &mut Problems,
) -> (Vec<Peering>, Vec<LeftAlone>) {
    let asn = bgp.asn_of(&site.name, &own.labels);
    let ends = site.underlay.ends();
    let is_own = |address: IpAddr| Family::of(address).underlay(&ends) == Some(address);
    let mut taken: HashMap<IpAddr, String> = HashMap::new();
    for peering in nodes {
        if let Who::Node(name) = &peering.who {
            taken.insert(peering.session.address, format!("node {name}"));
        }
    }
    let (mut found, mut left_alone) = (Vec::new(), Vec::new());
    for peer in bgp.peers.iter().filter(|peer| peer.nodes.are(&site.name, &own.labels)) {
        let alone = |why: String| LeftAlone { who: Who::Router(peer.name.clone()), address: peer.address, why };
        // A peer of all nodes may be one of them.
        if is_own(peer.address) {
            left_alone.push(alone("its address is this node's own".to_owned()));
            continue;
        }
        let name = format!("the BGP peer {:?}", peer.name.as_str());
        if let Some(other) = taken.get(&peer.address) {
            problems.report(format!("{name} has the address of {other}, {}: it is left out", peer.address));
            left_alone.push(alone(format!("its address is that of {other}")));
            continue;
        }
        taken.insert(peer.address, name.clone());
        let external = peer.asn.is_external(asn);
        if let Some(local_as) = peer.local_as.filter(|_| !external) {
            problems.report(format!("{name} is of this node's AS, {asn}: it is told that one, and not {local_as}"));
        }
        found.push(Peering {
            who: Who::Router(peer.name.clone()),
            session: session(peer, asn, external),
            exchange: exchange(peer, external),
        });
    }
    (found, left_alone)
}

fn session(peer: &cluster::Peer, asn: Asn, external: bool) -> Session {
    let hops = if matches!(peer.distance, Distance::Routed(_)) { Hops::Multiple } else { Hops::Single };
    Session {
        address: peer.address,
        port: peer.port,
        source: peer.source,
        remote: match peer.asn {
            cluster::PeerAs::Number(number) => RemoteAs::Is(number),
            cluster::PeerAs::Internal => RemoteAs::Is(asn),
            cluster::PeerAs::External => RemoteAs::AnyBut(asn),
        },
        local_as: peer.local_as.filter(|_| external).unwrap_or(asn),
        kind: if external { Kind::External(hops) } else { Kind::Internal },
        hop_limit: match peer.distance {
            Distance::Guarded => HopLimit::Guarded,
            Distance::Usual if external => HopLimit::Guarded,
            // As routers speak to a neighbour that they do not guard against.
            Distance::Unguarded if external => HopLimit::Sent(1),
            // It may guard itself.
            Distance::Usual | Distance::Unguarded => HopLimit::Sent(u8::MAX),
            Distance::Routed(limit) => HopLimit::Sent(limit),
        },
        passive: peer.passive,
        link: peer.link.clone(),
    }
}

fn exchange(peer: &cluster::Peer, external: bool) -> Exchange {
    let import = match (&peer.import, external) {
        (Some(filter), _) => Import::Filter(filter.clone()),
        (None, true) => Import::Nothing,
        (None, false) => Import::Pools,
    };
    let export = match (&peer.export, external) {
        (Some(filter), _) => Export::Filter(filter.clone()),
        (None, true) => Export::Nothing,
        (None, false) => Export::All,
    };
    Exchange {
        import,
        export,
        transit: peer.transit || !external,
        next_hop_self: peer.next_hop_self && !external,
        max_prefixes: peer.max_prefixes,
    }
}
