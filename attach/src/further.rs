//! A further interface of a pod: one whose pod has a default route of that family by another interface already.
//!
//! It takes the default route from nobody, and what is sent from its address leaves by it all the same: a policy rule for
//! the address leads to a routing table of the interface's own, whose default route goes by it. The routes vanish with the
//! interface, the rule does not, so the host's end says in its alias which addresses have one, before it is made: whoever
//! removes the interface first removes them, if the pod's namespace can be seen. A rule that stays leads to an empty
//! table, and the kernel goes on to the next rule.
//!
//! Of what the first interface of a pod has nothing is asked here: that it is the first, the kernel says when it takes its
//! default route.

use std::net::IpAddr;

use nix::errno::Errno;
use twill_conf::network::{self, everything, gateway};
use twill_ipam::alias::Alias;
use twill_linux::state::{PRIORITY_POD, PROTOCOL_POD, Route, RouteKey, Target};
use twill_linux::table::link::{self, Device};
use twill_linux::table::route::{self, DetailedRoute, SeenDetail};
use twill_linux::table::rule::{self, Rule, SeenRule};

use crate::building::{Building, Ends};
use crate::error::{Error, POD};
use crate::message::{PROTOCOL_BOOT, configured_route};
use crate::plan::Plan;

/// The table of the interface with number n is this plus n: a number is one interface's as long as that lives, and
/// nobody counts tables so high.
const TABLES: u32 = 117_000_000;

/// The number of the table of the interface with that number.
fn table(index: u32) -> u32 {
    TABLES.saturating_add(index)
}

/// The default route of the interface's own table.
fn own_default(ip: IpAddr, device: Device) -> DetailedRoute {
    // An IPv6 gateway is on the link by its kind; for the other no route says so in this table.
    let target = Target::Gateway { gateway: gateway(ip), device: device.name, onlink: ip.is_ipv4() };
    let key = RouteKey { destination: everything(ip.is_ipv6()), metric: 0 };
    let plain = Route { key, protocol: PROTOCOL_BOOT, target, source: None };
    DetailedRoute { table: Some(table(device.index)), ..plain.into() }
}

/// What leads packets from `ip` to it.
fn own_rule(ip: IpAddr, device: Device) -> Rule {
    Rule { from: ip, table: table(device.index), priority: PRIORITY_POD, protocol: PROTOCOL_POD }
}

impl Building {
    /// Makes the routes of the configuration of these numbers behind those of the same destination by another interface:
    /// with the number of the interface's own table for a metric, which no two interfaces share.
    pub(super) fn make_worse_routes(&mut self, plan: &Plan, ends: &Ends, places: &[usize]) -> Result<(), Error> {
        let device = ends.pod;
        let worse = |place: &usize| {
            let wanted = network::Route { priority: Some(table(device.index)), ..plan.routes[*place] };
            route::detailed::add(&configured_route(&wanted, device.name), device.index)
        };
        let requests: Vec<_> = places.iter().map(worse).collect();
        let outcomes = self.ask_pod(&requests, device)?;
        outcomes.into_iter().try_for_each(|outcome| outcome.map_err(Error::kernel(POD)))
    }

    /// Gives `addresses`, for which another interface has the default route, a table of the interface's own.
    pub(super) fn make_own_table(&mut self, plan: &Plan, ends: &Ends, addresses: &[IpAddr]) -> Result<(), Error> {
        let alias = Alias { ruled: addresses.to_vec(), filtered: ends.filtered, ..plan.alias() };
        let marked = self.ask_host(&[link::set_alias(ends.host, &alias.to_string())], ends.host, POD)?;
        marked.into_iter().try_for_each(|outcome| outcome.map_err(Error::kernel(POD)))?;
        let device = ends.pod;
        let own = |ip: &IpAddr| {
            [route::detailed::add(&own_default(*ip, device), device.index), rule::add(&own_rule(*ip, device))]
        };
        let requests: Vec<_> = addresses.iter().flat_map(own).collect();
        let outcomes = self.ask_pod(&requests, device)?;
        outcomes.into_iter().enumerate().try_for_each(|(place, outcome)| match outcome {
            // The same rule, every second request: a DEL that did not see the namespace left it.
            Err(error) if place % 2 == 1 && error.errno() == Some(Errno::EEXIST) => Ok(()),
            outcome => outcome.map_err(Error::kernel(POD)),
        })
    }
}

/// What is wrong with the own table of the interface `pod`, a sentence each.
pub(super) fn differences(ip: IpAddr, pod: Device, rules: &[SeenRule], routes: &[SeenDetail]) -> Vec<String> {
    let (rule, by) = (own_rule(ip, pod), gateway(ip));
    let mut wrong = Vec::new();
    if !rules.iter().any(|seen| seen.is(&rule)) {
        wrong.push(format!("the pod has no rule {rule}"));
    }
    let default = everything(ip.is_ipv6());
    let leads =
        |seen: &SeenDetail| (seen.destination, seen.table, seen.gateway) == (default, table(pod.index), Some(by));
    if !routes.iter().any(leads) {
        wrong.push(format!("the pod has no route {default} via {by} dev {} table {}", pod.name, table(pod.index)));
    }
    wrong
}
