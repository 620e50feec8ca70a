//! Two connections with one peer: which of them stays (RFC 4271, section 6.8; RFC 6286).
//!
//! Both ends decide by the same identifiers, but the RFC has an established connection stay whatever they say. Where both have dialled
//! at once, one end may have established the connection that is to lose when the other closes it for the one that is to win, and
//! then each closes what the other keeps. So no KEEPALIVE confirms a connection that loses as long as the winner's OPEN is awaited, and
//! neither end can establish it; and once one is confirmed, no OPEN goes out on another.

use std::time::Duration;

use super::{Attempt, ConnectionId, Deferred, Negotiated, Output, Reason, Session, State};
use crate::wire::{ErrorCode, Message, Notification};

/// How long the OPEN of the connection that is to win is awaited. A peer that has sent one on the other is there to send this one too.
const AWAITED: Duration = Duration::from_secs(5);

impl Session {
    /// Where this connection, whose OPEN has come, would lose against another whose OPEN has not: what it waits for.
    pub(super) fn deferral(&self, id: ConnectionId, negotiated: &Negotiated) -> Option<Deferred> {
        let yields = !self.stays(id, negotiated) && self.awaited(id).is_some();
        // The peer waits for a KEEPALIVE meanwhile, and no longer than the hold time.
        let time = if negotiated.hold_time.is_zero() { AWAITED } else { AWAITED.min(negotiated.hold_time / 3) };
        yields.then(|| Deferred { until: self.after(time), is_confirmed: false })
    }

    /// The other connection, while its OPEN is awaited.
    fn awaited(&self, id: ConnectionId) -> Option<ConnectionId> {
        let other = self.connections.iter().find(|other| other.id != id && other.phase.state() == State::OpenSent);
        other.map(|other| other.id)
    }

    fn deferred(&self) -> Option<(ConnectionId, Deferred)> {
        self.connections.iter().find_map(|connection| Some((connection.id, connection.deferred?)))
    }

    /// Gives up the connection whose OPEN was awaited too long.
    pub(super) fn end_deferral(&mut self) {
        let Some((id, deferred)) = self.deferred() else { return };
        if deferred.until.is_some_and(|until| until <= self.now)
            && let Some(other) = self.awaited(id)
        {
            self.dump(other);
        }
    }

    /// Confirms a connection that has waited, when the other is gone. (Where the other's OPEN has come, it is gone itself.)
    pub(super) fn resume_deferred(&mut self) {
        let Some((id, deferred)) = self.deferred() else { return };
        if self.awaited(id).is_none() {
            self.confirm(id);
            if deferred.is_confirmed {
                self.establish(id);
            }
        }
    }

    /// Whether a connection has been confirmed: another one comes too late.
    pub(super) fn is_decided(&self) -> bool {
        self.connections.iter().any(|connection| connection.phase.state() >= State::OpenConfirm)
    }

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
