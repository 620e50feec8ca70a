//! Sessions that come and go, with the peer's graceful restart and with our own (RFC 4724).
//!
//! Both ways are bounded: a peer's routes outlive its session by what it asked for and what the configuration allows; after our own restart
//! selection waits for the peers, but not for those that cannot tell when they are done, and not for ever.

use std::collections::BTreeSet;
use std::time::Duration;

use super::peer::{Known, Restart};
use super::{Down, Family, Forwarding, IpNetwork, PathId, PeerId, Rib, Session, Source, State, place};
use crate::prefix::family;

/// How the speaker begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With nothing: each route is used as it comes.
    Cold,
    /// With the kernel's routes of before. Nothing is selected or announced until all peers have said what they have.
    Restarting {
        /// Until then peers without a session are waited for.
        sessions: Duration,
        /// Until then the others are (the Selection_Deferral_Timer of RFC 4724, section 4.1).
        routes: Duration,
    },
}

/// A wait that ended by its time, and not by what it waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expired {
    /// The peer did not come back. Its routes are gone.
    Restart(PeerId),
    /// The peer came back, and did not say in time that it has said all of this family. What it has not repeated is gone.
    Stale(PeerId, Family),
    /// After our own restart, somebody was waited for in vain.
    Deferral(Family),
}

/// The wait after our own restart.
#[derive(Debug)]
pub(super) struct Deferral {
    sessions: Option<Duration>,
    routes: Duration,
    families: BTreeSet<Family>,
}

impl Deferral {
    pub fn of(start: Start) -> Option<Self> {
        match start {
            Start::Cold => None,
            Start::Restarting { sessions, routes } => {
                Some(Self { sessions: Some(sessions), routes, families: [Family::Ipv4, Family::Ipv6].into() })
            }
        }
    }

    pub fn holds(&self, family: Family) -> bool {
        self.families.contains(&family)
    }

    /// Whether this peer has something to say that is waited for. Who has the capability ends with an End-of-RIB marker also where it names
    /// no family in it, since it keeps the routes of others but none of its own (RFC 4724, section 3).
    fn awaits(&self, known: &Known, family: Family) -> bool {
        if known.state != State::Up {
            return known.awaited && self.sessions.is_some();
        }
        let restart = known.session.as_ref().and_then(|session| session.restart.as_ref());
        let tells = restart.is_some_and(|restart| !restart.restarting);
        tells && known.terms(family).is_some() && !known.complete.contains(&family)
    }
}

impl Rib {
    /// A session is established. What the peer announced in an earlier one is kept where it says that its forwarding has survived,
    /// until it has said all anew; one that comes back with another identifier or AS is another peer. It is told all that is used.
    pub fn up(&mut self, id: PeerId, session: Session, now: Duration) {
        if self.peers.get(&id).is_some_and(|known| known.state == State::Up) {
            self.down(id, Down::Lost, now);
        }
        let Some(known) = self.peers.get(&id) else { return };
        debug_assert!(known.peer.asn.admits(session.asn), "its OPEN named what is configured");
        let who = |session: &Session| (session.router_id, session.asn);
        let same = known.session.as_ref().is_some_and(|before| who(before) == who(&session));
        let survived = |family: &Family| {
            let restart = session.restart.as_ref();
            let preserved = |restart: &Restart| restart.families.get(family) == Some(&Forwarding::Preserved);
            same && session.families.contains_key(family) && restart.is_some_and(preserved)
        };
        let kept: BTreeSet<_> = [Family::Ipv4, Family::Ipv6].into_iter().filter(survived).collect();
        self.flush(id, |(prefix, _)| !kept.contains(&family(prefix)));
        let known = self.peers.get_mut(&id).expect("it was there above");
        let until = now + known.peer.patience.stale;
        known.stale = kept.into_iter().map(|family| (family, until)).collect();
        known.complete.clear();
        known.out = super::out::Out::default();
        known.out.unfinished = session.families.keys().copied().collect();
        (known.session, known.state) = (Some(session), State::Up);
        self.stirred.insert(id);
        for prefix in self.prefixes(|route| route.rank > 0) {
            self.look_at(prefix, |other| other == id);
        }
        self.end_deferral(None);
    }

    /// A session is gone. Without graceful restart its routes are too.
    pub fn down(&mut self, id: PeerId, how: Down, now: Duration) {
        let Some(known) = self.peers.get_mut(&id).filter(|known| known.state == State::Up) else { return };
        known.out = super::out::Out::default();
        known.complete.clear();
        known.stale.clear();
        let restart = known.session.as_ref().and_then(|session| session.restart.clone());
        let kept: BTreeSet<Family> = match (how, &restart) {
            (Down::Lost, Some(restart)) => restart.families.keys().copied().collect(),
            _ => BTreeSet::new(),
        };
        known.state = match restart {
            Some(restart) if !kept.is_empty() => {
                State::Restarting { until: now + restart.time.min(known.peer.patience.restart) }
            }
            _ => State::Down,
        };
        // What is stale already has been through one restart, and no second one (RFC 4724, section 4.2).
        self.flush(id, |(prefix, stale)| stale || !kept.contains(&family(prefix)));
        for (prefix, path) in self.routes_of(id, |_| true) {
            self.set_stale(prefix, (Source::Peer(id), path));
        }
        self.end_deferral(None);
    }

    /// After our own restart, a peer without a session is not waited for.
    pub fn dispense(&mut self, id: PeerId) {
        if let Some(known) = self.peers.get_mut(&id) {
            known.awaited = false;
            self.end_deferral(None);
        }
    }

