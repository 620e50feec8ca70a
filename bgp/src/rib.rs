//! What was learned, what is used of it, and what is announced (RFC 4271, sections 3.2 and 9).
//!
//! A [`Rib`] holds the adjacencies of all peers and the local RIB in one table by prefix. The session's owner feeds it what peers send
//! ([`Rib::learn`], [`Rib::forget`]) and sessions that come and go ([`Rib::up`], [`Rib::down`]), and takes out of it what to send
//! ([`Rib::drain`]); the kernel's owner takes what has changed ([`Rib::changes`]). Nothing here reads a clock or does I/O: times are
//! durations since any moment that the caller keeps to.
//!
//! What it promises: the order in which routes arrive does not matter. What is used is a function of what was received, the
//! configuration and the reach of next hops; what a peer was told, once drained, is a function of what is used. A change of one
//! route costs as much as there are routes to its prefix and peers, not more in a larger table. Why a route is used or not can be
//! asked ([`Rib::explain`]).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use crate::path::{Asn, Attributes, Family, NextHop, PathId};
use crate::policy::Guard;
use crate::prefix::{PrefixMap, family, masked};

mod decision;
mod export;
mod import;
mod intern;
mod out;
mod peer;
mod reach;
mod report;
mod restart;

pub use decision::{Across, DEFAULT_LOCAL_PREF, Multipath, Step};
pub use export::Withheld;
pub use import::Refused;
pub use out::Batch;
pub use peer::{
    Down, Forwarding, Hops, Kind, Maximum, NextHopRule, Own, Paths, Patience, Peer, PeerId, Restart, Session, Source,
    Terms,
};
pub use reach::Reach;
pub use report::{Change, Explained, Selected, Summary, Verdict};
pub use restart::{Expired, Start};

use decision::{Contender, Learned, Outcome, decide};
use import::{Candidate, Import};
use peer::{Known, State};

/// Who we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Our AS.
    pub asn: Asn,
    /// Our BGP identifier.
    pub router_id: Ipv4Addr,
    /// Our cluster as a reflector; the BGP identifier where none is given (RFC 4456, section 7).
    pub cluster: Option<Ipv4Addr>,
}

impl Identity {
    fn cluster(&self) -> Ipv4Addr {
        self.cluster.unwrap_or(self.router_id)
    }
}

/// A peer's routes come near to its maximum, or beyond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The share at which to warn is reached, for the first time since there were fewer.
    Near {
        /// Of which routes.
        family: Family,
        /// How many there are.
        routes: u32,
        /// How many there may be.
        maximum: u32,
    },
    /// There are more than may be. Those beyond are dropped: the session is to be ended by Cease, subcode 1 (RFC 4486).
    Exceeded {
        /// Of which routes.
        family: Family,
        /// How many there may be.
        maximum: u32,
    },
}

/// The routing information bases of a speaker.
#[derive(Debug)]
pub struct Rib {
    identity: Identity,
    multipath: Multipath,
    guard: Guard,
    reach: Reach,
    peers: BTreeMap<PeerId, Known>,
    /// The routes to each prefix, by source and path identifier.
    table: PrefixMap<Vec<Candidate>>,
    interned: intern::Interned,
    /// What was used before the first change that has not been reported.
    changed: BTreeMap<IpNetwork, Vec<Selected>>,
    deferral: Option<restart::Deferral>,
    /// Peers for which [`Rib::drain`] may have got something since that was last asked.
    stirred: BTreeSet<PeerId>,
}

impl Rib {
    /// An empty one. After a graceful restart, put the peers in before sessions come up: it waits for those it knows.
    #[must_use]
    pub fn new(identity: Identity, multipath: Multipath, start: Start) -> Self {
        Self {
            identity,
            multipath,
            guard: Guard::default(),
            reach: Reach::default(),
            peers: BTreeMap::new(),
            table: PrefixMap::default(),
            interned: intern::Interned::default(),
            changed: BTreeMap::new(),
            deferral: restart::Deferral::of(start),
            stirred: BTreeSet::new(),
        }
    }

    /// Puts a peer in, or changes what the configuration says of it: its routes are judged again, and it is told what differs. Where its
    /// session must be another one (kind, AS, address), end that first.
    pub fn configure(&mut self, id: PeerId, peer: Peer) -> Vec<Limit> {
        let Some(known) = self.peers.get_mut(&id) else {
            self.peers.insert(id, Known::new(peer));
            return Vec::new();
        };
        let before = std::mem::replace(&mut known.peer, peer);
        if before == known.peer {
            return Vec::new();
        }
        // What others are told of its routes depends on what it is to us.
        let others = before.kind != known.peer.kind;
        let over = |(family, counts): (&Family, &peer::Counts)| {
            let maximum = known.peer.maximum.get(family)?.routes();
            (counts.received > maximum).then_some(Limit::Exceeded { family: *family, maximum })
        };
        let limits = known.counts.iter().filter_map(over).collect();
        if others {
            for prefix in self.prefixes(|candidate| candidate.is_of(id)) {
                self.look_at(prefix, |_| true);
            }
        }
        self.reconsider(id);
        limits
    }

