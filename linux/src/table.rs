//! The tables: requests, dumps, differences, and the reconciliation over all of them.
//!
//! A file a table. Each has the requests for its objects, which the plugin sends itself, and a dump limited to one device
//! where the kernel can do so. [`reconcile`] is for the daemon: it dumps what is ours, compares, and applies the
//! difference.

pub mod address;
mod change;
pub mod fdb;
pub mod link;
pub mod neighbour;
pub(crate) mod offload;
mod reconcile;
pub mod route;
pub mod rule;
pub mod source;
mod sysctl;
pub mod tc;
pub mod traffic;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use netlink_packet_route::AddressFamily;

use crate::state::{PROTOCOL_CLUSTER, PROTOCOL_POD};
use crate::{Error, IfName, Netlink};

pub use address::SeenAddress;
pub use link::{Device, SeenLink};
pub use reconcile::{advance, complete, reconcile};

/// All links of the namespace.
pub fn links(netlink: &mut Netlink) -> Result<Vec<SeenLink>, Error> {
    Ok(link::dump_details(netlink)?.into_iter().map(|details| details.link).collect())
}

/// All addresses of the namespace with their interface's index, deprecated, tentative and link-local ones too.
pub fn addresses(netlink: &mut Netlink) -> Result<Vec<SeenAddress>, Error> {
    address::dump(netlink, 0)
}

/// The interface of a family's default route and its gateway, of the one with the lowest metric that the kernel shows first; the
/// gateway is the unspecified address where the route leads straight out of the interface. Routes of ours do not count.
pub fn default_route(netlink: &mut Netlink, ipv6: bool) -> Result<Option<(u32, IpAddr)>, Error> {
    Ok(default_routes(netlink, ipv6)?.into_iter().next())
}

/// The same of all routes with the lowest metric, such as those of several routers that advertise themselves alike.
pub fn default_routes(netlink: &mut Netlink, ipv6: bool) -> Result<Vec<(u32, IpAddr)>, Error> {
    let unspecified = if ipv6 { IpAddr::from([0; 16]) } else { IpAddr::from([0; 4]) };
    let ways = |route: route::SeenRoute| {
        let is_others = ![PROTOCOL_CLUSTER, PROTOCOL_POD].contains(&route.protocol);
        let way = (route.target.index()?, route.target.gateway().unwrap_or(unspecified));
        (is_others && route.key.destination.prefix() == 0).then_some((route.key.metric, way))
    };
    let found = route::dump_of(netlink, route::Filter { ipv6, ..route::Filter::default() }, usize::MAX, ways)?;
    let lowest = found.iter().map(|(metric, _)| *metric).min();
    Ok(found.into_iter().filter(|(metric, _)| Some(*metric) == lowest).map(|(_, way)| way).collect())
}

/// Looks at settings that belong to the namespace of the thread that looks, and puts them right: on a thread inside the socket's
/// namespace where that is not the caller's.
fn settle_inside<T: Sync>(
    netlink: &Netlink,
    settings: &[T],
    bring: impl Fn(&T) -> Result<Option<Repair>, Error> + Sync,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    if settings.is_empty() {
        return Ok(());
    }
    let work = || settings.iter().map(&bring).collect::<Vec<_>>();
    let results = match netlink.namespace() {
        Some(namespace) => namespace.run(work)?,
        None => work(),
    };
    for result in results {
        match result {
            Ok(repair) => outcome.repairs.extend(repair),
            Err(error) => outcome.errors.push(error),
        }
    }
    Ok(())
}

/// The address family of an address, for a message's header.
pub(crate) fn family(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// What one reconciliation changed: one entry an object, as in "missing route 10.42.1.0/26 via …".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// "link", "offload", "address", "route", "neighbour", "fdb", "sysctl", "firewall", "filter".
    pub table: &'static str,
    /// "added", "changed", "removed".
    pub action: &'static str,
    /// The object, as `ip` would print it.
    pub object: String,
    /// As what it was found, where that can be told: of rules of nftables it cannot.
    pub was: Option<String>,
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, action, object, was } = self;
        write!(f, "{table}: {action} {object}")?;
        was.iter().try_for_each(|was| write!(f, " (was {was})"))
    }
}

/// What a reconciliation did and what it could not.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What was changed.
    pub repairs: Vec<Repair>,
    /// What the kernel refused, object by object; the others were applied.
    pub errors: Vec<Error>,
    /// Devices that shall stand, and are not there, not up, or of another make.
    pub lacking: Vec<IfName>,
    /// Whether all routes are as they shall be.
    pub routed: bool,
    /// How many objects of ours stood when they were looked at, before anything was changed: of links, addresses, neighbours, FDB
    /// entries and routes, by [`Repair::table`]. Empty where nothing was looked at.
    pub stood: BTreeMap<&'static str, usize>,
}
