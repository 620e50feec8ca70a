//! Connect: a connection is being made (RFC 4271, section 8.2.2).

use super::{Attempt, ConnectionId, Output, Session};

impl Session {
    /// Initiates a connection, and starts ConnectRetryTimer.
    pub(super) fn dial(&mut self) {
        let id = ConnectionId::Dialled(self.dialled);
        self.dialled = self.dialled.wrapping_add(1);
        self.attempt = Attempt::Trying { dial: Some(id), retry: self.connect_retry() };
        self.outputs.push(Output::Connect(id));
    }

    /// Event 16: Tcp_CR_Acked. One that has been given up meanwhile is closed already, and
    /// one that is not needed any more says nothing.
    pub(super) fn connected(&mut self, id: ConnectionId) {
        match self.attempt {
            Attempt::Trying { dial: Some(dial), .. } if dial == id => {
                self.attempt = Attempt::Trying { dial: None, retry: None };
                if self.is_decided() {
                    self.outputs.push(Output::Close(id));
                } else {
                    self.open(id);
                }
            }
            _ => {}
        }
    }

    /// Event 18: TcpConnectionFails, of one that is being made or of one that stands.
    pub(super) fn failed(&mut self, id: ConnectionId) {
        match self.attempt {
            Attempt::Trying { dial: Some(dial), .. } if dial == id => self.wait(),
            _ => self.lost(id),
        }
    }

    /// To Active, with ConnectRetryTimer running. Not where a connection stands: it is not needed there.
    pub(super) fn wait(&mut self) {
        let retry = if self.connections.is_empty() { self.connect_retry() } else { None };
        self.attempt = Attempt::Trying { dial: None, retry };
    }

    /// Event 9: ConnectRetryTimer_Expires, here or in Active.
    pub(super) fn connect_retry_expires(&mut self, dial: Option<ConnectionId>) {
        self.outputs.extend(dial.map(Output::Close));
        self.dial();
    }
}
