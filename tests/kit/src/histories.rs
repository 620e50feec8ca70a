//! What the model tests share: numbers from a seed, playing many histories on all processors, and leaving out of one that
//! fails what the failure does not need.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// A generator of numbers: splitmix64.
#[derive(Debug, Clone)]
pub struct Dice(pub u64);

impl Dice {
    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "it never ends, and is not to be collected")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// How often what happened.
pub type Counts = BTreeMap<&'static str, u64>;

/// What playing many histories gave.
#[derive(Debug)]
pub struct Played {
    /// The number of the first one that failed.
    pub failed: Option<u64>,
    /// What happened in all of them.
    pub counts: Counts,
}

/// Plays the histories of numbers below `count` on all processors, up to the first that fails. `play` gets the seed of one,
/// and tells whether it fails and what happened in it.
pub fn search(count: u64, play: impl Fn(u64) -> (bool, Counts) + Sync) -> Played {
    let (next, first) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    let counts = Mutex::new(Counts::new());
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let work = || {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= count || n > first.load(Ordering::Relaxed) {
                return;
            }
            let (fails, happened) = play(seed(n));
            if fails {
                first.fetch_min(n, Ordering::Relaxed);
            }
            let mut counts = counts.lock().expect("nobody panics with the counts in hand");
            for (what, times) in happened {
                *counts.entry(what).or_default() += times;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let first = first.into_inner();
    let counts = counts.into_inner().expect("nobody panics with the counts in hand");
    Played { failed: (first < u64::MAX).then_some(first), counts }
}

/// The seed of the history of that number.
pub fn seed(n: u64) -> u64 {
    n.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x7717
}

/// How many histories: TWILL_HISTORIES, where that is set.
pub fn count(default: u64) -> u64 {
    std::env::var("TWILL_HISTORIES").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Whether the guard of that name is asked for: TWILL_GUARD, where that is set, is a list of names.
pub fn is_wanted(guard: &str) -> bool {
    std::env::var("TWILL_GUARD").ok().is_none_or(|only| only.split(',').any(|name| name == guard))
}

/// Leaves actions out as long as it `fails` all the same.
pub fn shrink<A: Clone>(mut actions: Vec<A>, fails: impl Fn(&[A]) -> bool) -> Vec<A> {
    let mut size = actions.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        while at < actions.len() {
            let end = (at + size).min(actions.len());
            let rest = [&actions[..at], &actions[end..]].concat();
            if fails(&rest) { actions = rest } else { at = end }
        }
        size /= 2;
    }
    actions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_history_that_fails_is_found_on_any_number_of_processors() {
        let fails = [seed(70), seed(90)];
        let played = search(100, |seed| (fails.contains(&seed), Counts::from([("played", 1)])));
        assert_eq!(played.failed, Some(70));
        assert!(played.counts["played"] >= 71);
        let played = search(100, |_| (false, Counts::from([("played", 1)])));
        assert_eq!((played.failed, played.counts["played"]), (None, 100));
    }

    #[test]
    fn a_failure_keeps_only_what_it_needs() {
        let needs = |rest: &[u32]| rest.contains(&3) && rest.contains(&40);
        assert_eq!(shrink((0..50).collect(), needs), [3, 40]);
    }
}