    /// Judges a peer's routes again, and what it is told: what it was told is used, or is to be looked at already.
    fn reconsider(&mut self, id: PeerId) {
        for prefix in self.prefixes(|candidate| candidate.is_of(id)) {
            self.judge_again(prefix);
        }
        for prefix in self.prefixes(|candidate| candidate.rank > 0) {
            self.look_at(prefix, |other| other == id);
        }
    }

    /// Takes a peer out, and all that is of it.
    pub fn remove(&mut self, id: PeerId) {
        self.flush(id, |_| true);
        self.peers.remove(&id);
    }

    /// Another identity. Sessions by the former one must have ended, and their peers be taken out: everything that they said was
    /// said to somebody else.
    pub fn set_identity(&mut self, identity: Identity) {
        debug_assert!(self.peers.is_empty(), "the sessions of another identity have ended");
        self.identity = identity;
    }

    /// Changes how many equal routes are used. Decides everything again.
    pub fn set_multipath(&mut self, multipath: Multipath) {
        if multipath != self.multipath {
            self.multipath = multipath;
            self.prefixes(|_| true).into_iter().for_each(|prefix| self.revise(prefix, |_| ()));
        }
    }

    /// Changes our end of a peer's session: its routes are judged again, and it is told what differs.
    pub fn relocate(&mut self, id: PeerId, own: Own, links: Vec<IpNetwork>) {
        let Some(session) = self.peers.get_mut(&id).and_then(|known| known.session.as_mut()) else { return };
        if (session.own, &session.links) != (own, &links) {
            (session.own, session.links) = (own, links);
            self.reconsider(id);
        }
    }

    /// Changes what no peer may announce. Only routes that this can concern are judged again.
    pub fn set_guard(&mut self, guard: Guard) {
        let differing = guard.differing(&self.guard);
        self.guard = guard;
        let mut concerned = BTreeSet::new();
        for prefix in differing {
            concerned.extend(self.table.inside(prefix).map(|(inner, _)| inner));
            concerned.extend(self.table.covering(prefix).map(|(outer, _)| outer));
        }
        concerned.into_iter().for_each(|prefix| self.judge_again(prefix));
    }

    /// Changes which next hops are reached, and how. Decides again where that makes a difference.
    pub fn set_reach(&mut self, reach: Reach) {
        let before = std::mem::replace(&mut self.reach, reach);
        let mut known = BTreeMap::new();
        let mut differs = |next_hop: NextHop| {
            let address = next_hop.address;
            *known.entry(address).or_insert_with(|| before.metric(address) != self.reach.metric(address))
        };
        let concerned: Vec<_> = self
            .table
            .iter()
            .filter(|(_, routes)| routes.iter().filter_map(|route| route.next_hop).any(&mut differs))
            .map(|(prefix, _)| prefix)
            .collect();
        concerned.into_iter().for_each(|prefix| self.revise(prefix, |_| ()));
    }

    /// Originates a route, or changes it: an aggregate of the own blocks, or whatever else is to be announced.
    pub fn originate(&mut self, prefix: IpNetwork, attributes: &Attributes) {
        let attributes = self.interned.intern(Cow::Borrowed(attributes));
        let accepted = Ok(Arc::clone(&attributes));
        self.put(masked(prefix), (Source::Local, PathId(0)), attributes, None, accepted);
    }

    /// No longer originates a route.
    pub fn retract(&mut self, prefix: IpNetwork) {
        self.take(masked(prefix), (Source::Local, PathId(0)));
    }

