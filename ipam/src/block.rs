//! Blocks: equal parts of a pool, each of which belongs to one node.
//!
//! Arithmetic only: what overlaps what, how many addresses there are and which is the n-th, how a pool is cut. Called by
//! the store, by the daemon when it chooses what to claim, and by `twillctl`. Nothing here overflows at the numeric ends
//! of a family, and every address of a block counts: there is no network address and no broadcast address to leave out,
//! since each pod has a host route of its own.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::IpNetwork;

use crate::Family;
use crate::address::Range;
use crate::family::number;

/// A range of addresses that one node owns, as a prefix without host bits.
///
/// Blocks of different pools, or of one pool whose block size was changed, may have different lengths; whether they
/// overlap is a question of ranges, never of equality.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block(IpNetwork);

impl Block {
    /// `None` where `cidr` has host bits.
    pub fn new(cidr: IpNetwork) -> Option<Self> {
        (cidr.ip() == cidr.network()).then_some(Self(cidr))
    }
    /// The range.
    pub fn cidr(&self) -> IpNetwork {
        self.0
    }
    /// The first address.
    pub fn first(&self) -> IpAddr {
        self.0.network()
    }
    /// The last address.
    pub fn last(&self) -> IpAddr {
        self.0.broadcast()
    }
    /// Its family.
    pub fn family(&self) -> Family {
        Family::of(self.first())
    }
    /// Whether `ip` lies in it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.contains(ip)
    }
    /// Whether all of `other` lies in it.
    pub fn covers(&self, other: Self) -> bool {
        self.0.prefix() <= other.0.prefix() && self.contains(other.first())
    }
    /// Whether one address lies in both. Two prefixes are nested or apart.
    pub fn overlaps(&self, other: Self) -> bool {
        self.covers(other) || other.covers(*self)
    }
    /// The block of a shorter length, or of its own, that it lies in; `None` for a longer one.
    pub fn around(&self, length: u8) -> Option<Self> {
        let prefix = IpNetwork::new(self.first(), length).ok().filter(|_| length <= self.0.prefix())?;
        Self::new(IpNetwork::new(prefix.network(), length).ok()?)
    }
    /// How many addresses it has; `u64::MAX` where there are more.
    pub fn size(&self) -> u64 {
        Range::from(*self).size()
    }
    /// The address at `index`, counted from 0; `None` beyond the last.
    pub fn nth(&self, index: u128) -> Option<IpAddr> {
        let at = number(self.first()).checked_add(index)?;
        (at <= number(self.last())).then(|| self.family().address(at))
    }
    /// The block of one address.
    pub fn host(ip: IpAddr) -> Self {
        Self(ip.into())
    }
}

/// The free and cool addresses below which a node claims another block, for blocks of `block_size` addresses: a quarter
/// of a block, at least 1 and at most 16.
pub fn low_mark(block_size: u64) -> u64 {
    (block_size / 4).clamp(1, 16)
}

/// A pool, cut into blocks of one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    pool: Block,
    length: u8,
}

impl Partition {
    /// Cuts `pool` into blocks with prefixes of `length` bits. `None` where `pool` has host bits, or where `length` is
    /// shorter than the pool's own or longer than an address.
    pub fn new(pool: IpNetwork, length: u8) -> Option<Self> {
        let pool = Block::new(pool)?;
        (pool.cidr().prefix() <= length && length <= pool.family().bits()).then_some(Self { pool, length })
    }
    /// What is cut.
    pub fn pool(&self) -> Block {
        self.pool
    }
    /// How many blocks; `u128::MAX` for the whole of IPv6 cut into single addresses, which are one more.
    pub fn count(&self) -> u128 {
        1_u128.checked_shl(u32::from(self.length - self.pool.cidr().prefix())).unwrap_or(u128::MAX)
    }
    /// The block at `index`, counted from 0; `None` beyond the last.
    pub fn nth(&self, index: u128) -> Option<Block> {
        if index >= self.count() {
            return None;
        }
        let host_bits = u32::from(self.pool.family().bits() - self.length);
        // A shift by 128 bits is that of a single block of all addresses, whose index is 0.
        let offset = index.checked_shl(host_bits).unwrap_or(0);
        let first = self.pool.family().address(number(self.pool.first()) + offset);
        IpNetwork::new(first, self.length).ok().map(Block)
    }
    /// The place of `block`, if it is one of these.
    pub fn index_of(&self, block: Block) -> Option<u128> {
        let ours = block.cidr().prefix() == self.length && self.pool.covers(block);
        let host_bits = u32::from(self.pool.family().bits() - self.length);
        ours.then(|| (number(block.first()) - number(self.pool.first())).checked_shr(host_bits).unwrap_or(0))
    }
    /// All blocks, in order of address. As many as [`count`](Self::count) says: take what is needed.
    pub fn iter(&self) -> impl Iterator<Item = Block> + use<> {
        let partition = *self;
        (0..partition.count()).map_while(move |index| partition.nth(index))
    }
}

