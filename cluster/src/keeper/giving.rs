//! Giving back: a block that has long been empty, if much more than the low mark stays free.
//!
//! It is closed here first, by a transaction of the node store that finds it empty; then its record is deleted, if it
//! still has the revision that is known. Whatever becomes of that, the block is not opened again before its record has
//! been written anew: a deletion that comes late then fails.

use std::collections::BTreeMap;
use std::time::Duration;

use twill_conf::PoolName;
use twill_conf::cluster::Given;
use twill_ipam::{Block, BootTime, Family};

use super::Identity;
use super::claims::{block_size, mark};
use super::flight::{Fate, Flight};
use super::holdings::Holdings;
use super::wants::Ground;
use crate::key;
use crate::request::{Answer, RequestId};
use crate::txn::{Compare, Op, Txn};
use twill_ipam::guard::{Guard, stands};

/// So long a block is empty before it is given back.
pub(super) const REST: Duration = Duration::from_secs(600);

/// So many addresses are kept at least: twice the low mark of the smallest blocks is less than what comes and goes with a few
/// pods.
const LEAST: u64 = 4;

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

/// Since when so much has been free on this node that it can do without a block, by the pool that the block would be of.
///
/// That a block is empty at this moment does not say that it is not needed: the smaller blocks are, the more the number of
/// those that are empty goes up and down with every pod.
#[derive(Debug, Clone, Default)]
pub(super) struct Plenty(BTreeMap<PoolName, BootTime>);

impl Plenty {
    /// Looks how much is free now.
    pub(super) fn look(&mut self, ground: Ground<'_>, now: BootTime) {
        let Ground { config, labels, holdings, .. } = ground;
        let default = config.pools.iter().filter(|pool| pool.given(labels) == Given::Default);
        let enough = default.filter(|pool| {
            let family = Family::of(pool.cidr.ip());
            let of_family = config.pools.iter().filter(|pool| Family::of(pool.cidr.ip()) == family);
            let alike = of_family.filter(|pool| pool.given(labels) == Given::Default);
            let free = alike.map(|pool| holdings.free(pool)).fold(0, u64::saturating_add);
            let kept = if stands(Guard::GiveBackHysteresis) { (2 * mark(pool)).max(LEAST) } else { mark(pool) };
            free >= block_size(pool).saturating_add(kept)
        });
        self.0 = enough.map(|pool| (pool.name.clone(), self.0.get(&pool.name).copied().unwrap_or(now))).collect();
    }

    /// Whether so much has been free for so long.
    fn lasted(&self, pool: &PoolName, rest: Duration, now: BootTime) -> bool {
        self.0.get(pool).is_some_and(|since| now.since(*since) >= rest)
    }
}

/// The block that may be given back, with its pool.
///
/// Of a pool that gives to every pod here it is one that has been empty for long, if all that time much was free without
/// it. Of a pool that is for other nodes one that has been empty for as long: nothing is kept ready there. Of a disabled
/// pool any that is empty: nobody can want it back, and the operator waits for it.
pub(super) fn spare(ground: Ground<'_>, plenty: &Plenty, now: BootTime) -> Option<(Block, PoolName)> {
    let Ground { config, labels, holdings, .. } = ground;
    let rest = if stands(Guard::GiveBackHysteresis) { REST } else { Duration::ZERO };
    config.pools.iter().find_map(|pool| {
        let given = pool.given(labels);
        if given == Given::Default && !plenty.lasted(&pool.name, rest, now) {
            return None;
        }
        let rest = if given == Given::Nobody { Duration::ZERO } else { rest };
        Some((holdings.spare(pool, now, rest)?, pool.name.clone()))
    })
}

/// The family whose tunnel address keeps a block from going that is to go, and whether it goes without a substitute. It is
/// moved only where nothing else is in the block.
pub(super) fn tunnel(ground: Ground<'_>) -> Option<(Family, bool)> {
    let Ground { config, labels, holdings, .. } = ground;
    config.pools.iter().find_map(|pool| {
        let given = pool.given(labels);
        if given == Given::Default {
            return None;
        }
        let family = holdings.tunnels_only(pool)?.family();
        let of_family = || config.pools.iter().filter(move |pool| Family::of(pool.cidr.ip()) == family);
        let default = || of_family().filter(|pool| pool.given(labels) == Given::Default);
        match given {
            Given::Nobody if holdings.has_place(of_family()) => Some((family, false)),
            // The first block of another pool is on its way, unless there is none of this family any more.
            Given::Nobody => default().next().is_none().then_some((family, true)),
            _ => holdings.has_place(default()).then_some((family, false)),
        }
    })
}

/// The block of a node that is drained that may be given back, with its pool: any that is empty. The tunnel's is not, and
/// goes with the node.
pub(super) fn vacated(ground: Ground<'_>, now: BootTime) -> Option<(Block, PoolName)> {
    let pools = &ground.config.pools;
    pools.iter().find_map(|pool| Some((ground.holdings.spare(pool, now, Duration::ZERO)?, pool.name.clone())))
}
