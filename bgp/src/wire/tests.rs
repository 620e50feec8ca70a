//! What is written is read back, and an independent decoder reads the same.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bgpkit_parser::models as other;
use bgpkit_parser::parser::bgp::parse_bgp_message;
use ipnetwork::IpNetwork;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::path::{AsPath, Attributes, Community, LargeCommunity, NextHop, Origin, PathId, Segment, Unknown};

fn system() -> impl Strategy<Value = Asn> {
    prop_oneof![1..65536u32, 65536..=u32::MAX].prop_map(Asn)
}

fn segment() -> impl Strategy<Value = Segment> {
    prop_oneof![
        4 => vec(system(), 1..9).prop_map(Segment::Sequence),
        1 => vec(system(), 1..4).prop_map(Segment::Set),
    ]
}

prop_compose! {
    fn attributes()(
        origin in prop_oneof![Just(Origin::Igp), Just(Origin::Egp), Just(Origin::Incomplete)],
        path in vec(segment(), 0..4),
        (med, local_pref) in (option::of(any::<u32>()), option::of(any::<u32>())),
        atomic_aggregate in any::<bool>(),
        aggregator in option::of((system(), any::<Ipv4Addr>())),
        communities in vec(any::<u32>().prop_map(Community), 0..90),
        large in vec(any::<[u32; 3]>(), 0..30),
        originator in option::of(any::<Ipv4Addr>()),
        clusters in vec(any::<Ipv4Addr>(), 0..4),
        unknown in vec((200..240u8, vec(any::<u8>(), 0..300)), 0..3),
    ) -> Attributes {
        let mut all = Attributes::new(origin);
        all.as_path = AsPath(path);
        (all.med, all.local_pref, all.atomic_aggregate, all.aggregator) = (med, local_pref, atomic_aggregate, aggregator);
        all.communities = communities;
        all.communities.sort_unstable();
        all.communities.dedup();
        all.large_communities =
            large.into_iter().map(|[global, a, b]| LargeCommunity { global, local: [a, b] }).collect();
        all.large_communities.sort_unstable();
        all.large_communities.dedup();
        (all.originator, all.clusters) = (originator, clusters);
        all.unknown = unknown.into_iter().map(|(code, value)| Unknown { code, partial: true, value }).collect();
        all.unknown.sort_unstable();
        all.unknown.dedup_by_key(|each| each.code);
        all
    }
}

/// Unicast prefixes, without and with an identifier.
fn routes(family: Family, add_path: bool, count: usize) -> impl Strategy<Value = Vec<Nlri>> {
    let one = (any::<u128>(), 0..=128u8, any::<u32>()).prop_map(move |(bits, length, path)| {
        let (address, length): (IpAddr, u8) = match family {
            Family::Ipv4 => (Ipv4Addr::from(0x0A00_0000 | (bits as u32 & 0xFF_FFFF)).into(), 8 + length % 25),
            Family::Ipv6 => (Ipv6Addr::from(0x2001 << 112 | bits >> 16).into(), 16 + length % 113),
        };
        let network = IpNetwork::new(address, length).unwrap();
        let prefix = IpNetwork::new(network.network(), length).unwrap();
        Nlri { prefix, path: PathId(if add_path { path } else { 0 }) }
    });
    vec(one, 1..=count)
}

fn dialects() -> impl Strategy<Value = Dialect> {
    (any::<bool>(), any::<[bool; 2]>(), any::<bool>()).prop_map(|(four_octet, [ipv4, ipv6], internal)| Dialect {
        families: PerFamily::new(|_| true),
        four_octet,
        add_path: PerFamily::new(|family| {
            let both = if family == Family::Ipv4 { ipv4 } else { ipv6 };
            AddPath { send: both, receive: both }
        }),
        extended_next_hop: true,
        internal,
        first_as: None,
    })
}

