//! What stands of an attachment at one end, and how it differs from the plan. For CHECK, which never writes.
//!
//! [`End::read`] asks the kernel about one device; [`host_differences`] and [`pod_differences`] are pure. What plugins
//! after us in a chain may change is no difference: the MTU, further addresses and routes, and the pod's MAC, where the
//! chain's result has the new one.

use std::collections::BTreeSet;
use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use twill_conf::network::gateway;
use twill_ipam::alias::{Alias, Proof};
use twill_linux::state::Target;
use twill_linux::table::link::Device;
use twill_linux::table::neighbour::{self, SeenNeighbour};
use twill_linux::table::route::{self, SeenDetail, SeenRoute, SeenTarget};
use twill_linux::table::rule::{self, SeenRule};
use twill_linux::table::source::Filter;
use twill_linux::table::{SeenAddress, SeenLink, address, link, source};
use twill_linux::{IfName, MacAddr, Netlink};

use crate::linux::foreign;
use crate::plan::{HOST_MAC, Plan, host_ifname, own_sources};
use crate::{further, message};

/// A device with what is on it.
#[derive(Debug, Clone)]
pub struct End {
    /// The device.
    pub link: SeenLink,
    /// The number that the other end of the veth has in its namespace.
    pub peer: Option<u32>,
    /// Its addresses.
    pub addresses: Vec<SeenAddress>,
    /// The routes that lead to it.
    pub routes: Vec<SeenRoute>,
    /// Its neighbours.
    pub neighbours: Vec<SeenNeighbour>,
}

impl End {
    /// What stands under `name` in the socket's namespace.
    pub fn read(netlink: &mut Netlink, name: IfName) -> Result<Option<Self>, twill_linux::Error> {
        let Some(link) = link::by_name(netlink, &name)? else { return Ok(None) };
        let index = link.index;
        Ok(Some(Self {
            link,
            peer: peer(netlink, index)?,
            addresses: address::of(netlink, index)?,
            routes: route::of(netlink, index)?,
            neighbours: neighbour::of(netlink, index)?,
        }))
    }

    /// The device.
    pub fn device(&self) -> Device {
        Device { index: self.link.index, name: self.link.name }
    }

    /// The addresses that the alias of a host end says to have policy rules in the pod.
    pub fn ruled(&self) -> Vec<IpAddr> {
        self.alias().map(|alias| alias.ruled).unwrap_or_default()
    }

    /// Whether the alias of a host end says that it has a filter of what the pod sends.
    pub fn filtered(&self) -> bool {
        self.alias().is_some_and(|alias| alias.filtered)
    }

    fn alias(&self) -> Option<Alias> {
        self.link.alias.as_deref()?.parse().ok()
    }

    fn has_neighbour(&self, ip: IpAddr, mac: MacAddr) -> bool {
        self.neighbours.iter().any(|seen| seen.ip == ip && seen.mac == Some(mac) && seen.permanent)
    }
}

/// What a pod has beside an ordinary attachment's routes: asked for only where there is some of it.
#[derive(Debug, Clone, Default)]
pub struct Extra {
    /// The addresses that shall have rules and a table of their own.
    pub ruled: Vec<IpAddr>,
    rules: Vec<SeenRule>,
    routes: Vec<SeenDetail>,
}

impl Extra {
    /// Reads it, where the configuration has routes or `ruled` is not empty.
    pub fn read(
        netlink: &mut Netlink,
        pod: Option<&End>,
        plan: &Plan,
        ruled: Vec<IpAddr>,
    ) -> Result<Self, twill_linux::Error> {
        let mut extra = Self { ruled, ..Self::default() };
        let Some(pod) = pod else { return Ok(extra) };
        if !extra.ruled.is_empty() || !plan.routes.is_empty() {
            extra.routes = route::detailed::of(netlink, pod.link.index)?;
        }
        for ipv6 in [false, true] {
            if extra.ruled.iter().any(|ip| ip.is_ipv6() == ipv6) {
                extra.rules.extend(rule::dump(netlink, ipv6)?);
            }
        }
        Ok(extra)
    }

