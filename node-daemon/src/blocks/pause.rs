//! The pause before the keeper tries again: longer each time in a row, with jitter, so that nodes do not come in step.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use tokio::time::{Instant, sleep_until};

/// A pause that may be running.
#[derive(Debug)]
pub(super) struct Pause {
    delays: ExponentialBackoff,
    until: Option<Instant>,
}

impl Default for Pause {
    fn default() -> Self {
        Self { delays: delays(), until: None }
    }
}

impl Pause {
    /// Begins a pause; one that runs is not made longer.
    pub(super) fn begin(&mut self) {
        if self.until.is_none() {
            let delay = self.delays.next().unwrap_or(Duration::from_secs(30));
            self.until = Some(Instant::now() + delay);
        }
    }

    /// Success: the next pause is a short one.
    pub(super) fn forget(&mut self) {
        self.delays = delays();
    }

    /// Returns when the pause that runs is over; never, where none runs.
    pub(super) async fn over(&mut self) {
        match self.until {
            Some(until) => sleep_until(until).await,
            None => std::future::pending().await,
        }
        self.until = None;
    }
}

fn delays() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(250))
        .with_max_delay(Duration::from_secs(30))
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
        .build()
}
