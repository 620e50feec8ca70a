//! The TCP connections of a BGP speaker: listening, dialling, and what protects them, a key (RFC 2385) and the distance from
//! which segments may come (RFC 5082).
//!
//! Nothing here waits: every socket is non-blocking and the caller's to poll. It works in the namespace of the calling thread.
//! All that is sent is marked as network control (DSCP CS6).

use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV6, TcpListener, TcpStream};
use std::num::NonZeroU8;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{Backlog, SockType, SockaddrStorage, bind, connect, listen as start, setsockopt, sockopt};

use crate::Error;
use crate::options::{self, HIGHEST, LONGEST_KEY, Md5, Md5Sig, failed};

/// BGP's port (RFC 4271 section 8).
pub const PORT: u16 = 179;

/// How far away the other side may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// What is sent has this TTL, so it dies after so many hops: 1 for a neighbour on the link. What comes may have any.
    Hops(NonZeroU8),
    /// The same limit by RFC 5082 (GTSM): what is sent has TTL 255, and segments are dropped that passed more hops than these,
    /// which nobody further away can help. 1 for a neighbour on the link: only 255 is taken. The other side must do the same.
    Security(NonZeroU8),
}

impl Reach {
    /// The TTL of what is sent, and the least of what is taken.
    fn ttls(self) -> (u8, u8) {
        match self {
            Self::Hops(hops) => (hops.get(), 0),
            Self::Security(hops) => (HIGHEST, HIGHEST - (hops.get() - 1)),
        }
    }
}

/// A key of TCP-MD5 (RFC 2385). It prints as nothing that says what it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Md5Key(Vec<u8>);

impl Md5Key {
    /// Of 1 to 80 bytes (TCP_MD5SIG_MAXKEYLEN); [`Error::Md5Key`] otherwise.
    pub fn new(key: &[u8]) -> Result<Self, Error> {
        match key.len() {
            1..=LONGEST_KEY => Ok(Self(key.to_vec())),
            length => Err(Error::Md5Key { length, longest: LONGEST_KEY }),
        }
    }
}

impl fmt::Debug for Md5Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Md5Key(…)")
    }
}

/// A socket that has its address, and takes no connection yet: the time to set keys ([`set_key`]).
///
/// A listener that gets its keys later takes unsigned connections until then, of those too that are to have a key.
#[derive(Debug)]
pub struct Bound {
    socket: OwnedFd,
    at: SocketAddr,
}

impl Bound {
    /// Takes an address, or all of its family where it is the unspecified one; nothing of the other family.
    ///
    /// Answers to SYNs will have TTL 255, since a peer that demands this ([`Reach::Security`]) could not connect otherwise. A
    /// connection that is accepted has that too, until [`settle`] is called for it.
    pub fn at(at: SocketAddr) -> Result<Self, Error> {
        let make = || -> nix::Result<OwnedFd> {
            let socket = options::open(at.is_ipv6(), SockType::Stream)?;
            // Or the connections of a listener that is gone would keep the next one away for a minute (TIME-WAIT).
            setsockopt(&socket, sockopt::ReuseAddr, &true)?;
            options::ttl(&socket, at.is_ipv6(), HIGHEST)?;
            options::network_control(&socket, at.is_ipv6())?;
            bind(socket.as_raw_fd(), &SockaddrStorage::from(at))?;
            Ok(socket)
        };
        let socket = make().map_err(failed(|| format!("listen on TCP {at}")))?;
        Ok(Self { socket, at })
    }

    /// Listens.
    pub fn listen(self) -> Result<TcpListener, Error> {
        let Self { socket, at } = self;
        start(&socket, Backlog::MAXCONN).map_err(failed(|| format!("listen on TCP {at}")))?;
        Ok(socket.into())
    }
}

