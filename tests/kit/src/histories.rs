//! What the model tests share: numbers from a seed, playing many histories on all processors, and leaving out of one that
//! fails what the failure does not need.

use std::collections::BTreeMap;
use std::fmt;
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

/// What the name of an outcome begins with.
pub const OUTCOME: &str = "→ ";

/// A model of something to which things happen.
#[derive(Debug)]
pub struct Model<A> {
    /// The history of a seed.
    pub history: fn(u64) -> Vec<A>,
    /// Plays one: how often what happened, and why it fails, if it does.
    pub play: fn(&[A]) -> (Counts, Option<String>),
    /// What a program that plays one again has to import.
    pub imports: &'static [&'static str],
    /// All that can happen, but for what comes of it ([`OUTCOME`]). What never happens nobody counts, so it has to be named here.
    pub words: &'static [&'static str],
}

impl<A: Clone + fmt::Debug> Model<A> {
    /// Plays so many histories, and prints how often what happened. Panics with the first that fails, shrunk, as a program
    /// that plays it again; where something happened that is none of the words; and where one of them happened less than
    /// `often`, if all were played that are meant to be.
    pub fn holds(&self, histories: u64, often: u64) {
        let (began, count) = (std::time::Instant::now(), count(histories));
        let Played { failed, counts } = search(count, |seed| self.outcome(seed));
        println!("{count} histories in {:.1} s: {counts:#?}", began.elapsed().as_secs_f64());
        if let Some(n) = failed {
            let actions = shrink((self.history)(seed(n)), |actions| (self.play)(actions).1.is_some());
            panic!("history {n} fails:\n{}", self.program(&actions));
        }
        let unnamed = unnamed(&counts, self.words);
        assert!(unnamed.is_empty(), "none of the model's words: {unnamed:?}");
        let seldom = seldom(&counts, self.words, often);
        assert!(count < histories || seldom.is_empty(), "too seldom: {seldom:?}");
    }

    /// Takes each guard out in turn and plays up to so many histories without it. Prints within how many it was missed;
    /// panics where one was not.
    pub fn misses<G: Copy + fmt::Debug + Sync>(&self, guards: &[G], histories: u64, take_out: fn(Option<G>)) {
        let mut unfound = Vec::new();
        println!("guard                    histories until found");
        for guard in guards.iter().filter(|guard| is_wanted(&format!("{guard:?}"))) {
            let without = |seed| {
                take_out(Some(*guard));
                self.outcome(seed)
            };
            match search(count(histories), without).failed {
                Some(n) => println!("{:24} {:5}", format!("{guard:?}"), n + 1),
                None => unfound.push(guard),
            }
        }
        assert!(unfound.is_empty(), "not found: {unfound:?}");
    }

    fn outcome(&self, seed: u64) -> (bool, Counts) {
        let (counts, failure) = (self.play)(&(self.history)(seed));
        (failure.is_some(), counts)
    }

    fn program(&self, actions: &[A]) -> String {
        let imports: String = self.imports.iter().map(|import| format!("    use {import};\n")).collect();
        let lines: String = actions.iter().map(|action| format!("        {action:?},\n")).collect();
        let failure = (self.play)(actions).1.unwrap_or_default();
        format!(
            "#[test]\nfn replay() {{\n{imports}    let (_, failure) = play(&[\n{lines}    ]);\n    // {failure}\n    \
             assert_eq!(failure, None);\n}}\n"
        )
    }
}

/// How often what happened. What begins with [`OUTCOME`] is no action and no fault, but what came of one: it may be seldom.
pub type Counts = BTreeMap<&'static str, u64>;

/// What happened and is neither one of the words nor an outcome.
fn unnamed<'a>(counts: &'a Counts, words: &[&str]) -> Vec<&'a str> {
    counts.keys().copied().filter(|what| !what.starts_with(OUTCOME) && !words.contains(what)).collect()
}

/// The words that happened less than `often`, or never.
fn seldom<'a>(counts: &Counts, words: &[&'a str], often: u64) -> Vec<(&'a str, u64)> {
    let times = words.iter().map(|word| (*word, counts.get(word).copied().unwrap_or(0)));
    times.filter(|(_, times)| *times < often).collect()
}

/// What playing many histories gave.
struct Played {
    /// The number of the first one that failed.
    failed: Option<u64>,
    /// What happened in all of them.
    counts: Counts,
}

/// Plays the histories of numbers below `count` on all processors, up to the first that fails. `play` gets the seed of one,
/// and tells whether it fails and what happened in it.
fn search(count: u64, play: impl Fn(u64) -> (bool, Counts) + Sync) -> Played {
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
fn seed(n: u64) -> u64 {
    n.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x7717
}

/// How many histories: TWILL_HISTORIES, where that is set.
fn count(default: u64) -> u64 {
    std::env::var("TWILL_HISTORIES").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Whether the guard of that name is asked for: TWILL_GUARD, where that is set, is a list of names.
fn is_wanted(guard: &str) -> bool {
    std::env::var("TWILL_GUARD").ok().is_none_or(|only| only.split(',').any(|name| name == guard))
}

/// Leaves actions out as long as it `fails` all the same.
fn shrink<A: Clone>(mut actions: Vec<A>, fails: impl Fn(&[A]) -> bool) -> Vec<A> {
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
    fn what_never_happens_is_too_seldom_and_what_has_no_name_is_found() {
        let counts = Counts::from([("add", 5), ("del", 2), ("→ refused", 1)]);
        assert_eq!(seldom(&counts, &["add", "del", "crash"], 5), [("del", 2), ("crash", 0)]);
        assert_eq!(unnamed(&counts, &["add", "crash"]), ["del"]);
    }

    #[test]
    fn a_failure_keeps_only_what_it_needs() {
        let needs = |rest: &[u32]| rest.contains(&3) && rest.contains(&40);
        assert_eq!(shrink((0..50).collect(), needs), [3, 40]);
    }
}
