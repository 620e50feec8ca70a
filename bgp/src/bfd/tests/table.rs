//! Every state with every state that is heard (RFC 5880, section 6.8.6), and with what else can happen.

use super::*;

const STATES: [State; 4] = [State::AdminDown, State::Down, State::Init, State::Up];

#[test]
fn every_state_with_every_state_that_is_heard() {
    use State::{AdminDown, Down, Init, Up};
    let heard = Some(Why::Heard);
    let there = Some(Why::DisabledThere);
    let signalled = Some(Why::Signalled(Diagnostic::NONE));
    // In each row what AdminDown, Down, Init and Up lead to.
    let table = [
        (AdminDown, [(AdminDown, None), (AdminDown, None), (AdminDown, None), (AdminDown, None)]),
        (Down, [(Down, None), (Init, heard), (Up, heard), (Down, None)]),
        (Init, [(Down, there), (Init, None), (Up, heard), (Up, heard)]),
        (Up, [(Down, there), (Down, signalled), (Up, None), (Up, None)]),
    ];
    for (from, row) in table {
        for (remote, (to, why)) in STATES.into_iter().zip(row) {
            let mut bench = Bench::at(from);
            let outputs = bench.hear(packet(remote));
            let expected: Vec<_> = why.into_iter().map(|why| Change { from, to, why, independent: false }).collect();
            assert_eq!((changes(&outputs), bench.session.state()), (expected, to), "{from} hears {remote}");
            let told: Vec<_> = sent(&outputs).iter().map(|packet| packet.state).collect();
            assert_eq!(told, if from == to { vec![] } else { vec![to] }, "a change is told at once, and nothing else");
            let diagnostic = match (from, to) {
                (AdminDown, _) => Diagnostic::ADMINISTRATIVE,
                (Init | Up, Down) => Diagnostic::NEIGHBOUR_DOWN,
                _ => Diagnostic::NONE,
            };
            assert_eq!(bench.session.diagnostic(), diagnostic, "{from} hears {remote}");
        }
    }
}

#[test]
fn every_state_with_silence() {
    for (from, to) in [
        (State::AdminDown, State::AdminDown),
        (State::Down, State::Down),
        (State::Init, State::Down),
        (State::Up, State::Down),
    ] {
        let mut bench = Bench::at(from);
        let end = bench.now + Duration::from_secs(4);
        let mut seen = Vec::new();
        while bench.session.deadline().is_some_and(|due| due < end) {
            seen.extend(changes(&bench.wait()));
        }
        let expected = Change { from, to, why: Why::Expired, independent: false };
        assert_eq!(seen, if from == to { vec![] } else { vec![expected] });
        assert_eq!(expected.is_failure(), from == State::Up);
        if from > State::Down {
            assert_eq!(bench.session.diagnostic(), Diagnostic::EXPIRED);
            assert_eq!(sent(&bench.wait())[0].yours, None, "who is gone is forgotten");
        }
    }
}

#[test]
fn whether_the_other_side_outlives_its_control_plane_is_told_as_it_last_was() {
    for independent in [false, true] {
        let mut bench = Bench::at(State::Up);
        let _heard = bench.step(Input::Received(&Packet { independent, ..packet(State::Up) }));
        let mut seen = Vec::new();
        while seen.is_empty() {
            seen.extend(changes(&bench.wait()));
        }
        assert_eq!(seen, [Change { from: State::Up, to: State::Down, why: Why::Expired, independent }]);
    }
}

#[test]
fn what_is_no_failure_is_told_from_what_is() {
    for (heard, is_failure) in [
        (packet(State::AdminDown), false),
        (Packet { yours: None, ..packet(State::Down) }, false),
        (Packet { diagnostic: Diagnostic::EXPIRED, ..packet(State::Down) }, true),
        (Packet { diagnostic: Diagnostic(4), ..packet(State::Down) }, true),
    ] {
        let mut bench = Bench::at(State::Up);
        let [change] = changes(&bench.hear(heard))[..] else { panic!("one change") };
        assert_eq!((change.to, change.is_failure()), (State::Down, is_failure), "{heard:?}");
    }
}

#[test]
fn who_wants_no_session_says_so_and_comes_back_when_wanted() {
    for from in STATES {
        let mut bench = Bench::at(from);
        let outputs = bench.step(Input::Disable);
        assert_eq!(bench.session.state(), State::AdminDown);
        if from != State::AdminDown {
            let [told] = sent(&outputs)[..] else { panic!("{outputs:?}") };
            assert_eq!((told.state, told.diagnostic, told.poll), (State::AdminDown, Diagnostic::ADMINISTRATIVE, false));
            assert!(changes(&outputs).iter().all(|change| !change.is_failure()));
        }
        assert!(sent(&bench.wait()).iter().all(|packet| packet.state == State::AdminDown), "and goes on saying so");
        let outputs = bench.step(Input::Enable);
        assert_eq!((sent(&outputs)[0].state, bench.session.diagnostic()), (State::Down, Diagnostic::NONE));
        assert_eq!(bench.step(Input::Enable), []);
    }
}

#[test]
fn a_packet_for_another_session_changes_nothing() {
    for state in STATES {
        for remote in STATES {
            let mut bench = Bench::at(state);
            let before = bench.session.deadline();
            assert_eq!(bench.hear(Packet { yours: Some(number(12)), ..packet(remote) }), []);
            assert_eq!((bench.session.state(), bench.session.deadline()), (state, before));
        }
    }
}
