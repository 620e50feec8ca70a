//! From what `fabric` says of this node's peers to the speaker's words.
//!
//! `fabric` knows nodes, pools and what an operator wrote, and nothing of wires and kernels; `bgp` knows sessions, filters and next
//! hops, and nothing of clusters. What lies between is here, and is pure but for the files with passwords.

mod filters;
mod secrets;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use twill_bgp::bfd::Timing;
use twill_bgp::path::{Asn, Attributes, Family, Origin, PeerAs, PerFamily};
use twill_bgp::policy::{Guard, Overlap};
use twill_bgp::rib::{Hops, Identity, Kind, Maximum, Multipath, NextHopRule, Own, Patience, Peer};
use twill_bgp::speaker::{Config, Endpoint, GracefulRestart, Offer, PeerConfig, Place};
use twill_bgp::wire::AddPath;
use twill_cluster::View;
use twill_cluster::record::{Told, Underlay};
use twill_conf::NodeName;
use twill_conf::cluster::{self, Community};
use twill_fabric::peering::{self, HopLimit, LeftAlone, Peering, RemoteAs, Speaker, Who};

use super::ground::{Ground, Link};

pub use secrets::Secrets;

/// From which share of its maximum on a peer's prefixes are warned of, in percent.
const NEAR: u8 = 80;

/// All that a speaker is told.
#[derive(Debug)]
pub struct Spoken {
    /// Who it is, and its peers.
    pub config: Config,
    /// What it announces by itself.
    pub announced: BTreeMap<IpNetwork, Attributes>,
    /// What no peer may announce.
    pub guard: Guard,
    /// Whom BFD watches.
    pub watched: BTreeMap<IpAddr, Watched>,
    /// Who the peers are.
    pub names: BTreeMap<IpAddr, Who>,
    /// What stands in the way of some session.
    pub troubles: Vec<Told>,
    /// Peers that there is no session with, and why.
    pub left_alone: Vec<LeftAlone>,
}

/// A neighbour that BFD watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watched {
    /// How often.
    pub timing: Timing,
    /// From which address of ours.
    pub source: IpAddr,
}

/// Says all of it anew. `name`: this node's.
pub fn translate(wanted: &Speaker, view: &View, name: &NodeName, ground: &Ground, secrets: &mut Secrets) -> Spoken {
    secrets.begin();
    // What it says of itself: the other nodes believe the same.
    let ends = view.nodes.get(name).map(|node| node.value.underlay.clone()).unwrap_or_default();
    let pools = view.config.as_ref().map_or(&[][..], |conf| &conf.value.pools);
    let (mut peers, mut troubles) = (Vec::new(), Vec::new());
    let (mut watched, mut names) = (BTreeMap::new(), BTreeMap::new());
    let mut left_alone = wanted.left_alone.clone();
    for peering in &wanted.peerings {
        let session = &peering.session;
        let password = match &session.link.password_file {
            None => None,
            Some(file) => match secrets.of(file) {
                Some(password) => Some(password),
                None => {
                    let why = format!("there is no password in {}", file.display());
                    left_alone.push(LeftAlone { who: peering.who.clone(), address: session.address, why });
                    continue;
                }
            },
        };
        names.insert(session.address, peering.who.clone());
        if let Some(bfd) = session.link.bfd {
            match on_link(peering, ground) {
                Some(source) => drop(watched.insert(session.address, Watched { timing: timing(bfd), source })),
                None => troubles.push(without_link(peering)),
            }
        }
        let policy = filters::policy(wanted, pools, peering);
        peers.push(PeerConfig {
            peer: peer(peering, wanted, policy),
            offer: offer(peering),
            endpoint: Endpoint { password, ..endpoint(peering) },
            place: place(peering, ground, &ends),
            hold_time: session.link.hold_time,
            connect_retry: Duration::from_secs(session.link.connect_retry.into()),
            passive: session.passive,
            shutdown: None,
        });
    }
    troubles.extend(secrets.troubles());
    let asn = Asn(wanted.asn.number());
    let identity = Identity { asn, router_id: wanted.router_id, cluster: Some(wanted.cluster_id) };
    let restart = restart(wanted.graceful_restart);
    let config = Config::new(identity, Multipath::default(), restart, peers)
        .expect("fabric gives each address once, and conf no value that a speaker refuses");
    let announced = wanted.announced.iter().map(|announced| (announced.prefix, attributes(&announced.communities)));
    Spoken { config, announced: announced.collect(), guard: guard(view, name), watched, names, troubles, left_alone }
}

