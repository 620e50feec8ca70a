//! The decision process (RFC 4271, section 9.1.2.2, with section 9 of RFC 4456), as a function of the routes to one prefix.
//!
//! Each step takes out of all routes that are left those that another one beats. Routes are never compared in pairs one after the other, so
//! that their order cannot matter: MED, which only counts between routes of one neighbouring AS, would make it matter. "Older
//! external route first" is left out for the same reason. What is left before the identifiers are compared is equal, and may be
//! used together.

use std::cmp::Reverse;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::Source;
use crate::path::{Attributes, PathId};

/// LOCAL_PREF of a route that has none.
pub const DEFAULT_LOCAL_PREF: u32 = 100;

/// How many equal routes are used at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Multipath {
    /// The most of a prefix. 0 and 1 both mean the best one alone.
    pub maximum: u8,
    /// Which may go together.
    pub across: Across,
}

impl Default for Multipath {
    /// Eight, across systems: two top-of-rack routers are usually systems of their own.
    fn default() -> Self {
        Self { maximum: 8, across: Across::Systems }
    }
}

/// Which equal routes may be used together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Across {
    /// Those with paths of one length.
    Systems,
    /// Those that come from one neighbouring AS.
    NeighbourAs,
}

/// The steps in their order, and why an equal route is not used beside the best one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The higher LOCAL_PREF wins.
    LocalPref,
    /// What is originated here wins.
    Local,
    /// The shorter AS_PATH wins.
    PathLength,
    /// The lower ORIGIN wins.
    Origin,
    /// The lower MED wins, among those of one neighbouring AS.
    Med,
    /// What an external peer said wins.
    External,
    /// The nearer next hop wins.
    Metric,
    /// Equal, but the best one comes from another neighbouring AS.
    NeighbourAs,
    /// Equal, but its next hop is that of a used one.
    SameNextHop,
    /// Equal, but as many as may be are used.
    Maximum,
    /// The lower BGP identifier, or ORIGINATOR_ID, wins.
    Identifier,
    /// The shorter CLUSTER_LIST wins.
    ClusterList,
    /// The lower address of the peer wins.
    Address,
    /// The lower path identifier wins, of routes of one peer.
    PathId,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LocalPref => "lower local preference",
            Self::Local => "not originated here",
            Self::PathLength => "longer AS path",
            Self::Origin => "worse origin",
            Self::Med => "higher MED from the same neighbouring AS",
            Self::External => "learned inside the AS",
            Self::Metric => "farther next hop",
            Self::NeighbourAs => "equal, but of another neighbouring AS",
            Self::SameNextHop => "equal, but through the same next hop",
            Self::Maximum => "equal, but as many routes as allowed are used",
            Self::Identifier => "higher BGP identifier",
            Self::ClusterList => "longer cluster list",
            Self::Address => "higher peer address",
            Self::PathId => "higher path identifier",
        })
    }
}

/// Where a contender was learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Learned {
    Local,
    External,
    Internal,
}

/// A route that takes part: it was accepted, and its next hop can be resolved.
#[derive(Debug, Clone)]
pub(super) struct Contender<'a> {
    pub source: Source,
    pub path: PathId,
    pub attributes: &'a Attributes,
    pub learned: Learned,
    pub metric: u32,
    pub router_id: Ipv4Addr,
    pub address: Option<IpAddr>,
    pub next_hop: Option<IpAddr>,
}

/// What became of it. Numbers are places in the list that was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// 0 is the best one, the others are used beside it.
    Used(u8),
    Lost {
        step: Step,
        to: usize,
    },
}

impl Contender<'_> {
    fn identifier(&self) -> Ipv4Addr {
        self.attributes.originator.unwrap_or(self.router_id)
    }

    fn ties(&self) -> (Ipv4Addr, usize, Option<IpAddr>, PathId) {
        (self.identifier(), self.attributes.clusters.len(), self.address, self.path)
    }

    /// The first tie-breaker in which it is not as good as another.
    fn tie_lost_to(&self, best: &Self) -> Step {
        let (mine, its) = (self.ties(), best.ties());
        if mine.0 != its.0 {
            Step::Identifier
        } else if mine.1 != its.1 {
            Step::ClusterList
        } else if mine.2 != its.2 {
            Step::Address
        } else {
            Step::PathId
        }
    }
}

