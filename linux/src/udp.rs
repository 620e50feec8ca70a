//! The UDP sockets of BFD with neighbours on the link (RFC 5881 sections 4 and 5): one that receives for all sessions of a family,
//! and one that sends for one session.
//!
//! Nothing here waits: every socket is non-blocking, and the caller polls it by its descriptor, with the deadline that he has.
//! It works in the namespace of the calling thread.

use std::io::IoSliceMut;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU16, Ordering};

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, RecvMsg, SockType, SockaddrStorage, bind, recvmsg, setsockopt, sockopt,
};

use crate::Error;
use crate::options::{self, HIGHEST, failed};

/// Where control packets to a neighbour on the link go.
pub const SINGLE_HOP: u16 = 3784;
/// What may wait to be received, in bytes as the kernel counts them, 768 or so for a packet: a thousand neighbours that send at
/// once do not fill it, and what a machine on the link sends beside them must be much to take their room.
const QUEUE: usize = 1024 * 1024;
/// Where control packets come from: a session keeps the one that it has.
const SOURCES: RangeInclusive<u16> = 49_152..=65_535;

/// Receives at one port what neighbours on the link send (RFC 5881 section 5).
#[derive(Debug)]
pub struct Receiver {
    socket: OwnedFd,
    at: SocketAddr,
}

/// A datagram that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram {
    /// So many bytes of the buffer are its payload. What is longer than the buffer is cut off.
    pub length: usize,
    /// Who sent it; the scope is told where the address is link-local.
    pub from: SocketAddr,
    /// Where it was sent to.
    pub to: IpAddr,
    /// The number of the interface by which it came.
    pub interface: u32,
}

impl Receiver {
    /// Receives at an address, or at all of its family where it is the unspecified one; at nothing of the other family. What has not
    /// TTL 255 is dropped by the kernel and takes no room: it crossed a router, and may be anybody's.
    pub fn open(at: SocketAddr) -> Result<Self, Error> {
        let make = || -> nix::Result<OwnedFd> {
            let socket = options::open(at.is_ipv6(), SockType::Datagram)?;
            match at.is_ipv6() {
                false => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
                true => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
            }
            // Twice as much is set, half of which the kernel takes for its own (socket(7)); without CAP_NET_ADMIN what rmem_max lets.
            setsockopt(&socket, sockopt::RcvBufForce, &QUEUE)
                .or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &QUEUE))?;
            options::only_from_link(&socket, at.is_ipv6())?;
            bind(socket.as_raw_fd(), &SockaddrStorage::from(at))?;
            Ok(socket)
        };
        let socket = make().map_err(failed(|| format!("receive on UDP {at}")))?;
        Ok(Self { socket, at })
    }

    /// Takes the next datagram; `None` where there is none.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<Option<Datagram>, Error> {
        let attempt = || format!("receive on UDP {}", self.at);
        let mut control = nix::cmsg_space!(libc::in6_pktinfo);
        let mut parts = [IoSliceMut::new(buffer)];
        let socket = self.socket.as_raw_fd();
        match recvmsg(socket, &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT) {
            Ok(message) => datagram(&message).map(Some).map_err(failed(attempt)),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            Err(errno) => Err(failed(attempt)(errno)),
        }
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// EBADMSG where the kernel told less than it was asked to.
fn datagram(message: &RecvMsg<'_, '_, SockaddrStorage>) -> nix::Result<Datagram> {
    let mut to = None;
    for told in message.cmsgs()? {
        match told {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                let address = Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr));
                to = Some((IpAddr::from(address), u32::try_from(info.ipi_ifindex).map_err(|_| Errno::EBADMSG)?));
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                to = Some((Ipv6Addr::from(info.ipi6_addr.s6_addr).into(), info.ipi6_ifindex));
            }
            _ => {}
        }
    }
    let from = message.address.as_ref().and_then(socket_address).ok_or(Errno::EBADMSG)?;
    let (to, interface) = to.ok_or(Errno::EBADMSG)?;
    Ok(Datagram { length: message.bytes, from, to, interface })
}

fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|address| SocketAddr::new(address.ip().into(), address.port()));
    let v6 = || {
        let address = address.as_sockaddr_in6()?;
        Some(SocketAddrV6::new(address.ip(), address.port(), 0, address.scope_id()).into())
    };
    v4.or_else(v6)
}

/// Sends the control packets of one session, all from one port: with TTL 255, marked as network control (DSCP CS6).
#[derive(Debug)]
pub struct Sender {
    socket: UdpSocket,
    to: SocketAddr,
}

impl Sender {
    /// Sends to `to` from an address of this machine; a link-local one is one on the link of `to` (`scope_id`). The port is
    /// one that nobody has at that address.
    ///
    /// The socket is not connected: nothing that somebody answers by ICMP takes the place of a packet that is to be sent.
    pub fn open(source: IpAddr, to: SocketAddr) -> Result<Self, Error> {
        let make = || -> nix::Result<OwnedFd> {
            let socket = options::open(to.is_ipv6(), SockType::Datagram)?;
            options::ttl(&socket, to.is_ipv6(), HIGHEST)?;
            options::network_control(&socket, to.is_ipv6())?;
            bind_to_free_port(&socket, source, to)?;
            Ok(socket)
        };
        let socket = make().map_err(failed(|| format!("send to UDP {to} from {source}")))?;
        Ok(Self { socket: socket.into(), to })
    }

    /// Sends a packet; an error means that this one was not sent, as where there is no way just now, or no room.
    pub fn send(&self, packet: &[u8]) -> Result<(), Error> {
        let sent = self.socket.send_to(packet, self.to);
        sent.map(drop).map_err(|cause| Error::Socket { attempt: format!("send to UDP {}", self.to), cause })
    }
}

/// Each socket of the process begins to look after the port that the last one tried, so that sessions differ in theirs.
fn bind_to_free_port(socket: &OwnedFd, source: IpAddr, to: SocketAddr) -> nix::Result<()> {
    static TRIED: AtomicU16 = AtomicU16::new(0);
    let scope = match to {
        SocketAddr::V6(to) => to.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    for _ in SOURCES {
        let port = SOURCES.start() + TRIED.fetch_add(1, Ordering::Relaxed) % (SOURCES.end() - SOURCES.start() + 1);
        let from = match source {
            IpAddr::V6(ip) if ip.is_unicast_link_local() => SocketAddrV6::new(ip, port, 0, scope).into(),
            _ => SocketAddr::new(source, port),
        };
        match bind(socket.as_raw_fd(), &SockaddrStorage::from(from)) {
            Err(Errno::EADDRINUSE) => {}
            done => return done,
        }
    }
    Err(Errno::EADDRINUSE)
}