/// The blocks of `length` bits in `pool`, in order of address; none where the pool cannot be cut so.
pub fn blocks_in(pool: IpNetwork, length: u8) -> impl Iterator<Item = Block> {
    Partition::new(pool, length).into_iter().flat_map(|partition| partition.iter())
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Text that is not a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a block: a prefix without host bits, as in 10.42.3.64/26")]
pub struct InvalidBlock(pub String);

impl FromStr for Block {
    type Err = InvalidBlock;
    fn from_str(text: &str) -> Result<Self, InvalidBlock> {
        let invalid = || InvalidBlock(text.to_owned());
        Self::new(text.parse().map_err(|_| invalid())?).ok_or_else(invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block(text: &str) -> Block {
        text.parse().unwrap()
    }

    #[test]
    fn blocks_of_different_lengths_overlap_where_one_is_inside_the_other() {
        assert!(block("10.0.0.0/24").overlaps(block("10.0.0.64/26")));
        assert!(block("10.0.0.64/26").overlaps(block("10.0.0.0/24")));
        assert!(!block("10.0.0.0/26").overlaps(block("10.0.0.64/26")));
        assert!(!block("0.0.0.0/0").overlaps(block("::/0")));
    }

    #[test]
    fn every_address_of_a_block_counts() {
        assert_eq!(block("10.0.0.0/32").size(), 1);
        assert_eq!(block("10.0.0.2/31").size(), 2);
        assert_eq!(block("fd00::/126").size(), 4);
        assert_eq!(block("fd00::/64").size(), u64::MAX);
        assert_eq!(block("0.0.0.0/0").size(), 1 << 32);
    }

    #[test]
    fn the_numeric_ends_do_not_overflow() {
        assert_eq!(block("255.255.255.252/30").nth(3), Some("255.255.255.255".parse().unwrap()));
        assert_eq!(block("255.255.255.252/30").nth(4), None);
        let top = block("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127");
        assert_eq!(top.nth(1), Some("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap()));
        assert_eq!(top.nth(2), None);
        assert_eq!(top.nth(u128::MAX), None);
        assert_eq!(blocks_in("255.255.255.0/24".parse().unwrap(), 26).last(), Some(block("255.255.255.192/26")));
        assert_eq!(blocks_in("::/0".parse().unwrap(), 0).collect::<Vec<_>>(), [block("::/0")]);
        assert_eq!(Partition::new("::/0".parse().unwrap(), 128).unwrap().count(), u128::MAX);
    }

    #[test]
    fn a_pool_is_not_cut_into_blocks_wider_than_itself_or_longer_than_an_address() {
        assert_eq!(blocks_in("10.0.0.0/24".parse().unwrap(), 23).count(), 0);
        assert_eq!(blocks_in("10.0.0.0/24".parse().unwrap(), 33).count(), 0);
        assert_eq!(blocks_in("10.0.0.0/24".parse().unwrap(), 24).count(), 1);
    }

    #[test]
    fn the_low_mark_is_a_quarter_of_a_block_within_1_and_16() {
        assert_eq!([1, 2, 4, 8, 63, 64, 256, u64::MAX].map(low_mark), [1, 1, 1, 2, 15, 16, 16, 16]);
    }

    proptest! {
        #[test]
        fn the_blocks_of_a_pool_cover_it_without_overlap(bits in any::<u128>(), v6: bool, prefix in 0_u8..=128, more in 0_u8..=6) {
            let family = if v6 { Family::V6 } else { Family::V4 };
            let prefix = prefix.min(family.bits());
            let length = (prefix + more).min(family.bits());
            let pool = IpNetwork::new(family.address(bits), prefix).unwrap();
            let pool = Block::new(IpNetwork::new(pool.network(), prefix).unwrap()).unwrap();
            let partition = Partition::new(pool.cidr(), length).unwrap();
            let blocks: Vec<_> = partition.iter().collect();
            prop_assert_eq!(blocks.len() as u128, partition.count());
            prop_assert_eq!(blocks[0].first(), pool.first());
            prop_assert_eq!(blocks[blocks.len() - 1].last(), pool.last());
            for (index, pair) in blocks.windows(2).enumerate() {
                prop_assert_eq!(number(pair[0].last()) + 1, number(pair[1].first()));
                prop_assert_eq!(partition.index_of(pair[1]), Some(index as u128 + 1));
            }
        }
    }
}
