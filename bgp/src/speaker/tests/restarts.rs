//! Graceful restart, on both sides (RFC 4724).

use std::collections::BTreeSet;

use super::*;

const BOTH: Begin = Begin::Restarted { kept: PER_FAMILY };
const PER_FAMILY: PerFamily<bool> = PerFamily::both(true);

fn mesh_of(count: usize, node: usize) -> Config {
    config(node, (0..count).filter(|other| *other != node).map(|other| internal(other, Kind::Internal)))
}

/// Starts a node again, with its own block.
fn start(network: &mut Network, count: usize, node: usize, begin: Begin) {
    network.start(node, mesh_of(count, node), begin);
    network.step(node, Input::Originate(block(node), igp()));
}

#[test]
fn a_restart_loses_no_route_on_either_side_and_what_changed_meanwhile_is_learned() {
    let mut network = mesh(3);
    originate(&mut network, 2, "203.0.113.0/24");
    pass(&mut network, SOON);
    network.kill(0);
    pass(&mut network, Duration::from_secs(2));
    for node in [1, 2] {
        let route = &network.nodes[node].kernel[&block(0)];
        assert!(route.stale && route.next_hops[0].address == address(0), "it is kept, and marked");
    }
    network.step(2, Input::Retract(net("203.0.113.0/24")));
    network.step(1, Input::Originate(net("198.51.100.0/24"), igp()));
    pass(&mut network, Duration::from_secs(5));
    assert_eq!(hops(&network, 0, net("203.0.113.0/24")), [address(2)], "the kernel of the one that is away");
    start(&mut network, 3, 0, BOTH);
    assert!(speaker(&network, 0).is_deferring(Family::Ipv4));
    assert_eq!(hops(&network, 0, block(1)), [address(1)]);
    let before: Vec<_> = (0..3).map(|node| network.nodes[node].kernel.len()).collect();
    // Step by step: in between nothing is ever gone that comes back.
    for _ in 0..200 {
        network.some(1);
        for (node, other) in [(0, 1), (0, 2), (1, 0), (2, 0)] {
            assert_eq!(hops(&network, node, block(other)), [address(other)], "{node} to {other}");
        }
    }
    assert!(network.run(SOON, |network| network.established() == 6));
    assert!(!speaker(&network, 0).is_deferring(Family::Ipv4));
    assert_eq!(hops(&network, 0, net("203.0.113.0/24")), Vec::<IpAddr>::new());
    assert_eq!(hops(&network, 0, net("198.51.100.0/24")), [address(1)]);
    assert!(network.nodes.iter().all(|node| node.kernel.values().all(|route| !route.stale)));
    assert_eq!(before, [3, 2, 3], "of these the first had one that was to go");
}

#[test]
fn who_does_not_come_back_is_waited_for_as_long_as_it_asked() {
    let mut network = mesh(2);
    assert!(!speaker(&network, 1).awaits_return(address(0)), "its session stands");
    network.kill(0);
    pass(&mut network, Duration::from_secs(119));
    assert_eq!(hops(&network, 1, block(0)), [address(0)]);
    assert!(speaker(&network, 1).awaits_return(address(0)));
    pass(&mut network, Duration::from_secs(2));
    assert!(!speaker(&network, 1).awaits_return(address(0)));
    assert_eq!(hops(&network, 1, block(0)), Vec::<IpAddr>::new());
    assert!(network.nodes[1].log.iter().any(|(_, peer, event)| {
        *peer == address(0) && matches!(event, Event::Expired(crate::rib::Expired::Restart(_)))
    }));
}

