//! The forwarding database of VXLAN devices: requests, and what a dump shows.

use std::fmt;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourHeader, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;

use crate::netlink::Request;
use crate::state::FdbEntry;
use crate::{Error, MacAddr, Netlink};

/// An entry as it stands. A MAC with several destinations has several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenFdbEntry {
    /// Of which link.
    pub index: u32,
    /// Frames to which address.
    pub mac: MacAddr,
    /// Sent where; absent for entries of another make.
    pub remote: Option<IpAddr>,
    /// As [`set`] makes it: it does not age, and is sent to the device's own port and with its own identifier.
    pub plain: bool,
}

/// Sends frames for a MAC to one remote, and if they went to another one, to this one instead: replacing, since an
/// append with a changed destination does nothing.
pub fn set(entry: &FdbEntry, index: u32) -> Request {
    let mut message = message(entry.mac, Some(entry.remote), index);
    message.header.state = NeighbourState::Permanent;
    let entry = *entry;
    Request::new(
        RouteNetlinkMessage::NewNeighbour(message),
        NLM_F_CREATE | NLM_F_REPLACE,
        fmt::from_fn(move |f| write!(f, "set fdb entry {entry}")),
    )
}

/// Removes one destination of a MAC, or with none given all of them. ENOENT if it is not there.
pub fn remove(mac: MacAddr, remote: Option<IpAddr>, device: super::Device) -> Request {
    Request::new(
        RouteNetlinkMessage::DelNeighbour(message(mac, remote, device.index)),
        0,
        fmt::from_fn(move |f| match remote {
            Some(remote) => write!(f, "delete fdb entry {mac} dev {} dst {remote}", device.name),
            None => write!(f, "delete fdb entry {mac} dev {}", device.name),
        }),
    )
}

fn message(mac: MacAddr, remote: Option<IpAddr>, index: u32) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header = NeighbourHeader {
        family: AddressFamily::Bridge,
        ifindex: index,
        // The device's own table, not that of a bridge above it.
        flags: NeighbourFlags::Own,
        ..NeighbourHeader::default()
    };
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
    message.attributes.extend(remote.map(|remote| NeighbourAttribute::Destination(remote.into())));
    message
}

/// The entries of one device; none if there is no such device.
pub fn of(netlink: &mut Netlink, index: u32) -> Result<Vec<SeenFdbEntry>, Error> {
    let mut request = NeighbourMessage::default();
    request.header.family = AddressFamily::Bridge;
    request.attributes.push(NeighbourAttribute::IfIndex(index));
    let found = match netlink.dump(RouteNetlinkMessage::GetNeighbour(request)) {
        Err(error) if error.errno() == Some(Errno::ENODEV) => return Ok(Vec::new()),
        found => found?,
    };
    Ok(found
        .into_iter()
        .filter_map(|message| match message {
            RouteNetlinkMessage::NewNeighbour(message) => seen(&message),
            _ => None,
        })
        .filter(|entry| entry.index == index)
        .collect())
}

/// What a message of AF_BRIDGE shows, or asks for.
pub(crate) fn seen(message: &NeighbourMessage) -> Option<SeenFdbEntry> {
    let mut mac = None;
    let mut remote = None;
    let mut plain = message.header.state == NeighbourState::Permanent;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok().map(MacAddr),
            NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => remote = address(bytes),
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => remote = Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => remote = Some(IpAddr::V6(*v6)),
            // Only shown where they differ from the device's (vxlan_fdb_info in drivers/net/vxlan/vxlan_core.c).
            NeighbourAttribute::Port(_) | NeighbourAttribute::Vni(_) | NeighbourAttribute::IfIndex(_) => plain = false,
            _ => {}
        }
    }
    Some(SeenFdbEntry { index: message.header.ifindex, mac: mac?, remote, plain })
}

/// In AF_BRIDGE the family of a destination is told by its length alone (vxlan_fdb_info).
fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}
