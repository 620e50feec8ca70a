//! What no filter can allow: routes into one's own blocks, and into another node's by anyone but that node.
//!
//! It is one for all peers, since it says what is true of the cluster, and not what somebody wants of a peer. It changes with every block
//! that a node claims: [`Guard::differing`] tells `rib` which routes that can concern, so that the others are left alone.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::Invalid;
use crate::prefix::{PrefixMap, masked};

/// Which routes a forbidden prefix is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// To the prefix itself: a default route.
    Equal,
    /// To the prefix or inside of it: an own block. What covers it does no harm there, since the longer one wins.
    Within,
    /// Also to what covers it.
    Any,
}

/// Forbidden prefixes, and blocks with their owners.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guard {
    never: PrefixMap<Overlap>,
    owned: PrefixMap<Vec<IpAddr>>,
}

/// What a route breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    /// It concerns a prefix that is not to be learned.
    #[error("routes to {0} are not taken from anyone")]
    Never(IpNetwork),
    /// It is a part of a block, and comes from another than who has the block.
    #[error("block {0} is of a node that did not announce this part of it")]
    Foreign(IpNetwork),
}

impl Guard {
    /// A guard. `never` are prefixes of which no route is taken. `owned` are blocks of other nodes, each with the addresses of its
    /// node: a part of a block is taken only where its next hop, or the peer itself, is one of them. The block as a whole is taken
    /// from anyone, as routers between pass it on.
    ///
    /// # Errors
    /// [`Invalid::HostBits`], and [`Invalid::NoOwner`] for a block without addresses.
    pub fn new(
        never: impl IntoIterator<Item = (IpNetwork, Overlap)>,
        owned: impl IntoIterator<Item = (IpNetwork, Vec<IpAddr>)>,
    ) -> Result<Self, Invalid> {
        let mut guard = Self::default();
        for (prefix, overlap) in never {
            guard.never.insert(whole(prefix)?, overlap);
        }
        for (block, owners) in owned {
            if owners.is_empty() {
                return Err(Invalid::NoOwner { block });
            }
            guard.owned.insert(whole(block)?, owners);
        }
        Ok(guard)
    }

    /// Whether a route to this prefix breaks it, where these are its next hop and its peer.
    #[must_use]
    pub fn breach(&self, prefix: IpNetwork, from: [IpAddr; 2]) -> Option<Breach> {
        let mut covering = self.never.covering(prefix);
        if let Some((by, _)) = covering.find(|(by, overlap)| **overlap != Overlap::Equal || *by == masked(prefix)) {
            return Some(Breach::Never(by));
        }
        if let Some((by, _)) = self.never.inside(prefix).find(|(_, overlap)| **overlap == Overlap::Any) {
            return Some(Breach::Never(by));
        }
        let (block, owners) = self.owned.covering(prefix).find(|(block, _)| *block != masked(prefix))?;
        let by_owner = owners.iter().any(|owner| from.contains(owner));
        (!by_owner).then_some(Breach::Foreign(block))
    }

    /// The prefixes of which one says something else than the other: only routes that one of these covers, or that cover one, can fare
    /// differently.
    #[must_use]
    pub fn differing(&self, other: &Self) -> Vec<IpNetwork> {
        let mut prefixes = unequal(&self.never, &other.never);
        prefixes.extend(unequal(&self.owned, &other.owned));
        prefixes
    }
}

fn whole(prefix: IpNetwork) -> Result<IpNetwork, Invalid> {
    if prefix == masked(prefix) { Ok(prefix) } else { Err(Invalid::HostBits { prefix, right: masked(prefix) }) }
}

fn unequal<V: PartialEq>(one: &PrefixMap<V>, other: &PrefixMap<V>) -> Vec<IpNetwork> {
    let changed = one.iter().filter(|(prefix, value)| other.get(*prefix) != Some(value));
    let new = other.iter().filter(|(prefix, _)| one.get(*prefix).is_none());
    changed.chain(new).map(|(prefix, _)| prefix).collect()
}
