//! What wakes the reconciler: causes, gathered until it looks.
//!
//! Ringing never waits and never loses a cause; a hundred rings before the reconciler looks are one pass. That bounds the
//! work whatever the rate of events, where a queue of events would not.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Why a pass is due.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Causes {
    /// The cluster's view, or a fact about this node, has changed: somebody waits for it.
    pub view: bool,
    /// The kernel's links, addresses, routes or neighbours have changed.
    pub network: bool,
    /// The kernel's nftables have changed.
    pub firewall: bool,
    /// The daemon ends.
    pub stop: bool,
}

impl Causes {
    /// Whether nothing is due.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    fn urgent(self) -> bool {
        self.view || self.stop
    }

    fn add(&mut self, more: Self) {
        self.view |= more.view;
        self.network |= more.network;
        self.firewall |= more.firewall;
        self.stop |= more.stop;
    }
}

/// The bell itself, shared by all who ring.
#[derive(Debug, Default)]
pub struct Bell {
    causes: Mutex<Causes>,
    rung: Condvar,
}

impl Bell {
    /// Adds causes and wakes the reconciler.
    pub fn ring(&self, causes: Causes) {
        self.lock().add(causes);
        self.rung.notify_one();
    }

    /// Takes all causes, waiting for the first up to `patience`. Events of the kernel come in swarms (one ADD makes a
    /// dozen), so they are gathered for `calm` before they are taken; what somebody waits for is not delayed.
    pub fn wait(&self, patience: Duration, calm: Duration) -> Causes {
        let causes = self.wait_while(self.lock(), patience, |causes| causes.is_empty());
        if causes.is_empty() {
            return Causes::default();
        }
        let mut causes = self.wait_while(causes, calm, |causes| !causes.urgent());
        std::mem::take(&mut *causes)
    }

    /// Lets so much time pass, whoever rings, but for the daemon's end.
    pub fn rest(&self, time: Duration) {
        drop(self.wait_while(self.lock(), time, |causes| !causes.stop));
    }

    fn wait_while<'a>(
        &self,
        mut causes: MutexGuard<'a, Causes>,
        patience: Duration,
        keep_waiting: impl Fn(Causes) -> bool,
    ) -> MutexGuard<'a, Causes> {
        let deadline = Instant::now() + patience;
        while keep_waiting(*causes) {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { break };
            causes = self.rung.wait_timeout(causes, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        causes
    }

    fn lock(&self) -> MutexGuard<'_, Causes> {
        self.causes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const VIEW: Causes = Causes { view: true, network: false, firewall: false, stop: false };
    const NETWORK: Causes = Causes { view: false, network: true, firewall: false, stop: false };

    #[test]
    fn many_rings_before_a_look_are_one_pass_with_all_causes() {
        let bell = Bell::default();
        bell.ring(NETWORK);
        bell.ring(VIEW);
        bell.ring(NETWORK);
        assert_eq!(bell.wait(LONG, LONG), Causes { view: true, network: true, ..Causes::default() });
        assert!(bell.wait(Duration::ZERO, LONG).is_empty(), "what was taken is not given again");
    }

    #[test]
    fn a_rest_is_cut_short_by_the_end_alone_and_loses_no_ring() {
        let bell = Bell::default();
        bell.ring(VIEW);
        bell.rest(Duration::from_millis(1));
        bell.ring(Causes { stop: true, ..Causes::default() });
        bell.rest(LONG);
        assert_eq!(bell.wait(LONG, LONG), Causes { view: true, stop: true, ..Causes::default() });
    }

    #[test]
    fn a_change_of_the_view_is_not_held_back_for_calm() {
        let bell = std::sync::Arc::new(Bell::default());
        bell.ring(NETWORK);
        let waiting = std::thread::spawn({
            let bell = bell.clone();
            move || bell.wait(LONG, LONG)
        });
        bell.ring(VIEW);
        assert!(waiting.join().unwrap().view, "it returned within the minute of calm, with the view's cause");
    }
}
