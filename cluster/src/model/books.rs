//! A machine's node store as a map, by the rules of `ipam`: what is free, what cools, what may be closed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use twill_conf::PoolName;
use twill_ipam::address::{COOLING, is_cool};
use twill_ipam::store::{BlockState, BlockUse, Origin};
use twill_ipam::{Block, BootTime};

use serde_json::json;
use twill_ipam::guard::{Guard, stands};

use crate::record::{Content, Holder, Use};

/// All that it holds.
#[derive(Debug, Clone, Default)]
pub(super) struct Books {
    blocks: BTreeMap<Block, (PoolName, BlockState)>,
    /// Addresses of pods.
    pub(super) given: BTreeMap<IpAddr, u64>,
    /// Addresses that were given back, and when.
    cooling: BTreeMap<IpAddr, BootTime>,
    tunnel: Option<IpAddr>,
    /// The word of the drain for which no pod gets an address.
    pub(super) drain: Option<String>,
}

impl Books {
    /// Opens or closes a block.
    pub(super) fn put(&mut self, block: Block, pool: PoolName, state: BlockState) {
        let others = self.blocks.keys().any(|there| *there != block && there.overlaps(block));
        if !others {
            self.blocks.insert(block, (pool, state));
        }
    }

    /// As `Store::close_empty_block`.
    pub(super) fn close_empty(&mut self, block: Block, now: BootTime) {
        let Some(has) = self.uses(now).into_iter().find(|has| has.block == block) else { return };
        let cooling = if stands(Guard::CoolingCountsAsUse) { has.cooling } else { 0 };
        if has.assigned == 0 && cooling == 0 && has.tunnel.is_none() {
            self.blocks.insert(block, (has.pool.expect("it has one"), BlockState::Closing));
        }
    }

    /// Forgets a block that nobody has an address of.
    pub(super) fn forget(&mut self, block: Block, now: BootTime) {
        if self.tunnel.is_some_and(|ip| block.contains(ip)) {
            self.cooling.extend(self.tunnel.take().map(|ip| (ip, now)));
        }
        if self.uses(now).iter().any(|has| has.block == block && has.assigned + has.cooling == 0) {
            self.blocks.remove(&block);
        }
    }

    /// All blocks with their use.
    pub(super) fn uses(&self, now: BootTime) -> Vec<BlockUse> {
        let count = |block: Block, ips: Vec<&IpAddr>| ips.into_iter().filter(|ip| block.contains(**ip)).count() as u64;
        let hot = |since: &BootTime| !is_cool(*since, now, COOLING);
        let uses = self.blocks.iter().map(|(block, (pool, state))| BlockUse {
            block: *block,
            pool: Some(pool.clone()),
            state: *state,
            origin: Origin::Cluster,
            tunnel: self.tunnel.filter(|ip| block.contains(*ip)),
            total: block.size(),
            assigned: count(*block, self.given.keys().collect()),
            reserved: 0,
            cooling: count(*block, self.cooling.iter().filter(|(_, since)| hot(since)).map(|(ip, _)| ip).collect()),
        });
        uses.collect()
    }

    /// The tunnel's address is taken where there is none.
    pub(super) fn take_tunnel(&mut self, now: BootTime) {
        if self.tunnel.is_none() {
            self.tunnel = self.free(now);
        }
    }

    /// An address for a container.
    pub(super) fn reserve(&mut self, container: u64, now: BootTime) -> Option<IpAddr> {
        let ip = self.free(now).filter(|_| self.drain.is_none())?;
        self.cooling.remove(&ip);
        self.given.insert(ip, container);
        Some(ip)
    }

    /// A container gives its address back.
    pub(super) fn release(&mut self, ip: IpAddr, now: BootTime) {
        if self.given.remove(&ip).is_some() {
            self.cooling.insert(ip, now);
        }
    }

    fn free(&self, now: BootTime) -> Option<IpAddr> {
        let open = self.blocks.iter().filter(|(_, (_, state))| *state == BlockState::Open).map(|(block, _)| block);
        let cool = |ip: &IpAddr| self.cooling.get(ip).is_none_or(|since| now.since(*since) >= Duration::from_secs(30));
        let mut all = open.flat_map(|block| (0..block.size()).filter_map(|n| block.nth(n.into())));
        all.find(|ip| !self.given.contains_key(ip) && cool(ip) && self.tunnel != Some(*ip))
    }

    /// What the mirror is to say of each block.
    pub(super) fn contents(&self, now: BootTime) -> BTreeMap<Block, Content> {
        let is_hot = |since: &BootTime| !is_cool(*since, now, COOLING);
        let holder = |state: Use, since: BootTime, until: Option<u64>| Holder {
            until,
            ..serde_json::from_value(json!({ "state": state.word(), "since": since.0.as_secs() })).expect("a holder")
        };
        let given = self.given.keys().map(|ip| (*ip, holder(Use::Attached, BootTime::default(), None)));
        let cooling = self.cooling.iter().filter(|(_, since)| is_hot(since));
        let cooling =
            cooling.map(|(ip, since)| (*ip, holder(Use::Cooling, *since, Some((since.0 + COOLING).as_secs()))));
        let tunnel = self.tunnel.map(|ip| (ip, holder(Use::Tunnel, BootTime::default(), None)));
        let all: Vec<(IpAddr, Holder)> = given.chain(cooling).chain(tunnel).collect();
        let content = |block: &Block| {
            let addresses = all.iter().filter(|(ip, _)| block.contains(*ip)).cloned().collect();
            Content { addresses, drain: self.drain.clone(), ..Content::default() }
        };
        self.blocks.keys().map(|block| (*block, content(block))).collect()
    }

    /// The open blocks.
    pub(super) fn open(&self) -> impl Iterator<Item = Block> + '_ {
        self.blocks.iter().filter(|(_, (_, state))| *state == BlockState::Open).map(|(block, _)| *block)
    }

    /// All blocks.
    pub(super) fn blocks(&self) -> Vec<Block> {
        self.blocks.keys().copied().collect()
    }
}
