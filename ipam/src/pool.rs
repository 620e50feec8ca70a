//! The pools of the cluster, as the plugin of one node must know them.
//!
//! The daemon writes them into the node's row; they hold for every ADD that comes after. A block whose pool is not among them
//! is nobody's to take from.

use serde::Deserialize as _;
use serde_json::{Value, json};
use twill_conf::PoolName;
use twill_conf::cluster::{Given, Pool, Reserved};

use crate::address::Range;
use crate::block::Partition;
use crate::family::number;
use crate::{Block, Family};

/// A pool on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePool {
    /// Its name.
    pub name: PoolName,
    /// Of which family.
    pub family: Family,
    /// To whom it gives addresses on this node.
    pub given: Given,
    /// What of it is never given.
    pub reserved: Vec<Reserved>,
}

impl NodePool {
    /// A pool of the configuration, which gives addresses here to these.
    pub fn new(pool: &Pool, given: Given) -> Self {
        Self { name: pool.name.clone(), family: Family::of(pool.cidr.ip()), given, reserved: pool.reserved.clone() }
    }

    /// Whether an ADD whose configuration names these pools (none: it names no pool) may have an address of it.
    pub(crate) fn serves(&self, wanted: &[PoolName]) -> bool {
        match self.given {
            Given::Default => wanted.is_empty() || wanted.contains(&self.name),
            Given::Named => wanted.contains(&self.name),
            Given::Nobody => false,
        }
    }

    /// As it stands in the node's row.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "family": if self.family == Family::V4 { 4 } else { 6 },
            "given": self.given,
            "reserved": self.reserved.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    }

    /// `None` for what this version cannot read. Further fields are a newer version's.
    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        let reserved = value["reserved"].as_array()?.iter().map(|range| range.as_str()?.parse().ok());
        Some(Self {
            name: value["name"].as_str()?.parse().ok()?,
            family: match value["family"].as_u64()? {
                4 => Family::V4,
                6 => Family::V6,
                _ => return None,
            },
            given: Given::deserialize(&value["given"]).ok()?,
            reserved: reserved.collect::<Option<_>>()?,
        })
    }
}

/// The parts of `block` that are reserved: ascending, apart from each other, and neither touches the next.
pub(crate) fn reserved_in(block: Block, reserved: &[Reserved]) -> Vec<Range> {
    let whole = Range::from(block);
    let of_family = reserved.iter().filter(|range| Family::of(range.first()) == block.family());
    let clipped = of_family.map(|range| Range {
        first: number(range.first()).max(whole.first),
        last: number(range.last()).min(whole.last),
    });
    let mut ranges: Vec<Range> = clipped.filter(|range| range.first <= range.last).collect();
    ranges.sort_unstable_by_key(|range| range.first);
    let mut joined: Vec<Range> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.first <= last.last.saturating_add(1) => last.last = last.last.max(range.last),
            _ => joined.push(range),
        }
    }
    joined
}

/// The places of a pool at which a block would be reserved entirely: runs, first and last, ascending, apart from each other.
pub fn reserved_places(places: Partition, reserved: &[Reserved]) -> Vec<(u128, u128)> {
    let pool = number(places.pool().first());
    let size = places.nth(0).map_or(1, |first| number(first.last()) - number(first.first()) + 1);
    let whole = |range: Range| {
        let (first, end) = ((range.first - pool).div_ceil(size), (range.last - pool + 1) / size);
        (first < end).then(|| (first, end - 1))
    };
    reserved_in(places.pool(), reserved).into_iter().filter_map(whole).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::IpAddr;

    fn ranges(texts: &[&str]) -> Vec<Reserved> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn what_stands_in_the_row_reads_back_and_what_is_newer_does_not_harm() {
        let mut cluster = Pool::new("a".parse().unwrap(), "fd42::/48".parse().unwrap(), 122);
        cluster.reserved = ranges(&["fd42::1-fd42::9", "fd42::/122"]);
        for given in [Given::Default, Given::Named, Given::Nobody] {
            let pool = NodePool::new(&cluster, given);
            let mut value = pool.to_json();
            value["colour"] = "blue".into();
            assert_eq!(NodePool::from_json(&value), Some(pool));
        }
        assert_eq!(NodePool::from_json(&json!({"name": "a", "family": 4, "given": "sometimes", "reserved": []})), None);
    }

    proptest! {
        #[test]
        fn a_place_is_reserved_where_ranges_together_leave_nothing_of_it(
            length in 26u8..=32,
            some in prop::collection::vec((0u8..=255, 0u8..=40), 0..6),
        ) {
            let ip = |last: u8| IpAddr::from([255, 255, 255, last]);
            let reserved: Vec<_> =
                some.iter().map(|(at, more)| Reserved::new(ip(*at), ip(at.saturating_add(*more))).unwrap()).collect();
            let places = Partition::new("255.255.255.0/24".parse().unwrap(), length).unwrap();
            let runs = reserved_places(places, &reserved);
            for place in 0..places.count() {
                let block = places.nth(place).unwrap();
                let given = (0..block.size()).filter_map(|n| block.nth(n.into())).any(|ip| reserved.iter().all(|r| !r.contains(ip)));
                prop_assert_eq!(runs.iter().any(|(first, last)| (*first..=*last).contains(&place)), !given, "{}", block);
            }
        }

        #[test]
        fn the_reserved_parts_of_a_block_are_the_addresses_that_some_range_has(
            length in 26u8..=32,
            some in prop::collection::vec((0u8..=255, 0u8..=40), 0..6),
        ) {
            let block: Block = format!("10.0.0.64/{length}").parse().unwrap();
            let ip = |last: u8| IpAddr::from([10, 0, 0, last]);
            let reserved: Vec<_> =
                some.iter().map(|(at, more)| Reserved::new(ip(*at), ip(at.saturating_add(*more))).unwrap()).collect();
            let parts = reserved_in(block, &reserved);
            for at in Range::from(block).first..=Range::from(block).last {
                let within = parts.iter().any(|part| part.contains(at));
                let address = Family::V4.address(at);
                prop_assert_eq!(within, reserved.iter().any(|range| range.contains(address)));
            }
            prop_assert!(parts.windows(2).all(|pair| pair[0].last + 1 < pair[1].first));
        }
    }
}
