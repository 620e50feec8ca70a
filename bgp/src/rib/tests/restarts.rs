//! Graceful restart, of a peer and of our own.

use std::time::Duration;

use super::*;

fn secs(secs: u64) -> Duration {
    NOW + Duration::from_secs(secs)
}

fn restart(forwarding: Forwarding) -> Option<Restart> {
    let families = [(Family::Ipv4, forwarding)].into();
    Some(Restart { time: Duration::from_secs(60), restarting: false, families })
}

fn graceful(n: u8) -> Session {
    Session { restart: restart(Forwarding::Preserved), ..session(100, n) }
}

/// A peer with graceful restart for IPv4, and a route of each family.
fn with_routes() -> Rib {
    let mut rib = rib(&[]);
    rib.set_reach([(net("0.0.0.0/0"), Some(0))].into_iter().collect());
    rib.configure(id(1), Peer { asn: PeerAs::AnyBut(Asn(64512)), ..peer(1, SINGLE) });
    rib.up(id(1), graceful(1), NOW);
    for prefix in ["10.1.0.0/16", "10.2.0.0/16", "fd01::/64"] {
        learn(&mut rib, 1, prefix, &through(&[65001]));
    }
    rib
}

fn prefixes(rib: &Rib) -> Vec<String> {
    rib.routes().map(|(prefix, _)| prefix.to_string()).collect()
}

#[test]
fn a_lost_peer_keeps_the_routes_of_its_families_for_as_long_as_it_asked() {
    let mut rib = with_routes();
    rib.down(id(1), Down::Lost, NOW);
    assert_eq!(prefixes(&rib), ["10.1.0.0/16", "10.2.0.0/16"]);
    assert!(rib.explain(net("10.1.0.0/16"))[0].stale);
    assert_eq!(verdicts(&rib, "10.1.0.0/16"), [Verdict::Best], "stale routes are used as before");
    assert_eq!((rib.deadline(), rib.advance(secs(59))), (Some(secs(60)), vec![]));
    assert_eq!(rib.advance(secs(60)), [Expired::Restart(id(1))]);
    assert_eq!((prefixes(&rib), rib.deadline()), (vec![], None));
}

#[test]
fn what_is_kept_depends_on_how_the_session_ended_and_what_the_peer_says_on_return() {
    let both = vec!["10.1.0.0/16".to_owned(), "10.2.0.0/16".to_owned()];
    let table = [
        (Down::Lost, graceful(1), both.clone()),
        (Down::Closed, graceful(1), vec![]),
        (Down::Lost, Session { restart: restart(Forwarding::Lost), ..session(100, 1) }, vec![]),
        (Down::Lost, session(100, 1), vec![]),
        (Down::Lost, Session { router_id: Ipv4Addr::LOCALHOST, ..graceful(1) }, vec![]),
        (Down::Lost, Session { asn: Asn(65002), ..graceful(1) }, vec![]),
        (Down::Lost, Session { families: BTreeMap::new(), ..graceful(1) }, vec![]),
    ];
    for (how, back, expected) in table {
        let mut rib = with_routes();
        rib.down(id(1), how, NOW);
        rib.up(id(1), back.clone(), secs(5));
        assert_eq!(prefixes(&rib), expected, "{how:?} {back:?}");
    }
}

#[test]
fn what_is_not_repeated_goes_with_the_end_of_rib_or_with_time() {
    for marker in [true, false] {
        let mut rib = with_routes();
        rib.down(id(1), Down::Lost, NOW);
        rib.up(id(1), graceful(1), secs(5));
        learn(&mut rib, 1, "10.2.0.0/16", &through(&[65001]));
        assert_eq!(rib.deadline(), Some(secs(5 + 360)));
        if marker {
            rib.end_of_rib(id(1), Family::Ipv4);
        } else {
            assert_eq!(rib.advance(secs(5 + 360)), [Expired::Stale(id(1), Family::Ipv4)]);
        }
        assert_eq!((prefixes(&rib), rib.deadline()), (vec!["10.2.0.0/16".to_owned()], None));
    }
}

#[test]
fn no_route_lives_through_two_restarts() {
    let mut rib = with_routes();
    rib.down(id(1), Down::Lost, NOW);
    rib.up(id(1), graceful(1), secs(5));
    learn(&mut rib, 1, "10.2.0.0/16", &through(&[65001]));
    rib.down(id(1), Down::Lost, secs(6));
    assert_eq!(prefixes(&rib), ["10.2.0.0/16"]);
}

