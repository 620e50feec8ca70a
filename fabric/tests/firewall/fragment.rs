//! Fragments that no socket makes.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::PORT;

/// A datagram to the tunnel's port as two IP packets (RFC 791, section 3.1; RFC 8200, section 4.5).
pub fn of_a_datagram(from: IpAddr, to: IpAddr, payload: &[u8]) -> [Vec<u8>; 2] {
    const UDP: u8 = 17;
    static DATAGRAMS: AtomicU16 = AtomicU16::new(1);
    let identification = DATAGRAMS.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let length = (8 + payload.len() as u16).to_be_bytes();
    let addresses = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => [from.octets(), to.octets()].concat(),
        (IpAddr::V6(from), IpAddr::V6(to)) => [from.octets(), to.octets()].concat(),
        _ => panic!("{from} and {to} are of two families"),
    };
    let ports = [5000_u16.to_be_bytes(), PORT.to_be_bytes()].concat();
    let pseudo_header = [&addresses[..], &[0, UDP], &length, &ports, &length].concat();
    let checksum = checksum(&[&pseudo_header[..], payload].concat()).to_be_bytes();
    let header = [&ports[..], &length, &checksum].concat();
    [(0_u16, true, &header[..]), (header.len() as u16, false, payload)].map(|(offset, more, data)| {
        if from.is_ipv4() {
            let total = (20 + data.len() as u16).to_be_bytes();
            let place = ((offset / 8) | (u16::from(more) << 13)).to_be_bytes();
            [&[0x45, 0], &total[..], &identification, &place, &[64, UDP, 0, 0], &addresses, data].concat()
        } else {
            let length = (8 + data.len() as u16).to_be_bytes();
            let place = (offset | u16::from(more)).to_be_bytes();
            let fixed = [&[0x60, 0, 0, 0], &length[..], &[44, 64], &addresses].concat();
            [&fixed[..], &[UDP, 0], &place, &[0, 0], &identification, data].concat()
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
