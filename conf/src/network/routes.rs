//! `routes` of the network's configuration: what a pod reaches by the interface.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::requested::{Route, gateway};
use crate::section::{Item, Section};
use crate::{Error, prefix};

const KEYS: [&str; 7] = ["dst", "gw", "mtu", "advmss", "priority", "table", "scope"];
/// `RT_TABLE_LOCAL` (include/uapi/linux/rtnetlink.h): the kernel's own, of the addresses of its interfaces.
const TABLE_LOCAL: u32 = 255;
/// `RT_SCOPE_LINK`: what needs no gateway.
const SCOPE_LINK: u8 = 253;

pub(super) fn read(root: &Section<'_>) -> Result<Vec<Route>, Error> {
    let expected = "a list of objects, as in [{\"dst\": \"192.0.2.0/24\"}]";
    let mut routes: Vec<Route> = Vec::new();
    for item in root.list("routes", expected)?.unwrap_or_default() {
        let path = item.path.clone();
        let route = route(item)?;
        let key = |route: &Route| (route.destination, route.table, route.priority);
        if let Some(i) = routes.iter().position(|other| key(other) == key(&route)) {
            let right = format!("each destination once in a table and priority; routes[{i}] has it too");
            return Err(Error::value(format!("{path}.dst"), route.destination, right));
        }
        routes.push(route);
    }
    Ok(routes)
}

fn route(item: Item<'_>) -> Result<Route, Error> {
    let entry = item.section("an object, as in {\"dst\": \"192.0.2.0/24\"}")?;
    entry.only(&KEYS)?;
    let text = entry.string("dst", prefix::PREFIX)?;
    let text = text.ok_or_else(|| Error::missing(entry.key("dst"), prefix::PREFIX))?;
    let destination = prefix::parse(&entry.key("dst"), text)?;
    prefix::without_host_bits(&entry.key("dst"), destination)?;
    check_gateway(&entry, destination)?;
    let least = if destination.is_ipv6() { 1280 } else { 68 };
    let table = entry.integer("table", 1..=u32::MAX, "a routing table; 254 is the main one")?;
    if table == Some(TABLE_LOCAL) {
        return Err(Error::value(entry.key("table"), TABLE_LOCAL, "another than the kernel's own, 255"));
    }
    Ok(Route {
        destination,
        mtu: entry.integer("mtu", least..=65_535, "the MTU of the way in bytes")?,
        advmss: entry.integer("advmss", 1..=65_495, "the greatest TCP segment in bytes")?,
        priority: entry.integer("priority", 0..=u32::MAX, "a metric")?,
        table,
        scope: entry.integer("scope", 0..=SCOPE_LINK - 1, "a scope wider than the link, where the gateway is")?,
    })
}

/// Whatever stands there would be sent to the node, which goes by the destination alone: a gateway that is not the
/// node's would be a promise that nobody keeps.
fn check_gateway(entry: &Section<'_>, destination: IpNetwork) -> Result<(), Error> {
    let ours = gateway(destination.ip());
    let expected = format!("none, or {ours}: the node is the only one on the pod's link");
    match entry.string("gw", &expected)? {
        None | Some("") => Ok(()),
        Some(text) if text.parse::<IpAddr>() == Ok(ours) => Ok(()),
        Some(text) => Err(Error::value(entry.key("gw"), text, expected)),
    }
}
