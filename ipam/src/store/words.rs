//! What goes into the store and comes out of it, as values.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use ipnetwork::IpNetwork;
use twill_conf::PoolName;

use crate::attachment::Pod;
use crate::{Block, BootTime, Extras, Family, Key, KeyHash, NodePool};

/// What the plugin must know of its node, written by the daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// The node's name.
    pub name: String,
    /// The MTU of new pods' interfaces, in bytes.
    pub mtu: u32,
    /// Every new pod gets an IPv4 address, unless its network's configuration names pools without.
    pub ipv4: bool,
    /// Every new pod gets an IPv6 address, under the same condition.
    pub ipv6: bool,
    /// The pools that have neither a free address here nor a block to be had.
    pub exhausted: Vec<PoolName>,
    /// The node is being drained: no new pod gets an address of its blocks. A word that is fresh for each drain.
    pub drain: Option<String>,
    /// The pools of the cluster that can be read. `None` where a daemon of an older version wrote the row, which tells of
    /// none: then every open block serves all.
    pub pools: Option<Vec<NodePool>>,
}

/// Whether addresses may be taken from a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockState {
    /// Yes.
    Open,
    /// No; those that are given stay given.
    Closing,
}

/// Who gave the node its block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A claim in etcd.
    Cluster,
    /// `subnets` in the network configuration.
    Configuration,
}

/// A block with what is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockUse {
    /// The block.
    pub block: Block,
    /// Its pool; absent for a block from the configuration.
    pub pool: Option<PoolName>,
    /// Open or closing.
    pub state: BlockState,
    /// Cluster or configuration.
    pub origin: Origin,
    /// The tunnel address, where it was taken from this block.
    pub tunnel: Option<IpAddr>,
    /// All its addresses (saturating).
    pub total: u64,
    /// Given to attachments of any state.
    pub assigned: u64,
    /// Neither free nor assigned: their time of cooling is not over.
    pub cooling: u64,
    /// Never to be given, since the pool reserves them, and nobody's now.
    pub reserved: u64,
}

impl BlockUse {
    /// Addresses that anybody may have now, if the block is open.
    pub fn free(&self) -> u64 {
        self.total
            .saturating_sub(self.assigned)
            .saturating_sub(self.cooling)
            .saturating_sub(self.reserved)
            .saturating_sub(self.tunnel.iter().len() as u64)
    }
}

/// What an ADD would find of one family: the addresses of the open blocks or subnets that it may choose from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlook {
    /// Which family.
    pub family: Family,
    /// All addresses (saturating).
    pub total: u64,
    /// Given to attachments of any state.
    pub assigned: u64,
    /// Not to be given to anybody yet, and free within the time of cooling without anybody's doing.
    pub cooling: u64,
    /// To be given now.
    pub free: u64,
    /// What the daemon has recorded: no further block is to be had of these pools, which are all that could help. Empty where
    /// one may be had.
    pub exhausted: Vec<PoolName>,
    /// A block of the pools that were named is claimed when an ADD needs it, and not before.
    pub on_demand: bool,
}

/// What an ADD asks for.
#[derive(Debug, Clone)]
pub struct Reservation<'a> {
    /// Whose.
    pub key: &'a Key,
    /// CNI_NETNS to the letter.
    pub netns: &'a Path,
    /// The pod, where known.
    pub pod: Option<&'a Pod>,
    /// The stand-alone subnets; blocks of origin "configuration" are made of them as needed. Empty in a cluster.
    pub subnets: &'a [IpNetwork],
    /// The pools to choose from; empty means any.
    pub pools: &'a [PoolName],
    /// The addresses that are asked for, one of a family at most; families without one get whichever is next.
    pub requested: &'a [IpAddr],
}

/// A failed ADD or DEL, kept for `twillctl`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// When it failed.
    pub at: BootTime,
    /// ADD, DEL, CHECK.
    pub verb: String,
    /// Network, container and interface.
    pub key: Option<Key>,
    /// The pod, where known.
    pub pod: Option<Pod>,
    /// The step that failed.
    pub step: String,
    /// Why, as the runtime was told.
    pub cause: String,
    /// The CNI code.
    pub code: u32,
    /// How long it took until then.
    pub took: Duration,
}

/// What stands in the kernel, observed by a binary, to rebuild a lost store from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Host interfaces with the hash and addresses of their alias and of the pod routes to them.
    pub attachments: Vec<(KeyHash, Vec<IpAddr>)>,
    /// The addresses of the tunnel device.
    pub tunnel: Vec<IpAddr>,
    /// All other local addresses: those inside a block, now or later, are never given.
    pub local: Vec<IpAddr>,
    /// What attachments have beyond link and addresses.
    pub extras: BTreeMap<KeyHash, Extras>,
}

/// What a rebuild did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// The attachments that the store did not know.
    pub added: Vec<KeyHash>,
    /// Addresses that two claim. None of them is given to anybody new.
    pub disputed: Vec<IpAddr>,
}