    /// A peer whose session is gone is not waited for any more, and what it said goes.
    pub fn give_up(&mut self, id: PeerId) {
        if let Some(known) = self.peers.get_mut(&id).filter(|known| known.state != State::Up) {
            (known.state, known.awaited) = (State::Down, false);
            self.flush(id, |_| true);
            self.end_deferral(None);
        }
    }

    /// The peer has said all that it had to say of a family at the start of the session.
    pub fn end_of_rib(&mut self, id: PeerId, ended: Family) {
        let Some(known) = self.peers.get_mut(&id).filter(|known| known.state == State::Up) else { return };
        known.complete.insert(ended);
        known.stale.remove(&ended);
        self.flush(id, |(prefix, stale)| stale && family(prefix) == ended);
        self.end_deferral(None);
    }

    /// The peer wants to be told all of a family again (RFC 2918).
    pub fn refresh(&mut self, id: PeerId, wanted: Family) {
        if let Some(known) = self.peers.get_mut(&id) {
            known.out.repeat(wanted);
            self.stirred.insert(id);
        }
    }

    /// Whether a peer's routes are kept although its session is gone: it may be restarting.
    #[must_use]
    pub fn awaits_return(&self, id: PeerId) -> bool {
        self.peers.get(&id).is_some_and(|known| matches!(known.state, State::Restarting { .. }))
    }

    /// When [`Rib::advance`] is to be called next, if at all.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        let of_peer = |known: &Known| {
            let restart = match known.state {
                State::Restarting { until } => Some(until),
                _ => None,
            };
            known.stale.values().copied().chain(restart).min()
        };
        let deferral = self.deferral.as_ref().map(|deferral| deferral.sessions.unwrap_or(deferral.routes));
        self.peers.values().filter_map(of_peer).chain(deferral).min()
    }

    /// Ends the waits whose time has come.
    pub fn advance(&mut self, now: Duration) -> Vec<Expired> {
        let mut expired = Vec::new();
        for id in self.peers.keys().copied().collect::<Vec<_>>() {
            let known = self.peers.get_mut(&id).expect("no peer goes meanwhile");
            if matches!(known.state, State::Restarting { until } if until <= now) {
                known.state = State::Down;
                self.flush(id, |_| true);
                expired.push(Expired::Restart(id));
                continue;
            }
            let over: Vec<_> =
                known.stale.iter().filter(|(_, until)| **until <= now).map(|(family, _)| *family).collect();
            for ended in &over {
                known.stale.remove(ended);
                expired.push(Expired::Stale(id, *ended));
            }
            // Only then: it walks over the whole table.
            if !over.is_empty() {
                self.flush(id, |(prefix, stale)| stale && over.contains(&family(prefix)));
            }
        }
        expired.extend(self.end_deferral(Some(now)).into_iter().map(Expired::Deferral));
        expired
    }

    /// Whether nothing of this family is selected yet, after our own restart: the kernel's routes of before are to be left alone.
    #[must_use]
    pub fn is_deferring(&self, family: Family) -> bool {
        self.deferral.as_ref().is_some_and(|deferral| deferral.holds(family))
    }

    /// Selects routes of the families that need not be waited for any more. Returns those where time was up.
    fn end_deferral(&mut self, now: Option<Duration>) -> Vec<Family> {
        let Some(deferral) = &mut self.deferral else { return Vec::new() };
        if deferral.sessions.is_some_and(|until| now.is_some_and(|now| until <= now)) {
            deferral.sessions = None;
        }
        let awaited = |family: &Family| self.peers.values().any(|known| deferral.awaits(known, *family));
        let (waiting, mut done): (Vec<_>, Vec<_>) = deferral.families.iter().copied().partition(awaited);
        let in_vain = if now.is_some_and(|now| deferral.routes <= now) { waiting } else { Vec::new() };
        done.extend(&in_vain);
        deferral.families.retain(|family| !done.contains(family));
        if deferral.families.is_empty() {
            self.deferral = None;
        }
        if !done.is_empty() {
            self.stirred.extend(self.peers.keys());
            let all: Vec<_> = self.table.iter().map(|(prefix, _)| prefix).collect();
            all.into_iter()
                .filter(|prefix| done.contains(&family(*prefix)))
                .for_each(|prefix| self.revise(prefix, |_| ()));
        }
        in_vain
    }

    /// Takes out the peer's routes of which this holds: their prefix, and whether they are stale.
    pub(super) fn flush(&mut self, id: PeerId, which: impl Fn((IpNetwork, bool)) -> bool) {
        for (prefix, path) in self.routes_of(id, which) {
            self.take(prefix, (Source::Peer(id), path));
        }
    }

    fn routes_of(&self, id: PeerId, which: impl Fn((IpNetwork, bool)) -> bool) -> Vec<(IpNetwork, PathId)> {
        let routes = self.table.iter().flat_map(|(prefix, routes)| routes.iter().map(move |route| (prefix, route)));
        routes
            .filter(|(prefix, route)| route.is_of(id) && which((*prefix, route.stale)))
            .map(|(prefix, route)| (prefix, route.path))
            .collect()
    }

    /// Marks a route as one of an earlier session. It is used as before.
    pub(super) fn set_stale(&mut self, prefix: IpNetwork, key: (Source, PathId)) {
        self.revise(prefix, |routes| {
            if let Ok(at) = place(routes, key) {
                routes[at].stale = true;
            }
        });
    }
}
