//! Transactions as values: what etcd's `Txn` can say, and no more.

/// A transaction: if all compares hold, the operations are done, at one revision; else nothing is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Txn {
    /// All must hold.
    pub when: Vec<Compare>,
    /// Done if they do.
    pub then: Vec<Op>,
}

/// A condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compare {
    /// The key came to be at this revision; 0 means that it is not there.
    Created {
        /// Without the prefix.
        key: String,
        /// create_revision.
        revision: i64,
    },
    /// The key was last changed at this revision.
    Modified {
        /// Without the prefix.
        key: String,
        /// mod_revision.
        revision: i64,
    },
    /// No key from `start` up to, not including, `end` is there.
    NoneIn {
        /// Without the prefix.
        start: String,
        /// Without the prefix.
        end: String,
    },
}

/// An operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Write a key.
    Put {
        /// Without the prefix.
        key: String,
        /// The bytes.
        value: Vec<u8>,
        /// The lease that it shall end with.
        lease: Option<i64>,
    },
    /// Delete a key.
    Delete {
        /// Without the prefix.
        key: String,
    },
}

/// The answer to a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done, at this revision.
    Done(i64),
    /// A compare did not hold, as of this revision.
    Refused(i64),
}
