//! Asks another machine for a sign of life, by packets that are not to be fragmented on their way.
//!
//! The kernel of the other machine answers by itself, so nothing of ours has to run there. A *ping* tells that packets of a
//! size come back (RFC 792, RFC 4443). A *refusal* is what a datagram to a port that nobody listens at comes back as; the
//! kernel sends it only if the checksum of the datagram was right, which cards may get wrong where those of a ping, computed
//! by software, are right. One of a firewall on the way is no answer. A *word* is answered by a [`Responder`], which says whom
//! it heard. Each question has a socket of its own, connected to whom it asks, and a word that its answer must bear. It works in
//! the namespace of the calling thread and needs CAP_NET_RAW.
#![allow(unsafe_code)]

mod refusal;
mod responder;

pub use responder::Responder;

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

/// A port at which nobody listens: the first one that traceroute uses.
const NOBODY: u16 = 33434;
/// The header of an echo, in bytes, in both families.
const ECHO: usize = 8;
/// The longest packet that is asked for, in bytes.
const LONGEST: usize = 65_535;
/// No more packets of one socket are taken before the time is looked at: whoever sends without end is not listened to for ever.
const AT_ONCE: usize = 64;

/// What the kernel says where it has no way to an address: no route, and one of the type unreachable, prohibit or blackhole
/// (`fib_props` in net/ipv4/fib_semantics.c, `fib6_prop` in net/ipv6/route.c), or a rule of such a type
/// (net/ipv4/fib_rules.c); and of IPv6 that it has no address to send from (net/ipv6/addrconf.c, `ipv6_dev_get_saddr`).
const NO_WAY: [i32; 5] = [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::EACCES, libc::EINVAL, libc::EADDRNOTAVAIL];

/// How an answer is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// By an echo request of so many bytes, the IP header among them.
    Ping(u32),
    /// By a small datagram to a closed port.
    Refusal,
    /// By a datagram to a [`Responder`].
    Word {
        /// The bytes of the packet, the headers of IP and UDP among them.
        size: u32,
        /// The responder's port.
        port: u16,
    },
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// How long it took, from when the question was last put.
    pub time: Duration,
    /// Whom a responder heard.
    pub heard: Option<IpAddr>,
}

/// A question to a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// Whom.
    pub to: IpAddr,
    /// How.
    pub how: How,
}

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Answered(Answer),
    /// It was put, and nothing came back in time.
    Silence,
    /// It was never put: this machine has no way there. The errno that says so, such as EHOSTUNREACH.
    NoWay(i32),
    /// It was never put, though there is a way: this machine refused to send it each time. The errno of send(2), which is EPERM where a
    /// firewall of this machine drops it.
    Unsent(i32),
}

impl Outcome {
    /// The answer, if there is one.
    pub fn answer(self) -> Option<Answer> {
        match self {
            Self::Answered(answer) => Some(answer),
            Self::Silence | Self::NoWay(_) | Self::Unsent(_) => None,
        }
    }

    /// Why there is no way, if there is none.
    pub fn no_way(self) -> Option<i32> {
        match self {
            Self::NoWay(errno) => Some(errno),
            Self::Answered(_) | Self::Silence | Self::Unsent(_) => None,
        }
    }

    /// Why this machine has refused to send it, if it has.
    pub fn unsent(self) -> Option<i32> {
        match self {
            Self::Unsent(errno) => Some(errno),
            Self::Answered(_) | Self::Silence | Self::NoWay(_) => None,
        }
    }
}

/// Asks all questions at once, those without an answer up to `tries` times, each time for as long as `patience`, where any was sent. What
/// became of them, in their order. `word`: what nobody else's packets bear.
///
/// It lasts `tries` times `patience` at the most, whatever comes. Fails only where sockets are not to be had. What is too large for
/// its interface is not answered.
pub fn answers(questions: &[Question], word: [u8; 8], tries: u16, patience: Duration) -> io::Result<Vec<Outcome>> {
    let mut open = questions.iter().map(|question| Asking::open(*question, word)).collect::<io::Result<Vec<_>>>()?;
    let mut buffer = vec![0; LONGEST];
    for sequence in 0..tries {
        open.iter_mut().filter(|asking| asking.is_waiting()).for_each(|asking| asking.send(sequence));
        listen(&mut open, Instant::now() + patience, &mut buffer)?;
    }
    Ok(open.iter().map(Asking::outcome).collect())
}

