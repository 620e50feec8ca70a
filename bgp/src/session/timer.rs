//! The timers: when they expire, and their jitter (RFC 4271, sections 8.2.1.3 and 10; RFC 9687).

use std::time::Duration;

use super::{Attempt, ConnectionId, Session};
use crate::random::Random;
use crate::wire::{ErrorCode, Message};

/// The HoldTimer until the peer's OPEN says more (RFC 4271, section 8.2.2: 4 minutes).
pub(super) const LARGE_HOLD: Duration = Duration::from_secs(240);

/// How long the peer may take nothing of what waits for it, where twice the hold time is not longer (RFC 9687, section 6).
const LEAST_SEND_HOLD: Duration = Duration::from_mins(8);

/// Three quarters of a time to all of it.
pub(super) fn jitter(random: &mut Random, time: Duration) -> Duration {
    let part = u32::try_from(random.draw() & 0xFF).expect("a byte");
    let quarter = time / 4;
    quarter * 3 + quarter / 255 * part
}

impl Session {
    /// When [`Input::Tick`](super::Input::Tick) is due. None: only something that comes changes anything.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        let attempt = match self.attempt {
            Attempt::Idle { again } => again,
            Attempt::Trying { retry, .. } => retry,
        };
        let connections = self.connections.iter().flat_map(|connection| {
            let deferred = connection.deferred.and_then(|deferred| deferred.until);
            [connection.hold, connection.keepalive, connection.send_hold, deferred]
        });
        connections.chain([attempt]).flatten().min()
    }

    pub(super) fn after(&self, time: Duration) -> Option<Duration> {
        self.now.checked_add(time)
    }

    pub(super) fn jittered(&mut self, time: Duration) -> Option<Duration> {
        let time = jitter(&mut self.random, time);
        self.after(time)
    }

    /// Starts ConnectRetryTimer, where the session dials at all.
    pub(super) fn connect_retry(&mut self) -> Option<Duration> {
        if self.config.passive { None } else { self.jittered(self.config.connect_retry) }
    }

    /// Restarts HoldTimer of a connection whose OPEN is known.
    pub(super) fn restart_hold(&mut self, id: ConnectionId) {
        let now = self.now;
        if let Some(connection) = self.connection(id) {
            let time = connection.phase.negotiated().map_or(LARGE_HOLD, |negotiated| negotiated.hold_time);
            connection.hold = if time.is_zero() { None } else { now.checked_add(time) };
        }
    }

    /// Restarts KeepaliveTimer: a third of the hold time, which RFC 4271, section 4.4, has as a maximum.
    pub(super) fn restart_keepalive(&mut self, id: ConnectionId) {
        let confirmed = self.connection(id).filter(|connection| connection.deferred.is_none());
        let negotiated = confirmed.and_then(|connection| connection.phase.negotiated());
        let Some(time) = negotiated.map(|negotiated| negotiated.hold_time / 3) else { return };
        let due = if time.is_zero() { None } else { self.jittered(time) };
        if let Some(connection) = self.connection(id) {
            connection.keepalive = due;
        }
    }

    /// Starts SendHoldTimer, unless something waits to be sent already.
    pub(super) fn start_send_hold(&mut self, id: ConnectionId) {
        let now = self.now;
        if let Some(connection) = self.connection(id).filter(|connection| connection.send_hold.is_none()) {
            let hold_time = connection.phase.negotiated().map_or(LARGE_HOLD, |negotiated| negotiated.hold_time);
            connection.send_hold = now.checked_add(LEAST_SEND_HOLD.max(hold_time.saturating_mul(2)));
        }
    }

    /// The peer takes what is sent: no KEEPALIVE is needed for a while.
    pub(super) fn sent(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connection(id) {
            connection.send_hold = None;
        }
        self.restart_keepalive(id);
    }

    /// Lets the timers expire whose time has come.
    pub(super) fn tick(&mut self) {
        let now = self.now;
        let is_due = |timer: Option<Duration>| timer.is_some_and(|due| due <= now);
        match self.attempt {
            Attempt::Idle { again } if is_due(again) => self.start(),
            Attempt::Trying { dial, retry } if is_due(retry) => self.connect_retry_expires(dial),
            _ => {}
        }
        self.end_deferral();
        let ids: Vec<_> = self.connections.iter().map(|connection| connection.id).collect();
        for id in ids {
            let Some(connection) = self.connection(id) else { continue };
            if is_due(connection.hold) {
                self.end_with(id, ErrorCode::HOLD_TIMER_EXPIRED.into());
            } else if is_due(connection.send_hold) {
                // Event 29.
                self.end_with(id, ErrorCode::SEND_HOLD_TIMER_EXPIRED.into());
            } else if is_due(connection.keepalive) {
                self.send(id, Message::Keepalive);
                self.restart_keepalive(id);
            }
        }
    }
}
