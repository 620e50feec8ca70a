//! A session of BFD with a peer that sends anything.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::bfd::{Input, LENGTH, Output, Packet, Session, State, Timing};

/// What stands before each packet: the time until it comes, randomness, and what happens beside.
const HEAD: usize = 3;

/// Takes bytes for packets, each with what happens before it. Whatever can be read is written as the same, and a session's outputs
/// agree with its state.
pub fn bfd(bytes: &[u8]) {
    let own = NonZeroU32::new(11).expect("not zero");
    let mut play = Play { session: Session::new(Timing::default(), own, Duration::ZERO), now: Duration::ZERO };
    for record in bytes.chunks(HEAD + LENGTH) {
        let Some((&[wait, chance, beside], packet)) = record.split_first_chunk() else { return };
        play.now += Duration::from_millis(u64::from(wait) * 8);
        let chance = u32::from(chance) << 24;
        play.step(chance, Input::Tick);
        let due = play.session.deadline();
        assert!(due.is_none_or(|due| due > play.now), "a timer that is due has not expired");
        match beside % 8 {
            0 => play.step(chance, Input::Disable),
            1 => play.step(chance, Input::Enable),
            2 => {
                let interval = Duration::from_millis(10 + u64::from(beside) * 7);
                let timing = Timing::new(interval, interval, 2 + beside / 8).expect("within the bounds");
                play.step(chance, Input::Configure(timing));
            }
            _ => {}
        }
        if let Ok(packet) = Packet::decode(packet) {
            assert_eq!(Packet::decode(&packet.encode()), Ok(packet));
            play.step(chance, Input::Received(&packet));
        }
    }
}

struct Play {
    session: Session,
    now: Duration,
}

impl Play {
    fn step(&mut self, chance: u32, input: Input<'_>) {
        let mut state = self.session.state();
        for output in self.session.step(self.now, chance, input) {
            match output {
                Output::Send(packet) => {
                    assert_eq!(packet.state, state, "a packet says what has been told");
                    assert_ne!((packet.poll, packet.is_final), (true, true));
                    assert!(!packet.demand);
                    assert!(
                        packet.desired_min_tx >= Duration::from_secs(1) || state == State::Up,
                        "too fast for {state}"
                    );
                    assert_eq!(Packet::decode(&packet.encode()), Ok(packet));
                }
                Output::Changed(change) => {
                    assert_eq!(change.from, state);
                    assert_ne!(change.to, state);
                    state = change.to;
                }
            }
        }
        assert_eq!(self.session.state(), state);
        assert!(state <= State::Down || self.session.detection_time().is_some(), "{state} without a peer");
    }
}
