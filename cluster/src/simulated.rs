//! The cluster's store in memory: revisions, range compares, watches that resume, compaction and leases, as etcd has them,
//! members that lag, a backup that is restored, and requests that are lost, done without an answer, late or twice. For
//! tests of the rules.

mod history;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use self::history::History;
use crate::continuity::Past;
use crate::store::{Event, Range, Store, StoreError};
use crate::txn::{Outcome, Txn};
use crate::view::{Delta, Snapshot};

/// What becomes of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Done and answered.
    Done,
    /// Not sent at all.
    Unavailable,
    /// Lost on its way: not done, not answered.
    Lost,
    /// Done, but the answer is lost.
    AnswerLost,
    /// Not answered, and done when [`SimulatedStore::deliver`] is called.
    Late,
    /// Done and answered, and done once more when [`SimulatedStore::deliver`] is called.
    Twice,
}

/// A store that all its clones share.
#[derive(Debug, Clone)]
pub struct SimulatedStore {
    inner: Arc<Mutex<Inner>>,
    /// Told after every change.
    revision: watch::Sender<i64>,
}

/// A state of the store, as it was saved.
#[derive(Debug, Clone)]
pub struct Backup(History);

#[derive(Debug, Default)]
struct Inner {
    history: History,
    fates: VecDeque<Fate>,
    late: Vec<Txn>,
}

impl Default for SimulatedStore {
    fn default() -> Self {
        Self { inner: Arc::default(), revision: watch::Sender::new(1) }
    }
}

impl SimulatedStore {
    /// An empty store at revision 1.
    pub fn new() -> Self {
        Self::default()
    }

    /// What becomes of the next transactions, one each; all after them are [`Fate::Done`].
    pub fn destine(&self, fates: impl IntoIterator<Item = Fate>) {
        self.lock().fates.extend(fates);
    }

    /// Nothing more is destined to fail.
    pub fn calm(&self) {
        self.lock().fates.clear();
    }

    /// Does now what was [`Fate::Late`].
    pub fn deliver(&self) {
        let late = std::mem::take(&mut self.lock().late);
        for txn in late {
            self.apply(&txn);
        }
    }

    /// Whether something is still to be done late.
    pub fn has_late(&self) -> bool {
        !self.lock().late.is_empty()
    }

    /// What was [`Fate::Late`] or to come [`Fate::Twice`] never comes: the members that had it are gone.
    pub fn forget(&self) {
        self.lock().late.clear();
    }

    /// Reads a range, without waiting.
    pub fn look(&self, range: &Range) -> Snapshot {
        self.lock().history.read(range)
    }

    /// Commits a transaction that nothing can happen to.
    pub fn apply(&self, txn: &Txn) -> Outcome {
        self.change(|inner| inner.history.commit(txn))
    }

    /// Commits a transaction as its fate will have it, without waiting. A failure has the endpoint `simulated`.
    pub fn transact(&self, txn: &Txn) -> Result<Outcome, StoreError> {
        let endpoints = || "simulated".to_owned();
        let unknown = |cause: &str| StoreError::Unknown { endpoints: endpoints(), cause: cause.into() };
        let fate = self.lock().fates.pop_front().unwrap_or(Fate::Done);
        match fate {
            Fate::Unavailable => Err(StoreError::Unavailable { endpoints: endpoints(), cause: "not sent".into() }),
            Fate::Lost => Err(unknown("lost")),
            Fate::Late => {
                self.lock().late.push(txn.clone());
                Err(unknown("late"))
            }
            Fate::AnswerLost => {
                self.apply(txn);
                Err(unknown("the answer is lost"))
            }
            Fate::Twice => {
                self.lock().late.push(txn.clone());
                Ok(self.apply(txn))
            }
            Fate::Done => Ok(self.apply(txn)),
        }
    }

    /// What a key was at a revision (a linearizable read of the past).
    pub fn past(&self, key: &str, revision: i64) -> Past {
        self.lock().history.past(key, revision)
    }

    /// A serializable read of a member that is so many changes behind.
    pub fn lagging(&self, range: &Range, behind: usize) -> Snapshot {
        self.lock().history.lagging(range, behind)
    }

    /// What a watch that has seen everything up to a revision is told next, without waiting; `None`: all was told.
    pub fn news(&self, range: &Range, seen: Option<i64>) -> Option<Event> {
        self.lock().history.next(range, seen)
    }

    /// The present state, for [`restore`](Self::restore).
    pub fn backup(&self) -> Backup {
        Backup(self.lock().history.clone())
    }

    /// Puts a backup in place of all that was done since, with the same IDs and revisions that begin again from its own.
    pub fn restore(&self, backup: &Backup) {
        self.change(|inner| inner.history = backup.0.clone());
    }

    /// Ends a lease with its keys.
    pub fn expire(&self, lease: i64) {
        self.change(|inner| inner.history.expire(lease));
    }

    /// Forgets what was before the present revision: watches that are behind must take a snapshot.
    pub fn compact(&self) {
        self.change(|inner| inner.history.compact());
    }

    fn change<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.lock();
        let result = work(&mut inner);
        let revision = inner.history.revision();
        drop(inner);
        self.revision.send_replace(revision);
        result
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for SimulatedStore {
    async fn read(&self, range: &Range) -> Result<Snapshot, StoreError> {
        Ok(self.look(range))
    }

    async fn commit(&self, txn: &Txn) -> Result<Outcome, StoreError> {
        self.transact(txn)
    }

    async fn grant(&self, _ttl: Duration) -> Result<i64, StoreError> {
        Ok(self.lock().history.grant())
    }

    async fn renew(&self, lease: i64) -> Result<bool, StoreError> {
        Ok(self.lock().history.is_leased(lease))
    }

    fn watch(&self, range: Range) -> mpsc::Receiver<Event> {
        let (sender, receiver) = mpsc::channel(16);
        let (store, mut revisions) = (self.clone(), self.revision.subscribe());
        tokio::spawn(async move {
            let mut seen = None;
            loop {
                let event = store.lock().history.next(&range, seen);
                if let Some(event) = event {
                    seen = Some(match &event {
                        Event::Snapshot(Snapshot { revision, .. }) | Event::Delta(Delta { revision, .. }) => *revision,
                        Event::Restored(_) | Event::Lost(_) => unreachable!("a history only goes on"),
                    });
                    if sender.send(event).await.is_err() {
                        return;
                    }
                    continue;
                }
                tokio::select! {
                    changed = revisions.changed() => if changed.is_err() { return },
                    () = sender.closed() => return,
                }
            }
        });
        receiver
    }
}

#[cfg(test)]
mod tests;
