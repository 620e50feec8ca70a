//! Who holds which range of addresses, when no two may overlap.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use twill_conf::NodeName;

use crate::family::Family;

/// Disjoint ranges with their holders, looked up in logarithmic time.
#[derive(Debug, Default)]
pub(super) struct Ranges<'a> {
    /// By first address; the value has the last one.
    held: BTreeMap<(Family, u128), (u128, &'a NodeName)>,
}

impl<'a> Ranges<'a> {
    /// Notes that `holder` has `range`; where it overlaps what somebody already holds, says who, and notes nothing.
    pub(super) fn insert(&mut self, range: IpNetwork, holder: &'a NodeName) -> Result<(), &'a NodeName> {
        let (family, first, last) = bounds(range);
        // What is held is disjoint, so of all ranges that begin before our end only the last can reach us.
        if let Some((&(_, _), &(end, other))) = self.held.range((family, 0)..=(family, last)).next_back()
            && end >= first
        {
            return Err(other);
        }
        self.held.insert((family, first), (last, holder));
        Ok(())
    }
}

fn bounds(range: IpNetwork) -> (Family, u128, u128) {
    let number = |address| match address {
        std::net::IpAddr::V4(v4) => u128::from(v4.to_bits()),
        std::net::IpAddr::V6(v6) => v6.to_bits(),
    };
    (Family::of_prefix(range), number(range.network()), number(range.broadcast()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert<'a>(ranges: &mut Ranges<'a>, range: &str, holder: &'a NodeName) -> bool {
        ranges.insert(range.parse().unwrap(), holder).is_ok()
    }

    #[test]
    fn a_range_inside_or_around_a_held_one_is_refused_and_its_neighbours_are_not() {
        let (a, b): (NodeName, NodeName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let mut ranges = Ranges::default();
        assert!(insert(&mut ranges, "10.42.1.0/26", &a));
        assert!(!insert(&mut ranges, "10.42.1.0/26", &b), "the same");
        assert!(!insert(&mut ranges, "10.42.1.32/27", &b), "inside");
        assert!(!insert(&mut ranges, "10.42.0.0/16", &b), "around");
        assert!(insert(&mut ranges, "10.42.0.192/26", &b), "just before");
        assert!(insert(&mut ranges, "10.42.1.64/26", &b), "just after");
        assert!(insert(&mut ranges, "::a2a:100/122", &b), "the same number in the other family");
    }

    #[test]
    fn the_whole_of_a_family_can_be_held() {
        let a: NodeName = "a".parse().unwrap();
        let mut ranges = Ranges::default();
        assert!(insert(&mut ranges, "::/0", &a));
        assert!(!insert(&mut ranges, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128", &a));
        assert!(insert(&mut ranges, "255.255.255.255/32", &a));
    }
}
