//! The monitor: a thread that hears of changes in the kernel and rings the reconciler's bell.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use twill_linux::monitor::{Echoes, Monitor, Touched};

use crate::bell::{Bell, Causes};
use crate::metrics::Events;

/// How long a new subscription is put off after one failed.
const PAUSE: Duration = Duration::from_secs(1);
/// How often the thread looks whether the daemon still runs; nothing else hangs on it.
const TURN: Duration = Duration::from_secs(3600);

/// Listens for as long as the process lives. `first` is opened before the first dump, so that no change falls between;
/// `echoes` is what the reconciler tells of its own changes, `touched` what it is told of filters; `stirred` wakes who looks at links and
/// routes for himself; in `events` it is counted when some were lost.
pub fn listen(
    first: Monitor,
    (echoes, touched): (&Arc<Echoes>, &Arc<Touched>),
    bell: &Arc<Bell>,
    stirred: &watch::Sender<()>,
    events: &Events,
) {
    let mut monitor = Some(first);
    loop {
        match monitor.as_mut().map(|monitor| monitor.wait(TURN)) {
            Some(Ok(heard)) => {
                bell.ring(Causes { network: heard.network, firewall: heard.firewall, ..Causes::default() });
                if heard.in_part {
                    tracing::debug!("more happened in the kernel than there was room for: everything is looked at");
                    events.overrun();
                }
                if heard.network {
                    stirred.send_replace(());
                }
            }
            Some(Err(error)) => {
                tracing::warn!("events of the kernel are not heard, drift is found by the timer alone: {error}");
                monitor = None;
            }
            None => {
                std::thread::sleep(PAUSE);
                monitor = Monitor::open(Arc::clone(echoes), Arc::clone(touched)).ok();
                if monitor.is_some() {
                    tracing::info!("events of the kernel are heard again");
                    bell.ring(Causes { network: true, firewall: true, ..Causes::default() });
                    stirred.send_replace(());
                }
            }
        }
    }
}
