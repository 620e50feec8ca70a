//! Two sessions over a link that loses packets, and is cut.

use proptest::prelude::*;

use super::*;
use crate::random::Random;

/// How long a packet is on its way.
const TRANSIT: Duration = Duration::from_millis(2);

struct World {
    sessions: [Session; 2],
    now: Duration,
    /// When it arrives, for whom, and what.
    under_way: Vec<(Duration, usize, Packet)>,
    /// Of 256 packets so many are lost, by receiver.
    losses: [u16; 2],
    random: Random,
    /// Of each, when and how it last changed.
    last: [Option<(Duration, Change)>; 2],
}

impl World {
    fn new(timings: [Timing; 2], seed: u64) -> Self {
        let session = |n: u32, timing| Session::new(timing, number(n), Duration::ZERO);
        Self {
            sessions: [session(1, timings[0]), session(2, timings[1])],
            now: Duration::ZERO,
            under_way: Vec::new(),
            losses: [0; 2],
            random: Random::new(seed),
            last: [None; 2],
        }
    }

    fn step(&mut self, who: usize, input: Input<'_>) {
        let chance = self.random.draw_half();
        for output in self.sessions[who].step(self.now, chance, input) {
            match output {
                Output::Send(packet) => {
                    let other = 1 - who;
                    if self.random.draw() % 256 >= self.losses[other].into() {
                        self.under_way.push((self.now + TRANSIT, other, packet));
                    }
                }
                Output::Changed(change) => self.last[who] = Some((self.now, change)),
            }
        }
    }

    /// Lets time go on to a moment, unless what is asked holds before.
    fn run(&mut self, until: Duration, is_enough: impl Fn(&Self) -> bool) -> bool {
        while !is_enough(self) {
            let deadlines = self.sessions.iter().filter_map(Session::deadline);
            let arrivals = self.under_way.iter().map(|(at, ..)| *at);
            match deadlines.chain(arrivals).min() {
                Some(next) if next <= until => self.now = self.now.max(next),
                _ => break,
            }
            let (arrived, rest) = self.under_way.drain(..).partition(|(at, ..)| *at <= self.now);
            self.under_way = rest;
            for (_, who, packet) in arrived {
                self.step(who, Input::Received(&packet));
            }
            (0..2).for_each(|who| self.step(who, Input::Tick));
        }
        is_enough(self)
    }

    fn states(&self) -> [State; 2] {
        self.sessions.each_ref().map(Session::state)
    }
}

fn timings() -> impl Strategy<Value = Timing> {
    (50..1500u64, 50..1500u64, 3..6u8)
        .prop_map(|(transmit, receive, multiplier)| Timing::new(millis(transmit), millis(receive), multiplier).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn two_sessions_come_up_over_a_lossy_link_and_notice_a_cut_within_the_detection_time(
        one in timings(),
        other in timings(),
        changed in timings(),
        losses in [0..160u16, 0..160u16],
        calm in 1..5000u64,
        seed in any::<u64>(),
    ) {
        let mut world = World::new([one, other], seed);
        world.losses = losses;
        prop_assert!(world.run(Duration::from_mins(10), |world| world.states() == [State::Up; 2]));

        // Without losses they stay up, also where their timing changes.
        world.losses = [0; 2];
        let settled = world.now + Duration::from_secs(60);
        world.run(settled, |_| false);
        prop_assert_eq!(world.states(), [State::Up; 2]);
        world.last = [None; 2];
        world.step(0, Input::Configure(changed));
        let calm = world.now + millis(calm);
        world.run(calm, |_| false);
        prop_assert_eq!(world.last, [None; 2], "nobody goes down by a change");

        // A cut in both directions is noticed by each alone.
        let times = world.sessions.each_ref().map(|session| session.detection_time().unwrap());
        let cut = world.now;
        world.losses = [256; 2];
        world.under_way.clear();
        world.run(cut + times[0].max(times[1]), |_| false);
        for (who, time) in times.into_iter().enumerate() {
            let (at, change) = world.last[who].unwrap();
            prop_assert_eq!((change.from, change.to, change.why), (State::Up, State::Down, Why::Expired));
            prop_assert!(at <= cut + time, "{:?} after {:?}", at - cut, time);
        }

        // And when it is mended, both are back.
        world.losses = [0; 2];
        let soon = world.now + Duration::from_secs(10);
        prop_assert!(world.run(soon, |world| world.states() == [State::Up; 2]));
    }

    #[test]
    fn a_cut_of_one_direction_brings_both_down(seed in any::<u64>(), deaf in 0..2usize) {
        let mut world = World::new([Timing::default(); 2], seed);
        prop_assert!(world.run(Duration::from_secs(30), |world| world.states() == [State::Up; 2]));
        let settled = world.now + Duration::from_secs(5);
        world.run(settled, |_| false);
        let cut = world.now;
        world.losses[deaf] = 256;
        world.under_way.clear();
        prop_assert!(world.run(cut + millis(902), |world| world.states().iter().all(|state| *state != State::Up)));
        let why = |who: usize| world.last[who].unwrap().1;
        prop_assert_eq!(why(deaf).why, Why::Expired);
        prop_assert_eq!(why(1 - deaf).why, Why::Signalled(Diagnostic::EXPIRED));
        prop_assert!(why(1 - deaf).is_failure());
    }
}
