//! Waiting for a lock that another process holds: short random sleeps up to a deadline.
//!
//! Random, since waiters of equal patience that wake together collide again; short, since the locks are held for
//! microseconds. It is the busy handler of the node store and the wait for file locks, which have no timed form.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use crate::{BootTime, strings};

/// The shortest sleep.
const SHORTEST: Duration = Duration::from_micros(100);
/// The longest.
const LONGEST: Duration = Duration::from_millis(3);

/// One wait, from its first refusal to its deadline.
#[derive(Debug)]
pub(crate) struct Wait {
    deadline: BootTime,
    random: u64,
}

impl Wait {
    pub(crate) fn new(patience: Duration) -> Self {
        // The standard library seeds each of these from the system: enough to spread sleeps, and no dependency.
        Self { deadline: BootTime(strings::now().0 + patience), random: RandomState::new().build_hasher().finish() | 1 }
    }

    /// Sleeps a little. `false`, without a sleep, once the deadline is over.
    pub(crate) fn again(&mut self) -> bool {
        let left = self.deadline.since(strings::now());
        if left.is_zero() {
            return false;
        }
        strings::sleep(self.sleep().min(left));
        true
    }

    /// The next sleep: xorshift64, spread evenly between the shortest and the longest.
    fn sleep(&mut self) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let span = (LONGEST - SHORTEST).as_micros() as u64;
        SHORTEST + Duration::from_micros(self.random % (span + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeps_are_spread_between_the_shortest_and_the_longest() {
        let mut wait = Wait::new(Duration::ZERO);
        let sleeps: Vec<_> = (0..1000).map(|_| wait.sleep()).collect();
        assert!(sleeps.iter().all(|s| (SHORTEST..=LONGEST).contains(s)));
        assert!(sleeps.iter().min().unwrap() < &(SHORTEST * 2) && sleeps.iter().max().unwrap() > &(LONGEST - SHORTEST));
    }

    #[test]
    fn a_wait_without_patience_does_not_wait() {
        assert!(!Wait::new(Duration::ZERO).again());
    }
}
