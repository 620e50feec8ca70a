//! Two connections of one peer, in each order, with the higher identifier on each side.

use super::*;

/// A session in which both connections stand and neither has an OPEN of the peer's.
fn both(own: u8) -> Bench {
    let mut bench = Bench::at(State::Connect, config(own), &config(5));
    let _open = bench.step(Input::Accepted(ACCEPTED));
    let outputs = bench.step(Input::Connected(DIALLED));
    assert!(matches!(sent(&outputs)[..], [(DIALLED, Message::Open(_))]));
    bench
}

#[test]
fn the_connection_of_the_higher_identifier_stays_whichever_open_comes_first() {
    let open = Message::Open(peer_open(&config(5)));
    for (own, winner, loser) in [(9, DIALLED, ACCEPTED), (1, ACCEPTED, DIALLED)] {
        for (first, second) in [(winner, loser), (loser, winner)] {
            let mut bench = both(own);
            let outputs = bench.hear(first, &open);
            let confirmed = if first == winner { vec![(first, Message::Keepalive)] } else { vec![] };
            assert_eq!(sent(&outputs), confirmed, "no decision before the other's OPEN");
            let outputs = bench.hear(second, &open);
            assert!(is_collision(&outputs, loser), "own {own}, {first:?} first: {outputs:?}");
            assert_eq!(bench.session.state(), State::OpenConfirm);
            let outputs = bench.hear(winner, &Message::Keepalive);
            assert!(matches!(outputs[..], [Output::Up(id, _)] if id == winner), "{outputs:?}");
            assert_eq!(bench.session.connect_retry_counter(), 0, "a collision is no failure");
        }
    }
}

/// The connection that is to lose has its OPEN, and the other has not.
fn deferred(own: u8) -> (Bench, ConnectionId, ConnectionId) {
    let (winner, loser) = if own > 5 { (DIALLED, ACCEPTED) } else { (ACCEPTED, DIALLED) };
    let mut bench = both(own);
    assert_eq!(bench.hear(loser, &Message::Open(peer_open(&config(5)))), []);
    (bench, winner, loser)
}

#[test]
fn the_loser_is_not_confirmed_before_the_winner_is_gone_and_then_at_once() {
    type End = fn(&mut Bench, ConnectionId) -> Vec<Output>;
    let ends: [End; 3] = [
        |bench, winner| bench.step(Input::Failed(winner)),
        |bench, winner| bench.hear(winner, &Message::Notification(ErrorCode::CONNECTION_COLLISION.into())),
        |bench, winner| {
            let outputs = bench.wait();
            assert!(is_collision(&outputs, winner));
            outputs
        },
    ];
    for own in [9, 1] {
        for (end, is_confirmed) in ends.into_iter().flat_map(|end| [(end, true), (end, false)]) {
            let (mut bench, winner, loser) = deferred(own);
            // What was sent before is taken: that starts no KEEPALIVEs.
            assert_eq!(bench.step(Input::Sent(loser)), []);
            if is_confirmed {
                assert_eq!(bench.hear(loser, &Message::Keepalive), []);
            }
            bench.now += Duration::from_millis(4999);
            assert_eq!((bench.step(Input::Tick), bench.session.state()), (vec![], State::OpenConfirm));
            let outputs = end(&mut bench, winner);
            assert!(sent(&outputs).contains(&(loser, Message::Keepalive)), "{outputs:?}");
            let is_up = outputs.iter().any(|output| matches!(output, Output::Up(id, _) if *id == loser));
            assert_eq!((is_up, bench.session.state() == State::Established), (is_confirmed, is_confirmed));
            if !is_confirmed {
                assert!(matches!(bench.hear(loser, &Message::Keepalive)[..], [Output::Up(id, _)] if id == loser));
            }
        }
    }
}

#[test]
fn the_wait_is_shorter_than_the_hold_time() {
    let mut bench = Bench::at(State::Connect, Config { hold_time: 3, ..config(9) }, &config(5));
    let _open = bench.step(Input::Accepted(ACCEPTED));
    let _open = bench.step(Input::Connected(DIALLED));
    let _deferred = bench.hear(ACCEPTED, &Message::Open(peer_open(&config(5))));
    let begun = bench.now;
    assert!(is_collision(&bench.wait(), DIALLED));
    assert_eq!(bench.now - begun, Duration::from_secs(1));
}

#[test]
fn a_loser_that_both_have_confirmed_but_for_us_still_goes_for_the_winner() {
    for own in [9, 1] {
        let (mut bench, winner, loser) = deferred(own);
        let _confirmed = bench.hear(loser, &Message::Keepalive);
        let outputs = bench.hear(winner, &Message::Open(peer_open(&config(5))));
        assert!(is_collision(&outputs, loser));
        assert_eq!(sent(&outputs).last(), Some(&(winner, Message::Keepalive)));
        assert!(matches!(bench.hear(winner, &Message::Keepalive)[..], [Output::Up(id, _)] if id == winner));
    }
}

