//! The netlink requests that make an attachment. Pure: a plan in, requests out.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use nix::errno::Errno;
use twill_conf::network::{GATEWAY_V6, everything, gateway};
use twill_linux::netlink::Request;
use twill_linux::state::{Address, METRIC, Neighbour, PROTOCOL_POD, Route, RouteKey, Target};
use twill_linux::table::link::{self, Device, Ipv4Setting, Veth, VethEnd};
use twill_linux::table::route::DetailedRoute;
use twill_linux::table::{address, neighbour, route};
use twill_linux::{IfName, MacAddr};

use crate::error::{Error, POD};
use crate::plan::{HOST_MAC, Plan, host_ifname};

/// The protocol of routes that no daemon made (RTPROT_BOOT): what `ip route` itself uses, for the pod is not ours.
pub(super) const PROTOCOL_BOOT: u8 = 3;

/// The pair: names, MACs, MTU, the pod's end already in its namespace; on the host's end alias, IPv4 forwarding, and no
/// link-local address (the gateway is a permanent neighbour of the pod and needs no address here).
pub(super) fn pair(plan: &Plan) -> Veth {
    let mut ipv4 = vec![(Ipv4Setting::Forwarding, 1)];
    if plan.answers {
        ipv4.push((Ipv4Setting::ProxyArp, 1));
    }
    Veth {
        host: VethEnd { name: host_ifname(plan.hash), mac: HOST_MAC, index: 0 },
        peer: VethEnd { name: plan.ifname, mac: plan.mac, index: 0 },
        mtu: plan.mtu,
        alias: Some(plan.alias().to_string()),
        ipv4,
        sources: plan.sources.clone(),
    }
}

/// What lets the host's end answer for the IPv6 gateway, as `proxy_arp` does for the other. It has no other use.
pub(super) fn answer(host: Device) -> Request {
    address::add(&Address { device: host.name, cidr: IpNetwork::from(IpAddr::V6(GATEWAY_V6)) }, host.index)
}

/// Neighbour and route of one address of the pod on the host's end.
pub(super) fn lead_to_pod(ip: IpAddr, mac: MacAddr, host: Device) -> [Request; 2] {
    [set_neighbour(ip, mac, host), route::add(&host_route(ip, host.name), host.index)]
}

/// The route by which the node reaches `ip`. No source address: with its deletion the route would go.
pub(super) fn host_route(ip: IpAddr, device: IfName) -> Route {
    let key = RouteKey { destination: IpNetwork::from(ip), metric: METRIC };
    Route { key, protocol: PROTOCOL_POD, target: Target::Device(device), source: None }
}

/// What a request about the pod's end is for: a refusal means something else for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Without it there is no attachment.
    Needed,
    /// A part of the default way of a family. That it exists means that another interface has it.
    Way {
        /// The family.
        ipv6: bool,
        /// The default route itself, not what it stands on.
        default: bool,
    },
    /// The route of that number in the configuration.
    Configured(usize),
}

/// The pod's end: up, then for each address the address, the gateway's neighbour, and the routes by it; then the routes of
/// the configuration.
pub(super) fn configure_pod(plan: &Plan, pod: Device) -> Vec<(Part, Request)> {
    let mut requests = vec![(Part::Needed, link::set_up(pod))];
    for ip in &plan.addresses {
        let address = Address { device: pod.name, cidr: IpNetwork::from(*ip) };
        requests.push((Part::Needed, address::add(&address, pod.index)));
        requests.push((Part::Needed, set_neighbour(gateway(*ip), HOST_MAC, pod)));
        if plan.asked_default(ip.is_ipv6()).is_none() {
            let routes = pod_routes(ip.is_ipv6(), pod.name);
            let way = |route: &Route| Part::Way { ipv6: ip.is_ipv6(), default: route.key.destination.prefix() == 0 };
            requests.extend(routes.iter().map(|wanted| (way(wanted), route::add(wanted, pod.index))));
        }
    }
    let configured = plan.own_routes();
    requests.extend(configured.map(|(place, wanted)| {
        (Part::Configured(place), route::detailed::add(&configured_route(wanted, pod.name), pod.index))
    }));
    requests
}

/// What other interfaces of the pod have already.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// The families whose default route is by another one.
    pub(super) families: BTreeSet<bool>,
    /// The numbers of the routes of the configuration that stand by another one. They have no priority of their own.
    pub(super) routes: Vec<usize>,
}

/// What the outcomes of [`configure_pod`] tell of other interfaces. What else was refused is an error.
pub(super) fn taken(
    plan: &Plan,
    parts: &[Part],
    outcomes: Vec<Result<(), twill_linux::Error>>,
) -> Result<Taken, Error> {
    let mut taken = Taken::default();
    for (part, outcome) in parts.iter().zip(outcomes) {
        let Err(source) = outcome else { continue };
        let exists = source.errno() == Some(Errno::EEXIST);
        match *part {
            Part::Way { ipv6, .. } if exists => {
                taken.families.insert(ipv6);
            }
            // By an interface whose way to the gateway another one has, no default route can be made.
            Part::Way { ipv6, default: true } if taken.families.contains(&ipv6) => {}
            Part::Configured(place) if exists && plan.routes[place].priority.is_none() => taken.routes.push(place),
            Part::Configured(place) if exists => {
                return Err(Error::RouteExists { place, destination: plan.routes[place].destination, source });
            }
            _ => return Err(Error::Kernel { step: POD, source }),
        }
    }
    Ok(taken)
}

/// The routes of a pod's first interface of a family: to the gateway, and by it to everything. An IPv6 gateway is on the
/// link by its kind.
pub(super) fn pod_routes(ipv6: bool, device: IfName) -> Vec<Route> {
    let destination = everything(ipv6);
    let gateway = gateway(destination.ip());
    let route = |destination, target| Route {
        key: RouteKey { destination, metric: 0 },
        protocol: PROTOCOL_BOOT,
        target,
        source: None,
    };
    let default = route(destination, Target::Gateway { gateway, device, onlink: false });
    let link = route(IpNetwork::from(gateway), Target::Device(device));
    if ipv6 { vec![default] } else { vec![link, default] }
}

/// A route of the configuration. It stands on no other: the gateway is on the link because we say so.
pub(super) fn configured_route(wanted: &twill_conf::network::Route, device: IfName) -> DetailedRoute {
    let destination = wanted.destination;
    let gateway = gateway(destination.ip());
    let key = RouteKey { destination, metric: wanted.priority.unwrap_or(0) };
    let target = Target::Gateway { gateway, device, onlink: destination.is_ipv4() };
    DetailedRoute {
        route: Route { key, protocol: PROTOCOL_BOOT, target, source: None },
        table: wanted.table,
        scope: wanted.scope,
        mtu: wanted.mtu,
        advmss: wanted.advmss,
    }
}

fn set_neighbour(ip: IpAddr, mac: MacAddr, device: Device) -> Request {
    neighbour::set(&Neighbour { device: device.name, ip, mac }, device.index)
}
