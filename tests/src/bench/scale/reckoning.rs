//! What the daemon allocates for one change of the cluster, counted where it can be: in the benchmark's own process.
//!
//! The shipped daemon counts nothing, and from outside nothing sees its allocator. So the view of the same cluster is read from
//! the same etcd, and what the daemon does for a change is done here, by the same functions: `View::apply` and the copy for the
//! other tasks (its watch), `fabric::Reckoning` (its reconciler). What it sends for it to kernel and nft is not in it:
//! that is a few messages, whatever the cluster's size (see [`super::trace`]).

use twill_cluster::View;
use twill_cluster::txn::Op;
use twill_cluster::view::{Change, Delta, Entry, Snapshot};
use twill_conf::NodeName;
use twill_fabric::{self as fabric, Learned, Local, Side, Underlay};
use twill_linux::{IfName, MacAddr};

use super::cluster::Cluster;
use crate::bench::heap::{Allocations, counted};
use crate::wire::INTERFACE;
use crate::{LabError, Result};

/// What so many changes allocated.
#[derive(Debug, Default)]
pub struct Reckoning {
    /// How many writes of etcd were followed: a node that joins is three.
    pub writes: u64,
    /// Taking them into the view.
    pub taken: Allocations,
    /// Handing the view on.
    pub handed: Allocations,
    /// Reckoning what shall stand.
    pub desired: Allocations,
}

/// Follows so many changes as the daemon of a node does. They are not written to etcd.
pub fn follow(cluster: &mut Cluster, node: &str, changes: usize) -> Result<Reckoning> {
    let mut view = View::default();
    view.replace(&cluster.read()?);
    let local = local(&view, node)?;
    let mut reckoning = Reckoning::default();
    // As the daemon has it from the pass before, which was not for this change.
    let mut published = view.clone();
    let mut reckoner = fabric::Reckoning::default();
    drop(reckoner.follow(&published, &local, &Learned::default()));
    for _ in 0..changes {
        let change = cluster.plan();
        for operations in change.writes(view.revision + 1) {
            let delta = delta(&view, operations);
            let ((), taken) = counted(|| view.apply(&delta));
            let handed;
            (published, handed) = counted(|| view.clone());
            let (_, reckoned) = counted(|| reckoner.follow(&published, &local, &Learned::default()));
            reckoning.writes += 1;
            reckoning.taken += taken;
            reckoning.handed += handed;
            reckoning.desired += reckoned;
        }
    }
    Ok(reckoning)
}

/// What a write is to a watch.
fn delta(view: &View, operations: Vec<Op>) -> Delta {
    let revision = view.revision + 1;
    let standing: Snapshot = view.snapshot();
    let change = |operation| match operation {
        Op::Put { key, value, .. } => {
            let created =
                standing.entries.iter().find(|entry| entry.key == key).map_or(revision, |entry| entry.created);
            Change::Put(Entry { key, value, created, modified: revision })
        }
        Op::Delete { key } => Change::Delete(key),
    };
    Delta { revision, changes: operations.into_iter().map(change).collect() }
}

/// What the node knows of itself, from what it has published.
fn local(view: &View, node: &str) -> Result<Local> {
    let unknown = || LabError::wrong(format!("etcd has no record of {node}"));
    let name: NodeName = node.parse().map_err(|_| unknown())?;
    let record = &view.nodes.get(&name).ok_or_else(unknown)?.value;
    let device = IfName::new(INTERFACE).expect("it is the name of an interface");
    let side = |cidr| Side { device, index: 2, cidr, mtu: 1500, rp_filter: false, bare: false, accept_ra: false };
    let underlay = Underlay { ipv4: record.underlay.ipv4.map(side), ipv6: record.underlay.ipv6.map(side) };
    let blocks = view.blocks.iter().filter(|(_, block)| block.value.node == name).map(|(block, _)| *block);
    let (tunnel, blocks) = (record.tunnel.clone(), blocks.collect());
    Ok(Local { tunnel, blocks, ..Local::bare(name, MacAddr([2, 0, 0, 0, 0, 1]), underlay) })
}
