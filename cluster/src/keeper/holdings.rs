//! Which blocks are this node's, by etcd, and what the node store makes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use twill_conf::cluster::{ClusterConf, Pool};
use twill_conf::{NodeName, PoolName};
use twill_ipam::store::{BlockState, BlockUse, Origin};
use twill_ipam::{Block, BootTime};

use super::seen::Seen;
use super::{Identity, Output, Problem};
use crate::View;
use twill_ipam::guard::{Guard, stands};

/// So long an answer counts that no view has confirmed.
const PATIENCE: Duration = Duration::from_secs(60);
/// So many disputes fit into a record.
const MOST_DISPUTES: usize = 64;

/// A block of ours, by the last view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shown {
    /// The revision of its record.
    modified: i64,
    /// The epoch in its record.
    epoch: i64,
    /// This run has written the record, in this history of etcd.
    ours: bool,
}

/// What is known of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Holdings {
    seen: Seen,
    /// Ours by the last view.
    shown: BTreeMap<Block, Shown>,
    /// Written by us, at a revision that no view has reached yet, with the time of the answer. They count as ours for a
    /// while, but are opened by a view only: an answer may be of a history that etcd has lost since.
    ahead: BTreeMap<Block, (i64, BootTime)>,
    /// Given back at a revision that no view has reached yet.
    gone: BTreeMap<Block, i64>,
    /// For each block that this run tried to give back, the revision of its record then. As long as it has that one, a
    /// late deletion may take it away.
    doubtful: BTreeMap<Block, i64>,
    /// What this run has written anew, or claimed again: its addresses may have been in use before.
    renewed: BTreeSet<Block>,
    /// Of ours, those that another node says it has pods in, with that node.
    disputed: BTreeMap<Block, NodeName>,
    /// What this run has ordered to be opened, whatever became of that.
    opened: BTreeSet<Block>,
    /// The node store's blocks that come from the cluster; `None` before the first look.
    local: Option<BTreeMap<Block, BlockUse>>,
    /// What was ordered since that look.
    ordered: BTreeSet<Block>,
    /// All is to be closed before anything is opened again.
    closing: bool,
    /// Since when a block has been empty, and in this state.
    empty: BTreeMap<Block, (BlockState, BootTime)>,
}

impl Holdings {
    /// Takes a view.
    pub(super) fn see(&mut self, view: &View, me: &Identity) {
        self.ahead.retain(|_, (revision, _)| *revision > view.revision || !stands(Guard::Adoption));
        self.seen.follow(view, me, |block, record| {
            let adopted = stands(Guard::Adoption) || self.shown.contains_key(&block) || self.ahead.contains_key(&block);
            match record.filter(|_| adopted) {
                None => drop(self.shown.remove(&block)),
                Some(record) => {
                    let ours = me.wrote(&record.value.nonce);
                    let shown = Shown { modified: record.modified, epoch: record.value.epoch, ours };
                    self.shown.insert(block, shown);
                }
            }
        });
        self.gone.retain(|_, revision| *revision > view.revision);
        self.disputed = self.own().filter_map(|block| Some((block, self.seen.disputer(block)?.clone()))).collect();
        self.repeat();
    }

    /// Orders are given again where they are not carried out: the node store may have failed.
    pub(super) fn repeat(&mut self) {
        self.ordered.clear();
    }

    /// Takes a look at the node store.
    pub(super) fn look(&mut self, blocks: Vec<BlockUse>, now: BootTime) {
        let cluster = blocks.into_iter().filter(|block| block.origin == Origin::Cluster);
        let local: BTreeMap<Block, BlockUse> = cluster.map(|block| (block.block, block)).collect();
        let empty = local.values().filter(|has| is_empty(has));
        let known = |has: &BlockUse| self.empty.get(&has.block).filter(|(state, _)| *state == has.state).copied();
        self.empty = empty.map(|has| (has.block, known(has).unwrap_or((has.state, now)))).collect();
        self.ahead.retain(|_, (_, since)| now.since(*since) < PATIENCE);
        self.closing &= local.values().any(|has| has.state == BlockState::Open);
        self.local = Some(local);
        self.ordered.clear();
    }

