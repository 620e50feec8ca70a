//! The machine against RFC 5880: its table, its timers, Poll Sequences, and two of them over a link that loses packets.

mod link;
mod packet;
mod sessions;
mod table;
mod timers;

use super::*;

pub(super) const HALF: u32 = u32::MAX / 2;

pub(super) fn number(of: u32) -> NonZeroU32 {
    NonZeroU32::new(of).unwrap()
}

pub(super) fn millis(of: u64) -> Duration {
    Duration::from_millis(of)
}

/// A packet of the other side, which knows this one.
pub(super) fn packet(state: State) -> Packet {
    Packet {
        diagnostic: Diagnostic::NONE,
        state,
        poll: false,
        is_final: false,
        independent: false,
        demand: false,
        multiplier: 3,
        mine: number(22),
        yours: Some(number(11)),
        desired_min_tx: millis(300),
        required_min_rx: millis(300),
        required_min_echo_rx: Duration::ZERO,
    }
}

/// A session at a time that the test moves.
pub(super) struct Bench {
    pub session: Session,
    pub now: Duration,
}

impl Bench {
    pub fn new() -> Self {
        let now = Duration::from_secs(100);
        Self { session: Session::new(Timing::default(), number(11), now), now }
    }

    /// Brings one to a state.
    pub fn at(state: State) -> Self {
        let mut bench = Self::new();
        let way: &[State] = match state {
            State::AdminDown | State::Down => &[],
            State::Init => &[State::Down],
            State::Up => &[State::Down, State::Up],
        };
        let _first = bench.step(Input::Tick);
        for heard in way {
            let _change = bench.hear(packet(*heard));
        }
        if state == State::AdminDown {
            let _change = bench.step(Input::Disable);
        }
        assert_eq!(bench.session.state(), state);
        bench
    }

    /// One that is up and has told all that it had to tell.
    pub fn quiet() -> Self {
        let mut bench = Self::at(State::Up);
        for _ in 0..2 {
            let _confirmed = bench.hear(Packet { is_final: true, ..packet(State::Up) });
        }
        assert_eq!(bench.session.poll, Poll::Idle);
        bench
    }

    pub fn step(&mut self, input: Input<'_>) -> Vec<Output> {
        self.session.step(self.now, HALF, input)
    }

    pub fn hear(&mut self, packet: Packet) -> Vec<Output> {
        self.step(Input::Received(&packet))
    }

    /// Moves time to the deadline, and ticks.
    pub fn wait(&mut self) -> Vec<Output> {
        self.now = self.session.deadline().expect("a timer runs");
        self.step(Input::Tick)
    }
}

pub(super) fn sent(outputs: &[Output]) -> Vec<Packet> {
    let sent = outputs.iter().filter_map(|output| match output {
        Output::Send(packet) => Some(*packet),
        Output::Changed(_) => None,
    });
    sent.collect()
}

pub(super) fn changes(outputs: &[Output]) -> Vec<Change> {
    let changes = outputs.iter().filter_map(|output| match output {
        Output::Changed(change) => Some(*change),
        Output::Send(_) => None,
    });
    changes.collect()
}