    /// What is wrong with the routes of the configuration and with the own tables.
    fn differences(&self, plan: &Plan, pod: Device) -> Vec<String> {
        let own = |ip: &IpAddr| further::differences(*ip, pod, &self.rules, &self.routes);
        let mut wrong: Vec<String> = self.ruled.iter().flat_map(own).collect();
        for (_, wanted) in plan.own_routes() {
            let (to, by) = (wanted.destination, gateway(wanted.destination.ip()));
            let leads = |seen: &&SeenDetail| {
                let table = wanted.table.unwrap_or(route::detailed::MAIN);
                let priority = wanted.priority.is_none_or(|priority| priority == 0 || priority == seen.metric);
                (seen.destination, seen.table, seen.gateway) == (to, table, Some(by)) && priority
            };
            let table = wanted.table.map(|table| format!(" table {table}")).unwrap_or_default();
            let name = pod.name;
            let Some(seen) = self.routes.iter().find(leads) else {
                wrong.push(format!("the pod has no route {to} via {by} dev {name}{table}"));
                continue;
            };
            for (what, wanted, found) in [("mtu", wanted.mtu, seen.mtu), ("advmss", wanted.advmss, seen.advmss)] {
                if wanted.is_some() && wanted != found {
                    let found = found.map_or("none".to_owned(), |found| found.to_string());
                    let wanted = wanted.unwrap_or_default();
                    wrong.push(format!("the pod's route {to}{table} has the {what} {found} instead of {wanted}"));
                }
            }
        }
        wrong
    }
}

/// IFLA_LINK: for a veth the number of its other end.
fn peer(netlink: &mut Netlink, index: u32) -> Result<Option<u32>, twill_linux::Error> {
    let mut request = LinkMessage::default();
    request.header.index = index;
    let Some(RouteNetlinkMessage::NewLink(link)) = netlink.one(RouteNetlinkMessage::GetLink(request))? else {
        return Ok(None);
    };
    Ok(link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Link(index) => Some(*index),
        _ => None,
    }))
}

/// What is wrong on the node, a sentence each. `pod` is the pod's end, where it was found.
pub fn host_differences(plan: &Plan, host: Option<&End>, pod: Option<&End>) -> Vec<String> {
    let name = host_ifname(plan.hash);
    let Some(end) = host else { return vec![format!("the node has no interface {name}")] };
    if let Some(why) = foreign(&end.link, plan.hash, Proof::Name) {
        return vec![format!("the node's interface {name} is not this attachment's: {why}")];
    }
    let mut wrong = link_differences(&end.link, "the node's", HOST_MAC);
    let alias = Alias { ruled: end.ruled(), filtered: end.filtered(), ..plan.alias() }.to_string();
    if end.link.alias.as_deref() != Some(alias.as_str()) {
        let found = end.link.alias.as_deref().unwrap_or_default();
        wrong.push(format!("the node's interface {name} has the alias {found:?} instead of {alias:?}"));
    }
    if pod.is_some_and(|pod| end.peer != Some(pod.link.index) || pod.peer != Some(end.link.index)) {
        wrong.push(format!(
            "the node's interface {name} and the pod's {} are not the two ends of one veth",
            plan.ifname
        ));
    }
    for ip in &plan.addresses {
        let wanted = message::host_route(*ip, name);
        let leads = |seen: &SeenRoute| {
            seen.key == wanted.key
                && seen.protocol == wanted.protocol
                && seen.target == SeenTarget::Device(end.link.index)
        };
        if !end.routes.iter().any(leads) {
            wrong.push(format!("the node has no route {wanted}"));
        }
        if !end.has_neighbour(*ip, plan.mac) {
            wrong.push(format!("the node has no permanent neighbour {ip} lladdr {} dev {name}", plan.mac));
        }
    }
    wrong
}

/// What is wrong with the filter of a host end, whose alias says that it has one.
pub fn filter_difference(netlink: &mut Netlink, plan: &Plan, end: &End) -> Result<Option<String>, twill_linux::Error> {
    let wanted = own_sources(&plan.addresses);
    let is_wrong = end.filtered() && source::look(netlink, end.link.index, &wanted)? != Filter::Stands;
    let name = end.link.name;
    Ok(is_wrong.then(|| format!("the node's interface {name} has no filter of what the pod sends by other addresses")))
}

