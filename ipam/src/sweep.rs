//! The sweep: which rows are freed that nobody deletes, because a plugin was killed or the runtime forgot its DEL.
//!
//! Pure rules, called by the daemon's sweep and by the plugin's GC, which do the looking. A live pod's address must never
//! be freed, so a missing host link counts only with the liveness lock free, at two observations, a grace period apart,
//! with the row unchanged between them. That the path of a namespace cannot be seen proves nothing and is not asked.
//!
//! What is condemned is removed by the courses of `twill-attach`, under its lock and only if it is still what was judged.

use std::collections::HashSet;
use std::time::Duration;

use twill_conf::NetworkName;

use crate::guard::{Guard, stands};
use crate::{Attachment, AttachmentId, BootTime, KeyHash, State};

/// The grace period between the two observations, where the daemon is told no other.
pub const GRACE: Duration = Duration::from_secs(30);

/// What was seen of one attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// When looking for links began.
    pub at: BootTime,
    /// Whether the host end of its veth stood.
    pub link: bool,
    /// Whether nobody held its liveness lock, asked after the look for the link.
    pub lock_free: bool,
}

/// The memory of a first observation of a missing link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suspicion {
    id: AttachmentId,
    changed: BootTime,
    since: BootTime,
}

/// What is to be done with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is in use, or being worked on: earlier suspicions are void.
    Live,
    /// Its link is missing: keep this for the next observation.
    Suspect(Suspicion),
    /// Its link was missing twice: free it, under its lock.
    Free,
    /// Its link stands, but the ADD or the DEL that worked on it was killed half-way: remove the link, then free it,
    /// both under its lock.
    Finish,
}

/// Judges one row by what was seen now and what the last observation left.
pub fn judge(row: &Attachment, before: Option<Suspicion>, seen: Observation, grace: Duration) -> Verdict {
    // Nobody works on a row whose lock is free, so one that is not attached was left behind by a killed process.
    let in_use = seen.link && row.state == State::Attached;
    // A row younger than the look may have a link that is younger than the look as well.
    if in_use || !seen.lock_free || row.changed >= seen.at {
        return Verdict::Live;
    }
    let first = Suspicion { id: row.id, changed: row.changed, since: seen.at };
    let condemned = if seen.link { Verdict::Finish } else { Verdict::Free };
    if !stands(Guard::TwoObservations) {
        return condemned;
    }
    match before {
        Some(before) if (before.id, before.changed) != (row.id, row.changed) => Verdict::Suspect(first),
        Some(before) if before.since < seen.at && seen.at.since(before.since) >= grace => condemned,
        Some(before) => Verdict::Suspect(before),
        None => Verdict::Suspect(first),
    }
}

/// What a GC is told: its scope, and what is to stay.
#[derive(Debug)]
pub struct Collection<'a> {
    /// The network.
    pub network: &'a NetworkName,
    /// The attachments that the runtime calls valid.
    pub valid: &'a HashSet<KeyHash>,
    /// When the GC began.
    pub began: BootTime,
}

