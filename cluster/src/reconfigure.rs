//! Whether a new configuration may follow the one in etcd, given the blocks that nodes own.
//!
//! A pool is known by its name. What is taken from it – by removing it, by moving or narrowing its range, by another
//! block length – must hold no block: the transaction says so once more, range by range. A claim compares the
//! configuration's revision, so one that is on its way is either seen by the transaction or refused after it. What is
//! added, and all else that changes, needs no more than that nobody wrote the configuration in between.
//!
//! [`plan`] is called by `twillctl config apply`; nothing here does I/O.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use twill_conf::cluster::{ClusterConf, Pool};
use twill_conf::{NodeName, PoolName};
use twill_ipam::Block;

use crate::View;
use crate::ability::Ability;
use crate::key::{self, CONFIG};
use crate::txn::{Compare, Op, Txn};
use crate::view::LONGEST_CONFIG;

/// etcd takes no more in one transaction (`--max-txn-ops`).
const MOST_COMPARES: usize = 128;

/// Why a configuration may not follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Pools would lose what nodes have blocks in.
    #[error("{}", .0.iter().map(Held::to_string).collect::<Vec<_>>().join("; "))]
    Held(Vec<Held>),
    /// There is no configuration that can be read, but there are blocks, and the new one would not know them.
    #[error("no pool of the new configuration has room for blocks that are there already: {}", list(.0))]
    Strays(Vec<Holding>),
    /// Machines have addresses in a range that is to be the pods'.
    #[error("pool {pool:?} ({cidr}) cannot have this range: node {node} has the underlay address {address} in it", pool = pool.as_str())]
    Underlay {
        /// The pool, as it would be.
        pool: PoolName,
        /// Its range.
        cidr: IpNetwork,
        /// The node.
        node: NodeName,
        /// The node's address.
        address: IpAddr,
    },
    /// Nodes would be asked for what they cannot.
    #[error("{}", unable(*asked, nodes))]
    Unable {
        /// What they would be asked for.
        asked: Ability,
        /// Those whose daemons have not said that they can, with the versions of their records. None: no version up to this one can.
        nodes: Vec<(NodeName, String)>,
    },
    /// No node would read it.
    #[error("it is {length} bytes long, and nodes read at most {LONGEST_CONFIG}: take out peers, rules or pools")]
    TooLong {
        /// As JSON, in bytes.
        length: usize,
    },
    /// More ranges are taken away than one transaction can look at.
    #[error("this takes away {0} ranges at once, and one transaction has room for {most}: change fewer pools at a time", most = MOST_COMPARES - 1)]
    TooMuch(usize),
}

/// A pool that would lose what nodes have blocks in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The pool, as it is now.
    pub pool: PoolName,
    /// What would happen to it.
    pub loss: Loss,
    /// The blocks that stand in the way, ordered by address.
    pub blocks: Vec<Holding>,
}

/// How a pool loses something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// It is no more.
    Removed,
    /// Its range becomes this, which does not contain the old one.
    Moved(IpNetwork),
    /// Its blocks are to have another length.
    Reblocked(u8),
}

/// What stands under `blocks/`, with its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// The block, or the key where that says none.
    pub what: String,
    /// Its owner; `None` where the record cannot be read.
    pub owner: Option<NodeName>,
}

/// The transaction that puts `new` in place of what `view` shows, or all that stands against it. `revision` is the mod_revision of
/// the configuration as it was read, whether or not it could be understood; 0 where there was none.
///
/// Where etcd refuses the transaction, either the configuration was written or a block was claimed since the view was
/// read: read again, and plan again.
pub fn plan(view: &View, revision: i64, new: &ClusterConf) -> Result<Txn, Vec<Refusal>> {
    let current = view.config.as_ref().map(|config| &config.value);
    let length = new.to_json().len();
    let mut refusals: Vec<_> = able(view, current, new, Ability::OF_THIS_VERSION).err().into_iter().collect();
    refusals.extend((length > LONGEST_CONFIG).then_some(Refusal::TooLong { length }));
    refusals.extend(underlay(view, current, new).err());
    let vacated = match current {
        Some(current) => vacated(view, current, new),
        None => {
            let strays = strays(view, new);
            if strays.is_empty() { Ok(Vec::new()) } else { Err(Refusal::Strays(strays)) }
        }
    };
    match vacated {
        Ok(vacated) if refusals.is_empty() => Ok(replace(revision, &vacated, new)),
        vacated => {
            refusals.extend(vacated.err());
            Err(refusals)
        }
    }
}

