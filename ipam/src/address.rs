//! Which address of a block is given next, and when one that was given back is free again.
//!
//! Pure: ranges and numbers in, a number out. The store asks it within its transaction.

use std::time::Duration;

use crate::{Block, BootTime, family::number};

/// How long an address that was given back goes to nobody but the container that had it: neighbours, connection
/// tracking and the mirrors of other nodes still know its last owner.
pub const COOLING: Duration = Duration::from_secs(30);

/// Whether an address that was given back at `since` may go to anybody at `now`.
pub fn is_cool(since: BootTime, now: BootTime, cooling: Duration) -> bool {
    now.since(since) >= cooling
}

/// Addresses of one family from `first` to `last`, both included, as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) first: u128,
    pub(crate) last: u128,
}

impl Range {
    pub(crate) fn contains(self, at: u128) -> bool {
        self.first <= at && at <= self.last
    }

    /// How many; `u64::MAX` where there are more.
    pub(crate) fn size(self) -> u64 {
        u64::try_from(self.last - self.first).map_or(u64::MAX, |distance| distance.saturating_add(1))
    }

    /// The way round from `cursor`: the rest of the range, then what lies before. A cursor outside begins at the first.
    pub(crate) fn round_from(self, cursor: u128) -> (Self, Option<Self>) {
        if cursor <= self.first || cursor > self.last {
            return (self, None);
        }
        (Self { first: cursor, last: self.last }, Some(Self { first: self.first, last: cursor - 1 }))
    }

    /// What is left of it without `holes`, which are ascending and apart from each other.
    pub(crate) fn without(self, holes: &[Self]) -> impl Iterator<Item = Self> {
        let before = move |hole: Option<&Self>| hole.map_or(Some(self.last), |hole| hole.first.checked_sub(1));
        let after = move |hole: Option<&Self>| hole.map_or(Some(self.first), |hole| hole.last.checked_add(1));
        (0..=holes.len()).filter_map(move |gap| {
            let (left, right) = (gap.checked_sub(1).and_then(|left| holes.get(left)), holes.get(gap));
            let (first, last) = (after(left)?.max(self.first), before(right)?.min(self.last));
            (first <= last).then_some(Self { first, last })
        })
    }

    /// The cursor after `given`, round the corner at the end.
    pub(crate) fn after(self, given: u128) -> u128 {
        if given >= self.last { self.first } else { given + 1 }
    }
}

impl From<Block> for Range {
    fn from(block: Block) -> Self {
        Self { first: number(block.first()), last: number(block.last()) }
    }
}

/// The first number of `range` that is not in `taken`, which is ascending, within the range and without doubles. Reads
/// no more of `taken` than lies before the gap.
pub(crate) fn first_gap<E>(range: Range, taken: impl IntoIterator<Item = Result<u128, E>>) -> Result<Option<u128>, E> {
    let mut candidate = range.first;
    for next in taken {
        if next? > candidate {
            return Ok(Some(candidate));
        }
        if candidate == range.last {
            return Ok(None);
        }
        candidate += 1;
    }
    Ok(Some(candidate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::convert::Infallible;

    /// The next address as the store asks for it.
    fn next(range: Range, cursor: u128, taken: &BTreeSet<u128>) -> Option<u128> {
        let (rest, before) = range.round_from(cursor);
        [Some(rest), before].into_iter().flatten().find_map(|part| {
            first_gap(part, taken.range(part.first..=part.last).map(|at| Ok::<_, Infallible>(*at))).unwrap()
        })
    }

    #[test]
    fn an_address_is_cool_after_its_time_and_not_before() {
        let at = |s| BootTime(Duration::from_secs(s));
        assert!(!is_cool(at(100), at(129), COOLING));
        assert!(is_cool(at(100), at(130), COOLING));
        assert!(!is_cool(at(100), at(90), COOLING));
    }

    #[test]
    fn the_last_number_of_all_is_given_and_the_cursor_comes_round() {
        let range = Range { first: u128::MAX - 1, last: u128::MAX };
        assert_eq!(next(range, u128::MAX, &BTreeSet::new()), Some(u128::MAX));
        assert_eq!(range.after(u128::MAX), u128::MAX - 1);
        assert_eq!(next(range, u128::MAX, &BTreeSet::from([u128::MAX])), Some(u128::MAX - 1));
        assert_eq!(next(range, u128::MAX, &BTreeSet::from([u128::MAX, u128::MAX - 1])), None);
    }

    #[test]
    fn holes_at_the_numeric_ends_leave_what_is_between() {
        let all = Range { first: 0, last: u128::MAX };
        let holes =
            [Range { first: 0, last: 4 }, Range { first: 9, last: 9 }, Range { first: u128::MAX, last: u128::MAX }];
        let left: Vec<_> = all.without(&holes).collect();
        assert_eq!(left, [Range { first: 5, last: 8 }, Range { first: 10, last: u128::MAX - 1 }]);
        assert_eq!(all.without(&[all]).count(), 0);
        assert_eq!(Range { first: 6, last: 7 }.without(&holes).collect::<Vec<_>>(), [Range { first: 6, last: 7 }]);
    }

    #[test]
    fn a_gap_in_a_range_of_all_numbers_is_found_without_walking_them() {
        let all = Range { first: 0, last: u128::MAX };
        assert_eq!(next(all, 7, &BTreeSet::from([7, 8, 10])), Some(9));
    }

    proptest! {
        #[test]
        fn each_free_address_is_given_once_a_round_from_the_cursor_on(
            first in 0_u128..4, size in 1_u128..40, cursor in 0_u128..50, mut taken in prop::collection::btree_set(0_u128..50, 0..40),
        ) {
            let range = Range { first, last: first + size - 1 };
            let free: BTreeSet<_> = (range.first..=range.last).filter(|at| !taken.contains(at)).collect();
            let (mut cursor, mut given) = (cursor, Vec::new());
            while let Some(at) = next(range, cursor, &taken) {
                taken.insert(at);
                cursor = range.after(at);
                given.push(at);
            }
            prop_assert_eq!(given.iter().copied().collect::<BTreeSet<_>>(), free);
            prop_assert!(given.windows(2).filter(|pair| pair[0] > pair[1]).count() <= 1, "more than one round: {:?}", given);
        }
    }
}
