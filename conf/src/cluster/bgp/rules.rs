//! What the section must hold to beside what its types say, whoever wrote it.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

use super::{Announcement, Bfd, Bgp, Distance, GracefulRestart, Link, Nodes, Peer, PeerAs};
use crate::cluster::{ClusterConf, Kind};
use crate::section::entry;
use crate::{Error, prefix};

pub(super) const PORT: RangeInclusive<u16> = 1..=65_535;
pub(super) const A_PORT: &str = "a TCP port";
/// 12 bits (RFC 4724, section 3).
pub(super) const RESTART: RangeInclusive<u16> = 1..=4_095;
pub(super) const A_RESTART: &str = "the seconds for which routes wait";
pub(super) const RETRY: RangeInclusive<u16> = 1..=65_535;
pub(super) const A_RETRY: &str = "the seconds until the next attempt";
/// RFC 4271, section 4.2.
pub(super) const HOLD_TIME: &str = "seconds, 3 or more, or 0 for a session that silence does not end";
pub(super) const A_FILE: &str = "the absolute path of a file on the nodes, as in \"/etc/twill/bgp-password\"";
/// Less would make a busy node's peers think that it is dead; with more it would be no faster than the hold time.
pub(super) const INTERVAL: RangeInclusive<u32> = 50..=10_000;
pub(super) const AN_INTERVAL: &str = "milliseconds between two packets";
/// With 1, a single lost packet would end the session.
pub(super) const MULTIPLIER: RangeInclusive<u8> = 2..=255;
pub(super) const A_MULTIPLIER: &str = "the number of lost packets after which the way is down";
/// 1 is no router between.
pub(super) const HOPS: RangeInclusive<u8> = 2..=255;
pub(super) const A_HOP_LIMIT: &str = "the hop limit of packets to a peer behind routers";
pub(super) const PREFIXES: RangeInclusive<u32> = 1..=u32::MAX;
pub(super) const A_MAXIMUM: &str = "the greatest number of prefixes of a family";
pub(super) const AN_IDENTIFIER: &str =
    "an identifier that is written as an IPv4 address, as in \"192.0.2.1\", and not 0.0.0.0";
/// Every node looks for its own among them.
pub(super) const MOST_PEERS: usize = 512;
pub(super) const MOST_RULES: usize = 256;
pub(super) const MOST_ANNOUNCEMENTS: usize = 256;

pub(in crate::cluster) fn validate(conf: &ClusterConf) -> Result<(), Error> {
    let by_bgp = matches!(conf.backend.kind, Kind::Bgp);
    let Some(bgp) = &conf.bgp else {
        let missing = Error::missing("bgp", "the section of the speaker, which the back end bgp has its routes from");
        return if by_bgp { Err(missing) } else { Ok(()) };
    };
    if by_bgp && !bgp.joins_nodes() {
        let right = "with type = \"bgp\" nodes know by BGP alone of each other's pods: leave it out, or have [bgp.reflectors] or a \
                     [[bgp.peer]] for them";
        return Err(Error::value("bgp.mesh", bgp.mesh, right));
    }
    within("bgp.port", bgp.port, A_PORT, &PORT)?;
    if let GracefulRestart::Within(time) = bgp.graceful_restart {
        within("bgp.graceful_restart.time", time, A_RESTART, &RESTART)?;
    }
    link("bgp", &bgp.link)?;
    if let Some(cluster_id) = bgp.reflectors.as_ref().and_then(|reflectors| reflectors.cluster_id) {
        identifier("bgp.reflectors.cluster_id".to_owned(), cluster_id)?;
    }
    node_rules(bgp)?;
    peers(bgp)?;
    announcements(conf, bgp)
}

fn within<T: PartialOrd + ToString>(key: &str, value: T, what: &str, range: &RangeInclusive<T>) -> Result<(), Error> {
    if range.contains(&value) {
        return Ok(());
    }
    let right = format!("{what}, an integer from {} to {}", range.start().to_string(), range.end().to_string());
    Err(Error::value(key, value, right))
}

