//! What happens when nothing does.

use super::*;

#[test]
fn a_silent_peer_is_gone_after_the_hold_time_and_not_before() {
    let mut bench = Bench::at(State::Established, config(1), &config(2));
    let start = bench.now;
    loop {
        let outputs = bench.wait();
        match told(&outputs) {
            Some(notification) => {
                assert_eq!(notification, ErrorCode::HOLD_TIMER_EXPIRED.into());
                break;
            }
            None => assert_eq!(sent(&outputs), [(DIALLED, Message::Keepalive)]),
        }
    }
    assert_eq!(bench.now - start, Duration::from_secs(90));
    assert_eq!((bench.session.state(), bench.session.connect_retry_counter()), (State::Idle, 1));
}

#[test]
fn each_message_restarts_the_hold_time() {
    let mut bench = Bench::at(State::Established, config(1), &config(2));
    for message in [Message::Keepalive, Message::Refresh(Some(Family::Ipv4)), Message::Keepalive] {
        bench.now += Duration::from_secs(80);
        let _heard = bench.hear(DIALLED, &message);
        let _keepalive = bench.step(Input::Tick);
        assert_eq!(bench.session.state(), State::Established);
    }
}

#[test]
fn an_open_that_never_comes_is_waited_for_four_minutes() {
    let mut bench = Bench::at(State::OpenSent, config(1), &config(2));
    let start = bench.now;
    assert_eq!(told(&bench.wait()), Some(ErrorCode::HOLD_TIMER_EXPIRED.into()));
    assert_eq!(bench.now - start, Duration::from_secs(240));
}

#[test]
fn keepalives_come_within_a_third_of_the_hold_time_and_an_update_puts_them_off() {
    let mut bench = Bench::at(State::Established, config(1), &config(2));
    let first = bench.session.deadline().unwrap() - bench.now;
    assert!(first <= Duration::from_secs(30) && first >= Duration::from_millis(22_400), "{first:?}");
    bench.now += Duration::from_secs(20);
    let _nothing = bench.step(Input::Sent(DIALLED));
    assert!(bench.session.deadline().unwrap() > bench.now + Duration::from_secs(20));
}

#[test]
fn a_hold_time_of_zero_has_no_timers() {
    for peer in [90, 0] {
        let own = Config { hold_time: 0, ..config(1) };
        let mut bench = Bench::at(State::Established, own, &Config { hold_time: peer, ..config(2) });
        let _taken = bench.step(Input::Sent(DIALLED));
        assert_eq!(bench.session.deadline(), None);
    }
}

#[test]
fn a_peer_that_talks_and_never_reads_is_given_up_after_eight_minutes() {
    let mut bench = Bench::at(State::Established, config(1), &config(2));
    let _taken = bench.step(Input::Sent(DIALLED));
    let _keepalive = bench.wait();
    let waits_since = bench.now;
    let outputs = loop {
        let _heard = bench.hear(DIALLED, &Message::Keepalive);
        let outputs = bench.wait();
        if bench.session.state() != State::Established {
            break outputs;
        }
    };
    assert_eq!(told(&outputs), Some(ErrorCode::SEND_HOLD_TIMER_EXPIRED.into()));
    assert_eq!(bench.now - waits_since, Duration::from_mins(8));
}

#[test]
fn a_connection_that_cannot_be_made_is_tried_again() {
    let mut bench = Bench::at(State::Connect, config(1), &config(2));
    let start = bench.now;
    assert_eq!(bench.wait(), [Output::Close(DIALLED), Output::Connect(ConnectionId::Dialled(1))]);
    let waited = bench.now - start;
    assert!(waited <= Duration::from_secs(8) && waited >= Duration::from_secs(5), "{waited:?}");
    assert_eq!(bench.step(Input::Failed(ConnectionId::Dialled(1))), []);
    assert_eq!(bench.session.state(), State::Active);
    assert_eq!(bench.wait(), [Output::Connect(ConnectionId::Dialled(2))]);
}

