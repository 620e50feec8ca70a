//! What the kernel shows of a route.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHop, RouteProtocol, RouteType,
    RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;

use super::target::{SeenTarget, unicast};
use crate::state::{PROTOCOL_POD, RouteKey};
use crate::{Error, Netlink};

/// A route of the main table as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenRoute {
    /// Destination and metric; IPv6 shows 1024 where none was given.
    pub key: RouteKey,
    /// rtm_tos: part of what tells IPv4 routes apart, and zero in all of ours.
    pub tos: u8,
    /// rtm_protocol.
    pub protocol: u8,
    /// Where to.
    pub target: SeenTarget,
    /// RTA_PREFSRC.
    pub source: Option<IpAddr>,
}

/// Which routes of the main table a dump shows; the kernel does the sorting.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter {
    /// IPv6, else IPv4.
    pub ipv6: bool,
    /// rtm_protocol.
    pub protocol: Option<u8>,
    /// The number of the outgoing device.
    pub index: Option<u32>,
}

/// The routes that lead to one device, both families; none if there is no such device.
pub fn of(netlink: &mut Netlink, index: u32) -> Result<Vec<SeenRoute>, Error> {
    let mut found = Vec::new();
    for ipv6 in [false, true] {
        found.extend(dump(netlink, Filter { ipv6, protocol: None, index: Some(index) })?);
    }
    Ok(found)
}

/// The routes to pods, whoever's, both families.
pub fn of_pods(netlink: &mut Netlink) -> Result<Vec<SeenRoute>, Error> {
    let mut found = Vec::new();
    for ipv6 in [false, true] {
        found.extend(dump(netlink, Filter { ipv6, protocol: Some(PROTOCOL_POD), index: None })?);
    }
    Ok(found)
}

/// Where those of `routes` that lead to one device go.
pub fn destinations(routes: &[SeenRoute], index: u32) -> Vec<IpAddr> {
    let led = routes.iter().filter(|route| route.target.indices().any(|led| led == index));
    led.map(|route| route.key.destination.ip()).collect()
}

/// The routes that pass the filter.
pub fn dump(netlink: &mut Netlink, filter: Filter) -> Result<Vec<SeenRoute>, Error> {
    dump_of(netlink, filter, usize::MAX, Some)
}

/// What `keep` makes of the routes that pass the filter, of the first `most` of which it makes something. No others are held.
pub fn dump_of<T>(
    netlink: &mut Netlink,
    filter: Filter,
    most: usize,
    keep: impl Fn(SeenRoute) -> Option<T>,
) -> Result<Vec<T>, Error> {
    let mut request = RouteMessage::default();
    request.header.address_family = if filter.ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    request.header.table = RouteHeader::RT_TABLE_MAIN;
    request.header.protocol = RouteProtocol::from(filter.protocol.unwrap_or(0));
    request.attributes.extend(filter.index.map(RouteAttribute::Oif));
    let kept = |message| match message {
        RouteNetlinkMessage::NewRoute(message) => seen(message).and_then(&keep),
        _ => None,
    };
    match netlink.dump_of(RouteNetlinkMessage::GetRoute(request), most, kept) {
        // ENOENT: the table was always empty, so it is not there yet. The others: no such device, no IPv6.
        Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::ENODEV | Errno::EOPNOTSUPP)) => {
            Ok(Vec::new())
        }
        found => found,
    }
}

/// The route that a request makes, as it will be seen.
pub(crate) fn asked(request: &RouteNetlinkMessage) -> Option<SeenRoute> {
    match request {
        RouteNetlinkMessage::NewRoute(message) => seen(message.clone()),
        _ => None,
    }
}

/// The attributes of a route that we look at.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) destination: Option<IpAddr>,
    pub(super) gateway: Option<IpAddr>,
    pub(super) index: Option<u32>,
    pub(super) metric: u32,
    pub(super) source: Option<IpAddr>,
    pub(super) table: Option<u32>,
    pub(super) hops: Vec<RouteNextHop>,
    unusual: bool,
}

/// What a message shows, or asks for; `None` outside of the main table.
pub(crate) fn seen(message: RouteMessage) -> Option<SeenRoute> {
    let header = message.header;
    let parts = parts(message.attributes);
    if parts.table.unwrap_or(header.table.into()) != u32::from(RouteHeader::RT_TABLE_MAIN) {
        return None;
    }
    let destination = parts.destination.or_else(|| unspecified(header.address_family))?;
    let unusual = parts.unusual || header.tos != 0 || header.source_prefix_length != 0;
    let target = match header.kind {
        // IPv6 shows a refusing route with a device, lo, that nobody asked for (ip6_route_info_create).
        RouteType::Unreachable if !unusual => SeenTarget::Unreachable,
        RouteType::Unicast => unicast(&parts, header.flags.contains(RouteFlags::Onlink), unusual),
        _ => SeenTarget::Other { gateway: None, index: None, onlink: false },
    };
    Some(SeenRoute {
        key: RouteKey {
            destination: IpNetwork::new(destination, header.destination_prefix_length).ok()?,
            metric: parts.metric,
        },
        tos: header.tos,
        protocol: header.protocol.into(),
        target,
        source: parts.source,
    })
}

/// What a default route, which the kernel shows without a destination, leads to.
pub(super) fn unspecified(family: AddressFamily) -> Option<IpAddr> {
    match family {
        AddressFamily::Inet => Some(Ipv4Addr::UNSPECIFIED.into()),
        AddressFamily::Inet6 => Some(Ipv6Addr::UNSPECIFIED.into()),
        _ => None,
    }
}

pub(super) fn parts(attributes: Vec<RouteAttribute>) -> Parts {
    let mut parts = Parts::default();
    for attribute in attributes {
        match attribute {
            RouteAttribute::Destination(address) => parts.destination = ip(&address),
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => parts.gateway = gateway(&attribute),
            RouteAttribute::Oif(index) => parts.index = Some(index),
            RouteAttribute::Priority(metric) => parts.metric = metric,
            RouteAttribute::PrefSource(address) => parts.source = ip(&address),
            RouteAttribute::Table(table) => parts.table = Some(table),
            RouteAttribute::MultiPath(hops) => parts.hops = hops,
            RouteAttribute::NhId(_) | RouteAttribute::Encap(_) | RouteAttribute::Metrics(_) => parts.unusual = true,
            _ => {}
        }
    }
    parts
}

pub(super) fn gateway(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        RouteAttribute::Via(RouteVia::Inet(gateway)) => Some((*gateway).into()),
        RouteAttribute::Via(RouteVia::Inet6(gateway)) => Some((*gateway).into()),
        _ => None,
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

impl fmt::Display for SeenRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, target, protocol, .. } = self;
        match target {
            SeenTarget::Unreachable => write!(f, "unreachable {}", key.destination)?,
            _ => write!(f, "{}", key.destination)?,
        }
        let several = match target {
            SeenTarget::Several(hops) => hops.as_slice(),
            _ => &[],
        };
        if several.is_empty() {
            target.gateway().map_or(Ok(()), |gateway| write!(f, " via {gateway}"))?;
            target.index().map_or(Ok(()), |index| write!(f, " dev #{index}"))?;
        }
        write!(f, " proto {protocol} metric {}", key.metric)?;
        several.iter().try_for_each(|hop| write!(f, " {hop}"))
    }
}
