//! Writing a block's record anew, with a fresh nonce, before the block is opened again.
//!
//! That is due wherever a deletion of an earlier give-back may still come: the record's revision changes, and the
//! deletion, which is for the old one, fails.

use std::collections::BTreeMap;

use twill_ipam::Block;

use super::Identity;
use super::flight::{Fate, Flight};
use crate::key;
use crate::record::BlockRecord;
use crate::request::{Answer, RequestId};
use crate::txn::{Compare, Op, Txn};

/// So many are on their way at once.
pub(super) const MOST: usize = 16;

/// Records on their way.
#[derive(Debug, Clone, Default)]
pub(super) struct Renewing {
    flights: BTreeMap<Block, Flight<Block>>,
}

/// What an answer meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// It was written, at this revision.
    Written(Block, i64),
    /// Go on.
    On,
    /// Go on after a pause.
    Later,
}

impl Renewing {
    /// Writes on their way.
    pub(super) fn flights(&mut self) -> impl Iterator<Item = &mut Flight<Block>> {
        self.flights.values_mut()
    }

    /// Whether a block is being written, or there is no room for more.
    pub(super) fn is_busy(&self, block: Block) -> bool {
        self.flights.len() >= MOST || self.flights.contains_key(&block)
    }

    /// All is forgotten: what is on its way belongs to another epoch.
    pub(super) fn forget(&mut self) {
        self.flights.clear();
    }

    /// The transaction for a block whose record has `revision`, on its way from now on.
    pub(super) fn send(
        &mut self,
        id: RequestId,
        block: Block,
        revision: i64,
        record: &BlockRecord,
        me: &Identity,
    ) -> Txn {
        let key = key::block(block);
        self.flights.insert(block, Flight::new(id, key.clone(), record.nonce.clone(), block));
        let value = serde_json::to_vec(record).expect("a record has string keys and finite numbers");
        Txn {
            when: vec![
                Compare::Created { key: key::node(&me.node), revision: record.epoch },
                Compare::Modified { key: key.clone(), revision },
            ],
            then: vec![Op::Put { key, value, lease: None }],
        }
    }

    /// Takes an answer; `None` if it answers something else.
    pub(super) fn answered(&mut self, id: RequestId, answer: &Answer) -> Option<Progress> {
        let (block, fate) =
            self.flights.iter_mut().find_map(|(block, flight)| Some((*block, flight.settle(id, answer)?)))?;
        Some(match fate {
            Fate::Doubtful => Progress::On,
            Fate::Unread => Progress::Later,
            Fate::Done { revision, .. } => {
                self.flights.remove(&block);
                Progress::Written(block, revision)
            }
            Fate::Refused | Fate::Unsent | Fate::Undone => {
                self.flights.remove(&block);
                Progress::Later
            }
        })
    }
}
