//! The table of routes: requests, and what a dump shows. The daemon touches the main table only.

pub mod detailed;
mod lookup;
mod seen;
mod target;
mod way;

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHop, RouteNextHopFlags, RouteProtocol, RouteScope,
    RouteType, RouteVia,
};

use crate::netlink::Request;
use crate::state::{Route, RouteKey};
use crate::table::family;

pub use detailed::{DetailedRoute, SeenDetail};
pub use lookup::{Decision, Flow, Found, look_up};
pub use seen::{Filter, SeenRoute, destinations, dump, dump_of, of, of_pods};
pub(crate) use seen::{asked, seen};
pub use target::{SeenHop, SeenTarget};
pub use way::{Way, is_local, to};

/// Makes a route, exclusively: EEXIST if any route of the same destination and metric stands, whosever it is. `index` is
/// that of the target's device, of each if there are several, and is not looked at where the target has none.
pub fn add(route: &Route, index: u32) -> Request {
    let at = SeenTarget::of(&route.target, |_| Some(index)).unwrap_or(SeenTarget::Unreachable);
    add_at(route, &at)
}

/// The same with `at` for its target.
pub(crate) fn add_at(route: &Route, at: &SeenTarget) -> Request {
    request(route, at, NLM_F_CREATE | NLM_F_EXCL, "add")
}

/// Puts a route, with `at` for its target, in place of the one with the same destination and metric, whosever that is: only
/// for one that a dump showed to be ours. Of several ways, and by several ways, at once: whatever is sent meanwhile finds one
/// (`fib6_add_rt2node` in net/ipv6/ip6_fib.c replaces by the first way and adds the others).
pub(crate) fn replace_at(route: &Route, at: &SeenTarget) -> Request {
    request(route, at, NLM_F_CREATE | NLM_F_REPLACE, "replace")
}

/// Removes the route of this destination, metric and protocol; ESRCH if there is none. It is told from others' by its
/// protocol, and by its device where one is given.
pub fn remove(key: RouteKey, protocol: u8, index: Option<u32>) -> Request {
    let mut message = message(key, protocol);
    // RT_SCOPE_NOWHERE and type 0 match any (fib_table_delete in net/ipv4/fib_trie.c); IPv6 looks at neither.
    message.header.scope = RouteScope::NoWhere;
    message.attributes.extend(index.map(RouteAttribute::Oif));
    Request::new(
        RouteNetlinkMessage::DelRoute(message),
        0,
        fmt::from_fn(move |f| write!(f, "delete route {} proto {protocol} metric {}", key.destination, key.metric)),
    )
}

/// Removes a route that stands as a target was resolved: of several ways all, which IPv6 does where no gateway is named
/// (`__ip6_del_rt_siblings` in net/ipv6/route.c).
pub(crate) fn remove_at(route: &Route, at: &SeenTarget) -> Request {
    remove(route.key, route.protocol, at.only_index())
}

/// Removes just that route, of a protocol of ours.
pub(crate) fn remove_seen(seen: &SeenRoute) -> Request {
    let mut request = remove(seen.key, seen.protocol, seen.target.only_index());
    if let RouteNetlinkMessage::DelRoute(message) = &mut request.message {
        message.header.tos = seen.tos;
    }
    request
}

fn request(route: &Route, at: &SeenTarget, flags: u16, verb: &'static str) -> Request {
    let mut message = message(route.key, route.protocol);
    let destination = route.key.destination;
    message.header.kind = RouteType::Unicast;
    match at {
        SeenTarget::Unreachable => message.header.kind = RouteType::Unreachable,
        SeenTarget::Device(index) => {
            message.header.scope = RouteScope::Link;
            message.attributes.push(RouteAttribute::Oif(*index));
        }
        SeenTarget::Gateway { gateway, index, onlink } => {
            if *onlink {
                message.header.flags = RouteFlags::Onlink;
            }
            message.attributes.push(gateway_attribute(destination, *gateway));
            message.attributes.push(RouteAttribute::Oif(*index));
        }
        SeenTarget::Several(hops) => {
            let hops = hops.iter().map(|hop| next_hop(destination, *hop)).collect();
            message.attributes.push(RouteAttribute::MultiPath(hops));
        }
        // No target is resolved as one. The kernel would refuse a route to nowhere.
        SeenTarget::Other { .. } => {}
    }
    message.attributes.extend(route.source.map(|source| RouteAttribute::PrefSource(source.into())));
    let route = route.clone();
    let attempt = fmt::from_fn(move |f| write!(f, "{verb} route {route}"));
    Request::new(RouteNetlinkMessage::NewRoute(message), flags, attempt)
}

