//! Two connections with one peer: which of them stays (RFC 4271, section 6.8; RFC 6286).

use super::{Attempt, ConnectionId, Negotiated, Output, Reason, Session, State};
use crate::wire::{ErrorCode, Message, Notification};

impl Session {
    /// Decides when the OPEN of a connection has come, against the others. Of those whose OPEN has not, nothing is known yet.
    /// Whether this one stays.
    pub(super) fn survives_collision(&mut self, id: ConnectionId, negotiated: &Negotiated) -> bool {
        let stays = self.stays(id, negotiated);
        let others: Vec<_> = self
            .connections
            .iter()
            .filter(|other| other.id != id)
            .map(|other| (other.id, other.phase.state()))
            .collect();
        for (other, state) in others {
            let loser = match state {
                State::Established => id,
                State::OpenConfirm if stays => other,
                State::OpenConfirm => id,
                _ => continue,
            };
            self.dump(loser);
            if loser == id {
                return false;
            }
        }
        true
    }

    /// The connection that the speaker with the higher identifier made stays; with equal ones that of the higher system.
    fn stays(&self, id: ConnectionId, negotiated: &Negotiated) -> bool {
        let local = (self.config.identifier, self.config.local_as);
        let local_is_higher = local > (negotiated.peer_identifier, negotiated.peer_as);
        matches!(id, ConnectionId::Dialled(_)) == local_is_higher
    }

    /// Event 23: OpenCollisionDump.
    fn dump(&mut self, id: ConnectionId) {
        self.discard(id, ErrorCode::CONNECTION_COLLISION.into());
    }

    /// One is about to be established: the others go, that which is being made too.
    pub(super) fn give_up_others(&mut self, id: ConnectionId) {
        let others: Vec<_> =
            self.connections.iter().map(|connection| connection.id).filter(|other| *other != id).collect();
        others.into_iter().for_each(|other| self.dump(other));
        if let Attempt::Trying { dial, .. } = self.attempt {
            self.outputs.extend(dial.map(Output::Close));
            self.attempt = Attempt::Trying { dial: None, retry: None };
        }
    }

    /// Ends a connection that is not needed: no failure, and the session goes on.
    pub(super) fn discard(&mut self, id: ConnectionId, notification: Notification) {
        self.send(id, Message::Notification(notification.clone()));
        self.report(id, Reason::Sent(notification));
        self.outputs.push(Output::Close(id));
    }
}
