//! What a session's outputs mean to the RIB, to the transport and to the log.

use std::time::Duration;

use super::{Event, Output, Speaker};
use crate::rib::{Down, Expired, Limit, PeerId};
use crate::session::{self, ConnectionId, Negotiated, Reason};
use crate::wire::{Cease, ErrorCode, Update};

/// How long a peer that announced too much is left alone: at once, it would announce the same.
const BARRED: Duration = Duration::from_mins(5);

impl Speaker {
    /// Lets a session make a step, and does what follows.
    pub(super) fn drive(&mut self, id: PeerId, input: session::Input<'_>) {
        let restarting = self.is_restarting();
        let Some(neighbour) = self.neighbours.get_mut(&id) else { return };
        if matches!(input, session::Input::Connected(_) | session::Input::Accepted(_)) {
            neighbour.session.offer(neighbour.offer(&self.config, self.kept, restarting));
        }
        let mut excess = None;
        for output in neighbour.session.step(self.now, input) {
            excess = excess.or(self.perform(id, output));
        }
        self.driven.insert(id);
        self.note_state(id);
        if let Some(cease) = excess {
            self.bar(id, cease);
        }
    }

    /// Does what a session wants. Gives a reason to end it, where the peer has announced too much.
    fn perform(&mut self, id: PeerId, output: session::Output) -> Option<Cease> {
        let neighbour = self.neighbours.get_mut(&id)?;
        let connection = |id| neighbour.connection(id);
        match output {
            session::Output::Connect(dial) => {
                let endpoint = Box::new(neighbour.config.endpoint.clone());
                self.outputs.push(Output::Dial(connection(dial), endpoint));
            }
            session::Output::Close(of) => {
                let connection = connection(of);
                let last = self.forget_line(id, of);
                self.outputs.push(Output::Close(connection, last));
            }
            session::Output::Send(of, message) => neighbour.send(of, &message),
            session::Output::Up(of, negotiated) => self.up(id, of, negotiated),
            session::Output::Down { reason, graceful } => {
                neighbour.established = None;
                neighbour.last_error = Some((self.now, reason.clone()));
                self.rib.down(id, if graceful.is_some() { Down::Lost } else { Down::Closed }, self.now);
                self.tell(id, Event::Down { reason, is_graceful: graceful.is_some() });
            }
            session::Output::Failed(_, reason) => {
                // One of two connections had to go: nothing failed.
                if !is_collision(&reason) {
                    neighbour.note_failure(self.now, &reason);
                    self.tell(id, Event::Failed(reason));
                }
            }
            session::Output::Update(update) => return self.learn(id, update),
            session::Output::Refresh(family) => self.rib.refresh(id, family),
        }
        None
    }

    fn up(&mut self, id: PeerId, of: ConnectionId, negotiated: Box<Negotiated>) {
        let Some(neighbour) = self.neighbours.get_mut(&id) else { return };
        neighbour.ups = neighbour.ups.saturating_add(1);
        neighbour.established = Some((of, negotiated.dialect.clone()));
        let agreed = neighbour.agreed(&negotiated);
        self.rib.up(id, agreed, self.now);
        self.tell(id, Event::Up(negotiated));
    }

    /// What a peer's UPDATE says. What it withdraws comes first (RFC 4271, section 4.3).
    fn learn(&mut self, id: PeerId, update: Update) -> Option<Cease> {
        let routes =
            |routes: &[crate::wire::Nlri]| routes.iter().map(|nlri| (nlri.prefix, nlri.path)).collect::<Vec<_>>();
        if !update.malformed.is_empty() {
            self.tell(id, Event::Malformed(update.malformed));
        }
        self.rib.forget(id, &routes(&update.withdrawn));
        let mut limits = Vec::new();
        if let Some(announced) = update.announced {
            for reach in announced.reach {
                limits.extend(self.rib.learn(id, &announced.attributes, reach.next_hop, &routes(&reach.routes)));
            }
        }
        if let Some(family) = update.end_of_rib {
            self.rib.end_of_rib(id, family);
            self.tell(id, Event::EndOfRib(family));
        }
        self.note_limits(id, limits)
    }

    /// Tells of limits. Gives a reason to end the session, where one is exceeded (RFC 4486, section 4).
    pub(super) fn note_limits(&mut self, id: PeerId, limits: Vec<Limit>) -> Option<Cease> {
        let mut excess = None;
        for limit in limits {
            if let Limit::Exceeded { family, maximum: limit } = limit {
                excess = Some(Cease::MaximumPrefixes { family, limit });
            }
            self.tell(id, Event::Limit(limit));
        }
        excess
    }

    /// Ends a session until somebody starts it, and what is kept of an earlier one too.
    pub(super) fn stop(&mut self, id: PeerId, cease: Cease) {
        self.drive(id, session::Input::ManualStop(cease));
        self.rib.give_up(id);
    }

    /// Ends a session with a peer that has announced too much, and does not begin another one for a while.
    pub(super) fn bar(&mut self, id: PeerId, cease: Cease) {
        self.stop(id, cease);
        if let Some(neighbour) = self.neighbours.get_mut(&id) {
            neighbour.barred = self.now.checked_add(BARRED);
        }
    }

    /// Gives it another chance.
    pub(super) fn unbar(&mut self, id: PeerId) {
        if let Some(neighbour) = self.neighbours.get_mut(&id)
            && neighbour.barred.take().is_some()
        {
            self.drive(id, session::Input::ManualStart);
        }
    }

    /// Ends the waits of the RIB whose time has come.
    pub(super) fn advance(&mut self) {
        for expired in self.rib.advance(self.now) {
            match expired {
                Expired::Restart(id) | Expired::Stale(id, _) => self.tell(id, Event::Expired(expired)),
                // Of no peer: that selection begins is told by itself.
                Expired::Deferral(_) => {}
            }
        }
    }

    /// A connection is gone. What waited to be written on it.
    pub(super) fn forget_line(&mut self, id: PeerId, of: ConnectionId) -> Vec<u8> {
        let line = self.neighbours.get_mut(&id).and_then(|neighbour| neighbour.lines.remove(&of));
        line.map(|line| line.waiting).unwrap_or_default()
    }

    fn note_state(&mut self, id: PeerId) {
        let Some(neighbour) = self.neighbours.get_mut(&id) else { return };
        let (from, to) = (neighbour.state, neighbour.session.state());
        if from != to {
            (neighbour.state, neighbour.since) = (to, self.now);
            self.tell(id, Event::State { from, to });
        }
    }

    pub(super) fn tell(&mut self, id: PeerId, event: Event) {
        if let Some(neighbour) = self.neighbours.get(&id) {
            self.outputs.push(Output::Told(neighbour.address(), event));
        }
    }
}

fn is_collision(reason: &Reason) -> bool {
    let (Reason::Sent(notification) | Reason::Received(notification)) = reason else { return false };
    notification.error == ErrorCode::CONNECTION_COLLISION
}
