//! Prefixes that pods may have addresses from: how they are written, which ones are refused, what overlaps what.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::Error;

/// What a prefix looks like, for errors.
pub(crate) const PREFIX: &str = "an IPv4 or IPv6 prefix without host bits, as in \"10.42.0.0/16\" or \"fd42::/48\"";

/// The same for editors, which knows nothing of host bits.
#[cfg(feature = "schema")]
pub(crate) const PATTERN: &str = "^[0-9A-Fa-f.:]+/[0-9]{1,3}$";

/// Ranges that are no pod's, with their names (RFC 6890 and, for the link-local one, our gateway).
const REFUSED: [(&str, &str); 9] = [
    ("0.0.0.0/8", "\"this network\" (RFC 791)"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local, and the pods' gateway 169.254.1.1 is in it"),
    ("224.0.0.0/4", "multicast"),
    ("255.255.255.255/32", "limited broadcast"),
    ("::/127", "the unspecified address and loopback"),
    ("::ffff:0:0/96", "IPv4-mapped addresses, which are never on the wire"),
    ("fe80::/10", "link-local"),
    ("ff00::/8", "multicast"),
];

/// The greatest block has 2^16 addresses.
const BLOCK_HOST_BITS: u8 = 16;

/// Parses a prefix. Its length must be written as a number: an address alone, or a mask, is more likely a slip.
pub(crate) fn parse(key: &str, text: &str) -> Result<IpNetwork, Error> {
    let refused = || Error::value(key, text, PREFIX);
    let (_, length) = text.split_once('/').ok_or_else(refused)?;
    if length.is_empty() || !length.bytes().all(|b| b.is_ascii_digit()) {
        return Err(refused());
    }
    text.parse().map_err(|_| refused())
}

/// What holds for every range that pods get addresses from, in a pool or stand-alone.
pub(crate) fn validate(key: &str, cidr: IpNetwork) -> Result<(), Error> {
    without_host_bits(key, cidr)?;
    for (range, what) in REFUSED {
        let range: IpNetwork = range.parse().expect("the table holds prefixes");
        if overlap(cidr, range) {
            return Err(Error::value(key, cidr, format!("it overlaps {range}, {what}")));
        }
    }
    let shortest = shortest(cidr);
    if cidr.prefix() < shortest {
        let right = format!("at most a /{shortest}: that is more than enough for any cluster");
        return Err(Error::value(key, cidr, right));
    }
    Ok(())
}

/// Refuses a prefix that is an address with a length.
pub(crate) fn without_host_bits(key: &str, cidr: IpNetwork) -> Result<(), Error> {
    if cidr.ip() == cidr.network() {
        return Ok(());
    }
    Err(Error::value(key, cidr, no_host_bits(cidr)))
}

/// The rule that a prefix with host bits breaks, with the prefix that was meant.
pub(crate) fn no_host_bits(cidr: IpNetwork) -> String {
    format!("a prefix has no host bits: {}/{}", cidr.network(), cidr.prefix())
}

/// The shortest prefix that a pool may have. A claim compares the keys of all ranges that its block lies inside, and
/// an etcd transaction has room for 128 compares.
fn shortest(cidr: IpNetwork) -> u8 {
    if cidr.is_ipv4() { 8 } else { 16 }
}

/// The lengths that blocks of this pool may have.
pub(crate) fn block_lengths(pool: IpNetwork) -> std::ops::RangeInclusive<u8> {
    let longest = if pool.is_ipv4() { 32 } else { 128 };
    pool.prefix().max(longest - BLOCK_HOST_BITS)..=longest
}

/// Whether two prefixes have an address in common; host bits do not matter.
pub(crate) fn overlap(a: IpNetwork, b: IpNetwork) -> bool {
    let shorter = a.prefix().min(b.prefix());
    let start = |cidr: IpNetwork| -> Option<IpAddr> { IpNetwork::new(cidr.ip(), shorter).ok().map(|n| n.network()) };
    a.is_ipv4() == b.is_ipv4() && start(a) == start(b)
}

/// How two overlapping prefixes lie to each other: completes "it …".
pub(crate) fn relation(a: IpNetwork, b: IpNetwork) -> &'static str {
    match a.prefix().cmp(&b.prefix()) {
        std::cmp::Ordering::Less => "contains",
        std::cmp::Ordering::Equal => "is the same as",
        std::cmp::Ordering::Greater => "lies inside",
    }
}