#[test]
fn another_connect_retry_time_counts_from_the_next_attempt_on_and_cuts_a_longer_wait_short() {
    let next = |bench: &Bench| bench.session.deadline().unwrap() - bench.now;
    let between = |time: Duration, least: u64, most: u64| {
        assert!(time >= Duration::from_secs(least) && time <= Duration::from_secs(most), "{time:?}");
    };
    for state in [State::Connect, State::Active] {
        let mut bench = Bench::at(state, config(1), &config(2));
        let before = next(&bench);
        bench.session.set_connect_retry(Duration::from_hours(1));
        assert_eq!((bench.session.state(), next(&bench)), (state, before), "the present one goes on");
        let _another = bench.wait();
        between(next(&bench), 45 * 60, 60 * 60);
        bench.session.set_connect_retry(Duration::from_secs(4));
        between(next(&bench), 3, 4);
        assert!(bench.wait().iter().any(|output| matches!(output, Output::Connect(_))));
        between(next(&bench), 3, 4);
    }
}

#[test]
fn another_connect_retry_time_starts_no_timer_where_none_runs() {
    for state in [State::Idle, State::OpenSent, State::OpenConfirm, State::Established] {
        let mut bench = Bench::at(state, config(1), &config(2));
        let before = bench.session.deadline();
        bench.session.set_connect_retry(Duration::from_millis(1));
        assert_eq!((bench.session.state(), bench.session.deadline()), (state, before));
    }
    let mut bench = Bench::new(Config { passive: true, ..config(1) });
    let _waits = bench.step(Input::ManualStart);
    bench.session.set_connect_retry(Duration::from_millis(1));
    assert_eq!(bench.session.deadline(), None);
}

#[test]
fn each_failure_doubles_the_time_in_idle_up_to_a_most() {
    let mut bench = Bench::at(State::OpenSent, config(1), &config(2));
    let mut times = Vec::new();
    for number in 0..10 {
        let id = ConnectionId::Dialled(number);
        let _idle = bench.hear(id, &Message::Notification(Cease::ConnectionRejected.into()));
        assert_eq!(bench.session.state(), State::Idle);
        let before = bench.now;
        let _connect = bench.wait();
        times.push((bench.now - before).as_millis());
        let _open = bench.step(Input::Connected(ConnectionId::Dialled(number + 1)));
    }
    for (failures, time) in times.iter().enumerate() {
        let full = (1000u128 << failures).min(60_000);
        assert!(*time <= full && *time >= full * 3 / 4, "after failure {failures}: {time} of {full} ms");
    }
    assert_eq!(bench.session.connect_retry_counter(), 10);
}

#[test]
fn a_session_that_was_up_long_enough_is_forgiven() {
    let idle = |up: u64| {
        let mut bench = Bench::at(State::Established, Config { hold_time: 0, ..config(1) }, &config(2));
        bench.session.failures = 6;
        bench.now += Duration::from_secs(up);
        let _down = bench.step(Input::Failed(DIALLED));
        bench.session.deadline().unwrap() - bench.now
    };
    assert!(idle(59) > Duration::from_secs(40));
    assert!(idle(60) <= Duration::from_secs(1));
}

#[test]
fn a_passive_session_waits() {
    let mut bench = Bench::new(Config { passive: true, ..config(1) });
    assert_eq!(bench.step(Input::ManualStart), []);
    assert_eq!((bench.session.state(), bench.session.deadline()), (State::Active, None));
    assert!(matches!(bench.step(Input::Accepted(ACCEPTED))[..], [Output::Send(ACCEPTED, Message::Open(_))]));
    let _lost = bench.step(Input::Failed(ACCEPTED));
    assert_eq!((bench.session.state(), bench.session.deadline()), (State::Active, None));
}

#[test]
fn what_is_stopped_stays_so_and_what_stops_itself_comes_back() {
    let mut bench = Bench::at(State::Established, config(1), &config(2));
    let _down = bench.step(Input::AutomaticStop(Cease::OutOfResources));
    assert!(matches!(bench.wait()[..], [Output::Connect(_)]));
    let _idle = bench.step(Input::ManualStop(Cease::PeerDeconfigured));
    assert_eq!((bench.session.state(), bench.session.deadline()), (State::Idle, None));
    assert_eq!(bench.step(Input::AutomaticStop(Cease::OutOfResources)), []);
    assert_eq!(bench.session.deadline(), None);
}