/// Takes what comes until all are answered, or the deadline. What came before that may be taken a little after it, and no more.
fn listen(open: &mut [Asking], deadline: Instant, buffer: &mut [u8]) -> io::Result<()> {
    while open.iter().any(Asking::is_listening) && wait(open, deadline)? {
        open.iter_mut().filter(|asking| asking.is_listening()).for_each(|asking| asking.receive(buffer));
        if Instant::now() >= deadline {
            break;
        }
    }
    Ok(())
}

/// Waits until one of them hears something; whether that was before the deadline.
fn wait(open: &[Asking], deadline: Instant) -> io::Result<bool> {
    let left = deadline.saturating_duration_since(Instant::now());
    let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    let waiting = open.iter().filter(|asking| asking.is_listening());
    let mut heard: Vec<_> = waiting.map(|asking| PollFd::new(asking.socket.as_fd(), PollFlags::POLLIN)).collect();
    match poll(&mut heard, left) {
        Ok(count) => Ok(count > 0),
        Err(nix::errno::Errno::EINTR) => Ok(Instant::now() < deadline),
        Err(errno) => Err(errno.into()),
    }
}

struct Asking {
    question: Question,
    word: [u8; 8],
    /// Not UDP where it pings; the standard library's type serves any socket of datagrams.
    socket: UdpSocket,
    sent: Instant,
    /// What this machine said to the tries, as long as it has sent none of them.
    refused: Option<i32>,
    /// One was sent.
    is_out: bool,
    /// Silence as long as an answer may still come. A socket of ICMP that found no way there hears everybody's.
    outcome: Outcome,
}

