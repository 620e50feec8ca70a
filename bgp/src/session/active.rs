//! Active: the session waits for the peer's connection, or to try its own again (RFC 4271, section 8.2.2).
//!
//! A connection of the peer is taken in any state but Idle.

use super::{Attempt, ConnectionId, Output, Reason, Session, State};
use crate::wire::{ErrorCode, Message};

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
        match self.established().map(|connection| (connection.id, connection.phase.negotiated())) {
            // The peer has restarted before its old connection was seen to be gone (RFC 4724, section 5).
            Some((old, Some(negotiated))) if negotiated.keeps_routes() => self.replace(old),
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

    /// Ends the established connection for a new one.
    fn replace(&mut self, old: ConnectionId) {
        debug_assert_eq!(self.state(), State::Established, "only an established one is replaced");
        self.report(old, Reason::Replaced);
        self.outputs.push(Output::Close(old));
    }
}
