//! What every end-to-end test begins and ends with.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::{Lab, LabBuilder, Result, needs};

/// Makes a lab, runs `scenario` in it and removes it. Where the machine cannot have one, the test is skipped, and says
/// why. A failure is shown with the nodes' last words; with `TWILL_LAB_KEEP` set, the lab of a failed test stays.
pub fn with_lab(wanted: LabBuilder, scenario: impl FnOnce(&mut Lab) -> Result<()>) {
    if let Some(why) = needs::unmet() {
        needs::say_skipped(&why);
        return;
    }
    let mut lab = wanted.build().unwrap_or_else(|error| panic!("no lab: {error}"));
    let outcome = catch_unwind(AssertUnwindSafe(|| scenario(&mut lab)));
    let failed = !matches!(outcome, Ok(Ok(())));
    if failed {
        eprintln!("{}", lab.evidence());
    }
    if failed && std::env::var_os("TWILL_LAB_KEEP").is_some() {
        eprintln!("the lab stays: hack/lab enter --name {0} n1, hack/lab down --name {0}", lab.prefix());
        lab.keep().unwrap_or_else(|error| panic!("the lab could not be kept: {error}"));
    }
    match outcome {
        Ok(result) => result.unwrap_or_else(|error| panic!("{error}")),
        Err(panic) => resume_unwind(panic),
    }
}
