//! Tells that something in the namespace changed, without saying what: the caller dumps and compares.
//!
//! The daemon's reconciler sleeps on it. What it did itself is heard too, and is no news where it said so ([`Echoes`]).

mod echoes;
mod touched;

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::Error;
use crate::netlink::frame::{Frame, Frames};
use crate::netlink::socket::{enlarge, transport, transport_errno};

pub use self::echoes::Echoes;
pub use self::touched::{Devices, Touched};

/// Groups of NETLINK_ROUTE (include/uapi/linux/rtnetlink.h): link, neigh, traffic control, IPv4 ifaddr and route, IPv6 ifaddr and route,
/// IPv4 and IPv6 netconf. FDB entries are told to the neighbours' group. Of the sysctls netconf tells of `forwarding` and of
/// IPv4's `rp_filter`, without which no packet passes; the others change without a word.
const ROUTE_GROUPS: [u32; 9] = [1, 3, 4, 5, 7, 9, 11, 24, 25];
/// NFNLGRP_NFTABLES (include/uapi/linux/netfilter/nfnetlink.h).
const NFTABLES_GROUP: u32 = 7;
/// Larger than any notification; one that is cut off all the same is an event like others.
const READ: usize = 64 * 1024;

/// A subscription to links, addresses, routes, neighbours (FDB entries among them), filters, forwarding and nftables.
#[derive(Debug)]
pub struct Monitor {
    network: Socket,
    /// Absent where the kernel has no netfilter netlink.
    firewall: Option<Socket>,
    echoes: Arc<Echoes>,
    touched: Arc<Touched>,
    buffer: Vec<u8>,
}

/// What was heard. An overrun of the socket's buffer counts as everything changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Heard {
    /// Links, addresses, routes, neighbours, filters, forwarding.
    pub network: bool,
    /// nftables.
    pub firewall: bool,
    /// There was an overrun, of either.
    pub in_part: bool,
}

impl Heard {
    fn anything(self) -> bool {
        self.network || self.firewall
    }
}

impl Monitor {
    /// Subscribes in the caller's namespace. What changes from then on is heard, but for what `echoes` expects; what it tells of filters, and
    /// that it may have missed some, is noted in `touched`.
    pub fn open(echoes: Arc<Echoes>, touched: Arc<Touched>) -> Result<Self, Error> {
        let network = subscribe(NETLINK_ROUTE, &ROUTE_GROUPS)?;
        let firewall = match subscribe(NETLINK_NETFILTER, &[NFTABLES_GROUP]) {
            Err(Error::Transport { cause, .. }) if cause.raw_os_error() == Some(libc::EPROTONOSUPPORT) => None,
            socket => Some(socket?),
        };
        touched.all();
        Ok(Self { network, firewall, echoes, touched, buffer: Vec::with_capacity(READ) })
    }

    /// Waits up to `patience` for the first event, drains the rest; all false on a time-out.
    pub fn wait(&mut self, patience: Duration) -> Result<Heard, Error> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let ready = self.poll(left)?;
            let mut heard = Heard::default();
            if ready {
                let (echoes, touched) = (&self.echoes, &self.touched);
                let of_network = |frame: &Frame<'_>| {
                    touched.note(frame);
                    is_news(frame) && !echoes.has_object(frame)
                };
                let network = drain(&self.network, &mut self.buffer, of_network)?;
                if network == Told::InPart {
                    touched.all();
                }
                let firewall = match &self.firewall {
                    Some(socket) => drain(socket, &mut self.buffer, |frame| !echoes.has_process(frame))?,
                    None => Told::Nothing,
                };
                heard = Heard {
                    network: network != Told::Nothing,
                    firewall: firewall != Told::Nothing,
                    in_part: network.max(firewall) == Told::InPart,
                };
            }
            if heard.anything() || left.is_zero() {
                return Ok(heard);
            }
        }
    }

    /// Whether there is something to read within that time.
    fn poll(&self, patience: Duration) -> Result<bool, Error> {
        let sockets = [Some(&self.network), self.firewall.as_ref()];
        let mut fds: Vec<PollFd<'_>> =
            sockets.into_iter().flatten().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)).collect();
        // Rounded up, or the last millisecond would be spent spinning.
        let millis = patience.as_nanos().div_ceil(1_000_000);
        let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::EINTR) => Ok(false),
            Err(errno) => Err(transport_errno("wait for changes")(errno)),
        }
    }
}

