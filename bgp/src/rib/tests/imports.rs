//! What is refused, and why.

use super::*;
use crate::policy::{Breach, Filter, Otherwise, Overlap, Rejected};

#[test]
fn what_cannot_be_is_refused_with_its_reason_and_stays_visible() {
    let good = || through(&[65001, 9]);
    let with = |change: fn(&mut Attributes)| {
        let mut attributes = through(&[]);
        change(&mut attributes);
        attributes
    };
    let own = Ipv4Addr::new(10, 255, 0, 100);
    let elsewhere = NextHop { address: Ipv4Addr::new(198, 51, 100, 1).into(), link_local: None };
    let table = [
        (SINGLE, "10.0.0.0/16", good(), end(1), None),
        (SINGLE, "0.0.0.0/0", good(), end(1), None),
        (SINGLE, "127.0.0.0/8", good(), end(1), Some(Refused::NotUnicast)),
        (SINGLE, "240.0.0.0/4", good(), end(1), Some(Refused::NotUnicast)),
        (SINGLE, "224.0.0.0/24", good(), end(1), Some(Refused::NotUnicast)),
        (SINGLE, "fe80::/64", good(), end(1), Some(Refused::NotUnicast)),
        (SINGLE, "::1/128", good(), end(1), Some(Refused::NotUnicast)),
        (SINGLE, "10.0.0.0/16", through(&[65002]), end(1), Some(Refused::FirstAs { expected: Asn(65001) })),
        (SINGLE, "10.0.0.0/16", through(&[]), end(1), Some(Refused::FirstAs { expected: Asn(65001) })),
        (SINGLE, "10.0.0.0/16", through(&[65001, 64512]), end(1), Some(Refused::AsLoop(Asn(64512)))),
        (SINGLE, "10.0.0.0/16", good(), end(100), Some(Refused::OwnNextHop(end(100).address))),
        (SINGLE, "10.0.0.0/16", good(), end(7), None),
        (SINGLE, "10.0.0.0/16", good(), elsewhere, Some(Refused::NextHopElsewhere(elsewhere.address))),
        (Kind::External(Hops::Multiple), "10.0.0.0/16", good(), elsewhere, None),
        (Kind::Internal, "10.0.0.0/16", good(), elsewhere, None),
        (
            Kind::Internal,
            "10.0.0.0/16",
            Attributes { originator: Some(own), ..good() },
            end(1),
            Some(Refused::OriginatorLoop),
        ),
        (Kind::Client, "10.0.0.0/16", Attributes { clusters: vec![own], ..good() }, end(1), Some(Refused::ClusterLoop)),
        (
            Kind::Internal,
            "10.0.0.0/16",
            with(|a| a.as_path.prepend(Asn(64512), 1)),
            end(1),
            Some(Refused::AsLoop(Asn(64512))),
        ),
    ];
    for (kind, prefix, attributes, next_hop, expected) in table {
        let mut rib = rib(&[(1, kind)]);
        rib.learn(id(1), &attributes, next_hop, &[(net(prefix), PathId(0))]);
        let refused = match verdicts(&rib, prefix)[..] {
            [Verdict::Refused(refused)] => Some(refused),
            [Verdict::Best | Verdict::Unreachable] => None,
            ref other => panic!("{other:?}"),
        };
        assert_eq!(refused, expected, "{kind:?} {prefix} {attributes:?}");
        let accepted = u32::from(expected.is_none());
        assert_eq!(
            rib.summary(id(1), crate::prefix::family(net(prefix))).unwrap(),
            Summary { received: 1, accepted, sent: 0 }
        );
    }
}

#[test]
fn an_external_peer_without_a_policy_gives_and_takes_nothing() {
    let mut rib = rib(&[(1, SINGLE), (2, SINGLE)]);
    rib.originate(net("10.42.0.0/26"), &through(&[]));
    let closed = Peer { policy: None, ..peer(1, SINGLE) };
    rib.configure(id(1), closed);
    learn(&mut rib, 1, "10.1.0.0/16", &through(&[65001]));
    assert_eq!(verdicts(&rib, "10.1.0.0/16"), [Verdict::Refused(Refused::NoPolicy)]);
    assert_eq!(rib.explain_export(id(1), net("10.42.0.0/26"))[0].2, Err(Withheld::NoPolicy));
    assert_eq!((drained(&mut rib, 1).len(), drained(&mut rib, 2).len()), (0, 1));
    rib.configure(id(1), peer(1, SINGLE));
    assert_eq!(verdicts(&rib, "10.1.0.0/16"), [Verdict::Best], "no reset is needed");
    assert_eq!((drained(&mut rib, 1).len(), drained(&mut rib, 2).len()), (1, 1));
}

#[test]
fn a_changed_filter_is_applied_to_what_was_received() {
    let mut rib = rib(&[(1, SINGLE), (2, Kind::Internal)]);
    learn(&mut rib, 1, "10.1.0.0/16", &through(&[65001]));
    assert_eq!(drained(&mut rib, 2).len(), 1);
    let import = Filter::all(Otherwise::Reject);
    let policy = Some(Arc::new(Policy { import, ..Policy::open() }));
    rib.configure(id(1), Peer { policy, ..peer(1, SINGLE) });
    assert_eq!(verdicts(&rib, "10.1.0.0/16"), [Verdict::Refused(Refused::Filter(Rejected(None)))]);
    assert!(matches!(drained(&mut rib, 2)[..], [(_, _, None)]));
}

#[test]
fn a_changed_guard_concerns_what_overlaps() {
    let mut rib = rib(&[(1, SINGLE)]);
    for prefix in ["0.0.0.0/0", "10.42.0.0/16", "10.42.1.0/26", "10.42.1.5/32", "10.43.0.0/26"] {
        learn(&mut rib, 1, prefix, &through(&[65001]));
    }
    let own = net("10.42.1.0/26");
    rib.set_guard(Guard::new([(own, Overlap::Within), (net("0.0.0.0/0"), Overlap::Equal)], []).unwrap());
    let refused = |by: &str| [Verdict::Refused(Refused::Guard(Breach::Never(net(by))))];
    assert_eq!(verdicts(&rib, "10.42.1.0/26"), refused("10.42.1.0/26"));
    assert_eq!(verdicts(&rib, "10.42.1.5/32"), refused("10.42.1.0/26"));
    assert_eq!(verdicts(&rib, "0.0.0.0/0"), refused("0.0.0.0/0"));
    assert_eq!(verdicts(&rib, "10.42.0.0/16"), [Verdict::Best]);
    rib.set_guard(Guard::default());
    assert_eq!(rib.summary(id(1), Family::Ipv4).unwrap(), Summary { received: 5, accepted: 5, sent: 0 });
}

#[test]
fn graceful_shutdown_makes_an_external_route_the_last_choice() {
    let mut rib = rib(&[(1, SINGLE), (2, SINGLE)]);
    let leaving = Attributes { communities: vec![Community::GRACEFUL_SHUTDOWN], ..through(&[65001]) };
    learn(&mut rib, 1, "10.1.0.0/16", &leaving);
    assert_eq!(verdicts(&rib, "10.1.0.0/16"), [Verdict::Best], "better than none");
    learn(&mut rib, 2, "10.1.0.0/16", &through(&[65002, 8, 9]));
    let lost = Verdict::Lost { step: Step::LocalPref, to: (Source::Peer(id(2)), PathId(0)) };
    assert_eq!(verdicts(&rib, "10.1.0.0/16"), [lost, Verdict::Best]);
}