/// A peer that speaks one family, and keeps the routes of others that restart but none of its own.
fn helping(n: u8, family: Family) -> Session {
    let restart = Some(Restart { time: Duration::ZERO, restarting: false, families: BTreeMap::new() });
    Session { restart, families: [(family, terms(Paths::One))].into(), ..session(100, n) }
}

/// Speaker 100 just restarted, with three peers of which the first has graceful restart, and only IPv4.
fn restarted() -> Rib {
    let start = Start::Restarting { sessions: secs(30), routes: secs(120) };
    let mut rib = Rib::new(identity(100), Multipath::default(), start);
    rib.set_reach([(net("0.0.0.0/0"), Some(0))].into_iter().collect());
    (1..=3).for_each(|n| drop(rib.configure(id(n), peer(n, SINGLE))));
    rib.originate(net("10.42.0.0/26"), &through(&[]));
    rib.up(id(1), Session { families: [(Family::Ipv4, terms(Paths::One))].into(), ..graceful(1) }, NOW);
    rib.up(id(2), session(100, 2), NOW);
    learn(&mut rib, 1, "10.1.0.0/16", &through(&[65001]));
    rib
}

#[test]
fn after_our_restart_nothing_is_selected_before_all_have_spoken() {
    let mut rib = restarted();
    assert_eq!(verdicts(&rib, "10.1.0.0/16"), [Verdict::Deferred]);
    assert_eq!((rib.changes(), rib.drain(id(2), 9), rib.is_dirty(id(2))), (vec![], vec![], false));
    rib.end_of_rib(id(1), Family::Ipv4);
    assert!(rib.is_deferring(Family::Ipv4), "the third peer may have something to say");
    rib.up(
        id(3),
        Session {
            restart: restart(Forwarding::Preserved).map(|restart| Restart { restarting: true, ..restart }),
            ..session(100, 3)
        },
        NOW,
    );
    assert!(!rib.is_deferring(Family::Ipv4), "it restarts itself, and the second cannot tell when it is done");
    assert_eq!((rib.changes().len(), rib.deadline()), (2, None));
    assert_eq!(drained(&mut rib, 2).len(), 2);
}

#[test]
fn after_our_restart_a_peer_that_only_helps_others_to_restart_is_waited_for_too() {
    let deferring = |rib: &Rib| [Family::Ipv4, Family::Ipv6].map(|family| rib.is_deferring(family));
    let mut rib = restarted();
    rib.up(id(3), helping(3, Family::Ipv6), NOW);
    rib.end_of_rib(id(1), Family::Ipv4);
    assert_eq!(deferring(&rib), [false, true], "it says nothing of IPv4");
    rib.end_of_rib(id(3), Family::Ipv6);
    assert_eq!(deferring(&rib), [false, false]);
}

#[test]
fn after_our_restart_a_peer_that_was_gone_before_or_was_stopped_is_not_waited_for() {
    for give_up in [false, true] {
        let mut rib = restarted();
        rib.end_of_rib(id(1), Family::Ipv4);
        assert!(rib.is_deferring(Family::Ipv4), "the third one is waited for");
        if give_up {
            rib.give_up(id(3))
        } else {
            rib.dispense(id(3))
        }
        assert_eq!((rib.is_deferring(Family::Ipv4), rib.deadline()), (false, None));
        assert_eq!(verdicts(&rib, "10.1.0.0/16"), [Verdict::Best]);
    }
    // With a session it is one like the others.
    let mut rib = restarted();
    rib.dispense(id(3));
    rib.up(id(3), graceful(3), NOW);
    rib.end_of_rib(id(1), Family::Ipv4);
    assert!(rib.is_deferring(Family::Ipv4));
    rib.end_of_rib(id(3), Family::Ipv4);
    assert!(!rib.is_deferring(Family::Ipv4));
}

#[test]
fn after_our_restart_a_peer_that_does_not_come_is_given_up_first_and_one_that_does_not_end_last() {
    let mut rib = restarted();
    assert_eq!((rib.deadline(), rib.advance(secs(30))), (Some(secs(30)), vec![]));
    assert_eq!((rib.is_deferring(Family::Ipv4), rib.is_deferring(Family::Ipv6)), (true, false));
    assert_eq!((rib.deadline(), rib.advance(secs(119))), (Some(secs(120)), vec![]));
    assert_eq!(rib.advance(secs(120)), [Expired::Deferral(Family::Ipv4)]);
    assert_eq!(verdicts(&rib, "10.1.0.0/16"), [Verdict::Best]);
    assert!(matches!(
        rib.drain(id(2), 9)[..],
        [Batch::Advertise { .. }, Batch::Advertise { .. }, Batch::EndOfRib(_), Batch::EndOfRib(_)]
    ));
}
