//! Connections of a BGP speaker by a real kernel: keys (RFC 2385), TTLs (RFC 5082), link-local peers.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod lab;

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, SocketAddrV6, TcpListener, TcpStream};
use std::num::NonZeroU8;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use lab::{Namespace, ip, pair};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};
use twill_linux::tcp::{self, Bound, Md5Key, PORT, Reach};

const PATIENCE: Duration = Duration::from_secs(20);
/// The ends of the link, both families: who listens, who dials.
const ENDS: [(&str, &str); 2] = [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")];

fn unspecified(ipv6: bool) -> SocketAddr {
    SocketAddr::new(if ipv6 { ip("::") } else { ip("0.0.0.0") }, PORT)
}

fn listen(at: SocketAddr) -> Result<TcpListener, twill_linux::Error> {
    Bound::at(at)?.listen()
}

fn hops(count: u8) -> NonZeroU8 {
    NonZeroU8::new(count).unwrap()
}

fn key(text: &str) -> Md5Key {
    Md5Key::new(text.as_bytes()).unwrap()
}

fn ready(socket: &impl AsFd, events: PollFlags, patience: Duration) -> bool {
    let mut fds = [PollFd::new(socket.as_fd(), events)];
    poll(&mut fds, PollTimeout::try_from(patience).unwrap()).unwrap() > 0
}

/// One end of a link, at which somebody listens.
struct Side {
    namespace: Namespace,
    listener: TcpListener,
}

impl Side {
    fn listening(namespace: Namespace, at: SocketAddr) -> Self {
        let listener = namespace.open().run(|| listen(at)).unwrap().unwrap();
        Self { namespace, listener }
    }

    fn accept(&self) -> TcpStream {
        assert!(ready(&self.listener, PollFlags::POLLIN, PATIENCE), "nobody connects");
        self.listener.accept().unwrap().0
    }

    fn accepts_nothing(&self) {
        assert_eq!(self.listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    }

    /// How often the kernel says that it dropped something, as in /proc/net/netstat.
    fn dropped(&self, counter: &str) -> u64 {
        let text = self.namespace.must("cat /proc/net/netstat");
        let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
        let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
        let position = names.split(' ').position(|name| name == counter).unwrap();
        values.split(' ').nth(position).unwrap().parse().unwrap()
    }

    /// Waits until it drops something more for that reason.
    fn drops(&self, counter: &str, doing: impl FnOnce()) {
        let before = self.dropped(counter);
        doing();
        let deadline = Instant::now() + PATIENCE;
        while self.dropped(counter) == before {
            assert!(Instant::now() < deadline, "{counter} stays at {before}");
        }
    }
}

fn dial(
    from: &Namespace,
    to: SocketAddr,
    source: Option<&str>,
    reach: Option<Reach>,
    key: Option<&Md5Key>,
) -> TcpStream {
    let source: Option<IpAddr> = source.map(ip);
    from.open().run(|| tcp::dial(to, source, reach, key)).unwrap().unwrap()
}

fn connected(stream: &TcpStream) {
    assert!(ready(stream, PollFlags::POLLOUT, PATIENCE), "it stays in progress");
    assert!(stream.take_error().unwrap().is_none());
}

/// What is written at one end is read at the other.
fn carries(mut from: &TcpStream, mut to: &TcpStream) {
    from.write_all(b"open").unwrap();
    assert!(ready(&to, PollFlags::POLLIN, PATIENCE), "nothing comes");
    let mut buffer = [0; 8];
    assert_eq!(to.read(&mut buffer).unwrap(), 4);
}

#[test]
fn a_connection_has_the_source_that_was_asked_for_and_both_ends_send_at_once() {
    for (here, there) in ENDS {
        let Some((node, peer)) = pair() else { return };
        let node = Side::listening(node, unspecified(here.contains(':')));
        let to = SocketAddr::new(ip(here), PORT);
        // Another one than the kernel would choose.
        let source = if here.contains(':') { "2001:db8::22" } else { "192.0.2.22" };
        for source in [there, source] {
            let stream = dial(&peer, to, Some(source), Some(Reach::Hops(hops(1))), None);
            connected(&stream);
            let accepted = node.accept();
            tcp::settle(&accepted, Some(Reach::Hops(hops(1))), None).unwrap();
            assert_eq!(accepted.peer_addr().unwrap().ip(), ip(source));
            for end in [&stream, &accepted] {
                assert!(end.nodelay().unwrap());
                let class = match here.contains(':') {
                    false => getsockopt(end, sockopt::Ipv4Tos).unwrap(),
                    true => getsockopt(end, sockopt::Ipv6TClass).unwrap(),
                };
                assert_eq!(class, 0xc0, "network control");
            }
            assert_eq!((&accepted).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
            carries(&stream, &accepted);
            carries(&accepted, &stream);
        }
    }
}

#[test]
fn both_families_are_listened_at_side_by_side_and_one_port_again_at_once() {
    let Some((node, peer)) = pair() else { return };
    let first = Side::listening(node, unspecified(false));
    let Side { namespace, listener } = first;
    let second = namespace.open().run(|| listen(unspecified(true))).unwrap().unwrap();
    let stream = dial(&peer, SocketAddr::new(ip("192.0.2.1"), PORT), None, None, None);
    connected(&stream);
    let taken = namespace.open().run(|| listen(unspecified(false))).unwrap().unwrap_err().to_string();
    assert!(taken.starts_with("listen on TCP 0.0.0.0:179: Address "), "{taken}");
    // The accepted end closes first, so that it is the one that waits in TIME-WAIT.
    let first = Side { namespace, listener };
    drop(first.accept());
    let Side { namespace, listener } = first;
    drop((listener, second, stream));
    // At once, but for what a process that another test has just forked still holds: TIME-WAIT would last a minute.
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = namespace.open().run(|| listen(unspecified(false))).unwrap() {
        assert!(Instant::now() < deadline, "{error}");
    }
}

#[test]
fn who_dials_a_closed_port_learns_it_and_no_source_is_an_error_that_names_it() {
    let Some((_node, peer)) = pair() else { return };
    let to = SocketAddr::new(ip("192.0.2.1"), PORT);
    let stream = dial(&peer, to, None, None, None);
    assert!(ready(&stream, PollFlags::POLLOUT, PATIENCE));
    assert_eq!(stream.take_error().unwrap().unwrap().kind(), ErrorKind::ConnectionRefused);
    let wrong = peer.open().run(|| tcp::dial(to, Some(ip("192.0.2.99")), None, None)).unwrap().unwrap_err();
    assert!(wrong.to_string().starts_with("connect to TCP 192.0.2.1:179 from 192.0.2.99: "), "{wrong}");
}

#[test]
fn link_local_peers_are_told_by_their_scope() {
    let Some((node, peer)) = pair() else { return };
    let node = Side::listening(node, unspecified(true));
    let index = |side: &Namespace| -> u32 {
        side.ip("-o link show dev eth0").split(':').next().unwrap().trim().parse().unwrap()
    };
    let to = SocketAddrV6::new("fe80::1".parse().unwrap(), PORT, 0, index(&peer));
    let stream = dial(&peer, to.into(), Some("fe80::2"), Some(Reach::Security(hops(1))), Some(&key("secret")));
    node.drops("TCPMD5Unexpected", || {});
    tcp::set_key(&node.listener, ip("fe80::2"), Some(&key("secret"))).unwrap();
    connected(&stream);
    let accepted = node.accept();
    let SocketAddr::V6(from) = accepted.peer_addr().unwrap() else { panic!("it is IPv6") };
    assert_eq!((from.ip().to_string(), from.scope_id()), ("fe80::2".to_owned(), index(&node.namespace)));
    tcp::settle(&accepted, Some(Reach::Security(hops(1))), None).unwrap();
    carries(&stream, &accepted);
}

#[test]
fn only_the_right_key_connects_and_once_it_is_removed_none_does() {
    for (here, there) in ENDS {
        let Some((node, peer)) = pair() else { return };
        let node = Side::listening(node, unspecified(here.contains(':')));
        let to = SocketAddr::new(ip(here), PORT);
        tcp::set_key(&node.listener, ip(there), None).expect("there was none to remove");
        tcp::set_key(&node.listener, ip(there), Some(&key("secret"))).unwrap();

        let mut streams = Vec::new();
        node.drops("TCPMD5Failure", || streams.push(dial(&peer, to, Some(there), None, Some(&key("wrong")))));
        node.drops("TCPMD5NotFound", || streams.push(dial(&peer, to, Some(there), None, None)));
        node.accepts_nothing();
        assert!(streams.iter().all(|stream| !ready(stream, PollFlags::POLLOUT, Duration::ZERO)), "{here}");
        drop(streams);

        let stream = dial(&peer, to, Some(there), None, Some(&key("secret")));
        connected(&stream);
        carries(&stream, &node.accept());
        // The key is for that peer alone.
        let other = if here.contains(':') { "2001:db8::22" } else { "192.0.2.22" };
        let stream = dial(&peer, to, Some(other), None, None);
        connected(&stream);
        drop(node.accept());

        tcp::set_key(&node.listener, ip(there), None).unwrap();
        let mut late = None;
        node.drops("TCPMD5Unexpected", || late = Some(dial(&peer, to, Some(there), None, Some(&key("secret")))));
        node.accepts_nothing();
        let stream = dial(&peer, to, Some(there), None, None);
        connected(&stream);
    }
}

#[test]
fn a_key_is_there_before_anybody_can_connect() {
    for (here, there) in ENDS {
        let Some((node, peer)) = pair() else { return };
        let at = unspecified(here.contains(':'));
        let bound = node.open().run(|| Bound::at(at)).unwrap().unwrap();
        tcp::set_key(&bound, ip(there), Some(&key("secret"))).unwrap();
        let to = SocketAddr::new(ip(here), PORT);
        // Nobody listens yet.
        let early = dial(&peer, to, Some(there), None, None);
        assert!(ready(&early, PollFlags::POLLOUT, PATIENCE));
        assert_eq!(early.take_error().unwrap().unwrap().kind(), ErrorKind::ConnectionRefused, "{here}");
        let node = Side { namespace: node, listener: bound.listen().unwrap() };
        let mut unsigned = None;
        node.drops("TCPMD5NotFound", || unsigned = Some(dial(&peer, to, Some(there), None, None)));
        node.accepts_nothing();
        let stream = dial(&peer, to, Some(there), None, Some(&key("secret")));
        connected(&stream);
        carries(&stream, &node.accept());
    }
}

#[test]
fn what_came_unsigned_before_its_listener_had_the_key_says_nothing_more() {
    for (here, there) in ENDS {
        let Some((node, peer)) = pair() else { return };
        let node = Side::listening(node, unspecified(here.contains(':')));
        let mut stream = dial(&peer, SocketAddr::new(ip(here), PORT), Some(there), None, None);
        connected(&stream);
        let mut accepted = node.accept();
        tcp::settle(&accepted, None, Some(&key("secret"))).unwrap();
        node.drops("TCPMD5NotFound", || stream.write_all(b"open").unwrap());
        assert_eq!(accepted.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock, "{here}");
    }
}

#[test]
fn keys_beyond_the_option_memory_fail_one_by_one_and_the_others_are_kept() {
    let limit = std::fs::read_to_string("/proc/sys/net/core/optmem_max").unwrap();
    let count = limit.trim().parse::<u32>().unwrap() / 64;
    let Some((node, peer)) = pair() else { return };
    let bound = node.open().run(|| Bound::at(unspecified(false))).unwrap().unwrap();
    tcp::set_key(&bound, ip("192.0.2.2"), Some(&key("secret"))).unwrap();
    let set =
        |host: u32| tcp::set_key(&bound, std::net::Ipv4Addr::from_bits(0x0a00_0000 + host).into(), Some(&key("x")));
    let error = (0..count).find_map(|host| set(host).err()).expect("the option memory has an end");
    assert_eq!(error.errno(), Some(nix::errno::Errno::ENOMEM), "{error}");
    let node = Side { namespace: node, listener: bound.listen().unwrap() };
    let stream = dial(&peer, SocketAddr::new(ip("192.0.2.1"), PORT), None, None, Some(&key("secret")));
    connected(&stream);
    carries(&stream, &node.accept());
}

#[test]
fn ttl_security_lets_255_pass_and_drops_254() {
    for (here, there) in ENDS {
        let Some((node, peer)) = pair() else { return };
        let node = Side::listening(node, unspecified(here.contains(':')));
        let to = SocketAddr::new(ip(here), PORT);
        let mut stream = dial(&peer, to, Some(there), Some(Reach::Hops(hops(254))), None);
        connected(&stream);
        let mut accepted = node.accept();
        tcp::settle(&accepted, Some(Reach::Security(hops(1))), None).unwrap();
        node.drops("TCPMinTTLDrop", || stream.write_all(b"open").unwrap());
        assert_eq!(accepted.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock, "{here}");

        // One hop more is allowed, or it comes from one hop nearer: what was dropped is sent again, and taken.
        if here.contains(':') {
            tcp::settle(&accepted, Some(Reach::Security(hops(2))), None).unwrap();
        } else {
            tcp::settle(&stream, Some(Reach::Security(hops(1))), None).unwrap();
        }
        assert!(ready(&accepted, PollFlags::POLLIN, PATIENCE), "{here}");
        assert_eq!(accepted.read(&mut [0; 8]).unwrap(), 4);
        // Who demands it is answered by the listener with 255 from the beginning.
        let stream = dial(&peer, to, Some(there), Some(Reach::Security(hops(1))), None);
        connected(&stream);
    }
}
