//! Routes of our protocols in the main table.
//!
//! Routes are made exclusively, so a foreign one with the same destination and metric is never overwritten: it is named
//! in an error. Ours are replaced in place, without a moment's gap, unless that might hit a foreign one of the same key.

use std::collections::{BTreeMap, BTreeSet};

use ipnetwork::IpNetwork;
use nix::errno::Errno;

use super::{Devices, Scene, Table, note};
use crate::netlink::Request;
use crate::state::{KernelState, PROTOCOL_CLUSTER, PROTOCOL_POD, Route, RouteKey};
use crate::table::Outcome;
use crate::table::change::{Change, Difference, Plan, apply, diff};
use crate::table::route::{self, Filter, SeenRoute, SeenTarget};
use crate::{Error, IfName, Netlink};

/// The metric that IPv6 gives a route without one (IP6_RT_PRIO_USER).
const IPV6_METRIC: u32 = 1024;

pub(super) struct Routes {
    /// Keys that a foreign route has too, which a replacement might hit.
    contested: BTreeSet<RouteKey>,
}

impl Table for Routes {
    const NAME: &'static str = "route";
    type Key = RouteKey;
    type Value = Route;
    /// All of ours with that key: more than one only where somebody added to them.
    type Seen = Vec<SeenRoute>;
    type Place = SeenTarget;

    fn route(key: &RouteKey) -> Option<&RouteKey> {
        Some(key)
    }

    fn route_of(value: &Route) -> Option<&RouteKey> {
        Some(&value.key)
    }

    fn place(value: &Route, find: impl FnMut(IfName) -> Option<u32>) -> Option<SeenTarget> {
        SeenTarget::of(&value.target, find)
    }

    fn same(&self, value: &Route, seen: &Vec<SeenRoute>, at: &SeenTarget) -> bool {
        let is_same =
            |seen: &SeenRoute| (value.protocol, value.source, at) == (seen.protocol, seen.source, &seen.target);
        matches!(seen.as_slice(), [single] if is_same(single))
    }

    fn make(value: &Route, at: &SeenTarget) -> Request {
        route::add_at(value, at)
    }

    fn change(&self, value: &Route, seen: &Vec<SeenRoute>, at: &SeenTarget) -> Vec<Request> {
        if seen.len() == 1 && !self.contested.contains(&value.key) {
            return vec![route::replace_at(value, at)];
        }
        seen.iter().map(route::remove_seen).chain([route::add_at(value, at)]).collect()
    }

    fn unmake(&self, key: &RouteKey, seen: &Vec<SeenRoute>, scene: &Scene<'_>) -> Option<Vec<Request>> {
        let of_cluster = seen.iter().all(|route| route.protocol == PROTOCOL_CLUSTER);
        if of_cluster && scene.ours.spared.has(key.destination) {
            return None;
        }
        Some(seen.iter().map(route::remove_seen).collect())
    }

    fn shown(seen: &Vec<SeenRoute>, devices: &Devices) -> String {
        let shown = seen.iter().map(|route| {
            let source = route.source.map(|source| format!(" src {source}")).unwrap_or_default();
            let unusual = matches!(route.target, SeenTarget::Other { .. });
            let otherwise = if unusual { ", of a kind or with settings that are not Twill's" } else { "" };
            show(route, devices) + &source + otherwise
        });
        shown.collect::<Vec<_>>().join("; ")
    }
}

/// A key as the kernel shows it: without host bits, and never metric 0 in IPv6.
fn normal(key: RouteKey) -> RouteKey {
    let prefix = key.destination.prefix();
    let metric = if key.destination.is_ipv6() && key.metric == 0 { IPV6_METRIC } else { key.metric };
    RouteKey { destination: IpNetwork::new(key.destination.network(), prefix).unwrap_or(key.destination), metric }
}

/// A standing route with its devices' names instead of their numbers.
fn show(seen: &SeenRoute, devices: &Devices) -> String {
    let named = |word: &str| {
        let index = word.strip_prefix('#').and_then(|number| number.parse().ok());
        index.map_or_else(|| word.to_owned(), |index| devices.called(index))
    };
    seen.to_string().split(' ').map(named).collect::<Vec<_>>().join(" ")
}

pub(super) fn plan(netlink: &mut Netlink, desired: &KernelState, scene: &mut Scene<'_>) -> Result<Plan, Error> {
    let wanted: BTreeMap<RouteKey, Route> = desired
        .routes
        .values()
        .map(|route| (normal(route.key), Route { key: normal(route.key), ..route.clone() }))
        .collect();
    let standing = standing(netlink, &wanted, scene)?;
    let changed = differing(&wanted, &standing, scene);
    let table = Routes { contested: contested(netlink, &wanted, &changed, scene)? };
    Ok(super::plan(&table, &wanted, &standing, scene))
}

