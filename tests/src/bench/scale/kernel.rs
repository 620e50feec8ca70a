//! What the kernel of the node says of its routes, neighbours and FDB entries while they come and go.
//!
//! Polling by dumps would take from the daemon one of the two processors that such machines have, and would be late by its
//! interval. So the kernel's own notifications are read, whose number is also that of the changes that were made; a
//! dump by iproute2 then confirms that the numbers are those that shall stand.

use std::collections::HashSet;
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use crate::lab::{PROTOCOL_CLUSTER, VXLAN};
use crate::node::Node;
use crate::{LabError, Result};

/// Notifications of neighbours and FDB entries, and of routes of both families (RTMGRP_ of rtnetlink(7)).
const GROUPS: u32 = 0x4 | 0x40 | 0x400;
/// Room for the notifications of a cold start, should the reader be late, in bytes.
const BUFFER: usize = 64 << 20;
/// How soon the reading thread sees that nobody listens any more.
const TURN: TimeVal = TimeVal::new(0, 100_000);
/// Without any change the kernel is taken to be at rest.
const QUIET: Duration = Duration::from_millis(300);

/// What stands in the kernel for another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Object {
    /// A route to a block.
    Route(IpNetwork),
    /// A neighbour on the tunnel's device.
    Neighbour(IpAddr),
    /// An FDB entry: the VTEP's MAC, and where it is.
    Fdb([u8; 6], IpAddr),
}

/// An object has come to stand, or has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Event {
    /// It has come, or was changed to this.
    pub made: bool,
    /// Which.
    pub object: Object,
}

/// How many objects of the daemon stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Routes to other nodes' blocks.
    pub routes: usize,
    /// Permanent neighbours on the tunnel's device.
    pub neighbours: usize,
    /// FDB entries with a remote end.
    pub fdb: usize,
}

impl Standing {
    /// By dumps of iproute2.
    pub fn of(node: &Node) -> Result<Self> {
        let protocol = PROTOCOL_CLUSTER.to_string();
        let mut standing = Self::default();
        for family in ["-4", "-6"] {
            let routes = node.run(&["ip", "-N", family, "route", "show", "proto", &protocol, "dev", VXLAN])?;
            standing.routes += routes.lines().count();
            let neighbours = node.run(&["ip", family, "neigh", "show", "dev", VXLAN, "nud", "permanent"])?;
            standing.neighbours += neighbours.lines().count();
        }
        let fdb = node.run(&["bridge", "fdb", "show", "dev", VXLAN])?;
        standing.fdb = fdb.lines().filter(|line| line.contains(" dst ")).count();
        Ok(standing)
    }
}

/// Reads notifications for as long as it lives.
#[derive(Debug)]
pub struct Witness {
    events: Receiver<Result<(Instant, Event)>>,
    /// So many events were seen.
    seen: usize,
    /// While it is there, the thread reads.
    _alive: Arc<()>,
}

impl Witness {
    /// Begins to read those of a node's namespace.
    pub fn open(node: &Node) -> Result<Self> {
        let what = "subscribing to the kernel's changes";
        let socket = node.namespace().enter(subscribe)?.map_err(LabError::errno(what))?;
        let (sender, events) = mpsc::channel();
        let alive = Arc::new(());
        let watched = Arc::downgrade(&alive);
        std::thread::spawn(move || listen(&socket, &sender, &watched));
        Ok(Self { events, seen: 0, _alive: alive })
    }

    /// Waits until all of this was seen since the last call. When the last of it was.
    pub fn wait(&mut self, mut wanted: HashSet<Event>, patience: Duration) -> Result<Instant> {
        let deadline = Instant::now() + patience;
        let mut last = Instant::now();
        while !wanted.is_empty() {
            match self.next(deadline.saturating_duration_since(Instant::now()))? {
                Some((at, event)) => {
                    if wanted.remove(&event) {
                        last = at;
                    }
                }
                None => {
                    let first = wanted.iter().next().expect("it is not empty");
                    return Err(LabError::wrong(format!(
                        "after {patience:?} {} changes of the kernel are still awaited, {first:?} among them",
                        wanted.len()
                    )));
                }
            }
        }
        Ok(last)
    }

    /// Waits until nothing has changed for a while. How many changes there were since the last call.
    pub fn settle(&mut self) -> Result<usize> {
        while self.next(QUIET)?.is_some() {}
        Ok(std::mem::take(&mut self.seen))
    }

    fn next(&mut self, patience: Duration) -> Result<Option<(Instant, Event)>> {
        match self.events.recv_timeout(patience) {
            Ok(event) => {
                self.seen += 1;
                event.map(Some)
            }
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(LabError::wrong("the kernel's changes are not read any more")),
        }
    }
}

fn subscribe() -> nix::Result<OwnedFd> {
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TURN)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
    Ok(socket)
}

