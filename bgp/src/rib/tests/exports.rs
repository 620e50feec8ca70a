//! What each kind of peer is told.

use super::*;
use crate::path::Unknown;

/// What speaker n is told of a prefix, or why it is not.
fn told(rib: &Rib, n: u8) -> Result<Attributes, Withheld> {
    rib.explain_export(id(n), net("10.1.0.0/16")).remove(0).2
}

#[test]
fn who_is_told_what_whom_said_follows_the_rules_of_reflection() {
    let kinds = [Kind::Internal, Kind::Client, SINGLE];
    let split = Err(Withheld::SplitHorizon);
    for from in kinds {
        for to in kinds {
            let mut rib = rib(&[(1, from), (2, to)]);
            learn(&mut rib, 1, "10.1.0.0/16", &through(&[65001]));
            let outcome = told(&rib, 2);
            if (from, to) == (Kind::Internal, Kind::Internal) {
                assert_eq!(outcome, split);
                continue;
            }
            let outcome = outcome.unwrap();
            let reflected = !from.is_external() && !to.is_external();
            let originator = reflected.then_some(Ipv4Addr::new(10, 255, 0, 1));
            let clusters = if reflected { vec![Ipv4Addr::new(10, 255, 0, 100)] } else { vec![] };
            assert_eq!((outcome.originator, outcome.clusters), (originator, clusters), "{from:?} to {to:?}");
            assert_eq!(outcome.local_pref, (!to.is_external()).then_some(100));
            let path = if to.is_external() { "64512 65001" } else { "65001" };
            assert_eq!(outcome.as_path.to_string(), path);
            assert_eq!(told(&rib, 1), Err(Withheld::Origin));
        }
    }
}

#[test]
fn communities_keep_routes_where_they_say() {
    let table = [
        (Community::NO_ADVERTISE, true, true),
        (Community::NO_EXPORT, false, true),
        (Community::NO_EXPORT_SUBCONFED, false, true),
        (Community(7), false, false),
    ];
    for (community, inside, outside) in table {
        let mut rib = rib(&[(1, SINGLE), (2, Kind::Internal), (3, SINGLE)]);
        learn(&mut rib, 1, "10.1.0.0/16", &Attributes { communities: vec![community], ..through(&[65001]) });
        let kept = [2, 3].map(|n| told(&rib, n) == Err(Withheld::Community(community)));
        assert_eq!(kept, [inside, outside], "{community}");
    }
}

#[test]
fn what_is_said_inside_stays_inside_and_the_unknown_becomes_partial() {
    let unknown = |partial| vec![Unknown { code: 200, partial, value: vec![1] }];
    let mut rib = rib(&[(1, SINGLE), (2, Kind::Internal), (3, SINGLE)]);
    let attributes = Attributes { med: Some(5), local_pref: Some(900), unknown: unknown(false), ..through(&[65001]) };
    learn(&mut rib, 1, "10.1.0.0/16", &attributes);
    let inside = Attributes { local_pref: Some(100), unknown: unknown(true), ..attributes.clone() };
    assert_eq!(told(&rib, 2), Ok(inside), "an external peer's preference is none of ours, its MED is");
    let outside = Attributes { unknown: unknown(true), ..through(&[64512, 65001]) };
    assert_eq!(told(&rib, 3), Ok(outside));
    rib.forget(id(1), &[(net("10.1.0.0/16"), PathId(0))]);
    rib.originate(net("10.1.0.0/16"), &Attributes { med: Some(5), ..through(&[]) });
    assert_eq!(told(&rib, 3).unwrap().med, Some(5), "our own MED is for neighbours");
}

