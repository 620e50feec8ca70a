//! The table of routes: requests, and what a dump shows. The daemon touches the main table only.

pub mod detailed;
mod seen;
mod way;

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType, RouteVia,
};

use crate::netlink::Request;
use crate::state::{Route, RouteKey, Target};
use crate::table::family;

pub use detailed::{DetailedRoute, SeenDetail};
pub use seen::{Filter, SeenRoute, SeenTarget, destinations, dump, of, of_pods};
pub(crate) use seen::{asked, seen};
pub use way::{Way, is_local, to};

/// Makes a route, exclusively: EEXIST if any route of the same destination and metric stands, whosever it is. `index` is
/// that of the target's device, and is not looked at where the target has none.
pub fn add(route: &Route, index: u32) -> Request {
    request(route, index, NLM_F_CREATE | NLM_F_EXCL, "add")
}

/// Puts a route in place of the one with the same destination and metric, whosever that is: only for one that a dump
/// showed to be ours.
pub fn replace(route: &Route, index: u32) -> Request {
    request(route, index, NLM_F_CREATE | NLM_F_REPLACE, "replace")
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

/// Removes just that route, of a protocol of ours.
pub(crate) fn remove_seen(seen: &SeenRoute) -> Request {
    let index = match seen.target {
        SeenTarget::Device(index) | SeenTarget::Gateway { index, .. } => Some(index),
        // Of several ways all go, not only the first.
        SeenTarget::Unreachable | SeenTarget::Other { .. } => None,
    };
    let mut request = remove(seen.key, seen.protocol, index);
    if let RouteNetlinkMessage::DelRoute(message) = &mut request.message {
        message.header.tos = seen.tos;
    }
    request
}

fn request(route: &Route, index: u32, flags: u16, verb: &'static str) -> Request {
    let mut message = message(route.key, route.protocol);
    message.header.kind = RouteType::Unicast;
    match route.target {
        Target::Unreachable => message.header.kind = RouteType::Unreachable,
        Target::Device(_) => {
            message.header.scope = RouteScope::Link;
            message.attributes.push(RouteAttribute::Oif(index));
        }
        Target::Gateway { gateway, onlink, .. } => {
            if onlink {
                message.header.flags = RouteFlags::Onlink;
            }
            message.attributes.push(gateway_attribute(route.key.destination, gateway));
            message.attributes.push(RouteAttribute::Oif(index));
        }
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
    use crate::state::{METRIC, PROTOCOL_CLUSTER};
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
}
