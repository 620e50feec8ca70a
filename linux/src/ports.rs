//! Published ports: the nftables table by which ports of the node lead to ports of its pods.
//!
//! Plugins make and use it without a daemon, many of them at once, so no transaction depends on what was read before it: it
//! adds the table, its maps, its chains, makes the rules anew, and creates elements. That is idempotent in the structure
//! and additive in the elements. An element bears its owner as a comment, and the kernel refuses to create one that exists,
//! or lies within one. It accepts one that others lie within: whoever publishes a port on all addresses looks afterwards, and
//! takes it back. So a port of the node never belongs to two pods for longer than that ([`Error::PortTaken`]). Only its
//! owner's elements are ever taken away ([`withdraw`]), by whoever holds the owner's lock.
//!
//! `ruleset` says how the table looks, `listing` what nft shows of it. All of this works in the namespace of the calling
//! thread; nft takes 3 to 15 ms, so whoever publishes nothing must not come here.

mod listing;
mod ruleset;
mod services;

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::{Error, netfilter, nft};

pub use listing::Standing;
pub use services::services;

/// The table's name; its family is inet. The firewall's is another, since that is exchanged whole.
pub const TABLE: &str = "twill_ports";

/// How often a transaction is tried that met another one: somebody removed the table, or elements, that a listing showed.
const TRIES: usize = 4;

/// A protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// As nft spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// Its number (IPPROTO_*, include/uapi/linux/in.h).
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A port of the node that leads to a port of a pod, in the family of the pod's address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// The protocol.
    pub protocol: Protocol,
    /// On which address of the node; on all of the family where it is absent.
    pub host: Option<IpAddr>,
    /// The port of the node.
    pub host_port: u16,
    /// The pod's address and port.
    pub pod: SocketAddr,
    /// Whose it is: what [`withdraw`] is called with. Letters and digits.
    pub owner: String,
}

impl Port {
    /// Whether a packet to the node could be meant by both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let same_address = match (self.host, other.host) {
            (Some(a), Some(b)) => a == b,
            (None, None) => self.pod.is_ipv6() == other.pod.is_ipv6(),
            (Some(_), None) => self.pod.is_ipv6() == other.pod.is_ipv6() && !self.is_apart(),
            (None, Some(_)) => self.pod.is_ipv6() == other.pod.is_ipv6() && !other.is_apart(),
        };
        (self.protocol, self.host_port) == (other.protocol, other.host_port) && same_address
    }

    /// Whether it is on an address that a port on all addresses does not mean: one of 127.0.0.0/8 other than 127.0.0.1.
    pub(crate) fn is_apart(&self) -> bool {
        matches!(self.host, Some(IpAddr::V4(ip)) if ip.is_loopback() && ip != Ipv4Addr::LOCALHOST)
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let any: IpAddr = if self.pod.is_ipv6() { [0; 16].into() } else { [0; 4].into() };
        let host = SocketAddr::new(self.host.unwrap_or(any), self.host_port);
        write!(f, "{} {host} to {}", self.protocol, self.pod)
    }
}

/// A pod that may reach itself by a port of the node: its packets come back to it with the node's address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Hairpin {
    pub(crate) pod: IpAddr,
    pub(crate) owner: String,
}

/// The hairpins that go with some ports.
pub(crate) fn hairpins(ports: &[Port]) -> BTreeSet<Hairpin> {
    ports.iter().map(|port| Hairpin { pod: port.pod.ip(), owner: port.owner.clone() }).collect()
}

/// Makes the table, or what is missing or changed of it, and publishes `ports`, all or none, in one transaction.
///
/// [`Error::PortTaken`] where one of them is published already, by whomever: who comes again after it was killed
/// withdraws its own first.
pub fn publish(ports: &[Port]) -> Result<(), Error> {
    let mut tries = 0..TRIES;
    loop {
        let refused = match nft::change("publish ports", &ruleset::publication(&services()?, ports)) {
            Ok(()) => return give_way(ports),
            Err(refused) => refused,
        };
        let taken = listing::list()?.unwrap_or_default().in_the_way_of(ports);
        if !taken.is_empty() {
            return Err(Error::PortTaken { taken });
        }
        // What was in the way has gone meanwhile, or it was no element that was refused.
        if !is_collision(&refused) || tries.next().is_none() {
            return Err(refused);
        }
    }
}

