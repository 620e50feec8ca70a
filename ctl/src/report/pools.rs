//! Pools with their use.

use std::collections::BTreeSet;

use ipnetwork::IpNetwork;
use serde::Serialize;
use twill_cluster::View;
use twill_conf::PoolName;
use twill_conf::cluster::Pool;
use twill_ipam::Block;

use super::problems::Problem;

/// A pool and how much of it nodes own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct PoolUse {
    pub(crate) name: PoolName,
    pub(crate) cidr: IpNetwork,
    /// The prefix length of a block.
    pub(crate) block: u8,
    pub(crate) masquerade: bool,
    /// Blocks that nodes own.
    pub(crate) used: u64,
    /// All blocks; the greatest number of 64 bits where there are more.
    pub(crate) total: u64,
    /// Nodes that own one.
    pub(crate) nodes: usize,
}

impl PoolUse {
    /// All pools of the configuration, in its order.
    pub(crate) fn all(view: &View) -> Vec<Self> {
        let pools = view.config.iter().flat_map(|config| &config.value.pools);
        pools.map(|pool| Self::new(view, pool)).collect()
    }

    fn new(view: &View, pool: &Pool) -> Self {
        let own = || view.blocks.iter().filter(|(block, _)| lies_in(**block, pool));
        let nodes: BTreeSet<_> = own().map(|(_, record)| &record.value.node).collect();
        Self {
            name: pool.name.clone(),
            cidr: pool.cidr,
            block: pool.block,
            masquerade: pool.masquerade,
            used: own().count() as u64,
            total: pool.block_count(),
            nodes: nodes.len(),
        }
    }

    /// A pool of which every block has an owner.
    pub(crate) fn problem(&self) -> Option<Problem> {
        let what = format!("all of its blocks ({}) have owners: no node can claim another one", self.total);
        let fix = "add a pool of this family to the configuration, or delete nodes that are gone";
        (self.used >= self.total).then(|| Problem::new(format!("pool {}", self.name), what, fix))
    }
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

fn lies_in(block: Block, pool: &Pool) -> bool {
    pool.cidr.prefix() <= block.cidr().prefix() && pool.cidr.contains(block.first())
}
