//! What becomes of UPDATEs that are not as they should be: a table, each with what RFC 7606 asks.

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::path::{AsPath, Asn, Origin, PerFamily, Segment};
use crate::wire::{AddPath, Dialect, Notification};

/// An attribute, its length in one byte.
fn attribute(flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
    [&[flags, code, value.len() as u8], value].concat()
}

/// The body of an UPDATE.
fn body(withdrawn: &[u8], attributes: &[Vec<u8>], routes: &[u8]) -> Vec<u8> {
    let attributes = attributes.concat();
    let length = |field: &[u8]| (field.len() as u16).to_be_bytes();
    [&length(withdrawn), withdrawn, &length(&attributes), &attributes, routes].concat()
}

/// As two internal speakers that can all.
fn dialect() -> Dialect {
    Dialect {
        families: PerFamily::new(|_| true),
        four_octet: true,
        add_path: PerFamily::default(),
        extended_next_hop: true,
        internal: true,
        first_as: None,
    }
}

fn external() -> Dialect {
    Dialect { internal: false, ..dialect() }
}

fn old() -> Dialect {
    Dialect { four_octet: false, ..external() }
}

fn origin() -> Vec<u8> {
    attribute(0x40, 1, &[0])
}

fn as_path() -> Vec<u8> {
    attribute(0x40, 2, &[2, 1, 0, 0, 0xFD, 0xE9])
}

fn next_hop() -> Vec<u8> {
    attribute(0x40, 3, &[10, 0, 0, 1])
}

/// The mandatory ones, and one more.
fn with(more: Vec<u8>) -> Vec<Vec<u8>> {
    vec![origin(), as_path(), next_hop(), more]
}

