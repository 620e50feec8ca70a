//! Peers that announce what they should not, or not as they should, or do not read.

use super::*;
use crate::policy::{Breach, Guard, Overlap};
use crate::rib::{Limit, Refused as Refusal, Verdict};

fn limited(routes: u32) -> Config {
    let mut peer = external(1, asn(1), asn(0));
    peer.peer.maximum = [(Family::Ipv4, Maximum::new(routes, 50).unwrap())].into();
    config_in(0, asn(0), [peer])
}

#[test]
fn who_announces_too_much_is_warned_of_ended_and_left_alone_for_a_while() {
    let mut network = systems();
    network.configure(0, limited(4));
    assert_eq!(network.established(), 2, "a limit needs no new session");
    for n in 0..3 {
        originate(&mut network, 1, &format!("10.{n}.0.0/16"));
    }
    pass(&mut network, SOON);
    let near = Event::Limit(Limit::Near { family: Family::Ipv4, routes: 2, maximum: 4 });
    assert!(network.nodes[0].log.iter().any(|(_, _, event)| *event == near));
    for n in 3..8 {
        originate(&mut network, 1, &format!("10.{n}.0.0/16"));
    }
    pass(&mut network, Duration::from_mins(4));
    assert_eq!((network.nodes[0].kernel.len(), network.established()), (0, 0));
    assert_eq!(last_error(&network, 1, 0), "received: maximum number of prefixes reached (6/1): at most 4 of IPv4");
    assert!(peer(&network, 0, 1).barred.is_some());
    // Fewer are let in once it is asked again.
    (0..6).for_each(|n| network.step(1, Input::Retract(net(&format!("10.{n}.0.0/16")))));
    assert!(network.run(Duration::from_mins(5), |network| network.established() == 2));
    pass(&mut network, SOON);
    assert_eq!((network.nodes[0].kernel.len(), peer(&network, 0, 1).barred), (2, None));
}

#[test]
fn a_limit_that_is_lowered_ends_a_session_and_one_that_is_raised_brings_it_back_at_once() {
    let mut network = systems();
    (0..6).for_each(|n| originate(&mut network, 1, &format!("10.{n}.0.0/16")));
    pass(&mut network, SOON);
    network.configure(0, limited(4));
    pass(&mut network, SOON);
    assert_eq!((network.established(), network.nodes[0].kernel.len()), (0, 0));
    network.configure(0, limited(40));
    assert!(network.run(Duration::from_mins(2), |network| network.established() == 2));
    pass(&mut network, SOON);
    assert_eq!(network.nodes[0].kernel.len(), 6);
}

#[test]
fn a_leaked_default_route_and_a_part_of_anothers_block_are_refused_by_name() {
    let mut network = systems();
    let never = [(net("0.0.0.0/0"), Overlap::Equal)];
    let owned = [(net("100.64.0.0/26"), vec![address(7)])];
    network.step(0, Input::Guard(Guard::new(never, owned).unwrap()));
    for leaked in ["0.0.0.0/0", "100.64.0.7/32", "203.0.113.0/24"] {
        originate(&mut network, 1, leaked);
    }
    pass(&mut network, SOON);
    assert_eq!(network.nodes[0].kernel.keys().copied().collect::<Vec<_>>(), [net("203.0.113.0/24")]);
    let verdict = |prefix: &str| speaker(&network, 0).explain(net(prefix)).unwrap().routes[0].verdict;
    assert_eq!(verdict("0.0.0.0/0"), Verdict::Refused(Refusal::Guard(Breach::Never(net("0.0.0.0/0")))));
    assert_eq!(verdict("100.64.0.7/32"), Verdict::Refused(Refusal::Guard(Breach::Foreign(net("100.64.0.0/26")))));
    assert_eq!((verdict("203.0.113.0/24"), network.established()), (Verdict::Best, 2));
    network.step(0, Input::Guard(Guard::default()));
    pass(&mut network, SOON);
    assert_eq!(network.nodes[0].kernel.len(), 3, "what was refused has been kept, and is judged again");
}

#[test]
fn a_path_through_the_own_system_is_a_loop_and_refused() {
    let mut network = systems();
    let mut looped = igp();
    looped.as_path.prepend(asn(0), 1);
    network.step(1, Input::Originate(net("203.0.113.0/24"), looped));
    pass(&mut network, SOON);
    assert_eq!((network.nodes[0].kernel.len(), network.established()), (0, 2));
    let explained = speaker(&network, 0).explain(net("203.0.113.0/24")).unwrap();
    assert_eq!(explained.routes[0].verdict, Verdict::Refused(Refusal::AsLoop(asn(0))));
}

fn update(attributes: &[u8], prefixes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(attributes.len()).unwrap().to_be_bytes();
    let body = [&[0, 0][..], &length, attributes, prefixes].concat();
    let whole = u16::try_from(19 + body.len()).unwrap().to_be_bytes();
    [&[0xFF; 16][..], &whole, &[2], &body].concat()
}

const ORIGIN: [u8; 4] = [0x40, 1, 1, 0];
const PATH: [u8; 9] = [0x40, 2, 6, 2, 1, 0, 0, 0xFD, 0xE9];
const NEXT_HOP: [u8; 7] = [0x40, 3, 4, 10, 0, 0, 2];