fn subscribe(protocol: isize, groups: &[u32]) -> Result<Socket, Error> {
    let mut socket = Socket::new(protocol).map_err(transport("open a socket for changes"))?;
    socket.set_non_blocking(true).map_err(transport("make a socket non-blocking"))?;
    enlarge(socket.as_fd())?;
    socket.bind(&SocketAddr::new(0, 0)).map_err(transport("bind a socket for changes"))?;
    for group in groups {
        socket.add_membership(*group).map_err(transport("subscribe to changes"))?;
    }
    Ok(socket)
}

/// What a socket has told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    /// No news.
    Nothing,
    /// News.
    All,
    /// What was lost may be news.
    InPart,
}

/// Reads all that is there, each frame of it.
fn drain(socket: &Socket, buffer: &mut Vec<u8>, is_news: impl Fn(&Frame<'_>) -> bool) -> Result<Told, Error> {
    let read = |bytes: &[u8]| {
        let frames = Frames::over(bytes).map(|frame| match frame {
            Ok(frame) if is_news(&frame) => Told::All,
            Ok(_) => Told::Nothing,
            Err(_) => Told::InPart,
        });
        frames.max().unwrap_or(Told::Nothing)
    };
    let mut told = Told::Nothing;
    loop {
        buffer.clear();
        match socket.recv_from(buffer, libc::MSG_TRUNC) {
            Ok((length, _)) => {
                told = told.max(read(buffer));
                if length > buffer.len() {
                    told = Told::InPart;
                }
            }
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN) => return Ok(told),
                Some(libc::ENOBUFS) => told = Told::InPart,
                Some(libc::EINTR) => {}
                _ => return Err(transport("read changes")(error)),
            },
        }
    }
}

/// Whether a notification tells of more than a neighbour's daily life: entries that the kernel resolves and ages by
/// itself would wake the caller all the time. What a program does to a neighbour bears the number of its socket
/// (`neigh_add` in net/core/neighbour.c), also where it puts one that ages in place of a permanent one. An FDB entry bears
/// none; one that ages, in place of a permanent one, is noticed by the caller's timer.
fn is_news(frame: &Frame<'_>) -> bool {
    const RTM_NEWNEIGH: u16 = 28;
    const LASTING: u16 = libc::NUD_PERMANENT | libc::NUD_NOARP;
    // ndm_state stands at byte 8 of struct ndmsg.
    match frame.payload.get(8..10) {
        Some(state) if frame.kind == RTM_NEWNEIGH => {
            frame.port != 0 || u16::from_ne_bytes([state[0], state[1]]) & LASTING != 0
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether an RTM_NEWNEIGH or RTM_DELNEIGH with that state, by the socket of that number, is news.
    fn tells(kind: u16, state: u16, port: u32) -> bool {
        let mut payload = [0; 12];
        payload[8..10].copy_from_slice(&state.to_ne_bytes());
        is_news(&Frame { kind, flags: 0, sequence: 0, port, payload: &payload })
    }

    #[test]
    fn a_neighbours_daily_life_is_no_news() {
        for state in [libc::NUD_REACHABLE, libc::NUD_STALE, libc::NUD_INCOMPLETE, libc::NUD_FAILED] {
            assert!(!tells(28, state, 0), "{state:#x}");
        }
    }

    #[test]
    fn what_a_program_does_to_a_neighbour_is_news() {
        assert!(tells(28, libc::NUD_REACHABLE, 4711));
    }

    #[test]
    fn a_permanent_neighbour_and_a_deleted_one_and_everything_else_is_news() {
        assert!(tells(28, libc::NUD_PERMANENT, 0));
        assert!(tells(29, libc::NUD_STALE, 0), "RTM_DELNEIGH");
        assert!(tells(24, libc::NUD_STALE, 0), "RTM_NEWROUTE");
    }
}
