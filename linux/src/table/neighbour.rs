//! The table of neighbours: requests about permanent ones, and what a dump shows.

use std::fmt;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourHeader, NeighbourMessage, NeighbourState,
};
use nix::errno::Errno;

use crate::netlink::Request;
use crate::state::Neighbour;
use crate::table::family;
use crate::{Error, MacAddr, Netlink};

/// A neighbour as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenNeighbour {
    /// Of which link.
    pub index: u32,
    /// Its address.
    pub ip: IpAddr,
    /// Its MAC, where it is resolved.
    pub mac: Option<MacAddr>,
    /// NUD_PERMANENT: made by hand, and never timed out.
    pub permanent: bool,
}

/// Makes a permanent neighbour, in place of whatever is known of that address.
pub fn set(neighbour: &Neighbour, index: u32) -> Request {
    let mut message = message(neighbour.ip, index);
    message.header.state = NeighbourState::Permanent;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(neighbour.mac.0.to_vec()));
    let neighbour = *neighbour;
    Request::new(
        RouteNetlinkMessage::NewNeighbour(message),
        NLM_F_CREATE | NLM_F_REPLACE,
        fmt::from_fn(move |f| write!(f, "set neighbour {neighbour}")),
    )
}

/// Removes a neighbour. ENOENT if there is none.
pub fn remove(neighbour: &Neighbour, index: u32) -> Request {
    let message = message(neighbour.ip, index);
    let neighbour = *neighbour;
    Request::new(
        RouteNetlinkMessage::DelNeighbour(message),
        0,
        fmt::from_fn(move |f| write!(f, "delete neighbour {neighbour}")),
    )
}

fn message(ip: IpAddr, index: u32) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header = NeighbourHeader { family: family(ip), ifindex: index, ..NeighbourHeader::default() };
    message.attributes = vec![NeighbourAttribute::Destination(ip.into())];
    message
}

/// The neighbours of one device, both families; none if there is no such device.
pub fn of(netlink: &mut Netlink, index: u32) -> Result<Vec<SeenNeighbour>, Error> {
    match dump(netlink, index) {
        Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(Vec::new()),
        found => found,
    }
}

/// The neighbours of one device, or of all for index 0.
pub(crate) fn dump(netlink: &mut Netlink, index: u32) -> Result<Vec<SeenNeighbour>, Error> {
    let mut request = NeighbourMessage::default();
    if index != 0 {
        request.attributes.push(NeighbourAttribute::IfIndex(index));
    }
    let found = netlink.dump(RouteNetlinkMessage::GetNeighbour(request))?;
    Ok(found
        .into_iter()
        .filter_map(|message| match message {
            RouteNetlinkMessage::NewNeighbour(message) => seen(&message),
            _ => None,
        })
        .filter(|neighbour| index == 0 || neighbour.index == index)
        .collect())
}

/// What a message shows, or asks for.
pub(crate) fn seen(message: &NeighbourMessage) -> Option<SeenNeighbour> {
    let mut ip = None;
    let mut mac = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => ip = Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => ip = Some(IpAddr::V6(*v6)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok().map(MacAddr),
            _ => {}
        }
    }
    Some(SeenNeighbour {
        index: message.header.ifindex,
        ip: ip?,
        mac,
        permanent: message.header.state == NeighbourState::Permanent,
    })
}
