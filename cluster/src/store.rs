//! The seam between the rules and the network.

use std::future::Future;
use std::time::Duration;

use crate::txn::{Outcome, Txn};
use crate::view::{Delta, Snapshot};

/// A range of keys, without the prefix: from `start` up to, not including, `end`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// First key.
    pub start: String,
    /// First key after it.
    pub end: String,
}

impl Range {
    /// What every node watches: `blocks/`, `config`, `nodes/` and `policies/` lie side by side.
    pub fn watched() -> Self {
        Self { start: "blocks/".into(), end: "policies0".into() }
    }
    /// One key.
    pub fn key(key: &str) -> Self {
        Self { start: key.into(), end: format!("{key}\0") }
    }
    /// Every key that begins with `prefix` (ASCII).
    pub fn prefix(prefix: &str) -> Self {
        let mut end = prefix.to_owned();
        let last = end.pop().expect("a prefix is never empty");
        end.push(char::from(last as u8 + 1));
        Self { start: prefix.into(), end }
    }
    /// Whether a key lies in it.
    pub fn contains(&self, key: &str) -> bool {
        self.start.as_str() <= key && key < self.end.as_str()
    }
}

/// Why the store could not answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing was done.
    #[error("etcd at {endpoints}: {cause}")]
    Unavailable {
        /// Where it was looked for.
        endpoints: String,
        /// Why not.
        cause: String,
    },
    /// The request was sent, but no answer came: it may have been done, or may be done yet.
    #[error("etcd at {endpoints} did not answer: {cause}")]
    Unknown {
        /// Where it was sent.
        endpoints: String,
        /// What happened instead.
        cause: String,
    },
    /// etcd is out of space and takes no writes (alarm NOSPACE). The transaction that crosses the quota is done all the same,
    /// so the request may have been.
    #[error("etcd at {endpoints}: {cause}")]
    Full {
        /// Where it was sent.
        endpoints: String,
        /// What to do, for people.
        cause: String,
    },
    /// The revision to go on from was compacted away: a snapshot is needed.
    #[error("etcd has compacted revision {0}")]
    Compacted(i64),
}

/// What a watch brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Everything, at the beginning and after every break that could not be bridged.
    Snapshot(Snapshot),
    /// What changed since the last event.
    Delta(Delta),
    /// Everything, of another history: what was seen last is not in etcd's past. It was restored from a backup.
    Restored(Snapshot),
    /// The store is out of reach; the watch goes on trying.
    Lost(String),
}

/// The cluster's store. Every call ends within a deadline: on etcd by its [`Limits`](crate::etcd::Limits).
pub trait Store: Send + Sync + 'static {
    /// A linearizable read of a range, in pages pinned to one revision.
    fn read(&self, range: &Range) -> impl Future<Output = Result<Snapshot, StoreError>> + Send;
    /// A transaction.
    fn commit(&self, txn: &Txn) -> impl Future<Output = Result<Outcome, StoreError>> + Send;
    /// A lease of this length.
    fn grant(&self, ttl: Duration) -> impl Future<Output = Result<i64, StoreError>> + Send;
    /// Renews a lease; `false` if it has run out.
    fn renew(&self, lease: i64) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// This node has another address: connections from the old one are given up now, rather than when their silence is noticed.
    fn reconnect(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
    /// Watches a range for ever, resuming by itself: the events come through the channel, a snapshot first.
    fn watch(&self, range: Range) -> tokio::sync::mpsc::Receiver<Event>;
}