fn next_hop(family: Family) -> impl Strategy<Value = NextHop> {
    let global = Ipv6Addr::new(0x2001, 0xDB8, 0, 0, 0, 0, 0, 1);
    let local = Ipv6Addr::new(0xFE80, 0, 0, 0, 0, 0, 0, 1);
    let of_six = prop_oneof![
        Just(NextHop { address: global.into(), link_local: None }),
        Just(NextHop { address: global.into(), link_local: Some(local) }),
    ];
    let of_four = Just(NextHop { address: IpAddr::from([192, 0, 2, 1]), link_local: None });
    if family == Family::Ipv4 { prop_oneof![of_four, of_six].boxed() } else { of_six.boxed() }
}

/// An UPDATE for a dialect, of one family.
fn updates() -> impl Strategy<Value = (Dialect, Family, Update)> {
    (dialects(), prop_oneof![Just(Family::Ipv4), Just(Family::Ipv6)]).prop_flat_map(|(dialect, family)| {
        let add_path = dialect.add_path[family].send;
        let parts = (attributes(), next_hop(family), routes(family, add_path, 900), routes(family, add_path, 900));
        parts.prop_map(move |(mut attributes, next_hop, routes, withdrawn)| {
            if !dialect.internal {
                (attributes.local_pref, attributes.originator, attributes.clusters) = (None, None, Vec::new());
            }
            let announced = Some(Announced { attributes, reach: vec![Reach { next_hop, routes }] });
            (dialect.clone(), family, Update { withdrawn, announced, ..Update::default() })
        })
    })
}

fn frames(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = bytes;
    let mut all = Vec::new();
    while let [_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, high, low, ..] = *rest {
        let (one, more) = rest.split_at(usize::from(u16::from_be_bytes([high, low])));
        assert!(one.len() <= MAX_MESSAGE);
        all.push(one.to_vec());
        rest = more;
    }
    assert!(rest.is_empty());
    all
}

fn read(bytes: &[u8], dialect: &Dialect) -> Message {
    let mut framer = Framer::default();
    framer.feed(bytes);
    decode(&framer.next_frame().unwrap().unwrap(), dialect).unwrap()
}

/// What the other decoder finds: withdrawn prefixes, announced ones, next hops, path, communities.
#[derive(Debug, Default, PartialEq)]
struct Told {
    withdrawn: Vec<(String, u32)>,
    announced: Vec<(String, u32)>,
    next_hops: Vec<IpAddr>,
    path: Vec<String>,
    communities: Vec<String>,
    numbers: Vec<(u8, u32)>,
}

fn names<'a>(all: impl IntoIterator<Item = &'a other::NetworkPrefix>) -> Vec<(String, u32)> {
    all.into_iter().map(|each| (each.prefix.to_string(), each.path_id.unwrap_or(0))).collect()
}

