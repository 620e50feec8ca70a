//! Ranges of a pool that are never given to pods.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::IpNetwork;
use serde::{Serialize, Serializer};

/// What such a range looks like, for errors.
pub(super) const RANGE: &str = "addresses of one family: a prefix without host bits, the first and the last with a '-' between, or a \
                                single one, as in \"10.42.0.0/28\", \"10.42.9.1-10.42.9.20\" or \"10.42.0.77\"";

/// Addresses of one family, from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reserved {
    first: IpAddr,
    last: IpAddr,
}

/// Text that is no range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not valid: {rule}")]
pub struct InvalidReserved {
    /// The text.
    pub text: String,
    /// The rule that it breaks: what would be right.
    pub rule: String,
}

impl Reserved {
    /// From the first to the last address, both among them. `None` where they are of two families, or the last comes first.
    pub fn new(first: IpAddr, last: IpAddr) -> Option<Self> {
        (first.is_ipv4() == last.is_ipv4() && first <= last).then_some(Self { first, last })
    }

    /// The first address.
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// The last address.
    pub fn last(&self) -> IpAddr {
        self.last
    }

    /// Whether `ip` lies in it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.first.is_ipv4() && self.first <= ip && ip <= self.last
    }

    /// The prefix that holds the same addresses, if there is one.
    fn prefix(&self) -> Option<IpNetwork> {
        let host_bits = 128 - (bits(self.first) ^ bits(self.last)).leading_zeros();
        let longest = if self.first.is_ipv4() { 32 } else { 128 };
        let length = u8::try_from(longest - host_bits).expect("it is at most 128");
        let prefix = IpNetwork::new(self.first, length).ok()?;
        (prefix.network() == self.first && prefix.broadcast() == self.last).then_some(prefix)
    }
}

/// Whether `ranges` leave nothing of `cidr`.
pub(super) fn cover(ranges: &[Reserved], cidr: IpNetwork) -> bool {
    let mut ranges: Vec<_> = ranges.iter().map(|range| (bits(range.first), bits(range.last))).collect();
    ranges.sort_unstable();
    let mut next = bits(cidr.network());
    for (first, last) in ranges {
        if first > next {
            return false;
        }
        if last >= bits(cidr.broadcast()) {
            return true;
        }
        next = next.max(last + 1);
    }
    false
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

impl FromStr for Reserved {
    type Err = InvalidReserved;
    fn from_str(text: &str) -> Result<Self, InvalidReserved> {
        let invalid = |rule: String| InvalidReserved { text: text.to_owned(), rule };
        let address = |part: &str| part.trim().parse::<IpAddr>().map_err(|_| invalid(RANGE.to_owned()));
        if let Some((first, last)) = text.split_once('-') {
            let (first, last) = (address(first)?, address(last)?);
            let rule = match first.is_ipv4() == last.is_ipv4() {
                true => format!("the lower address comes first, as in \"{last}-{first}\""),
                false => "the first and the last address are of one family, IPv4 or IPv6".to_owned(),
            };
            return Self::new(first, last).ok_or_else(|| invalid(rule));
        }
        if !text.contains('/') {
            let ip = address(text)?;
            return Ok(Self { first: ip, last: ip });
        }
        let cidr = crate::prefix::parse("", text).map_err(|_| invalid(RANGE.to_owned()))?;
        if cidr.ip() != cidr.network() {
            return Err(invalid(crate::prefix::no_host_bits(cidr)));
        }
        Ok(Self { first: cidr.network(), last: cidr.broadcast() })
    }
}

impl fmt::Display for Reserved {
    /// The shortest of the three ways to write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix() {
            _ if self.first == self.last => self.first.fmt(f),
            Some(prefix) => prefix.fmt(f),
            None => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl Serialize for Reserved {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_range_is_written_in_three_ways_and_printed_in_the_shortest() {
        for (text, printed) in [
            ("10.42.0.0/28", "10.42.0.0/28"),
            ("10.42.0.0-10.42.0.15", "10.42.0.0/28"),
            ("10.42.0.1 - 10.42.0.15", "10.42.0.1-10.42.0.15"),
            ("10.42.0.7", "10.42.0.7"),
            ("10.42.0.7/32", "10.42.0.7"),
            ("fd42::-fd42::ff", "fd42::/120"),
            ("fd42::1-fd42::1:0", "fd42::1-fd42::1:0"),
            ("::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::/0"),
        ] {
            assert_eq!(text.parse::<Reserved>().unwrap().to_string(), printed, "{text}");
        }
    }

    #[test]
    fn what_is_no_range_is_refused_by_the_rule_that_it_breaks() {
        for (text, rule) in [
            ("10.42.0.1/28", "a prefix has no host bits: 10.42.0.0/28"),
            ("10.42.0.9-10.42.0.1", "the lower address comes first, as in \"10.42.0.1-10.42.0.9\""),
            ("10.42.0.1-fd42::1", "the first and the last address are of one family, IPv4 or IPv6"),
            ("", RANGE),
            ("10.42.0.0/33", RANGE),
            ("10.42.0", RANGE),
            ("a-b", RANGE),
            ("-", RANGE),
        ] {
            let wanted = InvalidReserved { text: text.into(), rule: rule.into() };
            assert_eq!(text.parse::<Reserved>(), Err(wanted));
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back_as_the_same(v6: bool, first in any::<u128>(), more in 0u32..5000, shift in 0u32..100) {
            let address = |bits: u128| match v6 {
                true => IpAddr::V6(bits.into()),
                false => IpAddr::V4((bits as u32).into()),
            };
            let last = first.saturating_add(u128::from(more) << shift);
            let range = Reserved::new(address(first), address(last));
            prop_assume!(range.is_some());
            prop_assert_eq!(range.unwrap().to_string().parse::<Reserved>().ok(), range);
        }
    }
}
