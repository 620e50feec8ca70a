//! Many histories: all with every guard in its place, and some with each guard taken out.

use twill_ipam::guard::{Guard, take_out};
use twill_testkit::histories::Model;

use super::action::{Action, history};
use super::play;

const MODEL: Model<Action> = Model {
    history,
    play: |actions| {
        let (world, failure) = play(actions);
        (world.counts, failure)
    },
    imports: &["Action::*", "crate::simulated::Fate::*"],
    words: &WORDS,
};

/// All that can happen.
const WORDS: [&str; 33] = [
    "see",
    "step",
    "run",
    "wait",
    "add",
    "del",
    "claim",
    "crash",
    "off",
    "on",
    "twin",
    "cut",
    "heal",
    "expire",
    "lost",
    "late",
    "twice",
    "unavailable",
    "deliver",
    "compact",
    "lag",
    "drain",
    "mirror",
    "backup",
    "restore",
    "configure",
    "meddle",
    "give back",
    "answer lost",
    "end of a drain",
    "delete node",
    "delete empty node",
    "delete node that runs",
];

/// So many in CI.
const HISTORIES: u64 = 10_000;
/// So often everything happens in them.
const OFTEN: u64 = 1_000;
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

#[test]
fn no_history_gives_an_address_twice_or_loses_one() {
    MODEL.holds(HISTORIES, OFTEN);
}

#[test]
fn each_guard_that_is_taken_out_is_missed() {
    let here: Vec<Guard> = Guard::ALL.iter().copied().filter(|guard| !ELSEWHERE.contains(guard)).collect();
    MODEL.misses(&here, WITHOUT, take_out);
}