/// The process under way.
struct Election<'a> {
    contenders: &'a [Contender<'a>],
    /// Those that are left, the best by the tie-breakers first.
    left: Vec<usize>,
    outcomes: Vec<Outcome>,
}

/// Decides on the routes to one prefix. The outcomes are in the order of the contenders, which plays no part.
pub(super) fn decide(contenders: &[Contender<'_>], multipath: Multipath) -> Vec<Outcome> {
    // Most prefixes have one route.
    if let [_] = contenders {
        return vec![Outcome::Used(0)];
    }
    let mut left: Vec<usize> = (0..contenders.len()).collect();
    left.sort_by_key(|at| contenders[*at].ties());
    let mut election = Election { contenders, left, outcomes: vec![Outcome::Used(0); contenders.len()] };
    let preference = |one: &Contender<'_>| one.attributes.local_pref.unwrap_or(DEFAULT_LOCAL_PREF);
    election.step(Step::LocalPref, |one| Reverse(preference(one)));
    election.step(Step::Local, |one| one.learned != Learned::Local);
    election.step(Step::PathLength, |one| one.attributes.as_path.length());
    election.step(Step::Origin, |one| one.attributes.origin);
    election.compare_med();
    election.step(Step::External, |one| one.learned == Learned::Internal);
    election.step(Step::Metric, |one| one.metric);
    election.choose(multipath);
    election.outcomes
}

impl Election<'_> {
    fn lose(&mut self, at: usize, step: Step, to: usize) {
        self.outcomes[at] = Outcome::Lost { step, to };
    }

    /// Leaves those with the least key.
    fn step<K: Ord>(&mut self, step: Step, key: impl Fn(&Contender<'_>) -> K) {
        let Some(to) = self.left.iter().copied().min_by_key(|at| key(&self.contenders[*at])) else { return };
        let least = key(&self.contenders[to]);
        let (left, lost): (Vec<_>, Vec<_>) =
            self.left.iter().copied().partition(|at| key(&self.contenders[*at]) == least);
        self.left = left;
        lost.into_iter().for_each(|at| self.lose(at, step, to));
    }

    /// Leaves those with the least MED of each neighbouring AS; a route without one has 0 (RFC 4271, section 9.1.2.2 c).
    fn compare_med(&mut self) {
        let med = |at: usize| self.contenders[at].attributes.med.unwrap_or(0);
        let neighbour = |at: usize| self.contenders[at].attributes.as_path.first();
        let of = |at: usize| self.left.iter().copied().filter(move |other| neighbour(*other) == neighbour(at));
        let least = |at: usize| of(at).min_by_key(|other| med(*other)).expect("it is of its own AS");
        let lost: Vec<_> =
            self.left.iter().map(|at| (*at, least(*at))).filter(|(at, to)| med(*to) < med(*at)).collect();
        self.left.retain(|at| lost.iter().all(|(gone, _)| gone != at));
        lost.into_iter().for_each(|(at, to)| self.lose(at, Step::Med, to));
    }

    /// Ranks the equal ones that are left.
    fn choose(&mut self, multipath: Multipath) {
        let left = std::mem::take(&mut self.left);
        let Some((&best, others)) = left.split_first() else { return };
        let mut used = vec![best];
        for &at in others {
            let (one, first) = (&self.contenders[at], &self.contenders[best]);
            let twin = used.iter().copied().find(|other| self.contenders[*other].next_hop == one.next_hop);
            let (step, to) = if multipath.maximum < 2 {
                (one.tie_lost_to(first), best)
            } else if multipath.across == Across::NeighbourAs
                && one.attributes.as_path.first() != first.attributes.as_path.first()
            {
                (Step::NeighbourAs, best)
            } else if let Some(twin) = twin {
                (Step::SameNextHop, twin)
            } else if used.len() >= usize::from(multipath.maximum) {
                (Step::Maximum, best)
            } else {
                self.outcomes[at] = Outcome::Used(u8::try_from(used.len()).expect("fewer than the maximum"));
                used.push(at);
                continue;
            };
            self.lose(at, step, to);
        }
    }
}
