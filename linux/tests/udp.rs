//! The sockets of BFD by a real kernel: what is told of a packet that came, and what one that is sent looks like.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod lab;

use std::net::{SocketAddr, SocketAddrV6};
use std::os::fd::AsFd;
use std::time::Duration;

use lab::{Namespace, ip, pair};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use twill_linux::udp::{Datagram, Receiver, SINGLE_HOP, Sender};

const PATIENCE: Duration = Duration::from_secs(20);

fn receiver(namespace: &Namespace, at: SocketAddr) -> Receiver {
    namespace.open().run(|| Receiver::open(at)).unwrap().unwrap()
}

fn sender(namespace: &Namespace, source: &str, to: SocketAddr) -> Sender {
    namespace.open().run(|| Sender::open(ip(source), to)).unwrap().unwrap()
}

fn next(receiver: &Receiver, payload: &[u8]) -> Datagram {
    let mut fds = [PollFd::new(receiver.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut fds, PollTimeout::try_from(PATIENCE).unwrap()), Ok(1), "nothing comes");
    let mut buffer = [0; 64];
    let datagram = receiver.receive(&mut buffer).unwrap().unwrap();
    assert_eq!(&buffer[..datagram.length], payload);
    assert_eq!(receiver.receive(&mut buffer).unwrap(), None, "there is one");
    datagram
}

fn index(side: &Namespace) -> u32 {
    side.ip("-o link show dev eth0").split(':').next().unwrap().trim().parse().unwrap()
}

#[test]
fn a_packet_tells_where_it_was_sent_to_and_its_interface() {
    let Some((node, peer)) = pair() else { return };
    for (unspecified, here, there) in [("0.0.0.0", "192.0.2.1", "192.0.2.2"), ("::", "2001:db8::1", "2001:db8::2")] {
        let receiver = receiver(&node, SocketAddr::new(ip(unspecified), SINGLE_HOP));
        assert_eq!(receiver.receive(&mut [0; 64]).unwrap(), None);
        let sender = sender(&peer, there, SocketAddr::new(ip(here), SINGLE_HOP));
        sender.send(b"control").unwrap();
        let first = next(&receiver, b"control");
        assert!((49_152..=65_535).contains(&first.from.port()) && first.from.ip() == ip(there), "{}", first.from);
        assert_eq!(first, Datagram { length: 7, from: first.from, to: ip(here), interface: index(&node) });
        sender.send(b"again").unwrap();
        assert_eq!(next(&receiver, b"again").from, first.from, "a session keeps its port");
    }
}

#[test]
fn packets_from_further_away_take_no_room() {
    let Some((node, peer)) = pair() else { return };
    for (here, there) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
        let at = SocketAddr::new(ip(here), SINGLE_HOP);
        let receiver = receiver(&node, at);
        let socket = peer.open().run(|| std::net::UdpSocket::bind((ip(there), 0))).unwrap().unwrap();
        match at.is_ipv6() {
            false => setsockopt(&socket, sockopt::Ipv4Ttl, &254).unwrap(),
            true => setsockopt(&socket, sockopt::Ipv6Ttl, &254).unwrap(),
        }
        // More than the queue holds.
        for _ in 0..10_000 {
            socket.send_to(b"forged", at).unwrap();
        }
        sender(&peer, there, at).send(b"control").unwrap();
        next(&receiver, b"control");
    }
}

#[test]
fn hundreds_of_neighbours_may_send_at_once() {
    const PACKETS: usize = 800;
    let Some((node, peer)) = pair() else { return };
    let at = SocketAddr::new(ip("192.0.2.1"), SINGLE_HOP);
    let receiver = receiver(&node, at);
    let sender = sender(&peer, "192.0.2.2", at);
    (0..PACKETS).for_each(|_| sender.send(&[0; 24]).unwrap());
    let mut came = 0;
    while came < PACKETS {
        let mut fds = [PollFd::new(receiver.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, PollTimeout::try_from(PATIENCE).unwrap()), Ok(1), "{came} came");
        came += std::iter::from_fn(|| receiver.receive(&mut [0; 64]).unwrap()).count();
    }
}

#[test]
fn link_local_ends_are_told_by_their_scope() {
    let Some((node, peer)) = pair() else { return };
    let receiver = receiver(&node, SocketAddr::new(ip("::"), SINGLE_HOP));
    let to = SocketAddrV6::new("fe80::1".parse().unwrap(), SINGLE_HOP, 0, index(&peer));
    let sender = sender(&peer, "fe80::2", to.into());
    sender.send(b"control").unwrap();
    let datagram = next(&receiver, b"control");
    let SocketAddr::V6(from) = datagram.from else { panic!("it is IPv6") };
    assert_eq!((from.ip().to_string(), from.scope_id()), ("fe80::2".to_owned(), index(&node)));
    assert_eq!((datagram.to, datagram.interface), (ip("fe80::1"), index(&node)));
}

#[test]
fn sessions_have_ports_of_their_own_and_nobody_listening_costs_no_packet() {
    let Some((_node, peer)) = pair() else { return };
    let to = SocketAddr::new(ip("192.0.2.1"), SINGLE_HOP);
    let sessions: Vec<Sender> = (0..64).map(|_| sender(&peer, "192.0.2.2", to)).collect();
    let sockets = peer.must("ss -Huan src 192.0.2.2");
    let ports: std::collections::BTreeSet<&str> =
        sockets.lines().filter_map(|line| line.split_whitespace().nth(3)).collect();
    assert_eq!(ports.len(), 64, "{sockets}");
    for _ in 0..10 {
        sessions[0].send(b"control").unwrap();
    }
    assert!(sent(&peer) >= 10);
    let error = peer.open().run(|| Sender::open(ip("192.0.2.99"), to)).unwrap().unwrap_err().to_string();
    assert!(error.starts_with("send to UDP 192.0.2.1:3784 from 192.0.2.99: "), "{error}");
}

/// The UDP datagrams that the namespace sent, by /proc/net/snmp.
fn sent(namespace: &Namespace) -> u64 {
    let text = namespace.must("cat /proc/net/snmp");
    let mut lines = text.lines().filter(|line| line.starts_with("Udp:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let position = names.split(' ').position(|name| name == "OutDatagrams").unwrap();
    values.split(' ').nth(position).unwrap().parse().unwrap()
}
