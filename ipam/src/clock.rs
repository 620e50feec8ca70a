//! Time as the store knows it: CLOCK_BOOTTIME, which no administrator sets and no sleep stops.

use std::time::Duration;

/// Time since this boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct BootTime(pub Duration);

impl BootTime {
    /// The clock of this machine, now. The only place that reads it.
    pub fn now() -> Self {
        let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)
            .expect("CLOCK_BOOTTIME exists on every Linux since 2.6.39");
        Self(Duration::from(time))
    }

    /// How long ago `earlier` was; zero if it was not.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}
