//! Asks another machine for a sign of life, by packets that are not to be fragmented on their way.
//!
//! The kernel of the other machine answers by itself, so nothing of ours has to run there. A *ping* tells that packets of a
//! size come back (RFC 792, RFC 4443). A *refusal* is what a datagram to a port that nobody listens at comes back as; the
//! kernel sends it only if the checksum of the datagram was right, which cards may get wrong where those of a ping, computed
//! by software, are right. A *word* is answered by a [`Responder`], which says whom it heard. Each question has a socket of its own, connected to whom it asks, and a word that its answer must
//! bear. It works in the namespace of the calling thread and needs CAP_NET_RAW.
#![allow(unsafe_code)]

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
    /// It was never put: this machine has no way there. The errno of connect(2), such as EHOSTUNREACH.
    NoWay(i32),
}

impl Outcome {
    /// The answer, if there is one.
    pub fn answer(self) -> Option<Answer> {
        match self {
            Self::Answered(answer) => Some(answer),
            Self::Silence | Self::NoWay(_) => None,
        }
    }

    /// Why there is no way, if there is none.
    pub fn no_way(self) -> Option<i32> {
        match self {
            Self::NoWay(errno) => Some(errno),
            Self::Answered(_) | Self::Silence => None,
        }
    }
}

/// Asks all questions at once, those without an answer up to `tries` times, each time for as long as `patience`. What became of
/// them, in their order. `word`: what nobody else's packets bear.
///
/// Fails only where sockets are not to be had. What is too large for its interface is not answered.
pub fn answers(questions: &[Question], word: [u8; 8], tries: u16, patience: Duration) -> io::Result<Vec<Outcome>> {
    let mut open = questions.iter().map(|question| Asking::open(*question, word)).collect::<io::Result<Vec<_>>>()?;
    let mut buffer = vec![0; LONGEST];
    for sequence in 0..tries {
        open.iter_mut().filter(|asking| asking.is_waiting()).for_each(|asking| asking.send(sequence));
        let deadline = Instant::now() + patience;
        while open.iter().any(Asking::is_waiting) && wait(&open, deadline)? {
            open.iter_mut().filter(|asking| asking.is_waiting()).for_each(|asking| asking.receive(&mut buffer));
        }
    }
    Ok(open.iter().map(|asking| asking.outcome).collect())
}

/// Waits until one of them hears something; whether that was before the deadline.
fn wait(open: &[Asking], deadline: Instant) -> io::Result<bool> {
    let left = deadline.saturating_duration_since(Instant::now());
    let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    let waiting = open.iter().filter(|asking| asking.is_waiting());
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
        let outcome = match socket.connect(SocketAddr::new(question.to, port)) {
            Ok(()) => Outcome::Silence,
            Err(error) => Outcome::NoWay(error.raw_os_error().ok_or(error)?),
        };
        Ok(Self { question, word, socket, sent: Instant::now(), outcome })
    }

    /// Whether an answer may still come.
    fn is_waiting(&self) -> bool {
        self.outcome == Outcome::Silence
    }

    fn send(&mut self, sequence: u16) {
        let ipv6 = self.question.to.is_ipv6();
        let message = match self.question.how {
            How::Ping(size) => echo_request(ipv6, size, self.word, sequence),
            How::Refusal => self.word.to_vec(),
            How::Word { size, .. } => responder::request(ipv6, size, self.word),
        };
        self.sent = Instant::now();
        // One that does not fit its interface, or has no way any more, is not answered.
        self.socket.send(&message).unwrap_or_default();
    }

    fn receive(&mut self, buffer: &mut [u8]) {
        loop {
            match self.socket.recv(buffer) {
                Ok(length) => self.take(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    if self.question.how == How::Refusal {
                        self.found(None);
                    }
                }
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
mod tests {
    use super::*;

    const WORD: [u8; 8] = *b"whatever";

    #[test]
    fn who_has_no_way_there_takes_nobody_elses_answer_for_its_own() {
        let Some(namespaces) = twill_testkit::Namespaces::claim() else { return };
        namespaces.add("node");
        let name = namespaces.name("node");
        for words in [
            &["link", "set", "lo", "up"][..],
            &["route", "add", "unreachable", "192.0.2.0/24"],
            &["route", "add", "unreachable", "2001:db8::/64"],
        ] {
            let status = std::process::Command::new("ip").args(["-n", &name]).args(words).status().unwrap();
            assert!(status.success(), "{words:?}");
        }
        let pairs = [("127.0.0.1", "192.0.2.9"), ("::1", "2001:db8::9")];
        let questions: Vec<_> = pairs
            .into_iter()
            .flat_map(|(near, nowhere)| [near, nowhere])
            .map(|to| Question { to: to.parse().unwrap(), how: How::Ping(100) })
            .collect();
        let node = crate::NetNs::open(&namespaces.path("node")).unwrap();
        let heard = node.run(|| answers(&questions, WORD, 2, Duration::from_millis(200)).unwrap()).unwrap();
        assert_eq!(heard.iter().map(|heard| heard.answer().is_some()).collect::<Vec<_>>(), [true, false, true, false]);
        for unreachable in [heard[1], heard[3]] {
            assert_eq!(unreachable, Outcome::NoWay(libc::EHOSTUNREACH), "it is told why");
        }
        let nowhere = [questions[1]];
        let began = Instant::now();
        let heard = node.run(|| answers(&nowhere, WORD, 3, Duration::from_secs(60)).unwrap()).unwrap();
        assert!(heard[0].no_way().is_some(), "{heard:?}");
        assert!(began.elapsed() < Duration::from_secs(30), "nothing is waited for that was not sent");
    }

    #[test]
    fn a_request_has_the_size_that_is_asked_for_and_a_right_checksum() {
        for (ipv6, size) in [(false, 1450), (true, 1450), (false, 64), (true, 64), (false, 1)] {
            let request = echo_request(ipv6, size, WORD, 1);
            assert_eq!(request.len(), (size as usize).saturating_sub(header(ipv6)).max(16), "{ipv6} {size}");
            assert!(ipv6 || checksum(&request) == 0, "{size}");
        }
    }

    #[test]
    fn only_the_reply_to_our_own_request_is_an_answer() {
        let mut reply = echo_request(true, 100, WORD, 1);
        assert!(!is_echo_reply(true, 100, WORD, &reply), "the request itself");
        reply[0] = 129;
        assert!(is_echo_reply(true, 100, WORD, &reply));
        assert!(!is_echo_reply(true, 100, *b"anothers", &reply));
        assert!(!is_echo_reply(true, 101, WORD, &reply), "a part of it");
        reply[0] = 0;
        let with_header = [&[0x45; 20][..], &reply[..]].concat();
        assert!(is_echo_reply(false, 80, WORD, &with_header));
        for short in 0..with_header.len() {
            assert!(!is_echo_reply(false, 80, WORD, &with_header[..short]));
        }
    }
}
