//! What `twillctl ipam show` says.

use std::net::IpAddr;

use serde::Serialize;
use twill_cluster::View;
use twill_conf::{NodeName, PoolName};
use twill_ipam::store::{BlockState, BlockUse, Inventory, Origin};
use twill_ipam::{Attachment, BootTime, State};

use super::pools::{PoolUse, pool_of};
use super::problems::{self, Problem};
use super::untold::Untold;
use crate::access::Picture;

/// Pools, blocks and this node's pods.
#[derive(Debug, Serialize)]
pub(crate) struct Ipam {
    /// What etcd knows; absent where there is none to ask, or it did not answer.
    pub(crate) cluster: Option<Cluster>,
    /// What this node knows; absent where this machine is none.
    pub(crate) local: Option<Local>,
    pub(crate) problems: Vec<Problem>,
    /// What is worth a word and no problem.
    pub(crate) notes: Vec<Problem>,
    /// What could not be looked at, and why.
    pub(crate) unknown: Vec<Untold>,
}

/// The cluster's half.
#[derive(Debug, Serialize)]
pub(crate) struct Cluster {
    pub(crate) revision: i64,
    pub(crate) pools: Vec<PoolUse>,
    pub(crate) blocks: Vec<Owned>,
}

/// A block with its owner.
#[derive(Debug, Serialize)]
pub(crate) struct Owned {
    pub(crate) block: String,
    /// Absent for a block outside of all pools.
    pub(crate) pool: Option<PoolName>,
    pub(crate) node: NodeName,
}

/// The node's half.
#[derive(Debug, Serialize)]
pub(crate) struct Local {
    /// Its name; absent where no daemon ran in this boot.
    pub(crate) node: Option<String>,
    /// No new pod gets an address here.
    pub(crate) draining: bool,
    pub(crate) blocks: Vec<LocalBlock>,
    pub(crate) pods: Vec<Pod>,
}

/// A block with its use.
#[derive(Debug, Serialize)]
pub(crate) struct LocalBlock {
    pub(crate) block: String,
    /// Absent for a stand-alone subnet.
    pub(crate) pool: Option<PoolName>,
    /// "open" or "closing".
    pub(crate) state: &'static str,
    /// "cluster" or "configuration".
    pub(crate) origin: &'static str,
    pub(crate) total: u64,
    pub(crate) assigned: u64,
    pub(crate) cooling: u64,
    pub(crate) tunnel: Option<IpAddr>,
}

/// One attachment.
#[derive(Debug, Serialize)]
pub(crate) struct Pod {
    /// `namespace/name` where the runtime told.
    pub(crate) pod: Option<String>,
    /// Absent, as the next two, for one that was rebuilt from the kernel.
    pub(crate) container: Option<String>,
    pub(crate) network: Option<String>,
    pub(crate) interface: Option<String>,
    pub(crate) host_interface: String,
    pub(crate) addresses: Vec<IpAddr>,
    /// "reserved", "attached" or "deleting".
    pub(crate) state: &'static str,
    /// Since it was reserved.
    pub(crate) age_seconds: u64,
}

/// What the node's store held.
#[derive(Debug)]
pub(crate) struct LocalState {
    pub(crate) now: BootTime,
    pub(crate) inventory: Inventory,
}

impl Ipam {
    pub(crate) fn new(picture: Option<&Picture>, local: Option<LocalState>, unknown: Vec<Untold>) -> Self {
        let (mut problems, mut notes) = (Vec::new(), Vec::new());
        if let Some(Picture { view, .. }) = picture {
            problems = problems::faults(view);
            problems.extend(problems::ownerless(view));
            problems.extend(problems::outlived(view));
            let pools = PoolUse::all(view);
            problems.extend(pools.iter().filter_map(PoolUse::problem));
            notes.extend(pools.iter().filter_map(PoolUse::note));
            problems.extend(local.iter().flat_map(|local| disputes(view, local)));
        }
        let cluster = picture.map(|picture| Cluster::new(&picture.view));
        Self { cluster, local: local.map(Local::new), problems, notes, unknown }
    }
}

impl Cluster {
    fn new(view: &View) -> Self {
        let blocks = view.blocks.iter().map(|(block, record)| Owned {
            block: block.to_string(),
            pool: pool_of(view, *block).cloned(),
            node: record.value.node.clone(),
        });
        Self { revision: view.revision, pools: PoolUse::all(view), blocks: blocks.collect() }
    }
}

/// Blocks that this node assigns from and that etcd does not give it.
fn disputes<'a>(view: &'a View, local: &'a LocalState) -> impl Iterator<Item = Problem> + 'a {
    let open = |block: &&BlockUse| block.state == BlockState::Open && block.origin == Origin::Cluster;
    let name = local.inventory.node.iter().map(|node| node.name.as_str());
    name.flat_map(move |name| {
        local.inventory.blocks.iter().filter(open).filter_map(move |here| {
            let owner = view.blocks.get(&here.block).map(|record| record.value.node.as_str());
            let what = match owner {
                Some(owner) if owner == name => return None,
                Some(owner) => format!("this node ({name}) assigns addresses from it, but etcd gives it to {owner}"),
                None => format!("this node ({name}) assigns addresses from it, but etcd gives it to nobody"),
            };
            let fix = "look at twilld on this node: it closes such a block as soon as it reaches etcd";
            Some(Problem::new(format!("block {}", here.block), what, fix))
        })
    })
}

impl Local {
    fn new(local: LocalState) -> Self {
        let LocalState { now, inventory } = local;
        let mut pods: Vec<Pod> = inventory.attachments.iter().map(|attachment| Pod::new(attachment, now)).collect();
        pods.sort_by(|a, b| (&a.pod, &a.container, &a.interface).cmp(&(&b.pod, &b.container, &b.interface)));
        Self {
            draining: inventory.node.as_ref().is_some_and(|node| node.drain.is_some()),
            node: inventory.node.map(|node| node.name),
            blocks: inventory.blocks.into_iter().map(LocalBlock::new).collect(),
            pods,
        }
    }
}

impl LocalBlock {
    fn new(block: BlockUse) -> Self {
        Self {
            block: block.block.to_string(),
            pool: block.pool,
            state: match block.state {
                BlockState::Open => "open",
                BlockState::Closing => "closing",
            },
            origin: match block.origin {
                Origin::Cluster => "cluster",
                Origin::Configuration => "configuration",
            },
            total: block.total,
            assigned: block.assigned,
            cooling: block.cooling,
            tunnel: block.tunnel,
        }
    }
}

impl Pod {
    fn new(attachment: &Attachment, now: BootTime) -> Self {
        let key = attachment.key.as_ref();
        Self {
            pod: attachment.pod.as_ref().map(|pod| format!("{}/{}", pod.namespace, pod.name)),
            container: key.map(|key| key.container.to_string()),
            network: key.map(|key| key.network.to_string()),
            interface: key.map(|key| key.ifname.to_string()),
            host_interface: attachment.hash.host_ifname(),
            addresses: attachment.addresses.iter().map(|(ip, _)| *ip).collect(),
            state: match attachment.state {
                State::Reserved => "reserved",
                State::Attached => "attached",
                State::Deleting => "deleting",
            },
            age_seconds: now.since(attachment.created).as_secs(),
        }
    }
}

#[cfg(test)]
mod tests;
