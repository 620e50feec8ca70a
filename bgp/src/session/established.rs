//! Established: routes are exchanged (RFC 4271, section 8.2.2).

use super::{Cease, ConnectionId, Message, Negotiated, Output, Reason, Session, State};
use crate::path::Family;

impl Session {
    pub(super) fn in_established(&mut self, id: ConnectionId, message: Message) {
        self.restart_hold(id);
        match message {
            // Event 26: KeepAliveMsg.
            Message::Keepalive => {}
            // Event 27: UpdateMsg.
            Message::Update(update) => self.outputs.push(Output::Update(update)),
            // Of a family that was not offered it is ignored (RFC 2918, section 4).
            Message::Refresh(family) => {
                let spoken = |family| self.negotiated().is_some_and(|negotiated| negotiated.dialect.families[family]);
                let wanted = family.filter(|family| spoken(*family));
                self.outputs.extend(wanted.map(Output::Refresh));
            }
            // Events 24 and 25: NotifMsgVerErr and NotifMsg.
            Message::Notification(notification) => self.end(id, Reason::Received(notification)),
            Message::Open(_) => self.end_with(id, State::Established.unexpected().into()),
        }
    }

    /// Asks for the peer's routes of a family again (RFC 2918, section 4).
    pub(super) fn request_refresh(&mut self, family: Family) {
        let Some(connection) = self.established() else { return };
        let can = |agreed: &Negotiated| agreed.route_refresh && agreed.dialect.families[family];
        if connection.phase.negotiated().is_some_and(can) {
            self.send(connection.id, Message::Refresh(Some(family)));
        }
    }

    /// The peer is gone: its routes are not kept, since packets to them are lost (RFC 5882, section 4.3).
    pub(super) fn bfd_down(&mut self) {
        if let Some(id) = self.established().map(|connection| connection.id) {
            self.end_with(id, Cease::BfdDown.into());
        }
    }
}
