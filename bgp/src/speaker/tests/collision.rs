//! Two that call each other at the same moment (RFC 4271, section 6.8): one session comes of it, at once, and stays.

use super::*;

/// Who the two are to each other.
#[derive(Debug, Clone, Copy)]
enum Pair {
    Internal,
    External,
    /// Neither knows the other's AS.
    Open,
    /// Of one BGP identifier (RFC 6286).
    SameIdentifier,
}

fn config_of(pair: Pair, node: usize) -> Config {
    let mut one = external(1 - node, asn(1 - node), asn(node));
    let mut config = match pair {
        Pair::Internal => return config(node, [internal(1 - node, Kind::Internal)]),
        Pair::External | Pair::SameIdentifier => config_in(node, asn(node), [one]),
        Pair::Open => {
            one.peer.asn = PeerAs::AnyBut(asn(node));
            config_in(node, asn(node), [one])
        }
    };
    if matches!(pair, Pair::SameIdentifier) {
        config.identity.router_id = [192, 0, 2, 1].into();
    }
    config
}

/// Both dial before either has heard of the other.
fn both_dial(mut network: Network, pair: Pair, first: usize) -> Network {
    for node in [first, 1 - first] {
        network.start(node, config_of(pair, node), Begin::Cold);
        network.step(node, Input::Originate(block(node), igp()));
    }
    network
}

/// One session stands within a ConnectRetryTime, on one connection, and nothing has failed then or long after. Whether
/// both had dialled: one may be heard before it does.
fn one_session_stays(mut network: Network, case: &str) -> bool {
    let retry = Duration::from_secs(5);
    let begun = network.now;
    assert!(network.run(retry, |network| network.established() == 2), "{case}: within {retry:?}");
    let left = (begun + retry).saturating_sub(network.now);
    pass(&mut network, left);
    for time in [Duration::ZERO, Duration::from_mins(10)] {
        pass(&mut network, time);
        assert_eq!((network.established(), network.connections()), (2, 1), "{case}");
        assert!(network.dialled() <= 2, "{case}: neither dials again");
        for node in [0, 1] {
            let report = peer(&network, node, 1 - node);
            assert_eq!((report.ups, downs(&network, node)), (1, 0), "{case}: {report:?}");
            assert_eq!(report.last_error, None, "{case}");
            assert_eq!(hops(&network, node, block(1 - node)), [address(1 - node)], "{case}");
            let failed = network.nodes[node].log.iter().find(|(_, _, event)| matches!(event, Event::Failed(_)));
            assert_eq!(failed, None, "{case}");
        }
    }
    network.dialled() == 2
}

const PAIRS: [Pair; 4] = [Pair::Internal, Pair::External, Pair::Open, Pair::SameIdentifier];

#[test]
fn of_two_calls_at_the_same_moment_one_session_comes_and_stays() {
    for (pair, first) in PAIRS.into_iter().flat_map(|pair| [(pair, 0), (pair, 1)]) {
        let case = format!("{pair:?}, {first} first");
        assert!(one_session_stays(both_dial(Network::new(2, 1), pair, first), &case));
        let collides = |seed: &u64| {
            let network = both_dial(Network::new(2, *seed).shuffled(), pair, first);
            one_session_stays(network, &format!("{case}, seed {seed}"))
        };
        let collisions = (0..64).filter(collides).count();
        assert!(collisions >= 48, "{case}: {collisions} of 64");
    }
}

#[test]
fn nor_is_there_another_where_one_of_both_hears_of_it_late() {
    for pair in PAIRS {
        for (late, seed) in [0, 1].into_iter().flat_map(|late| (0..16).map(move |seed| (late, seed))) {
            let mut network = both_dial(Network::new(2, seed).shuffled(), pair, 0);
            network.stall(late, true);
            pass(&mut network, Duration::from_secs(2));
            assert_eq!((network.established(), network.dialled()), (0, 2));
            network.stall(late, false);
            assert!(one_session_stays(network, &format!("{pair:?}, {late} late, seed {seed}")));
        }
    }
}
