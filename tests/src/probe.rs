//! A packet a millisecond, each with a number, to a server that sends it back: what is lost, and for how long. None is
//! fragmented, on either way.
//!
//! `ping -i 0.001` counts the packet that is on its way when it is stopped as lost; this does not.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

use crate::deadline::{self, PATIENCE};
use crate::namespace::Namespace;
use crate::{LabError, Result};

/// The payload: a number, and bytes up to a usual small packet.
const PAYLOAD: usize = 56;
/// No packet is longer.
const LONGEST: usize = 1 << 16;
/// Holds some seconds of packets, so that a busy machine loses none in the sockets themselves.
const BUFFER: usize = 4 << 20;
/// How often the threads look whether they are to end.
const TICK: Duration = Duration::from_millis(20);

/// A probe that runs until [`stop`](Self::stop).
#[derive(Debug)]
pub struct Probe {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// No more packets are sent.
    quiet: AtomicBool,
    /// The threads end.
    stop: AtomicBool,
    answered: AtomicU64,
    packets: Mutex<Vec<Packet>>,
}

#[derive(Debug, Clone, Copy)]
struct Packet {
    sent: Instant,
    answered: bool,
}

/// What became of the packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// All packets.
    pub sent: u64,
    /// Packets without an answer, also those that could not be sent.
    pub lost: u64,
    /// From the last answered packet before a loss to the first one after it, the longest; zero without a loss.
    pub longest_gap: Duration,
}

impl Probe {
    /// Starts to send small packets from one namespace to an address in another, at this interval.
    pub fn start(from: &Namespace, to: &Namespace, target: IpAddr, interval: Duration) -> Result<Self> {
        Self::start_sized(from, to, target, interval, PAYLOAD)
    }

    /// The same with the longest packets that fit into this MTU.
    pub fn start_full(from: &Namespace, to: &Namespace, target: IpAddr, interval: Duration, mtu: u64) -> Result<Self> {
        // The headers of IP and UDP.
        let headers = if target.is_ipv6() { 40 + 8 } else { 20 + 8 };
        let payload = usize::try_from(mtu).unwrap_or(LONGEST).saturating_sub(headers).clamp(8, LONGEST);
        Self::start_sized(from, to, target, interval, payload)
    }

    fn start_sized(
        from: &Namespace,
        to: &Namespace,
        target: IpAddr,
        interval: Duration,
        payload: usize,
    ) -> Result<Self> {
        let what = |what: &str| format!("{what} from {} to {target} in {}", from.name(), to.name());
        let server = to.enter(|| server(target))?.map_err(LabError::io(what("answering")))?;
        let port = server.local_addr().map_err(LabError::io(what("answering")))?.port();
        let client = from.enter(|| client(target, port))?.map_err(LabError::io(what("probing")))?;
        let receiver = client.try_clone().map_err(LabError::io(what("probing")))?;
        let shared = Arc::new(Shared::default());
        let share = || Arc::clone(&shared);
        let (for_server, for_sender, for_receiver) = (share(), share(), share());
        let threads = vec![
            std::thread::spawn(move || answer(&server, &for_server)),
            std::thread::spawn(move || send(&client, &for_sender, interval, payload)),
            std::thread::spawn(move || receive(&receiver, &for_receiver)),
        ];
        Ok(Self { shared, threads })
    }

    /// Waits until so many more packets are answered.
    pub fn until_answered(&self, more: u64) -> Result<()> {
        let goal = self.shared.answered.load(Ordering::Relaxed) + more;
        deadline::until_some(&format!("{more} more answers"), PATIENCE, || {
            let answered = self.shared.answered.load(Ordering::Relaxed);
            Ok(if answered >= goal { Ok(()) } else { Err(format!("{answered} of {goal}")) })
        })
    }

