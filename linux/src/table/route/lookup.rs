//! What the kernel itself would do with a packet: its own lookup, by all its rules and tables, and the route that decides.
//!
//! Unlike [`to`](super::to), which finds the way to a neighbour, this looks as the kernel does when it forwards: with the packet's source,
//! and with the interface that it comes in by, which also has the kernel check whether it believes that source there
//! (`ip_route_input_slow` in net/ipv4/route.c). No mark is set.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteNextHop, RouteType,
};
use nix::errno::Errno;

use super::seen::{self, gateway};
use super::target::unicast;
use super::{SeenHop, SeenTarget};
use crate::state::RouteKey;
use crate::table::family;
use crate::{Error, Netlink};

/// A packet that the kernel is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flow {
    /// Its source; none for the kernel's choice, of what the machine sends itself.
    pub source: Option<IpAddr>,
    /// Where it goes.
    pub destination: IpAddr,
    /// The number of the interface that it comes in by; none for what the machine sends itself.
    pub input: Option<u32>,
}

/// What the kernel would do with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It would go on by this route.
    Route(Decision),
    /// It would be refused or dropped, with this error: no route, one that refuses, or a source that is not believed there.
    Refused(Errno),
}

/// The route that decides, and what comes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Destination and metric of the route; IPv6 shows 1024 where none was given.
    pub key: RouteKey,
    /// rtm_protocol: who made it.
    pub protocol: u8,
    /// Where it leads.
    pub target: SeenTarget,
    /// In which table it stands: 254 is the main one, another was chosen by a rule (`ip rule`).
    pub table: u32,
    /// It is delivered to this machine.
    pub local: bool,
    /// The source that the kernel chooses where the packet has none.
    pub source: Option<IpAddr>,
    /// RTAX_MTU, in bytes: of the route, or learned on the path (ICMP "fragmentation needed").
    pub mtu: Option<u32>,
}

/// What the kernel would do with a packet.
pub fn look_up(netlink: &mut Netlink, flow: Flow) -> Result<Found, Error> {
    // The route itself is only in the answer to this; the choice of source and a learned MTU are only in that without it.
    let matched = match ask(netlink, flow, RouteFlags::FibMatch)? {
        Ok(matched) => matched,
        Err(errno) => return Ok(Found::Refused(errno)),
    };
    let answer = match ask(netlink, flow, RouteFlags::empty())? {
        Ok(answer) => answer,
        Err(errno) => return Ok(Found::Refused(errno)),
    };
    Ok(decision(matched, answer).map_or(Found::Refused(Errno::ENETUNREACH), Found::Route))
}

fn ask(netlink: &mut Netlink, flow: Flow, flags: RouteFlags) -> Result<Result<RouteMessage, Errno>, Error> {
    match netlink.one(RouteNetlinkMessage::GetRoute(question(flow, flags))) {
        Ok(Some(RouteNetlinkMessage::NewRoute(found))) => Ok(Ok(found)),
        Ok(_) => Ok(Err(Errno::ENETUNREACH)),
        // Where the kernel does not take the question it says why.
        Err(Error::Refused { errno, message: None, .. }) if refuses(errno) => Ok(Err(errno)),
        Err(error) => Err(error),
    }
}

fn question(Flow { source, destination, input }: Flow, flags: RouteFlags) -> RouteMessage {
    let mut message = RouteMessage::default();
    // IPv6 always tells the table, and takes no other flag for that (inet6_rtm_valid_getroute_req in net/ipv6/route.c).
    let table = if destination.is_ipv4() { RouteFlags::LookupTable } else { RouteFlags::empty() };
    let length = |ip: IpAddr| if ip.is_ipv4() { 32 } else { 128 };
    message.header = RouteHeader {
        address_family: family(destination),
        destination_prefix_length: length(destination),
        source_prefix_length: source.map_or(0, length),
        flags: flags | table,
        ..RouteHeader::default()
    };
    message.attributes.push(RouteAttribute::Destination(destination.into()));
    message.attributes.extend(source.map(|source| RouteAttribute::Source(source.into())));
    message.attributes.extend(input.map(RouteAttribute::Iif));
    message
}

/// What the kernel says of a packet that goes nowhere: by `fib_props` (net/ipv4/fib_semantics.c), and of a source that it does not
/// believe (EINVAL of a martian, EXDEV of reverse path filtering; `fib_validate_source`).
fn refuses(errno: Errno) -> bool {
    let nowhere = [Errno::ENETUNREACH, Errno::EHOSTUNREACH, Errno::EACCES, Errno::EINVAL, Errno::EXDEV];
    nowhere.contains(&errno) || errno == Errno::EOPNOTSUPP
}

fn decision(matched: RouteMessage, answer: RouteMessage) -> Option<Decision> {
    let (header, local) = (matched.header, answer.header.kind == RouteType::Local);
    let refuses = matches!(header.kind, RouteType::Unreachable | RouteType::BlackHole | RouteType::Prohibit);
    let parts = seen::parts(matched.attributes);
    let answered = seen::parts(answer.attributes.clone());
    let destination = parts.destination.or_else(|| seen::unspecified(header.address_family))?;
    let key = RouteKey {
        destination: IpNetwork::new(destination, header.destination_prefix_length).ok()?,
        metric: parts.metric,
    };
    let target = match refuses {
        true => SeenTarget::Unreachable,
        false if parts.hops.len() > 1 => several(&parts.hops),
        false => plain(unicast(&parts, header.flags.contains(RouteFlags::Onlink), false)),
    };
    Some(Decision {
        key,
        protocol: header.protocol.into(),
        target,
        table: parts.table.unwrap_or(header.table.into()),
        local,
        source: answered.source,
        mtu: mtu(&answer.attributes),
    })
}

/// By the ways that have a gateway.
fn several(hops: &[RouteNextHop]) -> SeenTarget {
    let hop = |hop: &RouteNextHop| {
        let gateway = hop.attributes.iter().find_map(gateway)?;
        let onlink = hop.flags.contains(netlink_packet_route::route::RouteNextHopFlags::Onlink);
        Some(SeenHop { gateway, index: hop.interface_index, onlink })
    };
    let mut hops: Vec<SeenHop> = hops.iter().filter_map(hop).collect();
    hops.sort_unstable();
    SeenTarget::Several(hops)
}

/// Where it leads counts here, whatever else is unusual about it.
fn plain(target: SeenTarget) -> SeenTarget {
    match target {
        SeenTarget::Other { gateway: Some(gateway), index: Some(index), onlink } => {
            SeenTarget::Gateway { gateway, index, onlink }
        }
        SeenTarget::Other { gateway: None, index: Some(index), .. } => SeenTarget::Device(index),
        target => target,
    }
}

fn mtu(attributes: &[RouteAttribute]) -> Option<u32> {
    let metrics = attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Metrics(metrics) => Some(metrics),
        _ => None,
    })?;
    metrics.iter().find_map(|metric| match metric {
        RouteMetric::Mtu(mtu) if *mtu > 0 => Some(*mtu),
        _ => None,
    })
}