impl Asking {
    fn open(question: Question, word: [u8; 8]) -> io::Result<Self> {
        let ipv6 = question.to.is_ipv6();
        let family = if ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
        let (kind, protocol, port) = match question.how {
            How::Ping(_) => (SockType::Raw, if ipv6 { SockProtocol::IcmpV6 } else { SockProtocol::Icmp }, 0),
            How::Refusal => (SockType::Datagram, SockProtocol::Udp, NOBODY),
            How::Word { port, .. } => (SockType::Datagram, SockProtocol::Udp, port),
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = UdpSocket::from(socket(family, kind, flags, protocol)?);
        never_fragment(&socket, ipv6)?;
        if question.how == How::Refusal {
            refusal::listen(&socket, ipv6)?;
        }
        let outcome = match socket.connect(SocketAddr::new(question.to, port)) {
            Ok(()) => Outcome::Silence,
            Err(error) => match error.raw_os_error() {
                Some(errno) if NO_WAY.contains(&errno) => Outcome::NoWay(errno),
                // A program of BPF at the control group forbids it.
                Some(errno @ libc::EPERM) => Outcome::Unsent(errno),
                _ => return Err(error),
            },
        };
        Ok(Self { question, word, socket, sent: Instant::now(), refused: None, is_out: false, outcome })
    }

    /// Whether an answer may still come, were it asked for once more.
    fn is_waiting(&self) -> bool {
        self.outcome == Outcome::Silence
    }

    /// Whether an answer may come to what was sent.
    fn is_listening(&self) -> bool {
        self.is_waiting() && self.is_out
    }

    /// What became of it in the end.
    fn outcome(&self) -> Outcome {
        match self.refused {
            Some(errno) if self.is_waiting() && NO_WAY.contains(&errno) => Outcome::NoWay(errno),
            Some(errno) if self.is_waiting() => Outcome::Unsent(errno),
            _ => self.outcome,
        }
    }

    fn send(&mut self, sequence: u16) {
        let ipv6 = self.question.to.is_ipv6();
        let message = match self.question.how {
            How::Ping(size) => echo_request(ipv6, size, self.word, sequence),
            How::Refusal => self.word.to_vec(),
            How::Word { size, .. } => responder::request(ipv6, size, self.word),
        };
        // What somebody on the way has said to an earlier try is not what this machine says to this one.
        self.socket.take_error().unwrap_or_default();
        self.sent = Instant::now();
        let refused = self.socket.send(&message).err().and_then(|error| error.raw_os_error());
        // One that does not fit its interface is not answered: that is how large packets fare, not whether there is a way.
        self.is_out |= refused.is_none_or(|errno| errno == libc::EMSGSIZE);
        self.refused = refused.filter(|_| !self.is_out);
    }

    /// Takes what has come, or a good part of it.
    fn receive(&mut self, buffer: &mut [u8]) {
        if self.question.how == How::Refusal && refusal::heard(&self.socket, self.question.to, AT_ONCE) {
            self.found(None);
        }
        for _ in 0..AT_ONCE {
            match self.socket.recv(buffer) {
                Ok(length) => self.take(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Somebody on the way refuses the packet: that is heard, and is no answer.
                Err(_) => {}
            }
        }
    }

    /// Takes a packet that has come, if it is the answer.
    fn take(&mut self, packet: &[u8]) {
        match self.question.how {
            How::Ping(size) if is_echo_reply(self.question.to.is_ipv6(), size, self.word, packet) => self.found(None),
            How::Ping(_) => {}
            // Somebody listens there, and answers.
            How::Refusal => self.found(None),
            How::Word { .. } => {
                if let Some(heard) = responder::heard(packet, self.word) {
                    self.found(Some(heard));
                }
            }
        }
    }

    fn found(&mut self, heard: Option<IpAddr>) {
        if self.is_waiting() {
            self.outcome = Outcome::Answered(Answer { time: self.sent.elapsed(), heard });
        }
    }
}

/// The length of an IP header without options.
fn header(ipv6: bool) -> usize {
    if ipv6 { 40 } else { 20 }
}

/// How long the echo of a packet of that size is.
fn echo_length(ipv6: bool, size: u32) -> usize {
    usize::try_from(size).unwrap_or(LONGEST).min(LONGEST).saturating_sub(header(ipv6)).max(ECHO + 8)
}

fn echo_request(ipv6: bool, size: u32, word: [u8; 8], sequence: u16) -> Vec<u8> {
    let mut message = vec![0; echo_length(ipv6, size)];
    message[0] = if ipv6 { 128 } else { 8 };
    message[4..6].copy_from_slice(&word[..2]);
    message[6..8].copy_from_slice(&sequence.to_be_bytes());
    message[ECHO..ECHO + 8].copy_from_slice(&word);
    if !ipv6 {
        // Of ICMPv6 the kernel computes it.
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

/// Whether what a raw socket received is the reply to [`echo_request`]. Those of IPv4 give the header of IP too (raw(7)).
fn is_echo_reply(ipv6: bool, size: u32, word: [u8; 8], packet: &[u8]) -> bool {
    let skipped = if ipv6 { 0 } else { packet.first().map_or(0, |first| usize::from(first & 0x0f) * 4) };
    let Some(message) = packet.get(skipped..) else { return false };
    let kind = if ipv6 { 129 } else { 0 };
    message.len() == echo_length(ipv6, size)
        && message[0] == kind
        && message[4..6] == word[..2]
        && message[ECHO..ECHO + 8] == word
}

/// The checksum of the Internet (RFC 1071).
fn checksum(message: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low));
    let mut sum: u32 = message.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("it was folded")
}

/// Packets go out whole whatever is known of the way, so that it is the way that tells (IP_MTU_DISCOVER, ip(7)).
fn never_fragment(socket: &UdpSocket, ipv6: bool) -> io::Result<()> {
    let (level, name, value) = if ipv6 {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE)
    } else {
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)
    };
    let length = libc::socklen_t::try_from(size_of_val(&value)).expect("an int is short");
    // SAFETY: the descriptor is open, and the pointer is to a value of the length that is given. No crate of ours has this
    // option.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests;
