//! Bytes for a connection, made when it takes more: messages of the session first, then what the RIB has for the peer.

use std::time::Duration;

use ipnetwork::IpNetwork;

use super::{Connection, Event, Output, Speaker};
use crate::path::PathId;
use crate::rib::{Batch, PeerId};
use crate::session;
use crate::wire::{self, Announced, Dialect, Message, Nlri, Reach, Update, WriteError};

/// No more routes are taken when so many bytes are there: what the kernel takes at once, about.
const ENOUGH: usize = 64 * 1024;
/// Prefixes that are taken at once. More fill messages better; but each may have attributes of its own, up to a whole message.
const SLICE: usize = 512;

impl Speaker {
    /// Appends what is to be written on a connection, 64 KiB or a little more: whole messages. To be called after [`Output::Write`],
    /// each time that the connection has taken what it was given before, until nothing is appended. Gives what else is to be done.
    #[must_use]
    pub fn write(&mut self, now: Duration, connection: Connection, out: &mut Vec<u8>) -> Vec<Output> {
        self.now = self.now.max(now);
        let Connection { peer, id } = connection;
        let Some(neighbour) = self.neighbours.get_mut(&peer) else { return Vec::new() };
        let Some(line) = neighbour.lines.get_mut(&id) else { return Vec::new() };
        let before = out.len();
        out.append(&mut line.waiting);
        let dialect = neighbour.established.as_ref().filter(|(established, _)| *established == id);
        if let Some(dialect) = dialect.map(|(_, dialect)| dialect.clone()) {
            while out.len() - before < ENOUGH && self.rib.is_dirty(peer) {
                for batch in self.rib.drain(peer, SLICE) {
                    self.put(peer, batch, &dialect, out);
                }
            }
        }
        if out.len() > before {
            self.drive(peer, session::Input::Sent(id));
        } else if let Some(line) = self.neighbours.get_mut(&peer).and_then(|neighbour| neighbour.lines.get_mut(&id)) {
            line.called = false;
        }
        self.finish()
    }

    /// Appends a batch. Where it cannot be written, the peer must not go on with what it was told before (RFC 4271, section 9.2).
    fn put(&mut self, id: PeerId, batch: Batch, dialect: &Dialect, out: &mut Vec<u8>) {
        let update = update(batch);
        let Err(error) = wire::encode(&Message::Update(update.clone()), dialect, out) else { return };
        let reach = update.announced.into_iter().flat_map(|announced| announced.reach);
        let withdrawn = reach.flat_map(|reach| reach.routes).collect();
        let instead = Message::Update(Update { withdrawn, ..Update::default() });
        // A family that is not spoken has no terms in the RIB, so that nothing of it comes here.
        let _result: Result<(), WriteError> = wire::encode(&instead, dialect, out);
        self.tell(id, Event::Unwritten(error));
    }
}

fn update(batch: Batch) -> Update {
    let nlri =
        |routes: Vec<(IpNetwork, PathId)>| routes.into_iter().map(|(prefix, path)| Nlri { prefix, path }).collect();
    match batch {
        Batch::Withdraw { routes } => Update { withdrawn: nlri(routes), ..Update::default() },
        Batch::Advertise { attributes, next_hop, routes } => {
            let attributes = (*attributes).clone();
            let reach = vec![Reach { next_hop, routes: nlri(routes) }];
            Update { announced: Some(Announced { attributes, reach }), ..Update::default() }
        }
        Batch::EndOfRib(family) => Update { end_of_rib: Some(family), ..Update::default() },
    }
}
