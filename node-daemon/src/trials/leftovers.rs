//! Pods of trials that could not be detached: the node tells of them as long as its store has a row of them, whoever asked for the trial.
//!
//! The interfaces are gone with their namespaces, which this daemon alone held. What is left is the row with its addresses, and the
//! sweep frees it. So what a daemon has left that was killed, the next one finds there.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use twill_cluster::inquiry::trial::NAME;
use twill_cluster::record::Told;
use twill_ipam::{Key, KeyHash};

use super::keeper::LEFT;
use super::plugin::IFNAME;
use crate::store::NodeStore;
use crate::troubles::Troubles;

/// Who tells of them.
pub const FINDER: &str = "trials";
/// So many are kept in mind and told, the newest ones.
const MOST: usize = 64;
/// Why those are left that another daemon stood up.
const INHERITED: &str = "twilld on this node ended before it was taken down";
/// No more of a cause is told, in characters.
const LONGEST_CAUSE: usize = 300;

/// What is left, and the board where it is told.
#[derive(Debug, Clone)]
pub struct Leftovers {
    left: Arc<Mutex<VecDeque<Leftover>>>,
    troubles: Troubles,
}

#[derive(Debug)]
struct Leftover {
    hash: KeyHash,
    container: String,
    cause: String,
}

impl Leftovers {
    /// None yet.
    pub fn new(troubles: Troubles) -> Self {
        Self { left: Arc::default(), troubles }
    }

    /// Takes those that an earlier daemon has left, while no trial of this one stands: all rows of the trials' network are theirs. Where
    /// the store cannot be read there are none. It blocks as the store does.
    pub fn inherit(&self, store: &NodeStore) {
        let rows = match store.with(|store| store.attachments()) {
            Ok(rows) => rows,
            Err(error) => return tracing::warn!("pods that trials may have left are not known: {error}"),
        };
        let of_trials = rows.iter().filter_map(|row| row.key.as_ref()).filter(|key| key.network.as_str() == NAME);
        of_trials.for_each(|key| self.add(key.container.as_str(), INHERITED));
    }

    /// Keeps a pod in mind, and why it is not detached.
    pub(super) fn add(&self, container: &str, cause: &str) {
        let names = (NAME.parse(), container.parse(), IFNAME.parse());
        // What is no name of a pod has no row either.
        let (Ok(network), Ok(container_id), Ok(ifname)) = names else { return };
        let hash = Key { network, container: container_id, ifname }.hash();
        let cause = cause.chars().take(LONGEST_CAUSE).collect();
        let mut left = self.lock();
        left.retain(|one| one.hash != hash);
        left.push_back(Leftover { hash, container: container.to_owned(), cause });
        if left.len() > MOST {
            left.pop_front();
        }
        self.tell(&left);
    }

    /// Forgets those that the store has no row of any more. Where it cannot be read, all stay. It blocks as the store does.
    pub fn review(&self, store: &NodeStore) {
        // Held while the rows are read: of a pod that is added meanwhile they would know nothing.
        let mut left = self.lock();
        if left.is_empty() {
            return;
        }
        if let Ok(rows) = store.with(|store| store.attachments()) {
            left.retain(|one| rows.iter().any(|row| row.hash == one.hash));
            self.tell(&left);
        }
    }

    fn tell(&self, left: &VecDeque<Leftover>) {
        let told = left.iter().rev().map(|Leftover { container, cause, .. }| Told {
            what: format!("the pod {container} of a trial is not detached: {cause}"),
            fix: LEFT.to_owned(),
        });
        self.troubles.set(FINDER, told.collect());
    }

    /// Where it is told.
    #[cfg(test)]
    pub(super) fn board(&self) -> tokio::sync::watch::Receiver<crate::troubles::Board> {
        self.troubles.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Leftover>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use twill_ipam::store::Reservation;
    use twill_ipam::{Attachment, BootTime};

    use super::*;
    use crate::fixture::Fixture;

    fn told(troubles: &Troubles) -> Vec<String> {
        let board = troubles.subscribe().borrow().clone();
        board.get(FINDER).into_iter().flatten().map(|told| told.what.clone()).collect()
    }

    fn reserve(node: &Fixture, network: &str, container: &str) -> Attachment {
        let key = Key {
            network: network.parse().unwrap(),
            container: container.parse().unwrap(),
            ifname: IFNAME.parse().unwrap(),
        };
        let netns = std::path::Path::new("/run/netns/none");
        let wanted = Reservation { key: &key, netns, pod: None, subnets: &[], pools: &[], requested: &[] };
        node.store.with(|store| store.reserve(&wanted, BootTime::now()).unwrap())
    }

    #[test]
    fn what_is_left_is_told_until_its_row_is_gone() {
        let Some(node) = Fixture::new() else { return };
        let troubles = Troubles::default();
        let leftovers = Leftovers::new(troubles.clone());
        let (first, second) = (reserve(&node, NAME, "twill-trial-t-0"), reserve(&node, NAME, "twill-trial-t-1"));
        leftovers.add("twill-trial-t-0", "the store is locked");
        leftovers.add("twill-trial-t-1", &"x".repeat(1000));
        leftovers.review(&node.store);
        let both = told(&troubles);
        assert_eq!(both.len(), 2, "each is one: {both:?}");
        assert!(both[0].starts_with("the pod twill-trial-t-1 of a trial is not detached: xxx"), "{both:?}");
        assert!(both[0].len() < 400 && both[1].ends_with("the store is locked"), "{both:?}");
        node.store.with(|store| store.release(second.id, BootTime::now())).unwrap();
        leftovers.review(&node.store);
        assert_eq!(told(&troubles), ["the pod twill-trial-t-0 of a trial is not detached: the store is locked"]);
        node.store.with(|store| store.release(first.id, BootTime::now())).unwrap();
        leftovers.review(&node.store);
        assert_eq!(told(&troubles), Vec::<String>::new());
    }

    #[test]
    fn no_more_are_kept_in_mind_than_may_be() {
        let troubles = Troubles::default();
        let leftovers = Leftovers::new(troubles.clone());
        (0..1000).for_each(|number| leftovers.add(&format!("twill-trial-t-{number}"), "no"));
        (0..9).for_each(|_| leftovers.add("twill-trial-t-999", "no"));
        assert_eq!(leftovers.lock().len(), MOST);
        let told = told(&troubles);
        assert!(told.len() == MOST && told[0].contains("twill-trial-t-999"), "{told:?}");
    }

    #[test]
    fn what_an_earlier_daemon_has_left_is_told_until_its_row_is_gone() {
        let Some(node) = Fixture::new() else { return };
        let left = reserve(&node, NAME, "twill-trial-t-0");
        reserve(&node, "twill", "an-operators-own");
        let troubles = Troubles::default();
        let leftovers = Leftovers::new(troubles.clone());
        leftovers.inherit(&node.store);
        leftovers.review(&node.store);
        let words =
            "the pod twill-trial-t-0 of a trial is not detached: twilld on this node ended before it was taken down";
        assert_eq!(told(&troubles), [words]);
        node.store.with(|store| store.release(left.id, BootTime::now())).unwrap();
        leftovers.review(&node.store);
        assert_eq!(told(&troubles), Vec::<String>::new());
    }
}
