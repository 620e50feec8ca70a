//! Messages as bytes (RFC 4271, section 4), right ones and, of their parts, wrong ones.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;

use super::Introduction;
use crate::routers::Family;

/// The type of an OPEN.
pub const OPEN: u8 = 1;
/// The type of an UPDATE.
pub const UPDATE: u8 = 2;
/// The type of a NOTIFICATION.
pub const NOTIFICATION: u8 = 3;
/// The type of a KEEPALIVE.
pub const KEEPALIVE: u8 = 4;
/// The type of a ROUTE-REFRESH (RFC 2918).
pub const REFRESH: u8 = 5;
/// The longest message (RFC 4271, section 4.1).
pub const LONGEST: usize = 4096;

/// The flag of an attribute that not all speakers need to know.
pub const OPTIONAL: u8 = 0x80;
/// The flag of an attribute that is passed on.
pub const TRANSITIVE: u8 = 0x40;
/// The flag of an attribute that somebody has passed on without knowing it.
pub const PARTIAL: u8 = 0x20;
/// The flag of an attribute whose length has two bytes.
pub const EXTENDED: u8 = 0x10;

/// A message of this type.
///
/// # Panics
/// Where its length does not fit into its field.
pub fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(19 + body.len()).expect("a body of a message");
    [&[0xFF; 16], length.to_be_bytes().as_slice(), &[kind], body].concat()
}

/// An OPEN with the capabilities of an introduction.
///
/// # Panics
/// Where the capabilities take more than 253 bytes.
pub fn open(introduction: &Introduction) -> Vec<u8> {
    let Introduction { asn, router_id, hold_time, families, four_octet, capabilities } = introduction;
    let short = u16::try_from(*asn).unwrap_or(23456);
    let mut all = Vec::new();
    let mut add = |code: u8, value: &[u8]| {
        all.extend_from_slice(&[code, u8::try_from(value.len()).expect("a short value")]);
        all.extend_from_slice(value);
    };
    families.iter().for_each(|family| add(1, &[0, afi(*family), 0, Family::SAFI]));
    if *four_octet {
        add(65, &asn.to_be_bytes());
    }
    capabilities.iter().for_each(|(code, value)| add(*code, value));
    let mut body = vec![4];
    body.extend_from_slice(&short.to_be_bytes());
    body.extend_from_slice(&hold_time.to_be_bytes());
    body.extend_from_slice(&router_id.octets());
    if all.is_empty() {
        body.push(0);
    } else {
        let length = u8::try_from(all.len()).expect("few capabilities");
        body.extend_from_slice(&[length + 2, 2, length]);
        body.extend_from_slice(&all);
    }
    frame(OPEN, &body)
}

fn afi(family: Family) -> u8 {
    if family == Family::Ipv4 { 1 } else { 2 }
}

/// A KEEPALIVE.
pub fn keepalive() -> Vec<u8> {
    frame(KEEPALIVE, &[])
}

/// A NOTIFICATION.
pub fn notification(code: u8, subcode: u8, data: &[u8]) -> Vec<u8> {
    frame(NOTIFICATION, &[&[code, subcode], data].concat())
}

/// A ROUTE-REFRESH for a family.
pub fn refresh(family: Family) -> Vec<u8> {
    frame(REFRESH, &[0, afi(family), 0, Family::SAFI])
}

/// An UPDATE of these withdrawn IPv4 prefixes, attributes and announced IPv4 prefixes.
///
/// # Panics
/// Where it is longer than a message may be at all, 65,535 bytes.
pub fn update(withdrawn: &[IpNetwork], attributes: &[u8], announced: &[IpNetwork]) -> Vec<u8> {
    update_of(&nlri(withdrawn), attributes, &nlri(announced))
}

/// The same of bytes.
///
/// # Panics
/// Where it is longer than a message may be at all, 65,535 bytes.
pub fn update_of(withdrawn: &[u8], attributes: &[u8], announced: &[u8]) -> Vec<u8> {
    let length = |part: &[u8]| u16::try_from(part.len()).expect("a part of a message").to_be_bytes();
    frame(UPDATE, &[&length(withdrawn), withdrawn, &length(attributes), attributes, announced].concat())
}

/// The end of the first routes of a family (RFC 4724, section 2).
pub fn end_of_rib(family: Family) -> Vec<u8> {
    match family {
        Family::Ipv4 => update(&[], &[], &[]),
        Family::Ipv6 => update(&[], &attribute(OPTIONAL, 15, &[0, 2, Family::SAFI]), &[]),
    }
}

/// A path attribute; its length has two bytes where it needs them, or the flag is set.
///
/// # Panics
/// Where the value is longer than a message may be at all.
pub fn attribute(flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
    match u8::try_from(value.len()) {
        Ok(length) if flags & EXTENDED == 0 => [&[flags, code, length], value].concat(),
        _ => {
            let length = u16::try_from(value.len()).expect("a value of a message").to_be_bytes();
            [&[flags | EXTENDED, code], length.as_slice(), value].concat()
        }
    }
}

