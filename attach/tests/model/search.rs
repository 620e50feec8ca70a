//! Many histories: all with every guard in its place, and some with each guard taken out.

use twill_ipam::guard::{Guard, take_out};
use twill_testkit::histories::Model;

use crate::action::{Action, history};
use crate::play;

const MODEL: Model<Action> =
    Model { history, play, imports: &["crate::action::Action::*", "crate::board::Kind"], words: &WORDS };

/// All that can happen.
const WORDS: [&str; 26] = [
    "ADD",
    "DEL",
    "GC",
    "daemon's look",
    "sweep",
    "claim",
    "go",
    "finish",
    "wait",
    "kill daemon",
    "room again",
    "fault: ADD killed",
    "fault: DEL killed",
    "fault: GC killed",
    "fault: daemon killed at a look",
    "fault: daemon killed in a sweep",
    "fault: link removed by somebody",
    "fault: link renamed for a moment",
    "fault: link renamed for good",
    "fault: namespace gone without a DEL",
    "fault: no room",
    "fault: reboot",
    "fault: refused by the kernel",
    "fault: run directory deleted",
    "fault: somebody's route",
    "fault: store deleted",
];

/// So many in CI.
const HISTORIES: u64 = 2_400;
/// So often everything happens in them.
const OFTEN: u64 = 1_000;
/// A guard that is missing is found within so many.
const WITHOUT: u64 = 2_000;
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

#[test]
fn no_history_gives_an_address_twice_or_leaves_anything_behind() {
    MODEL.holds(HISTORIES, OFTEN);
}

#[test]
fn each_guard_that_is_taken_out_is_missed() {
    MODEL.misses(&GUARDS, WITHOUT, take_out);
}
