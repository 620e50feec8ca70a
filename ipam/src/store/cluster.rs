//! What there is to choose from in a cluster: the node's open blocks, by what the daemon has told of their pools.
//!
//! Who names pools gets addresses of those, and of their families; who names none, of the pools that give to every pod on this
//! node. A disabled pool gives to nobody.

use rusqlite::Connection;
use twill_conf::PoolName;
use twill_conf::cluster::Given;

use crate::{Error, Family, NodePool};

use super::blocks::{self, BlockRow};
use super::choosing::Candidate;
use super::reserving::Supply;
use super::{BlockState, Node, Origin, node};

/// The open blocks that serve an ADD that names `wanted`, or no pool, for each of its families.
pub(super) fn supplies(conn: &Connection, wanted: &[PoolName]) -> Result<Vec<Supply>, Error> {
    let node = node::node(conn)?.ok_or(Error::NotReady)?;
    if node.drain.is_some() {
        return Err(Error::Draining { node: node.name });
    }
    let blocks = blocks::all(conn)?;
    let families = node.families(wanted);
    if families.is_empty() {
        return Err(if node.told().is_empty() { Error::NotReady } else { Error::NoPool(for_nobody(&node)) });
    }
    families.into_iter().map(|family| of_family(family, &blocks, &node, wanted)).collect()
}

fn of_family(family: Family, blocks: &[BlockRow], node: &Node, wanted: &[PoolName]) -> Result<Supply, Error> {
    let there = || blocks.iter().filter(|row| row.block.family() == family && row.origin == Origin::Cluster);
    let open = || there().filter(|row| row.state == BlockState::Open);
    let serving = open().filter(|row| node.serves(row.pool.as_ref(), wanted));
    let candidates: Vec<_> =
        serving.map(|row| Candidate::whole(row.clone(), blocks::reserved(Some(node), row))).collect();
    let helpful = helpful(family, blocks, node, wanted);
    let is_exhausted = !helpful.is_empty() && helpful.iter().all(|pool| node.exhausted.contains(pool));
    let on_demand = !wanted.is_empty() && node.told().iter().any(|pool| pool.family == family && pool.serves(wanted));
    if !is_exhausted && !on_demand && open().next().is_none() {
        return Err(Error::NotReady);
    }
    let exhausted = if is_exhausted { helpful } else { Vec::new() };
    Ok(Supply { family, candidates, exhausted, on_demand })
}

/// The pools of a family that a further block could be of.
fn helpful(family: Family, blocks: &[BlockRow], node: &Node, wanted: &[PoolName]) -> Vec<PoolName> {
    if let Some(pools) = &node.pools {
        let serving = pools.iter().filter(|pool| pool.family == family && pool.serves(wanted));
        return serving.map(|pool| pool.name.clone()).collect();
    }
    // A daemon of an older version has not told: those that are wanted, but for such as are known to be of the other family.
    let of = |row: &&BlockRow| row.block.family() == family && row.origin == Origin::Cluster;
    let mut helpful: Vec<_> = match wanted {
        [] => blocks.iter().filter(of).filter_map(|row| row.pool.clone()).collect(),
        wanted => wanted.to_vec(),
    };
    if helpful.is_empty() {
        helpful.clone_from(&node.exhausted);
    }
    let other =
        |pool: &PoolName| blocks.iter().any(|row| row.pool.as_ref() == Some(pool) && row.block.family() != family);
    helpful.retain(|pool| !other(pool));
    helpful.sort();
    helpful.dedup();
    helpful
}

/// Why no pool gives to an ADD that names none.
fn for_nobody(node: &Node) -> String {
    let why = |pool: &NodePool| match pool.given {
        Given::Nobody => format!("pool {} is disabled", pool.name),
        Given::Named | Given::Default => format!("pool {} is for other nodes", pool.name),
    };
    node.told().iter().map(why).collect::<Vec<_>>().join(", ")
}
