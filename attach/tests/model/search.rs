//! Many histories: all with every guard in its place, and some with each guard taken out.

use twill_ipam::guard::{Guard, take_out};
use twill_testkit::histories::{self, Played, seed, shrink};

use crate::action::{Action, history};
use crate::play;

/// So many in CI.
const HISTORIES: u64 = 3_000;
/// A guard that is missing is found within so many.
const WITHOUT: u64 = 2_000;
/// What is seldom enough to be looked at twice happens so often at least.
const OFTEN: u64 = 1_000;
/// The guards of an attachment's course. Those of the block protocol the model of `twill-cluster` finds.
const GUARDS: [Guard; 9] = [
    Guard::CoolingCountsAsUse,
    Guard::RowIsOurs,
    Guard::LivenessLock,
    Guard::LinkGoneBeforeCooling,
    Guard::TwoObservations,
    Guard::GcAge,
    Guard::ExclusiveRoute,
    Guard::TunnelInRebuild,
    Guard::CoolingAfterRebuild,
];

/// The history as a program that plays it again.
fn program(actions: &[Action]) -> String {
    let (_, failure) = play(actions);
    let lines: String = actions.iter().map(|action| format!("        {action:?},\n")).collect();
    format!(
        "#[test]\nfn replay() {{\n    use Action::*;\n    let (_, failure) = play(&[\n{lines}    ]);\n    // {}\n    \
         assert_eq!(failure, None);\n}}\n",
        failure.unwrap_or_default()
    )
}

fn search(count: u64, without: Option<Guard>) -> Played {
    histories::search(count, |seed| {
        take_out(without);
        let (counts, failure) = play(&history(seed));
        (failure.is_some(), counts)
    })
}

#[test]
fn no_history_gives_an_address_twice_or_leaves_anything_behind() {
    let began = std::time::Instant::now();
    let count = histories::count(HISTORIES);
    let Played { failed, counts } = search(count, None);
    println!("{count} histories in {:.1} s: {counts:#?}", began.elapsed().as_secs_f64());
    if let Some(n) = failed {
        let actions = shrink(history(seed(n)), |actions| play(actions).1.is_some());
        panic!("history {n} fails:\n{}", program(&actions));
    }
    let seldom: Vec<_> = counts.iter().filter(|(_, times)| **times < OFTEN).collect();
    assert!(count < HISTORIES || seldom.is_empty(), "too seldom: {seldom:?}");
}

#[test]
fn each_guard_that_is_taken_out_is_missed() {
    let mut table = String::new();
    let mut unfound = Vec::new();
    for guard in GUARDS.into_iter().filter(|guard| histories::is_wanted(&format!("{guard:?}"))) {
        match search(histories::count(WITHOUT), Some(guard)).failed {
            Some(n) => table += &format!("{:24} {:5}\n", format!("{guard:?}"), n + 1),
            None => unfound.push(guard),
        }
    }
    println!("guard                    histories until found\n{table}");
    assert!(unfound.is_empty(), "not found: {unfound:?}");
}
