//! From one configuration to another: what is reset, and what goes on.

use super::*;
use crate::policy::{Filter, Otherwise, Policy, Prefixes, Range};
use crate::rib::Own;

fn only(prefix: &str) -> Filter {
    Filter::only([Range::all_inside(net(prefix)).unwrap()].into_iter().collect::<Prefixes>())
}

fn filtered(import: Filter, export: Filter) -> Config {
    let mut peer = external(1, asn(1), asn(0));
    peer.peer.policy = Some(Arc::new(Policy { import, export }));
    config_in(0, asn(0), [peer])
}

#[test]
fn filters_change_without_a_reset_in_both_directions() {
    let all = || Filter::all(Otherwise::Accept);
    let mut network = systems();
    for (node, prefix) in [(0, "10.1.0.0/16"), (0, "10.2.0.0/16"), (1, "10.3.0.0/16"), (1, "10.4.0.0/16")] {
        originate(&mut network, node, prefix);
    }
    let mut learned = |config: Config| {
        network.configure(0, config);
        pass(&mut network, SOON);
        assert_eq!((network.established(), downs(&network, 0)), (2, 0));
        [0, 1].map(|node| network.nodes[node].kernel.keys().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(learned(filtered(all(), all())), [["10.3.0.0/16", "10.4.0.0/16"], ["10.1.0.0/16", "10.2.0.0/16"]]);
    let some = learned(filtered(only("10.3.0.0/16"), only("10.2.0.0/16")));
    assert_eq!(some, [["10.3.0.0/16"], ["10.2.0.0/16"]]);
    let others = learned(filtered(only("10.4.0.0/16"), only("10.1.0.0/16")));
    assert_eq!(others, [["10.4.0.0/16"], ["10.1.0.0/16"]]);
    assert_eq!(learned(filtered(all(), all())), [["10.3.0.0/16", "10.4.0.0/16"], ["10.1.0.0/16", "10.2.0.0/16"]]);
}

fn with(node: usize, others: &[usize], change: impl Fn(&mut PeerConfig)) -> Config {
    let peers = others.iter().map(|other| {
        let mut peer = internal(*other, Kind::Internal);
        if *other == 1 {
            change(&mut peer);
        }
        peer
    });
    config(node, peers.collect::<Vec<_>>())
}

#[test]
fn only_sessions_that_a_change_concerns_are_reset() {
    type Change = fn(&mut PeerConfig);
    let resets: [Change; 6] = [
        |peer| peer.hold_time = 30,
        |peer| peer.passive = true,
        |peer| peer.peer.kind = Kind::Client,
        |peer| peer.offer.families = vec![Family::Ipv4],
        |peer| peer.offer.extended_next_hop = true,
        |peer| peer.endpoint.password = Some(Password::new("secret").unwrap()),
    ];
    for change in resets {
        let mut network = mesh(3);
        network.configure(0, with(0, &[1, 2], change));
        pass(&mut network, SOON);
        assert_eq!(network.established(), 6);
        assert_eq!([0, 1, 2].map(|node| downs(&network, node)), [1, 1, 0]);
        assert_eq!(last_error(&network, 1, 0), "received: other configuration change (6/6)");
        assert_eq!((peer(&network, 0, 1).ups, hops(&network, 0, block(1))), (2, vec![address(1)]));
    }
    let goes_on: [Change; 4] = [
        |peer| peer.connect_retry = Duration::from_secs(60),
        |peer| peer.peer.patience.stale = Duration::from_secs(9),
        |peer| peer.peer.next_hop = crate::rib::NextHopRule::Own,
        |peer| peer.place.links = vec![net("10.0.0.0/16")],
    ];
    for change in goes_on {
        let mut network = mesh(3);
        network.configure(0, with(0, &[1, 2], change));
        pass(&mut network, SOON);
        assert_eq!([0, 1, 2].map(|node| downs(&network, node)), [0, 0, 0]);
    }
}

#[test]
fn a_peer_that_is_away_is_called_as_often_as_configured_from_the_change_on() {
    let mut network = Network::new(2, 1);
    let calls = |network: &Network| {
        let tried =
            |(_, _, event): &&(Duration, IpAddr, Event)| matches!(event, Event::State { to: State::Connect, .. });
        network.nodes[0].log.iter().filter(tried).count()
    };
    let every = |secs: u64| with(0, &[1], |peer| peer.connect_retry = Duration::from_secs(secs));
    network.start(0, every(3600), Begin::Cold);
    pass(&mut network, Duration::from_mins(10));
    assert_eq!(calls(&network), 1);
    network.configure(0, every(10));
    pass(&mut network, Duration::from_mins(10));
    let often = calls(&network);
    assert!((61..=82).contains(&often), "{often}");
    network.configure(0, every(3600));
    pass(&mut network, Duration::from_mins(10));
    assert!(calls(&network) <= often + 1, "{} after {often}", calls(&network));
}

#[test]
fn another_own_address_is_told_without_a_reset() {
    let mut network = mesh(3);
    let own = Own { v4: Some([192, 0, 2, 1].into()), ..Own::default() };
    network.configure(0, with(0, &[1, 2], |peer| peer.place.own = own));
    pass(&mut network, SOON);
    assert_eq!((hops(&network, 1, block(0)), downs(&network, 1)), (vec![[192, 0, 2, 1].into()], 0));
    assert_eq!(hops(&network, 2, block(0)), [address(0)]);
}

#[test]
fn a_peer_that_is_taken_out_is_told_and_one_that_is_put_in_comes_up() {
    let mut network = mesh(3);
    network.configure(0, with(0, &[2], |_| ()));
    pass(&mut network, SOON);
    assert_eq!(last_error(&network, 1, 0), "received: peer de-configured (6/3)");
    assert_eq!((hops(&network, 0, block(1)), hops(&network, 1, block(0))), (vec![], vec![]));
    assert_eq!((network.established(), speaker(&network, 0).peers().len()), (4, 1));
    network.configure(0, with(0, &[1, 2], |_| ()));
    assert!(network.run(Duration::from_mins(2), |network| network.established() == 6));
    assert_eq!((hops(&network, 0, block(1)), downs(&network, 2)), (vec![address(1)], 0));
}

#[test]
fn a_session_is_stopped_with_a_word_and_started_again() {
    let mut network = mesh(2);
    network.configure(0, with(0, &[1], |peer| peer.shutdown = Some("new cables".into())));
    pass(&mut network, Duration::from_mins(5));
    assert_eq!((network.established(), network.nodes[1].kernel.len()), (0, 0));
    let report = peer(&network, 0, 1);
    assert_eq!((report.state, report.shutdown.as_deref()), (State::Idle, Some("new cables")));
    let told = network.nodes[1].log.iter().find_map(|(_, _, event)| match event {
        Event::Down { reason: Reason::Received(notification), is_graceful } => {
            assert!(!is_graceful);
            notification.shutdown_text().map(str::to_owned)
        }
        _ => None,
    });
    assert_eq!(told.as_deref(), Some("new cables"));
    network.configure(0, with(0, &[1], |_| ()));
    assert!(network.run(SOON, |network| network.established() == 2));
}

#[test]
fn a_peer_that_is_shut_down_while_it_restarts_is_not_waited_for() {
    let mut network = mesh(2);
    network.kill(1);
    pass(&mut network, Duration::from_secs(3));
    assert!(network.nodes[0].kernel[&block(1)].stale);
    network.configure(0, with(0, &[1], |peer| peer.shutdown = Some(String::new())));
    assert_eq!(network.nodes[0].kernel.len(), 0);
}

#[test]
fn another_identity_makes_all_sessions_anew_and_loses_no_own_route() {
    let mut network = mesh(3);
    let mut changed = with(0, &[1, 2], |_| ());
    changed.identity.router_id = [10, 9, 9, 9].into();
    network.configure(0, changed);
    pass(&mut network, SOON);
    assert_eq!((network.established(), downs(&network, 0)), (6, 2));
    assert_eq!(hops(&network, 1, block(0)), [address(0)]);
    assert_eq!(peer(&network, 1, 0).negotiated.unwrap().peer_identifier, std::net::Ipv4Addr::new(10, 9, 9, 9));
}

#[test]
fn routes_are_asked_for_again_where_somebody_wants_that() {
    let mut network = mesh(2);
    let before = network.figures.messages;
    network.step(0, Input::Refresh(address(1)));
    pass(&mut network, Duration::from_millis(1));
    assert_eq!(network.figures.messages - before, 3, "two of ROUTE-REFRESH, and the one route again");
    assert_eq!(downs(&network, 0), 0);
}

#[test]
fn as_many_routes_are_used_together_as_configured() {
    let mut network = mesh(3);
    for node in [1, 2] {
        originate(&mut network, node, "203.0.113.0/24");
    }
    pass(&mut network, SOON);
    assert_eq!(hops(&network, 0, net("203.0.113.0/24")).len(), 2);
    let mut single = with(0, &[1, 2], |_| ());
    single.multipath.maximum = 1;
    network.configure(0, single);
    assert_eq!((hops(&network, 0, net("203.0.113.0/24")), downs(&network, 0)), (vec![address(1)], 0));
}

#[test]
fn what_cannot_be_configured_is_refused_by_name() {
    let refused = |change: fn(&mut PeerConfig)| {
        let mut peer = internal(1, Kind::Internal);
        change(&mut peer);
        let good = config(0, []);
        Config::new(good.identity, good.multipath, None, [peer]).unwrap_err().to_string()
    };
    assert_eq!(refused(|peer| peer.hold_time = 2), "hold time 2 of peer 10.0.0.2 must be 0 or at least 3");
    let retry = "connect retry time 0ns of peer 10.0.0.2 must be more than zero: a second or more";
    assert_eq!(refused(|peer| peer.connect_retry = Duration::ZERO), retry);
    let kind = "peer 10.0.0.2 of AS 64513 is configured as internal, and our AS is 64512";
    assert_eq!(refused(|peer| peer.peer.asn = PeerAs::Is(Asn(64513))), kind);
    let kind = "peer 10.0.0.2 of AS 64512 is configured as external, and our AS is 64512";
    assert_eq!(refused(|peer| peer.peer.kind = Kind::External(Hops::Single)), kind);
    let kind = "peer 10.0.0.2 of any AS but 64512 is configured as internal, and our AS is 64512";
    assert_eq!(refused(|peer| peer.peer.asn = PeerAs::AnyBut(Asn(64512))), kind);
    assert!(refused(|peer| peer.offer.families.clear()).contains("name ipv4, ipv6 or both"));
    assert!(refused(|peer| peer.endpoint.address = address(8)).contains("would be reached at 10.0.0.9"));
    let twice = [internal(1, Kind::Internal), internal(1, Kind::Client)];
    let good = config(0, []);
    assert_eq!(Config::new(good.identity, good.multipath, None, twice), Err(Invalid::Twice(address(1))));
    let restart = GracefulRestart { time: Duration::from_secs(4096), ..GracefulRestart::default() };
    assert!(Config::new(good.identity, good.multipath, Some(restart), []).unwrap_err().to_string().contains("4095s"));
    for length in [0, 81] {
        assert_eq!(Password::new(vec![b'x'; length]), Err(Invalid::Password { length }));
    }
    assert_eq!(format!("{:?}", Password::new("secret").unwrap()), "Password(..)");
}
