//! Prefixes and next hops, as UPDATEs write them (RFC 4271, section 4.3; RFC 4760, section 5; RFC 7911).
//!
//! What cannot be read is an error of the whole field, since nothing behind it can be found. What can be read and is no unicast
//! prefix is ignored alone (RFC 4271, section 6.3).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use netgauze_parse_utils::error::ParseError;
use netgauze_parse_utils::reader::SliceReader;

use crate::path::{Family, NextHop, PathId};
use crate::prefix::masked;

/// A route's name: what is withdrawn by it, and replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nlri {
    /// The prefix, its host bits zero.
    pub prefix: IpNetwork,
    /// 0 where the session has no path identifiers.
    pub path: PathId,
}

impl From<IpNetwork> for Nlri {
    fn from(prefix: IpNetwork) -> Self {
        Self { prefix, path: PathId::default() }
    }
}

/// What a field of prefixes has.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Field {
    /// The unicast ones.
    pub routes: Vec<Nlri>,
    /// The others, to be ignored.
    pub ignored: Vec<Nlri>,
}

/// Reads a field to its end.
///
/// # Errors
/// When a prefix is longer than its family allows, or ends behind the field (RFC 7606, section 5.3).
pub(super) fn read(field: &mut SliceReader<'_>, family: Family, add_path: bool) -> Result<Field, ParseError> {
    let mut found = Field::default();
    while !field.is_empty() {
        let path = PathId(if add_path { field.read_u32_be()? } else { 0 });
        let nlri = Nlri { prefix: prefix(field, family)?, path };
        if is_unicast(&nlri.prefix) {
            found.routes.push(nlri);
        } else {
            found.ignored.push(nlri);
        }
    }
    Ok(found)
}

/// One prefix. Bits behind its length mean nothing, and are cleared.
fn prefix(field: &mut SliceReader<'_>, family: Family) -> Result<IpNetwork, ParseError> {
    let length = field.read_u8()?;
    let bytes = field.read_bytes(usize::from(length).div_ceil(8))?;
    let mut octets = [0; 16];
    let width = match family {
        Family::Ipv4 => 4,
        Family::Ipv6 => 16,
    };
    let too_long = ParseError::eof(field.offset(), usize::from(length), width * 8);
    octets.get_mut(..bytes.len()).ok_or(too_long)?.copy_from_slice(bytes);
    let [a, b, c, d, ..] = octets;
    let address = match family {
        Family::Ipv4 => IpAddr::from([a, b, c, d]),
        Family::Ipv6 => IpAddr::from(octets),
    };
    IpNetwork::new(address, length).map(masked).map_err(|_| too_long)
}

/// Appends a prefix.
pub(super) fn write(nlri: &Nlri, add_path: bool, out: &mut Vec<u8>) {
    if add_path {
        out.extend_from_slice(&nlri.path.0.to_be_bytes());
    }
    let length = nlri.prefix.prefix();
    out.push(length);
    let bytes = usize::from(length).div_ceil(8);
    match nlri.prefix.network() {
        IpAddr::V4(address) => out.extend_from_slice(&address.octets()[..bytes]),
        IpAddr::V6(address) => out.extend_from_slice(&address.octets()[..bytes]),
    }
}

/// Whether routers may have a route to it: not to this host, to loopback, to a link's own addresses, to multicast or to what
/// is reserved. A default route may; so may any prefix that is shorter than those ranges.
fn is_unicast(prefix: &IpNetwork) -> bool {
    match prefix {
        IpNetwork::V4(prefix) => match prefix.ip().octets() {
            [0 | 127, ..] => prefix.prefix() < 8,
            [224..=255, ..] => prefix.prefix() < 4,
            _ => true,
        },
        IpNetwork::V6(prefix) => match prefix.ip().segments() {
            // Unspecified, loopback and mapped addresses.
            [0, 0, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0, 0xFFFF, ..] => prefix.prefix() < 96,
            [0xFE80..=0xFEBF, ..] => prefix.prefix() < 10,
            [0xFF00..=0xFFFF, ..] => prefix.prefix() < 8,
            _ => true,
        },
    }
}

/// Whether a host may have it (RFC 4271, section 6.3: a NEXT_HOP must be a valid IP host address).
pub(super) fn is_host(address: Ipv4Addr) -> bool {
    !matches!(address.octets(), [0 | 127 | 224..=255, ..])
}

/// The next hop of an MP_REACH_NLRI: of this family, or an IPv6 one for IPv4 where `extended` allows it (RFC 8950).
///
/// Ok(None) where it can be read, and is no host's address.
///
/// # Errors
/// When its length is none of those that are expected (RFC 7606, section 7.11).
pub(super) fn read_next_hop(bytes: &[u8], family: Family, extended: bool) -> Result<Option<NextHop>, ParseError> {
    if let (Family::Ipv4, Ok(octets)) = (family, <[u8; 4]>::try_from(bytes)) {
        let address = Ipv4Addr::from(octets);
        return Ok(is_host(address).then_some(NextHop { address: address.into(), link_local: None }));
    }
    let unexpected = ParseError::eof(0, 16, bytes.len());
    if family == Family::Ipv4 && !extended {
        return Err(unexpected);
    }
    let (global, rest) = bytes.split_first_chunk::<16>().ok_or(unexpected)?;
    let second = match rest {
        [] => None,
        rest => Some(Ipv6Addr::from(<[u8; 16]>::try_from(rest).map_err(|_| unexpected)?)),
    };
    // What is not link-local in the second place has no meaning (RFC 2545, section 3).
    let link_local = second.filter(Ipv6Addr::is_unicast_link_local);
    let global = Ipv6Addr::from(*global);
    let is_host = !global.is_unspecified()
        && !global.is_loopback()
        && !global.is_multicast()
        && global.to_ipv4_mapped().is_none();
    Ok(match (is_host, link_local) {
        (true, _) => Some(NextHop { address: global.into(), link_local }),
        // As BIRD writes it where an interface has no global address.
        (false, Some(local)) if global.is_unspecified() => Some(NextHop { address: local.into(), link_local }),
        (false, _) => None,
    })
}

/// Appends a next hop with its length before it.
pub(super) fn write_next_hop(next_hop: &NextHop, out: &mut Vec<u8>) {
    match (next_hop.address, next_hop.link_local) {
        (IpAddr::V4(address), _) => {
            out.push(4);
            out.extend_from_slice(&address.octets());
        }
        (IpAddr::V6(address), None) => {
            out.push(16);
            out.extend_from_slice(&address.octets());
        }
        (IpAddr::V6(address), Some(local)) => {
            out.push(32);
            out.extend_from_slice(&address.octets());
            out.extend_from_slice(&local.octets());
        }
    }
}
