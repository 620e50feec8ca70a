//! Many histories: all with every guard in its place, and some with each guard taken out.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::action::{Action, history};
use super::play;
use crate::guard::{Guard, test};

/// So many in CI.
const HISTORIES: u64 = 10_000;
/// A guard that is missing is found within so many.
const WITHOUT: u64 = 2_000;
/// Guards that no history finds yet: of what the model does not have (the plugin's steps, the kernel, the sweep), and the
/// compare of ancestors, for which a lost block must be claimed again inside a wider one that the view does not show; that
/// one has a test of its own (`a_claim_inside_or_around_a_block_that_the_view_did_not_show_is_refused`).
const UNREACHED: [Guard; 9] = [
    Guard::AncestorCompare,
    Guard::RowIsOurs,
    Guard::LivenessLock,
    Guard::LinkGoneBeforeCooling,
    Guard::TwoObservations,
    Guard::GcAge,
    Guard::ExclusiveRoute,
    Guard::TunnelInRebuild,
    Guard::CoolingAfterRebuild,
];

/// Leaves out what the failure does not need.
fn shrink(mut actions: Vec<Action>) -> Vec<Action> {
    let fails = |actions: &[Action]| play(actions).1.is_some();
    let mut size = actions.len() / 2;
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

/// The history as a program that plays it again.
fn program(actions: &[Action], without: Option<Guard>) -> String {
    let (_, failure) = play(actions);
    let lines: String = actions.iter().map(|action| format!("        {action:?},\n")).collect();
    let guard = without.map(|guard| format!("    test::take_out(Some(Guard::{guard:?}));\n")).unwrap_or_default();
    format!(
        "#[test]\nfn replay() {{\n    use Action::*;\n    use crate::simulated::Fate::*;\n{guard}    let (_, failure) = play(&[\n{lines}    ]);\n    // {}\n    \
         assert_eq!(failure, None);\n}}\n",
        failure.unwrap_or_default()
    )
}

fn seed(n: u64) -> u64 {
    n.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x7717
}

/// Plays histories on all processors; the first that fails, by number.
fn search(count: u64, without: Option<Guard>) -> (Option<u64>, BTreeMap<&'static str, u64>) {
    let (next, first) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    let counts = Mutex::new(BTreeMap::new());
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                test::take_out(without);
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count || n > first.load(Ordering::Relaxed) {
                        return;
                    }
                    let (world, failure) = play(&history(seed(n)));
                    if failure.is_some() {
                        first.fetch_min(n, Ordering::Relaxed);
                    }
                    let mut counts = counts.lock().unwrap();
                    for (what, times) in &world.counts {
                        *counts.entry(*what).or_default() += times;
                    }
                }
            });
        }
    });
    let first = first.into_inner();
    ((first < u64::MAX).then_some(first), counts.into_inner().unwrap())
}

fn histories(default: u64) -> u64 {
    std::env::var("TWILL_HISTORIES").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn no_history_gives_an_address_twice_or_loses_one() {
    let began = std::time::Instant::now();
    let count = histories(HISTORIES);
    let (failed, counts) = search(count, None);
    println!("{count} histories in {:.1} s: {counts:#?}", began.elapsed().as_secs_f64());
    if let Some(n) = failed {
        panic!("history {n} fails:\n{}", program(&shrink(history(seed(n))), None));
    }
    let seldom: Vec<_> = counts.iter().filter(|(_, times)| **times < 1_000).collect();
    assert!(count < HISTORIES || seldom.is_empty(), "too seldom: {seldom:?}");
}

#[test]
fn each_guard_that_is_taken_out_is_missed() {
    let mut table = String::new();
    let mut unfound = Vec::new();
    let only = std::env::var("TWILL_GUARD").ok();
    let wanted =
        |guard: &Guard| only.as_ref().is_none_or(|only| only.split(',').any(|name| name == format!("{guard:?}")));
    for guard in test::ALL.into_iter().filter(wanted).filter(|guard| !UNREACHED.contains(guard)) {
        let (found, _) = search(histories(WITHOUT), Some(guard));
        match found {
            Some(n) => table += &format!("{:24} {:5}\n", format!("{guard:?}"), n + 1),
            None => unfound.push(guard),
        }
    }
    println!("guard                    histories until found\n{table}");
    assert!(unfound.is_empty(), "not found: {unfound:?}");
}
