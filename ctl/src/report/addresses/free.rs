//! Which of the addresses that nobody has a pod could be given. What is told of one address and what is counted of a block
//! go by the same rule.

use std::net::IpAddr;

use twill_conf::NodeName;
use twill_conf::cluster::Pool;
use twill_ipam::Block;
use twill_ipam::store::BlockState;

use super::Sources;
use crate::report::pools::{kept, lies_in};

impl Sources {
    /// What an address of a block is that nobody has: free, unless it cannot be given.
    pub(super) fn word_of_nobodys(&self, ip: IpAddr, block: Block, owner: Option<&NodeName>) -> &'static str {
        let is_kept = |pool: &Pool| pool.reserved.iter().any(|range| range.contains(ip));
        if self.pool(block).is_some_and(is_kept) {
            return "kept by its pool";
        }
        self.bar(block, owner).unwrap_or("free")
    }

    /// How many addresses of a block a pod could be given, where these are held, and so many more of which it is not known
    /// which ones they are.
    pub(super) fn free<'a>(
        &self,
        block: Block,
        owner: &NodeName,
        held: impl Iterator<Item = &'a IpAddr>,
        more: u64,
    ) -> u64 {
        if self.bar(block, Some(owner)).is_some() {
            return 0;
        }
        let reserved = self.pool(block).map_or(&[][..], |pool| &pool.reserved);
        let single = if block.cidr().is_ipv4() { 32 } else { 128 };
        let held = held.filter(|ip| !reserved.iter().any(|range| range.contains(**ip))).count() as u64;
        block.size().saturating_sub(kept(block.cidr(), single, reserved)).saturating_sub(held).saturating_sub(more)
    }

    /// Why nobody is given anything of a block. A pool that is not for the node bars nobody who names it.
    fn bar(&self, block: Block, owner: Option<&NodeName>) -> Option<&'static str> {
        let view = self.census.as_ref().map(|census| &census.view);
        let drained = view.zip(owner).and_then(|(view, owner)| view.nodes.get(owner)?.value.drain.as_ref());
        let own = self.store.as_ref().filter(|_| owner == self.me().as_ref());
        let drained = drained.is_some() || own.is_some_and(|own| own.node.as_ref().is_some_and(|n| n.drain.is_some()));
        let here = own.and_then(|own| own.blocks.iter().find(|has| has.block == block));
        // Without a configuration that can be read, nodes go by the last one that could.
        let knows_pools = view.is_some_and(|view| view.config.is_some());
        match self.pool(block) {
            None if knows_pools && here.is_none_or(|here| here.pool.is_some()) => Some("in no pool"),
            Some(pool) if pool.disabled => Some("pool disabled"),
            _ if drained => Some("node draining"),
            _ if here.is_some_and(|here| here.state == BlockState::Closing) => Some("block closing"),
            _ => None,
        }
    }

    /// The pool of a block, by the configuration.
    fn pool(&self, block: Block) -> Option<&Pool> {
        let config = self.census.as_ref()?.view.config.as_ref()?;
        config.value.pools.iter().find(|pool| lies_in(block, pool))
    }
}
