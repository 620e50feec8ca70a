//! Tells the machines on a link which MAC an IPv6 address has now: unsolicited neighbour advertisements (RFC 4861, section 7.2.6).
//!
//! Who has known another MAC believes it for up to half a minute, and the kernel tells of a new one by itself only where
//! `ndisc_notify` is set (net/ipv6/ndisc.c, `ndisc_netdev_event`). IPv4 needs none of it: what a machine asks by ARP bears its
//! address, and all on the link hear it, so that whatever it sends there first tells them. IPv6 asks by a group that hardly another one
//! is in, and as a router, for a packet that it forwards, from a link-local address. It works in the namespace of the calling thread
//! and needs CAP_NET_RAW.

use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, bind, sendto, setsockopt, socket, sockopt,
};

use crate::MacAddr;

/// What no router has passed on (RFC 4861, section 7.1.2).
const HOPS: i32 = 255;
/// ff02::1 (RFC 4291, section 2.7.1).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// A usable address of this machine, and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The address.
    pub address: Ipv6Addr,
    /// The MAC of its interface.
    pub mac: MacAddr,
    /// The number of its interface.
    pub index: u32,
    /// The interface forwards: who takes it for a router goes on doing so.
    pub router: bool,
}

/// Tells all machines on the interface's link.
pub fn advertise(place: Place) -> io::Result<()> {
    let socket = socket(AddressFamily::Inet6, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::IcmpV6)?;
    setsockopt(&socket, sockopt::Ipv6MulticastHops, &HOPS)?;
    bind(socket.as_raw_fd(), &SockaddrIn6::from(SocketAddrV6::new(place.address, 0, 0, 0)))?;
    let all = SockaddrIn6::from(SocketAddrV6::new(ALL_NODES, 0, 0, place.index));
    sendto(socket.as_raw_fd(), &message(place), &all, MsgFlags::empty())?;
    Ok(())
}

/// The message (RFC 4861, section 4.4) with the MAC as its option. The kernel sets the checksum (RFC 3542, section 3.1).
fn message(Place { address, mac, router, .. }: Place) -> [u8; 32] {
    const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    const ROUTER: u8 = 0x80;
    const OVERRIDE: u8 = 0x20;
    const TARGET_LINK_LAYER_ADDRESS: u8 = 2;
    let mut message = [0; 32];
    message[0] = NEIGHBOUR_ADVERTISEMENT;
    message[4] = OVERRIDE | if router { ROUTER } else { 0 };
    message[8..24].copy_from_slice(&address.octets());
    // With its length, in units of eight bytes.
    message[24..26].copy_from_slice(&[TARGET_LINK_LAYER_ADDRESS, 1]);
    message[26..].copy_from_slice(&mac.0);
    message
}
