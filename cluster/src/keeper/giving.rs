//! Giving back: a block that has long been empty, if much more than the low mark stays free.
//!
//! It is closed here first, by a transaction of the node store that finds it empty; then its record is deleted, if it
//! still has the revision that is known. Whatever becomes of that, the block is not opened again before its record has
//! been written anew: a deletion that comes late then fails.

use std::time::Duration;

use twill_conf::PoolName;
use twill_ipam::Block;

use super::Identity;
use super::flight::{Fate, Flight};
use super::holdings::Holdings;
use crate::View;
use crate::key;
use crate::request::{Answer, RequestId};
use crate::txn::{Compare, Op, Txn};
use twill_ipam::guard::{Guard, stands};

/// So long a block is empty before it is given back.
pub(super) const REST: Duration = Duration::from_secs(600);

/// A block on its way back.
#[derive(Debug, Clone, Default)]
pub(super) struct Giving {
    stage: Option<Stage>,
}

#[derive(Debug, Clone)]
enum Stage {
    /// The node store was told to close it.
    Closing(Block),
    /// It is closed, and was empty then.
    Closed(Block),
    /// Its record is being deleted.
    Deleting(Flight<Block>),
}

/// What an answer meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// It was given back, at this revision.
    Gave(Block, i64),
    /// Go on.
    On,
    /// Go on after a pause.
    Later,
}

impl Giving {
    /// The block that is being given back.
    pub(super) fn block(&self) -> Option<Block> {
        Some(match self.stage.as_ref()? {
            Stage::Closing(block) | Stage::Closed(block) => *block,
            Stage::Deleting(flight) => flight.what,
        })
    }

    /// The deletion on its way.
    pub(super) fn flight(&mut self) -> Option<&mut Flight<Block>> {
        match &mut self.stage {
            Some(Stage::Deleting(flight)) => Some(flight),
            _ => None,
        }
    }

    /// Begins with a block: the node store is told to close it.
    pub(super) fn begin(&mut self, block: Block) {
        self.stage = Some(if stands(Guard::ClosingFirst) { Stage::Closing(block) } else { Stage::Closed(block) });
    }

    /// A look at the node store has come.
    pub(super) fn look(&mut self, holdings: &Holdings) {
        if let Some(Stage::Closing(block)) = self.stage {
            self.stage = holdings.is_closed_and_empty(block).then_some(Stage::Closed(block));
        }
    }

    /// What was begun is left: the block is closed, and stays so until its record is written anew.
    pub(super) fn leave(&mut self) {
        self.stage = None;
    }

    /// The block whose record is to be deleted now.
    pub(super) fn due(&self) -> Option<Block> {
        match self.stage {
            Some(Stage::Closed(block)) => Some(block),
            _ => None,
        }
    }

    /// The transaction that deletes its record and its mirror, which is on its way from now on.
    pub(super) fn send(&mut self, id: RequestId, block: Block, revision: i64, epoch: i64, me: &Identity) -> Txn {
        let key = key::block(block);
        self.stage = Some(Stage::Deleting(Flight::delete(id, key.clone(), block)));
        Txn {
            when: vec![
                Compare::Created { key: key::node(&me.node), revision: epoch },
                Compare::Modified { key: key.clone(), revision },
            ],
            then: vec![Op::Delete { key }, Op::Delete { key: key::addresses(&me.node, block) }],
        }
    }

    /// Takes an answer; `None` if it answers something else.
    pub(super) fn answered(&mut self, id: RequestId, answer: &Answer) -> Option<Progress> {
        let flight = self.flight()?;
        let fate = flight.settle(id, answer)?;
        let block = flight.what;
        Some(match fate {
            Fate::Doubtful => Progress::On,
            Fate::Unread => Progress::Later,
            Fate::Done { revision, .. } => {
                self.stage = None;
                Progress::Gave(block, revision)
            }
            Fate::Refused | Fate::Unsent | Fate::Undone => {
                self.stage = None;
                Progress::Later
            }
        })
    }
}

/// The block that may be given back, with its pool.
pub(super) fn spare(view: &View, holdings: &Holdings, now: twill_ipam::BootTime) -> Option<(Block, PoolName)> {
    let config = &view.config.as_ref()?.value;
    let rest = if stands(Guard::GiveBackHysteresis) { REST } else { Duration::ZERO };
    config.pools.iter().find_map(|pool| {
        let block = holdings.spare(pool, now, rest)?;
        let family = block.family();
        let of_family = config.pools.iter().filter(|pool| twill_ipam::Family::of(pool.cidr.ip()) == family);
        let free: u64 = of_family.map(|pool| holdings.free(pool)).fold(0, u64::saturating_add);
        let mark = super::claims::mark(pool);
        let stays = free.saturating_sub(block.size());
        let enough = if stands(Guard::GiveBackHysteresis) { stays >= 2 * mark } else { stays >= mark };
        enough.then(|| (block, pool.name.clone()))
    })
}

/// The block of a node that is drained that may be given back, with its pool: any that is empty. The tunnel's is not, and
/// goes with the node.
pub(super) fn vacated(view: &View, holdings: &Holdings, now: twill_ipam::BootTime) -> Option<(Block, PoolName)> {
    let pools = &view.config.as_ref()?.value.pools;
    pools.iter().find_map(|pool| Some((holdings.spare(pool, now, Duration::ZERO)?, pool.name.clone())))
}
