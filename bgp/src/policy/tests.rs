//! What filters, sets and the guard say, by tables.

use std::borrow::Cow;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::*;
use crate::path::{AsPath, Attributes, Community, Family, LargeCommunity, Origin, Segment};

fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn at(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn through(systems: &[u32]) -> Attributes {
    let path = AsPath(vec![Segment::Sequence(systems.iter().copied().map(Asn).collect())]);
    Attributes { as_path: path, ..Attributes::new(Origin::Igp) }
}

fn set(ranges: &[(&str, Option<u8>, Option<u8>)]) -> Prefixes {
    ranges.iter().map(|(prefix, ge, le)| Range::new(net(prefix), *ge, *le).unwrap()).collect()
}

fn rule(matches: Vec<Match>, actions: Vec<Action>, then: Then) -> Rule {
    Rule { matches, actions, then }
}

#[test]
fn a_range_has_the_lengths_that_ge_and_le_say() {
    let table = [
        (None, None, "10.0.0.0/8", true),
        (None, None, "10.0.0.0/9", false),
        (Some(24), Some(26), "10.1.2.0/23", false),
        (Some(24), Some(26), "10.1.2.0/24", true),
        (Some(24), Some(26), "10.1.2.64/26", true),
        (Some(24), Some(26), "10.1.2.64/27", false),
        (Some(24), Some(26), "11.1.2.0/24", false),
        (Some(24), None, "10.1.2.3/32", true),
        (None, Some(9), "10.0.0.0/8", true),
        (None, Some(9), "10.128.0.0/9", true),
        (None, Some(9), "fd00::/9", false),
    ];
    for (ge, le, asked, expected) in table {
        let set = set(&[("10.0.0.0/8", ge, le), ("192.168.0.0/16", None, None)]);
        assert_eq!(set.contains(net(asked)), expected, "ge {ge:?} le {le:?} {asked}");
    }
}

#[test]
fn an_impossible_range_says_what_is_possible() {
    let table = [
        ("10.0.0.1/8", None, None, "prefix 10.0.0.1/8 has bits beyond its length: write 10.0.0.0/8"),
        ("10.0.0.0/8", Some(7), None, "ge 7 of prefix 10.0.0.0/8 must be from 8 to 32"),
        ("10.0.0.0/8", Some(24), Some(20), "le 20 of prefix 10.0.0.0/8 must be from 24 to 32"),
        ("fd00::/8", None, Some(129), "le 129 of prefix fd00::/8 must be from 8 to 128"),
    ];
    for (prefix, ge, le, expected) in table {
        assert_eq!(Range::new(net(prefix), ge, le).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_filter_that_says_something_in_vain_is_refused() {
    let accept = || rule(Vec::new(), Vec::new(), Then::Accept);
    let table = [
        (vec![accept(), accept()], "rule 2 is never reached: rule 1 before it matches everything"),
        (
            vec![rule(vec![Match::Prefixes(Prefixes::default())], Vec::new(), Then::Accept)],
            "rule 1 matches a set of no prefixes, so nothing ever: name one, or leave the match out to match all",
        ),
        (vec![rule(Vec::new(), vec![Action::Prepend(0)], Then::Next)], "prepend 0 of rule 1 must be from 1 to 16"),
        (vec![rule(Vec::new(), vec![Action::Prepend(17)], Then::Next)], "prepend 17 of rule 1 must be from 1 to 16"),
        (
            vec![rule(Vec::new(), vec![Action::LocalPref(1)], Then::Reject)],
            "rule 1 rejects what it matches, so its actions do nothing: leave them out, or accept",
        ),
        (
            vec![rule(Vec::new(), Vec::new(), Then::Next)],
            "rule 1 neither changes nor decides anything: give it an action, or let it accept or reject",
        ),
        (
            vec![rule(vec![Match::From(Asn(0))], Vec::new(), Then::Accept)],
            "AS number 0 of rule 1 is reserved: use one from 1 to 4294967294",
        ),
    ];
    for (rules, expected) in table {
        assert_eq!(Filter::new(rules, Otherwise::Accept).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_rule_matches_when_all_of_it_does() {
    let large = LargeCommunity { global: 1, local: [2, 3] };
    let route = Attributes { communities: vec![Community(7)], large_communities: vec![large], ..through(&[1, 2, 3]) };
    let table = [
        (vec![], true),
        (vec![Match::Prefixes(set(&[("10.0.0.0/8", None, Some(24))]))], true),
        (vec![Match::Prefixes(set(&[("11.0.0.0/8", None, Some(24))]))], false),
        (vec![Match::Family(Family::Ipv4)], true),
        (vec![Match::Family(Family::Ipv6)], false),
        (vec![Match::Community(Community(7))], true),
        (vec![Match::Community(Community(8))], false),
        (vec![Match::LargeCommunity(large)], true),
        (vec![Match::LargeCommunity(LargeCommunity { global: 1, local: [2, 4] })], false),
        (vec![Match::Through(Asn(2))], true),
        (vec![Match::Through(Asn(4))], false),
        (vec![Match::From(Asn(3))], true),
        (vec![Match::From(Asn(2))], false),
        (vec![Match::From(Asn(3)), Match::Family(Family::Ipv6)], false),
    ];
    for (matches, expected) in table {
        let rules = vec![rule(matches.clone(), Vec::new(), Then::Accept)];
        let filter = Filter::new(rules, Otherwise::Reject).unwrap();
        let outcome = filter.apply(net("10.1.0.0/16"), Cow::Borrowed(&route), None);
        assert_eq!(outcome.is_ok(), expected, "{matches:?}");
        assert!(matches!(outcome, Ok(Cow::Borrowed(_)) | Err(Rejected(None))), "nothing was to be changed");
    }
}

#[test]
fn actions_change_what_they_name_and_the_next_rule_sees_it() {
    let large = LargeCommunity { global: 1, local: [2, 3] };
    let before = Attributes { communities: vec![Community(3), Community(9)], ..through(&[1]) };
    let first = vec![
        Action::LocalPref(200),
        Action::Med(Some(5)),
        Action::Add(Community(7)),
        Action::Add(Community(7)),
        Action::Remove(Community(9)),
        Action::AddLarge(large),
        Action::Prepend(2),
    ];
    let second = vec![Action::Med(None), Action::RemoveLarge(large)];
    let filter = Filter::new(
        vec![
            rule(vec![], first, Then::Next),
            rule(vec![Match::Community(Community(7)), Match::LargeCommunity(large)], second, Then::Accept),
        ],
        Otherwise::Reject,
    )
    .unwrap();
    let expected = Attributes {
        local_pref: Some(200),
        communities: vec![Community(3), Community(7)],
        ..through(&[64512, 64512, 1])
    };
    let outcome = filter.apply(net("10.0.0.0/8"), Cow::Borrowed(&before), Some(Asn(64512)));
    assert_eq!(outcome, Ok(Cow::Owned(expected)));
    let outcome = filter.apply(net("10.0.0.0/8"), Cow::Borrowed(&before), None).unwrap();
    assert_eq!(outcome.as_path, before.as_path, "an internal peer's path is left as it is");
}

#[test]
fn the_rule_that_rejected_is_named() {
    let rules = vec![
        rule(vec![Match::Family(Family::Ipv6)], Vec::new(), Then::Accept),
        rule(vec![Match::Through(Asn(1))], Vec::new(), Then::Reject),
    ];
    let filter = Filter::new(rules, Otherwise::Reject).unwrap();
    let outcome = |route: Attributes| filter.apply(net("10.0.0.0/8"), Cow::Owned(route), None).unwrap_err();
    assert_eq!(outcome(through(&[1])).to_string(), "by rule 2");
    assert_eq!(outcome(through(&[2])).to_string(), "since no rule accepts it");
}

#[test]
fn the_guard_knows_own_blocks_defaults_and_whose_a_block_is() {
    let guard = Guard::new(
        [
            (net("0.0.0.0/0"), Overlap::Equal),
            (net("10.42.1.0/26"), Overlap::Within),
            (net("10.99.0.0/24"), Overlap::Any),
        ],
        [(net("10.42.2.0/26"), vec![at("192.168.9.2"), at("fd09::2")])],
    )
    .unwrap();
    let table = [
        ("0.0.0.0/0", "192.168.9.2", Some(Breach::Never(net("0.0.0.0/0")))),
        ("10.42.1.0/26", "192.168.9.2", Some(Breach::Never(net("10.42.1.0/26")))),
        ("10.42.1.7/32", "192.168.9.2", Some(Breach::Never(net("10.42.1.0/26")))),
        ("10.42.1.0/24", "192.168.9.2", None),
        ("10.99.0.0/16", "192.168.9.2", Some(Breach::Never(net("10.99.0.0/24")))),
        ("10.99.0.8/32", "192.168.9.2", Some(Breach::Never(net("10.99.0.0/24")))),
        ("10.42.2.0/26", "192.168.9.7", None),
        ("10.42.2.5/32", "192.168.9.7", Some(Breach::Foreign(net("10.42.2.0/26")))),
        ("10.42.2.5/32", "192.168.9.2", None),
        ("10.42.3.0/26", "192.168.9.7", None),
        ("::/0", "fd09::2", None),
    ];
    for (prefix, next_hop, expected) in table {
        assert_eq!(guard.breach(net(prefix), [at(next_hop), at("192.168.9.8")]), expected, "{prefix} by {next_hop}");
    }
    assert_eq!(
        guard.breach(net("10.42.2.5/32"), [at("192.168.9.8"), at("192.168.9.2")]),
        None,
        "the peer is the owner"
    );
}

#[test]
fn a_guard_tells_where_another_differs() {
    let own = |text: &str| (net(text), Overlap::Within);
    let of = |text: &str, owner: &str| (net(text), vec![at(owner)]);
    let before = Guard::new([own("10.1.0.0/26"), own("10.2.0.0/26")], [of("10.3.0.0/26", "192.0.2.3")]).unwrap();
    let after = Guard::new([own("10.2.0.0/26"), own("10.4.0.0/26")], [of("10.3.0.0/26", "192.0.2.4")]).unwrap();
    assert_eq!(before.differing(&after), [net("10.1.0.0/26"), net("10.4.0.0/26"), net("10.3.0.0/26")]);
    assert_eq!(before.differing(&before), []);
    let error = Guard::new([], [(net("10.3.0.0/26"), Vec::new())]).unwrap_err().to_string();
    assert_eq!(error, "block 10.3.0.0/26 has no owner: give the addresses of the node that has it");
}
