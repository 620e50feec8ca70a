//! When to claim, and by which transaction.

use std::collections::{BTreeMap, BTreeSet};

use twill_conf::PoolName;
use twill_conf::cluster::{ClusterConf, Given, Pool};
use twill_ipam::block::low_mark;
use twill_ipam::{Block, Family};

use super::flight::{Fate, Flight};
use super::holdings::pool_of;
use super::place::Occupancy;
use super::refusal::Full;
use super::wants::Ground;
use super::{Identity, Problem};
use crate::View;
use crate::key;
use crate::record::{BlockRecord, Content, MirrorRecord, Versioned};
use crate::request::{Answer, RequestId};
use crate::txn::{Compare, Op, Txn};
use twill_ipam::guard::{Guard, stands};

/// So many refusals are taken in a row; then a pause must come first.
const REFUSALS: usize = 4;
/// No block size has a higher low mark.
const HIGHEST_MARK: u64 = 16;

/// A block that is to be claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    /// Which.
    pub(super) block: Block,
    /// A part of which pool.
    pub(super) pool: PoolName,
}

/// The state of claiming.
#[derive(Debug, Clone, Default)]
pub(super) struct Claims {
    /// One for each family at most.
    flights: BTreeMap<Family, Flight<Claim>>,
    /// What was refused since the last view: taken, whatever that says.
    refused: BTreeSet<Block>,
    /// Left to others after a rupture of history: taken, whatever the view says.
    withheld: BTreeSet<Block>,
    /// Refusals in a row, since the last pause or success, that no view has explained yet.
    refusals: Vec<Block>,
    /// A free block of a pool, or that there is none, as far as that was asked since `refused` or the configuration changed.
    room: BTreeMap<PoolName, Option<Block>>,
    /// Tries so far: each points at another place.
    tries: u64,
}

/// What an answer meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Progress {
    /// The block is ours, at this revision.
    Claimed(Claim, i64),
    /// Go on.
    On,
    /// Go on after a pause.
    Later,
}

/// What one family needs.
#[derive(Debug, Default)]
pub(super) struct Need {
    /// To be claimed.
    pub(super) claim: Option<(Family, Claim)>,
    /// Pools without a free address here or a block to be had.
    pub(super) exhausted: Vec<PoolName>,
    /// Pools that should have had a block for us and had none.
    pub(super) problems: Vec<Problem>,
}

impl Claims {
    /// A newer view has come. `true` if it explains so many refusals that claims may be tried again: the places went to
    /// others, as happens where many nodes claim at once.
    pub(super) fn see(&mut self, view: &View) -> bool {
        self.refused.clear();
        let taken = |block: &Block| view.overlapping(*block).is_some();
        // Where a block is free still there is room, whatever else has changed; where there was none, there may be now.
        self.room.retain(|_, free| free.is_some_and(|free| !taken(&free)));
        let waited = !self.may_be_refused();
        self.refusals.retain(|block| !taken(block));
        waited && self.may_be_refused()
    }

    /// Writes on their way.
    pub(super) fn flights(&mut self) -> impl Iterator<Item = &mut Flight<Claim>> {
        self.flights.values_mut()
    }

