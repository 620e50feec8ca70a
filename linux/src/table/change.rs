//! Differences and changes: the one mechanism that all tables share.
//!
//! [`diff`] compares two ordered maps, of whatever kind; a table makes [`Change`]s of what differs; [`apply`] sends them and keeps account.

use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;

use super::{Outcome, Repair};
use crate::netlink::Request;
use crate::{Error, Netlink};

/// How one key differs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Difference<'a, K, D, S> {
    /// It shall stand and does not.
    Missing(&'a D),
    /// It stands, but otherwise than it shall.
    Changed(&'a D, &'a S),
    /// It stands and shall not.
    Extra(&'a K, &'a S),
}

/// All that differs, in the order of the keys, which both sides are in.
pub(super) fn diff<'a, K: Ord + 'a, D: 'a, S: 'a>(
    desired: impl IntoIterator<Item = (&'a K, &'a D)>,
    standing: impl IntoIterator<Item = (&'a K, &'a S)>,
    mut same: impl FnMut(&D, &S) -> bool,
) -> Vec<Difference<'a, K, D, S>> {
    let mut differences = Vec::new();
    let (mut wanted, mut seen) = (desired.into_iter().peekable(), standing.into_iter().peekable());
    loop {
        match (wanted.peek(), seen.peek()) {
            (None, None) => return differences,
            (Some((key, _)), other) if other.is_none_or(|(standing, _)| key < standing) => {
                differences.extend(wanted.next().map(|(_, value)| Difference::Missing(value)));
            }
            (other, Some((key, _))) if other.is_none_or(|(wanted, _)| key < wanted) => {
                differences.extend(seen.next().map(|(key, value)| Difference::Extra(key, value)));
            }
            _ => {
                if let (Some((_, value)), Some((_, standing))) = (wanted.next(), seen.next())
                    && !same(value, standing)
                {
                    differences.push(Difference::Changed(value, standing));
                }
            }
        }
    }
}

/// What a change does to its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Added,
    Changed,
    Removed,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
        }
    }
}

/// One object's repair: requests that together bring it about.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) table: &'static str,
    pub(super) action: Action,
    /// As `ip` prints it.
    pub(super) object: String,
    /// As what it stood, if it did and is changed.
    pub(super) was: Option<String>,
    pub(super) requests: Vec<Request>,
}

/// What a table wants done, in two parts: removals come when everything else is done.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) put: Vec<Change>,
    pub(super) remove: Vec<Change>,
}

/// A change that the kernel refused.
#[derive(Debug)]
pub(super) struct Failure {
    /// Which of the changes.
    pub(super) change: usize,
    pub(super) error: Error,
}

/// Sends the changes. Each that was done becomes a repair; the others are given back, the first refusal of each.
pub(super) fn apply(netlink: &mut Netlink, changes: &[Change], outcome: &mut Outcome) -> Result<Vec<Failure>, Error> {
    let requests: Vec<&Request> = changes.iter().flat_map(|change| &change.requests).collect();
    let mut answers = netlink.batch(&requests)?.into_iter();
    let mut failures = Vec::new();
    for (position, change) in changes.iter().enumerate() {
        let mut refusal = None;
        for (request, answer) in change.requests.iter().zip(answers.by_ref()) {
            refusal = refusal.or(answer.err().filter(|error| !is_gone(request, error)));
        }
        match refusal {
            Some(error) => failures.push(Failure { change: position, error }),
            None => outcome.repairs.push(Repair {
                table: change.table,
                action: change.action.name(),
                object: change.object.clone(),
                was: change.was.clone(),
            }),
        }
    }
    Ok(failures)
}

/// Sends the changes; what was refused becomes an error of the outcome.
pub(super) fn settle(netlink: &mut Netlink, changes: &[Change], outcome: &mut Outcome) -> Result<(), Error> {
    let failures = apply(netlink, changes, outcome)?;
    outcome.errors.extend(failures.into_iter().map(|failure| failure.error));
    Ok(())
}

/// Whether a refusal means that what was to be removed is not there: that is what was wanted.
fn is_gone(request: &Request, error: &Error) -> bool {
    let gone = [Errno::ESRCH, Errno::ENODEV, Errno::ENOENT, Errno::EADDRNOTAVAIL];
    let removal = matches!(
        request.message,
        RouteNetlinkMessage::DelLink(_)
            | RouteNetlinkMessage::DelAddress(_)
            | RouteNetlinkMessage::DelNeighbour(_)
            | RouteNetlinkMessage::DelRoute(_)
    );
    removal && error.errno().is_some_and(|errno| gone.contains(&errno))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn map<const N: usize>(entries: [(u8, char); N]) -> BTreeMap<u8, char> {
        BTreeMap::from(entries)
    }

    #[test]
    fn equal_maps_do_not_differ() {
        assert!(diff(&map([(1, 'a'), (2, 'b')]), &map([(1, 'a'), (2, 'b')]), char::eq).is_empty());
        assert!(diff(&map([]), &map([]), char::eq).is_empty());
    }

    #[test]
    fn missing_changed_and_extra_keys_are_told_apart_in_order() {
        let desired = map([(1, 'a'), (3, 'c'), (5, 'e'), (9, 'i')]);
        let standing = map([(0, 'z'), (1, 'a'), (3, 'x'), (4, 'd')]);
        let expected = [
            Difference::Extra(&0, &'z'),
            Difference::Changed(&'c', &'x'),
            Difference::Extra(&4, &'d'),
            Difference::Missing(&'e'),
            Difference::Missing(&'i'),
        ];
        assert_eq!(diff(&desired, &standing, char::eq), expected);
    }

    #[test]
    fn against_nothing_everything_is_missing_and_the_other_way_round_extra() {
        let some = map([(1, 'a'), (2, 'b')]);
        assert_eq!(diff(&some, &map([]), char::eq), [Difference::Missing(&'a'), Difference::Missing(&'b')]);
        assert_eq!(diff(&map([]), &some, char::eq), [Difference::Extra(&1, &'a'), Difference::Extra(&2, &'b')]);
    }

    proptest::proptest! {
        #[test]
        fn applying_a_difference_makes_the_maps_equal(
            desired in proptest::collection::btree_map(0u8..20, 0u8..3, 0..20),
            standing in proptest::collection::btree_map(0u8..20, 0u8..3, 0..20),
        ) {
            // The value holds its key, since a difference names what is to be made by its value.
            let desired: BTreeMap<u8, (u8, u8)> = desired.into_iter().map(|(k, v)| (k, (k, v))).collect();
            let mut result: BTreeMap<u8, (u8, u8)> = standing.into_iter().map(|(k, v)| (k, (k, v))).collect();
            let before = result.clone();
            for difference in diff(&desired, &before, |a, b| a == b) {
                match difference {
                    Difference::Missing(value) => assert!(result.insert(value.0, *value).is_none()),
                    Difference::Changed(value, old) => assert_eq!(result.insert(value.0, *value), Some(*old)),
                    Difference::Extra(key, _) => assert!(result.remove(key).is_some()),
                }
            }
            assert_eq!(result, desired);
        }
    }
}
