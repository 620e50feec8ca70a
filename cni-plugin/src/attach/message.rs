//! The netlink requests that make an attachment. Pure: a plan in, requests out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use twill_linux::netlink::Request;
use twill_linux::state::{Address, METRIC, Neighbour, PROTOCOL_POD, Route, RouteKey, Target};
use twill_linux::table::link::{self, Device, Ipv4Setting, Veth, VethEnd};
use twill_linux::table::route::SeenRoute;
use twill_linux::table::{address, neighbour, route};
use twill_linux::{IfName, MacAddr};

use super::{HOST_MAC, Plan, gateway, host_ifname};

/// The protocol of routes that no daemon made (RTPROT_BOOT): what `ip route` itself uses, for the pod is not ours.
const PROTOCOL_BOOT: u8 = 3;
/// The metric that an IPv6 route without one is shown with (IP6_RT_PRIO_USER, include/net/ip6_fib.h); it is the worst
/// one that a route of the first interface has.
const METRIC_UNSET_V6: u32 = 1024;

/// The pair: names, MACs, MTU, the pod's end already in its namespace; on the host's end alias, IPv4 forwarding, and no
/// link-local address (the gateway is a permanent neighbour of the pod and needs no address here).
pub(super) fn pair(plan: &Plan) -> Veth {
    Veth {
        host: VethEnd { name: host_ifname(plan.hash), mac: HOST_MAC, index: 0 },
        peer: VethEnd { name: plan.ifname, mac: plan.mac, index: 0 },
        mtu: plan.mtu,
        alias: Some(plan.alias()),
        ipv4: vec![(Ipv4Setting::Forwarding, 1)],
    }
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

/// The pod's end: up, then for each address the address, the gateway's neighbour, and the routes by it, of that rank.
pub(super) fn configure_pod(plan: &Plan, pod: Device, rank: u32) -> Vec<Request> {
    let mut requests = vec![link::set_up(pod)];
    for ip in &plan.addresses {
        requests.push(address::add(&Address { device: pod.name, cidr: IpNetwork::from(*ip) }, pod.index));
        requests.push(set_neighbour(gateway(*ip), HOST_MAC, pod));
        requests.extend(pod_routes(*ip, pod.name, rank).iter().map(|wanted| route::add(wanted, pod.index)));
    }
    requests
}

/// The routes of a pod with the address `ip`: to the gateway, and by it to everything. An IPv6 gateway is on the link
/// by its kind. `rank` counts the interfaces of a pod: the first keeps the default route.
pub(super) fn pod_routes(ip: IpAddr, device: IfName, rank: u32) -> Vec<Route> {
    let gateway = gateway(ip);
    let route = |destination, target| Route {
        key: RouteKey { destination, metric: metric(rank) },
        protocol: PROTOCOL_BOOT,
        target,
        source: None,
    };
    let default = route(everything(ip), Target::Gateway { gateway, device, onlink: false });
    let link = route(IpNetwork::from(gateway), Target::Device(device));
    if ip.is_ipv4() { vec![link, default] } else { vec![default] }
}

/// The metric of the routes of a pod's interface: none for the first, as its users expect, and for each later one a worse
/// one, also than what the kernel makes of none.
fn metric(rank: u32) -> u32 {
    match rank {
        0 => 0,
        later => METRIC_UNSET_V6 + 100 * later,
    }
}

/// The first rank at which none of the routes that an interface with `addresses` needs stands in the pod's `table`.
pub(super) fn free_rank(addresses: &[IpAddr], device: IfName, table: &[SeenRoute]) -> u32 {
    let shown = |key: RouteKey| match (key.metric, key.destination.is_ipv6()) {
        (0, true) => RouteKey { metric: METRIC_UNSET_V6, ..key },
        _ => key,
    };
    let taken = |rank: &u32| {
        let mut wanted = addresses.iter().flat_map(|ip| pod_routes(*ip, device, *rank));
        wanted.any(|route| table.iter().any(|seen| seen.key == shown(route.key)))
    };
    (0..).find(|rank| !taken(rank)).expect("a table holds fewer routes than there are numbers")
}

/// The destination of a default route of the family of `ip`.
pub(super) fn everything(ip: IpAddr) -> IpNetwork {
    let unspecified = match ip {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    IpNetwork::new(unspecified, 0).expect("0 is a prefix length of both families")
}

fn set_neighbour(ip: IpAddr, mac: MacAddr, device: Device) -> Request {
    neighbour::set(&Neighbour { device: device.name, ip, mac }, device.index)
}
