//! What comes out of the RIB: what to tell a peer, what has changed for the kernel, and why things are as they are.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::decision::{Outcome, decide};
use super::export::Export;
use super::import::Candidate;
use super::out::{Batches, Told};
use super::peer::Known;
use super::{
    Asn, Attributes, Batch, Family, IpNetwork, NextHop, PathId, Paths, PeerId, Refused, Rib, Source, State, Step,
    Withheld, contenders,
};
use crate::prefix::{family, masked};

/// A route that is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// Whose.
    pub source: Source,
    /// Which of its source.
    pub path: PathId,
    /// What is said of it, after the import.
    pub attributes: Arc<Attributes>,
    /// Where packets go. None for what is originated here.
    pub next_hop: Option<NextHop>,
    /// Whether it is of a session that is gone.
    pub stale: bool,
}

/// A prefix of which other routes are used than at the last report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub prefix: IpNetwork,
    /// The best one first, then those that are used beside it. None: the prefix is gone.
    pub routes: Vec<Selected>,
}

/// What became of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is announced and used.
    Best,
    /// It is used beside the best one.
    Multipath,
    /// Another one was preferred.
    Lost {
        /// At which step.
        step: Step,
        /// Whose it is, and which.
        to: (Source, PathId),
    },
    /// Its next hop is out of reach.
    Unreachable,
    /// It takes no part.
    Refused(Refused),
    /// Nothing is selected yet, after a restart.
    Deferred,
}

/// A route, and why it is used or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// Whose.
    pub source: Source,
    /// Which of its source.
    pub path: PathId,
    /// What the peer said of it.
    pub received: Arc<Attributes>,
    /// What the import has made of that, where it was accepted.
    pub accepted: Option<Arc<Attributes>>,
    /// Where it leads.
    pub next_hop: Option<NextHop>,
    /// Whether it is of a session that is gone.
    pub stale: bool,
    /// What became of it.
    pub verdict: Verdict,
}

/// How a peer stands in one family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Routes that it has announced.
    pub received: u32,
    /// Those of them that the import accepted.
    pub accepted: u32,
    /// Routes that it was told.
    pub sent: usize,
}

/// What is used, the best one first.
pub(super) fn selected(routes: &[Candidate]) -> Vec<Selected> {
    let mut used: Vec<_> = routes.iter().filter(|route| route.rank > 0).collect();
    used.sort_by_key(|route| route.rank);
    let select = |route: &Candidate| {
        let attributes = Arc::clone(route.accepted.as_ref().ok()?);
        let (source, path, next_hop, stale) = (route.source, route.path, route.next_hop, route.stale);
        Some(Selected { source, path, attributes, next_hop, stale })
    };
    used.into_iter().filter_map(select).collect()
}

impl Rib {
    /// What has changed since the last call, for the kernel. What has changed and changed back is not told.
    pub fn changes(&mut self) -> Vec<Change> {
        let changed = std::mem::take(&mut self.changed);
        let current = |(prefix, before): (IpNetwork, Vec<Selected>)| {
            let routes = self.selected(prefix);
            (routes != before).then_some(Change { prefix, routes })
        };
        changed.into_iter().filter_map(current).collect()
    }

    /// Whether [`Rib::changes`] may have something to tell.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// What is used for a prefix, the best one first.
    #[must_use]
    pub fn selected(&self, prefix: IpNetwork) -> Vec<Selected> {
        self.table.get(prefix).map(|routes| selected(routes)).unwrap_or_default()
    }

    /// All prefixes to which there is any route, with what is used.
    pub fn routes(&self) -> impl Iterator<Item = (IpNetwork, Vec<Selected>)> {
        self.table.iter().map(|(prefix, routes)| (prefix, selected(routes)))
    }

