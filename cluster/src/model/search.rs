//! Many histories: all with every guard in its place, and some with each guard taken out.

use twill_ipam::guard::{Guard, take_out};
use twill_testkit::histories::{self, Played, seed, shrink};

use super::action::{Action, history};
use super::play;

/// So many in CI.
const HISTORIES: u64 = 10_000;
/// A guard that is missing is found within so many.
const WITHOUT: u64 = 2_000;
/// The guards of what this model does not have, an attachment's course: that of `twill-attach` finds them.
const ELSEWHERE: [Guard; 8] = [
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
fn program(actions: &[Action], without: Option<Guard>) -> String {
    let (_, failure) = play(actions);
    let lines: String = actions.iter().map(|action| format!("        {action:?},\n")).collect();
    let guard = without.map(|guard| format!("    take_out(Some(Guard::{guard:?}));\n")).unwrap_or_default();
    format!(
        "#[test]\nfn replay() {{\n    use Action::*;\n    use crate::simulated::Fate::*;\n{guard}    let (_, failure) = play(&[\n{lines}    ]);\n    // {}\n    \
         assert_eq!(failure, None);\n}}\n",
        failure.unwrap_or_default()
    )
}

fn search(count: u64, without: Option<Guard>) -> Played {
    histories::search(count, |seed| {
        take_out(without);
        let (world, failure) = play(&history(seed));
        (failure.is_some(), world.counts)
    })
}

#[test]
fn no_history_gives_an_address_twice_or_loses_one() {
    let began = std::time::Instant::now();
    let count = histories::count(HISTORIES);
    let Played { failed, counts } = search(count, None);
    println!("{count} histories in {:.1} s: {counts:#?}", began.elapsed().as_secs_f64());
    if let Some(n) = failed {
        let actions = shrink(history(seed(n)), |actions| play(actions).1.is_some());
        panic!("history {n} fails:\n{}", program(&actions, None));
    }
    let seldom: Vec<_> = counts.iter().filter(|(_, times)| **times < 1_000).collect();
    assert!(count < HISTORIES || seldom.is_empty(), "too seldom: {seldom:?}");
}

#[test]
fn each_guard_that_is_taken_out_is_missed() {
    let mut table = String::new();
    let mut unfound = Vec::new();
    let wanted = |guard: &&Guard| histories::is_wanted(&format!("{guard:?}")) && !ELSEWHERE.contains(guard);
    for guard in Guard::ALL.iter().filter(wanted) {
        match search(histories::count(WITHOUT), Some(*guard)).failed {
            Some(n) => table += &format!("{:24} {:5}\n", format!("{guard:?}"), n + 1),
            None => unfound.push(guard),
        }
    }
    println!("guard                    histories until found\n{table}");
    assert!(unfound.is_empty(), "not found: {unfound:?}");
}
