//! The table of addresses: requests, and what a dump shows.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeader, AddressHeaderFlags, AddressMessage, AddressScope,
};
use nix::errno::Errno;

use crate::netlink::Request;
use crate::state::Address;
use crate::table::family;
use crate::{Error, Netlink};

/// An address as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenAddress {
    /// Of which link.
    pub index: u32,
    /// Address and prefix length.
    pub cidr: IpNetwork,
    /// The address at the other end, where it is one of a point-to-point link.
    pub peer: Option<IpAddr>,
    /// IFA_F_SECONDARY.
    pub secondary: bool,
    /// Scope global (RT_SCOPE_UNIVERSE).
    pub global: bool,
    /// For good, and not for a time (IFA_F_PERMANENT).
    pub permanent: bool,
    /// No connection shall begin from it any more (IFA_F_DEPRECATED).
    pub deprecated: bool,
    /// Usable as a source: neither tentative nor found to be a duplicate (IFA_F_TENTATIVE, IFA_F_DADFAILED).
    pub usable: bool,
}

impl SeenAddress {
    /// One of a link as most are: given for good, the first of its subnet, of global scope and usable.
    pub fn plain(index: u32, cidr: IpNetwork) -> Self {
        let (secondary, deprecated) = (false, false);
        Self { index, cidr, peer: None, secondary, global: true, permanent: true, deprecated, usable: true }
    }
}

/// Gives a device an address, usable at once: no duplicate address detection (IFA_F_NODAD). EEXIST if it has it.
pub fn add(address: &Address, index: u32) -> Request {
    put(address, index, NLM_F_CREATE | NLM_F_EXCL, "add")
}

/// Gives an address that a device has the lifetime that [`add`] gives: it never ends.
pub fn renew(address: &Address, index: u32) -> Request {
    put(address, index, NLM_F_REPLACE, "renew")
}

fn put(address: &Address, index: u32, flags: u16, what: &'static str) -> Request {
    let mut message = message(address, index, None);
    message.header.flags = AddressHeaderFlags::Nodad;
    message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    let address = *address;
    let attempt = fmt::from_fn(move |f| write!(f, "{what} address {address}"));
    Request::new(RouteNetlinkMessage::NewAddress(message), flags, attempt)
}

/// Takes an address from a device, one with that other end if it has one: IPv4 goes by that (`inet_rtm_deladdr` in
/// net/ipv4/devinet.c). EADDRNOTAVAIL if it is not there.
pub fn remove(address: &Address, index: u32, peer: Option<IpAddr>) -> Request {
    let message = message(address, index, peer);
    let address = *address;
    Request::new(
        RouteNetlinkMessage::DelAddress(message),
        0,
        fmt::from_fn(move |f| write!(f, "delete address {address}")),
    )
}

fn message(address: &Address, index: u32, peer: Option<IpAddr>) -> AddressMessage {
    let ip = address.cidr.ip();
    let mut message = AddressMessage::default();
    message.header = AddressHeader {
        family: family(ip),
        prefix_len: address.cidr.prefix(),
        scope: AddressScope::Universe,
        index,
        ..AddressHeader::default()
    };
    message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(peer.unwrap_or(ip))];
    message
}

/// The addresses of one device; none if there is no such device.
pub fn of(netlink: &mut Netlink, index: u32) -> Result<Vec<SeenAddress>, Error> {
    match dump(netlink, index) {
        Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(Vec::new()),
        found => found,
    }
}

/// The addresses of one device, or of all for index 0.
pub(crate) fn dump(netlink: &mut Netlink, index: u32) -> Result<Vec<SeenAddress>, Error> {
    let mut request = AddressMessage::default();
    request.header.index = index;
    let found = netlink.dump(RouteNetlinkMessage::GetAddress(request))?;
    Ok(found
        .into_iter()
        .filter_map(|message| match message {
            RouteNetlinkMessage::NewAddress(message) => seen(&message),
            _ => None,
        })
        .filter(|address| index == 0 || address.index == index)
        .collect())
}

fn seen(message: &AddressMessage) -> Option<SeenAddress> {
    let mut address = None;
    let mut local = None;
    let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Address(ip) => address = Some(*ip),
            // On a point-to-point link IFA_ADDRESS is the other side, and this is ours (include/uapi/linux/if_addr.h).
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    let ip: IpAddr = local.or(address)?;
    Some(SeenAddress {
        index: message.header.index,
        cidr: IpNetwork::new(ip, message.header.prefix_len).ok()?,
        peer: address.filter(|peer| *peer != ip),
        secondary: flags.contains(AddressFlags::Secondary),
        global: message.header.scope == AddressScope::Universe,
        permanent: flags.contains(AddressFlags::Permanent),
        deprecated: flags.contains(AddressFlags::Deprecated),
        usable: !flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed),
    })
}