/// The ranges that `new` takes away. No block may be in them.
fn vacated(view: &View, current: &ClusterConf, new: &ClusterConf) -> Result<Vec<IpNetwork>, Refusal> {
    let mut vacated = Vec::new();
    let mut held = Vec::new();
    for pool in &current.pools {
        let Some((loss, ranges)) = loss(pool, new.pool(&pool.name)) else { continue };
        let blocks = holdings(view, &ranges);
        if !blocks.is_empty() {
            held.push(Held { pool: pool.name.clone(), loss, blocks });
        }
        vacated.extend(ranges);
    }
    if !held.is_empty() {
        return Err(Refusal::Held(held));
    }
    if vacated.len() >= MOST_COMPARES { Err(Refusal::TooMuch(vacated.len())) } else { Ok(vacated) }
}

/// Writes `new` if the configuration's mod_revision is `revision` (0: there is none) and no block is in `vacated`.
fn replace(revision: i64, vacated: &[IpNetwork], new: &ClusterConf) -> Txn {
    let key = CONFIG.to_owned();
    let unchanged = match revision {
        0 => Compare::Created { key: key.clone(), revision },
        _ => Compare::Modified { key: key.clone(), revision },
    };
    let empty = vacated.iter().map(|range| {
        let range = keys(*range);
        Compare::NoneIn { start: range.start, end: range.end }
    });
    Txn {
        when: [unchanged].into_iter().chain(empty).collect(),
        then: vec![Op::Put { key, value: new.to_json(), lease: None }],
    }
}

fn keys(range: IpNetwork) -> crate::store::Range {
    key::inside(Block::new(range).expect("pools, their halves and their siblings have no host bits"))
}

/// What a pool loses, and the ranges that must be empty for it.
fn loss(old: &Pool, new: Option<&Pool>) -> Option<(Loss, Vec<IpNetwork>)> {
    let Some(new) = new else { return Some((Loss::Removed, vec![old.cidr])) };
    if new.block != old.block {
        return Some((Loss::Reblocked(new.block), vec![old.cidr]));
    }
    let rest = without(old.cidr, new.cidr);
    (!rest.is_empty()).then_some((Loss::Moved(new.cidr), rest))
}

/// `old` without `new`, as prefixes.
fn without(old: IpNetwork, new: IpNetwork) -> Vec<IpNetwork> {
    if contains(new, old) {
        return Vec::new();
    }
    if !contains(old, new) {
        return vec![old];
    }
    (old.prefix() + 1..=new.prefix()).map(|length| sibling(new, length)).collect()
}

fn contains(outer: IpNetwork, inner: IpNetwork) -> bool {
    outer.prefix() <= inner.prefix() && outer.contains(inner.network())
}

/// The other half of the range twice as large as the one of `length` that holds `cidr`.
fn sibling(cidr: IpNetwork, length: u8) -> IpNetwork {
    let ip = match cidr.network() {
        IpAddr::V4(ip) => {
            let bit = 1u32 << (32 - length);
            std::net::Ipv4Addr::from((u32::from(ip) ^ bit) & !(bit - 1)).into()
        }
        IpAddr::V6(ip) => {
            let bit = 1u128 << (128 - length);
            std::net::Ipv6Addr::from((u128::from(ip) ^ bit) & !(bit - 1)).into()
        }
    };
    IpNetwork::new(ip, length).expect("the length is one of the family's")
}

/// What is in the way of emptying `ranges`: blocks that have an address there, and keys that can be no block's.
fn holdings(view: &View, ranges: &[IpNetwork]) -> Vec<Holding> {
    let touches = |block: IpNetwork| ranges.iter().any(|range| contains(*range, block) || contains(block, *range));
    let good = view.blocks.iter().filter(|(block, _)| touches(block.cidr()));
    let good = good.map(|(block, record)| (block.to_string(), Some(record.value.node.clone())));
    let ranges = ranges.iter().map(|range| keys(*range)).collect::<Vec<_>>();
    let within = |key: &String| ranges.iter().any(|range| range.start <= *key && *key < range.end);
    let bad = view.faults.keys().filter(|key| within(key)).map(|key| (key.clone(), None));
    good.chain(bad).map(|(what, owner)| Holding { what, owner }).collect()
}

