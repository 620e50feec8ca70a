//! IPv4 and IPv6 as data, so that no rule is written twice.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use twill_cluster::record::{Tunnel, Underlay};

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, in the order of preference for what carries packets between nodes: IPv4 first, its header is smaller.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// Of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv6() { Self::V6 } else { Self::V4 }
    }

    /// Of a prefix.
    pub fn of_prefix(prefix: IpNetwork) -> Self {
        Self::of(prefix.ip())
    }

    /// A node's underlay address of this family. A record whose IPv4 field holds an IPv6 address has none.
    pub fn underlay(self, ends: &Underlay) -> Option<IpAddr> {
        ends.address(self == Self::V6).filter(|&address| Self::of(address) == self)
    }

    /// A node's tunnel address of this family.
    pub fn tunnel(self, tunnel: &Tunnel) -> Option<IpAddr> {
        match self {
            Self::V4 => tunnel.ipv4.map(IpAddr::V4),
            Self::V6 => tunnel.ipv6.map(IpAddr::V6),
        }
    }

    /// The family in which two nodes reach each other: the first of [`Family::ALL`] that both have.
    pub fn common(one: &Underlay, other: &Underlay) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.underlay(one).is_some() && family.underlay(other).is_some())
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// The prefix that holds one address alone: /32 or /128.
pub fn host_prefix(address: IpAddr) -> IpNetwork {
    IpNetwork::from(address)
}
