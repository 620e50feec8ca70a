//! Active: the session waits for the peer's connection, or to try its own again (RFC 4271, section 8.2.2).
//!
//! A connection of the peer is taken in any state but Idle.

use std::time::Duration;

use super::{Attempt, ConnectionId, Output, Phase, Reason, Session, State};
use crate::wire::{ErrorCode, Message};

/// So long after the session came up a connection may be heard of that the peer had dialled before, and has closed since: what is on its
/// way, and what waits to be accepted.
const LATE: Duration = Duration::from_secs(5);

impl Session {
    /// Event 17: TcpConnectionConfirmed.
    pub(super) fn accepted(&mut self, id: ConnectionId) {
        if self.connection(id).is_some() {
            return;
        }
        let Attempt::Trying { dial, .. } = self.attempt else {
            self.outputs.push(Output::Close(id));
            return;
        };
        match self.established().map(|connection| (connection.id, &connection.phase)) {
            // The peer has restarted before its old connection was seen to be gone (RFC 4724, section 5).
            Some((old, phase)) if self.may_be_restart(phase) => self.replace(old),
            Some(_) => {
                self.send(id, Message::Notification(ErrorCode::CONNECTION_COLLISION.into()));
                self.outputs.push(Output::Close(id));
                return;
            }
            None => {
                // The peer has one at a time: the older is one that it has lost.
                let is_older = |other: &ConnectionId| matches!(other, ConnectionId::Accepted(_));
                if let Some(old) = self.connections.iter().map(|connection| connection.id).find(is_older) {
                    self.discard(old, ErrorCode::CONNECTION_COLLISION.into());
                }
            }
        }
        self.attempt = Attempt::Trying { dial, retry: None };
        self.open(id);
    }

    /// Whether a new connection can mean that the peer has restarted. Right after the session came up it means that both have dialled: the
    /// peer has closed this one meanwhile, and that is only still to be read.
    fn may_be_restart(&self, phase: &Phase) -> bool {
        let Phase::Established { negotiated, since } = phase else { return false };
        negotiated.keeps_routes() && self.now.saturating_sub(*since) >= LATE
    }

    /// Ends the established connection for a new one.
    fn replace(&mut self, old: ConnectionId) {
        debug_assert_eq!(self.state(), State::Established, "only an established one is replaced");
        self.report(old, Reason::Replaced);
        self.outputs.push(Output::Close(old));
    }
}
