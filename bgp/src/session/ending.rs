//! How connections end, and what the session does then (RFC 4271, sections 6 and 8.2.2).

use std::fmt;

use super::{Attempt, Cease, ConnectionId, Message, Notification, Output, Phase, Session, State};
use crate::wire::ErrorCode;

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// This side said so.
    Sent(Notification),
    /// The peer said so.
    Received(Notification),
    /// It broke, or could not be read or written.
    Lost,
    /// The peer made a new one: it has restarted.
    Replaced,
}

impl Reason {
    /// Whether one end was configured otherwise and made the session anew by that. It tells of the past: nothing is wrong.
    #[must_use]
    pub fn is_by_configuration(&self) -> bool {
        match self {
            Self::Sent(told) | Self::Received(told) => told.error == ErrorCode::OTHER_CONFIGURATION_CHANGE,
            Self::Lost | Self::Replaced => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent(notification) => write!(f, "sent: {notification}"),
            Self::Received(notification) => write!(f, "received: {notification}"),
            Self::Lost => f.write_str("the connection was lost"),
            Self::Replaced => f.write_str("the peer made a new connection"),
        }
    }
}

impl Session {
    /// Event 2: ManualStop. The session stays in Idle.
    pub(super) fn manual_stop(&mut self, cease: &Cease) {
        self.stop(cease);
        self.retries = 0;
        self.failures = 0;
        self.attempt = Attempt::Idle { again: None };
    }

    /// Event 8: AutomaticStop. One that is stopped already stays so.
    pub(super) fn automatic_stop(&mut self, cease: &Cease) {
        if self.state() == State::Idle {
            return;
        }
        self.stop(cease);
        self.retries = self.retries.saturating_add(1);
        self.hold_idle();
    }

    /// Ends all connections, and that which is being made.
    fn stop(&mut self, cease: &Cease) {
        let ids: Vec<_> = self.connections.iter().map(|connection| connection.id).collect();
        for id in ids {
            self.discard(id, cease.clone().into());
        }
        if let Attempt::Trying { dial: Some(dial), .. } = self.attempt {
            self.outputs.push(Output::Close(dial));
        }
    }

    /// Says why, and ends.
    pub(super) fn end_with(&mut self, id: ConnectionId, notification: Notification) {
        self.send(id, Message::Notification(notification.clone()));
        self.end(id, Reason::Sent(notification));
    }

    /// Ends a connection by a failure.
    pub(super) fn end(&mut self, id: ConnectionId, reason: Reason) {
        let is_version = matches!(&reason, Reason::Received(told) if told.error == ErrorCode::UNSUPPORTED_VERSION);
        // Event 24 is a failure only where the peer had agreed on the version before.
        let counts = !is_version || self.established().is_some_and(|connection| connection.id == id);
        let is_collision = matches!(&reason, Reason::Received(told) if told.error == ErrorCode::CONNECTION_COLLISION);
        self.report(id, reason);
        self.outputs.push(Output::Close(id));
        if is_collision && self.has_others() {
            return;
        }
        self.retries = self.retries.saturating_add(u32::from(counts));
        self.fall();
    }

    /// Event 18: TcpConnectionFails. In OpenSent another one is waited for, in Idle none is.
    pub(super) fn lost(&mut self, id: ConnectionId) {
        let Some(connection) = self.connection(id) else { return };
        let state = connection.phase.state();
        self.report(id, Reason::Lost);
        self.outputs.push(Output::Close(id));
        if state == State::OpenSent {
            if !self.has_others() {
                self.wait();
            }
            self.watch_dial();
        } else {
            self.retries = self.retries.saturating_add(1);
            self.fall();
        }
    }

    /// To Idle, unless there is another connection, or one is being made.
    fn fall(&mut self) {
        if self.has_others() {
            self.watch_dial();
        } else {
            self.hold_idle();
        }
    }

    fn has_others(&self) -> bool {
        !self.connections.is_empty() || matches!(self.attempt, Attempt::Trying { dial: Some(_), .. })
    }

    /// A connection that is being made has its time, now that no other one stands.
    fn watch_dial(&mut self) {
        if let (Attempt::Trying { dial: Some(dial), retry: None }, true) = (self.attempt, self.connections.is_empty()) {
            self.attempt = Attempt::Trying { dial: Some(dial), retry: self.connect_retry() };
        }
    }

    /// Forgets a connection, and says what that means to those above.
    pub(super) fn report(&mut self, id: ConnectionId, reason: Reason) {
        let Some(at) = self.connections.iter().position(|connection| connection.id == id) else { return };
        let connection = self.connections.swap_remove(at);
        let Phase::Established { negotiated, since } = connection.phase else {
            self.outputs.push(Output::Failed(id, reason));
            return;
        };
        if self.now.saturating_sub(since) >= self.config.idle_hold_most {
            self.failures = 0;
        }
        // A NOTIFICATION ends it for good (RFC 4724, section 4; that of RFC 8538 is not offered).
        let graceful = match reason {
            Reason::Lost | Reason::Replaced if negotiated.keeps_routes() => negotiated.graceful_restart,
            _ => None,
        };
        self.outputs.push(Output::Down { reason, graceful });
    }
}