    /// Stops, waits for the answers that are still on their way, and counts.
    pub fn stop(mut self) -> Result<Report> {
        self.shared.quiet.store(true, Ordering::Relaxed);
        // What has no answer when this ends has none: that is what the report is about.
        let all = || Ok(self.shared.lock().iter().all(|packet| packet.answered));
        deadline::until("all packets are answered", Duration::from_secs(1), all).unwrap_or_default();
        self.end();
        Ok(report(&self.shared.lock()))
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // They cannot panic; and if one did, the count shows it.
            thread.join().unwrap_or_default();
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Packet>> {
        self.packets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn server(address: IpAddr) -> io::Result<UdpSocket> {
    prepared(UdpSocket::bind((address, 0))?)
}

fn client(target: IpAddr, port: u16) -> io::Result<UdpSocket> {
    let any: IpAddr = if target.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect((target, port))?;
    prepared(socket)
}

fn prepared(socket: UdpSocket) -> io::Result<UdpSocket> {
    setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)?;
    never_fragment(&socket)?;
    socket.set_read_timeout(Some(TICK))?;
    Ok(socket)
}

/// A packet that is too long for the way is an error, and not two packets (IP_MTU_DISCOVER, ip(7)).
fn never_fragment(socket: &UdpSocket) -> io::Result<()> {
    let (level, name, value) = if socket.local_addr()?.is_ipv4() {
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO)
    } else {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO)
    };
    let length = libc::socklen_t::try_from(size_of_val(&value)).expect("an int is short");
    #[expect(unsafe_code, reason = "no crate of ours has this option")]
    // SAFETY: the descriptor is open, and the pointer is to a value of the length that is given.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn answer(socket: &UdpSocket, shared: &Shared) {
    let mut buffer = vec![0; LONGEST];
    while !shared.stop.load(Ordering::Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            // An answer that cannot be sent is a packet that is lost, and is counted at the other end.
            socket.send_to(&buffer[..length], from).unwrap_or_default();
        }
    }
}

fn send(socket: &UdpSocket, shared: &Shared, interval: Duration, payload: usize) {
    let mut due = Instant::now();
    let mut number = 0_u64;
    let mut payload = vec![0; payload];
    while !shared.quiet.load(Ordering::Relaxed) && !shared.stop.load(Ordering::Relaxed) {
        payload[..8].copy_from_slice(&number.to_be_bytes());
        shared.lock().push(Packet { sent: Instant::now(), answered: false });
        // A route that is missing shows as an error here; the packet counts as lost.
        socket.send(&payload).unwrap_or_default();
        number += 1;
        due += interval;
        sleep(due.saturating_duration_since(Instant::now()));
    }
}

fn receive(socket: &UdpSocket, shared: &Shared) {
    let mut buffer = vec![0; LONGEST];
    while !shared.stop.load(Ordering::Relaxed) {
        let Ok(length) = socket.recv(&mut buffer) else { continue };
        let Some(number) = buffer[..length].first_chunk() else { continue };
        let number = u64::from_be_bytes(*number);
        let mut packets = shared.lock();
        let packet = usize::try_from(number).ok().and_then(|n| packets.get_mut(n));
        if let Some(packet) = packet.filter(|p| !p.answered) {
            packet.answered = true;
            shared.answered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn report(packets: &[Packet]) -> Report {
    let count = |n: usize| u64::try_from(n).expect("a count of packets");
    let lost = packets.iter().filter(|p| !p.answered).count();
    let mut longest_gap = Duration::ZERO;
    for burst in packets.chunk_by(|a, b| a.answered || !b.answered).filter(|b| b.iter().any(|p| !p.answered)) {
        let before = burst.iter().rev().find(|p| p.answered).or(burst.first());
        let end = burst.as_ptr_range().end;
        let after = packets.iter().find(|p| std::ptr::from_ref(*p) >= end).or(burst.last());
        if let (Some(before), Some(after)) = (before, after) {
            longest_gap = longest_gap.max(after.sent.duration_since(before.sent));
        }
    }
    Report { sent: count(packets.len()), lost: count(lost), longest_gap }
}

impl Report {
    /// Asserts that something was sent and nothing was lost.
    pub fn expect_no_loss(&self) -> Result<()> {
        if self.sent > 0 && self.lost == 0 {
            return Ok(());
        }
        Err(LabError::wrong(format!("{} of {} packets lost, a gap of {:?}", self.lost, self.sent, self.longest_gap)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reported(pattern: &str) -> (u64, u64) {
        let start = Instant::now();
        let packet = |(n, c): (usize, char)| Packet {
            sent: start + Duration::from_millis(u64::try_from(n).unwrap()),
            answered: c == '.',
        };
        let report = report(&pattern.chars().enumerate().map(packet).collect::<Vec<_>>());
        (report.lost, u64::try_from(report.longest_gap.as_millis()).unwrap())
    }

    #[test]
    fn no_loss_is_no_gap() {
        assert_eq!(reported("....."), (0, 0));
    }

    #[test]
    fn a_gap_lasts_from_the_answer_before_to_the_answer_after() {
        assert_eq!(reported("..x.."), (1, 2));
        assert_eq!(reported(".x..xxx."), (4, 4));
    }

    #[test]
    fn a_gap_at_an_end_lasts_to_the_last_packet() {
        assert_eq!(reported("..xx"), (2, 2));
        assert_eq!(reported("xx.."), (2, 2));
        assert_eq!(reported("xxx"), (3, 2));
    }
}
