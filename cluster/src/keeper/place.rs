//! Where in a pool a claim goes.
//!
//! Nodes that claim at once know nothing of each other; what keeps them apart is that each takes the free block that its
//! name's hash points at. With `f` free blocks and `n` nodes about n²/2f of them meet, and try again.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use twill_conf::cluster::Pool;
use twill_conf::digest::digest;
use twill_ipam::block::Partition;
use twill_ipam::pool::reserved_places;
use twill_ipam::{Block, Family};

use crate::View;
use crate::key::shortest_pool;

/// A pool's places for blocks, and which of them are taken: runs of places, first and last, ascending, apart from each
/// other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Occupancy {
    places: Partition,
    taken: Vec<(u128, u128)>,
}

impl Occupancy {
    /// What the view says of a pool. `avoid` counts as taken too. `None` where the pool cannot be cut into blocks.
    pub(super) fn of(pool: &Pool, view: &View, avoid: &BTreeSet<Block>) -> Option<Self> {
        let places = Partition::new(pool.cidr, pool.block)?;
        let whole = Block::new(pool.cidr)?;
        // Blocks that are wider than any pool may be are not compared by claims, and so keep nobody from a place.
        let is_compared = |block: &Block| block.cidr().prefix() >= shortest_pool(block.family());
        let blocks = view.blocks.keys().chain(avoid).filter(|block| block.overlaps(whole) && is_compared(block));
        let owned = blocks.map(|block| {
            // Of two blocks that overlap, one covers the other.
            let part = if block.covers(whole) { whole } else { *block };
            let place = |ip| places.index_of(cut(ip, pool.block)).expect("an address of the pool lies in a place");
            (place(part.first()), place(part.last()))
        });
        // A block of which nothing may be given is no use to anybody.
        let mut runs: Vec<(u128, u128)> = owned.chain(reserved_places(places, &pool.reserved)).collect();
        runs.sort_unstable();
        let mut taken: Vec<(u128, u128)> = Vec::new();
        for (from, to) in runs {
            match taken.last_mut() {
                Some(last) if from <= last.1.saturating_add(1) => last.1 = last.1.max(to),
                _ => taken.push((from, to)),
            }
        }
        Some(Self { places, taken })
    }

    /// How many places are free.
    pub(super) fn free(&self) -> u128 {
        self.taken.iter().fold(self.places.count(), |free, (from, to)| free.saturating_sub(to - from + 1))
    }

    /// The free block that the words point at; `None` if there is none.
    pub(super) fn choose(&self, words: &[&str]) -> Option<Block> {
        let hash = digest(words);
        let (half, _) = hash.split_first_chunk::<16>().expect("a digest has 32 bytes");
        let mut place = u128::from_be_bytes(*half).checked_rem(self.free())?;
        for (from, to) in &self.taken {
            if place < *from {
                break;
            }
            place += to - from + 1;
        }
        self.places.nth(place)
    }
}

/// The block of a length that an address lies in.
pub(super) fn cut(ip: IpAddr, length: u8) -> Block {
    let length = length.min(Family::of(ip).bits());
    let around = IpNetwork::new(ip, length).expect("no prefix is longer than its address");
    let network = IpNetwork::new(around.network(), length).expect("no prefix is longer than its address");
    Block::new(network).expect("a network address has no host bits")
}