#[test]
fn malformed_updates_withdraw_what_they_announce_and_leave_the_session_up() {
    let prefix = net("203.0.113.0/24");
    let good = [&ORIGIN[..], &PATH, &NEXT_HOP].concat();
    let extra = |attribute: &[u8]| [&good, attribute].concat();
    let bad = [
        [&PATH[..], &NEXT_HOP].concat(),
        [&ORIGIN[..], &NEXT_HOP].concat(),
        [&ORIGIN[..], &PATH].concat(),
        [&[0x40, 1, 1, 3][..], &PATH, &NEXT_HOP].concat(),
        [&[0x80, 1, 1, 0][..], &PATH, &NEXT_HOP].concat(),
        [&[0x40, 1, 2, 0, 0][..], &PATH, &NEXT_HOP].concat(),
        [&ORIGIN[..], &[0x40, 2, 6, 9, 1, 0, 0, 0xFD, 0xE9], &NEXT_HOP].concat(),
        [&ORIGIN[..], &[0x40, 2, 2, 2, 0], &NEXT_HOP].concat(),
        [&ORIGIN[..], &[0x40, 2, 6, 2, 1, 0, 0, 0xFD, 0xEA], &NEXT_HOP].concat(),
        [&ORIGIN[..], &PATH, &[0x40, 3, 4, 127, 0, 0, 1]].concat(),
        [&ORIGIN[..], &PATH, &[0x40, 3, 3, 10, 0, 0]].concat(),
        extra(&[0x80, 4, 3, 0, 0, 0]),
        extra(&[0xC0, 8, 3, 0, 0, 0]),
        extra(&[0xC0, 32, 4, 0, 0, 0, 0]),
    ];
    let mut network = systems();
    for attributes in bad {
        network.inject(1, 0, &update(&good, &[24, 203, 0, 113]));
        pass(&mut network, Duration::from_millis(1));
        assert_eq!(hops(&network, 0, prefix), [address(1)]);
        let before = network.nodes[0].log.len();
        network.inject(1, 0, &update(&attributes, &[24, 203, 0, 113]));
        pass(&mut network, Duration::from_millis(1));
        assert_eq!(hops(&network, 0, prefix), Vec::<IpAddr>::new(), "{attributes:02x?}");
        let told = &network.nodes[0].log[before..];
        assert!(matches!(told, [(_, _, Event::Malformed(_))]), "{attributes:02x?}: {told:?}");
    }
    assert_eq!((network.established(), downs(&network, 0)), (2, 0));
}

#[test]
fn what_cannot_be_read_on_ends_the_session_which_comes_back() {
    let mut network = systems();
    originate(&mut network, 1, "203.0.113.0/24");
    pass(&mut network, SOON);
    network.inject(1, 0, &update(&[], &[33, 203, 0, 113, 0, 0]));
    pass(&mut network, Duration::from_millis(1));
    assert_eq!((hops(&network, 0, net("203.0.113.0/24")), network.established()), (vec![], 0));
    assert_eq!(last_error(&network, 1, 0), "received: invalid network field (3/10)");
    assert!(network.run(SOON, |network| network.established() == 2));
    assert_eq!(hops(&network, 0, net("203.0.113.0/24")), [address(1)]);
}

#[test]
fn a_peer_that_does_not_read_costs_no_memory_and_is_told_the_end_of_it_all() {
    let mut network = systems();
    network.stall(0, true);
    let prefix = |n: u32| IpNetwork::new(IpAddr::from((0x0A00_0000 | n << 8).to_be_bytes()), 24).unwrap();
    let before = network.figures;
    for round in 0..20 {
        for n in 0..4000 {
            let attributes = Attributes { med: Some(round * 4000 + n), ..igp() };
            network.step(1, Input::Originate(prefix(n), attributes));
        }
        network.some(usize::MAX);
    }
    let sent = network.figures.bytes - before.bytes;
    assert!(sent < 400_000, "{sent} bytes were made for a peer that reads none");
    assert!(peer(&network, 1, 0).is_behind);
    (100..4000).for_each(|n| network.step(1, Input::Retract(prefix(n))));
    network.stall(0, false);
    pass(&mut network, SOON);
    assert_eq!((network.nodes[0].kernel.len(), network.established()), (100, 2));
    assert!(!peer(&network, 1, 0).is_behind);
    let explained = speaker(&network, 0).explain(prefix(99)).unwrap();
    assert_eq!(explained.routes[0].received.med, Some(19 * 4000 + 99));
}

#[test]
fn what_does_not_fit_into_a_message_is_withdrawn_instead() {
    let mut network = systems();
    originate(&mut network, 1, "203.0.113.0/24");
    pass(&mut network, SOON);
    let communities = (0..1100).map(crate::path::Community).collect();
    network.step(1, Input::Originate(net("203.0.113.0/24"), Attributes { communities, ..igp() }));
    pass(&mut network, SOON);
    assert_eq!((hops(&network, 0, net("203.0.113.0/24")), network.established()), (vec![], 2));
    let is_unwritten = |event: &Event| matches!(event, Event::Unwritten(crate::wire::WriteError::TooLong { .. }));
    assert_eq!(network.nodes[1].log.iter().filter(|(_, _, event)| is_unwritten(event)).count(), 1);
}