/// What is wrong in the pod, a sentence each.
pub fn pod_differences(plan: &Plan, pod: Option<&End>, extra: &Extra) -> Vec<String> {
    let name = plan.ifname;
    let Some(end) = pod else { return vec![format!("the pod has no interface {name}")] };
    let mut wrong = link_differences(&end.link, "the pod's", plan.mac);
    for ip in &plan.addresses {
        match end.addresses.iter().find(|seen| seen.cidr.ip() == *ip) {
            None => wrong.push(format!("the pod has no address {ip} on {name}")),
            Some(seen) if !seen.usable => wrong.push(format!("the pod's address {ip} is tentative or a duplicate")),
            Some(_) => {}
        }
    }
    // Two addresses of a family share gateway and routes: each is named once.
    let gateways: BTreeSet<_> = plan.addresses.iter().map(|ip| gateway(*ip)).collect();
    for gateway in gateways {
        let ipv6 = gateway.is_ipv6();
        let further = extra.ruled.iter().any(|ip| ip.is_ipv6() == ipv6) || plan.asked_default(ipv6).is_some();
        for wanted in message::pod_routes(ipv6, name).into_iter().filter(|_| !further) {
            let by = match wanted.target {
                Target::Gateway { gateway, .. } => Some(gateway),
                _ => None,
            };
            let leads = |seen: &SeenRoute| {
                // Whatever its metric: it depends on what the pod had before, and another plugin may have changed it.
                seen.key.destination == wanted.key.destination && seen.target.gateway() == by
            };
            if !end.routes.iter().any(leads) {
                let by = by.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
                wrong.push(format!("the pod has no route {}{by} dev {name}", wanted.key.destination));
            }
        }
        if !end.has_neighbour(gateway, HOST_MAC) {
            wrong.push(format!("the pod has no permanent neighbour {gateway} lladdr {HOST_MAC} dev {name}"));
        }
    }
    wrong.extend(extra.differences(plan, end.device()));
    wrong
}