#[test]
fn next_hops_follow_kind_link_and_rule() {
    let learned = |n| Some(end(n));
    let far = NextHop { address: Ipv4Addr::new(198, 51, 100, 1).into(), link_local: None };
    let many = Kind::External(Hops::Multiple);
    let (kept, forced, own) = (NextHopRule::Unchanged, NextHopRule::Own, NextHopRule::OwnForExternal);
    // Whose route, its next hop (none: ours), to whom, by which rule, and the next hop that it is told.
    let table = [
        (None, None, SINGLE, kept, Ok(end(100))),
        (None, None, Kind::Internal, kept, Ok(end(100))),
        (Some(SINGLE), learned(1), Kind::Internal, kept, Ok(end(1))),
        (Some(SINGLE), learned(1), Kind::Internal, own, Ok(end(100))),
        (Some(SINGLE), learned(2), Kind::Internal, kept, Err(Withheld::NextHopIsPeer)),
        (Some(Kind::Client), learned(1), Kind::Internal, own, Ok(end(1))),
        (Some(Kind::Client), learned(1), Kind::Internal, forced, Ok(end(100))),
        (Some(Kind::Client), learned(1), SINGLE, kept, Ok(end(1))),
        (Some(Kind::Client), learned(2), SINGLE, kept, Ok(end(100))),
        (Some(Kind::Client), Some(far), SINGLE, kept, Ok(end(100))),
        (Some(Kind::Client), learned(1), many, kept, Ok(end(100))),
    ];
    for (from, next_hop, to, rule, expected) in table {
        let mut rib = rib(&[(1, from.unwrap_or(SINGLE)), (2, to)]);
        rib.set_reach([(net("0.0.0.0/0"), Some(0))].into_iter().collect());
        rib.configure(id(2), Peer { next_hop: rule, ..peer(2, to) });
        match next_hop {
            None => rib.originate(net("10.1.0.0/16"), &through(&[])),
            Some(next_hop) => {
                rib.learn(id(1), &through(&[65001]), next_hop, &[(net("10.1.0.0/16"), PathId(0))]);
            }
        }
        let outcome = match told(&rib, 2) {
            Ok(_) => Ok(drained(&mut rib, 2)[0].2.clone().unwrap().1),
            Err(why) => Err(why),
        };
        assert_eq!(outcome, expected, "{from:?} {next_hop:?} to {to:?} by {rule:?}");
    }
}

#[test]
fn ipv6_goes_with_the_link_local_address_and_ipv4_over_ipv6_where_agreed() {
    let (global, link): (std::net::Ipv6Addr, std::net::Ipv6Addr) =
        ("fd09::1".parse().unwrap(), "fe80::1".parse().unwrap());
    let all = Own { v4: None, v6: Some(global), link_local: Some(link) };
    let both = NextHop { address: global.into(), link_local: Some(link) };
    assert_eq!(all.next_hop(Family::Ipv6, false), Some(both));
    assert_eq!(all.next_hop(Family::Ipv4, false), None);
    assert_eq!(all.next_hop(Family::Ipv4, true), Some(both));
    let alone = Own { v6: None, ..all };
    assert_eq!(alone.next_hop(Family::Ipv6, false), None, "which link is meant, nobody else could tell");
    assert_eq!(alone.next_hop(Family::Ipv4, true), None);
}

#[test]
fn a_peer_that_takes_several_paths_gets_all_that_are_used_under_stable_identifiers() {
    let mut rib = rib(&[(1, SINGLE), (2, SINGLE), (4, SINGLE)]);
    rib.configure(id(3), peer(3, Kind::Client));
    let families = [(Family::Ipv4, terms(Paths::Several))].into();
    rib.up(id(3), Session { asn: Asn(64512), families, ..session(100, 3) }, NOW);
    for n in [1, 2, 4] {
        learn(&mut rib, n, "10.1.0.0/16", &through(&[65000 + u32::from(n)]));
    }
    let first = drained(&mut rib, 3);
    assert_eq!(first.iter().map(|(_, path, _)| path.0).collect::<Vec<_>>(), [1, 2, 3]);
    rib.forget(id(2), &[(net("10.1.0.0/16"), PathId(0))]);
    assert_eq!(drained(&mut rib, 3), [(net("10.1.0.0/16"), first[1].1, None)], "the others keep theirs");
}
