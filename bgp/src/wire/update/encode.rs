//! From an [`Update`] to bytes: as few messages as its routes need, none over 4096 bytes.
//!
//! IPv4 routes with an IPv4 next hop take the classic form, all others MP_REACH_NLRI, which stands first (RFC 7606, section 5.1).
//! What does not belong to an external peer is not written to it, and the Partial bit is set on what nobody here knows.

use std::net::{IpAddr, Ipv4Addr};

use netgauze_bgp_pkt::community::{Community as WireCommunity, LargeCommunity as WireLarge};
use netgauze_bgp_pkt::path_attribute as wire;
use netgauze_bgp_pkt::path_attribute::{PathAttribute, PathAttributeValue as Value};
use netgauze_parse_utils::WritablePdu;

use super::as_path::{self, Width};
use super::attribute::{
    AS_PATH, AS4_AGGREGATOR, AS4_PATH, EXTENDED_LENGTH, MP_REACH, MP_UNREACH, OPTIONAL, PARTIAL, TRANSITIVE,
};
use super::{Reach, Update, four_octet};
use crate::path::{Asn, Attributes, Family, Origin};
use crate::prefix;
use crate::wire::frame::{self, HEADER, Kind, MAX_MESSAGE};
use crate::wire::nlri::{self, Nlri};
use crate::wire::{Dialect, WriteError};

/// What a message has for the fields of its body, beside their two lengths.
const ROOM: usize = MAX_MESSAGE - HEADER - 4;
/// Flags, code and a length of two bytes.
const ATTRIBUTE_HEADER: usize = 4;

pub(in crate::wire) fn encode(update: &Update, dialect: &Dialect, out: &mut Vec<u8>) -> Result<(), WriteError> {
    let mut messages = Vec::new();
    for family in Family::ALL {
        let of_family = update.withdrawn.iter().filter(|route| prefix::family(route.prefix) == family);
        withdraw(family, &of_family.copied().collect::<Vec<_>>(), dialect, &mut messages)?;
    }
    if let Some(announced) = &update.announced {
        let common = attributes(&announced.attributes, dialect);
        for reach in &announced.reach {
            announce(&common, reach, dialect, &mut messages)?;
        }
    }
    match update.end_of_rib {
        Some(Family::Ipv4) => write(&[], &[], &[], &mut messages),
        Some(family) => write(&[], &attribute(OPTIONAL, MP_UNREACH, &family_bytes(family)), &[], &mut messages),
        None => {}
    }
    out.append(&mut messages);
    Ok(())
}

fn withdraw(family: Family, routes: &[Nlri], dialect: &Dialect, out: &mut Vec<u8>) -> Result<(), WriteError> {
    if !routes.is_empty() && !dialect.families[family] {
        return Err(WriteError::Family { family });
    }
    let add_path = dialect.add_path[family].send;
    match family {
        Family::Ipv4 => chunks(routes, add_path, ROOM, |routes| write(routes, &[], &[], out)),
        Family::Ipv6 => chunks(routes, add_path, ROOM - ATTRIBUTE_HEADER - 3, |routes| {
            let value = [&family_bytes(family), routes].concat();
            write(&[], &attribute(OPTIONAL, MP_UNREACH, &value), &[], out);
        }),
    }
}

fn announce(common: &[u8], reach: &Reach, dialect: &Dialect, out: &mut Vec<u8>) -> Result<(), WriteError> {
    let Some(first) = reach.routes.first() else { return Ok(()) };
    let family = prefix::family(first.prefix);
    if let Some(other) = reach.routes.iter().find(|route| prefix::family(route.prefix) != family) {
        return Err(WriteError::Mixed { prefix: other.prefix, family });
    }
    if !dialect.families[family] {
        return Err(WriteError::Family { family });
    }
    let add_path = dialect.add_path[family].send;
    match (family, reach.next_hop.address) {
        (Family::Ipv4, IpAddr::V4(next_hop)) => {
            let mut common = common.to_vec();
            put(TRANSITIVE, Value::NextHop(wire::NextHop::new(next_hop)), &mut common);
            let room = ROOM.saturating_sub(common.len());
            chunks(&reach.routes, add_path, room, |routes| write(&[], &common, routes, out))
        }
        (Family::Ipv6, IpAddr::V4(next_hop)) => Err(WriteError::NextHop { next_hop: next_hop.into(), family }),
        (Family::Ipv4, next_hop) if !dialect.extended_next_hop => Err(WriteError::NextHop { next_hop, family }),
        (_, IpAddr::V6(_)) => {
            let mut head = family_bytes(family).to_vec();
            nlri::write_next_hop(&reach.next_hop, &mut head);
            head.push(0);
            let room = ROOM.saturating_sub(common.len() + ATTRIBUTE_HEADER + head.len());
            chunks(&reach.routes, add_path, room, |routes| {
                let mut all = attribute(OPTIONAL, MP_REACH, &[&head, routes].concat());
                all.extend_from_slice(common);
                write(&[], &all, &[], out);
            })
        }
    }
}

/// Gives `message` the bytes of as many routes as there is room for, until all are written.
fn chunks(routes: &[Nlri], add_path: bool, room: usize, mut message: impl FnMut(&[u8])) -> Result<(), WriteError> {
    let mut chunk = Vec::new();
    for route in routes {
        let before = chunk.len();
        nlri::write(route, add_path, &mut chunk);
        if chunk.len() > room {
            let last = chunk.split_off(before);
            if last.len() > room {
                return Err(WriteError::TooLong { length: ROOM - room });
            }
            message(&chunk);
            chunk = last;
        }
    }
    if !chunk.is_empty() {
        message(&chunk);
    }
    Ok(())
}