impl AsFd for Bound {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Begins to connect to a peer, from `source` where it is given; a link-local source is one on the peer's link
/// (`scope_id`). With a key each segment is signed, and no other is taken.
///
/// The connection is in progress when this returns: when the stream is writable, [`TcpStream::take_error`] tells whether it
/// stands. An error here means that there is no way, or no such source.
pub fn dial(
    peer: SocketAddr,
    source: Option<IpAddr>,
    reach: Option<Reach>,
    key: Option<&Md5Key>,
) -> Result<TcpStream, Error> {
    let from = source.map(|source| match (source, peer) {
        (IpAddr::V6(ip), SocketAddr::V6(peer)) if ip.is_unicast_link_local() => {
            SocketAddrV6::new(ip, 0, 0, peer.scope_id()).into()
        }
        _ => SocketAddr::new(source, 0),
    });
    let attempt = || match source {
        Some(source) => format!("connect to TCP {peer} from {source}"),
        None => format!("connect to TCP {peer}"),
    };
    let stream = options::open(peer.is_ipv6(), SockType::Stream).map(TcpStream::from).map_err(failed(attempt))?;
    if let Some(key) = key {
        set_key(&stream, peer.ip(), Some(key))?;
    }
    let go = || -> nix::Result<()> {
        set_up(&stream, peer.is_ipv6(), reach)?;
        let socket = stream.as_raw_fd();
        if let Some(from) = from {
            bind(socket, &SockaddrStorage::from(from))?;
        }
        match connect(socket, &SockaddrStorage::from(peer)) {
            Err(Errno::EINPROGRESS) => Ok(()),
            done => done,
        }
    };
    go().map_err(failed(attempt))?;
    Ok(stream)
}

/// Gives a connection that a listener accepted what one that was dialled has from the beginning.
///
/// A listener cannot do this for one peer alone: the kernel compares each segment with the limit of the socket that it belongs
/// to (`tcp_v4_rcv` in net/ipv4/tcp_ipv4.c), and an accepted socket begins with its listener's. So the handshake itself is
/// open to those further away; what they send after it is dropped.
///
/// With a key no unsigned segment is taken from now on, whatever the listener took before it had that key. The connection has
/// its listener's key otherwise, if that has one for the peer.
pub fn settle(accepted: &TcpStream, reach: Option<Reach>, key: Option<&Md5Key>) -> Result<(), Error> {
    let peer =
        accepted.peer_addr().map_err(|cause| Error::Socket { attempt: "ask for a TCP peer".to_owned(), cause })?;
    let attempt = || format!("set up the connection of TCP {peer}");
    accepted.set_nonblocking(true).map_err(|cause| Error::Socket { attempt: attempt(), cause })?;
    if let Some(key) = key {
        set_key(accepted, peer.ip(), Some(key))?;
    }
    set_up(accepted, peer.is_ipv6(), reach).map_err(failed(attempt))
}

/// Sets the key for a peer's address in place of the one that there was, or removes it. On a listener it is for
/// connections to come: those with the key must be signed by it, and once it is removed none may be. On a connection it is for
/// what is sent and comes from now on.
///
/// The peer is of the socket's family. Each key of a socket counts against net.core.optmem_max (by 136 bytes in Linux 6.18), and
/// fails with ENOMEM beyond. Fails with ENOPROTOOPT or EPROTONOSUPPORT on a kernel without CONFIG_TCP_MD5SIG, and
/// with EPERM where FIPS forbids MD5.
pub fn set_key(socket: &impl AsFd, peer: IpAddr, key: Option<&Md5Key>) -> Result<(), Error> {
    match (setsockopt(socket, Md5, &signature(peer, key)), key) {
        // There was none to remove.
        (Err(Errno::ENOENT), None) => Ok(()),
        (done, Some(_)) => done.map_err(failed(|| format!("set the TCP-MD5 key for {peer}"))),
        (done, None) => done.map_err(failed(|| format!("remove the TCP-MD5 key for {peer}"))),
    }
}

/// What the kernel takes for a key; a length of zero removes it (`tcp_v4_parse_md5_keys` in net/ipv4/tcp_ipv4.c).
fn signature(peer: IpAddr, key: Option<&Md5Key>) -> Md5Sig {
    let mut address = [0; 128];
    // A sockaddr_in has the address after family and port, a sockaddr_in6 after the flow label also.
    match peer {
        IpAddr::V4(ip) => {
            address[..2].copy_from_slice(&family(libc::AF_INET));
            address[4..8].copy_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            address[..2].copy_from_slice(&family(libc::AF_INET6));
            address[8..24].copy_from_slice(&ip.octets());
        }
    }
    let given = key.map_or(&[][..], |key| &key.0);
    let mut key = [0; LONGEST_KEY];
    key[..given.len()].copy_from_slice(given);
    let key_length = u16::try_from(given.len()).expect("a key is short");
    Md5Sig { address, flags: 0, prefix_length: 0, key_length, interface: 0, key }
}

fn family(number: i32) -> [u8; 2] {
    libc::sa_family_t::try_from(number).expect("families are small numbers").to_ne_bytes()
}

fn set_up(stream: &TcpStream, ipv6: bool, reach: Option<Reach>) -> nix::Result<()> {
    // BGP writes whole messages: none is to wait for the acknowledgement of the one before.
    setsockopt(stream, sockopt::TcpNoDelay, &true)?;
    options::network_control(stream, ipv6)?;
    let Some((sent, taken)) = reach.map(Reach::ttls) else { return Ok(()) };
    options::ttl(stream, ipv6, sent)?;
    options::least_ttl(stream, ipv6, taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_hops_becomes_the_least_ttl_of_rfc_5082() {
        let hops = |count| NonZeroU8::new(count).unwrap();
        assert_eq!(Reach::Security(hops(1)).ttls(), (255, 255));
        assert_eq!(Reach::Security(hops(3)).ttls(), (255, 253));
        assert_eq!(Reach::Security(hops(255)).ttls(), (255, 1));
        assert_eq!(Reach::Hops(hops(1)).ttls(), (1, 0));
    }

    #[test]
    fn a_key_has_from_1_to_80_bytes_and_does_not_print() {
        assert_eq!(size_of::<Md5Sig>(), 216, "struct tcp_md5sig");
        let long = Md5Key::new(&[b'x'; 80]).unwrap();
        assert_eq!(format!("{long:?}"), "Md5Key(…)");
        for length in [0, 81] {
            let error = Md5Key::new(&vec![b'x'; length]).unwrap_err().to_string();
            assert_eq!(error, format!("a TCP-MD5 key of {length} bytes: it must have from 1 to 80"));
        }
    }

    #[test]
    fn a_signature_has_the_peer_without_its_port_and_no_key_is_length_zero() {
        let key = Md5Key::new(b"secret").unwrap();
        let v4 = signature([192, 0, 2, 1].into(), Some(&key));
        assert_eq!(v4.address[..8], [2, 0, 0, 0, 192, 0, 2, 1]);
        assert_eq!((v4.key_length, &v4.key[..7]), (6, &b"secret\0"[..]));
        let v6 = signature("2001:db8::1".parse().unwrap(), None);
        assert_eq!(v6.address[..12], [10, 0, 0, 0, 0, 0, 0, 0, 0x20, 0x01, 0x0d, 0xb8]);
        assert_eq!((v6.address[23], v6.key_length, v6.key), (1, 0, [0; 80]));
    }
}
