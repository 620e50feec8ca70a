//! Tells whoever supervises the daemon (systemd, by sd_notify(3)) that it runs, what the node lacks, and that its tasks live.
//!
//! `READY=1` says that the daemon's tasks run. It is not that pods can be served: a node whose etcd is away would never come up,
//! and with it whatever is ordered after it, though its pods run. What stands in the way of pods is the status text. `WATCHDOG=1` is
//! sent at half of the interval that the supervisor asks for, for as long as the tasks live by the rules of `/healthz`. That is done
//! on a thread of its own: a supervisor that does not read keeps nobody else waiting. Without a supervisor nothing is sent.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, sleep_until};

use crate::metrics::health::{Pulses, Readiness};

/// Between two looks at the readiness of a node that is ready.
const CALM: Duration = Duration::from_secs(10);
/// Of one that is not: its supervisor shows it to somebody who waits.
const EAGER: Duration = Duration::from_secs(1);
/// How long a status text may be, in bytes; the supervisor shows it on a line.
const LONGEST: usize = 400;

/// What is told, and to be told how often.
#[derive(Debug)]
pub struct Supervised {
    pulses: Pulses,
    readiness: Arc<Readiness>,
    /// What the supervisor waits for between two signs of life; `None` where it does not watch.
    watchdog: Option<Duration>,
}

/// Whether somebody supervises the daemon who wants to be told.
pub fn is_there() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

impl Supervised {
    /// Of a daemon with these pulses and this readiness.
    pub fn new(pulses: Pulses, readiness: Arc<Readiness>) -> Self {
        Self { pulses, readiness, watchdog: sd_notify::watchdog_enabled() }
    }

    /// Says that the daemon runs, and goes on telling for as long as the process lives.
    pub fn run(&self) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build()?;
        runtime.block_on(self.tell());
        Ok(())
    }

    async fn tell(&self) {
        let mut told = None;
        let mut look = Instant::now();
        let mut beat = self.watchdog.map(|interval| (Instant::now(), interval / 2));
        loop {
            let now = Instant::now();
            if let Some((due, half)) = &mut beat
                && *due <= now
            {
                *due = now + *half;
                self.live();
            }
            if look <= now {
                let wrong = self.readiness.wrong().await;
                look = now + if wrong.is_empty() { CALM } else { EAGER };
                let status = status(&wrong);
                match &told {
                    None => send(&[NotifyState::Ready, NotifyState::Status(&status)]),
                    Some(before) if *before != status => send(&[NotifyState::Status(&status)]),
                    Some(_) => {}
                }
                told = Some(status);
            }
            sleep_until(beat.map_or(look, |(due, _)| due.min(look))).await;
        }
    }

    /// A sign of life, where there is life.
    fn live(&self) {
        let ills = self.pulses.ills();
        if ills.is_empty() {
            send(&[NotifyState::Watchdog]);
        } else {
            tracing::error!("the supervisor is given no sign of life: {}", ills.join("; "));
        }
    }
}

/// Says that the daemon ends.
pub fn stopping() {
    send(&[NotifyState::Stopping, NotifyState::Status("ending; the data path stays as it is")]);
}

/// A supervisor that cannot be reached will find out by itself.
fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the supervisor cannot be told");
    }
}

/// One line, since each line of a message is an assignment of its own.
fn status(wrong: &[String]) -> String {
    if wrong.is_empty() {
        return "pods are served".to_owned();
    }
    let words = format!("no pod can be served: {}", wrong.join("; "));
    let mut line: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.truncate(line.floor_char_boundary(LONGEST));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_line_whatever_the_reasons_say() {
        assert_eq!(status(&[]), "pods are served");
        let said = status(&["no block\nREADY=1".to_owned(), "a full disk".to_owned()]);
        assert_eq!(said, "no pod can be served: no block READY=1; a full disk");
        let long = status(&["ä".repeat(LONGEST)]);
        assert!(long.len() <= LONGEST && long.ends_with('ä'), "{long}");
    }
}