const ROUTE: [u8; 3] = [16, 10, 1];
const IPV6_NEXT_HOP: [u8; 16] = [0x20, 1, 0xD, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

fn nlri(prefix: &str) -> Nlri {
    prefix.parse::<ipnetwork::IpNetwork>().unwrap().into()
}

/// MP_REACH_NLRI of this AFI, with this next hop and field.
fn mp_reach(afi: u8, hop: &[u8], field: &[u8]) -> Vec<u8> {
    attribute(0x80, 14, &[&[0, afi, 1, hop.len() as u8], hop, &[0], field].concat())
}

use Action::{AttributeDiscard as Discard, SessionReset as Reset, TreatAsWithdraw as Withdraw};

/// A name, how the peers write, the body, and what is done about which attribute.
type Case = (&'static str, Dialect, Vec<u8>, Action, u8);

/// All announce 10.1.0.0/16 with an attribute that is malformed.
fn attributes_one_by_one() -> Vec<Case> {
    let case = |name, dialect, flags, code, value: &[u8], action| {
        let dialect: Dialect = dialect;
        let path = if dialect.four_octet { as_path() } else { attribute(0x40, 2, &[2, 1, 0xFD, 0xE9]) };
        let mut all = vec![origin(), path, next_hop()];
        let bad = attribute(flags, code, value);
        match code {
            1..=3 => all[usize::from(code) - 1] = bad,
            _ => all.push(bad),
        }
        (name, dialect, body(&[], &all, &ROUTE), action, code)
    };
    vec![
        case("an ORIGIN of two bytes", dialect(), 0x40, 1, &[0, 0], Withdraw),
        case("an ORIGIN of no bytes", dialect(), 0x40, 1, &[], Withdraw),
        case("an ORIGIN that is not defined", dialect(), 0x40, 1, &[3], Withdraw),
        case("an optional ORIGIN", dialect(), 0xC0, 1, &[0], Withdraw),
        case("an AS_PATH that is not transitive", dialect(), 0x00, 2, &[2, 1, 0, 0, 0, 1], Withdraw),
        case("a segment of an unknown type", dialect(), 0x40, 2, &[5, 1, 0, 0, 0, 1], Withdraw),
        case("a segment of no systems", dialect(), 0x40, 2, &[2, 0], Withdraw),
        case("a segment that overruns", dialect(), 0x40, 2, &[2, 2, 0, 0, 0, 1], Withdraw),
        case("a byte behind the last segment", dialect(), 0x40, 2, &[2, 1, 0, 0, 0, 1, 2], Withdraw),
        case("a path through system 0", dialect(), 0x40, 2, &[2, 1, 0, 0, 0, 0], Withdraw),
        case("a confederation from outside", external(), 0x40, 2, &[3, 1, 0, 0, 0, 1], Withdraw),
        case("another first system", leading(), 0x40, 2, &[2, 1, 0, 0, 0, 1], Withdraw),
        case("an empty path where a first system must be", leading(), 0x40, 2, &[], Withdraw),
        case("a NEXT_HOP of five bytes", dialect(), 0x40, 3, &[10, 0, 0, 1, 0], Withdraw),
        case("a NEXT_HOP of 127.0.0.1", dialect(), 0x40, 3, &[127, 0, 0, 1], Withdraw),
        case("a NEXT_HOP of 0.0.0.0", dialect(), 0x40, 3, &[0, 0, 0, 0], Withdraw),
        case("a multicast NEXT_HOP", dialect(), 0x40, 3, &[224, 0, 0, 5], Withdraw),
        case("a NEXT_HOP of 240.0.0.1", dialect(), 0x40, 3, &[240, 0, 0, 1], Withdraw),
        case("a broadcast NEXT_HOP", dialect(), 0x40, 3, &[255; 4], Withdraw),
        case("a MULTI_EXIT_DISC of three bytes", dialect(), 0x80, 4, &[0; 3], Withdraw),
        case("a transitive MULTI_EXIT_DISC", dialect(), 0xC0, 4, &[0; 4], Withdraw),
        case("a LOCAL_PREF of five bytes", dialect(), 0x40, 5, &[0; 5], Withdraw),
        case("a LOCAL_PREF from outside", external(), 0x40, 5, &[0; 4], Discard),
        case("a malformed LOCAL_PREF from outside", external(), 0x80, 5, &[0; 9], Discard),
        case("an ATOMIC_AGGREGATE with a value", dialect(), 0x40, 6, &[1], Discard),
        case("an AGGREGATOR of six bytes", dialect(), 0xC0, 7, &[0, 1, 10, 0, 0, 1], Discard),
        case("an AGGREGATOR of eight bytes from a peer of two", old(), 0xC0, 7, &[0, 0, 0, 1, 10, 0, 0, 1], Discard),
        case("an AGGREGATOR of system 0", dialect(), 0xC0, 7, &[0, 0, 0, 0, 10, 0, 0, 1], Discard),
        case("an AGGREGATOR with wrong flags", dialect(), 0x40, 7, &[0, 0, 0, 1, 10, 0, 0, 1], Withdraw),
        case("COMMUNITIES of five bytes", dialect(), 0xC0, 8, &[0; 5], Withdraw),
        case("COMMUNITIES of none", dialect(), 0xC0, 8, &[], Withdraw),
        case("an ORIGINATOR_ID of five bytes", dialect(), 0x80, 9, &[1; 5], Withdraw),
        case("an ORIGINATOR_ID from outside", external(), 0x80, 9, &[1; 4], Discard),
        case("a CLUSTER_LIST of six bytes", dialect(), 0x80, 10, &[1; 6], Withdraw),
        case("a CLUSTER_LIST of none", dialect(), 0x80, 10, &[], Withdraw),
        case("a CLUSTER_LIST from outside", external(), 0x80, 10, &[1; 3], Discard),
        case("an AS4_PATH from a peer of four bytes", dialect(), 0xC0, 17, &[2, 1, 0, 1, 0, 0], Discard),
        case("an AS4_AGGREGATOR from a peer of four bytes", dialect(), 0xC0, 18, &[1; 8], Discard),
        case("LARGE_COMMUNITY of thirteen bytes", dialect(), 0xC0, 32, &[0; 13], Withdraw),
        case("LARGE_COMMUNITY of none", dialect(), 0xC0, 32, &[], Withdraw),
        case("an unknown well-known attribute", dialect(), 0x40, 99, &[], Reset),
    ]
}

fn leading() -> Dialect {
    Dialect { first_as: Some(Asn(65001)), ..external() }
}

/// Those that concern the message as a whole, or attributes that name routes. All name 10.1.0.0/16 where they can.
fn messages() -> Vec<Case> {
    let announce = |attributes: &[Vec<u8>]| body(&[], attributes, &ROUTE);
    let case = |name, bytes, action, code| (name, dialect(), bytes, action, code);
    let only = |attribute: Vec<u8>| body(&[], &[origin(), as_path(), attribute], &[]);
    let mut overrun = announce(&with(attribute(0xC0, 8, &[0; 4])));
    let at = overrun.len() - ROUTE.len() - 5;
    overrun[at] = 5;
    let two = mp_reach(2, &IPV6_NEXT_HOP, &[8, 0x20]);
    vec![
        case("no ORIGIN", announce(&[as_path(), next_hop()]), Withdraw, 1),
        case("no AS_PATH", announce(&[origin(), next_hop()]), Withdraw, 2),
        case("no NEXT_HOP", announce(&[origin(), as_path()]), Withdraw, 3),
        case("no attributes", announce(&[]), Withdraw, 1),
        case("two ORIGINs", announce(&with(origin())), Discard, 1),
        case(
            "two of an unknown attribute",
            announce(&with([attribute(0xC0, 77, &[]), attribute(0xC0, 77, &[])].concat())),
            Discard,
            77,
        ),
        case("an attribute that overruns the list", overrun, Withdraw, 8),
        case("a list that ends within a header", announce(&with(vec![0xC0])), Withdraw, 0),
        case("a list longer than the message", vec![0, 0, 0, 9, 0x40], Reset, 0),
        case("withdrawn routes longer than the message", vec![0, 9, 0, 0], Reset, 0),
        case("a prefix of 33 bits", body(&[], &with(vec![]), &[33, 10, 1, 0, 0, 0]), Reset, 0),
        case("a prefix that overruns", body(&[], &with(vec![]), &[24, 10, 1]), Reset, 0),
        case("a withdrawn prefix of 200 bits", body(&[200, 10], &[], &[]), Reset, 0),
        case("two MP_REACH_NLRI", only([two.clone(), two.clone()].concat()), Reset, 14),
        case(
            "two MP_UNREACH_NLRI",
            only([attribute(0x80, 15, &[0, 2, 1]), attribute(0x80, 15, &[0, 2, 1])].concat()),
            Reset,
            15,
        ),
        case("an MP_REACH_NLRI of two bytes", only(attribute(0x80, 14, &[0, 2])), Reset, 14),
        case("an IPv6 next hop of 17 bytes", only(mp_reach(2, &[1; 17], &[8, 0x20])), Reset, 14),
        case("an IPv4 next hop of IPv6 routes", only(mp_reach(2, &[10, 0, 0, 1], &[8, 0x20])), Reset, 14),
        case(
            "an IPv6 prefix of 129 bits",
            only(mp_reach(2, &IPV6_NEXT_HOP, &[&[129][..], &[1; 17]].concat())),
            Reset,
            14,
        ),
        case("an IPv6 prefix that overruns", only(mp_reach(2, &IPV6_NEXT_HOP, &[64, 0x20])), Reset, 14),
        case("an MP_UNREACH_NLRI of one byte", only(attribute(0x80, 15, &[0])), Reset, 15),
        case("a withdrawn IPv6 prefix of 200 bits", only(attribute(0x80, 15, &[0, 2, 1, 200])), Reset, 15),
        case("a multicast IPv6 next hop", only(mp_reach(2, &[0xFF; 16], &[8, 0x20])), Withdraw, 14),
        case("an unspecified IPv6 next hop", only(mp_reach(2, &[0; 16], &[8, 0x20])), Withdraw, 14),
        case(
            "a mapped IPv6 next hop",
            only(mp_reach(2, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 1], &[8, 0x20])),
            Withdraw,
            14,
        ),
        case("an MP_REACH_NLRI with wrong flags", only(attribute(0xC0, 14, &two[3..])), Withdraw, 14),
        case("a malformed attribute beside no routes", body(&[], &[attribute(0x80, 4, &[])], &[]), Reset, 4),
        case("a malformed attribute beside withdrawn routes", body(&ROUTE, &[attribute(0x40, 1, &[7])], &[]), Reset, 1),
    ]
}

fn check((name, dialect, bytes, action, code): &Case) {
    let decoded = decode(bytes, dialect);
    let Ok(update) = decoded else {
        assert_eq!(*action, Reset, "{name}: {decoded:?}");
        return;
    };
    let found = update.malformed.iter().any(|malformed| (malformed.attribute, malformed.action) == (*code, *action));
    assert!(found, "{name}: {:?}", update.malformed);
    let announced: Vec<_> =
        update.announced.iter().flat_map(|announced| &announced.reach).flat_map(|reach| &reach.routes).collect();
    let (kept, lost) = match action {
        Withdraw => (update.withdrawn.iter().collect(), announced),
        _ => (announced, update.withdrawn.iter().collect()),
    };
    assert_eq!((kept.len(), lost.len()), (1, 0), "{name}: {update:?}");
    assert!([nlri("10.1.0.0/16"), nlri("2000::/8")].contains(kept[0]), "{name}: {kept:?}");
}

#[test]
fn each_malformed_update_has_the_effect_that_rfc_7606_asks() {
    let all = [attributes_one_by_one(), messages()].concat();
    assert!(all.len() >= 60, "{}", all.len());
    all.iter().for_each(check);
}

#[test]
fn what_the_table_changes_is_all_that_is_wrong() {
    let update = decode(&body(&[], &with(vec![]), &ROUTE), &dialect()).unwrap();
    assert_eq!((update.malformed, update.withdrawn), (vec![], vec![]));
    let mut attributes = Attributes::new(Origin::Igp);
    attributes.as_path = AsPath(vec![Segment::Sequence(vec![Asn(65001)])]);
    let next_hop = NextHop { address: IpAddr::from([10, 0, 0, 1]), link_local: None };
    let reach = vec![Reach { next_hop, routes: vec![nlri("10.1.0.0/16")] }];
    assert_eq!(update.announced, Some(Announced { attributes, reach }));
    assert!(decode(&body(&[], &with(vec![]), &ROUTE), &leading()).unwrap().malformed.is_empty());
}

#[test]
fn a_reset_says_which_attribute_it_was() {
    let said = |attributes: &[Vec<u8>]| decode(&body(&[], attributes, &[]), &dialect()).unwrap_err();
    let case = |flags, code, value: &[u8], error| {
        let bad = attribute(flags, code, value);
        assert_eq!(said(std::slice::from_ref(&bad)), Notification::new(error, bad));
    };
    case(0x40, 99, &[1], ErrorCode::UNRECOGNIZED_WELL_KNOWN);
    case(0xC0, 1, &[0], ErrorCode::ATTRIBUTE_FLAGS);
    case(0x40, 1, &[0, 0], ErrorCode::ATTRIBUTE_LENGTH);
    case(0x40, 1, &[9], ErrorCode::INVALID_ORIGIN);
    case(0x40, 3, &[127, 0, 0, 1], ErrorCode::INVALID_NEXT_HOP);
    case(0x80, 15, &[0, 2, 1, 200], ErrorCode::OPTIONAL_ATTRIBUTE);
    case(0x40, 2, &[9, 1, 0, 0, 0, 1], ErrorCode::MALFORMED_AS_PATH);
    assert_eq!(decode(&[0, 9, 0, 0], &dialect()).unwrap_err().error, ErrorCode::MALFORMED_ATTRIBUTES);
    assert_eq!(
        decode(&body(&[33, 0, 0, 0, 0, 0], &[], &[]), &dialect()).unwrap_err().error,
        ErrorCode::INVALID_NETWORK_FIELD
    );
}

#[test]
fn prefixes_that_are_no_unicast_ones_are_ignored_and_no_others() {
    let field = [&[8, 127][..], &[4, 0xE0], &[32, 240, 0, 0, 1], &[8, 0], &ROUTE, &[0], &[12, 172, 0xFF]].concat();
    let update = decode(&body(&[], &with(vec![]), &field), &dialect()).unwrap();
    let announced = update.announced.unwrap();
    assert_eq!(announced.reach[0].routes, [nlri("10.1.0.0/16"), nlri("0.0.0.0/0"), nlri("172.240.0.0/12")]);
    assert_eq!(update.ignored.len(), 4);
    let field =
        [&[8, 0xFF][..], &[10, 0xFE, 0x80], &[128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], &[0]].concat();
    let update =
        decode(&body(&[], &[origin(), as_path(), mp_reach(2, &IPV6_NEXT_HOP, &field)], &[]), &dialect()).unwrap();
    assert_eq!((update.announced.unwrap().reach[0].routes.as_slice(), update.ignored.len()), (&[nlri("::/0")][..], 3));
}

#[test]
fn routes_of_a_family_that_was_not_negotiated_are_ignored() {
    let old = Dialect { families: PerFamily::new(|family| family == Family::Ipv6), ..dialect() };
    let update = decode(&body(&ROUTE, &with(vec![]), &ROUTE), &old).unwrap();
    assert_eq!((update.announced, update.withdrawn.len(), update.ignored.len()), (None, 0, 2));
    for afi in [1, 25] {
        let update = decode(&body(&[], &[origin(), as_path(), mp_reach(afi, &[1; 4], &[255; 9])], &[]), &old).unwrap();
        assert_eq!((update.announced, update.malformed), (None, vec![]), "AFI {afi}");
    }
}

#[test]
fn the_end_of_each_family_is_seen() {
    let end = |bytes: &[u8]| decode(bytes, &dialect()).unwrap().end_of_rib;
    assert_eq!(end(&[0, 0, 0, 0]), Some(Family::Ipv4));
    assert_eq!(end(&body(&[], &[attribute(0x80, 15, &[0, 2, 1])], &[])), Some(Family::Ipv6));
    assert_eq!(
        end(&body(&[], &[attribute(0x90, 15, &[])[..2].iter().copied().chain([0, 3, 0, 1, 1]).collect()], &[])),
        Some(Family::Ipv4)
    );
    assert_eq!(end(&body(&[], &[attribute(0x80, 15, &[0, 25, 70])], &[])), None);
    assert_eq!(end(&body(&[], &[attribute(0x80, 15, &[0, 2, 1, 8, 0x20])], &[])), None);
    assert_eq!(end(&body(&ROUTE, &[], &[])), None);
}

#[test]
fn a_peer_of_two_bytes_tells_the_rest_beside() {
    let path = attribute(0x40, 2, &[2, 2, 0, 1, 0x5B, 0xA0]);
    let real = attribute(0xC0, 17, &[2, 1, 0, 1, 0x11, 0x70]);
    let by = attribute(0xC0, 7, &[0x5B, 0xA0, 10, 0, 0, 1]);
    let real_by = attribute(0xC0, 18, &[0, 1, 0x11, 0x70, 10, 0, 0, 2]);
    let update = decode(&body(&[], &[origin(), path, next_hop(), by, real, real_by], &ROUTE), &old()).unwrap();
    let attributes = update.announced.unwrap().attributes;
    assert_eq!(attributes.as_path.to_string(), "1 70000");
    assert_eq!(attributes.aggregator, Some((Asn(70000), Ipv4Addr::new(10, 0, 0, 2))));
    let long = attribute(0xC0, 17, &[2, 3, 0, 1, 0x11, 0x70, 0, 1, 0x11, 0x70, 0, 1, 0x11, 0x70]);
    let path = attribute(0x40, 2, &[2, 1, 0x5B, 0xA0]);
    let update = decode(&body(&[], &[origin(), path, next_hop(), long], &ROUTE), &old()).unwrap();
    assert_eq!(update.malformed[0].action, Discard);
    assert_eq!(update.announced.unwrap().attributes.as_path.to_string(), "23456");
}

#[test]
fn next_hops_of_both_lengths_and_of_the_other_family_are_read() {
    let local = [0xFE, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    let hop = |afi, bytes: &[u8], field: &[u8]| {
        let update = decode(&body(&[], &[origin(), as_path(), mp_reach(afi, bytes, field)], &[]), &dialect()).unwrap();
        update.announced.unwrap().reach[0].next_hop
    };
    let (global, link) = (IpAddr::from(IPV6_NEXT_HOP), std::net::Ipv6Addr::from(local));
    assert_eq!(
        hop(2, &[IPV6_NEXT_HOP, local].concat(), &[8, 0x20]),
        NextHop { address: global, link_local: Some(link) }
    );
    assert_eq!(hop(1, &IPV6_NEXT_HOP, &ROUTE), NextHop { address: global, link_local: None });
    assert_eq!(hop(1, &[10, 0, 0, 7], &ROUTE), NextHop { address: IpAddr::from([10, 0, 0, 7]), link_local: None });
    assert_eq!(
        hop(2, &[[0; 16], local].concat(), &[8, 0x20]),
        NextHop { address: link.into(), link_local: Some(link) }
    );
    let refused = Dialect { extended_next_hop: false, ..dialect() };
    assert!(decode(&body(&[], &[origin(), as_path(), mp_reach(1, &IPV6_NEXT_HOP, &ROUTE)], &[]), &refused).is_err());
}

#[test]
fn unknown_transitive_attributes_are_kept_and_others_are_not() {
    let more = [attribute(0xE0, 77, &[1, 2]), attribute(0x80, 78, &[3])].concat();
    let update = decode(&body(&[], &with(more), &ROUTE), &dialect()).unwrap();
    let unknown = update.announced.unwrap().attributes.unknown;
    assert_eq!(unknown, [crate::path::Unknown { code: 77, partial: true, value: vec![1, 2] }]);
}

#[test]
fn identifiers_of_paths_are_read_where_the_peer_sends_them() {
    let mut dialect = dialect();
    dialect.add_path[Family::Ipv4] = AddPath { send: false, receive: true };
    let field = [&[0, 0, 0, 7][..], &ROUTE].concat();
    let update = decode(&body(&field, &with(vec![]), &field), &dialect).unwrap();
    let expected = Nlri { path: crate::path::PathId(7), ..nlri("10.1.0.0/16") };
    assert_eq!((update.withdrawn[0], update.announced.unwrap().reach[0].routes[0]), (expected, expected));
}
