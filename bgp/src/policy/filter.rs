//! Rules in their order: what each matches, what it changes, and whether it decides.

use std::borrow::Cow;
use std::fmt;

use ipnetwork::IpNetwork;

use super::{Invalid, Prefixes};
use crate::path::{Asn, Attributes, Community, Family, LargeCommunity};
use crate::prefix::family;

/// The most copies of an AS number that a rule prepends.
const MOST_PREPENDED: u8 = 16;

/// What a rule asks of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// Its prefix is in the set.
    Prefixes(Prefixes),
    /// It is of this family.
    Family(Family),
    /// It has the community.
    Community(Community),
    /// It has the large community.
    LargeCommunity(LargeCommunity),
    /// It came through this system, or from it.
    Through(Asn),
    /// It began in this system: the last of its path.
    From(Asn),
}

/// What a rule changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Sets LOCAL_PREF. External peers are never told it.
    LocalPref(u32),
    /// Sets MULTI_EXIT_DISC, or takes it away.
    Med(Option<u32>),
    /// Adds a community.
    Add(Community),
    /// Takes a community away.
    Remove(Community),
    /// Adds a large community.
    AddLarge(LargeCommunity),
    /// Takes a large community away.
    RemoveLarge(LargeCommunity),
    /// Makes the path longer, from 1 to 16 times: by the own AS on export, by the neighbour's on import. Between internal peers it does
    /// nothing: they would take their own AS for a loop.
    Prepend(u8),
}

/// How a rule ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The route is accepted, as it now is.
    Accept,
    /// The route is rejected.
    Reject,
    /// The next rule decides.
    Next,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// All of these must hold. None matches every route.
    pub matches: Vec<Match>,
    /// What changes, in this order.
    pub actions: Vec<Action>,
    /// What then.
    pub then: Then,
}

/// What happens to a route that no rule decides on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Otherwise {
    /// It is accepted, with what the rules have changed.
    Accept,
    /// It is rejected.
    Reject,
}

/// Rules, the first that decides being the one that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    rules: Vec<Rule>,
    otherwise: Otherwise,
}

/// The rule that a route failed at, from 1, or none where no rule decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejected(pub Option<usize>);

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(rule) => write!(f, "by rule {rule}"),
            None => f.write_str("since no rule accepts it"),
        }
    }
}

impl Filter {
    /// A filter of these rules.
    ///
    /// # Errors
    /// What a rule says in vain, or what cannot be: each of [`Invalid`]'s kinds that name a rule.
    pub fn new(rules: Vec<Rule>, otherwise: Otherwise) -> Result<Self, Invalid> {
        let mut ended = None;
        for (at, rule) in rules.iter().enumerate() {
            let number = at + 1;
            if let Some(after) = ended {
                return Err(Invalid::Unreachable { rule: number, after });
            }
            rule.check(number)?;
            if rule.matches.is_empty() && rule.then != Then::Next {
                ended = Some(number);
            }
        }
        Ok(Self { rules, otherwise })
    }

    /// The same for all routes.
    #[must_use]
    pub fn all(otherwise: Otherwise) -> Self {
        Self { rules: Vec::new(), otherwise }
    }

    /// Only what is in the set: the daemon's import where the configuration says nothing, its set being the pools.
    #[must_use]
    pub fn only(set: Prefixes) -> Self {
        let rule = Rule { matches: vec![Match::Prefixes(set)], actions: Vec::new(), then: Then::Accept };
        Self { rules: vec![rule], otherwise: Otherwise::Reject }
    }

    /// What becomes of a route. `prepended` is the system that [`Action::Prepend`] puts before the path; none where it does nothing.
    ///
    /// # Errors
    /// [`Rejected`]: which rule it was.
    pub fn apply<'a>(
        &self,
        prefix: IpNetwork,
        attributes: Cow<'a, Attributes>,
        prepended: Option<Asn>,
    ) -> Result<Cow<'a, Attributes>, Rejected> {
        let mut attributes = attributes;
        for (at, rule) in self.rules.iter().enumerate() {
            if !rule.matches.iter().all(|ask| ask.holds(prefix, &attributes)) {
                continue;
            }
            for action in &rule.actions {
                action.perform(&mut attributes, prepended);
            }
            match rule.then {
                Then::Accept => return Ok(attributes),
                Then::Reject => return Err(Rejected(Some(at + 1))),
                Then::Next => {}
            }
        }
        match self.otherwise {
            Otherwise::Accept => Ok(attributes),
            Otherwise::Reject => Err(Rejected(None)),
        }
    }
}

impl Rule {
    fn check(&self, rule: usize) -> Result<(), Invalid> {
        for ask in &self.matches {
            match ask {
                Match::Prefixes(set) if set.is_empty() => return Err(Invalid::NoPrefixes { rule }),
                Match::Through(asn) | Match::From(asn) if matches!(asn.0, 0 | u32::MAX) => {
                    return Err(Invalid::Reserved { rule, asn: *asn });
                }
                _ => {}
            }
        }
        for action in &self.actions {
            if let Action::Prepend(value) = action
                && !(1..=MOST_PREPENDED).contains(value)
            {
                return Err(Invalid::Prepend { rule, value: *value, most: MOST_PREPENDED });
            }
        }
        match (self.then, self.actions.is_empty()) {
            (Then::Reject, false) => Err(Invalid::Idle { rule }),
            (Then::Next, true) => Err(Invalid::NoEffect { rule }),
            _ => Ok(()),
        }
    }
}

impl Match {
    fn holds(&self, prefix: IpNetwork, attributes: &Attributes) -> bool {
        match self {
            Self::Prefixes(set) => set.contains(prefix),
            Self::Family(asked) => family(prefix) == *asked,
            Self::Community(community) => attributes.communities.contains(community),
            Self::LargeCommunity(community) => attributes.large_communities.contains(community),
            Self::Through(asn) => attributes.as_path.systems().any(|system| system == *asn),
            Self::From(asn) => attributes.as_path.systems().last() == Some(*asn),
        }
    }
}

impl Action {
    fn perform(self, attributes: &mut Cow<'_, Attributes>, prepended: Option<Asn>) {
        match self {
            Self::LocalPref(value) => attributes.to_mut().local_pref = Some(value),
            Self::Med(value) => attributes.to_mut().med = value,
            Self::Add(community) => add(&mut attributes.to_mut().communities, community),
            Self::Remove(community) => attributes.to_mut().communities.retain(|there| *there != community),
            Self::AddLarge(community) => add(&mut attributes.to_mut().large_communities, community),
            Self::RemoveLarge(community) => attributes.to_mut().large_communities.retain(|there| *there != community),
            Self::Prepend(times) => {
                if let Some(system) = prepended {
                    attributes.to_mut().as_path.prepend(system, times);
                }
            }
        }
    }
}

/// Communities are kept in order, each once.
fn add<T: Ord>(communities: &mut Vec<T>, community: T) {
    if let Err(at) = communities.binary_search(&community) {
        communities.insert(at, community);
    }
}
