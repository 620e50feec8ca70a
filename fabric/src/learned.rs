//! What BGP has learned, and how it goes together with the routes that the back end makes.
//!
//! Both may have a way to one block. Under `bgp` what was learned counts, and what the back end has is the way for as long as nothing
//! is: to a node on the same subnet a plain route, which needs nobody's word, and while a cluster is switched, the tunnel that there was.
//! So a session that is not up yet, or that has ended, costs no packet that another way could carry. Under another back end it is the
//! other way round: BGP runs beside it, for what lies outside of the nodes' blocks.

use std::collections::{BTreeMap, BTreeSet};

use imbl::{OrdMap, OrdSet};
use ipnetwork::IpNetwork;
use twill_cluster::View;
use twill_cluster::view::differences;
use twill_conf::cluster::Kind;
use twill_linux::IfName;
use twill_linux::state::{METRIC, PROTOCOL_CLUSTER, Route, RouteKey, Target};

use crate::family::Family;
use crate::tally::Tally;

/// The routes that BGP has learned, as far as packets can go by them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Learned {
    /// Where packets go, by prefix.
    pub routes: OrdMap<IpNetwork, Target>,
    /// The families of which peers have not told all since this node's daemon began: what stands of before stays.
    pub awaited: BTreeSet<Family>,
    /// The interfaces that the routes lead out of, and whether reverse path filtering is in force there.
    pub exits: BTreeMap<IfName, bool>,
}

/// The routes of which BGP has spoken in this run, and has the say: what it tells of them is newer than a view from the disk, and newer
/// than what stands. Under `bgp` that are all; under another back end those outside of the pools, since the others are made.
#[derive(Debug, Default)]
pub struct Spoken(BTreeSet<RouteKey>);

impl Spoken {
    /// Takes what is learned now. What was learned before, and is no longer, stays among them.
    pub fn follow(&mut self, view: &View, learned: &Learned) {
        let Some(conf) = view.config.as_ref().map(|conf| &conf.value) else { return };
        let inside =
            |pool: IpNetwork, prefix: &IpNetwork| pool.prefix() <= prefix.prefix() && pool.contains(prefix.ip());
        let is_made = |prefix: &IpNetwork| {
            conf.backend.kind != Kind::Bgp && conf.pools.iter().any(|pool| inside(pool.cidr, prefix))
        };
        self.0.extend(learned.routes.keys().filter(|prefix| !is_made(prefix)).map(|prefix| key(*prefix)));
    }

    /// Their keys.
    pub fn keys(&self) -> &BTreeSet<RouteKey> {
        &self.0
    }
}

/// Which of two ways to one prefix counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Rule {
    /// The back end's.
    #[default]
    Made,
    /// The one that was learned.
    Learned,
}

/// How packets go to a block, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hop {
    /// As they are, by a route that the back end makes.
    Plain,
    /// As they are, by one that BGP has learned.
    Learned,
    /// Encapsulated.
    Tunnel,
}

/// The routes of both kinds, kept from one time to the next: a change is as much work as it changes.
#[derive(Debug, Default)]
pub(crate) struct Blend {
    // As they were seen last.
    rule: Rule,
    made: OrdMap<RouteKey, Route>,
    learned: OrdMap<IpNetwork, Target>,
    routes: OrdMap<RouteKey, Route>,
    /// Those that lead into a tunnel.
    tunnelled: BTreeSet<RouteKey>,
    /// The families of those that lead several ways at once.
    spread: Tally<Family>,
}

impl Blend {
    /// Takes what the back end makes now and what is learned now.
    pub(crate) fn follow(
        &mut self,
        rule: Rule,
        made: &OrdMap<RouteKey, Route>,
        learned: &OrdMap<IpNetwork, Target>,
        tunnels: &BTreeSet<IfName>,
    ) {
        if rule != self.rule {
            *self = Self { rule, ..Self::default() };
        }
        let mut changed: BTreeSet<RouteKey> = differences(&self.made, made).map(|(key, ..)| *key).collect();
        changed.extend(differences(&self.learned, learned).map(|(prefix, ..)| key(*prefix)));
        (self.made, self.learned) = (made.clone(), learned.clone());
        for key in changed {
            let route = self.choose(key);
            if route.as_ref().is_some_and(|route| route.target.devices().any(|device| tunnels.contains(&device))) {
                self.tunnelled.insert(key)
            } else {
                self.tunnelled.remove(&key)
            };
            route.as_ref().and_then(spread).into_iter().for_each(|family| self.spread.add(family));
            let before = match route {
                Some(route) => self.routes.insert(key, route),
                None => self.routes.remove(&key),
            };
            before.as_ref().and_then(spread).iter().for_each(|family| self.spread.take(family));
        }
    }

    fn choose(&self, key: RouteKey) -> Option<Route> {
        let made = || self.made.get(&key).cloned();
        let learned = || {
            let target = self.learned.get(&key.destination).filter(|_| key.metric == METRIC)?.clone();
            Some(Route { key, protocol: PROTOCOL_CLUSTER, target, source: None })
        };
        match self.rule {
            Rule::Made => made().or_else(learned),
            Rule::Learned => learned().or_else(made),
        }
    }

    /// What shall stand.
    pub(crate) fn routes(&self) -> &OrdMap<RouteKey, Route> {
        &self.routes
    }

    /// Whether the route that counts is one that was learned.
    pub(crate) fn is_learned(&self, key: RouteKey) -> bool {
        let learned = key.metric == METRIC && self.learned.contains_key(&key.destination);
        learned && (self.rule == Rule::Learned || !self.made.contains_key(&key))
    }

    /// How packets to a prefix go; `None` where no route leads there.
    pub(crate) fn hop(&self, prefix: IpNetwork) -> Option<Hop> {
        let key = key(prefix);
        self.routes.get(&key)?;
        Some(match self.tunnelled.contains(&key) {
            true => Hop::Tunnel,
            false if self.is_learned(key) => Hop::Learned,
            false => Hop::Plain,
        })
    }

    /// The families in which any of it leads several ways at once (ECMP).
    pub(crate) fn spread(&self) -> &OrdSet<Family> {
        self.spread.there()
    }

    /// Whether any of it leads into a tunnel.
    pub(crate) fn tunnels(&self) -> bool {
        !self.tunnelled.is_empty()
    }
}

fn key(destination: IpNetwork) -> RouteKey {
    RouteKey { destination, metric: METRIC }
}

/// The family of a route that leads several ways.
fn spread(route: &Route) -> Option<Family> {
    matches!(route.target, Target::Several(_)).then(|| Family::of_prefix(route.key.destination))
}
