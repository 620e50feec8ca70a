//! The books held against etcd: during the churn, and at its end.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use ipnetwork::IpNetwork;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::etcd::BlockEntry;
use twill_tests::load::{Holder, Load};
use twill_tests::{Lab, LabError, Node, Result};

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Looks at etcd again and again: whatever was given before a look lies in a block that the look shows as its node's. (A
/// block is given back after ten minutes of emptiness.) While etcd cannot be read, what was given waits for the next
/// look; the last one has to succeed. How many succeeded.
pub fn audit(lab: &Lab, load: &Load, stop: &AtomicBool) -> Result<usize> {
    let (mut looks, mut given) = (0, Vec::new());
    loop {
        let last = stop.load(Ordering::Relaxed);
        // A write of somebody else's: etcd compacts only where something was written.
        lab.etcd().etcdctl(&["put", "/else", &looks.to_string()]).ok();
        given.extend(load.ledger.fresh());
        let live = load.ledger.live();
        match lab.etcd().blocks() {
            Ok(blocks) => {
                looks += 1;
                disjoint(&blocks)?;
                // Of what lives on, all is looked at each time: a block may have been lost since.
                let now = load.ledger.live();
                let still = live.into_iter().filter(|(ip, holder)| now.get(ip) == Some(holder));
                for (ip, holder) in given.drain(..).chain(still) {
                    owned(&blocks, ip, &holder)?;
                }
            }
            Err(error) if last => return Err(error),
            Err(_) => {}
        }
        if last {
            return Ok(looks);
        }
        sleep(INTERVAL);
    }
}

fn owned(blocks: &[BlockEntry], ip: std::net::IpAddr, holder: &Holder) -> Result<()> {
    let block = blocks.iter().find(|block| block.cidr.contains(ip));
    match block {
        Some(block) if block.node == holder.node => Ok(()),
        other => Err(LabError::wrong(format!("{ip} was given to {holder:?}, and by etcd its block is {other:?}"))),
    }
}

fn disjoint(blocks: &[BlockEntry]) -> Result<()> {
    let mut sorted: Vec<IpNetwork> = blocks.iter().map(|block| block.cidr).collect();
    sorted.sort_by_key(|cidr| (cidr.network(), cidr.prefix()));
    match sorted.windows(2).find(|pair| pair[0].contains(pair[1].network())) {
        Some(pair) => Err(LabError::wrong(format!("{} and {} overlap", pair[0], pair[1]))),
        None => Ok(()),
    }
}

/// After the last DEL: every block that etcd gives a node is open in its store, and the other way round; each block has
/// its mirror, and no mirror is without a block; no node has more blocks than its busiest time called for.
pub fn nothing_is_leaked(lab: &Lab, most: usize) -> Result<()> {
    for node in lab.nodes() {
        deadline::until_some(&format!("{} and etcd agree about its blocks", node.name()), PATIENCE, || {
            let there: BTreeSet<_> = lab.etcd().blocks_of(node.name())?.iter().map(ToString::to_string).collect();
            let here = open_blocks(node)?;
            Ok(if there == here { Ok(()) } else { Err(format!("etcd: {there:?}; here: {here:?}")) })
        })?;
        for ipv6 in [false, true] {
            let blocks = lab.etcd().blocks_of(node.name())?.iter().filter(|block| block.is_ipv6() == ipv6).count();
            if blocks > most {
                return Err(LabError::wrong(format!("{} has {blocks} blocks, and needed {most} at most", node.name())));
            }
        }
    }
    let records: BTreeSet<String> = lab.etcd().blocks()?.iter().map(mirror_of).collect();
    let mirrors: BTreeSet<String> = lab.etcd().read("addresses/")?.into_iter().map(|(key, _)| key).collect();
    if records != mirrors {
        return Err(LabError::wrong(format!("blocks: {records:?}; mirrors: {mirrors:?}")));
    }
    Ok(())
}

fn open_blocks(node: &Node) -> Result<BTreeSet<String>> {
    let rows = node.query_store("SELECT cidr FROM block WHERE state = 'open'")?;
    Ok(rows.lines().map(str::to_owned).collect())
}

/// `addresses/<node>/<block>`, the block as in its own key.
fn mirror_of(block: &BlockEntry) -> String {
    format!("addresses/{}/{}", block.node, block.key.trim_start_matches("blocks/"))
}
