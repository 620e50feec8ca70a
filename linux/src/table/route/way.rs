//! The way that the kernel sends to an address, by all its tables and rules.

use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteType};
use nix::errno::Errno;

use super::seen;
use crate::state::{PROTOCOL_CLUSTER, PROTOCOL_POD};
use crate::table::family;
use crate::{Error, Netlink};

/// How the kernel sends to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// The number of the interface.
    pub index: u32,
    /// The source that the kernel chooses.
    pub source: Option<IpAddr>,
    /// The address is this machine's own; the interface is then loopback, or the one that has it.
    pub local: bool,
}

/// How the kernel sends to `ip`; `None` where nothing leads there, or a route of ours does.
pub fn to(netlink: &mut Netlink, ip: IpAddr) -> Result<Option<Way>, Error> {
    // Only the route itself tells its protocol; only the answer without it tells the choice of source.
    let Some(route) = look_up(netlink, ip, RouteFlags::FibMatch)? else { return Ok(None) };
    if [PROTOCOL_CLUSTER, PROTOCOL_POD].map(RouteProtocol::from).contains(&route.header.protocol) {
        return Ok(None);
    }
    let Some(answer) = look_up(netlink, ip, RouteFlags::empty())? else { return Ok(None) };
    let local = answer.header.kind == RouteType::Local;
    let parts = seen::parts(answer.attributes);
    Ok(parts.index.map(|index| Way { index, source: parts.source, local }))
}

/// Whether packets to `ip` are delivered here. After an IPv6 address was added, that comes a moment later even without
/// duplicate address detection: its local route is the work of a queue (addrconf_dad_work in net/ipv6/addrconf.c).
pub fn is_local(netlink: &mut Netlink, ip: IpAddr) -> Result<bool, Error> {
    let found = look_up(netlink, ip, RouteFlags::empty())?;
    Ok(found.is_some_and(|found| found.header.kind == RouteType::Local))
}

fn look_up(netlink: &mut Netlink, ip: IpAddr, flags: RouteFlags) -> Result<Option<RouteMessage>, Error> {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family(ip),
        destination_prefix_length: if ip.is_ipv4() { 32 } else { 128 },
        flags,
        ..RouteHeader::default()
    };
    message.attributes.push(RouteAttribute::Destination(ip.into()));
    match netlink.one(RouteNetlinkMessage::GetRoute(message)) {
        Ok(Some(RouteNetlinkMessage::NewRoute(found))) => Ok(Some(found)),
        Ok(_) => Ok(None),
        Err(error) if error.errno().is_some_and(leads_nowhere) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the kernel says of an address without a route, or with one that is unreachable, prohibited or a black hole
/// (`fib_props` in net/ipv4/fib_semantics.c); and of IPv6 where it is off.
fn leads_nowhere(errno: Errno) -> bool {
    matches!(errno, Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EACCES | Errno::EINVAL | Errno::EOPNOTSUPP)
}
