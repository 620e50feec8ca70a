//! Why the keeper claims no block for an ADD that waits for one: what waiting does not mend, in words to act on.

use std::collections::BTreeMap;
use std::fmt;

use ipnetwork::IpNetwork;
use twill_conf::cluster::{Given, Pool};
use twill_conf::{NodeName, PoolName};
use twill_ipam::Block;

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Every pool is disabled or for other nodes.
    NoPool {
        /// This node's labels.
        labels: BTreeMap<String, String>,
        /// The pools, each with the reason.
        pools: Vec<(PoolName, Reason)>,
    },
    /// The configuration has none of the pools that are wanted.
    Unknown {
        /// Those.
        wanted: Vec<PoolName>,
        /// Those that there are.
        known: Vec<PoolName>,
    },
    /// All pools that are wanted are disabled.
    Disabled(Vec<PoolName>),
    /// Each block of these pools has an owner, or is reserved.
    Exhausted(Vec<Full>),
    /// The address that is wanted lies in no pool.
    InNoPool(Vec<IpNetwork>),
    /// It lies in a pool that is not among those that the network configuration names.
    NotNamed(PoolName),
    /// It lies in a pool that is for other nodes.
    OtherNodes {
        /// The pool, with its selector.
        pool: (PoolName, Reason),
        /// This node's labels.
        labels: BTreeMap<String, String>,
    },
    /// It lies in a pool that is disabled.
    InDisabled(PoolName),
    /// It is reserved in its pool.
    Reserved(PoolName),
    /// It lies in a block that another node has.
    Owned {
        /// The block.
        block: Block,
        /// That node.
        owner: NodeName,
    },
}

/// Why a pool gives nothing to every pod of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It is disabled.
    Disabled,
    /// It is for nodes with such labels.
    Selector(String),
}

/// A pool without a free block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Full {
    /// Its name.
    pub pool: PoolName,
    /// Its range.
    pub cidr: IpNetwork,
    /// The prefix length of its blocks.
    pub block: u8,
}

impl Reason {
    /// Why `pool` does not give to every pod; `None` where it does.
    pub(super) fn of(pool: &Pool, labels: &BTreeMap<String, String>) -> Option<Self> {
        match pool.given(labels) {
            Given::Default => None,
            Given::Nobody => Some(Self::Disabled),
            Given::Named => Some(Self::Selector(pool.nodes.as_ref().map(ToString::to_string).unwrap_or_default())),
        }
    }
}

impl Full {
    pub(super) fn new(pool: &Pool) -> Self {
        Self { pool: pool.name.clone(), cidr: pool.cidr, block: pool.block }
    }
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pool, cidr, block } = self;
        write!(
            f,
            "pool {pool} ({cidr}) is exhausted: each of its /{block} blocks has an owner; add a pool of this family to \
             the cluster configuration, or delete nodes that are gone"
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled => f.write_str("is disabled"),
            Self::Selector(selector) => write!(f, "is for nodes with {selector}"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPool { labels, pools } => {
                let pools: Vec<_> = pools.iter().map(|(name, reason)| format!("pool {name} {reason}")).collect();
                write!(
                    f,
                    "no pool of the cluster configuration is for this node, which has {}: {}; change \"nodes\" or \"disabled\" \
                     of a pool, or the labels of the node",
                    Labels(labels),
                    pools.join(", ")
                )
            }
            Self::Unknown { wanted, known } => write!(
                f,
                "the cluster configuration has no pool {}; it has {}: correct \"pools\" of the network configuration",
                names(wanted, "or"),
                names(known, "and")
            ),
            Self::Disabled(pools) => write!(
                f,
                "of what the network configuration names in \"pools\" ({}) all is disabled: name another pool",
                names(pools, "and")
            ),
            Self::InDisabled(pool) => write!(f, "it is in the pool {pool}, which is disabled"),
            Self::Exhausted(pools) => {
                let pools: Vec<_> = pools.iter().map(ToString::to_string).collect();
                f.write_str(&pools.join("; "))
            }
            Self::InNoPool(ranges) => {
                let ranges: Vec<_> = ranges.iter().map(ToString::to_string).collect();
                write!(f, "it is in no pool of the cluster, which has {}", ranges.join(", "))
            }
            Self::NotNamed(pool) => write!(f, "it is of the pool {pool}, which the configuration does not name"),
            Self::OtherNodes { pool: (pool, reason), labels } => write!(
                f,
                "it is of the pool {pool}, which {reason}, and this node has {}; name the pool in \"pools\" of the network \
                 configuration if it is wanted all the same",
                Labels(labels)
            ),
            Self::Reserved(pool) => write!(f, "it is reserved in the pool {pool}"),
            Self::Owned { block, owner } => write!(f, "it is in the block {block}, which is {owner}'s"),
        }
    }
}

fn names(pools: &[PoolName], word: &str) -> String {
    match pools {
        [] => "none".to_owned(),
        [one] => one.to_string(),
        [first @ .., last] => {
            format!("{} {word} {last}", first.iter().map(PoolName::as_str).collect::<Vec<_>>().join(", "))
        }
    }
}

/// Labels in words.
struct Labels<'a>(&'a BTreeMap<String, String>);

impl fmt::Display for Labels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no labels");
        }
        let labels: Vec<_> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        write!(f, "the labels {}", labels.join(", "))
    }
}