fn at_most(key: &str, number: usize, most: usize, what: &str) -> Result<(), Error> {
    if number <= most {
        Ok(())
    } else {
        Err(Error::value(key, format!("{number} {what}"), format!("at most {most} {what}")))
    }
}

fn link(of: &str, link: &Link) -> Result<(), Error> {
    if matches!(link.hold_time, 1 | 2) {
        return Err(Error::value(format!("{of}.hold_time"), link.hold_time, HOLD_TIME));
    }
    within(&format!("{of}.connect_retry"), link.connect_retry, A_RETRY, &RETRY)?;
    if let Some(file) = link.password_file.as_ref().filter(|file| !file.is_absolute()) {
        return Err(Error::value(format!("{of}.password_file"), file.display(), A_FILE));
    }
    let Some(Bfd { interval, multiplier }) = link.bfd else { return Ok(()) };
    within(&format!("{of}.bfd.interval"), interval, AN_INTERVAL, &INTERVAL)?;
    within(&format!("{of}.bfd.multiplier"), multiplier, A_MULTIPLIER, &MULTIPLIER)
}

fn identifier(key: String, id: Ipv4Addr) -> Result<(), Error> {
    if id.is_unspecified() { Err(Error::value(key, id, AN_IDENTIFIER)) } else { Ok(()) }
}

fn node_rules(bgp: &Bgp) -> Result<(), Error> {
    at_most("bgp.node", bgp.nodes.len(), MOST_RULES, "entries")?;
    for (place, rule) in bgp.nodes.iter().enumerate() {
        let at = entry("bgp.node", place, None);
        if rule.asn.is_none() && rule.router_id.is_none() && rule.shutdown.is_none() {
            return Err(Error::missing(at, "what is otherwise on these nodes: as, router_id or shutdown"));
        }
        let Some(id) = rule.router_id else { continue };
        let key = format!("{at}.router_id");
        if !matches!(rule.nodes, Nodes::One(_)) {
            return Err(Error::value(key, id, "it stands beside \"node\" alone: no two nodes have the same"));
        }
        let taken =
            bgp.nodes[..place].iter().position(|other| other.router_id == Some(id) && other.nodes != rule.nodes);
        if let Some(other) = taken {
            let right = format!("no two nodes have the same, and {} has it", entry("bgp.node", other, None));
            return Err(Error::value(key, id, right));
        }
        identifier(key, id)?;
    }
    Ok(())
}

fn peers(bgp: &Bgp) -> Result<(), Error> {
    at_most("bgp.peer", bgp.peers.len(), MOST_PEERS, "peers")?;
    for (place, peer) in bgp.peers.iter().enumerate() {
        alone(peer)?;
        for (other_place, other) in bgp.peers[..place].iter().enumerate() {
            if other.name == peer.name {
                let right = format!("a name that no other peer has; {} has it", entry("bgp.peer", other_place, None));
                return Err(Error::value(format!("{}.name", entry("bgp.peer", place, None)), &peer.name, right));
            }
            if other.address == peer.address && overlap(&other.nodes, &peer.nodes) {
                let right =
                    format!("another one than that of peer {:?}, which is for the same nodes", other.name.as_str());
                return Err(Error::value(key(peer, "address"), peer.address, right));
            }
        }
    }
    Ok(())
}

/// A key of a peer, as an error names it.
fn key(peer: &Peer, key: &str) -> String {
    format!("{}.{key}", entry("bgp.peer", 0, Some(peer.name.as_str())))
}

/// Whether there can be a node that is among both, as far as that is certain without the nodes: whoever selects somebody selects one
/// of "all".
fn overlap(one: &Nodes, other: &Nodes) -> bool {
    matches!(one, Nodes::All) || matches!(other, Nodes::All) || one == other
}

