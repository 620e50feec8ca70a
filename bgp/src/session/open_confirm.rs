//! OpenConfirm: both OPENs are good, and the peer has to say so (RFC 4271, section 8.2.2).

use super::{ConnectionId, Message, Phase, Reason, Session, State};

impl Session {
    pub(super) fn in_open_confirm(&mut self, id: ConnectionId, message: Message) {
        match message {
            // Event 26: KeepAliveMsg.
            Message::Keepalive => self.establish(id),
            // Events 24 and 25: NotifMsgVerErr and NotifMsg.
            Message::Notification(notification) => self.end(id, Reason::Received(notification)),
            // A second OPEN collides with nothing but the first one.
            Message::Open(_) | Message::Update(_) | Message::Refresh(_) => {
                self.end_with(id, State::OpenConfirm.unexpected().into());
            }
        }
    }

    fn establish(&mut self, id: ConnectionId) {
        self.give_up_others(id);
        let since = self.now;
        let Some(connection) = self.connection(id) else { return };
        let Phase::OpenConfirm(negotiated) = connection.phase.clone() else { return };
        connection.phase = Phase::Established { negotiated: negotiated.clone(), since };
        self.restart_hold(id);
        self.outputs.push(super::Output::Up(id, negotiated));
    }
}