fn message(key: RouteKey, protocol: u8) -> RouteMessage {
    let destination = key.destination;
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family(destination.ip()),
        destination_prefix_length: destination.prefix(),
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::from(protocol),
        ..RouteHeader::default()
    };
    message.attributes.push(RouteAttribute::Destination(destination.ip().into()));
    if key.metric != 0 {
        message.attributes.push(RouteAttribute::Priority(key.metric));
    }
    message
}

/// One of several ways, of weight 1.
fn next_hop(destination: IpNetwork, hop: SeenHop) -> RouteNextHop {
    let mut next_hop = RouteNextHop::default();
    next_hop.flags.set(RouteNextHopFlags::Onlink, hop.onlink);
    next_hop.interface_index = hop.index;
    next_hop.attributes.push(gateway_attribute(destination, hop.gateway));
    next_hop
}

/// An IPv4 route may lead through an IPv6 gateway (RTA_VIA, RFC 9229).
fn gateway_attribute(destination: IpNetwork, gateway: IpAddr) -> RouteAttribute {
    match (destination, gateway) {
        (IpNetwork::V4(_), IpAddr::V6(gateway)) => RouteAttribute::Via(RouteVia::Inet6(gateway)),
        (_, gateway) => RouteAttribute::Gateway(gateway.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IfName;
    use crate::state::{Hop, METRIC, PROTOCOL_CLUSTER, Target};
    use netlink_packet_core::Emitable;

    fn bytes(request: &Request) -> Vec<u8> {
        let mut bytes = vec![0; request.message.buffer_len()];
        request.message.emit(&mut bytes);
        bytes
    }

    fn route(destination: &str, target: Target) -> Route {
        let destination = destination.parse().expect("a prefix");
        Route { key: RouteKey { destination, metric: METRIC }, protocol: PROTOCOL_CLUSTER, target, source: None }
    }

    #[test]
    fn a_route_onlink_is_exclusive_and_in_the_main_table() {
        let device = IfName::new("vx").expect("a valid name");
        let target = Target::Gateway { gateway: [10, 42, 1, 0].into(), device, onlink: true };
        let request = add(&route("10.42.1.0/26", target), 3);
        // AF_INET, /26, main, protocol 116, scope universe, unicast, RTNH_F_ONLINK; RTA_DST, RTA_PRIORITY, RTA_GATEWAY, RTA_OIF
        let mut expected = vec![2, 26, 0, 0, 254, 116, 0, 1, 4, 0, 0, 0, 8, 0, 1, 0, 10, 42, 1, 0, 8, 0, 6, 0];
        expected.extend(METRIC.to_ne_bytes());
        expected.extend([8, 0, 5, 0, 10, 42, 1, 0, 8, 0, 4, 0, 3, 0, 0, 0]);
        assert_eq!(bytes(&request), expected);
        assert_eq!(request.flags, NLM_F_CREATE | NLM_F_EXCL);
    }

    #[test]
    fn a_removal_names_the_protocol_so_that_it_hits_none_of_others() {
        let key = route("fd42::/64", Target::Unreachable).key;
        let mut expected = vec![10, 64, 0, 0, 254, 116, 255, 0, 0, 0, 0, 0, 20, 0, 1, 0, 0xfd, 0x42];
        expected.extend([0; 14]);
        expected.extend([8, 0, 6, 0]);
        expected.extend(METRIC.to_ne_bytes());
        assert_eq!(bytes(&remove(key, PROTOCOL_CLUSTER, None)), expected);
    }

    #[test]
    fn what_is_asked_for_reads_as_what_will_be_seen() {
        let device = IfName::new("vx").expect("a valid name");
        let request = add(&route("10.42.1.0/26", Target::Device(device)), 3);
        let seen = asked(&request.message).expect("it makes a route");
        assert_eq!((seen.key.metric, seen.protocol, seen.target), (METRIC, PROTOCOL_CLUSTER, SeenTarget::Device(3)));
    }

    /// Two ways, given in the wrong order, over devices of which the later one has the lower number.
    fn several(gateways: [&str; 2]) -> (Target, SeenTarget) {
        let hop = |(gateway, device, onlink): (&str, &str, bool)| Hop {
            gateway: gateway.parse().expect("an address"),
            device: IfName::new(device).expect("a valid name"),
            onlink,
        };
        let target = Target::by([(gateways[1], "eth1", true), (gateways[0], "eth0", false)].map(hop));
        let target = target.expect("there are some");
        let find = |device: IfName| Some(if device.as_str() == "eth0" { 9 } else { 3 });
        let at = SeenTarget::of(&target, find).expect("all are found");
        (target, at)
    }

    #[test]
    fn several_ways_are_one_attribute_with_a_header_for_each() {
        let (target, at) = several(["192.0.2.2", "192.0.2.3"]);
        let route = route("10.42.1.0/26", target);
        let mut expected = vec![2, 26, 0, 0, 254, 116, 0, 1, 0, 0, 0, 0, 8, 0, 1, 0, 10, 42, 1, 0, 8, 0, 6, 0];
        expected.extend(METRIC.to_ne_bytes());
        // RTA_MULTIPATH of two struct rtnexthop: length, flags (the second RTNH_F_ONLINK), weight less one, device; RTA_GATEWAY
        expected.extend([36, 0, 9, 0]);
        expected.extend([16, 0, 0, 0, 9, 0, 0, 0, 8, 0, 5, 0, 192, 0, 2, 2]);
        expected.extend([16, 0, 4, 0, 3, 0, 0, 0, 8, 0, 5, 0, 192, 0, 2, 3]);
        assert_eq!(bytes(&add_at(&route, &at)), expected);
        assert_eq!(bytes(&replace_at(&route, &at)), expected);
        assert_eq!(replace_at(&route, &at).flags, NLM_F_CREATE | NLM_F_REPLACE);
        // All go with a removal that names none.
        assert_eq!(bytes(&remove_at(&route, &at)), bytes(&remove(route.key, PROTOCOL_CLUSTER, None)));
    }

    #[test]
    fn an_ipv4_route_by_several_ipv6_gateways_has_rta_via_in_each_way() {
        let (target, at) = several(["fe80::2", "fe80::3"]);
        let request = add_at(&route("10.42.1.0/26", target), &at);
        let shown = bytes(&request);
        let mut hop = vec![32, 0, 0, 0, 9, 0, 0, 0, 22, 0, 18, 0, 10, 0, 0xfe, 0x80];
        hop.extend([0; 13]);
        hop.extend([2, 0, 0]);
        assert_eq!(shown[shown.len() - 64..shown.len() - 32], hop);
        assert_eq!(asked(&request.message).expect("it makes a route").target, at);
    }

    #[test]
    fn ways_are_seen_alike_in_any_order_and_whatever_their_links_do_but_not_with_other_weights() {
        let (target, at) = several(["2001:db8::2", "2001:db8::3"]);
        let request = add_at(&route("fd42::/64", target), &at);
        let seen_after = |change: fn(&mut Vec<RouteNextHop>)| {
            let RouteNetlinkMessage::NewRoute(mut message) = request.message.clone() else {
                panic!("it makes a route")
            };
            let Some(RouteAttribute::MultiPath(hops)) = message.attributes.last_mut() else {
                panic!("its ways come last")
            };
            change(hops);
            seen(message).expect("it is of the main table").target
        };
        assert_eq!(seen_after(|hops| hops.reverse()), at);
        assert_eq!(seen_after(|hops| hops[0].flags |= RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown), at);
        let other = SeenTarget::Other {
            gateway: Some("2001:db8::2".parse().expect("an address")),
            index: Some(9),
            onlink: false,
        };
        assert_eq!(seen_after(|hops| hops[1].hops = 1), other);
        assert_eq!(seen_after(|hops| hops[1].attributes.clear()), other);
        assert!(matches!(seen_after(|hops| hops.truncate(1)), SeenTarget::Gateway { index: 9, .. }));
        assert_ne!(seen_after(|hops| hops[1].flags = RouteNextHopFlags::empty()), at);
    }
}
