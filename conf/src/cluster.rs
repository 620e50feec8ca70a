//! The cluster configuration: TOML for people, JSON in etcd, one type for both.
//!
//! People's TOML is read strictly: an unknown key is an error with its path. What comes from etcd is read leniently,
//! since a newer `twillctl` may have written it, but its values are validated by the same rules.

mod backend;
mod bgp;
#[cfg(feature = "schema")]
pub mod document;
mod firewall;
mod read;
mod reserved;
mod rules;
mod selector;

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::section::{Dialect, Section, parse_json, parse_toml};
use crate::{Error, PoolName};

pub use backend::{Backend, ChecksumOffload, Kind, Vxlan, vxlan_overhead};
pub use bgp::{
    Announcement, Asn, Bfd, Bgp, Changes, Community, Distance, Filter, GracefulRestart, InvalidAsn, InvalidCommunity,
    InvalidFilter, InvalidPrefixes, Link, NodeRule, Nodes, Peer, PeerAs, Prefixes, Reflectors, Rule, Then,
};
pub use firewall::FirewallConf;
pub use reserved::{InvalidReserved, Reserved};
pub use selector::{InvalidSelector, Selector};

/// What holds for all nodes.
///
/// Deserialising is what [`from_json`](Self::from_json) does: values are validated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "serde_json::Map<String, serde_json::Value>")]
pub struct ClusterConf {
    /// Where pod addresses come from. At most 64; none overlaps another.
    #[serde(rename = "pool")]
    pub pools: Vec<Pool>,
    /// How packets reach other nodes.
    pub backend: Backend,
    /// What of the firewall is chosen.
    #[serde(skip_serializing_if = "FirewallConf::is_default")]
    pub firewall: FirewallConf,
    /// The speaker of BGP, beside any back end. Absent: there is none. The back end `bgp` has one always.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bgp: Option<Bgp>,
}

/// A range of addresses, cut into blocks of one size, which nodes claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pool {
    /// Unique in the cluster.
    pub name: PoolName,
    /// The whole range, without host bits.
    pub cidr: IpNetwork,
    /// The prefix length of a block: 26 by default, 122 for IPv6.
    pub block: u8,
    /// Whether packets from this pool to the outside take the node's address. Default true.
    pub masquerade: bool,
    /// The nodes that it is for, by their labels. Absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Selector>,
    /// Nothing more is given of it: no block, and no address of the blocks that nodes have. Default false.
    #[serde(skip_serializing_if = "is_false")]
    pub disabled: bool,
    /// Whether its blocks are announced to BGP peers of other ASes. Default false. Inside of the nodes' AS all blocks are known.
    #[serde(skip_serializing_if = "is_false")]
    pub announce: bool,
    /// What is never given to pods. At most 16 ranges, each inside the pool; they leave something.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reserved: Vec<Reserved>,
}

/// To whom a pool gives addresses on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Given {
    /// To every pod.
    Default,
    /// To pods whose network configuration names the pool: it is not for this node.
    Named,
    /// To nobody: it is disabled.
    Nobody,
}

/// What is not written is so: a configuration that makes no use of a key is the same bytes as that of an older version.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

impl Pool {
    /// A pool for all nodes, masqueraded, of which nothing is reserved.
    pub fn new(name: PoolName, cidr: IpNetwork, block: u8) -> Self {
        Self {
            name,
            cidr,
            block,
            masquerade: true,
            nodes: None,
            disabled: false,
            announce: false,
            reserved: Vec::new(),
        }
    }

    /// "IPv4" or "IPv6".
    pub fn family(&self) -> &'static str {
        if self.cidr.is_ipv4() { "IPv4" } else { "IPv6" }
    }

    /// To whom it gives addresses on a node with these labels.
    pub fn given(&self, labels: &BTreeMap<String, String>) -> Given {
        let matches = self.nodes.as_ref().is_none_or(|nodes| nodes.matches(labels));
        match (self.disabled, matches) {
            (true, _) => Given::Nobody,
            (false, true) => Given::Default,
            (false, false) => Given::Named,
        }
    }

    /// How many blocks it has (saturating; an IPv6 pool may have 2^112).
    pub fn block_count(&self) -> u64 {
        1u64.checked_shl(u32::from(self.block.saturating_sub(self.cidr.prefix()))).unwrap_or(u64::MAX)
    }

    /// The block lengths that a pool of this range may have, the pool's own length among them: a block has at most
    /// 2^16 addresses.
    pub fn block_lengths(cidr: IpNetwork) -> std::ops::RangeInclusive<u8> {
        crate::prefix::block_lengths(cidr)
    }
}

impl ClusterConf {
    /// A commented file to begin with, in both families: what `twillctl config init` prints.
    pub const SAMPLE: &str = include_str!("../samples/cluster.toml");

    /// Reads what a person wrote. Refuses unknown keys, and all that [`validate`](Self::validate) refuses.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        let entries = parse_toml("the cluster configuration", text)?;
        read::cluster(&Section::root(&entries, Dialect::Toml), read::Unknown::Refused)
    }

    /// Reads what stands in etcd. Unknown keys are left alone; values are validated.
    pub fn from_json(text: &[u8]) -> Result<Self, Error> {
        Self::try_from(parse_json("the cluster configuration in etcd", text)?)
    }

    /// Checks what the types alone do not say: `Ok` for everything that the two readers return.
    pub fn validate(&self) -> Result<(), Error> {
        rules::validate(self)
    }

    /// For etcd: one line.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("names, numbers and prefixes are always JSON")
    }

    /// For people: the text that [`from_toml`](Self::from_toml) reads back.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("names, numbers and prefixes are always TOML")
    }

    /// The pool of this name.
    pub fn pool(&self, name: &PoolName) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.name == *name)
    }
}

impl TryFrom<serde_json::Map<String, serde_json::Value>> for ClusterConf {
    type Error = Error;
    fn try_from(entries: serde_json::Map<String, serde_json::Value>) -> Result<Self, Error> {
        read::cluster(&Section::root(&entries, Dialect::Json), read::Unknown::LeftAlone)
    }
}