fn write(withdrawn: &[u8], attributes: &[u8], routes: &[u8], out: &mut Vec<u8>) {
    let length = |field: &[u8]| u16::try_from(field.len()).expect("there is room for 4096 bytes").to_be_bytes();
    let body = [&length(withdrawn), withdrawn, &length(attributes), attributes, routes].concat();
    frame::write(Kind::Update, &body, out);
}

fn family_bytes(family: Family) -> [u8; 3] {
    let [high, low] = family.afi().to_be_bytes();
    [high, low, Family::SAFI]
}

/// An attribute that is written here, its length in as many bytes as it takes.
fn attribute(flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
    match u8::try_from(value.len()) {
        Ok(length) => [&[flags, code, length], value].concat(),
        Err(_) => {
            // More than a message holds is never sent: `chunks` finds that there is no room beside it.
            let [high, low] = u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes();
            [&[flags | EXTENDED_LENGTH, code, high, low], value].concat()
        }
    }
}

/// All that routes share, in the order of their codes.
fn attributes(of: &Attributes, dialect: &Dialect) -> Vec<u8> {
    let mut out = Vec::new();
    put(TRANSITIVE, Value::Origin(origin(of.origin)), &mut out);
    let width = Width::of(dialect.four_octet);
    out.extend_from_slice(&attribute(TRANSITIVE, AS_PATH, &as_path::write(&of.as_path, width)));
    if let Some(metric) = of.med {
        put(OPTIONAL, Value::MultiExitDiscriminator(wire::MultiExitDiscriminator::new(metric)), &mut out);
    }
    if let (Some(metric), true) = (of.local_pref, dialect.internal) {
        put(TRANSITIVE, Value::LocalPreference(wire::LocalPreference::new(metric)), &mut out);
    }
    if of.atomic_aggregate {
        put(TRANSITIVE, Value::AtomicAggregate(wire::AtomicAggregate), &mut out);
    }
    if let Some((system, address)) = of.aggregator {
        put(OPTIONAL | TRANSITIVE, Value::Aggregator(aggregator(system, address, width)), &mut out);
    }
    if !of.communities.is_empty() {
        let all: Vec<_> = of.communities.iter().map(|each| WireCommunity::new(each.0)).collect();
        put(OPTIONAL | TRANSITIVE, Value::Communities(wire::Communities::new(all)), &mut out);
    }
    if dialect.internal {
        if let Some(originator) = of.originator {
            put(OPTIONAL, Value::Originator(wire::Originator::new(originator)), &mut out);
        }
        if !of.clusters.is_empty() {
            let all: Vec<_> = of.clusters.iter().map(|each| wire::ClusterId::new(*each)).collect();
            put(OPTIONAL, Value::ClusterList(wire::ClusterList::new(all)), &mut out);
        }
    }
    if !dialect.four_octet {
        let old = four_octet::beside(of);
        if let Some(path) = old.path {
            let value = as_path::write(&path, Width::Four);
            out.extend_from_slice(&attribute(OPTIONAL | TRANSITIVE, AS4_PATH, &value));
        }
        if let Some((system, address)) = old.aggregator {
            let value = [system.0.to_be_bytes(), address.octets()].concat();
            put(OPTIONAL | TRANSITIVE, unknown(AS4_AGGREGATOR, value), &mut out);
        }
    }
    if !of.large_communities.is_empty() {
        let large = |each: &crate::path::LargeCommunity| WireLarge::new(each.global, each.local[0], each.local[1]);
        let all: Vec<_> = of.large_communities.iter().map(large).collect();
        put(OPTIONAL | TRANSITIVE, Value::LargeCommunities(wire::LargeCommunities::new(all)), &mut out);
    }
    for each in &of.unknown {
        put(OPTIONAL | TRANSITIVE | PARTIAL, unknown(each.code, each.value.clone()), &mut out);
    }
    out
}

/// Appends an attribute. Its length has two bytes where one does not suffice: `netgauze-bgp-pkt` would cut it.
fn put(flags: u8, value: Value, out: &mut Vec<u8>) {
    let is = |flag| flags & flag != 0;
    let with_length = |extended, value| {
        PathAttribute::from(is(OPTIONAL), is(TRANSITIVE), is(PARTIAL), extended, value)
            .expect("the flags are those of the attribute")
    };
    let short = with_length(false, value);
    let whole = if short.len() > 3 + 255 { with_length(true, short.value().clone()) } else { short };
    whole.write(out).expect("a vector takes all");
}

fn unknown(code: u8, value: Vec<u8>) -> Value {
    Value::UnknownAttribute(wire::UnknownAttribute::new(code, value))
}

fn origin(of: Origin) -> wire::Origin {
    match of {
        Origin::Igp => wire::Origin::IGP,
        Origin::Egp => wire::Origin::EGP,
        Origin::Incomplete => wire::Origin::Incomplete,
    }
}

fn aggregator(system: Asn, address: Ipv4Addr, width: Width) -> wire::Aggregator {
    match (width, u16::try_from(width.seen(system).0)) {
        (Width::Two, Ok(system)) => wire::Aggregator::As2Aggregator(wire::As2Aggregator::new(system, address)),
        _ => wire::Aggregator::As4Aggregator(wire::As4Aggregator::new(system.0, address)),
    }
}
