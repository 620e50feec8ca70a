//! How densely passes follow each other. Where many nodes join, the view changes all the time, and each pass costs the more
//! the larger the cluster is; where pods come and go by the hundred, the kernel says so all the time. On every such node a
//! processor would do nothing else.
//!
//! So passes may take [`BURST`] without a rest, which is what a few nodes that come or go call for; beyond that they rest
//! [`SHARE`] times as long as they took: a tenth of a processor. No rest is longer than [`LONGEST`], within which everything that happened
//! is one pass; so in a cluster where a pass takes more than 80 ms they take more than a tenth, and what is lost is put back soon.
//!
//! What counts of a pass that the kernel's events called for is its time on a processor, that of `nft` included: where it takes
//! long since others are busy, a rest would put off the next repair by seconds. Of one that only the view's news called for all its time
//! counts, since they can wait.

use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

/// What passes may take at once.
const BURST: Duration = Duration::from_millis(150);
/// Beyond that they rest so many times as long as they took.
const SHARE: u32 = 9;
/// With a pass that takes less than 0.3 s, what is removed from the kernel is put back within a second of the event, whatever else happens.
const LONGEST: Duration = Duration::from_millis(700);

/// The time that passes have taken and not rested for yet.
#[derive(Debug)]
pub(super) struct Pace {
    debt: Duration,
    at: Instant,
}

impl Pace {
    /// Nothing has been taken yet.
    pub(super) fn new(now: Instant) -> Self {
        Self { debt: Duration::ZERO, at: now }
    }

    /// A pass is over that took so long. How long to rest before the next one.
    pub(super) fn rest(&mut self, taken: Duration, now: Instant) -> Duration {
        let idle = now.saturating_duration_since(self.at).saturating_sub(taken);
        self.debt = self.debt.saturating_sub(idle / SHARE) + taken;
        self.at = now;
        let rest = (self.debt.saturating_sub(BURST) * SHARE).min(LONGEST);
        // One pass may take longer than any rest makes up for: no more is owed than that.
        self.debt = self.debt.min(BURST + LONGEST / SHARE);
        rest
    }
}

/// The processor time that the calling thread has taken so far, and children that have ended: a pass's are runs of `nft`.
pub(super) fn processor_time() -> Duration {
    let of = |who| {
        let usage = getrusage(who).ok()?;
        Some(duration(usage.user_time()) + duration(usage.system_time()))
    };
    [UsageWho::RUSAGE_THREAD, UsageWho::RUSAGE_CHILDREN].into_iter().filter_map(of).sum()
}

fn duration(time: TimeVal) -> Duration {
    let micros = time.tv_sec().saturating_mul(1_000_000).saturating_add(time.tv_usec());
    Duration::from_micros(u64::try_from(micros).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    /// Passes of this length as densely as they may be, for ten seconds; those of the first tenth of a second, and what
    /// all of them took.
    fn dense(pass: Duration) -> (usize, Duration) {
        let begin = Instant::now();
        let (mut pace, mut now, mut early, mut taken) = (Pace::new(begin), begin, 0, Duration::ZERO);
        while now.duration_since(begin) < 10_000 * MILLISECOND {
            early += usize::from(now.duration_since(begin) < 100 * MILLISECOND);
            let rest = pace.rest(pass, now + pass);
            assert!(rest <= LONGEST);
            taken += pass;
            now += pass + rest;
        }
        (early, taken)
    }

    #[test]
    fn a_few_passes_follow_each_other_at_once_and_many_take_a_tenth_of_the_time_or_rest_as_long_as_they_may() {
        for (pass, first, most) in [(10, 10, 1_200), (20, 5, 1_200), (50, 2, 1_200), (200, 1, 2_500)] {
            let (early, taken) = dense(pass * MILLISECOND);
            assert_eq!(early, first, "passes of {pass} ms");
            assert!(taken < most * MILLISECOND, "passes of {pass} ms took {taken:?} of 10 s");
        }
    }

    #[test]
    fn a_pass_after_a_long_quiet_is_followed_by_another_at_once() {
        let begin = Instant::now();
        let mut pace = Pace::new(begin);
        assert_eq!(
            pace.rest(3_000 * MILLISECOND, begin + 3_000 * MILLISECOND),
            LONGEST,
            "a cold start in a large cluster"
        );
        let later = begin + 20_000 * MILLISECOND;
        assert_eq!(pace.rest(20 * MILLISECOND, later + 20 * MILLISECOND), Duration::ZERO);
    }

    #[test]
    fn passes_that_wait_for_a_processor_are_followed_by_others_at_once() {
        let begin = Instant::now();
        let (mut pace, mut now) = (Pace::new(begin), begin);
        for _ in 0..100 {
            now += 200 * MILLISECOND;
            assert_eq!(pace.rest(20 * MILLISECOND, now), Duration::ZERO);
        }
    }

    #[test]
    fn work_takes_processor_time() {
        let before = processor_time();
        let end = Instant::now() + 10_000 * MILLISECOND;
        while processor_time() - before < 5 * MILLISECOND {
            assert!(Instant::now() < end, "it stands still");
        }
    }
}