    /// Our write of a block, a claim or a new nonce, was done at `revision`.
    pub(super) fn written(&mut self, block: Block, revision: i64, view: &View, now: BootTime) {
        if revision > view.revision || !stands(Guard::Adoption) {
            self.ahead.insert(block, (revision, now));
        }
    }

    /// A block is being written that may have been in use before.
    pub(super) fn renew(&mut self, block: Block) {
        self.renewed.insert(block);
    }

    /// A block is being given back.
    pub(super) fn doubt(&mut self, block: Block) {
        if let Some(shown) = self.shown.get(&block) {
            self.doubtful.insert(block, shown.modified);
        }
    }

    /// A block was given back.
    pub(super) fn gave(&mut self, block: Block, revision: i64, view: &View) {
        if revision > view.revision {
            self.gone.insert(block, revision);
        }
        self.ahead.remove(&block);
    }

    /// Everything is closed first: etcd has lost history, or this node its record.
    pub(super) fn close_first(&mut self) {
        let open = |local: &BTreeMap<Block, BlockUse>| local.values().any(|has| has.state == BlockState::Open);
        self.closing = self.local.as_ref().is_none_or(open);
        self.ahead.clear();
        self.gone.clear();
        self.ordered.clear();
    }

    /// Whether everything is being closed.
    pub(super) fn is_closing(&self) -> bool {
        self.closing
    }

    /// Whether there was a look at the node store.
    pub(super) fn is_known(&self) -> bool {
        self.local.is_some()
    }

    /// Whether all that is open here is ours, in this epoch.
    pub(super) fn is_in_order(&self, epoch: i64) -> bool {
        let is_ours = |block: &Block| {
            !self.gone.contains_key(block)
                && (self.ahead.contains_key(block) || self.shown.get(block).is_some_and(|shown| shown.epoch == epoch))
        };
        let mut local = self.local.iter().flat_map(BTreeMap::values);
        self.is_known() && local.all(|has| has.state != BlockState::Open || is_ours(&has.block))
    }

    /// Whether a block is closed here, and nobody has an address of it.
    pub(super) fn is_closed_and_empty(&self, block: Block) -> bool {
        let closed = |has: &BlockUse| has.state == BlockState::Closing && is_empty(has);
        self.local.as_ref().and_then(|local| local.get(&block)).is_some_and(closed)
    }

    /// The record's revision of a block of ours, where a view has shown it and nothing newer of ours is on its way.
    pub(super) fn revision(&self, block: Block) -> Option<i64> {
        let settled = !self.ahead.contains_key(&block) && !self.gone.contains_key(&block);
        self.shown.get(&block).filter(|_| settled).map(|shown| shown.modified)
    }

    /// Free and cool addresses of all own blocks in `pool`. A block that is not opened yet counts as it will be.
    pub(super) fn free(&self, pool: &Pool) -> u64 {
        let blocks = self.own().filter(|block| holds(pool, *block) && !self.disputed.contains_key(block));
        blocks.map(|block| self.free_in(block)).fold(0, u64::saturating_add)
    }

    /// Whether any own block lies in `pool`.
    pub(super) fn has_of(&self, pool: &Pool) -> bool {
        self.own().any(|block| holds(pool, block))
    }

    /// A block of the pool that has been empty for so long. Of a disabled pool they are closed, of others open.
    pub(super) fn spare(&self, pool: &Pool, now: BootTime, rest: Duration) -> Option<Block> {
        let ripe = |state: BlockState, since: BootTime| {
            now.since(since) >= rest && (pool.disabled || state == BlockState::Open)
        };
        let mut empty = self.empty.iter().rev().filter(|(_, (state, since))| ripe(*state, *since));
        empty.find(|(block, _)| holds(pool, **block) && self.revision(**block).is_some()).map(|(block, _)| *block)
    }

    /// An own block of the pool of which nobody but the tunnel has an address.
    pub(super) fn tunnels_only(&self, pool: &Pool) -> Option<Block> {
        let alone = |has: &BlockUse| has.tunnel.is_some() && has.assigned == 0;
        self.own().find(|block| holds(pool, *block) && self.local_use(*block).is_some_and(alone))
    }

