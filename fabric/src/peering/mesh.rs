//! Sessions between nodes: all with all, or clients with reflectors.

use std::collections::HashSet;

use twill_cluster::record::NodeRecord;
use twill_conf::NodeName;
use twill_conf::cluster::{Asn, Bgp, Link};

use super::{Exchange, Export, HopLimit, Import, Kind, Peering, RemoteAs, Session, Who};
use crate::backend::{Peer, Problems, Roll, Site, some_of};
use crate::family::Family;
use crate::native;

/// How the nodes of one AS are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Not at all.
    Apart,
    /// Each with each.
    Meshed,
    /// Clients with reflectors, and these with each other.
    Reflected,
}

impl Order {
    /// That of the nodes of an AS. As long as no node is a reflector, a mesh that is wished for is a full one: a cluster stays whole
    /// while nodes are given their labels.
    pub fn of(bgp: &Bgp, any_reflector: bool) -> Self {
        match (any_reflector, bgp.mesh) {
            (true, _) => Self::Reflected,
            (false, true) => Self::Meshed,
            (false, false) => Self::Apart,
        }
    }

    /// What a node is to another one, where they have a session. Each says whether it is a reflector.
    fn kind(self, own: bool, other: bool) -> Option<Kind> {
        match (self, own, other) {
            (Self::Apart, ..) | (Self::Reflected, false, false) => None,
            (Self::Reflected, true, false) => Some(Kind::Client),
            (Self::Meshed, ..) | (Self::Reflected, _, true) => Some(Kind::Internal),
        }
    }
}

/// Whether a node is a reflector.
pub(super) fn reflects(bgp: &Bgp, name: &NodeName, record: &NodeRecord) -> bool {
    bgp.reflectors.as_ref().is_some_and(|reflectors| reflectors.nodes.are(name, &record.labels))
}

/// The other nodes that this one speaks with.
pub(super) fn peerings(site: &Site, roll: &Roll, bgp: &Bgp, own: &NodeRecord, problems: &mut Problems) -> Vec<Peering> {
    let asn = bgp.asn_of(&site.name, &own.labels);
    let of_asn = |peer: &&Peer| bgp.asn_of(&peer.name, &peer.record().labels) == asn;
    let peers: Vec<_> = roll
        .by_seniority()
        .into_iter()
        .filter(of_asn)
        .map(|peer| (peer, reflects(bgp, &peer.name, peer.record())))
        .collect();
    let own = reflects(bgp, &site.name, own);
    let order = Order::of(bgp, own || peers.iter().any(|(_, reflects)| *reflects));
    let (mut found, mut apart, mut taken) = (Vec::new(), Vec::new(), HashSet::with_capacity(peers.len()));
    for (peer, reflects) in peers {
        let Some(kind) = order.kind(own, reflects) else { continue };
        match session(site, bgp, asn, peer, kind) {
            // Of two records with one address the older counts, whoever is there by now: it is the same session.
            Some(session) if !taken.insert(session.address) => {}
            Some(session) => found.push(Peering { who: Who::Node(peer.name.clone()), session, exchange: exchange() }),
            // Of a node that only just registered, the address may still come.
            None if peer.is_new() => {}
            None => apart.push(&peer.name),
        }
    }
    if !apart.is_empty() {
        let names = some_of(apart.into_iter());
        problems.report(format!("no BGP with {names}: this node has no underlay address of a family that they have"));
    }
    found
}

/// By addresses on one subnet where there are such, else by those of the first family that both have.
fn session(site: &Site, bgp: &Bgp, asn: Asn, peer: &Peer, kind: Kind) -> Option<Session> {
    // The other side takes a session from no address that it does not know.
    let (ends, theirs) = (&site.ends, &peer.record().underlay);
    let on_link = native::reached(ends, theirs, Family::V4);
    let routed = || Family::common(ends, theirs)?.underlay(theirs);
    let address = on_link.or_else(routed)?;
    Some(Session {
        address,
        port: bgp.port,
        source: Family::of(address).underlay(ends),
        remote: RemoteAs::Is(asn),
        local_as: asn,
        kind,
        // Without the guard it is the same for the other side, which may not know yet that there is none.
        hop_limit: if on_link.is_some() { HopLimit::Guarded } else { HopLimit::Sent(u8::MAX) },
        passive: false,
        link: Link { bfd: bgp.link.bfd.filter(|_| on_link.is_some()), ..bgp.link.clone() },
    })
}

fn exchange() -> Exchange {
    Exchange { import: Import::Pools, export: Export::All, transit: true, next_hop_self: false, max_prefixes: None }
}