#[test]
fn what_is_dialled_comes_too_late_for_one_that_is_confirmed() {
    for own in [9, 1] {
        let mut bench = Bench::at(State::Connect, config(own), &config(5));
        let _open = bench.step(Input::Accepted(ACCEPTED));
        let outputs = bench.hear(ACCEPTED, &Message::Open(peer_open(&config(5))));
        assert_eq!(sent(&outputs), [(ACCEPTED, Message::Keepalive)], "nothing was said on the other one yet");
        assert_eq!(bench.step(Input::Connected(DIALLED)), [Output::Close(DIALLED)]);
        assert!(matches!(bench.hear(ACCEPTED, &Message::Keepalive)[..], [Output::Up(ACCEPTED, _)]));
    }
}

#[test]
fn with_equal_identifiers_the_higher_system_decides() {
    let external = |local, peer| Config { local_as: Asn(local), peer_as: PeerAs::Is(Asn(peer)), ..config(5) };
    for (local, peer, loser) in [(65001, 65002, DIALLED), (65002, 65001, ACCEPTED)] {
        let mut bench = Bench::at(State::Connect, external(local, peer), &config(5));
        let _open = bench.step(Input::Accepted(ACCEPTED));
        let _open = bench.step(Input::Connected(DIALLED));
        let open = Message::Open(peer_open(&external(peer, local)));
        let _keepalive = bench.hear(DIALLED, &open);
        assert!(is_collision(&bench.hear(ACCEPTED, &open), loser));
    }
}

#[test]
fn an_established_connection_stays_whatever_the_identifiers_say() {
    for own in [1, 9] {
        let mut bench = Bench::at(State::Established, config(own), &config(5));
        assert!(is_collision(&bench.step(Input::Accepted(ACCEPTED)), ACCEPTED));
        assert_eq!(bench.session.state(), State::Established);
    }
}

#[test]
fn what_is_not_established_goes_when_another_is() {
    let open = Message::Open(peer_open(&config(5)));
    let mut bench = both(1);
    let _keepalive = bench.hear(ACCEPTED, &open);
    let outputs = bench.hear(ACCEPTED, &Message::Keepalive);
    assert!(is_collision(&outputs, DIALLED), "{outputs:?}");
    let mut bench = Bench::at(State::Connect, config(1), &config(5));
    let _open = bench.step(Input::Accepted(ACCEPTED));
    let _keepalive = bench.hear(ACCEPTED, &open);
    assert!(bench.hear(ACCEPTED, &Message::Keepalive).contains(&Output::Close(DIALLED)), "the one being made too");
    assert_eq!(bench.step(Input::Connected(DIALLED)), [], "and its success comes too late");
}

#[test]
fn the_loser_of_the_peers_decision_takes_nothing_with_it() {
    let mut bench = both(1);
    let collision = Message::Notification(ErrorCode::CONNECTION_COLLISION.into());
    let _failed = bench.hear(DIALLED, &collision);
    assert_eq!((bench.session.state(), bench.session.connect_retry_counter()), (State::OpenSent, 0));
}

#[test]
fn a_second_connection_of_the_peer_replaces_its_first() {
    let mut bench = Bench::at(State::Active, config(1), &config(5));
    let _open = bench.step(Input::Accepted(ACCEPTED));
    let newer = ConnectionId::Accepted(1);
    let outputs = bench.step(Input::Accepted(newer));
    assert!(is_collision(&outputs, ACCEPTED));
    assert!(matches!(sent(&outputs)[1], (id, Message::Open(_)) if id == newer));
}

#[test]
fn a_peer_that_restarted_gracefully_replaces_the_established_connection() {
    let mut bench = Bench::at(State::Established, graceful(config(1)), &graceful(config(5)));
    let collides = bench.step(Input::Accepted(ACCEPTED));
    assert!(is_collision(&collides, ACCEPTED), "right after it came up, it is the peer's own attempt");
    bench.now += Duration::from_secs(5);
    let outputs = bench.step(Input::Accepted(ACCEPTED));
    assert!(
        matches!(&outputs[..], [
            Output::Down { reason: Reason::Replaced, graceful: Some(restart) },
            Output::Close(DIALLED),
            Output::Send(ACCEPTED, Message::Open(_)),
        ] if restart.time == 120),
        "{outputs:?}"
    );
    assert_eq!(bench.session.state(), State::OpenSent);
}

#[test]
fn a_stopped_session_takes_no_connection() {
    let mut bench = Bench::new(config(1));
    assert_eq!(bench.step(Input::Accepted(ACCEPTED)), [Output::Close(ACCEPTED)]);
}
