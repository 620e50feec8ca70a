//! A node's speaker: its sessions, its RIB and its policy as one machine, without I/O and without a clock. It is all that a transport needs.
//!
//! [`Speaker::step`] takes what happened and when, [`Speaker::accept`] a connection that came in, [`Speaker::configure`] another
//! configuration. Each gives what is to be done at once. What can wait is fetched: [`Speaker::write`] makes bytes when a connection
//! takes more, [`Speaker::changes`] routes when the kernel's owner has time for them. So a peer that does not read, and a kernel that is slow,
//! cost no memory but for the prefixes that differ: nothing is queued for them.
//!
//! What it promises: no session comes up before its peer is configured; only sessions that a change concerns are reset, and filters,
//! limits and next hops change without; what is used and what peers are told is, when all has been fetched, a function of what was
//! received and configured; all waits end.
//!
//! Three kinds of waits belong to graceful restart (RFC 4724). A peer's routes outlive its lost connection as long as it asked for, and
//! as its configuration allows. After our own restart ([`Begin::Restarted`]) nothing is selected until the peers have said what they
//! have, or time is up; meanwhile the kernel's routes are to be left alone ([`Speaker::is_deferring`], [`Output::Selected`]). Those that
//! were gone before ([`Input::Absent`]) are not waited for, nor those that restart too or cannot tell when they are done: whoever leaves
//! the kernel's routes to what these are about to say finds in [`Event::Up`] and [`Event::EndOfRib`] for how long. And a peer that sent
//! more than it may is left alone for a while.
//!
//! BFD (`bfd`) runs beside, on its own thread; its changes are inputs. The daemon has the sockets and reads the clock, `fabric` makes
//! kernel state of the routes.

mod config;
mod configure;
mod event;
mod neighbour;
mod perform;
mod report;
mod write;

pub use config::{Config, Endpoint, GracefulRestart, Invalid, Offer, Password, PeerConfig, Place};
pub use event::{Connection, Event, Input, Output, Refused, Route};
pub use report::{Explanation, PeerReport, RouteReport, Told, Used};

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;

use crate::path::{Family, PerFamily};
use crate::random::Random;
use crate::rib::{PeerId, Rib, Selected, Start};
use crate::session::{self, State};
use crate::wire::Cease;
use neighbour::Neighbour;

/// How a speaker begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// With nothing: the kernel has no routes of before.
    Cold,
    /// Where one before it has stopped.
    Restarted {
        /// Whether the kernel's routes of each family were kept all the time: peers are told so by the F bit.
        kept: PerFamily<bool>,
    },
}

/// A node's speaker.
#[derive(Debug)]
pub struct Speaker {
    config: Config,
    rib: Rib,
    kept: PerFamily<bool>,
    neighbours: BTreeMap<PeerId, Neighbour>,
    by_address: BTreeMap<IpAddr, PeerId>,
    /// The number of the next peer.
    next: u32,
    random: Random,
    /// The time of the latest input.
    now: Duration,
    /// The kernel's owner knows that there are changes.
    called: bool,
    /// The families of which nothing is selected yet, as last told.
    deferring: PerFamily<bool>,
    /// Peers whose session has made a step, so that something may wait to be written.
    driven: BTreeSet<PeerId>,
    outputs: Vec<Output>,
}

impl Speaker {
    /// One with this configuration, whose sessions start. All times are since any moment that is always the same. The seed is for jitter.
    #[must_use]
    pub fn new(now: Duration, config: Config, begin: Begin, seed: u64) -> (Self, Vec<Output>) {
        let (start, kept) = match (begin, config.restart) {
            (Begin::Restarted { kept }, Some(restart)) => {
                (Start::Restarting { sessions: now + restart.time, routes: now + restart.deferral }, kept)
            }
            _ => (Start::Cold, PerFamily::default()),
        };
        let rib = Rib::new(config.identity, config.multipath, start);
        let mut speaker = Self {
            deferring: PerFamily::new(|family| rib.is_deferring(family)),
            config: Config { peers: BTreeMap::new(), ..config.clone() },
            rib,
            kept,
            neighbours: BTreeMap::new(),
            by_address: BTreeMap::new(),
            next: 0,
            random: Random::new(seed),
            now,
            called: false,
            driven: BTreeSet::new(),
            outputs: Vec::new(),
        };
        let outputs = speaker.configure(now, config);
        (speaker, outputs)
    }

    /// Takes what happened, and gives what is to be done, in order. Time does not run backwards: an earlier one than before is taken for
    /// that. What is of a peer or a connection that is no longer there is ignored.
    #[must_use]
    pub fn step(&mut self, now: Duration, input: Input<'_>) -> Vec<Output> {
        self.now = self.now.max(now);
        match input {
            Input::Connected { connection, local } => self.connected(connection, local),
            Input::Failed(Connection { peer, id }) => {
                self.forget_line(peer, id);
                self.drive(peer, session::Input::Failed(id));
                // The transport knows that it is gone.
                let is_it = |output: &Output| matches!(output, Output::Close(of, _) if *of == Connection { peer, id });
                self.outputs.retain(|output| !is_it(output));
            }
            Input::Received(Connection { peer, id }, bytes) => self.drive(peer, session::Input::Received(id, bytes)),
            Input::Tick => self.tick(),
            Input::Bfd(address, change) => self.bfd(address, change),
            Input::Originate(prefix, attributes) => self.rib.originate(prefix, &attributes),
            Input::Retract(prefix) => self.rib.retract(prefix),
            Input::Guard(guard) => self.rib.set_guard(guard),
            Input::Reach(reach) => self.rib.set_reach(reach),
            Input::Reset(address, why) => {
                if let Some(id) = self.by_address.get(&address).copied() {
                    self.unbar(id);
                    self.drive(id, session::Input::AutomaticStop(Cease::AdministrativeReset(why)));
                }
            }
            Input::Refresh(address) => self.request_refresh(address),
            Input::Absent(address) => {
                if let Some(id) = self.by_address.get(&address) {
                    self.rib.dispense(*id);
                }
            }
        }
        self.finish()
    }

