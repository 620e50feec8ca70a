//! Pools with their use.

use std::collections::BTreeSet;

use ipnetwork::IpNetwork;
use serde::Serialize;
use twill_cluster::{NodeRecord, View};
use twill_conf::PoolName;
use twill_conf::cluster::{Pool, Reserved, Selector};
use twill_ipam::Block;
use twill_ipam::block::Partition;
use twill_ipam::pool::reserved_places;

use super::problems::Problem;

/// A pool and how much of it nodes own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct PoolUse {
    pub(crate) name: PoolName,
    pub(crate) cidr: IpNetwork,
    /// The prefix length of a block.
    pub(crate) block: u8,
    pub(crate) masquerade: bool,
    /// The selector; absent where it is for all nodes.
    pub(crate) selector: Option<Selector>,
    /// How many of the nodes that there are it selects.
    pub(crate) selected: usize,
    pub(crate) disabled: bool,
    pub(crate) announce: bool,
    pub(crate) reserved: Vec<Reserved>,
    /// Blocks that nodes own.
    pub(crate) used: u64,
    /// All blocks but those that are reserved entirely; the greatest number of 64 bits where there are more.
    pub(crate) total: u64,
    /// Nodes that own one.
    pub(crate) nodes: usize,
}

impl PoolUse {
    /// All pools of the configuration, in its order.
    pub(crate) fn all(view: &View) -> Vec<Self> {
        view.config.as_ref().map_or_else(Vec::new, |config| Self::of(view, &config.value.pools))
    }

    /// Pools over the nodes and blocks of a view: those of its configuration, or of one that is to be.
    pub(crate) fn of(view: &View, pools: &[Pool]) -> Vec<Self> {
        pools.iter().map(|pool| Self::new(view, pool)).collect()
    }

    fn new(view: &View, pool: &Pool) -> Self {
        let own = || view.blocks.iter().filter(|(block, _)| lies_in(**block, pool));
        let nodes: BTreeSet<_> = own().map(|(_, record)| &record.value.node).collect();
        Self {
            name: pool.name.clone(),
            cidr: pool.cidr,
            block: pool.block,
            masquerade: pool.masquerade,
            selector: pool.nodes.clone(),
            selected: view.nodes.values().filter(|record| selects(pool, &record.value)).count(),
            disabled: pool.disabled,
            announce: pool.announce,
            reserved: pool.reserved.clone(),
            used: own().count() as u64,
            total: pool.block_count().saturating_sub(kept(pool.cidr, pool.block, &pool.reserved)),
            nodes: nodes.len(),
        }
    }

    /// A pool that is for nodes that there are not: worth a word, and no problem, since nodes come and go.
    pub(crate) fn note(&self) -> Option<Problem> {
        let selector = self.selector.as_ref().filter(|_| self.selected == 0 && !self.disabled)?;
        let what = format!("no node has labels with {selector}: only pods that name it are given anything of it");
        let fix = "if that is not meant, correct its \"nodes\", or the labels of the nodes in their twilld.toml";
        Some(Problem::new(format!("pool {}", self.name), what, fix))
    }

    /// A pool of which every block has an owner.
    pub(crate) fn problem(&self) -> Option<Problem> {
        if self.disabled || self.note().is_some() {
            return None;
        }
        let what = format!("all of its blocks ({}) have owners: no node can claim another one", self.total);
        let fix = "add a pool of this family to the configuration, or delete nodes that are gone";
        (self.used >= self.total).then(|| Problem::new(format!("pool {}", self.name), what, fix))
    }
}

fn selects(pool: &Pool, node: &NodeRecord) -> bool {
    pool.nodes.as_ref().is_none_or(|nodes| nodes.matches(&node.labels))
}

/// How many of the parts of this length that a range has are reserved entirely, so that nothing of them may be given
/// (saturating): blocks of a pool, or addresses of a block.
pub(crate) fn kept(range: IpNetwork, length: u8, reserved: &[Reserved]) -> u64 {
    let places = Partition::new(range, length).into_iter();
    let runs = places.flat_map(|places| reserved_places(places, reserved));
    runs.map(|(first, last)| u64::try_from(last - first + 1).unwrap_or(u64::MAX)).fold(0, u64::saturating_add)
}

/// The pool that a block is of.
pub(crate) fn pool_of(view: &View, block: Block) -> Option<&PoolName> {
    let pools = view.config.iter().flat_map(|config| &config.value.pools);
    pools.into_iter().find(|pool| lies_in(block, pool)).map(|pool| &pool.name)
}

/// The pool that an address lies in.
pub(crate) fn pool_at(view: &View, ip: std::net::IpAddr) -> Option<&PoolName> {
    let pools = view.config.iter().flat_map(|config| &config.value.pools);
    pools.into_iter().find(|pool| pool.cidr.contains(ip)).map(|pool| &pool.name)
}

/// Whether a block is one of this pool.
pub(crate) fn lies_in(block: Block, pool: &Pool) -> bool {
    pool.cidr.prefix() <= block.cidr().prefix() && pool.cidr.contains(block.first())
}