/// Whether a GC removes a row: it is of its network, not valid, and older than the GC, whose list cannot know younger ones
/// (that it knows all older ones is the runtime's part).
/// That nobody works on it is for its removal to ask.
///
/// A row that was rebuilt from the kernel does not say of which network it is, so it stays until its link goes, and the
/// sweep finds it, unless a DEL has named it already and only did not come to its end.
pub fn is_garbage(row: &Attachment, collection: &Collection<'_>) -> bool {
    let ours = match &row.key {
        Some(key) => key.network == *collection.network,
        None => row.state == State::Deleting,
    };
    let older = row.changed < collection.began && row.created < collection.began;
    ours && !collection.valid.contains(&row.hash) && (older || !stands(Guard::GcAge))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Extras, Key};

    fn at(seconds: u64) -> BootTime {
        BootTime(Duration::from_secs(seconds))
    }

    fn row(id: i64, changed: u64) -> Attachment {
        Attachment {
            id: AttachmentId(id),
            hash: KeyHash(1),
            key: None,
            netns: None,
            pod: None,
            state: State::Attached,
            created: at(1),
            changed: at(changed),
            addresses: Vec::new(),
            extras: Extras::default(),
        }
    }

    fn gone(seconds: u64) -> Observation {
        Observation { at: at(seconds), link: false, lock_free: true }
    }

    fn suspected(row: &Attachment, seconds: u64) -> Option<Suspicion> {
        match judge(row, None, gone(seconds), GRACE) {
            Verdict::Suspect(suspicion) => Some(suspicion),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_row_is_freed_at_the_second_observation_after_the_grace_period() {
        let row = row(1, 5);
        let first = suspected(&row, 100);
        assert!(matches!(judge(&row, first, gone(129), GRACE), Verdict::Suspect(s) if Some(s) == first));
        assert_eq!(judge(&row, first, gone(130), GRACE), Verdict::Free);
    }

    #[test]
    fn one_observation_never_frees_even_without_a_grace_period() {
        let row = row(1, 5);
        let first = suspected(&row, 100);
        assert!(matches!(judge(&row, None, gone(1000), Duration::ZERO), Verdict::Suspect(_)));
        assert!(matches!(judge(&row, first, gone(100), Duration::ZERO), Verdict::Suspect(_)));
        assert_eq!(judge(&row, first, gone(101), Duration::ZERO), Verdict::Free);
    }

    #[test]
    fn a_link_or_a_held_lock_makes_a_row_live() {
        let row = row(1, 5);
        let first = suspected(&row, 100);
        assert_eq!(judge(&row, first, Observation { link: true, ..gone(200) }, GRACE), Verdict::Live);
        assert_eq!(judge(&row, first, Observation { lock_free: false, ..gone(200) }, GRACE), Verdict::Live);
    }

    #[test]
    fn what_a_killed_add_or_del_left_is_finished_though_its_link_stands() {
        for state in [State::Reserved, State::Deleting] {
            let row = Attachment { state, ..row(1, 5) };
            let first = suspected(&row, 100);
            assert_eq!(judge(&row, first, Observation { link: true, ..gone(200) }, GRACE), Verdict::Finish);
            assert_eq!(judge(&row, first, gone(200), GRACE), Verdict::Free);
        }
    }

    #[test]
    fn a_row_that_changed_or_was_replaced_is_suspected_anew() {
        let first = suspected(&row(1, 5), 100);
        assert!(matches!(judge(&row(2, 5), first, gone(200), GRACE), Verdict::Suspect(s) if Some(s) != first));
        assert!(matches!(judge(&row(1, 150), first, gone(200), GRACE), Verdict::Suspect(s) if Some(s) != first));
    }

    #[test]
    fn a_row_younger_than_the_look_for_links_is_live() {
        assert_eq!(judge(&row(1, 100), None, gone(100), GRACE), Verdict::Live);
    }

    fn of_network(network: &str, row: Attachment) -> Attachment {
        let key =
            Key { network: network.parse().unwrap(), container: "c".parse().unwrap(), ifname: "eth0".parse().unwrap() };
        Attachment { hash: key.hash(), key: Some(key), ..row }
    }

    fn collected(row: &Attachment, valid: &[KeyHash], began: u64) -> bool {
        let valid = valid.iter().copied().collect();
        is_garbage(row, &Collection { network: &"net".parse().unwrap(), valid: &valid, began: at(began) })
    }

    #[test]
    fn a_gc_collects_what_is_of_its_network_and_not_valid_in_every_state() {
        for state in [State::Reserved, State::Attached, State::Deleting] {
            let row = of_network("net", Attachment { state, ..row(1, 5) });
            assert!(collected(&row, &[], 6), "{state:?}");
            assert!(collected(&row, &[KeyHash(7)], 6), "{state:?}");
            assert!(!collected(&row, &[row.hash], 6), "{state:?}");
            assert!(!collected(&of_network("other", row), &[], 6), "{state:?}");
        }
    }

    #[test]
    fn a_gc_leaves_rows_younger_than_itself() {
        assert!(!collected(&of_network("net", row(1, 5)), &[], 5));
        let reserved_before_and_attached_after = of_network("net", row(1, 9));
        assert!(!collected(&reserved_before_and_attached_after, &[], 6));
    }

    #[test]
    fn a_gc_leaves_rows_of_no_known_network_unless_a_del_has_named_them() {
        assert!(!collected(&row(1, 5), &[], 6));
        let deleting = Attachment { state: State::Deleting, ..row(1, 5) };
        assert!(collected(&deleting, &[], 6));
        assert!(!collected(&deleting, &[deleting.hash], 6));
    }
}