    /// The same, of prefixes inside of one, or all, and behind another one in their order.
    pub fn routes_behind(
        &self,
        inside: Option<IpNetwork>,
        after: Option<IpNetwork>,
    ) -> impl Iterator<Item = (IpNetwork, Vec<Selected>)> + use<'_> {
        self.table.behind(inside, after).map(|(prefix, routes)| (prefix, selected(routes)))
    }

    /// What to send to a peer: the outcome for at most so many prefixes that may have changed. Empty when there is nothing more.
    pub fn drain(&mut self, id: PeerId, most: usize) -> Vec<Batch> {
        let Some(known) = self.peers.get_mut(&id).filter(|known| known.state == State::Up) else { return Vec::new() };
        let mut out = std::mem::take(&mut known.out);
        let mut batches = Batches::default();
        for prefix in out.take(most) {
            let wanted = self.wanted(id, prefix);
            for _ in 0..out.settle(prefix, wanted, &mut batches) {
                self.interned.release();
            }
        }
        let mut batches = batches.finish();
        let ended: Vec<_> = out
            .unfinished
            .iter()
            .copied()
            .filter(|family| out.is_settled(*family) && !self.is_deferring(*family))
            .collect();
        out.unfinished.retain(|family| !ended.contains(family));
        batches.extend(ended.into_iter().map(Batch::EndOfRib));
        self.peers.get_mut(&id).expect("it was there above").out = out;
        batches
    }

    /// The peers for which [`Rib::drain`] may have got something since the last call: asking each of them costs more.
    pub fn stirred(&mut self) -> BTreeSet<PeerId> {
        std::mem::take(&mut self.stirred)
    }

    /// Whether [`Rib::drain`] has something to look at for this peer.
    #[must_use]
    pub fn is_dirty(&self, id: PeerId) -> bool {
        self.peers.get(&id).is_some_and(|known| {
            known.out.is_dirty() || known.out.unfinished.iter().any(|family| !self.is_deferring(*family))
        })
    }

    /// What a peer is to be told of a prefix.
    fn wanted(&mut self, id: PeerId, prefix: IpNetwork) -> Vec<Told> {
        let told: Vec<_> =
            self.outlook(id, prefix).into_iter().filter_map(|(_, id, told)| Some((id, told.ok()?))).collect();
        told.into_iter().map(|(id, (told, next_hop))| (id, self.interned.intern(Cow::Owned(told)), next_hop)).collect()
    }

    /// What each used route becomes on its way to a peer.
    fn outlook(&self, id: PeerId, prefix: IpNetwork) -> Vec<Outlook<'_>> {
        let Some(to) = self.peers.get(&id) else { return Vec::new() };
        let several = to.terms(family(prefix)).is_some_and(|terms| terms.send == Paths::Several);
        let used = |route: &&Candidate| route.rank == 1 || several && route.rank > 1;
        let tell = |route| {
            let export = Export { identity: &self.identity, to, from: self.known(route) };
            let id = if several { PathId(route.id) } else { PathId(0) };
            (route, id, export.tell(prefix, route))
        };
        self.table.get(prefix).into_iter().flatten().filter(used).map(tell).collect()
    }

    fn known(&self, route: &Candidate) -> Option<&Known> {
        match route.source {
            Source::Local => None,
            Source::Peer(id) => self.peers.get(&id),
        }
    }

    /// Why a peer is told of a prefix or not: for each route that is used, in the order of their sources.
    #[must_use]
    pub fn explain_export(&self, id: PeerId, prefix: IpNetwork) -> Vec<(Source, PathId, Result<Attributes, Withheld>)> {
        let outlook = self.outlook(id, masked(prefix)).into_iter();
        outlook.map(|(route, _, told)| (route.source, route.path, told.map(|(told, _)| told))).collect()
    }

    /// What a peer has been told, in the order of prefixes.
    pub fn told(&self, id: PeerId) -> impl Iterator<Item = (IpNetwork, PathId, Arc<Attributes>, NextHop)> {
        let told = self.peers.get(&id).into_iter().flat_map(|known| known.out.told());
        told.map(|(prefix, (path, attributes, next_hop))| (prefix, path, attributes, next_hop))
    }

    /// All routes to exactly this prefix, in the order of their sources, and what became of each.
    #[must_use]
    pub fn explain(&self, prefix: IpNetwork) -> Vec<Explained> {
        let routes = self.table.get(prefix).map_or(&[][..], Vec::as_slice);
        let (places, contenders) = contenders(routes, &self.peers, &self.reach);
        let outcomes = decide(&contenders, self.multipath);
        let verdict = |at: usize, route: &Candidate| match (&route.accepted, places.binary_search(&at)) {
            (Err(refused), _) => Verdict::Refused(*refused),
            (Ok(_), Err(_)) => Verdict::Unreachable,
            (Ok(_), Ok(_)) if self.is_deferring(family(prefix)) => Verdict::Deferred,
            (Ok(_), Ok(place)) => match outcomes[place] {
                Outcome::Used(0) => Verdict::Best,
                Outcome::Used(_) => Verdict::Multipath,
                Outcome::Lost { step, to } => Verdict::Lost { step, to: (contenders[to].source, contenders[to].path) },
            },
        };
        let explain = |(at, route): (usize, &Candidate)| Explained {
            source: route.source,
            path: route.path,
            received: Arc::clone(&route.received),
            accepted: route.accepted.as_ref().ok().cloned(),
            next_hop: route.next_hop,
            stale: route.stale,
            verdict: verdict(at, route),
        };
        routes.iter().enumerate().map(explain).collect()
    }

    /// The most specific prefix to which there is a route, and which covers this one.
    #[must_use]
    pub fn covering(&self, prefix: IpNetwork) -> Option<IpNetwork> {
        self.table.covering(prefix).next().map(|(covering, _)| covering)
    }

    /// The most specific prefix of which a route is used, and which covers this one.
    #[must_use]
    pub fn used_for(&self, prefix: IpNetwork) -> Option<IpNetwork> {
        let is_used = |routes: &[Candidate]| routes.iter().any(|route| route.rank > 0);
        self.table.covering(prefix).find(|(_, routes)| is_used(routes)).map(|(covering, _)| covering)
    }

    /// The AS of a peer: the configured one, or that which its OPEN named, as long as its session stands or its routes are kept. None
    /// where any may come and none has.
    #[must_use]
    pub fn asn(&self, id: PeerId) -> Option<Asn> {
        self.peers.get(&id).and_then(Known::asn)
    }

    /// How a peer stands in a family.
    #[must_use]
    pub fn summary(&self, id: PeerId, family: Family) -> Option<Summary> {
        let known = self.peers.get(&id)?;
        let counts = known.counts.get(&family).copied().unwrap_or_default();
        Some(Summary { received: counts.received, accepted: counts.accepted, sent: known.out.count(family) })
    }

    /// How many different sets of attributes are kept in memory, for figures. Lets go of those that nobody uses.
    pub fn interned(&mut self) -> usize {
        self.interned.sweep()
    }
}

/// A route, the identifier that the peer knows it by, and what it is told, or why not.
type Outlook<'a> = (&'a Candidate, PathId, Result<(Attributes, NextHop), Withheld>);
