//! Routes as a pod may have them: in any table, with metrics of their own. Requests, and what a dump of one device shows.
//!
//! The plugin makes them in pods; the daemon's own are plain ones of the main table.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteScope};
use nix::errno::Errno;

use super::seen;
use crate::netlink::Request;
use crate::state::Route;
use crate::{Error, Netlink};

/// A route with what a plain one does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetailedRoute {
    /// The plain route.
    pub route: Route,
    /// The routing table; the main one where it is absent.
    pub table: Option<u32>,
    /// rtm_scope, where it is not the one that follows from the target.
    pub scope: Option<u8>,
    /// RTAX_MTU, in bytes.
    pub mtu: Option<u32>,
    /// RTAX_ADVMSS, in bytes.
    pub advmss: Option<u32>,
}

/// A route to a device as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenDetail {
    /// The destination.
    pub destination: IpNetwork,
    /// The routing table.
    pub table: u32,
    /// The metric; IPv6 shows 1024 where none was given.
    pub metric: u32,
    /// The gateway, if it has one.
    pub gateway: Option<IpAddr>,
    /// RTAX_MTU, in bytes.
    pub mtu: Option<u32>,
    /// RTAX_ADVMSS, in bytes.
    pub advmss: Option<u32>,
}

/// The main table's number (RT_TABLE_MAIN).
pub const MAIN: u32 = RouteHeader::RT_TABLE_MAIN as u32;

impl From<Route> for DetailedRoute {
    fn from(route: Route) -> Self {
        Self { route, table: None, scope: None, mtu: None, advmss: None }
    }
}

/// Makes a route, exclusively in its table: EEXIST if any route of the same destination and metric stands there.
pub fn add(wanted: &DetailedRoute, index: u32) -> Request {
    let mut request = super::add(&wanted.route, index);
    let RouteNetlinkMessage::NewRoute(message) = &mut request.message else { return request };
    if let Some(table) = wanted.table {
        // Only the attribute has room for all of it.
        message.header.table = RouteHeader::RT_TABLE_UNSPEC;
        message.attributes.push(RouteAttribute::Table(table));
    }
    if let Some(scope) = wanted.scope {
        message.header.scope = RouteScope::from(scope);
    }
    let metrics: Vec<RouteMetric> =
        wanted.mtu.map(RouteMetric::Mtu).into_iter().chain(wanted.advmss.map(RouteMetric::Advmss)).collect();
    if !metrics.is_empty() {
        message.attributes.push(RouteAttribute::Metrics(metrics));
    }
    let wanted = wanted.clone();
    Request::new(request.message, request.flags, fmt::from_fn(move |f| write!(f, "add route {wanted}")))
}

/// The routes of all tables that lead to one device; none if there is no such device.
pub fn of(netlink: &mut Netlink, index: u32) -> Result<Vec<SeenDetail>, Error> {
    let mut routes = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        request.attributes.push(RouteAttribute::Oif(index));
        let found = match netlink.dump(RouteNetlinkMessage::GetRoute(request)) {
            Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::ENODEV | Errno::EOPNOTSUPP)) => continue,
            found => found?,
        };
        routes.extend(found.into_iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewRoute(message) => detail(message),
            _ => None,
        }));
    }
    Ok(routes)
}

fn detail(message: RouteMessage) -> Option<SeenDetail> {
    let header = message.header;
    let metrics = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Metrics(metrics) => Some(metrics.clone()),
        _ => None,
    });
    let parts = seen::parts(message.attributes);
    let destination = parts.destination.or_else(|| seen::unspecified(header.address_family))?;
    let mut seen = SeenDetail {
        destination: IpNetwork::new(destination, header.destination_prefix_length).ok()?,
        table: parts.table.unwrap_or(header.table.into()),
        metric: parts.metric,
        gateway: parts.gateway,
        mtu: None,
        advmss: None,
    };
    for metric in metrics.into_iter().flatten() {
        match metric {
            RouteMetric::Mtu(mtu) => seen.mtu = Some(mtu),
            RouteMetric::Advmss(advmss) => seen.advmss = Some(advmss),
            _ => {}
        }
    }
    Some(seen)
}

impl fmt::Display for DetailedRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.route)?;
        let parts = [("table", self.table), ("mtu", self.mtu), ("advmss", self.advmss)];
        for (name, value) in parts {
            if let Some(value) = value {
                write!(f, " {name} {value}")?;
            }
        }
        self.scope.map_or(Ok(()), |scope| write!(f, " scope {scope}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IfName;
    use crate::state::{RouteKey, Target};
    use netlink_packet_core::Emitable;

    #[test]
    fn a_table_beyond_eight_bits_and_metrics_stand_in_attributes() {
        let device = IfName::new("eth1").expect("a valid name");
        let target = Target::Gateway { gateway: [169, 254, 1, 1].into(), device, onlink: true };
        let key = RouteKey { destination: "0.0.0.0/0".parse().expect("a prefix"), metric: 0 };
        let route = Route { key, protocol: 3, target, source: None };
        let wanted = DetailedRoute { table: Some(117_000_002), mtu: Some(1400), ..route.into() };
        let request = add(&wanted, 2);
        let mut bytes = vec![0; request.message.buffer_len()];
        request.message.emit(&mut bytes);
        // AF_INET, /0, unspec, boot, universe, unicast, RTNH_F_ONLINK; RTA_DST, RTA_GATEWAY, RTA_OIF, RTA_TABLE, RTA_METRICS
        let mut expected = vec![2, 0, 0, 0, 0, 3, 0, 1, 4, 0, 0, 0, 8, 0, 1, 0, 0, 0, 0, 0, 8, 0, 5, 0, 169, 254, 1, 1];
        expected.extend([8, 0, 4, 0, 2, 0, 0, 0, 8, 0, 15, 0]);
        expected.extend(117_000_002_u32.to_ne_bytes());
        expected.extend([12, 0, 8, 0, 8, 0, 2, 0]);
        expected.extend(1400_u32.to_ne_bytes());
        assert_eq!(bytes, expected);
        let text = request.attempt.to_string();
        assert!(text.ends_with("table 117000002 mtu 1400"), "{text}");
    }
}
