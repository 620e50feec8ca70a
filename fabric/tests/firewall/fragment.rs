//! Fragments that no socket makes.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::PORT;

const UDP: u8 = 17;

/// A datagram to the tunnel's port as two IP packets (RFC 791, section 3.1; RFC 8200, section 4.5), of which the first has the UDP header alone.
pub fn of_a_datagram(from: IpAddr, to: IpAddr, payload: &[u8]) -> [Vec<u8>; 2] {
    let header = udp_header(from, to, payload);
    in_two(from, to, UDP, &header, payload)
}

/// The same by IPv6, of which the first has a header that is none of UDP's, and says that UDP's comes, or another such before it (RFC 8200,
/// section 4.6).
pub fn that_hide_the_port(from: IpAddr, to: IpAddr, payload: &[u8]) -> [[Vec<u8>; 2]; 2] {
    const OPTIONS: u8 = 60;
    const PADDING: [u8; 6] = [1, 4, 0, 0, 0, 0];
    let options = |next: u8| [&[next, 0][..], &PADDING].concat();
    let datagram = [&udp_header(from, to, payload)[..], payload].concat();
    [
        in_two(from, to, OPTIONS, &options(UDP), &datagram),
        in_two(from, to, OPTIONS, &options(OPTIONS), &[options(UDP), datagram.clone()].concat()),
    ]
}

fn udp_header(from: IpAddr, to: IpAddr, payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len() as u16).to_be_bytes();
    let addresses = addresses(from, to);
    let ports = [5000_u16.to_be_bytes(), PORT.to_be_bytes()].concat();
    let pseudo_header = [&addresses[..], &[0, UDP], &length, &ports, &length].concat();
    let checksum = checksum(&[&pseudo_header[..], payload].concat()).to_be_bytes();
    [&ports[..], &length, &checksum].concat()
}

fn addresses(from: IpAddr, to: IpAddr) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => [from.octets(), to.octets()].concat(),
        (IpAddr::V6(from), IpAddr::V6(to)) => [from.octets(), to.octets()].concat(),
        _ => panic!("{from} and {to} are of two families"),
    }
}

/// Two packets of a protocol, of these two parts; the first is as long as a fragment may be that is not the last.
fn in_two(from: IpAddr, to: IpAddr, protocol: u8, first: &[u8], rest: &[u8]) -> [Vec<u8>; 2] {
    static PACKETS: AtomicU16 = AtomicU16::new(1);
    let identification = PACKETS.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let addresses = addresses(from, to);
    [(0_u16, true, first), (first.len() as u16, false, rest)].map(|(offset, more, data)| {
        if from.is_ipv4() {
            let total = (20 + data.len() as u16).to_be_bytes();
            let place = ((offset / 8) | (u16::from(more) << 13)).to_be_bytes();
            [&[0x45, 0], &total[..], &identification, &place, &[64, protocol, 0, 0], &addresses, data].concat()
        } else {
            let length = (8 + data.len() as u16).to_be_bytes();
            let place = (offset | u16::from(more)).to_be_bytes();
            let fixed = [&[0x60, 0, 0, 0], &length[..], &[44, 64], &addresses].concat();
            [&fixed[..], &[protocol, 0], &place, &[0, 0], &identification, data].concat()
        }
    })
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |low| u32::from(*low)));
    let sum = words.fold(0, |sum, word| {
        let sum = sum + word;
        (sum & 0xffff) + (sum >> 16)
    });
    !(sum as u16)
}
