//! Idle: no connection is wanted, or none until the IdleHoldTimer expires (RFC 4271, section 8.2.2).
//!
//! Each failure leads here. The time here doubles with each, so that a peer that refuses, or flaps, is not asked all the time
//! (DampPeerOscillations, section 8.1.1).

use super::{Attempt, Session};

impl Session {
    /// Event 1, or 4: ManualStart.
    pub(super) fn manual_start(&mut self) {
        if let Attempt::Idle { .. } = self.attempt {
            self.retries = 0;
            self.failures = 0;
            self.start();
        }
    }

    /// Also event 13: IdleHoldTimer_Expires.
    pub(super) fn start(&mut self) {
        if self.config.passive {
            self.attempt = Attempt::Trying { dial: None, retry: None };
        } else {
            self.dial();
        }
    }

    /// To Idle after a failure, and from there by itself.
    pub(super) fn hold_idle(&mut self) {
        let time = self.config.idle_hold.saturating_mul(1 << self.failures.min(16)).min(self.config.idle_hold_most);
        self.failures = self.failures.saturating_add(1);
        self.attempt = Attempt::Idle { again: self.jittered(time) };
    }
}