/// How a peer is called in a sentence.
pub fn title(who: &Who) -> String {
    match who {
        Who::Node(name) => format!("node {name}"),
        Who::Router(name) => format!("BGP peer {name}"),
    }
}

fn peer(peering: &Peering, wanted: &Speaker, policy: twill_bgp::policy::Policy) -> Peer {
    let Peering { session, exchange, .. } = peering;
    let maximum = exchange.max_prefixes.map(|most| Maximum::new(most, NEAR).expect("conf asks for 1 at least"));
    let patience = match wanted.graceful_restart {
        cluster::GracefulRestart::Off => Patience::default(),
        cluster::GracefulRestart::Within(time) => {
            Patience { restart: Duration::from_secs(time.into()), ..Patience::default() }
        }
    };
    Peer {
        kind: match session.kind {
            peering::Kind::Internal => Kind::Internal,
            peering::Kind::Client => Kind::Client,
            peering::Kind::External(peering::Hops::Single) => Kind::External(Hops::Single),
            peering::Kind::External(peering::Hops::Multiple) => Kind::External(Hops::Multiple),
        },
        asn: match session.remote {
            RemoteAs::Is(asn) => PeerAs::Is(Asn(asn.number())),
            RemoteAs::AnyBut(asn) => PeerAs::AnyBut(Asn(asn.number())),
        },
        local_as: Asn(session.local_as.number()),
        address: session.address,
        policy: Some(policy.into()),
        next_hop: if exchange.next_hop_self { NextHopRule::Own } else { NextHopRule::OwnForExternal },
        maximum: Family::ALL.into_iter().filter_map(|family| Some((family, maximum?))).collect(),
        patience,
    }
}

/// Both families, to whomever: what a peer does not speak falls away. Inside of the AS also several ways to one prefix, without which a
/// reflector would hide all but one; and by an IPv6 address, IPv4 routes behind it.
fn offer(peering: &Peering) -> Offer {
    let internal = !matches!(peering.session.kind, peering::Kind::External(_));
    Offer {
        families: Family::ALL.to_vec(),
        add_path: PerFamily::both(AddPath { send: internal, receive: internal }),
        extended_next_hop: peering.session.address.is_ipv6(),
    }
}

fn endpoint(peering: &Peering) -> Endpoint {
    let session = &peering.session;
    let (ttl, least_ttl) = match session.hop_limit {
        HopLimit::Guarded => (Some(u8::MAX), Some(u8::MAX)),
        HopLimit::Sent(ttl) => (Some(ttl), None),
    };
    Endpoint { address: session.address, port: session.port, source: session.source, ttl, least_ttl, password: None }
}

/// Our next hops for the family that the session does not go by: addresses of the link that we share with the peer, where there is one.
/// Of a peer behind routers it is the link that has our address of the session.
fn place(peering: &Peering, ground: &Ground, ends: &Underlay) -> Place {
    let peer = peering.session.address;
    if let Some(link) = ground.shared(peer) {
        return on_shared(link, peer, ends);
    }
    let link = peering.session.source.and_then(|source| ground.holding(source));
    Place { own: link.map_or_else(Own::default, |link| other_family(link, peer, ends)), links: Vec::new() }
}

/// For a peer on a link of ours. The address that is good on the link alone is no next hop without another: whoever passes it on does
/// not say of which link.
fn on_shared(link: &Link, peer: IpAddr, ends: &Underlay) -> Place {
    let link_local = link.link_local().filter(|_| link.address(true, None).is_some());
    let links = link.global().map(|own| IpNetwork::new(own.network(), own.prefix()).unwrap_or(own)).collect();
    Place { own: Own { link_local, ..other_family(link, peer, ends) }, links }
}

