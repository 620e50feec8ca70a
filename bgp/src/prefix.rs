//! Maps by prefix, which also find what covers a prefix and what lies inside of it.
//!
//! `rib` keeps its routes in one, and what it knows of next hops in another; `policy` its sets. A look-up costs a handful of probes, one
//! for each length that occurs, never a walk over all entries. Prefixes have no bits beyond their length here: [`masked`].

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Bound;

use ipnetwork::IpNetwork;

use crate::path::Family;

/// The family of a prefix.
#[must_use]
pub fn family(prefix: IpNetwork) -> Family {
    if prefix.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
}

/// The prefix without bits beyond its length: 10.0.0.1/8 is 10.0.0.0/8.
#[must_use]
pub fn masked(prefix: IpNetwork) -> IpNetwork {
    shortened(prefix, prefix.prefix())
}

/// The prefix of one address alone.
#[must_use]
pub fn host(address: IpAddr) -> IpNetwork {
    IpNetwork::from(address)
}

/// Whether all of the second lies inside of the first, or is the first.
#[must_use]
pub fn covers(outer: IpNetwork, inner: IpNetwork) -> bool {
    family(outer) == family(inner) && outer.prefix() <= inner.prefix() && outer.contains(inner.network())
}

/// The covering prefix of this length, which must not be longer than it is.
fn shortened(prefix: IpNetwork, length: u8) -> IpNetwork {
    let whole = IpNetwork::new(prefix.ip(), length).expect("not longer than a prefix of this family");
    IpNetwork::new(whole.network(), length).expect("the length has been taken above")
}

/// A map by prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefixMap<V> {
    entries: BTreeMap<IpNetwork, V>,
    /// How many entries have this length: only these are probed.
    lengths: BTreeMap<(Family, u8), usize>,
}

impl<V> Default for PrefixMap<V> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), lengths: BTreeMap::new() }
    }
}

impl<V> PrefixMap<V> {
    /// Puts a value, and returns the one that was there.
    pub fn insert(&mut self, prefix: IpNetwork, value: V) -> Option<V> {
        let before = self.entries.insert(masked(prefix), value);
        if before.is_none() {
            *self.lengths.entry((family(prefix), prefix.prefix())).or_default() += 1;
        }
        before
    }