    /// Takes in what a peer announces; each route replaces the peer's former one (RFC 4271, section 3.1). Without a session, and of a
    /// family that it has not agreed on, nothing is taken.
    pub fn learn(
        &mut self,
        id: PeerId,
        attributes: &Attributes,
        next_hop: NextHop,
        routes: &[(IpNetwork, PathId)],
    ) -> Vec<Limit> {
        let received = self.interned.intern(Cow::Borrowed(attributes));
        let mut limits = Vec::new();
        for (prefix, path) in routes {
            let (prefix, family) = (masked(*prefix), family(*prefix));
            let Some(known) = self.peers.get_mut(&id) else { break };
            let Some(terms) = known.terms(family) else { continue };
            let path = if terms.receive == Paths::Several { *path } else { PathId(0) };
            let key = (Source::Peer(id), path);
            let there = self.table.get(prefix).is_some_and(|routes| place(routes, key).is_ok());
            if !there && let Some(limit) = known.admit(family) {
                limits.push(limit);
                if matches!(limit, Limit::Exceeded { .. }) {
                    break;
                }
            }
            let accepted = self.judge(id, prefix, &received, next_hop);
            self.put(prefix, key, Arc::clone(&received), Some(next_hop), accepted);
        }
        limits
    }

    /// Takes out what a peer withdraws.
    pub fn forget(&mut self, id: PeerId, routes: &[(IpNetwork, PathId)]) {
        for (prefix, path) in routes {
            let Some(terms) = self.peers.get(&id).and_then(|known| known.terms(family(*prefix))) else { continue };
            let path = if terms.receive == Paths::Several { *path } else { PathId(0) };
            self.take(masked(*prefix), (Source::Peer(id), path));
        }
    }

    /// A route of a peer, as the import sees it now.
    fn judge(
        &mut self,
        id: PeerId,
        prefix: IpNetwork,
        received: &Arc<Attributes>,
        next_hop: NextHop,
    ) -> Result<Arc<Attributes>, Refused> {
        let known = self.peers.get(&id).expect("routes are of known peers");
        let session = known.session.as_ref().expect("a peer's session is kept as long as its routes");
        let import = Import { identity: &self.identity, guard: &self.guard, peer: &known.peer, session };
        Ok(match import.judge(prefix, received, next_hop)? {
            Cow::Borrowed(_) => Arc::clone(received),
            Cow::Owned(changed) => self.interned.intern(Cow::Owned(changed)),
        })
    }

    /// Judges all routes to a prefix by what now holds.
    fn judge_again(&mut self, prefix: IpNetwork) {
        let routes = self.table.get(prefix).map_or(&[][..], Vec::as_slice);
        let received: Vec<_> = routes
            .iter()
            .filter_map(|route| {
                Some((route.source, route.path, Arc::clone(&route.received), route.next_hop?, route.stale))
            })
            .collect();
        for (source, path, received, next_hop, stale) in received {
            let Source::Peer(id) = source else { continue };
            let accepted = self.judge(id, prefix, &received, next_hop);
            self.put(prefix, (source, path), received, Some(next_hop), accepted);
            if stale {
                self.set_stale(prefix, (source, path));
            }
        }
    }

    /// Puts a route in the place of the former one of the same key.
    fn put(
        &mut self,
        prefix: IpNetwork,
        key: (Source, PathId),
        received: Arc<Attributes>,
        next_hop: Option<NextHop>,
        accepted: Result<Arc<Attributes>, Refused>,
    ) {
        let now = accepted.is_ok();
        let before = self.revise(prefix, |routes| match place(routes, key) {
            Ok(at) => {
                let route = &mut routes[at];
                let before = route.accepted.is_ok();
                (route.received, route.next_hop, route.accepted, route.stale) = (received, next_hop, accepted, false);
                Some(before)
            }
            Err(at) => {
                let free = |id: &u32| routes.iter().all(|route| route.id != *id);
                let id = (1..).find(free).expect("there are fewer routes than numbers");
                let (source, path) = key;
                let new = Candidate { source, path, id, received, next_hop, accepted, stale: false, rank: 0 };
                // Most prefixes have one route.
                routes.reserve_exact(1);
                routes.insert(at, new);
                None
            }
        });
        self.count(prefix, key.0, before, Some(now));
        self.interned.release();
    }

    /// Takes a route out.
    fn take(&mut self, prefix: IpNetwork, key: (Source, PathId)) {
        let gone = |routes: &mut Vec<Candidate>| place(routes, key).ok().map(|at| routes.remove(at).accepted.is_ok());
        let before = self.revise(prefix, gone);
        self.count(prefix, key.0, before, None);
        self.interned.release();
    }

    /// Keeps a peer's counts, where a route was accepted or not before, and now.
    fn count(&mut self, prefix: IpNetwork, source: Source, before: Option<bool>, now: Option<bool>) {
        let Source::Peer(id) = source else { return };
        let Some(known) = self.peers.get_mut(&id) else { return };
        known.recount(family(prefix), before, now);
    }

