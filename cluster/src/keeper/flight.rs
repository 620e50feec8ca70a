//! One write on its way, and how its fate becomes known.

use serde::Deserialize;

use crate::request::{Action, Answer, Request, RequestId};
use crate::view::Entry;

/// A write that was sent and is not settled yet. At most one for each purpose: that is what keeps late ones harmless.
#[derive(Debug, Clone)]
pub(super) struct Flight<T> {
    /// What it writes.
    pub(super) what: T,
    /// Where.
    pub(super) key: String,
    /// What the key holds when it is done.
    leaves: Leaves,
    phase: Phase,
}

/// By what a write is known again.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Leaves {
    /// A value with this nonce.
    Nonce(String),
    /// Nothing: it was a deletion.
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waiting for the answer.
    Sent(RequestId),
    /// There was none: the key has to be read.
    Doubtful,
    /// Waiting for the key.
    Reading(RequestId),
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was done at this revision, and the key came to be at `created` where that was read.
    Done { revision: i64, created: Option<i64> },
    /// A compare did not hold.
    Refused,
    /// It was never sent.
    Unsent,
    /// It had not been done when the key was read. It may still be done late.
    Undone,
    /// Not settled: the key is to be read.
    Doubtful,
    /// Not settled: the key could not be read.
    Unread,
}

impl<T> Flight<T> {
    /// A write that is being sent as `id`.
    pub(super) fn new(id: RequestId, key: String, nonce: String, what: T) -> Self {
        Self { what, key, leaves: Leaves::Nonce(nonce), phase: Phase::Sent(id) }
    }

    /// A deletion that is being sent as `id`.
    pub(super) fn delete(id: RequestId, key: String, what: T) -> Self {
        Self { what, key, leaves: Leaves::Nothing, phase: Phase::Sent(id) }
    }

    /// The read that would settle it, where one is due.
    pub(super) fn read(&mut self, id: RequestId) -> Option<Request> {
        if self.phase != Phase::Doubtful {
            return None;
        }
        self.phase = Phase::Reading(id);
        Some(Request { id, action: Action::Read(self.key.clone()) })
    }

    /// Whether a read is due.
    pub(super) fn is_doubtful(&self) -> bool {
        self.phase == Phase::Doubtful
    }

    /// Takes an answer; `None` if it answers something else.
    pub(super) fn settle(&mut self, id: RequestId, answer: &Answer) -> Option<Fate> {
        match (self.phase, answer) {
            (Phase::Sent(sent), answer) if sent == id => Some(match answer {
                Answer::Done(revision) => Fate::Done { revision: *revision, created: None },
                Answer::Refused(_) => Fate::Refused,
                Answer::Unavailable => Fate::Unsent,
                Answer::Unknown | Answer::Found { .. } => {
                    self.phase = Phase::Doubtful;
                    Fate::Doubtful
                }
            }),
            (Phase::Reading(reading), answer) if reading == id => Some(match answer {
                Answer::Found { entry: Some(entry), .. } if self.wrote(entry) => {
                    Fate::Done { revision: entry.modified, created: Some(entry.created) }
                }
                Answer::Found { entry: None, revision } if self.leaves == Leaves::Nothing => {
                    Fate::Done { revision: *revision, created: None }
                }
                Answer::Found { .. } => Fate::Undone,
                Answer::Done(_) | Answer::Refused(_) | Answer::Unavailable | Answer::Unknown => {
                    self.phase = Phase::Doubtful;
                    Fate::Unread
                }
            }),
            _ => None,
        }
    }

    fn wrote(&self, entry: &Entry) -> bool {
        #[derive(Deserialize)]
        struct Nonce {
            nonce: String,
        }
        serde_json::from_slice::<Nonce>(&entry.value).is_ok_and(|found| Leaves::Nonce(found.nonce) == self.leaves)
    }
}
