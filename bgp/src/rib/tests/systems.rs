//! Peers of any other AS: what counts of their routes is the AS that their OPEN named.

use super::*;
use crate::policy::{Action, Filter, Otherwise, Policy, Rule, Then};

/// Speaker 100, with peers of which these said that they are of these systems.
fn open(peers: &[(u8, u32)]) -> Rib {
    let mut rib = rib(&[]);
    for (n, named) in peers {
        assert_eq!(rib.configure(id(*n), Peer { asn: PeerAs::AnyBut(Asn(64512)), ..peer(*n, SINGLE) }), []);
        rib.up(id(*n), Session { asn: Asn(*named), ..session(100, *n) }, NOW);
    }
    rib
}

#[test]
fn the_as_is_known_while_the_session_stands_or_its_routes_are_kept() {
    let mut rib = open(&[]);
    rib.configure(id(1), Peer { asn: PeerAs::AnyBut(Asn(64512)), ..peer(1, SINGLE) });
    rib.configure(id(2), peer(2, SINGLE));
    let asn = |rib: &Rib| [1, 2, 3].map(|n| rib.asn(id(n)));
    assert_eq!(asn(&rib), [None, Some(Asn(65002)), None], "open, configured, nobody");
    let families = [(Family::Ipv4, Forwarding::Preserved)].into();
    let restart = Some(Restart { time: std::time::Duration::from_secs(60), restarting: false, families });
    rib.up(id(1), Session { asn: Asn(65009), restart, ..session(100, 1) }, NOW);
    assert_eq!(rib.asn(id(1)), Some(Asn(65009)));
    rib.down(id(1), Down::Lost, NOW);
    assert_eq!(rib.asn(id(1)), Some(Asn(65009)), "its routes are kept");
    let _expired = rib.advance(NOW + std::time::Duration::from_mins(2));
    assert_eq!(asn(&rib), [None, Some(Asn(65002)), None]);
}

#[test]
fn a_path_must_begin_with_the_named_as() {
    for (named, begins, expected) in [
        (65001, 65001, Verdict::Best),
        (65002, 65002, Verdict::Best),
        (65002, 65001, Verdict::Refused(Refused::FirstAs { expected: Asn(65002) })),
    ] {
        let mut rib = open(&[(1, named)]);
        learn(&mut rib, 1, "10.1.0.0/16", &through(&[begins, 9]));
        assert_eq!(verdicts(&rib, "10.1.0.0/16"), [expected], "{named} {begins}");
    }
}

#[test]
fn on_import_the_named_as_is_prepended() {
    let rule = Rule { matches: Vec::new(), actions: vec![Action::Prepend(2)], then: Then::Accept };
    let import = Filter::new(vec![rule], Otherwise::Reject).unwrap();
    let policy = Some(Arc::new(Policy { import, export: Filter::all(Otherwise::Accept) }));
    let mut rib = open(&[(1, 65007)]);
    rib.configure(id(1), Peer { asn: PeerAs::AnyBut(Asn(64512)), policy, ..peer(1, SINGLE) });
    learn(&mut rib, 1, "10.1.0.0/16", &through(&[65007, 9]));
    let accepted = rib.explain(net("10.1.0.0/16"))[0].accepted.clone().unwrap();
    assert_eq!(*accepted, through(&[65007, 65007, 65007, 9]));
}

#[test]
fn med_and_multipath_compare_by_the_named_as() {
    for (second, by_med, by_system) in [
        (65001, Verdict::Lost { step: Step::Med, to: (Source::Peer(id(1)), PathId(0)) }, Verdict::Multipath),
        (65002, Verdict::Multipath, Verdict::Lost { step: Step::NeighbourAs, to: (Source::Peer(id(1)), PathId(0)) }),
    ] {
        let mut rib = open(&[(1, 65001), (2, second)]);
        for (prefix, med) in [("10.1.0.0/16", 5), ("10.2.0.0/16", 0)] {
            learn(&mut rib, 1, prefix, &through(&[65001, 9]));
            learn(&mut rib, 2, prefix, &Attributes { med: Some(med), ..through(&[second, 9]) });
        }
        assert_eq!(verdicts(&rib, "10.1.0.0/16"), [Verdict::Best, by_med]);
        rib.set_multipath(Multipath { across: Across::NeighbourAs, ..Multipath::default() });
        assert_eq!(verdicts(&rib, "10.2.0.0/16"), [Verdict::Best, by_system]);
    }
}
