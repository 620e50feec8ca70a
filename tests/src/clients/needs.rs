//! What every test of a real client begins and ends with.

use crate::clients::Machine;
use crate::{Lab, LabBuilder, Result, needs, with_lab};

/// What a machine is made with, beside what a lab needs.
const PROGRAMS: [&str; 4] = ["unshare", "nsenter", "busybox", "timeout"];

/// Makes a lab and a machine of its first node, runs `scenario` and shuts both down. Skipped, with the reason, where
/// a client of `programs` is not installed.
pub fn with_machine(programs: &[&str], wanted: LabBuilder, scenario: impl FnOnce(&Lab, &Machine<'_>) -> Result<()>) {
    let is_missing = |program: &&&str| twill_testkit::finds(program).is_none();
    let missing: Vec<_> = PROGRAMS.iter().chain(programs).filter(is_missing).copied().collect();
    if !missing.is_empty() {
        needs::say_skipped(&format!("{} is not installed, hack/setup installs it", missing.join(", ")));
        return;
    }
    if !has_overlays() {
        needs::say_skipped("this kernel has no overlay file system, which keeps a client's files apart");
        return;
    }
    with_lab(wanted, |lab| {
        let machine = Machine::boot(lab.node(1))?;
        scenario(lab, &machine)
    });
}

fn has_overlays() -> bool {
    std::fs::read_to_string("/proc/filesystems").is_ok_and(|all| all.lines().any(|line| line.ends_with("overlay")))
}
