//! Which AS a peer may name in its OPEN, and what of the session follows from it.

use super::*;
use crate::path::AS_TRANS;

const OURS: Asn = Asn(64512);

/// What a session of `config` answers to an OPEN of this AS, in which AS numbers have so many bytes.
fn answer(config: Config, named: Asn, has_four_bytes: bool) -> Message {
    let mut bench = Bench::at(State::OpenSent, config, &config_of(named));
    let mut open = peer_open(&config_of(named));
    open.capabilities.four_octet = open.capabilities.four_octet.filter(|_| has_four_bytes);
    let outputs = bench.hear(DIALLED, &Message::Open(open));
    let [(DIALLED, answer)] = &sent(&outputs)[..] else { panic!("{outputs:?}") };
    answer.clone()
}

fn config_of(named: Asn) -> Config {
    Config { local_as: named, ..config(2) }
}

#[test]
fn what_is_configured_says_which_as_may_come() {
    let far = Asn(4_200_000_000);
    let (is, any) = (PeerAs::Is(Asn(65001)), PeerAs::AnyBut(OURS));
    let table = [
        (is, OURS, Asn(65001), true),
        (is, OURS, Asn(65002), false),
        (is, OURS, OURS, false),
        (PeerAs::Is(OURS), OURS, OURS, true),
        (PeerAs::Is(OURS), OURS, Asn(65001), false),
        (any, OURS, Asn(65001), true),
        (any, OURS, Asn(65002), true),
        (any, OURS, far, true),
        (any, OURS, OURS, false),
        // Ours for this peer is another one than the nodes': it is of neither.
        (any, Asn(65100), OURS, false),
        (any, Asn(65100), Asn(65100), false),
        (any, Asn(65100), Asn(65001), true),
        (any, OURS, Asn(0), false),
        (any, OURS, AS_TRANS, false),
        (any, OURS, Asn(65_535), false),
        (any, OURS, Asn(u32::MAX), false),
    ];
    for (peer_as, local_as, named, is_taken) in table {
        let expected = if is_taken { Message::Keepalive } else { Message::Notification(ErrorCode::BAD_PEER_AS.into()) };
        let configured = Config { peer_as, local_as, ..config(1) };
        assert_eq!(answer(configured.clone(), named, true), expected, "{peer_as} of {local_as}: {named}");
        // What does not fit into two bytes is AS_TRANS there, which is nobody's.
        let is_taken = is_taken && named != far;
        let expected = if is_taken { Message::Keepalive } else { Message::Notification(ErrorCode::BAD_PEER_AS.into()) };
        assert_eq!(answer(configured, named, false), expected, "{peer_as} of {local_as}: {named} in two bytes");
    }
}

#[test]
fn the_named_as_is_agreed_on_and_its_paths_must_begin_with_it() {
    for first_as in [true, false] {
        for named in [Asn(65001), Asn(65002)] {
            let configured = Config { peer_as: PeerAs::AnyBut(OURS), first_as, ..config(1) };
            let bench = Bench::at(State::Established, configured, &config_of(named));
            let agreed = bench.session.negotiated().unwrap();
            assert_eq!(agreed.peer_as, named);
            assert_eq!((agreed.dialect.internal, agreed.dialect.first_as), (false, first_as.then_some(named)));
        }
    }
}

#[test]
fn a_peer_that_comes_back_with_another_as_is_taken_anew() {
    let mut bench =
        Bench::at(State::Established, Config { peer_as: PeerAs::AnyBut(OURS), ..config(1) }, &config_of(Asn(65001)));
    let _idle = bench.step(Input::Failed(DIALLED));
    let _connect = bench.wait();
    let again = ConnectionId::Dialled(1);
    let _open = bench.step(Input::Connected(again));
    let _keepalive = bench.hear(again, &Message::Open(peer_open(&config_of(Asn(65002)))));
    let _up = bench.hear(again, &Message::Keepalive);
    assert_eq!(bench.session.negotiated().map(|agreed| agreed.peer_as), Some(Asn(65002)));
}

#[test]
fn a_peer_of_any_other_as_may_have_our_identifier_and_the_higher_as_decides_then() {
    for (named, loser) in [(Asn(64000), ACCEPTED), (Asn(65001), DIALLED)] {
        let peer = Config { local_as: named, ..config(1) };
        let configured = Config { peer_as: PeerAs::AnyBut(OURS), ..config(1) };
        let mut bench = Bench::at(State::Connect, configured, &peer);
        let _open = bench.step(Input::Accepted(ACCEPTED));
        let _open = bench.step(Input::Connected(DIALLED));
        let open = Message::Open(peer_open(&peer));
        let _keepalive = bench.hear(DIALLED, &open);
        assert!(is_collision(&bench.hear(ACCEPTED, &open), loser), "{named}");
    }
}
