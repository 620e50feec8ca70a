//! Peers of any AS but ours: which one it is they say themselves.

use super::*;

/// Node 0, to which any other AS may come from node 1.
fn open() -> Config {
    let mut other = external(1, asn(1), asn(0));
    other.peer.asn = PeerAs::AnyBut(asn(0));
    config_in(0, asn(0), [other])
}

/// Node 1 in an AS. It also has a peer that never comes, for which it waits after a restart.
fn other(system: Asn) -> Config {
    config_in(1, system, [external(0, asn(0), system), external(2, asn(2), system)])
}

fn is_up(network: &Network) -> bool {
    network.established() == 2
}

#[test]
fn the_as_that_a_peer_names_is_the_one_that_counts() {
    let mut network = Network::new(3, 1);
    network.start(0, open(), Begin::Cold);
    let report = peer(&network, 0, 1);
    assert_eq!((report.asn, report.kind), (None, Kind::External(Hops::Multiple)), "it has not said so yet");
    network.start(1, other(Asn(65077)), Begin::Cold);
    originate(&mut network, 1, "203.0.113.0/24");
    assert!(network.run(SOON, is_up));
    assert_eq!(peer(&network, 0, 1).asn, Some(Asn(65077)));
    assert_eq!(hops(&network, 0, net("203.0.113.0/24")), [address(1)]);
    let explained = speaker(&network, 0).explain(net("203.0.113.0/24")).unwrap();
    assert_eq!(explained.routes[0].received.as_path.first(), Some(Asn(65077)));
    // Shut down, it is anybody again.
    let mut config = open();
    config.peers.values_mut().for_each(|peer| peer.shutdown = Some(String::new()));
    network.configure(0, config);
    assert_eq!(peer(&network, 0, 1).asn, None);
}

#[test]
fn a_peer_of_our_own_as_is_refused() {
    let mut network = Network::new(3, 1);
    network.start(0, open(), Begin::Cold);
    network.start(1, config_in(1, asn(0), [internal(0, Kind::Internal)].map(|peer| of(peer, asn(0)))), Begin::Cold);
    assert!(!network.run(SOON, |network| network.established() > 0));
    assert_eq!(last_error(&network, 1, 0), "received: bad peer AS (2/2)");
    assert_eq!(peer(&network, 0, 1).asn, None);
}

fn of(mut peer: PeerConfig, system: Asn) -> PeerConfig {
    (peer.peer.asn, peer.peer.local_as) = (PeerAs::Is(system), system);
    peer
}

#[test]
fn one_that_comes_back_with_another_as_is_another_peer_and_its_routes_go_at_once() {
    for (back, is_kept) in [(Asn(65077), true), (Asn(65078), false)] {
        let mut network = Network::new(3, 1);
        network.start(0, open(), Begin::Cold);
        network.start(1, other(Asn(65077)), Begin::Cold);
        originate(&mut network, 1, "203.0.113.0/24");
        assert!(network.run(SOON, is_up));
        network.kill(1);
        pass(&mut network, Duration::from_secs(2));
        assert!(network.nodes[0].kernel[&net("203.0.113.0/24")].stale, "until it is back they are kept");
        assert_eq!(peer(&network, 0, 1).asn, Some(Asn(65077)));
        // It says that its forwarding has survived, and says nothing else before its other peer has come.
        network.start(1, other(back), Begin::Restarted { kept: PerFamily::both(true) });
        assert!(network.run(SOON, is_up));
        assert_eq!(peer(&network, 0, 1).asn, Some(back));
        assert_eq!(network.nodes[0].kernel.contains_key(&net("203.0.113.0/24")), is_kept, "{back}");
        assert!(speaker(&network, 1).is_deferring(Family::Ipv4));
    }
}

#[test]
fn from_one_as_to_any_and_back_there_is_a_new_session() {
    let mut network = systems();
    for (times, config) in [open(), system(0), open()].into_iter().enumerate() {
        network.configure(0, config.clone());
        assert!(network.run(SOON, |network| is_up(network) && downs(network, 0) == times + 1));
        network.configure(0, config);
        pass(&mut network, SOON);
        assert_eq!((peer(&network, 0, 1).asn, downs(&network, 0)), (Some(asn(1)), times + 1));
    }
}
