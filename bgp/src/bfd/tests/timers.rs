//! Intervals, the detection time, Poll Sequences (RFC 5880, sections 6.5, 6.7, 6.8.2 to 6.8.7).

use super::*;

fn timing(transmit: u64, receive: u64) -> Timing {
    Timing::new(millis(transmit), millis(receive), 3).unwrap()
}

/// The time until the next packet where the peer goes on as before.
fn pause(bench: &Bench, chance: u32) -> Duration {
    let mut session = bench.session.clone();
    let now = session.deadline().unwrap();
    let _packet = session.step(now, chance, Input::Tick);
    session.next_sending().unwrap() - now
}

#[test]
fn the_first_packet_goes_at_once_and_then_one_a_second_until_it_is_up() {
    let mut bench = Bench::new();
    assert_eq!(bench.session.deadline(), Some(bench.now));
    let [first] = sent(&bench.wait())[..] else { panic!("one packet") };
    assert_eq!((first.state, first.yours, first.desired_min_tx), (State::Down, None, Duration::from_secs(1)));
    assert_eq!(pause(&bench, u32::MAX), Duration::from_secs(1));
    assert_eq!(pause(&bench, 0), millis(750));
    let slow = Bench::at(State::Init);
    assert_eq!(pause(&slow, u32::MAX), Duration::from_secs(1));
    assert_eq!(pause(&Bench::at(State::Up), u32::MAX), millis(300));
}

#[test]
fn a_packet_comes_after_75_to_100_percent_of_the_interval() {
    let bench = Bench::quiet();
    assert_eq!((pause(&bench, 0), pause(&bench, u32::MAX)), (millis(225), millis(300)));
    let middle = pause(&bench, HALF);
    assert!(middle > millis(262) && middle < millis(263), "{middle:?}");
}

#[test]
fn the_slower_of_both_decides_how_often() {
    for (remote_rx, expected) in [(100, 300), (300, 300), (1000, 1000)] {
        let mut bench = Bench::quiet();
        let _nothing = bench.hear(Packet { required_min_rx: millis(remote_rx), ..packet(State::Up) });
        assert_eq!(pause(&bench, u32::MAX), millis(expected));
    }
    let mut bench = Bench::quiet();
    let _nothing = bench.hear(Packet { required_min_rx: Duration::ZERO, ..packet(State::Up) });
    assert_eq!(bench.session.next_sending(), None, "zero asks for none at all");
}

#[test]
fn the_detection_time_is_the_peers_multiplier_times_the_slower_interval() {
    for (remote_tx, multiplier, expected) in [(100, 3, 900), (300, 3, 900), (500, 4, 2000), (0, 1, 300)] {
        let mut bench = Bench::quiet();
        let heard = Packet { desired_min_tx: millis(remote_tx), multiplier, ..packet(State::Up) };
        let _nothing = bench.hear(heard);
        let start = bench.now;
        assert_eq!(bench.session.detection_time(), Some(millis(expected)));
        let lost = loop {
            if let [change] = changes(&bench.wait())[..] {
                break change;
            }
        };
        assert_eq!((lost.why, bench.now - start), (Why::Expired, millis(expected)));
    }
}

#[test]
fn a_poll_is_answered_at_once_without_a_poll_of_its_own() {
    for state in [State::Down, State::Init, State::Up] {
        let mut bench = Bench::at(state);
        let heard = if state == State::Down { State::Up } else { State::Init };
        let outputs = bench.hear(Packet { poll: true, ..packet(heard) });
        let answer = *sent(&outputs).last().unwrap();
        assert!(answer.is_final && !answer.poll, "{state}: {answer:?}");
    }
    let mut bench = Bench::at(State::AdminDown);
    assert_eq!(bench.hear(Packet { poll: true, ..packet(State::Up) }), []);
}

