//! OpenSent: the own OPEN is sent, and the peer's is waited for (RFC 4271, section 8.2.2).

use super::timer::LARGE_HOLD;
use super::{Connection, ConnectionId, Open, Phase, Reason, Session, State, negotiation};
use crate::wire::{Framer, Message};

impl Session {
    /// A connection stands: sends OPEN, and waits for the peer's.
    pub(super) fn open(&mut self, id: ConnectionId) {
        let mut capabilities = self.config.capabilities.clone();
        capabilities.four_octet = Some(self.config.local_as);
        let (system, hold_time, identifier) = (self.config.local_as, self.config.hold_time, self.config.identifier);
        let hold = self.after(LARGE_HOLD);
        self.connections.push(Connection {
            id,
            phase: Phase::OpenSent,
            framer: Framer::default(),
            hold,
            keepalive: None,
            send_hold: None,
            deferred: None,
        });
        self.send(id, Message::Open(Open { system, hold_time, identifier, capabilities }));
    }

    pub(super) fn in_open_sent(&mut self, id: ConnectionId, message: Message) {
        match message {
            // Event 19: BGPOpen.
            Message::Open(open) => self.opened(id, &open),
            // Events 24 and 25: NotifMsgVerErr and NotifMsg.
            Message::Notification(notification) => self.end(id, Reason::Received(notification)),
            Message::Keepalive | Message::Update(_) | Message::Refresh(_) => {
                self.end_with(id, State::OpenSent.unexpected().into());
            }
        }
    }

    fn opened(&mut self, id: ConnectionId, open: &Open) {
        let negotiated = match negotiation::negotiate(&self.config, open) {
            Ok(negotiated) => negotiated,
            Err(notification) => return self.end_with(id, notification),
        };
        if !self.survives_collision(id, &negotiated) {
            return;
        }
        let deferred = self.deferral(id, &negotiated);
        if let Some(connection) = self.connection(id) {
            connection.phase = Phase::OpenConfirm(Box::new(negotiated));
            connection.deferred = deferred;
        }
        self.restart_hold(id);
        if deferred.is_none() {
            self.confirm(id);
        }
    }
}
