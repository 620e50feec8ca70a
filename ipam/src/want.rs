//! What an ADD wants of the daemon when the node's own blocks have nothing for it: a block of certain pools, or the block of
//! one address.
//!
//! The plugin leaves it in the store, rings the doorbell, and looks again every few milliseconds whether it can reserve. The
//! daemon claims a block, or writes down why it will not. The plugin takes its want back when it ends; the daemon forgets one
//! whose plugin was killed.

use std::net::IpAddr;
use std::time::Duration;

use twill_conf::PoolName;

use crate::{BootTime, KeyHash};

/// So long a want counts: an ADD lives for no more than ten seconds.
pub const LIFETIME: Duration = Duration::from_secs(10);

/// One want. An attachment has one at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// Whose.
    pub key: KeyHash,
    /// The pools that the network configuration names; none: those that give to every pod on the node.
    pub pools: Vec<PoolName>,
    /// The address that was asked for.
    pub address: Option<IpAddr>,
    /// Since when.
    pub at: BootTime,
}