/// The keys of ours that stand otherwise than they shall.
fn differing(
    wanted: &BTreeMap<RouteKey, Route>,
    standing: &BTreeMap<RouteKey, Vec<SeenRoute>>,
    scene: &Scene<'_>,
) -> BTreeSet<RouteKey> {
    let table = Routes { contested: BTreeSet::new() };
    let same = |route: &Route, seen: &Vec<SeenRoute>| scene.devices.have(&table, route, seen);
    let changed = diff(wanted, standing, same).into_iter().filter_map(|difference| match difference {
        Difference::Changed(route, _) => Some(route.key),
        Difference::Missing(_) | Difference::Extra(..) => None,
    });
    changed.collect()
}

fn standing(
    netlink: &mut Netlink,
    wanted: &BTreeMap<RouteKey, Route>,
    scene: &Scene<'_>,
) -> Result<BTreeMap<RouteKey, Vec<SeenRoute>>, Error> {
    let mut standing: BTreeMap<RouteKey, Vec<SeenRoute>> = BTreeMap::new();
    for protocol in [PROTOCOL_CLUSTER, PROTOCOL_POD] {
        for ipv6 in [false, true] {
            for route in route::dump(netlink, Filter { ipv6, protocol: Some(protocol), index: None })? {
                if is_ours(&route, wanted, scene) && stays(&route, scene) {
                    note(standing.entry(route.key).or_default(), route);
                }
            }
        }
    }
    Ok(standing)
}

/// What leads only to devices that will be deleted goes with them.
fn stays(route: &SeenRoute, scene: &Scene<'_>) -> bool {
    let goes = |index| scene.devices.name(index).is_some_and(|device| scene.doomed.contains(&device));
    let mut indices = route.target.indices().peekable();
    indices.peek().is_none() || !indices.all(goes)
}

/// Ours: all of the cluster's protocol, and of the pods' protocol those on pods' devices and those that stand where the
/// route to an attached pod shall, wherever they lead. An address has one pod, so no ADD in flight makes such a one.
fn is_ours(route: &SeenRoute, wanted: &BTreeMap<RouteKey, Route>, scene: &Scene<'_>) -> bool {
    match route.protocol {
        PROTOCOL_CLUSTER => true,
        PROTOCOL_POD => {
            let mut devices = route.target.indices().filter_map(|index| scene.devices.name(index));
            devices.any(|device| scene.ours.pods.contains(&device))
                || wanted.get(&route.key).is_some_and(|wanted| wanted.protocol == PROTOCOL_POD)
        }
        _ => false,
    }
}

/// Those of the keys by which a replacement might hit a route that is not ours. IPv4 replaces the first of a key
/// (`fib_table_insert` in net/ipv4/fib_trie.c), so that one that was appended to ours is safe; IPv6 may take others of the key
/// with it (`fib6_add_rt2node` in net/ipv6/ip6_fib.c). The whole table is only read when something of ours is to be replaced.
fn contested(
    netlink: &mut Netlink,
    wanted: &BTreeMap<RouteKey, Route>,
    keys: &BTreeSet<RouteKey>,
    scene: &Scene<'_>,
) -> Result<BTreeSet<RouteKey>, Error> {
    let mut contested = BTreeSet::new();
    for ipv6 in [false, true] {
        if keys.iter().any(|key| key.destination.is_ipv6() == ipv6) {
            let mut firsts = BTreeSet::new();
            for route in route::dump(netlink, Filter { ipv6, ..Filter::default() })? {
                let may_be_hit = firsts.insert(route.key) || ipv6;
                if may_be_hit && !is_ours(&route, wanted, scene) {
                    contested.insert(route.key);
                }
            }
        }
    }
    contested.retain(|key| keys.contains(key));
    Ok(contested)
}

/// Sends the changes. Where a key was taken, the error says by what; unless somebody made the very route meanwhile.
pub(super) fn settle_put(
    netlink: &mut Netlink,
    put: &[Change],
    scene: &Scene<'_>,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    let failures = apply(netlink, put, outcome)?;
    let taken = failures.iter().any(|failure| failure.error.errno() == Some(Errno::EEXIST));
    let holders = if taken { all_routes(netlink)? } else { BTreeMap::new() };
    for failure in failures {
        let asked = put[failure.change].requests.last().and_then(|request| route::asked(&request.message));
        match (failure.error, asked) {
            (Error::Refused { attempt, errno: Errno::EEXIST, .. }, Some(asked)) => {
                let holder = holders.get(&asked.key);
                if holder == Some(&asked) {
                    continue;
                }
                let message = holder.map(|holder| format!("taken by {}", show(holder, &scene.devices)));
                outcome.errors.push(Error::Refused { attempt, errno: Errno::EEXIST, message });
            }
            (error, _) => outcome.errors.push(error),
        }
    }
    Ok(())
}

/// The first route of each key in the main table, whosever it is: the one that packets take.
fn all_routes(netlink: &mut Netlink) -> Result<BTreeMap<RouteKey, SeenRoute>, Error> {
    let mut all = BTreeMap::new();
    for ipv6 in [false, true] {
        for route in route::dump(netlink, Filter { ipv6, ..Filter::default() })? {
            all.entry(route.key).or_insert(route);
        }
    }
    Ok(all)
}
