//! What the mirror is told, and what it says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use twill_ipam::Block;

use crate::View;
use crate::record::Content;
use crate::store::{Range, Store, StoreError};
use crate::txn::{Outcome, Txn};
use crate::view::Snapshot;

/// What it is told.
#[derive(Debug, Clone)]
pub enum Input {
    /// The cluster, as etcd itself told it in this run.
    View(Arc<View>),
    /// The node is registered, with this epoch, or is not.
    Epoch(Option<i64>),
    /// What is in use of each block of the node.
    Contents(BTreeMap<Block, Content>),
    /// What became of the order, and how long that took.
    Answer(Answer, Duration),
    /// What etcd has is to be read soon.
    Audit,
    /// Nothing but that time has passed. Feed it every second or so.
    Tick,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Perform this ([`Order::perform`]), and give the answer back.
    Order(Order),
    /// The mirror rests, for this reason: worth a line in the log.
    Rests(Rest),
    /// It is written again.
    GoesOn,
}

/// What is asked of etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Read the node's mirror.
    Read(Range),
    /// Write some of it.
    Write(Txn),
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// What was read.
    Read(Snapshot),
    /// It was written, at this revision.
    Written(i64),
    /// A compare did not hold.
    Refused,
    /// It may have been written.
    Unknown(String),
    /// Nothing was done.
    Away(String),
    /// etcd is out of space.
    Full(String),
}

/// Why the mirror rests.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rest {
    /// etcd takes its time.
    #[error("the mirror of this node's addresses rests: etcd takes {0:.1?} for a write")]
    Slow(Duration),
    /// etcd does not answer.
    #[error("the mirror of this node's addresses rests: {0}")]
    Away(String),
    /// etcd takes no writes.
    #[error("the mirror of this node's addresses rests, since etcd is out of space: {0}")]
    Full(String),
}

impl Order {
    /// Performs it. Ends within the store's deadline.
    pub async fn perform<S: Store>(&self, store: &S) -> Answer {
        let failed = |error: StoreError| match error {
            StoreError::Unavailable { .. } => Answer::Away(error.to_string()),
            StoreError::Unknown { .. } | StoreError::Compacted(_) => Answer::Unknown(error.to_string()),
            StoreError::Full { .. } => Answer::Full(error.to_string()),
        };
        match self {
            Self::Read(range) => store.read(range).await.map_or_else(failed, Answer::Read),
            Self::Write(txn) => match store.commit(txn).await {
                Ok(Outcome::Done(revision)) => Answer::Written(revision),
                Ok(Outcome::Refused(_)) => Answer::Refused,
                Err(error) => failed(error),
            },
        }
    }
}