    /// Takes a value out.
    pub fn remove(&mut self, prefix: IpNetwork) -> Option<V> {
        let value = self.entries.remove(&masked(prefix))?;
        let key = (family(prefix), prefix.prefix());
        if let Some(count) = self.lengths.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&key);
            }
        }
        Some(value)
    }

    /// The value of exactly this prefix.
    #[must_use]
    pub fn get(&self, prefix: IpNetwork) -> Option<&V> {
        self.entries.get(&masked(prefix))
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, prefix: IpNetwork) -> Option<&mut V> {
        self.entries.get_mut(&masked(prefix))
    }

    /// The entries that cover this prefix, itself among them, the longest first.
    pub fn covering(&self, prefix: IpNetwork) -> impl Iterator<Item = (IpNetwork, &V)> {
        let lengths = (family(prefix), 0)..=(family(prefix), prefix.prefix());
        self.lengths.range(lengths).rev().filter_map(move |((_, length), _)| {
            let outer = shortened(prefix, *length);
            self.entries.get(&outer).map(|value| (outer, value))
        })
    }

    /// The entries inside of this prefix, itself among them.
    pub fn inside(&self, prefix: IpNetwork) -> impl Iterator<Item = (IpNetwork, &V)> {
        let prefix = masked(prefix);
        let last = host(prefix.broadcast());
        self.entries.range(prefix..=last).map(|(inner, value)| (*inner, value))
    }

    /// The entries inside of a prefix, itself among them, or all, behind another one in their order. What lies before is not walked over.
    pub fn behind(
        &self,
        inside: Option<IpNetwork>,
        after: Option<IpNetwork>,
    ) -> impl Iterator<Item = (IpNetwork, &V)> + use<'_, V> {
        let last = inside.map(|inside| host(inside.broadcast()));
        let first = inside.map(masked).filter(|first| after.is_none_or(|after| after < *first));
        let begin = match (first, after) {
            (Some(first), _) => Bound::Included(first),
            // Behind the last one there is nothing; a range must not begin beyond its end.
            (None, Some(after)) => Bound::Excluded(last.map_or(after, |last| after.min(last))),
            (None, None) => Bound::Unbounded,
        };
        let end = last.map_or(Bound::Unbounded, Bound::Included);
        self.entries.range((begin, end)).map(|(prefix, value)| (*prefix, value))
    }

    /// All entries, IPv4 first, in the order of their addresses.
    pub fn iter(&self) -> impl Iterator<Item = (IpNetwork, &V)> {
        self.entries.iter().map(|(prefix, value)| (*prefix, value))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<V> FromIterator<(IpNetwork, V)> for PrefixMap<V> {
    fn from_iter<I: IntoIterator<Item = (IpNetwork, V)>>(entries: I) -> Self {
        let mut map = Self::default();
        for (prefix, value) in entries {
            map.insert(prefix, value);
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefixes() -> impl Strategy<Value = IpNetwork> {
        prop_oneof![
            (0..16u32, 26..=32u8).prop_map(|(bits, length)| masked(
                IpNetwork::new(IpAddr::from((0x0A00_0000 | bits).to_be_bytes()), length).unwrap()
            )),
            (0..16u128, 122..=128u8).prop_map(|(bits, length)| masked(
                IpNetwork::new(IpAddr::from(((0xFD << 120) | bits).to_be_bytes()), length).unwrap()
            )),
            Just("0.0.0.0/0".parse().unwrap()),
            Just("::/0".parse().unwrap()),
        ]
    }

    proptest! {
        #[test]
        fn what_covers_and_what_lies_inside_is_found_as_by_asking_each_entry(
            put in prop::collection::vec(prefixes(), 0..40),
            gone in prop::collection::vec(prefixes(), 0..20),
            asked in prefixes(),
        ) {
            let mut map: PrefixMap<()> = put.iter().map(|prefix| (*prefix, ())).collect();
            for prefix in gone {
                map.remove(prefix);
            }
            let all: Vec<_> = map.iter().map(|(prefix, ())| prefix).collect();
            let mut covering: Vec<_> = all.iter().copied().filter(|outer| covers(*outer, asked)).collect();
            covering.sort_by_key(|outer| std::cmp::Reverse(outer.prefix()));
            let inside: Vec<_> = all.iter().copied().filter(|inner| covers(asked, *inner)).collect();
            prop_assert_eq!(map.covering(asked).map(|(outer, ())| outer).collect::<Vec<_>>(), covering);
            prop_assert_eq!(map.inside(asked).map(|(inner, ())| inner).collect::<Vec<_>>(), inside);
        }

        #[test]
        fn what_is_asked_for_piece_by_piece_is_all_that_lies_inside(
            put in prop::collection::vec(prefixes(), 0..40),
            asked in prop::option::of(prefixes()),
            after in prefixes(),
            step in 1..5usize,
        ) {
            let map: PrefixMap<()> = put.iter().map(|prefix| (*prefix, ())).collect();
            let all: Vec<_> = map.iter().map(|(prefix, ())| prefix).collect();
            let inside: Vec<_> =
                all.into_iter().filter(|inner| asked.is_none_or(|asked| covers(asked, *inner))).collect();
            let mut found = Vec::new();
            loop {
                let piece: Vec<_> =
                    map.behind(asked, found.last().copied()).map(|(prefix, ())| prefix).take(step).collect();
                if piece.is_empty() {
                    break;
                }
                found.extend(piece);
            }
            prop_assert_eq!(&found, &inside);
            let rest: Vec<_> = inside.into_iter().filter(|prefix| after < *prefix).collect();
            prop_assert_eq!(map.behind(asked, Some(after)).map(|(prefix, ())| prefix).collect::<Vec<_>>(), rest);
        }
    }
}
