//! Which records of blocks are believed, where several overlap.
//!
//! Prefixes are nested or apart, so a record that comes, changes or goes can matter only to what lies in the outermost block that
//! covers it: those are judged anew, and in a cluster in order that is the one block.

use std::collections::{BTreeMap, BTreeSet};

use twill_conf::NodeName;
use twill_ipam::Block;

use super::ranges::Ranges;

/// Somebody's record of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    /// Whose.
    pub(super) owner: NodeName,
    /// The revision at which it was made.
    pub(super) created: i64,
    /// It is this node's, and right whatever the others say.
    pub(super) own: bool,
}

/// The records that can be right, each with the owner of an older one that it overlaps, where there is such.
#[derive(Debug, Default)]
pub(super) struct Claims {
    claims: BTreeMap<Block, (Claim, Option<NodeName>)>,
    /// How many there are of each prefix length; both families together, since a length too many costs a look-up.
    lengths: BTreeMap<u8, usize>,
}

impl Claims {
    /// Notes what is claimed of a block; nothing is judged before [`Self::settle`].
    pub(super) fn set(&mut self, block: Block, claim: Option<Claim>) {
        let length = block.cidr().prefix();
        let stood = match claim {
            Some(claim) => {
                *self.lengths.entry(length).or_default() += 1;
                self.claims.insert(block, (claim, None))
            }
            None => self.claims.remove(&block),
        };
        if stood.is_some()
            && let Some(number) = self.lengths.get_mut(&length)
        {
            *number -= 1;
            if *number == 0 {
                self.lengths.remove(&length);
            }
        }
    }

    /// Judges all that `changed` blocks may matter to. The owners of those that are judged otherwise than before.
    pub(super) fn settle(&mut self, changed: &BTreeSet<Block>) -> BTreeSet<NodeName> {
        let places: BTreeSet<Block> = changed.iter().map(|block| self.outermost(*block)).collect();
        places.into_iter().flat_map(|place| self.judge(place)).collect()
    }

    /// Whether a block is believed; else, whose older one it overlaps.
    pub(super) fn verdict(&self, block: Block) -> Result<(), &NodeName> {
        self.claims.get(&block).and_then(|(_, older)| older.as_ref()).map_or(Ok(()), Err)
    }

    /// The largest block that covers this one and is claimed, or itself.
    fn outermost(&self, block: Block) -> Block {
        let longer = self.lengths.range(..block.cidr().prefix()).map(|(length, _)| *length);
        longer.filter_map(|length| block.around(length)).find(|block| self.claims.contains_key(block)).unwrap_or(block)
    }

    /// Of two that overlap the older is right: etcd refuses the younger's claim, so that one was written by other means.
    fn judge(&mut self, place: Block) -> Vec<NodeName> {
        let inside = self.claims.range(place..).take_while(|(block, _)| place.covers(**block));
        let mut claims: Vec<_> = inside.map(|(block, (claim, older))| (*block, claim, older)).collect();
        claims.sort_by_key(|(block, claim, _)| (!claim.own, claim.created, *block));
        let mut held = Ranges::default();
        let mut turned = Vec::new();
        for (block, claim, before) in claims {
            // That one of ours overlaps another of ours is no matter: both are ours.
            let older = held.insert(block.cidr(), &claim.owner).err().filter(|_| !claim.own);
            if older != before.as_ref() {
                turned.push((block, older.cloned()));
            }
        }
        let turn = |(block, older)| {
            let (claim, verdict) = self.claims.get_mut(&block)?;
            *verdict = older;
            Some(claim.owner.clone())
        };
        turned.into_iter().filter_map(turn).collect()
    }
}
