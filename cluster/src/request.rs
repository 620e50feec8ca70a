//! What the [keeper](crate::keeper) asks of etcd, and what became of it.

use crate::store::{Range, Store, StoreError};
use crate::txn::{Outcome, Txn};
use crate::view::Entry;
use twill_ipam::Block;

/// The name of a request, unique in its keeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A request to etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its name, which the answer carries.
    pub id: RequestId,
    /// What is asked.
    pub action: Action,
}

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write the node's record.
    Publish(Txn),
    /// Claim a block.
    Claim {
        /// The block.
        block: Block,
        /// The transaction.
        txn: Txn,
    },
    /// Delete the record of a block that is closed and empty here.
    GiveBack(Txn),
    /// Write the record of a block anew, before it is opened again.
    Renew(Txn),
    /// Read one key back (linearizable), because the outcome of a write to it is unknown.
    Read(String),
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The transaction was done, at this revision.
    Done(i64),
    /// A compare did not hold, as of this revision.
    Refused(i64),
    /// Nothing was done, and nothing will be: etcd is out of reach.
    Unavailable,
    /// Sent, but not answered: it may have been done, or may be done yet.
    Unknown,
    /// What the key held, as of a revision.
    Found {
        /// The key with its value, if it is there.
        entry: Option<Entry>,
        /// The revision that was read.
        revision: i64,
    },
}

impl Request {
    /// The block that becomes this node's if the request succeeds.
    pub fn claims(&self) -> Option<Block> {
        match &self.action {
            Action::Claim { block, .. } => Some(*block),
            Action::Publish(_) | Action::GiveBack(_) | Action::Renew(_) | Action::Read(_) => None,
        }
    }

    /// Sends the request. Ends within the store's deadline.
    pub async fn perform<S: Store>(&self, store: &S) -> Answer {
        match &self.action {
            Action::Publish(txn) | Action::GiveBack(txn) | Action::Renew(txn) | Action::Claim { txn, .. } => {
                match store.commit(txn).await {
                    Ok(Outcome::Done(revision)) => Answer::Done(revision),
                    Ok(Outcome::Refused(revision)) => Answer::Refused(revision),
                    Err(error) => Answer::failed(&error),
                }
            }
            Action::Read(key) => match store.read(&Range::key(key)).await {
                Ok(snapshot) => {
                    Answer::Found { entry: snapshot.entries.into_iter().next(), revision: snapshot.revision }
                }
                Err(_) => Answer::Unavailable,
            },
        }
    }
}

impl Answer {
    fn failed(error: &StoreError) -> Self {
        match error {
            StoreError::Unavailable { .. } => Self::Unavailable,
            StoreError::Unknown { .. } | StoreError::Full { .. } | StoreError::Compacted(_) => Self::Unknown,
        }
    }
}