#[test]
fn who_has_lost_its_kernels_routes_says_so_and_its_peers_drop_theirs() {
    let mut network = mesh(2);
    network.kill(0);
    network.nodes[0].kernel.clear();
    network.start(0, mesh_of(2, 0), Begin::Cold);
    // It has nothing to say any more: no marker is needed for what has gone by the F bit.
    while network.established() < 2 {
        pass(&mut network, Duration::from_millis(500));
    }
    assert_eq!(hops(&network, 1, block(0)), Vec::<IpAddr>::new());
    // A session that is only lost later is another matter: the kernel was there all the time.
    network.step(0, Input::Originate(block(0), igp()));
    pass(&mut network, SOON);
    network.break_connections(0, 1);
    assert!(network.nodes[1].kernel[&block(0)].stale);
    assert!(network.run(SOON, |network| network.established() == 2));
    pass(&mut network, Duration::from_secs(1));
    assert!(!network.nodes[1].kernel[&block(0)].stale);
    let agreed = peer(&network, 1, 0).negotiated.unwrap().graceful_restart.unwrap();
    assert_eq!((agreed.restarting, agreed.families), (false, vec![(Family::Ipv4, true), (Family::Ipv6, true)]));
}

#[test]
fn without_graceful_restart_routes_go_with_the_connection() {
    let mut network = mesh(2);
    let plain = |node| Config { restart: None, ..mesh_of(2, node) };
    // It is offered with the next session only.
    network.configure(0, plain(0));
    assert_eq!(network.established(), 2);
    network.step(0, Input::Reset(address(1), "no more graceful restart".into()));
    assert!(network.run(SOON, |network| network.established() == 2 && downs(network, 0) == 1));
    assert_eq!(last_error(&network, 1, 0), "received: administrative reset (6/4): no more graceful restart");
    network.kill(0);
    pass(&mut network, Duration::from_millis(100));
    assert_eq!(hops(&network, 1, block(0)), Vec::<IpAddr>::new());
}

#[test]
fn after_a_restart_peers_that_do_not_come_are_waited_for_only_so_long() {
    let mut network = mesh(3);
    network.kill(0);
    network.kill(2);
    start(&mut network, 3, 0, BOTH);
    pass(&mut network, Duration::from_secs(119));
    assert!(speaker(&network, 0).is_deferring(Family::Ipv4), "the third might still come");
    assert_eq!(hops(&network, 0, block(2)), [address(2)]);
    pass(&mut network, Duration::from_secs(2));
    assert!(!speaker(&network, 0).is_deferring(Family::Ipv4));
    assert_eq!(hops(&network, 0, block(2)), Vec::<IpAddr>::new());
    assert_eq!(hops(&network, 0, block(1)), [address(1)]);
}

#[test]
fn after_a_restart_nobody_waits_for_a_peer_that_cannot_tell_when_it_is_done() {
    let mut network = mesh(2);
    network.configure(1, Config { restart: None, ..mesh_of(2, 1) });
    network.kill(0);
    start(&mut network, 2, 0, BOTH);
    assert!(network.run(SOON, |network| network.established() == 2));
    assert!(!speaker(&network, 0).is_deferring(Family::Ipv4));
    assert_eq!(hops(&network, 0, block(1)), [address(1)]);
}

#[test]
fn one_without_peers_has_nothing_to_wait_for() {
    let mut network = Network::new(1, 1);
    network.start(0, config(0, []), BOTH);
    assert!(!speaker(&network, 0).is_deferring(Family::Ipv4));
    assert_eq!(speaker(&network, 0).deadline(), None);
}

#[test]
fn two_that_restart_at_once_do_not_wait_for_each_other() {
    let mut network = mesh(2);
    network.kill(0);
    network.kill(1);
    start(&mut network, 2, 0, BOTH);
    start(&mut network, 2, 1, BOTH);
    assert!(network.run(SOON, |network| network.established() == 2));
    assert!((0..2).all(|node| !speaker(&network, node).is_deferring(Family::Ipv4)));
    pass(&mut network, SOON);
    for node in 0..2 {
        let told = network.nodes[node].log.iter().map(|(_, _, event)| event);
        let ended: BTreeSet<_> = told
            .filter_map(|event| match event {
                Event::EndOfRib(family) => Some(*family),
                _ => None,
            })
            .collect();
        assert_eq!(ended, Family::ALL.into(), "the other one says when it has said all");
    }
    assert_eq!((hops(&network, 0, block(1)), hops(&network, 1, block(0))), (vec![address(1)], vec![address(0)]));
}
