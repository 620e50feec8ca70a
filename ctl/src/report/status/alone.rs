//! What `twillctl status` says where etcd cannot be asked: what this machine knows by itself.

use serde::Serialize;
use twill_conf::PoolName;
use twill_ipam::State;
use twill_ipam::store::{BlockState, BlockUse, Inventory};

use crate::report::untold::Untold;

/// A status without etcd. It has the keys of [`Status`](super::Status): those of which nothing can be told are null.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Alone {
    revision: (),
    config: (),
    nodes: (),
    pools: (),
    problems: (),
    notes: (),
    /// Why the rest is not known.
    pub(crate) unknown: Vec<Untold>,
    /// `None` where this machine is no node, or its store cannot be read.
    pub(crate) local: Option<Local>,
}

/// What this machine knows by itself.
#[derive(Debug, Serialize)]
pub(crate) struct Local {
    /// The node's name; absent where no daemon ran in this boot.
    pub(crate) node: Option<String>,
    pub(crate) draining: bool,
    /// Interfaces of pods that are attached.
    pub(crate) attached: usize,
    /// Attempts that failed and are kept.
    pub(crate) failures: usize,
    pub(crate) blocks: Vec<LocalBlock>,
}

/// A block of this node.
#[derive(Debug, Serialize)]
pub(crate) struct LocalBlock {
    pub(crate) block: String,
    /// Absent for a stand-alone subnet.
    pub(crate) pool: Option<PoolName>,
    /// "open" or "closing".
    pub(crate) state: &'static str,
    pub(crate) used: u64,
    /// What a pod could be given now.
    pub(crate) free: u64,
}

impl Alone {
    /// Why etcd could not be asked, and what is known without it.
    pub(crate) fn new(why: Untold, local: Option<Local>) -> Self {
        Self { unknown: vec![why], local, ..Self::default() }
    }
}

impl Local {
    /// By the node's own store, and the number of the failures that it keeps.
    pub(crate) fn new(inventory: Inventory, failures: usize) -> Self {
        let attached = inventory.attachments.iter().filter(|row| row.state == State::Attached).count();
        let draining = inventory.node.as_ref().is_some_and(|node| node.drain.is_some());
        let block = |block: BlockUse| LocalBlock {
            block: block.block.to_string(),
            state: if block.state == BlockState::Open { "open" } else { "closing" },
            used: block.assigned,
            free: if block.state == BlockState::Open && !draining { block.free() } else { 0 },
            pool: block.pool,
        };
        Self {
            draining,
            attached,
            failures,
            node: inventory.node.map(|node| node.name),
            blocks: inventory.blocks.into_iter().map(block).collect(),
        }
    }
}
