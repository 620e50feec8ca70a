//! From one configuration to another: peers come, go and change, and only sessions that a change concerns are reset.
//!
//! Filters, limits, next hops, the patience with restarts and the time between attempts change while a session stands. What the import makes of routes is judged
//! again on what the peer once sent, all of which is kept; so nothing needs to be asked for again. What the export makes of them is
//! told anew, where it differs.

use std::net::IpAddr;
use std::time::Duration;

use super::{Config, Neighbour, Output, PeerConfig, Speaker};
use crate::rib::PeerId;
use crate::session;
use crate::wire::Cease;

impl Speaker {
    /// Has the peers of this configuration and no others.
    #[must_use]
    pub fn configure(&mut self, now: Duration, config: Config) -> Vec<Output> {
        self.now = self.now.max(now);
        let is_somebody_else = config.identity != self.config.identity;
        for address in self.by_address.keys().copied().collect::<Vec<_>>() {
            let cease = match config.peers.get(&address) {
                None => Cease::PeerDeconfigured,
                Some(_) if is_somebody_else => Cease::OtherConfigurationChange,
                Some(_) => continue,
            };
            let _former = self.remove(address, cease);
        }
        if is_somebody_else {
            self.rib.set_identity(config.identity);
        }
        self.rib.set_multipath(config.multipath);
        let peers = config.peers.clone();
        self.config = config;
        // All are there before the first session begins, since selection after a restart waits for those that are known.
        let mut new = Vec::new();
        for (address, peer) in peers {
            match self.by_address.get(&address).copied() {
                None => new.push(self.add(peer)),
                Some(id) if self.neighbours[&id].config.needs_new_session(&peer) => {
                    let former = self.remove(address, Cease::OtherConfigurationChange);
                    let id = self.add(peer);
                    self.inherit(id, former);
                    new.push(id);
                }
                Some(id) => self.change(id, peer),
            }
        }
        for id in new {
            self.start(id);
        }
        self.advance();
        self.finish()
    }

    /// Numbers are not used again: whatever is of a peer that is gone is nobody's.
    fn add(&mut self, config: PeerConfig) -> PeerId {
        let id = PeerId(self.next);
        self.next = self.next.checked_add(1).expect("a peer a second takes more than a century");
        let address = config.peer.address;
        let _no_routes_yet = self.rib.configure(id, config.peer.clone());
        let seed = self.random.draw();
        self.neighbours.insert(id, Neighbour::new(id, config, &self.config, seed, self.now));
        self.by_address.insert(address, id);
        id
    }

    fn remove(&mut self, address: IpAddr, cease: Cease) -> Option<Neighbour> {
        let id = self.by_address.get(&address).copied()?;
        self.drive(id, session::Input::ManualStop(cease));
        self.rib.remove(id);
        self.by_address.remove(&address);
        self.neighbours.remove(&id)
    }

    /// An operator sees one peer where it had to be made anew.
    fn inherit(&mut self, id: PeerId, former: Option<Neighbour>) {
        if let (Some(neighbour), Some(former)) = (self.neighbours.get_mut(&id), former) {
            neighbour.last_error = former.last_error;
            neighbour.ups = former.ups;
            neighbour.bfd = former.bfd;
        }
    }

    fn start(&mut self, id: PeerId) {
        if self.neighbours.get(&id).is_some_and(|neighbour| neighbour.config.shutdown.is_none()) {
            self.drive(id, session::Input::ManualStart);
        }
    }

    /// Another configuration by which the session can go on.
    fn change(&mut self, id: PeerId, config: PeerConfig) {
        let Some(neighbour) = self.neighbours.get_mut(&id) else { return };
        let former = std::mem::replace(&mut neighbour.config, config.clone());
        let limits = self.rib.configure(id, config.peer.clone());
        let (own, links) = (neighbour.own(), config.place.links);
        if former.place != neighbour.config.place {
            self.rib.relocate(id, own, links);
        }
        if former.connect_retry != config.connect_retry
            && let Some(neighbour) = self.neighbours.get_mut(&id)
        {
            neighbour.session.set_connect_retry(config.connect_retry);
        }
        if former.peer.maximum != config.peer.maximum {
            self.unbar(id);
        }
        match (former.shutdown, config.shutdown) {
            (None, Some(why)) => {
                self.stop(id, Cease::AdministrativeShutdown(why));
                self.neighbours.entry(id).and_modify(|neighbour| neighbour.barred = None);
            }
            (Some(_), None) => self.start(id),
            _ => {}
        }
        if let Some(cease) = self.note_limits(id, limits) {
            self.bar(id, cease);
        }
    }
}
