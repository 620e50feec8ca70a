//! The time of day: the only place of a node that reads a clock that somebody may set.
//!
//! Other machines cannot read this one's CLOCK_BOOTTIME, so what is written for people to read (since when a pod has its
//! address) is told by the calendar. Nothing on the node is decided by it: after a jump of the clock the mirror is
//! written once more, with other times.

use std::time::{Duration, SystemTime};

use twill_ipam::BootTime;

/// When this machine booted, since 1970, by the clock of now.
pub fn boot_time() -> Duration {
    now().saturating_sub(BootTime::now().0)
}

/// The time of day, since 1970: for an operator who compares the clocks of machines.
pub fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
