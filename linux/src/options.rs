//! Options of Internet sockets that [`crate::tcp`] and [`crate::udp`] share, one function for both families.

use std::os::fd::{AsFd, OwnedFd};

use nix::Result;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt};
use nix::{setsockopt_impl, sockopt_impl};

/// Class selector 6, network control, where routing protocols belong (RFC 4594 section 3.2), as the whole byte that holds it.
const CS6: i32 = 0xc0;
/// TCP_MD5SIG_MAXKEYLEN (include/uapi/linux/tcp.h), in bytes.
pub(crate) const LONGEST_KEY: usize = 80;

sockopt_impl!(
    /// The least TTL with which segments are taken (ip(7)).
    MinTtl,
    SetOnly,
    libc::IPPROTO_IP,
    libc::IP_MINTTL,
    libc::c_int
);
sockopt_impl!(
    /// The same of IPv6 (include/uapi/linux/in6.h).
    MinHopCount,
    SetOnly,
    libc::IPPROTO_IPV6,
    libc::IPV6_MINHOPCOUNT,
    libc::c_int
);
sockopt_impl!(
    /// A key of RFC 2385 for a peer.
    Md5,
    SetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_MD5SIG,
    Md5Sig
);

/// `struct tcp_md5sig` (include/uapi/linux/tcp.h).
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Md5Sig {
    /// `struct sockaddr_storage`.
    pub(crate) address: [u8; 128],
    pub(crate) flags: u8,
    pub(crate) prefix_length: u8,
    pub(crate) key_length: u16,
    pub(crate) interface: i32,
    pub(crate) key: [u8; LONGEST_KEY],
}

/// A socket of the family, closed on exec, non-blocking; one of IPv6 has nothing to do with IPv4.
pub(crate) fn open(ipv6: bool, kind: SockType) -> Result<OwnedFd> {
    let family = if ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    if ipv6 {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    Ok(socket)
}

/// What the socket sends is network control (DSCP CS6).
pub(crate) fn network_control(socket: &impl AsFd, ipv6: bool) -> Result<()> {
    match ipv6 {
        false => setsockopt(socket, sockopt::Ipv4Tos, &CS6),
        true => setsockopt(socket, sockopt::Ipv6TClass, &CS6),
    }
}

/// The TTL or hop limit of what the socket sends.
pub(crate) fn ttl(socket: &impl AsFd, ipv6: bool, ttl: u8) -> Result<()> {
    match ipv6 {
        false => setsockopt(socket, sockopt::Ipv4Ttl, &ttl.into()),
        true => setsockopt(socket, sockopt::Ipv6Ttl, &ttl.into()),
    }
}

/// The least TTL or hop limit of what the socket takes; zero for any.
pub(crate) fn least_ttl(socket: &impl AsFd, ipv6: bool, ttl: u8) -> Result<()> {
    match ipv6 {
        false => setsockopt(socket, MinTtl, &ttl.into()),
        true => setsockopt(socket, MinHopCount, &ttl.into()),
    }
}
