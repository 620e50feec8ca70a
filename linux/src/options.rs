//! Options of Internet sockets that [`crate::tcp`] and [`crate::udp`] share, one function for both families.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::Result;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt};
use nix::{setsockopt_impl, sockopt_impl};

use crate::Error;

/// Class selector 6, network control, where routing protocols belong (RFC 4594 section 3.2), as the whole byte that holds it.
const CS6: i32 = 0xc0;
/// The TTL of what comes straight from a neighbour that follows RFC 5082.
pub(crate) const HIGHEST: u8 = 255;
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
sockopt_impl!(
    /// A program of classic BPF that says which packets the socket takes (socket(7)).
    Filter,
    SetOnly,
    libc::SOL_SOCKET,
    libc::SO_ATTACH_FILTER,
    libc::sock_fprog
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

/// Takes only packets whose TTL or hop limit is the highest, 255: nobody behind a router can send such (RFC 5082). The others are
/// dropped before they are queued, so they take no room from those.
pub(crate) fn only_from_link(socket: &impl AsFd, ipv6: bool) -> Result<()> {
    // From the beginning of the network header: the hop limit is its byte 7 of IPv6, and the TTL is byte 8 of IPv4.
    let place = libc::SKF_NET_OFF + if ipv6 { 7 } else { 8 };
    let step = |code: u32, jf, k| libc::sock_filter { code: u16::try_from(code).expect("a short code"), jt: 0, jf, k };
    let mut steps = [
        step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, place.cast_unsigned()),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, HIGHEST.into()),
        step(libc::BPF_RET | libc::BPF_K, 0, u32::MAX),
        step(libc::BPF_RET | libc::BPF_K, 0, 0),
    ];
    let len = u16::try_from(steps.len()).expect("a short program");
    setsockopt(socket, Filter, &libc::sock_fprog { len, filter: steps.as_mut_ptr() })
}

/// The error of an attempt that the kernel refused.
pub(crate) fn failed(attempt: impl FnOnce() -> String) -> impl FnOnce(Errno) -> Error {
    |errno| Error::Socket { attempt: attempt(), cause: io::Error::from(errno) }
}
