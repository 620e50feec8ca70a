//! Whether an ADD would be served: what STATUS of the plugin asks, before there is a runtime that asks it.

use std::path::Path;

use twill_ipam::store::{BlockState, Origin, Role};
use twill_ipam::{BootTime, Error, Store};

/// What is missing for the first pod; `None` where nothing is. It looks at the node's store alone, as an ADD does. A
/// node that is full has all that it can have.
pub fn lacks(run_dir: &Path) -> Option<String> {
    if !run_dir.join("node.db").exists() {
        return Some(format!("{} has no node store: twilld has not run there since the boot", run_dir.display()));
    }
    look(run_dir).unwrap_or_else(|error| Some(error.to_string()))
}

fn look(run_dir: &Path) -> Result<Option<String>, Error> {
    let store = Store::open(run_dir, Role::Reader)?;
    let Some(node) = store.node()? else {
        return Ok(Some("twilld knows no configuration of the cluster yet".into()));
    };
    let open: Vec<_> = store
        .blocks(BootTime::now())?
        .into_iter()
        .filter(|block| block.state == BlockState::Open && block.origin == Origin::Cluster)
        .collect();
    let wanted = [(node.ipv4, false, "IPv4"), (node.ipv6, true, "IPv6")];
    let missing = wanted
        .iter()
        .find(|(wanted, ipv6, _)| *wanted && !open.iter().any(|block| block.block.first().is_ipv6() == *ipv6));
    Ok(match missing {
        Some((_, _, family)) => Some(format!("the node has no block of {family} addresses yet")),
        None if open.is_empty() => Some("the node has no block of addresses yet".into()),
        None => None,
    })
}
