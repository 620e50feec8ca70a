//! Who refuses a datagram: the kernel keeps the ICMP errors of a socket that asks for them, with the address of whoever sent them
//! (IP_RECVERR, ip(7); IPV6_RECVERR, ipv6(7)). A firewall that rejects sends the very same message as a machine at whose port nobody
//! listens, and is told apart by that address alone.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};

/// Destination unreachable, port unreachable (RFC 792).
const PORT_UNREACHABLE: (u8, u8) = (3, 3);
/// The same of IPv6 (RFC 4443).
const PORT_UNREACHABLE_V6: (u8, u8) = (1, 4);

/// Has the kernel keep the errors of a socket.
pub(super) fn listen(socket: &UdpSocket, ipv6: bool) -> io::Result<()> {
    let done = if ipv6 {
        setsockopt(socket, sockopt::Ipv6RecvErr, &true)
    } else {
        setsockopt(socket, sockopt::Ipv4RecvErr, &true)
    };
    done.map_err(Into::into)
}

/// Takes the errors that are kept, `most` of them, and tells whether `target` itself says there that nobody listens.
pub(super) fn heard(socket: &UdpSocket, target: IpAddr, most: usize) -> bool {
    let mut heard = false;
    let mut room = nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6);
    for _ in 0..most {
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let Ok(message) = recvmsg::<()>(socket.as_raw_fd(), &mut [], Some(&mut room), flags) else { break };
        // What is cut off is no message that can be read.
        heard |= message.cmsgs().is_ok_and(|mut all| all.any(|one| refuser(&one) == Some(target)));
    }
    heard
}

/// Who says in this message that nobody listens.
fn refuser(message: &ControlMessageOwned) -> Option<IpAddr> {
    let is = |error: &libc::sock_extended_err, origin: u8, what: (u8, u8)| {
        error.ee_origin == origin && (error.ee_type, error.ee_code) == what
    };
    match message {
        ControlMessageOwned::Ipv4RecvErr(error, Some(from)) if is(error, libc::SO_EE_ORIGIN_ICMP, PORT_UNREACHABLE) => {
            Some(Ipv4Addr::from(u32::from_be(from.sin_addr.s_addr)).into())
        }
        ControlMessageOwned::Ipv6RecvErr(error, Some(from))
            if is(error, libc::SO_EE_ORIGIN_ICMP6, PORT_UNREACHABLE_V6) =>
        {
            Some(Ipv6Addr::from(from.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}