/// Refuses a range, where it is new, in which a node has an underlay address. What stands already is left to the status.
fn underlay(view: &View, current: Option<&ClusterConf>, new: &ClusterConf) -> Result<(), Refusal> {
    let stood = |pool: &Pool| current.is_some_and(|current| current.pools.iter().any(|old| old.cidr == pool.cidr));
    for pool in new.pools.iter().filter(|pool| !stood(pool)) {
        for (name, record) in &view.nodes {
            if let Some(address) =
                record.value.underlay.address(pool.cidr.is_ipv6()).filter(|ip| pool.cidr.contains(*ip))
            {
                let (pool, cidr) = (pool.name.clone(), pool.cidr);
                return Err(Refusal::Underlay { pool, cidr, node: name.clone(), address });
            }
        }
    }
    Ok(())
}

/// Refuses what this version cannot, whose abilities are `ours`, and what some node cannot: its daemon would leave it out.
fn able(view: &View, current: Option<&ClusterConf>, new: &ClusterConf, ours: &[Ability]) -> Result<(), Refusal> {
    let Some(asked) = Ability::newly_asked(current, new) else { return Ok(()) };
    let unable = view.nodes.iter().filter(|(_, record)| !record.value.can(asked));
    match ours.contains(&asked) {
        false => Err(Refusal::Unable { asked, nodes: Vec::new() }),
        true => {
            let nodes: Vec<_> = unable.map(|(name, record)| (name.clone(), record.value.version.clone())).collect();
            if nodes.is_empty() { Ok(()) } else { Err(Refusal::Unable { asked, nodes }) }
        }
    }
}

/// Blocks that are not a whole block of any pool.
fn strays(view: &View, new: &ClusterConf) -> Vec<Holding> {
    let known = |block: IpNetwork| new.pools.iter().any(|p| p.block == block.prefix() && contains(p.cidr, block));
    let strays = view.blocks.iter().filter(|(block, _)| !known(block.cidr()));
    let holding = |(block, owner): (&Block, &NodeName)| Holding { what: block.to_string(), owner: Some(owner.clone()) };
    strays.map(|(block, record)| (block, &record.value.node)).map(holding).collect()
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pool = self.pool.as_str();
        match self.loss {
            Loss::Removed => write!(f, "pool {pool:?} cannot be removed")?,
            Loss::Moved(cidr) => write!(f, "the range of pool {pool:?} cannot become {cidr}")?,
            Loss::Reblocked(length) => write!(f, "the blocks of pool {pool:?} cannot become /{length}")?,
        }
        write!(f, " while nodes have blocks there: {}", list(&self.blocks))
    }
}

/// How many blocks of one owner, or nodes, are named one by one.
const NAMED: usize = 3;

fn unable(asked: Ability, nodes: &[(NodeName, String)]) -> String {
    if nodes.is_empty() {
        return format!("it asks twilld to {asked}, which no version up to {} can", env!("CARGO_PKG_VERSION"));
    }
    let name = |(name, version): &(NodeName, String)| match version.as_str() {
        "" => name.to_string(),
        version => format!("{name} ({version})"),
    };
    let named = nodes.iter().take(NAMED).map(name).collect::<Vec<_>>().join(", ");
    let more = nodes.len().checked_sub(NAMED).filter(|more| *more > 0).map(|more| format!(" and {more} more"));
    format!(
        "it asks twilld to {asked}, and that has not said that it can on {named}{}: update it there first",
        more.unwrap_or_default()
    )
}

/// Owners with their blocks, as in `node-1 has 10.42.0.0/26, 10.42.0.64/26 and 5 more`.
fn list(holdings: &[Holding]) -> String {
    let mut owners: BTreeMap<Option<&NodeName>, Vec<&str>> = BTreeMap::new();
    for holding in holdings {
        owners.entry(holding.owner.as_ref()).or_default().push(&holding.what);
    }
    let of = |(owner, blocks): (&Option<&NodeName>, &Vec<&str>)| {
        let owner = owner.map_or("an unreadable record", |name| name.as_str());
        let named = blocks[..blocks.len().min(NAMED)].join(", ");
        match blocks.len().checked_sub(NAMED) {
            None | Some(0) => format!("{owner} has {named}"),
            Some(more) => format!("{owner} has {named} and {more} more"),
        }
    };
    owners.iter().map(of).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