    /// What a family lacks of the pools that give to every pod on this node.
    pub(super) fn need(&mut self, family: Family, ground: Ground<'_>) -> Need {
        let Ground { view, config, labels, holdings, me } = ground;
        let mut need = Need::default();
        let of_family = config.pools.iter().filter(|pool| Family::of(pool.cidr.ip()) == family);
        let (pools, others): (Vec<&Pool>, Vec<&Pool>) =
            of_family.filter(|pool| !pool.disabled).partition(|pool| pool.given(labels) == Given::Default);
        let free: Vec<u64> = pools.iter().map(|pool| holdings.free(pool)).collect();
        let free_in_all = free.iter().fold(0u64, |sum, free| sum.saturating_add(*free));
        let mut full = Vec::new();
        let mut chosen = false;
        for (pool, free) in pools.iter().zip(free) {
            if free > 0 && (chosen || free_in_all >= HIGHEST_MARK) {
                continue; // Nothing to ask of this pool.
            }
            if !self.has_room(pool, view) {
                full.push(*pool);
                if free == 0 && !self.flies_to(pool) {
                    need.exhausted.push(pool.name.clone());
                }
            } else if !chosen {
                // The first pool with room is the one to claim from, whether or not that is due yet.
                chosen = true;
                if free_in_all < mark(pool) && self.may_try(family) {
                    need.claim = self.place(pool, view, me).map(|claim| (family, claim));
                }
            }
        }
        // Of pools that are for other nodes only those matter that an ADD has brought a block of before.
        let here = others.into_iter().filter(|pool| holdings.has_of(pool) && holdings.free(pool) == 0);
        for pool in here {
            if !self.has_room(pool, view) && !self.flies_to(pool) {
                need.exhausted.push(pool.name.clone());
            }
        }
        let mark = pools.first().map_or(0, |pool| mark(pool));
        if full.len() == pools.len() && free_in_all < mark && !self.flights.contains_key(&family) {
            need.problems.extend(full.into_iter().map(|pool| Problem::PoolExhausted(Full::new(pool))));
        }
        need
    }

    /// These blocks are left to others.
    pub(super) fn withhold(&mut self, blocks: BTreeSet<Block>) {
        if blocks != self.withheld {
            self.withheld = blocks;
            self.room.clear();
        }
    }

    /// A block that was ours until etcd lost it, to be claimed again, if that may be tried now.
    pub(super) fn again(
        &self,
        family: Family,
        mut lost: impl Iterator<Item = Block>,
        config: &ClusterConf,
    ) -> Option<Claim> {
        if !self.may_try(family) {
            return None;
        }
        lost.find_map(|block| {
            let due = block.family() == family && !self.refused.contains(&block);
            let pool = pool_of(config, block).filter(|_| due)?;
            Some(Claim { block, pool: pool.name.clone() })
        })
    }

    /// What is on its way belongs to another epoch.
    pub(super) fn forget_flights(&mut self) {
        self.flights.clear();
        self.resume();
    }

    /// Whether a block, or a part of it, counts as taken although the view does not show that.
    pub(super) fn avoids(&self, block: Block) -> bool {
        self.refused.iter().chain(&self.withheld).any(|taken| taken.overlaps(block))
    }

    /// Whether a pool has a place for a block.
    pub(super) fn has_room(&mut self, pool: &Pool, view: &View) -> bool {
        if let Some(room) = self.room.get(&pool.name) {
            return room.is_some();
        }
        let free = self.places(pool, view).and_then(|places| places.choose(&[pool.name.as_str()]));
        self.room.insert(pool.name.clone(), free);
        free.is_some()
    }

    /// Whether every block of a pool has an owner by the view: one that is avoided for a while may be had later.
    pub(super) fn is_full(&self, pool: &Pool, view: &View) -> bool {
        Occupancy::of(pool, view, &BTreeSet::new()).is_none_or(|places| places.free() == 0)
    }

    fn places(&self, pool: &Pool, view: &View) -> Option<Occupancy> {
        let avoid: BTreeSet<Block> = self.refused.union(&self.withheld).copied().collect();
        Occupancy::of(pool, view, &avoid)
    }

    /// The block that this node would claim of a pool.
    pub(super) fn place(&self, pool: &Pool, view: &View, me: &Identity) -> Option<Claim> {
        let words = [me.node.as_str(), pool.name.as_str(), &self.tries.to_string()];
        let block = self.places(pool, view)?.choose(&words)?;
        Some(Claim { block, pool: pool.name.clone() })
    }

    fn avoid(&mut self, block: Block) {
        self.refused.insert(block);
        self.room.clear();
    }

    fn forget(&mut self) {
        self.refused.clear();
        self.room.clear();
    }

    /// The transaction for a claim, which is on its way from now on.
    pub(super) fn send(&mut self, id: RequestId, family: Family, claim: Claim, terms: Terms<'_>) -> Txn {
        let txn = terms.transaction(claim.block);
        self.tries += 1;
        self.flights.insert(family, Flight::new(id, key::block(claim.block), terms.nonce, claim));
        txn
    }