fn alone(peer: &Peer) -> Result<(), Error> {
    let of = entry("bgp.peer", 0, Some(peer.name.as_str()));
    let beside = |key: &str, beside: &str| {
        Err(Error::NotWith { key: format!("{of}.{key}"), beside: beside.to_owned(), all: key.to_owned() })
    };
    for (name, address) in [("address", Some(peer.address)), ("source", peer.source)] {
        if let Some((address, what)) = address.and_then(|address| Some((address, no_machine(address)?))) {
            return Err(Error::value(
                key(peer, name),
                address,
                format!("the address of one machine: this one is {what}"),
            ));
        }
    }
    if let Some(source) = peer.source.filter(|source| source.is_ipv4() != peer.address.is_ipv4()) {
        let family = if peer.address.is_ipv4() { "IPv4" } else { "IPv6" };
        return Err(Error::value(key(peer, "source"), source, format!("of the peer's family, which is {family}")));
    }
    match (peer.local_as, peer.asn) {
        (Some(_), PeerAs::Internal) => return beside("local_as", "as = \"internal\""),
        (Some(local), PeerAs::Number(asn)) if local == asn => {
            let right = "another AS than the peer's own: leave it out, and have as = \"internal\", if the peer is of the nodes' AS";
            return Err(Error::value(key(peer, "local_as"), local, right));
        }
        _ => {}
    }
    if peer.next_hop_self && peer.asn == PeerAs::External {
        return beside("next_hop_self", "as = \"external\"");
    }
    if peer.transit && peer.asn == PeerAs::Internal {
        return beside("transit", "as = \"internal\"");
    }
    if let Distance::Routed(hops) = peer.distance {
        within(&key(peer, "multihop"), hops, A_HOP_LIMIT, &HOPS)?;
        if peer.link.bfd.is_some() {
            return beside("bfd", &format!("multihop = {hops}"));
        }
    }
    if let Some(most) = peer.max_prefixes {
        within(&key(peer, "max_prefixes"), most, A_MAXIMUM, &PREFIXES)?;
    }
    within(&key(peer, "port"), peer.port, A_PORT, &PORT)?;
    link(&of, &peer.link)
}

/// Why no other machine can be spoken to by this address from any link.
fn no_machine(address: IpAddr) -> Option<&'static str> {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let odd = match address {
        IpAddr::V4(v4) => v4.is_broadcast() || v4.octets()[0] == 0,
        IpAddr::V6(v6) => v6.is_unspecified() || v6.to_ipv4_mapped().is_some(),
    };
    match () {
        () if address.is_multicast() => Some("a group's"),
        () if address.is_loopback() => Some("the node's own, whichever it is"),
        () if link_local => Some("link-local, and says nothing without an interface"),
        () if odd => Some("nobody's"),
        () => None,
    }
}

fn announcements(conf: &ClusterConf, bgp: &Bgp) -> Result<(), Error> {
    at_most("bgp.announce", bgp.announcements.len(), MOST_ANNOUNCEMENTS, "entries")?;
    for (place, Announcement { prefix, nodes, .. }) in bgp.announcements.iter().enumerate() {
        let key = format!("{}.prefix", entry("bgp.announce", place, None));
        prefix::without_host_bits(&key, *prefix)?;
        if prefix.prefix() == 0 {
            return Err(Error::value(key, prefix, "a node is no way to everywhere: a longer prefix"));
        }
        if no_machine(prefix.ip()).is_some() {
            return Err(Error::value(key, prefix, "a range of addresses that machines have"));
        }
        let inside = |cidr: ipnetwork::IpNetwork| prefix::overlap(cidr, *prefix) && prefix.prefix() > cidr.prefix();
        if let Some(pool) = conf.pools.iter().find(|pool| inside(pool.cidr)) {
            let right = format!(
                "it lies inside of pool {:?}, whose blocks are announced by the nodes that have them: announce = true stands there",
                pool.name.as_str()
            );
            return Err(Error::value(key, prefix, right));
        }
        let twice = |other: &Announcement| other.prefix == *prefix && overlap(&other.nodes, nodes);
        if let Some(other) = bgp.announcements[..place].iter().position(twice) {
            let right = format!("once for each node; {} has it for the same", entry("bgp.announce", other, None));
            return Err(Error::value(key, prefix, right));
        }
    }
    Ok(())
}