/// Takes `ports` back, which were published, if one on all addresses was published over one of somebody else on a certain
/// address. Of two at once it is the former whose transaction came last: the kernel refuses the latter otherwise.
fn give_way(ports: &[Port]) -> Result<(), Error> {
    if ports.iter().all(|port| port.host.is_some()) {
        return Ok(());
    }
    let mut taken = listing::list()?.unwrap_or_default().ports;
    taken.retain(|other| !ports.contains(other) && ports.iter().any(|port| port.overlaps(other)));
    if taken.is_empty() {
        return Ok(());
    }
    nft::change("take back ports", &ruleset::withdrawal(&Standing::by(ports)))?;
    Err(Error::PortTaken { taken })
}

/// Takes away all that `owner` published, and gives what that was. Costs one small request where there is no table.
pub fn withdraw(owner: &str) -> Result<Vec<Port>, Error> {
    if !netfilter::has_table(TABLE)? {
        return Ok(Vec::new());
    }
    let mut tries = 0..TRIES;
    loop {
        let Some(standing) = listing::list()? else { return Ok(Vec::new()) };
        let its = standing.of(owner);
        if its.is_empty() {
            return Ok(Vec::new());
        }
        match nft::change("withdraw ports", &ruleset::withdrawal(&its)) {
            Ok(()) => return Ok(its.ports),
            // Somebody removed the table, or made it anew, since it was listed.
            Err(refused) if is_collision(&refused) && tries.next().is_some() => {}
            Err(refused) => return Err(refused),
        }
    }
}

/// Whether `owner` has published anything, by what the elements' comments say. Costs one small request where there is no
/// table, and one for each map where there is, but never a run of nft.
pub fn may_have(owner: &str) -> Result<bool, Error> {
    if !netfilter::has_table(TABLE)? {
        return Ok(false);
    }
    netfilter::has_element_with(TABLE, ruleset::sets(), owner)
}

/// What stands; `None` where there is no table. Costs one small request then.
pub fn standing() -> Result<Option<Standing>, Error> {
    if netfilter::has_table(TABLE)? { listing::list() } else { Ok(None) }
}

/// In one transaction, the structure made as it shall be, `wrong` taken away and `missing` published: what repairs the
/// table from the rows of a store. The caller keeps the owners of both from changing meanwhile.
pub fn repair(wrong: &Standing, missing: &[Port]) -> Result<(), Error> {
    nft::change("repair published ports", &ruleset::repair(&services()?, wrong, missing))
}

/// Whether an error of nft tells of an element, or a table, that is there or not there against what was expected.
fn is_collision(error: &Error) -> bool {
    // strerror(EEXIST) and strerror(ENOENT), in English by LC_ALL.
    let texts = ["File exists", "No such file or directory"];
    matches!(error, Error::Nft { detail, .. } if texts.iter().any(|text| detail.contains(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(host: Option<&str>, pod: &str) -> Port {
        let host = host.map(|ip| ip.parse().unwrap());
        Port { protocol: Protocol::Tcp, host, host_port: 80, pod: pod.parse().unwrap(), owner: "a".into() }
    }

    #[test]
    fn ports_overlap_where_one_packet_could_be_meant_by_both() {
        let any = port(None, "10.42.0.1:80");
        let one = port(Some("192.0.2.1"), "10.42.0.2:80");
        assert!(any.overlaps(&one) && one.overlaps(&any) && one.overlaps(&one));
        assert!(!one.overlaps(&port(Some("192.0.2.2"), "10.42.0.2:80")));
        assert!(!any.overlaps(&port(None, "[fd00::1]:80")));
        let local = |ip| port(Some(ip), "10.42.0.2:80");
        assert!(any.overlaps(&local("127.0.0.1")) && local("127.0.0.2").overlaps(&local("127.0.0.2")));
        assert!(!any.overlaps(&local("127.0.0.2")) && !local("127.0.0.2").overlaps(&any));
        assert!(!any.overlaps(&Port { protocol: Protocol::Udp, ..any.clone() }));
        assert!(!any.overlaps(&Port { host_port: 81, ..any.clone() }));
    }
}