    /// Takes an answer; `None` if it answers something else.
    pub(super) fn answered(&mut self, id: RequestId, answer: &Answer) -> Option<Progress> {
        let (family, fate) =
            self.flights.iter_mut().find_map(|(family, flight)| Some((*family, flight.settle(id, answer)?)))?;
        if matches!(fate, Fate::Doubtful | Fate::Unread) {
            return Some(if fate == Fate::Unread { Progress::Later } else { Progress::On });
        }
        let claim = self.flights.remove(&family).expect("it has just been found").what;
        Some(match fate {
            Fate::Done { revision, .. } => {
                self.refusals.clear();
                Progress::Claimed(claim, revision)
            }
            Fate::Refused => {
                self.avoid(claim.block);
                self.refusals.push(claim.block);
                if self.may_be_refused() { Progress::On } else { Progress::Later }
            }
            // It may be done late, and is adopted then; in the meantime its place is left to it.
            Fate::Undone => {
                self.avoid(claim.block);
                Progress::Later
            }
            Fate::Unsent | Fate::Doubtful | Fate::Unread => Progress::Later,
        })
    }

    /// A pause is over, or what claims rest on has changed.
    pub(super) fn resume(&mut self) {
        self.forget();
        self.refusals.clear();
    }

    /// Whether a claim of a family may be sent now.
    pub(super) fn may_try(&self, family: Family) -> bool {
        !self.flights.contains_key(&family) && self.may_be_refused()
    }

    fn may_be_refused(&self) -> bool {
        self.refusals.len() < REFUSALS
    }

    /// Whether a claim of a block of the pool is on its way.
    pub(super) fn flies_to(&self, pool: &Pool) -> bool {
        self.flights.values().any(|flight| flight.what.pool == pool.name)
    }
}

/// What a claim rests on.
#[derive(Debug)]
pub(super) struct Terms<'a> {
    /// Whose.
    pub(super) me: &'a Identity,
    /// The fencing token.
    pub(super) epoch: i64,
    /// The configuration that the place was chosen by.
    pub(super) config: &'a Versioned<ClusterConf>,
    /// Fresh.
    pub(super) nonce: String,
}

impl Terms<'_> {
    /// If our record is still the one of this epoch, the configuration the one we saw, and no block lies inside or
    /// around: the block and its mirror.
    fn transaction(&self, block: Block) -> Txn {
        let node = &self.me.node;
        let inside = key::inside(block);
        let absent = key::ancestors(block).into_iter().map(|key| Compare::Created { key, revision: 0 });
        let absent = absent.filter(|_| stands(Guard::AncestorCompare));
        let record = BlockRecord {
            node: node.clone(),
            machine_id: self.me.machine_id.clone(),
            epoch: self.epoch,
            nonce: self.nonce.clone(),
            other: serde_json::Map::new(),
        };
        let mirror = MirrorRecord {
            epoch: self.epoch,
            nonce: self.nonce.clone(),
            content: Content::default(),
            other: serde_json::Map::new(),
        };
        let when = [
            (Guard::EpochCompare, Compare::Created { key: key::node(node), revision: self.epoch }),
            (
                Guard::ConfigurationCompare,
                Compare::Modified { key: key::CONFIG.to_owned(), revision: self.config.modified },
            ),
            (Guard::RangeCompare, Compare::NoneIn { start: inside.start, end: inside.end }),
        ];
        let when = when.into_iter().filter_map(|(guard, compare)| stands(guard).then_some(compare));
        let json = "a record has string keys and finite numbers";
        let put = |key, value| Op::Put { key, value, lease: None };
        Txn {
            when: when.chain(absent).collect(),
            then: vec![
                put(key::block(block), serde_json::to_vec(&record).expect(json)),
                put(key::addresses(node, block), serde_json::to_vec(&mirror).expect(json)),
            ],
        }
    }
}

/// How many addresses are to be free and cool before nothing is claimed from the pool.
pub(super) fn mark(pool: &Pool) -> u64 {
    low_mark(block_size(pool))
}

/// How many addresses a block of the pool has (saturating).
pub(super) fn block_size(pool: &Pool) -> u64 {
    let bits = Family::of(pool.cidr.ip()).bits().saturating_sub(pool.block);
    1u64.checked_shl(u32::from(bits)).unwrap_or(u64::MAX)
}
