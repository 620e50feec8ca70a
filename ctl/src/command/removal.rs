//! Takes what there is of a node out of etcd, and says honestly how far that came: for `twillctl node delete`, and for what
//! `twillctl ipam check --fix` finds of nodes that have no record.

use twill_cluster::removal::Found;
use twill_cluster::store::Store;
use twill_cluster::txn::{Op, Outcome, Txn};

use crate::access;
use crate::error::Error;

/// What was deleted, by the answers of etcd.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Removed {
    pub(super) blocks: usize,
    pub(super) mirrors: usize,
}

impl Removed {
    /// Counts what a transaction deleted that was done. It deletes the key of each block's mirror, also where there is none.
    fn count(&mut self, found: &Found, txn: &Txn) {
        for op in &txn.then {
            if let Op::Delete { key } = op {
                self.blocks += usize::from(key.starts_with("blocks/"));
                self.mirrors += usize::from(found.mirror.iter().any(|(there, _)| there == key));
            }
        }
    }
}

/// Deletes it, unless it may not be. A node of many blocks takes several transactions: the first takes the record, so what fails
/// after it leaves a node that is deleted in part.
pub(super) async fn remove(store: &impl Store, found: &Found, machine_is_off: bool) -> Result<Removed, Error> {
    let node = || found.node.clone();
    let plan = found.plan(machine_is_off).map_err(Error::NotDeleted)?;
    let (first, more) = plan.split_first().expect("a plan begins with the record");
    let mut removed = Removed::default();
    match store.commit(first).await.map_err(|cause| Error::Unsure { node: node(), cause })? {
        Outcome::Done(_) => removed.count(found, first),
        Outcome::Refused(_) => return Err(Error::NodeChanged { node: node() }),
    }
    match finish(store, found, more, &mut removed).await {
        Ok(()) => Ok(removed),
        Err(cause) => Err(Error::PartlyDeleted { node: node(), blocks: removed.blocks, cause }),
    }
}

/// What comes after the record; why not all of it was done.
async fn finish(store: &impl Store, found: &Found, more: &[Txn], removed: &mut Removed) -> Result<(), String> {
    for txn in more {
        commit(store, found, txn, removed).await?;
    }
    // What it claimed between the reading and the deletion: its epoch is over now, so nothing more can come.
    let rest = Found::read(store, &found.node, access::now()).await.map_err(|error| error.to_string())?;
    for txn in rest.rest().map_err(|refusal| refusal.to_string())? {
        commit(store, &rest, &txn, removed).await?;
    }
    Ok(())
}

async fn commit(store: &impl Store, found: &Found, txn: &Txn, removed: &mut Removed) -> Result<(), String> {
    match store.commit(txn).await {
        Ok(Outcome::Done(_)) => removed.count(found, txn),
        Ok(Outcome::Refused(_)) => return Err("the rest changed meanwhile, so it may be coming back".to_owned()),
        Err(error) => return Err(error.to_string()),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
