//! Meshes, reflectors, systems: what is reached by whom.

use super::*;
use crate::bfd;

#[test]
fn a_mesh_of_four_reaches_all_directly() {
    let network = mesh(4);
    for node in 0..4 {
        for other in 0..4 {
            let expected = if node == other { vec![] } else { vec![address(other)] };
            assert_eq!(hops(&network, node, block(other)), expected, "{node} to {other}");
        }
    }
    let report = peer(&network, 0, 1);
    assert_eq!((report.ups, report.is_behind, report.last_error), (1, false, None));
    let counts: Vec<_> = report.families.iter().map(|(_, summary)| (summary.received, summary.sent)).collect();
    assert_eq!(counts, [(1, 1), (0, 0)]);
}

#[test]
fn clients_of_a_reflector_reach_each_other_directly_and_not_without_it() {
    let mut network = Network::new(5, 1);
    for node in 0..5 {
        let kind = if node == 0 { Kind::Client } else { Kind::Internal };
        let peers: Vec<_> = if node == 0 { (1..5).collect() } else { vec![0] };
        network.start(node, config(node, peers.into_iter().map(|other| internal(other, kind))), Begin::Cold);
        network.step(node, Input::Originate(block(node), igp()));
    }
    assert!(network.run(SOON, |network| network.established() == 8));
    for (node, other) in (1..5).flat_map(|node| (0..5).map(move |other| (node, other))).filter(|(a, b)| a != b) {
        assert_eq!(hops(&network, node, block(other)), [address(other)], "{node} to {other}");
    }
    let explained = speaker(&network, 1).explain(block(2)).unwrap();
    let received = &explained.routes[0].received;
    assert_eq!((received.originator, received.clusters.len()), (Some([10, 0, 0, 3].into()), 1));
    // It goes for good, with a word.
    network.configure(0, config(0, []));
    pass(&mut network, SOON);
    assert!((1..5).all(|node| network.nodes[node].kernel.is_empty()));
}

#[test]
fn a_silent_peer_is_gone_after_the_hold_time_and_back_when_it_is_heard() {
    let mut network = mesh(3);
    network.cut(0, 1);
    pass(&mut network, Duration::from_secs(59));
    assert_eq!(hops(&network, 0, block(1)), [address(1)]);
    pass(&mut network, Duration::from_secs(32));
    assert_eq!((hops(&network, 0, block(1)), hops(&network, 1, block(0))), (vec![], vec![]));
    assert_eq!(hops(&network, 0, block(2)), [address(2)], "others do not mind");
    assert_eq!(last_error(&network, 0, 1), "sent: hold timer expired (4/0)");
    network.heal(0, 1);
    assert!(network.run(Duration::from_mins(3), |network| network.established() == 6));
    assert_eq!(hops(&network, 0, block(1)), [address(1)]);
}

#[test]
fn what_bfd_has_lost_is_gone_at_once_and_a_peer_that_wants_no_bfd_is_not() {
    let change = |from, to, why| bfd::Change { from, to, why, independent: false };
    let mut network = mesh(2);
    let up = change(bfd::State::Init, bfd::State::Up, bfd::Why::Heard);
    let stopped = change(bfd::State::Up, bfd::State::Down, bfd::Why::DisabledThere);
    for (happens, state) in [(up, bfd::State::Up), (stopped, bfd::State::Down)] {
        network.step(0, Input::Bfd(address(1), happens));
        assert_eq!((peer(&network, 0, 1).bfd, network.established()), (Some(state), 2));
    }
    network.cut(0, 1);
    network.step(0, Input::Bfd(address(1), change(bfd::State::Up, bfd::State::Down, bfd::Why::Expired)));
    assert_eq!(hops(&network, 0, block(1)), Vec::<IpAddr>::new());
    assert_eq!(last_error(&network, 0, 1), "sent: BFD down (6/10)");
    network.step(0, Input::Bfd(address(7), up));
}

#[test]
fn equal_routes_of_two_systems_are_used_together() {
    let mut network = Network::new(3, 1);
    network.start(0, config_in(0, asn(0), [1, 2].map(|other| external(other, asn(other), asn(0)))), Begin::Cold);
    for node in [1, 2] {
        network.start(node, config_in(node, asn(node), [external(0, asn(0), asn(node))]), Begin::Cold);
        originate(&mut network, node, "203.0.113.0/24");
    }
    assert!(network.run(SOON, |network| network.established() == 4));
    assert_eq!(hops(&network, 0, net("203.0.113.0/24")), [address(1), address(2)]);
    network.kill(1);
    network.nodes[1].kernel.clear();
    pass(&mut network, Duration::from_mins(3));
    assert_eq!(hops(&network, 0, net("203.0.113.0/24")), [address(2)]);
}

#[test]
fn a_reflector_tells_all_equal_routes_to_a_client_that_takes_them() {
    use crate::wire::AddPath;
    for several in [false, true] {
        let mut network = Network::new(4, 1);
        for node in 0..4 {
            let others: Vec<_> = if node == 0 { (1..4).collect() } else { vec![0] };
            let kind = if node == 0 { Kind::Client } else { Kind::Internal };
            let peers = others.into_iter().map(|other| {
                let mut peer = internal(other, kind);
                peer.offer.add_path = PerFamily::both(AddPath { send: several && node == 0, receive: several });
                peer
            });
            network.start(node, config(node, peers.collect::<Vec<_>>()), Begin::Cold);
        }
        [1, 2].into_iter().for_each(|node| originate(&mut network, node, "203.0.113.0/24"));
        assert!(network.run(SOON, |network| network.established() == 6));
        let expected: Vec<_> = [1, 2].into_iter().take(if several { 2 } else { 1 }).map(address).collect();
        assert_eq!(hops(&network, 3, net("203.0.113.0/24")), expected);
        network.step(1, Input::Retract(net("203.0.113.0/24")));
        pass(&mut network, SOON);
        assert_eq!(hops(&network, 3, net("203.0.113.0/24")), [address(2)]);
    }
}

#[test]
fn a_ring_of_systems_has_no_loops() {
    let mut network = Network::new(4, 1);
    for node in 0..4 {
        let neighbours = [(node + 1) % 4, (node + 3) % 4];
        let peers = neighbours.map(|other| external(other, asn(other), asn(node)));
        network.start(node, config_in(node, asn(node), peers), Begin::Cold);
        network.step(node, Input::Originate(block(node), igp()));
    }
    assert!(network.run(SOON, |network| network.established() == 8));
    assert_eq!(hops(&network, 0, block(1)), [address(1)]);
    assert_eq!(hops(&network, 0, block(2)), [address(1), address(3)], "both ways are as long");
    network.step(2, Input::Retract(block(2)));
    pass(&mut network, SOON);
    assert!(
        (0..4).all(|node| !network.nodes[node].kernel.contains_key(&block(2))),
        "nobody keeps it alive for another"
    );
}