fn link_differences(link: &SeenLink, whose: &str, mac: MacAddr) -> Vec<String> {
    let mut wrong = Vec::new();
    if !link.up {
        wrong.push(format!("{whose} interface {} is down", link.name));
    }
    if link.mac != Some(mac) {
        let found = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
        wrong.push(format!("{whose} interface {} has the MAC {found} instead of {mac}", link.name));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipnetwork::IpNetwork;
    use twill_ipam::KeyHash;
    use twill_linux::state::{METRIC, PROTOCOL_POD, RouteKey};

    fn link(index: u32, name: &str, mac: MacAddr) -> SeenLink {
        SeenLink {
            index,
            name: IfName::new(name).unwrap(),
            kind: Some("veth".to_owned()),
            mac: Some(mac),
            mtu: 1500,
            up: true,
            running: true,
            carrier: true,
            alias: None,
        }
    }

    const POD_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

    fn plan() -> Plan {
        Plan {
            hash: KeyHash(1),
            ifname: IfName::new("eth0").unwrap(),
            mac: POD_MAC,
            answers: false,
            mtu: 1500,
            addresses: vec!["10.42.0.5".parse().unwrap(), "fd00::5".parse().unwrap()],
            unchecked: false,
            sources: None,
            routes: vec![],
        }
    }

    fn route(destination: &str, metric: u32, protocol: u8, target: SeenTarget) -> SeenRoute {
        SeenRoute {
            key: RouteKey { destination: destination.parse().unwrap(), metric },
            protocol,
            target,
            source: None,
            tos: 0,
        }
    }

    fn neighbour(ip: &str, mac: MacAddr) -> SeenNeighbour {
        SeenNeighbour { index: 7, ip: ip.parse().unwrap(), mac: Some(mac), permanent: true }
    }

    fn host() -> End {
        End {
            link: SeenLink { alias: Some(plan().alias().to_string()), ..link(7, "tw0000000000001", HOST_MAC) },
            peer: Some(2),
            addresses: vec![],
            routes: ["10.42.0.5/32", "fd00::5/128"]
                .map(|to| route(to, METRIC, PROTOCOL_POD, SeenTarget::Device(7)))
                .into(),
            neighbours: vec![neighbour("10.42.0.5", POD_MAC), neighbour("fd00::5", POD_MAC)],
        }
    }

    fn pod() -> End {
        let by = |gateway: &str| SeenTarget::Gateway { gateway: gateway.parse().unwrap(), index: 2, onlink: false };
        let address = |cidr: &str| SeenAddress::plain(2, cidr.parse::<IpNetwork>().unwrap());
        End {
            link: link(2, "eth0", POD_MAC),
            peer: Some(7),
            addresses: vec![address("10.42.0.5/32"), address("fd00::5/128")],
            routes: vec![
                route("169.254.1.1/32", 0, 3, SeenTarget::Device(2)),
                route("0.0.0.0/0", 0, 3, by("169.254.1.1")),
                route("::/0", 1024, 3, by("fe80::1")),
            ],
            neighbours: vec![neighbour("169.254.1.1", HOST_MAC), neighbour("fe80::1", HOST_MAC)],
        }
    }

    fn host_wrong<R>(change: impl FnOnce(&mut End) -> R) -> String {
        let mut host = host();
        change(&mut host);
        host_differences(&plan(), Some(&host), Some(&pod())).join("; ")
    }

    fn pod_wrong<R>(change: impl FnOnce(&mut End) -> R) -> String {
        let mut pod = pod();
        change(&mut pod);
        pod_differences(&plan(), Some(&pod), &Extra::default()).join("; ")
    }

    #[test]
    fn what_an_add_makes_is_no_difference() {
        assert_eq!(host_wrong(|_| {}), "");
        assert_eq!(pod_wrong(|_| {}), "");
    }

    #[test]
    fn each_missing_thing_on_the_node_is_named() {
        assert_eq!(host_differences(&plan(), None, None), ["the node has no interface tw0000000000001"]);
        assert!(host_wrong(|end| end.link.up = false).contains("is down"));
        assert!(host_wrong(|end| end.link.mac = Some(POD_MAC)).contains("has the MAC 02:00:00:00:00:09"));
        assert!(host_wrong(|end| end.link.alias = None).contains("alias"));
        assert!(host_wrong(|end| end.link.kind = None).contains("not this attachment's"));
        assert!(host_wrong(|end| end.peer = Some(3)).contains("two ends of one veth"));
        assert!(host_wrong(|end| end.routes.remove(0)).contains("no route 10.42.0.5"));
        assert!(host_wrong(|end| end.routes[1].protocol = 3).contains("no route fd00::5"));
        assert!(host_wrong(|end| end.neighbours.remove(1)).contains("no permanent neighbour fd00::5"));
        assert!(host_wrong(|end| end.neighbours[0].permanent = false).contains("no permanent neighbour 10.42.0.5"));
    }

    #[test]
    fn each_missing_thing_in_the_pod_is_named() {
        assert_eq!(pod_differences(&plan(), None, &Extra::default()), ["the pod has no interface eth0"]);
        assert!(pod_wrong(|end| end.link.up = false).contains("the pod's interface eth0 is down"));
        assert!(pod_wrong(|end| end.link.mac = None).contains("instead of 02:00:00:00:00:09"));
        assert!(pod_wrong(|end| end.addresses.remove(0)).contains("no address 10.42.0.5"));
        assert!(pod_wrong(|end| end.addresses[1].usable = false).contains("fd00::5 is tentative"));
        assert!(pod_wrong(|end| end.routes.remove(0)).contains("no route 169.254.1.1/32"));
        assert!(pod_wrong(|end| end.routes.remove(1)).contains("no route 0.0.0.0/0 via 169.254.1.1"));
        assert!(pod_wrong(|end| end.routes.remove(2)).contains("no route ::/0 via fe80::1"));
        assert!(pod_wrong(|end| end.neighbours.remove(1)).contains("no permanent neighbour fe80::1"));
    }

    #[test]
    fn what_later_plugins_of_a_chain_may_change_is_no_difference() {
        assert_eq!(host_wrong(|end| end.link.mtu = 9000), "");
        let more = pod_wrong(|end| {
            end.link.mtu = 1400;
            end.routes[1].key.metric = 100;
            end.routes.push(route("192.0.2.0/24", 0, 3, SeenTarget::Device(2)));
            end.addresses.push(SeenAddress { cidr: "192.0.2.9/24".parse().unwrap(), ..end.addresses[0].clone() });
        });
        assert_eq!(more, "");
    }
}