/// ORIGIN: 0 for IGP.
pub fn origin(value: u8) -> Vec<u8> {
    attribute(TRANSITIVE, 1, &[value])
}

/// AS_PATH of one sequence, with numbers of four bytes (RFC 6793).
///
/// # Panics
/// For more than 255 systems.
pub fn as_path(systems: &[u32]) -> Vec<u8> {
    let mut value = Vec::new();
    if !systems.is_empty() {
        value.extend_from_slice(&[2, u8::try_from(systems.len()).expect("one segment")]);
        value.extend(systems.iter().flat_map(|system| system.to_be_bytes()));
    }
    attribute(TRANSITIVE, 2, &value)
}

/// NEXT_HOP.
pub fn next_hop(address: Ipv4Addr) -> Vec<u8> {
    attribute(TRANSITIVE, 3, &address.octets())
}

/// MULTI_EXIT_DISC.
pub fn med(value: u32) -> Vec<u8> {
    attribute(OPTIONAL, 4, &value.to_be_bytes())
}

/// LOCAL_PREF.
pub fn local_pref(value: u32) -> Vec<u8> {
    attribute(TRANSITIVE, 5, &value.to_be_bytes())
}

/// COMMUNITIES (RFC 1997).
pub fn communities(all: &[(u16, u16)]) -> Vec<u8> {
    let value: Vec<_> = all.iter().flat_map(|(a, b)| [a.to_be_bytes(), b.to_be_bytes()].concat()).collect();
    attribute(OPTIONAL | TRANSITIVE, 8, &value)
}

/// MP_REACH_NLRI (RFC 4760): prefixes of one family, with a next hop of any (RFC 8950).
///
/// # Panics
/// Where the prefixes do not fit into a message.
pub fn mp_reach(family: Family, next_hop: IpAddr, announced: &[IpNetwork]) -> Vec<u8> {
    let hop = octets(next_hop);
    let head = [0, afi(family), Family::SAFI, u8::try_from(hop.len()).expect("an address")];
    attribute(OPTIONAL, 14, &[&head, hop.as_slice(), &[0], &nlri(announced)].concat())
}

/// MP_UNREACH_NLRI (RFC 4760).
///
/// # Panics
/// Where the prefixes do not fit into a message.
pub fn mp_unreach(family: Family, withdrawn: &[IpNetwork]) -> Vec<u8> {
    attribute(OPTIONAL, 15, &[&[0, afi(family), Family::SAFI], nlri(withdrawn).as_slice()].concat())
}

/// What every external route of IPv4 needs: ORIGIN, AS_PATH of these systems and NEXT_HOP.
///
/// # Panics
/// For more than 255 systems.
pub fn mandatory(systems: &[u32], hop: Ipv4Addr) -> Vec<u8> {
    [origin(0), as_path(systems), next_hop(hop)].concat()
}

/// Prefixes as an UPDATE has them (RFC 4271, section 4.3).
pub fn nlri(prefixes: &[IpNetwork]) -> Vec<u8> {
    let one = |prefix: &IpNetwork| {
        let bytes = usize::from(prefix.prefix()).div_ceil(8);
        let mut one = vec![prefix.prefix()];
        one.extend_from_slice(&octets(prefix.network())[..bytes]);
        one
    };
    prefixes.iter().flat_map(one).collect()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_is_as_rfc_4271_and_5492_have_it() {
        let introduction = Introduction { hold_time: 90, ..Introduction::new(70000, Ipv4Addr::new(10, 0, 0, 9)) };
        let expected = [
            [0xFF; 16].as_slice(),
            &[0, 43, 1, 4, 0x5B, 0xA0, 0, 90, 10, 0, 0, 9, 14, 2, 12],
            &[1, 4, 0, 1, 0, 1, 65, 4, 0, 1, 0x11, 0x70],
        ];
        assert_eq!(open(&introduction), expected.concat());
    }

    #[test]
    fn an_update_is_as_rfc_4271_has_it() {
        let [gone, new] = ["203.0.113.0/24", "198.51.100.128/25"].map(|text| text.parse().unwrap());
        let attributes = mandatory(&[65001], Ipv4Addr::new(192, 0, 2, 1));
        let expected = [
            [0xFF; 16].as_slice(),
            &[0, 52, 2, 0, 4, 24, 203, 0, 113, 0, 20],
            &[0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xFD, 0xE9, 0x40, 3, 4, 192, 0, 2, 1],
            &[25, 198, 51, 100, 128],
        ];
        assert_eq!(update(&[gone], &attributes, &[new]), expected.concat());
    }

    #[test]
    fn a_long_attribute_has_a_long_length() {
        assert_eq!(attribute(OPTIONAL, 200, &[7; 256])[..5], [0x90, 200, 1, 0, 7]);
        assert_eq!(attribute(OPTIONAL | EXTENDED, 200, &[7]), [0x90, 200, 0, 1, 7]);
    }
}