#[test]
fn it_polls_when_it_comes_up_until_that_is_answered() {
    let mut bench = Bench::at(State::Up);
    assert!(sent(&bench.wait())[0].poll);
    assert!(sent(&bench.wait())[0].poll, "no answer yet");
    // One answer is for what it said in Init.
    for expected in [true, false] {
        let _confirmed = bench.hear(Packet { is_final: true, ..packet(State::Up) });
        assert_eq!(sent(&bench.wait())[0].poll, expected);
    }
}

#[test]
fn what_gets_slower_does_so_when_the_peer_knows_it() {
    let mut bench = Bench::quiet();
    assert_eq!(bench.step(Input::Configure(timing(2000, 300))), []);
    let [told] = sent(&bench.wait())[..] else { panic!("one packet") };
    assert_eq!((told.poll, told.desired_min_tx), (true, millis(2000)));
    assert_eq!(pause(&bench, u32::MAX), millis(300), "the peer would miss packets that it still expects");
    let _confirmed = bench.hear(Packet { is_final: true, ..packet(State::Up) });
    assert_eq!(bench.session.pace, millis(2000));
}

#[test]
fn what_gets_faster_does_so_at_once_and_more_is_asked_of_the_peer_when_it_knows_it() {
    let mut bench = Bench::quiet();
    let _nothing = bench.step(Input::Configure(timing(100, 100)));
    assert_eq!(bench.session.pace, millis(100));
    assert_eq!(bench.session.detection_time(), Some(millis(900)), "the peer sends as before");
    let fast = Packet { desired_min_tx: millis(100), required_min_rx: millis(100), ..packet(State::Up) };
    let _nothing = bench.hear(fast);
    assert_eq!(bench.session.detection_time(), Some(millis(900)));
    let _confirmed = bench.hear(Packet { is_final: true, ..fast });
    assert_eq!(bench.session.detection_time(), Some(millis(300)));
}

#[test]
fn a_change_during_a_poll_is_polled_again() {
    let mut bench = Bench::quiet();
    let _nothing = bench.step(Input::Configure(timing(600, 300)));
    let _nothing = bench.step(Input::Configure(timing(900, 300)));
    let _confirmed = bench.hear(Packet { is_final: true, ..packet(State::Up) });
    assert_eq!(bench.session.pace, millis(300), "that was perhaps the answer to the first");
    assert!(sent(&bench.wait())[0].poll);
    let _confirmed = bench.hear(Packet { is_final: true, ..packet(State::Up) });
    assert_eq!((bench.session.pace, sent(&bench.wait())[0].poll), (millis(900), false));
}

#[test]
fn a_peer_that_asks_for_demand_mode_is_left_alone_while_both_are_up() {
    let mut bench = Bench::quiet();
    let demand = Packet { demand: true, ..packet(State::Up) };
    let _nothing = bench.hear(demand);
    assert_eq!(bench.session.next_sending(), None);
    let answer = sent(&bench.hear(Packet { poll: true, ..demand }));
    assert!(answer[0].is_final && !answer[0].demand, "it is answered all the same");
    let _nothing = bench.step(Input::Configure(timing(100, 100)));
    assert!(bench.session.next_sending().is_some(), "but for a poll of our own");
    let mut bench = Bench::quiet();
    let _down = bench.hear(Packet { demand: true, ..packet(State::Down) });
    assert!(bench.session.next_sending().is_some());
}

#[test]
fn a_timing_that_cannot_be_is_refused_by_name() {
    let refused = |transmit, receive, multiplier| {
        Timing::new(millis(transmit), millis(receive), multiplier).unwrap_err().to_string()
    };
    assert_eq!(refused(9, 300, 3), "transmit of 9ms must be from 10ms to 60s");
    assert_eq!(refused(300, 60_001, 3), "receive of 60.001s must be from 10ms to 60s");
    for multiplier in [0, 1] {
        assert!(refused(300, 300, multiplier).starts_with(&format!("a detect multiplier of {multiplier} must be")));
    }
}