    /// Changes the routes to a prefix, and decides again. All changes of the table come through here.
    fn revise<T>(&mut self, prefix: IpNetwork, change: impl FnOnce(&mut Vec<Candidate>) -> T) -> T {
        if self.table.get(prefix).is_none() {
            self.table.insert(prefix, Vec::new());
        }
        let routes = self.table.get_mut(prefix).expect("it has just been put there");
        let before = report::selected(routes);
        let result = change(routes);
        if self.deferral.as_ref().is_none_or(|deferral| !deferral.holds(family(prefix))) {
            rank(routes, &self.peers, &self.reach, self.multipath);
        }
        let after = report::selected(routes);
        if routes.is_empty() {
            self.table.remove(prefix);
        }
        if before != after {
            // Peers are not told that a route is stale.
            let told = |used: &Selected| (used.source, used.path, Arc::clone(&used.attributes), used.next_hop);
            if !before.iter().map(told).eq(after.iter().map(told)) {
                self.look_at(prefix, |_| true);
            }
            self.changed.entry(prefix).or_insert(before);
        }
        result
    }

    /// Has peers told of a prefix when they are next drained.
    fn look_at(&mut self, prefix: IpNetwork, which: impl Fn(PeerId) -> bool) {
        for (id, known) in &mut self.peers {
            if which(*id) && known.terms(family(prefix)).is_some() {
                known.out.look_at(prefix);
                self.stirred.insert(*id);
            }
        }
    }

    /// The prefixes to which there is such a route. Walks over the whole table.
    fn prefixes(&self, which: impl Fn(&Candidate) -> bool) -> Vec<IpNetwork> {
        self.table.iter().filter(|(_, routes)| routes.iter().any(&which)).map(|(prefix, _)| prefix).collect()
    }
}

fn place(routes: &[Candidate], key: (Source, PathId)) -> Result<usize, usize> {
    routes.binary_search_by_key(&key, |route| (route.source, route.path))
}

/// The routes that take part in the decision, with their places.
fn contenders<'a>(
    routes: &'a [Candidate],
    peers: &BTreeMap<PeerId, Known>,
    reach: &Reach,
) -> (Vec<usize>, Vec<Contender<'a>>) {
    let contender = |(at, route): (usize, &'a Candidate)| {
        let attributes = route.accepted.as_ref().ok()?.as_ref();
        let metric = route.next_hop.map_or(Some(0), |next_hop| reach.metric(next_hop.address))?;
        let (learned, router_id, address) = match route.source {
            Source::Local => (Learned::Local, Ipv4Addr::UNSPECIFIED, None),
            Source::Peer(id) => {
                let known = peers.get(&id)?;
                let learned = if known.peer.kind.is_external() { Learned::External } else { Learned::Internal };
                (learned, known.session.as_ref()?.router_id, Some(known.peer.address))
            }
        };
        let next_hop = route.next_hop.map(|next_hop| next_hop.address);
        let (source, path) = (route.source, route.path);
        Some((at, Contender { source, path, attributes, learned, metric, router_id, address, next_hop }))
    };
    routes.iter().enumerate().filter_map(contender).unzip()
}

/// Decides, and writes down what is used.
fn rank(routes: &mut [Candidate], peers: &BTreeMap<PeerId, Known>, reach: &Reach, multipath: Multipath) {
    let ranks: Vec<_> = {
        let (places, contenders) = contenders(routes, peers, reach);
        places.into_iter().zip(decide(&contenders, multipath)).collect()
    };
    routes.iter_mut().for_each(|route| route.rank = 0);
    for (at, outcome) in ranks {
        if let Outcome::Used(rank) = outcome {
            routes[at].rank = rank.saturating_add(1);
        }
    }
}

impl Known {
    /// Whether one more route is let in, and what is to be said of it.
    fn admit(&self, family: Family) -> Option<Limit> {
        let maximum = self.peer.maximum.get(&family)?;
        let counts = self.counts.get(&family).copied().unwrap_or_default();
        let (routes, most) = (counts.received + 1, maximum.routes());
        if routes > most {
            return Some(Limit::Exceeded { family, maximum: most });
        }
        (routes >= maximum.warning() && !counts.warned).then_some(Limit::Near { family, routes, maximum: most })
    }

    fn recount(&mut self, family: Family, before: Option<bool>, now: Option<bool>) {
        let counts = self.counts.entry(family).or_default();
        counts.received = counts.received + u32::from(now.is_some()) - u32::from(before.is_some());
        counts.accepted = counts.accepted + u32::from(now == Some(true)) - u32::from(before == Some(true));
        let maximum = self.peer.maximum.get(&family);
        counts.warned = maximum.is_some_and(|maximum| counts.received >= maximum.warning());
    }
}

#[cfg(test)]
mod tests;
