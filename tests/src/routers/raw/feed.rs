//! A table of the size and the shape that routers have: many prefixes from /16 to /24, with a few hundred different sets of attributes.
//!
//! The same numbers give the same table, so that all receivers of a benchmark get the same bytes.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnetwork::{IpNetwork, Ipv4Network};

use super::message;

/// How many of a thousand prefixes have a length, about as in the Internet's table.
const LENGTHS: [(u8, u32); 9] =
    [(24, 610), (23, 100), (22, 120), (21, 50), (20, 45), (19, 28), (18, 15), (17, 10), (16, 22)];
/// How many different sets of attributes there are.
const SETS: usize = 300;

/// A table to be announced.
#[derive(Debug, Clone)]
pub struct Feed {
    /// For each set of attributes, its bytes and its prefixes.
    groups: Vec<(Vec<u8>, Vec<IpNetwork>)>,
}

impl Feed {
    /// So many prefixes of an external peer of this AS, with this next hop. None of them is of a private or a special range.
    ///
    /// # Panics
    /// For more than 500,000: the ranges would not have enough.
    pub fn new(count: usize, asn: u32, next_hop: Ipv4Addr) -> Self {
        assert!(count <= 500_000, "a feed of {count} prefixes must have at most 500000");
        Self::drawn(count, asn, next_hop, length)
    }

    /// The same with prefixes of one length.
    ///
    /// # Panics
    /// For more than a tenth of those that there are.
    pub fn of_length(count: usize, length: u8, asn: u32, next_hop: Ipv4Addr) -> Self {
        let most = (80_usize << 24 >> (32 - length)) / 10;
        assert!(count <= most, "a feed of {count} prefixes of length {length} must have at most {most}");
        Self::drawn(count, asn, next_hop, |_| length)
    }

    fn drawn(count: usize, asn: u32, next_hop: Ipv4Addr, length: impl Fn(&mut Numbers) -> u8) -> Self {
        let mut numbers = Numbers(0x7477_696C_6C00_0001);
        let attributes = (0..SETS).map(|set| attributes(set, asn, next_hop, &mut numbers));
        let mut groups: Vec<_> = attributes.map(|attributes| (attributes, Vec::new())).collect();
        let mut seen = BTreeSet::new();
        while seen.len() < count {
            let length = length(&mut numbers);
            let prefix = prefix(length, &mut numbers);
            if seen.insert(prefix) {
                // A few sets have most of the routes, as the large providers' have.
                let (one, other) = (numbers.below(SETS), numbers.below(SETS));
                groups[one.min(other)].1.push(IpNetwork::V4(prefix));
            }
        }
        Self { groups }
    }

    /// All prefixes.
    pub fn prefixes(&self) -> impl Iterator<Item = IpNetwork> + '_ {
        self.groups.iter().flat_map(|(_, prefixes)| prefixes.iter().copied())
    }

    /// The messages that announce it, each as full as it can be, and the end of it (RFC 4724).
    pub fn announcement(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (attributes, prefixes) in &self.groups {
            for part in parts(prefixes, message::LONGEST - 23 - attributes.len()) {
                bytes.extend(message::update(&[], attributes, part));
            }
        }
        bytes.extend(message::end_of_rib(super::Family::Ipv4));
        bytes
    }

    /// The messages that take it back.
    pub fn withdrawal(&self) -> Vec<u8> {
        let prefixes: Vec<_> = self.prefixes().collect();
        let parts = parts(&prefixes, message::LONGEST - 23);
        parts.into_iter().flat_map(|part| message::update(part, &[], &[])).collect()
    }
}

/// Cuts prefixes into parts that take at most so many bytes.
fn parts(prefixes: &[IpNetwork], room: usize) -> Vec<&[IpNetwork]> {
    let (mut parts, mut from, mut taken) = (Vec::new(), 0, 0);
    for (at, prefix) in prefixes.iter().enumerate() {
        let size = 1 + usize::from(prefix.prefix()).div_ceil(8);
        if taken + size > room {
            parts.push(&prefixes[from..at]);
            (from, taken) = (at, 0);
        }
        taken += size;
    }
    if from < prefixes.len() {
        parts.push(&prefixes[from..]);
    }
    parts
}