fn listen(socket: &OwnedFd, events: &Sender<Result<(Instant, Event)>>, alive: &Weak<()>) {
    let mut buffer = vec![0; 64 << 10];
    // The socket keeps its namespace: it must not outlive the lab.
    while alive.strong_count() > 0 {
        match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(length) => {
                let now = Instant::now();
                for event in Messages(&buffer[..length]).filter_map(|(kind, body)| read(kind, body)) {
                    if events.send(Ok((now, event))).is_err() {
                        return;
                    }
                }
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => {
                events.send(Err(LabError::errno("reading the kernel's changes")(errno))).ok();
                return;
            }
        }
    }
}

/// The messages of a datagram (netlink(7)), and the attributes of a message: both are a length and a type of 16 bits
/// somewhere in a header, and padded to four bytes.
struct Messages<'a>(&'a [u8]);

/// struct nlmsghdr.
const HEADER: usize = 16;

impl<'a> Iterator for Messages<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = u32::from_ne_bytes(self.0.get(..4)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(self.0.get(4..6)?.try_into().ok()?);
        let body = self.0.get(HEADER..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    }
}

/// The value of an attribute of struct rtmsg and struct ndmsg, both of which have twelve bytes.
fn attribute(body: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = body.get(12..)?;
    loop {
        let length = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?);
        if kind == wanted {
            return rest.get(4..length);
        }
        rest = rest.get(length.max(4).next_multiple_of(4)..)?;
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// What a message says of the objects that are looked at: others' routes, and neighbours that are not permanent, are no
/// business of the daemon's.
fn read(kind: u16, body: &[u8]) -> Option<Event> {
    const DESTINATION: u16 = 1;
    const LINK_LAYER_ADDRESS: u16 = 2;
    let made = match kind {
        libc::RTM_NEWROUTE | libc::RTM_NEWNEIGH => true,
        libc::RTM_DELROUTE | libc::RTM_DELNEIGH => false,
        _ => return None,
    };
    let destination = address(attribute(body, DESTINATION)?)?;
    let object = if kind == libc::RTM_NEWROUTE || kind == libc::RTM_DELROUTE {
        let (length, protocol, unicast) = (*body.get(1)?, *body.get(5)?, *body.get(7)? == libc::RTN_UNICAST);
        if protocol != PROTOCOL_CLUSTER || !unicast {
            return None;
        }
        Object::Route(IpNetwork::new(destination, length).ok()?)
    } else if i32::from(*body.first()?) == libc::AF_BRIDGE {
        Object::Fdb(attribute(body, LINK_LAYER_ADDRESS)?.try_into().ok()?, destination)
    } else {
        let permanent = u16::from_ne_bytes(body.get(8..10)?.try_into().ok()?) & libc::NUD_PERMANENT != 0;
        if made && !permanent {
            return None;
        }
        Object::Neighbour(destination)
    };
    Some(Event { made, object })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_and_an_entry_of_the_fdb_are_read() {
        // RTM_NEWROUTE: AF_INET, /26, main, protocol 116, unicast; RTA_TABLE before RTA_DST 10.42.1.0.
        let mut message = vec![2, 26, 0, 0, 254, PROTOCOL_CLUSTER, 0, 1, 0, 0, 0, 0];
        message.extend([8, 0, 15, 0, 254, 0, 0, 0, 8, 0, 1, 0, 10, 42, 1, 0]);
        let mut datagram = vec![44, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        datagram.extend(&message);
        // RTM_DELNEIGH: AF_BRIDGE, interface 3, permanent; NDA_LLADDR and NDA_DST.
        datagram.extend([48, 0, 0, 0, 29, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        datagram.extend([7, 0, 0, 0, 3, 0, 0, 0, 0x80, 0, 2, 0]);
        datagram.extend([10, 0, 2, 0, 2, 0, 0x5e, 0x10, 0, 9, 0, 0, 8, 0, 1, 0, 172, 16, 0, 9]);
        let events: Vec<_> = Messages(&datagram).filter_map(|(kind, body)| read(kind, body)).collect();
        let route = Object::Route("10.42.1.0/26".parse().unwrap());
        let entry = Object::Fdb([2, 0, 0x5e, 0x10, 0, 9], [172, 16, 0, 9].into());
        assert_eq!(events, [Event { made: true, object: route }, Event { made: false, object: entry }]);
    }

    #[test]
    fn what_is_cut_short_is_no_event_and_no_panic() {
        let message = [2, 26, 0, 0, 254, PROTOCOL_CLUSTER, 0, 1, 0, 0, 0, 0, 8, 0, 1];
        assert_eq!(read(libc::RTM_NEWROUTE, &message), None);
        assert_eq!(Messages(&[200, 0, 0, 0, 24]).count(), 0);
    }
}
