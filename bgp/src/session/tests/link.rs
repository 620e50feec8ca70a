//! Two sessions over a link that cuts, delays and drops, played in any order: in the end both are Established, on one connection.

use std::collections::{BTreeMap, VecDeque};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// What a connection is for one end.
#[derive(Default)]
struct End {
    id: Option<ConnectionId>,
    /// Bytes on the way to it.
    inbox: VecDeque<u8>,
    /// Nothing more comes: once the inbox is empty it is gone.
    is_cut: bool,
}

/// A connection: the ends of session 0 and session 1.
type Line = [End; 2];

struct World {
    sessions: [Session; 2],
    now: Duration,
    lines: Vec<Line>,
    /// Being made: who dials.
    dials: Vec<(usize, ConnectionId)>,
    accepted: u32,
    up: [BTreeMap<ConnectionId, ()>; 2],
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            sessions: [Session::new(config(1), seed), Session::new(config(2), !seed)],
            now: Duration::ZERO,
            lines: Vec::new(),
            dials: Vec::new(),
            accepted: 0,
            up: Default::default(),
        };
        world.step(0, Input::ManualStart);
        world.step(1, Input::ManualStart);
        world
    }

    fn step(&mut self, who: usize, input: Input<'_>) {
        let mut taken = Vec::new();
        for output in self.sessions[who].step(self.now, input) {
            match output {
                Output::Connect(id) => self.dials.push((who, id)),
                Output::Close(id) => self.close(who, id),
                Output::Send(id, message) => {
                    let line = self.lines.iter_mut().find(|line| line[who].id == Some(id));
                    line.expect("it is sent on a connection that stands")[1 - who].inbox.extend(bytes(&message));
                    taken.push(id);
                }
                Output::Up(id, _) => {
                    self.up[who].insert(id, ());
                    assert_eq!(self.up[who].len(), 1, "one is established at most");
                }
                Output::Down { .. } => {
                    assert_eq!(self.up[who].len(), 1);
                    self.up[who].clear();
                }
                Output::Failed(..) | Output::Update(_) | Output::Refresh(_) => {}
            }
        }
        for id in taken {
            assert_eq!(self.sessions[who].step(self.now, Input::Sent(id)), []);
        }
        let established = self.sessions[who].connections.iter().filter(|one| one.phase.state() == State::Established);
        assert_eq!(established.count(), self.up[who].len());
        assert_eq!(self.sessions[who].state() == State::Established, !self.up[who].is_empty());
    }

    fn close(&mut self, who: usize, id: ConnectionId) {
        self.dials.retain(|dial| *dial != (who, id));
        for line in &mut self.lines {
            if line[who].id == Some(id) {
                line[who] = End::default();
                line[1 - who].is_cut = true;
            }
        }
        self.lines.retain(|line| line.iter().any(|end| end.id.is_some()));
    }

    /// A dial comes to its end, well or not.
    fn dial(&mut self, at: usize, succeeds: bool) {
        if self.dials.is_empty() {
            return;
        }
        let (who, id) = self.dials.remove(at % self.dials.len());
        if !succeeds {
            return self.step(who, Input::Failed(id));
        }
        let accepted = ConnectionId::Accepted(self.accepted);
        self.accepted += 1;
        let mut line = Line::default();
        line[who].id = Some(id);
        line[1 - who].id = Some(accepted);
        self.lines.push(line);
        self.step(who, Input::Connected(id));
        self.step(1 - who, Input::Accepted(accepted));
    }

    /// Some bytes arrive at one end, or that it was cut.
    fn deliver(&mut self, at: usize, count: usize) {
        let ends: Vec<_> = (0..self.lines.len()).flat_map(|line| [(line, 0), (line, 1)]).collect();
        if ends.is_empty() {
            return;
        }
        let (line, who) = ends[at % ends.len()];
        let end = &mut self.lines[line][who];
        let Some(id) = end.id else { return };
        if end.inbox.is_empty() {
            if end.is_cut {
                self.close(who, id);
                self.step(who, Input::Failed(id));
            }
            return;
        }
        let some: Vec<u8> = end.inbox.drain(..count.clamp(1, end.inbox.len())).collect();
        self.step(who, Input::Received(id, &some));
    }

    /// A connection breaks for one end, and the other hears nothing of it.
    fn lose(&mut self, at: usize, who: usize) {
        let count = self.lines.len();
        if count > 0 {
            let end = std::mem::take(&mut self.lines[at % count][who]);
            if let Some(id) = end.id {
                self.step(who, Input::Failed(id));
            }
        }
        self.lines.retain(|line| line.iter().any(|end| end.id.is_some()));
    }

    /// A connection breaks for both ends, with what is on the way.
    fn cut(&mut self, at: usize) {
        let count = self.lines.len();
        if count > 0 {
            for end in &mut self.lines[at % count] {
                end.inbox.clear();
                end.is_cut = true;
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        for who in [0, 1] {
            self.step(who, Input::Tick);
        }
    }

    fn states(&self) -> [State; 2] {
        self.sessions.each_ref().map(Session::state)
    }

    fn play(&mut self, events: &[Event]) {
        for event in events {
            match *event {
                Event::Dial(at, succeeds) => self.dial(at, succeeds),
                Event::Deliver(at, count) => self.deliver(at, count),
                Event::Cut(at) => self.cut(at),
                Event::Lose(at, who) => self.lose(at, who.into()),
                Event::Pass(time) => self.pass(Duration::from_millis(time.into())),
                Event::Stop(who) => self.step(who.into(), Input::ManualStop(Cease::AdministrativeReset(String::new()))),
                Event::Start(who) => self.step(who.into(), Input::ManualStart),
            }
        }
    }

    /// Plays a history, and then lets all come to rest. The states where it does not.
    fn after(seed: u64, events: &[Event]) -> Result<(), [State; 2]> {
        let mut world = Self::new(seed);
        world.play(events);
        world.settle()
    }

    /// Both are wanted up, and nothing is lost any more: all arrives at once, and time passes from deadline to deadline.
    fn settle(&mut self) -> Result<(), [State; 2]> {
        (0..2).for_each(|who| self.step(who, Input::ManualStart));
        for _ in 0..4000 {
            for _ in 0..50 {
                self.dial(0, true);
                (0..self.lines.len() * 2).for_each(|at| self.deliver(at, usize::MAX));
            }
            let both = self.up.iter().all(|up| up.len() == 1);
            if both && self.lines.len() == 1 {
                return Ok(());
            }
            let next = self.sessions.iter().filter_map(Session::deadline).min();
            self.pass(next.map_or(Duration::from_secs(1), |next| next.saturating_sub(self.now)));
        }
        Err(self.states())
    }
}

#[derive(Debug, Clone)]
enum Event {
    Dial(usize, bool),
    Deliver(usize, usize),
    Cut(usize),
    Lose(usize, bool),
    Pass(u16),
    Stop(bool),
    Start(bool),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let one = prop_oneof![
        4 => (any::<usize>(), prop::bool::weighted(0.8)).prop_map(|(at, succeeds)| Event::Dial(at, succeeds)),
        8 => (any::<usize>(), 1..200usize).prop_map(|(at, count)| Event::Deliver(at, count)),
        1 => any::<usize>().prop_map(Event::Cut),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(at, who)| Event::Lose(at, who)),
        3 => (0..12_000u16).prop_map(Event::Pass),
        1 => any::<bool>().prop_map(Event::Stop),
        2 => any::<bool>().prop_map(Event::Start),
    ];
    vec(one, 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn two_sessions_come_up_in_the_end_whatever_happened_before(seed in any::<u64>(), events in events()) {
        let world = World::after(seed, &events);
        prop_assert!(world.is_ok(), "{:?}", world.unwrap_err());
    }
}

/// A history that failed while this was written: the first thing that happens to both is that nobody answers.
#[test]
fn two_sessions_that_both_failed_to_dial_try_again() {
    let events = [Event::Dial(0, false), Event::Start(false), Event::Dial(0, false), Event::Dial(0, false)];
    let mut world = World::new(0);
    world.play(&events);
    assert_eq!(world.states(), [State::Active; 2]);
    assert_eq!(world.settle(), Ok(()));
}
