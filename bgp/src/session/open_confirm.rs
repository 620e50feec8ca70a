//! OpenConfirm: both OPENs are good, and the peer has to say so (RFC 4271, section 8.2.2).

use super::{ConnectionId, Message, Phase, Reason, Session, State};

impl Session {
    pub(super) fn in_open_confirm(&mut self, id: ConnectionId, message: Message) {
        match message {
            // Event 26: KeepAliveMsg.
            Message::Keepalive => match self.connection(id).and_then(|connection| connection.deferred.as_mut()) {
                Some(deferred) => {
                    deferred.is_confirmed = true;
                    self.restart_hold(id);
                }
                None => self.establish(id),
            },
            // Events 24 and 25: NotifMsgVerErr and NotifMsg.
            Message::Notification(notification) => self.end(id, Reason::Received(notification)),
            // A second OPEN collides with nothing but the first one.
            Message::Open(_) | Message::Update(_) | Message::Refresh(_) => {
                self.end_with(id, State::OpenConfirm.unexpected().into());
            }
        }
    }

    /// Says that the peer's OPEN is good.
    pub(super) fn confirm(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connection(id) {
            connection.deferred = None;
        }
        self.send(id, Message::Keepalive);
        self.restart_keepalive(id);
    }

    pub(super) fn establish(&mut self, id: ConnectionId) {
        self.give_up_others(id);
        let since = self.now;
        let Some(connection) = self.connection(id) else { return };
        let Phase::OpenConfirm(negotiated) = connection.phase.clone() else { return };
        connection.phase = Phase::Established { negotiated: negotiated.clone(), since };
        self.restart_hold(id);
        self.outputs.push(super::Output::Up(id, negotiated));
    }
}