    /// Whether an open block of these pools has an address for the tunnel.
    pub(super) fn has_place<'a>(&self, mut pools: impl Iterator<Item = &'a Pool>) -> bool {
        let room = |pool: &Pool| {
            let local = self.local.iter().flat_map(BTreeMap::values);
            let mut open = local.filter(|has| has.state == BlockState::Open && holds(pool, has.block));
            open.any(|has| has.free() > 0)
        };
        pools.any(room)
    }

    /// Blocks of ours that have to be written anew before they are opened, with the revisions of their records.
    pub(super) fn stale(&self, config: &ClusterConf, epoch: i64) -> Vec<(Block, i64)> {
        let Some(local) = self.local.as_ref().filter(|_| !self.closing) else { return Vec::new() };
        let is_open = |block: &Block| local.get(block).is_some_and(|has| has.state == BlockState::Open);
        let to_open = |block: &Block| pool_of(config, *block).is_some_and(|pool| !pool.disabled);
        let shown = self.shown.iter().filter(|(block, shown)| {
            !is_open(block) && !self.is_settled(block, shown, epoch) && !self.disputed.contains_key(block)
        });
        let stale = shown.filter_map(|(block, _)| Some((*block, self.revision(*block)?)));
        stale.filter(|(block, _)| to_open(block)).collect()
    }

    /// Blocks of ours until etcd lost them, that somebody has an address of and nobody else has taken.
    pub(super) fn lost<'a>(&'a self, view: &'a View) -> impl Iterator<Item = Block> + 'a {
        let own: BTreeSet<Block> = self.own().collect();
        let local = self.local.iter().flat_map(BTreeMap::values);
        let lost =
            local.filter(move |has| has.state == BlockState::Closing && !is_empty(has) && !own.contains(&has.block));
        lost.map(|has| has.block).filter(|block| owner(*block, view).is_none() && !self.gone.contains_key(block))
    }

    /// Blocks in which this node has pods and that are somebody else's now.
    pub(super) fn disputes(&self, view: &View) -> Vec<Block> {
        let own: BTreeSet<Block> = self.own().collect();
        let local = self.local.iter().flat_map(BTreeMap::values).filter(|has| has.assigned > 0);
        let lost = local.map(|has| has.block).filter(|block| !own.contains(block));
        lost.filter(|block| owner(*block, view).is_some()).take(MOST_DISPUTES).collect()
    }

    /// What the node store must be told so that it has open exactly what is ours. `busy` is being given back.
    pub(super) fn orders(&mut self, config: Option<&ClusterConf>, epoch: i64, busy: Option<Block>) -> Vec<Output> {
        if self.closing {
            return self.close_all();
        }
        let Some(local) = &self.local else { return Vec::new() };
        let is_open = |block: &Block| local.get(block).is_some_and(|has| has.state == BlockState::Open);
        let pool_of = |block: Block| config.and_then(|config| pool_of(config, block));
        let own: BTreeSet<Block> = self.own().filter(|block| !self.disputed.contains_key(block)).collect();
        let settled = |block: &Block| self.shown.get(block).is_some_and(|shown| self.is_settled(block, shown, epoch));
        let mut orders: Vec<Output> = own
            .iter()
            .filter(|block| !is_open(block) && !self.ordered.contains(block) && Some(**block) != busy)
            .filter(|block| settled(block))
            .filter_map(|block| {
                let pool = pool_of(*block).filter(|pool| !pool.disabled)?.name.clone();
                Some(Output::Open { block: *block, pool, fresh: self.is_fresh(*block, local) })
            })
            .collect();
        let orphans = |block: &Block| config.is_some() && pool_of(*block).is_none_or(|pool| pool.disabled);
        let old = |block: &Block| {
            !self.ahead.contains_key(block) && self.shown.get(block).is_some_and(|shown| shown.epoch != epoch)
        };
        let foreign = local.values().filter(|has| has.state == BlockState::Open && !self.ordered.contains(&has.block));
        let foreign = foreign.filter(|has| !own.contains(&has.block) || orphans(&has.block) || old(&has.block));
        orders.extend(foreign.filter_map(close));
        self.ordered.extend(orders.iter().filter_map(Output::block));
        self.opened
            .extend(orders.iter().filter(|order| matches!(order, Output::Open { .. })).filter_map(Output::block));
        orders
    }

    /// Whether a block that is closed may be opened as its record is: this run wrote it, in this epoch, and no deletion of
    /// ours that may still come is for this revision.
    fn is_settled(&self, block: &Block, shown: &Shown, epoch: i64) -> bool {
        if !stands(Guard::NonceBeforeReopen) {
            return true;
        }
        let doubtful = self.doubtful.get(block).is_some_and(|revision| shown.modified <= *revision);
        shown.ours && shown.epoch == epoch && !doubtful
    }

    /// Whether nobody can have used an address of a block of ours that is not open.
    fn is_fresh(&self, block: Block, local: &BTreeMap<Block, BlockUse>) -> bool {
        let claimed = self.shown.get(&block).is_some_and(|shown| shown.ours) || self.ahead.contains_key(&block);
        let new = !self.opened.contains(&block) && !self.renewed.contains(&block);
        claimed && new && !local.contains_key(&block)
    }

    /// Closes all blocks.
    pub(super) fn close_all(&mut self) -> Vec<Output> {
        let local = self.local.iter().flat_map(BTreeMap::values);
        let open = local.filter(|has| has.state == BlockState::Open && !self.ordered.contains(&has.block));
        let orders: Vec<Output> = open.filter_map(close).collect();
        self.ordered.extend(orders.iter().filter_map(Output::block));
        orders
    }

    /// What is wrong with the blocks.
    pub(super) fn problems(&self, view: &View) -> Vec<Problem> {
        let used = |has: &&BlockUse| has.assigned > 0 || has.state == BlockState::Open;
        let own: BTreeSet<Block> = self.own().collect();
        let local = self.local.iter().flat_map(BTreeMap::values);
        let lost = local.filter(used).filter(|has| !own.contains(&has.block));
        let lost = lost.map(|has| Problem::BlockLost { block: has.block, owner: owner(has.block, view).cloned() });
        let in_a_pool = |block: &Block| match &view.config {
            None => true,
            Some(config) => pool_of(&config.value, *block).is_some(),
        };
        let orphans = own.iter().filter(|block| !in_a_pool(block));
        let disputed = self.disputed.iter();
        let disputed = disputed.map(|(block, by)| Problem::BlockDisputed { block: *block, by: by.clone() });
        let orphans = orphans.map(|block| Problem::BlockOutsidePools { block: *block });
        lost.chain(orphans).chain(disputed).collect()
    }

    fn own(&self) -> impl Iterator<Item = Block> + '_ {
        let ahead = self.ahead.keys().filter(|block| !self.shown.contains_key(block));
        self.shown.keys().chain(ahead).filter(|block| !self.gone.contains_key(block)).copied()
    }

    fn local_use(&self, block: Block) -> Option<&BlockUse> {
        self.local.as_ref().and_then(|local| local.get(&block))
    }

    fn free_in(&self, block: Block) -> u64 {
        match self.local_use(block) {
            None => block.size(),
            Some(has) => has.free(),
        }
    }
}

/// Whether the whole block lies in the pool.
pub(super) fn holds(pool: &Pool, block: Block) -> bool {
    Block::new(pool.cidr).is_some_and(|pool| pool.covers(block))
}

/// The pool that a block lies in.
pub(super) fn pool_of(config: &ClusterConf, block: Block) -> Option<&Pool> {
    config.pools.iter().find(|pool| holds(pool, block))
}

/// Who has a block, or one that overlaps it.
fn owner(block: Block, view: &View) -> Option<&NodeName> {
    let at = |block: &Block| view.blocks.get(block);
    let record = at(&block).or_else(|| view.overlapping(block).map(|(_, record)| record));
    record.map(|record| &record.value.node)
}

/// Whether nobody has an address of it, and none cools.
fn is_empty(has: &BlockUse) -> bool {
    let cooling = if stands(Guard::CoolingCountsAsUse) { has.cooling } else { 0 };
    has.assigned == 0 && cooling == 0 && has.tunnel.is_none()
}

fn close(has: &BlockUse) -> Option<Output> {
    let pool: PoolName = has.pool.clone()?;
    Some(Output::Close { block: has.block, pool })
}