    /// Takes a connection that came in from `remote` to `local`, and gives its number, by which the outputs may already speak of it.
    ///
    /// # Errors
    /// [`Refused`]: why it is to be closed.
    pub fn accept(
        &mut self,
        now: Duration,
        local: IpAddr,
        remote: IpAddr,
    ) -> Result<(Connection, Vec<Output>), Refused> {
        self.now = self.now.max(now);
        let id = *self.by_address.get(&remote).ok_or(Refused::Stranger(remote))?;
        let neighbour = self.neighbours.get_mut(&id).expect("each address has its peer");
        if let Some(source_address) = neighbour.config.endpoint.source.filter(|source| *source != local) {
            return Err(Refused::OtherAddress { peer: remote, local, source_address });
        }
        if neighbour.session.state() == State::Idle {
            return Err(Refused::Idle(remote));
        }
        let accepted = neighbour.next_accepted();
        neighbour.add_line(accepted, local);
        let connection = neighbour.connection(accepted);
        self.drive(id, session::Input::Accepted(accepted));
        Ok((connection, self.finish()))
    }

    /// When [`Input::Tick`] is due. None: only something that comes changes anything.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        let of_peer =
            |neighbour: &Neighbour| [neighbour.session.deadline(), neighbour.barred].into_iter().flatten().min();
        self.neighbours.values().filter_map(of_peer).chain(self.rib.deadline()).min()
    }

    /// What has changed for the kernel since the last call. What has changed and changed back is not told.
    #[must_use]
    pub fn changes(&mut self) -> Vec<Route> {
        self.called = false;
        self.rib.changes().into_iter().map(|change| route(change.prefix, &change.routes)).collect()
    }

    /// All that the kernel needs now, in the order of prefixes: those with next hops.
    pub fn routes(&self) -> impl Iterator<Item = Route> {
        let all = self.rib.routes().map(|(prefix, used)| route(prefix, &used));
        all.filter(|route| !route.next_hops.is_empty())
    }

    /// Whether nothing of this family is selected yet, after our own restart: what the kernel has of before is to be left alone.
    #[must_use]
    pub fn is_deferring(&self, family: Family) -> bool {
        self.rib.is_deferring(family)
    }

    /// Whether a peer's routes are kept although its session is gone, since it may be restarting.
    #[must_use]
    pub fn awaits_return(&self, peer: IpAddr) -> bool {
        self.by_address.get(&peer).is_some_and(|id| self.rib.awaits_return(*id))
    }

    fn is_restarting(&self) -> bool {
        Family::ALL.into_iter().any(|family| self.rib.is_deferring(family))
    }

    fn connected(&mut self, connection: Connection, local: IpAddr) {
        let Connection { peer, id } = connection;
        if let Some(neighbour) = self.neighbours.get_mut(&peer)
            && neighbour.session.is_making(id)
        {
            neighbour.add_line(id, local);
            self.drive(peer, session::Input::Connected(id));
        }
    }

    fn tick(&mut self) {
        let now = self.now;
        let is_due = |deadline: Option<Duration>| deadline.is_some_and(|due| due <= now);
        let due: Vec<_> = self
            .neighbours
            .values()
            .filter(|neighbour| is_due(neighbour.session.deadline()) || is_due(neighbour.barred))
            .map(|neighbour| (neighbour.id, is_due(neighbour.barred)))
            .collect();
        for (id, is_unbarred) in due {
            if is_unbarred {
                self.unbar(id);
            }
            self.drive(id, session::Input::Tick);
        }
        self.advance();
    }

    /// BFD says something of a peer. Of a failure only an established session minds, and it ends at once.
    fn bfd(&mut self, address: IpAddr, change: crate::bfd::Change) {
        let Some(id) = self.by_address.get(&address).copied() else { return };
        if let Some(neighbour) = self.neighbours.get_mut(&id) {
            neighbour.bfd = Some(change.to);
        }
        if change.is_failure() {
            self.drive(id, session::Input::BfdDown);
        }
    }

    fn request_refresh(&mut self, address: IpAddr) {
        if let Some(id) = self.by_address.get(&address).copied() {
            for family in Family::ALL {
                self.drive(id, session::Input::Refresh(family));
            }
        }
    }

    /// What follows from all that has happened.
    fn finish(&mut self) -> Vec<Output> {
        let mut stirred = self.rib.stirred();
        stirred.append(&mut self.driven);
        for id in stirred {
            if let Some(neighbour) = self.neighbours.get_mut(&id) {
                neighbour.call(self.rib.is_dirty(id), &mut self.outputs);
            }
        }
        for family in Family::ALL {
            if self.deferring[family] && !self.rib.is_deferring(family) {
                self.deferring[family] = false;
                self.outputs.push(Output::Selected(family));
            }
        }
        if self.rib.has_changes() && !self.called {
            self.called = true;
            self.outputs.push(Output::RoutesChanged);
        }
        std::mem::take(&mut self.outputs)
    }
}

fn route(prefix: IpNetwork, used: &[Selected]) -> Route {
    let next_hops: Vec<_> = used.iter().filter_map(|route| route.next_hop).collect();
    Route { prefix, next_hops, stale: used.iter().any(|route| route.stale) }
}

#[cfg(test)]
mod tests;