/// The address of a link of the family that the session with a peer does not go by: that of the underlay where it has it.
fn other_family(link: &Link, peer: IpAddr, ends: &Underlay) -> Own {
    let ipv6 = peer.is_ipv4();
    match link.address(ipv6, ends.address(ipv6)) {
        Some(IpAddr::V4(address)) => Own { v4: Some(address), ..Own::default() },
        Some(IpAddr::V6(address)) => Own { v6: Some(address), ..Own::default() },
        None => Own::default(),
    }
}

/// The address from which a neighbour on a link of ours is watched.
fn on_link(peering: &Peering, ground: &Ground) -> Option<IpAddr> {
    let link = ground.shared(peering.session.address)?;
    peering.session.source.or_else(|| link.own(peering.session.address))
}

fn without_link(peering: &Peering) -> Told {
    let (title, address) = (title(&peering.who), peering.session.address);
    Told {
        what: format!("{title} is not watched by BFD: {address} is not on a link of this node that is up"),
        fix: "look whether the interface is up and has an address there, or take bfd out of what is configured of it"
            .to_owned(),
    }
}

fn timing(bfd: cluster::Bfd) -> Timing {
    let interval = Duration::from_millis(bfd.interval.into());
    Timing::new(interval, interval, bfd.multiplier).expect("conf has narrower bounds than BFD")
}

fn restart(configured: cluster::GracefulRestart) -> Option<GracefulRestart> {
    match configured {
        cluster::GracefulRestart::Off => None,
        cluster::GracefulRestart::Within(time) => {
            Some(GracefulRestart { time: Duration::from_secs(time.into()), ..GracefulRestart::default() })
        }
    }
}

fn attributes(communities: &[Community]) -> Attributes {
    let mut attributes = Attributes::new(Origin::Igp);
    filters::say(&mut attributes, communities);
    attributes
}

/// Nobody tells us of our own blocks, and of a part of another node's block only that node.
fn guard(view: &View, name: &NodeName) -> Guard {
    let (mut never, mut owned) = (Vec::new(), Vec::new());
    for (block, record) in &view.blocks {
        if record.value.node == *name {
            never.push((block.cidr(), Overlap::Within));
        } else if let Some(owner) = view.nodes.get(&record.value.node) {
            let ends = [owner.value.underlay.ipv4, owner.value.underlay.ipv6];
            let addresses: Vec<IpAddr> = ends.into_iter().flatten().map(|end| end.ip()).collect();
            owned.extend((!addresses.is_empty()).then(|| (block.cidr(), addresses)));
        }
    }
    Guard::new(never, owned).expect("a block has no host bits, and those without addresses were left out")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(addresses: &[&str]) -> Link {
        let addresses = addresses.iter().map(|cidr| cidr.parse().unwrap()).collect();
        Link { device: twill_linux::IfName::new("eth0").unwrap(), addresses, filters: false }
    }

    #[test]
    fn without_a_global_ipv6_address_of_the_link_there_is_no_next_hop_for_ipv6() {
        let (v4, v6) = ([192, 0, 2, 7].into(), "2001:db8::7".parse().unwrap());
        let own = |addresses: &[&str], peer| on_shared(&link(addresses), peer, &Underlay::default()).own;
        let (global, local) = ("2001:db8::1".parse().ok(), "fe80::1".parse().ok());
        assert_eq!(own(&["192.0.2.1/24", "fe80::1/64"], v4), Own::default());
        let both = ["192.0.2.1/24", "2001:db8::1/64", "fe80::1/64"];
        assert_eq!(own(&both, v4), Own { v4: None, v6: global, link_local: local });
        assert_eq!(own(&both, v6), Own { v4: Some([192, 0, 2, 1].into()), v6: None, link_local: local });
    }

    #[test]
    fn the_next_hop_of_the_other_family_is_the_address_of_the_underlay_where_the_link_has_it() {
        let link = link(&["192.0.2.1/24", "2001:db8::aaaa/64", "2001:db8::1/64"]);
        let ends = |ipv6: &str| Underlay { ipv4: None, ipv6: Some(ipv6.parse().unwrap()) };
        let v6 = |ends| other_family(&link, [192, 0, 2, 7].into(), &ends).v6;
        assert_eq!(v6(ends("2001:db8::1/64")), "2001:db8::1".parse().ok());
        assert_eq!(v6(ends("2001:db8:1::1/64")), "2001:db8::aaaa".parse().ok(), "of another link");
    }
}
