//! SCTP by hand, as much of it as shows whether packets are led there and back: an INIT, and the INIT ACK to it (RFC 9260,
//! section 3). Not every kernel has the protocol itself; raw sockets do without.
#![allow(unsafe_code, reason = "the standard library makes no raw sockets")]

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::time::Duration;

use nix::libc;

const INIT: u8 = 1;
const INIT_ACK: u8 = 2;

/// A raw socket, in clothes of the standard library's: sending and receiving are the same calls.
fn raw(address: IpAddr) -> UdpSocket {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: the call takes no pointers; the descriptor that it gives is nobody else's.
    let fd = unsafe {
        let fd = libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_SCTP);
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(fd)
    };
    UdpSocket::from(fd)
}

/// A chunk from port to port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Packet {
    from: u16,
    to: u16,
    tag: u32,
    kind: u8,
    initiate: u32,
}

impl Packet {
    fn bytes(self) -> Vec<u8> {
        let mut bytes = [self.from.to_be_bytes(), self.to.to_be_bytes()].concat();
        bytes.extend(self.tag.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend([self.kind, 0, 0, 20]);
        bytes.extend(self.initiate.to_be_bytes());
        // Window, streams out and in, first number.
        bytes.extend([0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
        let checksum = crc32c(&bytes);
        bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads one, behind an IPv4 header if there is one, and only if its checksum is right.
    fn read(bytes: &[u8], ipv4: bool) -> Option<Self> {
        let skip = if ipv4 { usize::from(bytes.first()? & 15) * 4 } else { 0 };
        let bytes = bytes.get(skip..)?;
        let half = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let whole = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let (from, to, tag) = (half(0)?, half(2)?, whole(4)?);
        let packet = Self { from, to, tag, kind: *bytes.get(12)?, initiate: whole(16)? };
        (packet.bytes().get(8..12) == bytes.get(8..12)).then_some(packet)
    }
}

/// RFC 9260, appendix A: the Castagnoli polynomial, reflected.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc));
    !bytes.iter().fold(!0, byte)
}

/// Answers every INIT to that port, as long as the program runs. For the namespace of the calling thread.
pub fn serve(at: SocketAddr) {
    let socket = raw(at.ip());
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            match Packet::read(&buffer[..length], at.is_ipv4()) {
                Some(init) if init.kind == INIT && init.to == at.port() => {
                    let answer =
                        Packet { from: init.to, to: init.from, tag: init.initiate, kind: INIT_ACK, initiate: 7 };
                    socket.send_to(&answer.bytes(), SocketAddr::new(from.ip(), 0)).ok();
                }
                _ => {}
            }
        }
    });
}

/// Whether an INIT is answered by whom it was sent to.
pub fn is_answered(to: SocketAddr) -> bool {
    let socket = raw(to.ip());
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let init = Packet { from: 40_000, to: to.port(), tag: 0, kind: INIT, initiate: 42 };
    if socket.send_to(&init.bytes(), SocketAddr::new(to.ip(), 0)).is_err() {
        return false;
    }
    let wanted = Packet { from: to.port(), to: 40_000, tag: 42, kind: INIT_ACK, initiate: 7 };
    let mut buffer = [0; 2048];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        if from.ip() == to.ip() && Packet::read(&buffer[..length], to.is_ipv4()) == Some(wanted) {
            return true;
        }
    }
    false
}
