//! Which blocks are this node's, by etcd, and what the node store makes of them.

use std::collections::{BTreeMap, BTreeSet};

use twill_conf::cluster::{ClusterConf, Pool};
use twill_conf::{NodeName, PoolName};
use twill_ipam::Block;
use twill_ipam::store::{BlockState, BlockUse, Origin};

use super::{Identity, Output, Problem};
use crate::View;

/// What is known of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Holdings {
    /// Ours by the last view.
    shown: BTreeSet<Block>,
    /// Ours by the answer to a claim, at a revision that no view has reached yet.
    ahead: BTreeMap<Block, i64>,
    /// Of those in `shown`, the ones that this run has claimed.
    claimed: BTreeSet<Block>,
    /// What this run has ordered to be opened, whatever became of that.
    opened: BTreeSet<Block>,
    /// The node store's blocks that come from the cluster; `None` before the first look.
    local: Option<BTreeMap<Block, BlockUse>>,
    /// What was ordered since that look.
    ordered: BTreeSet<Block>,
}

impl Holdings {
    /// Takes a view.
    pub(super) fn see(&mut self, view: &View, me: &Identity) {
        let ours = view.blocks.iter().filter(|(_, record)| {
            // The machine is compared too: a second machine with this name has no right to these blocks.
            record.value.node == me.node && record.value.machine_id == me.machine_id
        });
        self.claimed =
            ours.clone().filter(|(_, record)| me.wrote(&record.value.nonce)).map(|(block, _)| *block).collect();
        self.shown = ours.map(|(block, _)| *block).collect();
        self.ahead.retain(|_, revision| *revision > view.revision);
        self.repeat();
    }

    /// Orders are given again where they are not carried out: the node store may have failed.
    pub(super) fn repeat(&mut self) {
        self.ordered.clear();
    }

    /// Takes a look at the node store.
    pub(super) fn look(&mut self, blocks: Vec<BlockUse>) {
        let cluster = blocks.into_iter().filter(|block| block.origin == Origin::Cluster);
        self.local = Some(cluster.map(|block| (block.block, block)).collect());
        self.ordered.clear();
    }

    /// A claim was done at `revision`.
    pub(super) fn claimed(&mut self, block: Block, revision: i64, view: &View) {
        if revision > view.revision {
            self.ahead.insert(block, revision);
        }
    }

    /// Whether there was a look at the node store.
    pub(super) fn is_known(&self) -> bool {
        self.local.is_some()
    }

    /// Free and cool addresses of all own blocks in `pool`. A block that is not opened yet counts as a whole: it will be.
    pub(super) fn free(&self, pool: &Pool) -> u64 {
        let blocks = self.own().filter(|block| holds(pool, *block));
        blocks.map(|block| self.free_in(block)).fold(0, u64::saturating_add)
    }

    /// What the node store must be told so that it has open exactly what is ours.
    pub(super) fn orders(&mut self, config: Option<&ClusterConf>) -> Vec<Output> {
        let Some(local) = &self.local else { return Vec::new() };
        let is_open = |block: &Block| local.get(block).is_some_and(|has| has.state == BlockState::Open);
        let pool_of = |block: Block| config.and_then(|config| config.pools.iter().find(|pool| holds(pool, block)));
        let own: BTreeSet<Block> = self.own().collect();
        let mut orders: Vec<Output> = own
            .iter()
            .filter(|block| !is_open(block) && !self.ordered.contains(block))
            .filter_map(|block| {
                let pool = pool_of(*block)?.name.clone();
                Some(Output::Open { block: *block, pool, fresh: self.is_fresh(*block, local) })
            })
            .collect();
        let orphans = |block: &Block| config.is_some() && pool_of(*block).is_none();
        let foreign = local.values().filter(|has| has.state == BlockState::Open && !self.ordered.contains(&has.block));
        orders.extend(foreign.filter(|has| !own.contains(&has.block) || orphans(&has.block)).filter_map(close));
        self.ordered.extend(orders.iter().filter_map(Output::block));
        self.opened
            .extend(orders.iter().filter(|order| matches!(order, Output::Open { .. })).filter_map(Output::block));
        orders
    }

    /// Whether nobody can have used an address of a block of ours that is not open.
    fn is_fresh(&self, block: Block, local: &BTreeMap<Block, BlockUse>) -> bool {
        let claimed = self.claimed.contains(&block) || self.ahead.contains_key(&block);
        claimed && !self.opened.contains(&block) && !local.contains_key(&block)
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
        let owner =
            |block: Block| -> Option<NodeName> { view.blocks.get(&block).map(|record| record.value.node.clone()) };
        let used = |has: &&BlockUse| has.assigned > 0 || has.state == BlockState::Open;
        let own: BTreeSet<Block> = self.own().collect();
        let local = self.local.iter().flat_map(BTreeMap::values);
        let lost = local.filter(used).filter(|has| !own.contains(&has.block));
        let lost = lost.map(|has| Problem::BlockLost { block: has.block, owner: owner(has.block) });
        let in_a_pool = |block: &Block| match &view.config {
            None => true,
            Some(config) => config.value.pools.iter().any(|pool| holds(pool, *block)),
        };
        let orphans = own.iter().filter(|block| !in_a_pool(block));
        lost.chain(orphans.map(|block| Problem::BlockOutsidePools { block: *block })).collect()
    }

    fn own(&self) -> impl Iterator<Item = Block> + '_ {
        let ahead = self.ahead.keys().filter(|block| !self.shown.contains(block));
        self.shown.iter().chain(ahead).copied()
    }

    fn free_in(&self, block: Block) -> u64 {
        match self.local.as_ref().and_then(|local| local.get(&block)) {
            None => block.size(),
            Some(has) if has.state == BlockState::Open || self.ordered.contains(&block) => has
                .total
                .saturating_sub(has.assigned)
                .saturating_sub(has.cooling)
                .saturating_sub(u64::from(has.tunnel.is_some())),
            Some(_) => 0,
        }
    }
}

/// Whether the whole block lies in the pool.
pub(super) fn holds(pool: &Pool, block: Block) -> bool {
    Block::new(pool.cidr).is_some_and(|pool| pool.covers(block))
}

fn close(has: &BlockUse) -> Option<Output> {
    let pool: PoolName = has.pool.clone()?;
    Some(Output::Close { block: has.block, pool })
}