/// The set with this number, which makes it different from all others.
fn attributes(set: usize, asn: u32, next_hop: Ipv4Addr, numbers: &mut Numbers) -> Vec<u8> {
    let number = u32::try_from(set).expect("few sets");
    let mut systems = vec![asn];
    systems.extend((0..=numbers.below(4)).map(|_| 1000 + numbers.small(60_000)));
    systems.push(400_000 + number);
    let mut all = [message::origin(if numbers.below(10) == 0 { 2 } else { 0 }), message::as_path(&systems)].concat();
    all.extend(message::next_hop(next_hop));
    if numbers.below(4) == 0 {
        all.extend(message::med(numbers.small(200)));
    }
    let community = |numbers: &mut Numbers| (3356, u16::try_from(numbers.small(3000)).expect("a small number"));
    let communities: Vec<_> = (0..numbers.below(7)).map(|_| community(numbers)).collect();
    if !communities.is_empty() {
        all.extend(message::communities(&communities));
    }
    all
}

fn length(numbers: &mut Numbers) -> u8 {
    let mut drawn = numbers.small(1000);
    let mut length = 24;
    for (each, share) in LENGTHS {
        length = each;
        match drawn.checked_sub(share) {
            Some(rest) => drawn = rest,
            None => break,
        }
    }
    length
}

fn prefix(length: u8, numbers: &mut Numbers) -> Ipv4Network {
    // From 20/8 to 99/8 nothing is special (RFC 6890).
    let first = 20 + numbers.small(80);
    let address = first << 24 | numbers.small(1 << 24);
    let masked = address & (u32::MAX << (32 - u32::from(length)));
    Ipv4Network::new(Ipv4Addr::from(masked), length).expect("a length of IPv4")
}

/// Numbers that look drawn: xorshift64.
struct Numbers(u64);

impl Numbers {
    fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn small(&mut self, end: u32) -> u32 {
        u32::try_from(self.draw() % u64::from(end)).expect("below a small number")
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.draw() % end as u64).expect("below an index")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bgpkit_parser::models::{AsnLength, BgpMessage};
    use bgpkit_parser::parser::bgp::parse_bgp_message;
    use bytes::Bytes;

    use super::*;

    fn feed(count: usize) -> Feed {
        Feed::new(count, 65001, Ipv4Addr::new(192, 0, 2, 1))
    }

    #[test]
    fn all_prefixes_are_in_the_messages_once_and_another_decoder_has_nothing_to_say_against_them() {
        let feed = feed(20_000);
        let mut bytes = feed.announcement();
        let (mut announced, mut sets) = (BTreeSet::new(), BTreeSet::new());
        while !bytes.is_empty() {
            let length = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
            assert!(length <= message::LONGEST);
            let rest = bytes.split_off(length);
            let parsed = parse_bgp_message(&mut Bytes::from(bytes), false, &AsnLength::Bits32).unwrap();
            let BgpMessage::Update(update) = parsed else { panic!("{parsed:?}") };
            assert_eq!(update.attributes.validation_warnings(), &[]);
            sets.insert(format!("{:?}", update.attributes));
            for prefix in update.announced_prefixes {
                assert!(announced.insert(prefix.to_string()), "{prefix} is there twice");
            }
            bytes = rest;
        }
        assert_eq!(announced, feed.prefixes().map(|prefix| prefix.to_string()).collect());
        let used = feed.groups.iter().filter(|(_, prefixes)| !prefixes.is_empty()).count();
        assert_eq!((announced.len(), sets.len()), (20_000, used + 1), "the end of it has no attributes");
        assert!(used > SETS * 9 / 10, "{used}");
    }

    #[test]
    fn the_same_numbers_give_the_same_table_of_all_lengths() {
        assert_eq!(feed(3000).announcement(), feed(3000).announcement());
        let mut lengths = BTreeMap::new();
        feed(3000).prefixes().for_each(|prefix| *lengths.entry(prefix.prefix()).or_insert(0) += 1);
        assert_eq!(lengths.keys().copied().collect::<Vec<_>>(), (16..=24).collect::<Vec<_>>());
        assert!(lengths[&24] > 1500, "{lengths:?}");
    }
}