/// Reads a message with `bgpkit-parser`.
fn other_decoder(bytes: &[u8], dialect: &Dialect, family: Family, told: &mut Told) {
    let width = if dialect.four_octet { other::AsnLength::Bits32 } else { other::AsnLength::Bits16 };
    let mut bytes = bytes::Bytes::copy_from_slice(bytes);
    let message = parse_bgp_message(&mut bytes, dialect.add_path[family].send, &width).unwrap();
    let other::BgpMessage::Update(update) = message else { panic!("{message:?}") };
    assert_eq!(update.attributes.validation_warnings(), &[]);
    told.withdrawn.extend(names(&update.withdrawn_prefixes));
    told.announced.extend(names(&update.announced_prefixes));
    for attribute in update.attributes.iter() {
        match attribute {
            other::AttributeValue::MpReachNlri(nlri) => {
                told.announced.extend(names(&nlri.prefixes));
                told.next_hops.push(nlri.next_hop.unwrap().addr());
            }
            other::AttributeValue::MpUnreachNlri(nlri) => told.withdrawn.extend(names(&nlri.prefixes)),
            other::AttributeValue::NextHop(hop) => told.next_hops.push(*hop),
            other::AttributeValue::AsPath(path) => told.path = vec![path.to_string()],
            other::AttributeValue::Communities(all) => {
                told.communities = all.iter().map(|each| format!("{each:?}")).collect();
            }
            other::AttributeValue::MultiExitDiscriminator(metric) => told.numbers.push((4, *metric)),
            other::AttributeValue::LocalPreference(metric) => told.numbers.push((5, *metric)),
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_back_and_by_another_decoder_too((dialect, family, update) in updates()) {
        let mut bytes = Vec::new();
        encode(&Message::Update(update.clone()), &dialect, &mut bytes).unwrap();
        let (mut back, mut told) = (Update::default(), Told::default());
        let announced = update.announced.clone().unwrap();
        let all = frames(&bytes);
        for one in &all {
            other_decoder(one, &dialect, family, &mut told);
            let Message::Update(part) = read(one, &dialect) else { panic!("not an UPDATE") };
            prop_assert_eq!(&part.malformed, &vec![]);
            prop_assert_eq!(&part.ignored, &vec![]);
            back.withdrawn.extend(part.withdrawn);
            for mut reach in part.announced.into_iter().flat_map(|part| {
                assert_eq!(joined(&part.attributes), joined(&announced.attributes));
                part.reach
            }) {
                prop_assert_eq!(reach.next_hop, announced.reach[0].next_hop);
                match &mut back.announced {
                    Some(all) => all.reach[0].routes.append(&mut reach.routes),
                    none => *none = Some(Announced { attributes: announced.attributes.clone(), reach: vec![reach] }),
                }
            }
        }
        prop_assert_eq!(&back, &update);
        let mut bytes_of_routes = 0;
        for route in update.withdrawn.iter().chain(&announced.reach[0].routes) {
            bytes_of_routes += 5 + usize::from(route.prefix.prefix()).div_ceil(8);
        }
        prop_assert!(all.len() <= 3 + bytes_of_routes / 500, "{} messages for {bytes_of_routes} bytes", all.len());

        let expected = |routes: &[Nlri]| -> Vec<_> {
            routes.iter().map(|each| (each.prefix.to_string(), each.path.0)).collect()
        };
        prop_assert_eq!(&told.withdrawn, &expected(&update.withdrawn));
        prop_assert_eq!(&told.announced, &expected(&announced.reach[0].routes));
        prop_assert!(told.next_hops.iter().all(|hop| *hop == announced.reach[0].next_hop.address));
        let numbers: Vec<_> = [(4, announced.attributes.med), (5, announced.attributes.local_pref)]
            .into_iter()
            .filter_map(|(code, number)| Some((code, number?)))
            .collect();
        prop_assert!(told.numbers.chunks(numbers.len().max(1)).all(|each| each == numbers));
        prop_assert_eq!(told.communities.len(), announced.attributes.communities.len());
        if dialect.four_octet && announced.attributes.as_path.0.len() == 1 {
            prop_assert_eq!(told.path, vec![announced.attributes.as_path.to_string().replace(' ', if matches!(announced.attributes.as_path.0[0], Segment::Set(_)) { "," } else { " " })]);
        }
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in vec(any::<u8>(), 0..200), dialect in dialects(), code in 1..=5u8) {
        let length = (19 + bytes.len() as u16).to_be_bytes();
        let message = [&[0xFF; 16][..], &length, &[code], &bytes].concat();
        let mut framer = Framer::default();
        framer.feed(&message);
        if let Ok(Some(frame)) = framer.next_frame() {
            match decode(&frame, &dialect) {
                Ok(_) | Err(_) => {}
            }
        }
    }
}

/// With neighbouring sequences in one, as the merge of AS4_PATH leaves them.
fn joined(attributes: &Attributes) -> Attributes {
    let mut joined = attributes.clone();
    joined.as_path = AsPath(Vec::new());
    for segment in &attributes.as_path.0 {
        match (joined.as_path.0.last_mut(), segment) {
            (Some(Segment::Sequence(before)), Segment::Sequence(after)) => before.extend(after),
            _ => joined.as_path.0.push(segment.clone()),
        }
    }
    joined
}

#[test]
fn attributes_that_leave_no_room_are_refused_and_nothing_is_written() {
    let mut attributes = Attributes::new(Origin::Igp);
    attributes.communities = (0..1100).map(Community).collect();
    let next_hop = NextHop { address: IpAddr::from([192, 0, 2, 1]), link_local: None };
    let prefix: IpNetwork = "10.0.0.0/8".parse().unwrap();
    let reach = vec![Reach { next_hop, routes: vec![prefix.into()] }];
    let update = Update { announced: Some(Announced { attributes, reach }), ..Update::default() };
    let mut out = Vec::new();
    let error = encode(&Message::Update(update.clone()), &Dialect::default(), &mut out).unwrap_err();
    assert!(matches!(error, WriteError::TooLong { .. }), "{error}");
    let prefix: IpNetwork = "2001:db8::/32".parse().unwrap();
    let mut other = update;
    other.announced.as_mut().unwrap().reach[0].routes = vec![prefix.into()];
    other.announced.as_mut().unwrap().attributes.communities.clear();
    let error = encode(&Message::Update(other.clone()), &Dialect::default(), &mut out).unwrap_err();
    assert_eq!(error, WriteError::Family { family: Family::Ipv6 });
    let dialect = Dialect { families: PerFamily::new(|_| true), ..Dialect::default() };
    let error = encode(&Message::Update(other), &dialect, &mut out).unwrap_err();
    assert_eq!(error, WriteError::NextHop { next_hop: next_hop.address, family: Family::Ipv6 });
    assert_eq!(out, []);
}

#[test]
fn each_other_message_comes_back_and_an_independent_decoder_knows_it() {
    let capabilities = Capabilities {
        families: Some(Family::ALL.to_vec()),
        four_octet: Some(Asn(70000)),
        route_refresh: true,
        ..Capabilities::default()
    };
    let open = Open { system: Asn(70000), hold_time: 90, identifier: Ipv4Addr::new(10, 0, 0, 1), capabilities };
    for message in [
        Message::Open(open),
        Message::Notification(Cease::AdministrativeShutdown("rack 7 is moved".into()).into()),
        Message::Keepalive,
        Message::Refresh(Some(Family::Ipv6)),
    ] {
        let mut bytes = Vec::new();
        encode(&message, &Dialect::default(), &mut bytes).unwrap();
        assert_eq!(read(&bytes, &Dialect::default()), message);
        let mut bytes = bytes::Bytes::from(bytes);
        let other = parse_bgp_message(&mut bytes, false, &other::AsnLength::Bits32).unwrap();
        match (&message, other) {
            (Message::Open(ours), other::BgpMessage::Open(theirs)) => {
                assert_eq!((theirs.hold_time, theirs.bgp_identifier), (ours.hold_time, ours.identifier));
                let values = theirs.opt_params.iter().map(|each| format!("{:?}", each.param_value)).collect::<String>();
                assert!(values.contains("FourOctetAs") && values.contains("70000"), "{values}");
            }
            (Message::Notification(_), other::BgpMessage::Notification(theirs)) => {
                assert_eq!(theirs.data[1..], *b"rack 7 is moved");
            }
            (Message::Keepalive, other::BgpMessage::KeepAlive)
            | (Message::Refresh(_), other::BgpMessage::RouteRefresh(_)) => {}
            (_, theirs) => panic!("{message:?} was read as {theirs:?}"),
        }
    }
}

#[test]
fn the_end_of_each_family_comes_back() {
    let dialect = Dialect { families: PerFamily::new(|_| true), ..Dialect::default() };
    for family in Family::ALL {
        let mut bytes = Vec::new();
        let end = Message::Update(Update { end_of_rib: Some(family), ..Update::default() });
        encode(&end, &dialect, &mut bytes).unwrap();
        assert_eq!((read(&bytes, &dialect), bytes.len()), (end, if family == Family::Ipv4 { 23 } else { 29 }));
    }
}
