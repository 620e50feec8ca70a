//! What nodes say of themselves, held against etcd and against each other.

use std::collections::BTreeMap;
use std::net::IpAddr;

use twill_cluster::View;
use twill_cluster::inquiry::{Fault, LiveAddress, Page};
use twill_conf::NodeName;
use twill_ipam::Block;

use super::{Evidence, Remedies};
use crate::report::problems::Problem;

const FIX: &str = "'twillctl ipam check --fix' has the node mend it";

pub(super) fn judge(evidence: &Evidence, remedies: &mut Remedies) -> Vec<Problem> {
    let answered = || evidence.live.iter().filter_map(|(node, answer)| Some((node, answer.as_ref().ok()?)));
    let mut problems = Vec::new();
    for (node, page) in answered() {
        problems.extend(broken(node, page, remedies));
        problems.extend(strays(node, page, remedies));
        problems.extend(foreign(evidence, node, page));
    }
    problems.extend(twice(answered()));
    problems
}

/// Whose an address is, in words.
fn whose(at: &LiveAddress) -> String {
    match (&at.holder.pod, &at.holder.container, &at.holder.interface) {
        (Some(pod), _, _) => format!("the pod {pod}"),
        (None, Some(container), _) => format!("the container {container}"),
        (None, None, Some(interface)) => format!("the pod behind {interface}"),
        (None, None, None) => "somebody".to_owned(),
    }
}

/// Attachments whose link is missing, or that nobody finishes. Of several addresses the first names them.
fn broken(node: &NodeName, page: &Page, remedies: &mut Remedies) -> Vec<Problem> {
    let mut rows: BTreeMap<i64, (&LiveAddress, Fault)> = BTreeMap::new();
    for at in &page.addresses {
        if let (Some(row), Some(fault)) = (at.row, at.fault) {
            rows.entry(row).or_insert((at, fault));
        }
    }
    if !rows.is_empty() {
        remedies.own.entry(node.clone()).or_default().rows.extend(rows.keys());
    }
    let problem = |(_, (at, fault)): (i64, (&LiveAddress, Fault))| {
        let what = match fault {
            Fault::NoLink => format!("{node} has it for {}, whose link is gone", whose(at)),
            Fault::HalfMade => format!("{node} has it for {}, whose ADD or DEL was killed half-way", whose(at)),
            Fault::Unknown => format!("{node} has it for {}, and something is wrong with that", whose(at)),
        };
        Problem::new(
            format!("address {}", at.ip),
            what,
            format!("the sweep of twilld frees it within minutes; {FIX} at once"),
        )
        .mended_by_fix(true)
    };
    rows.into_iter().map(problem).collect()
}

fn strays(node: &NodeName, page: &Page, remedies: &mut Remedies) -> Vec<Problem> {
    let problem = |stray: &twill_cluster::inquiry::Stray| {
        let addresses = stray.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let what = format!(
            "this link of a pod on {node} ({addresses}) has no row in the node's store: its addresses look free"
        );
        Problem::new(format!("interface {}", stray.interface), what, format!("{FIX}: it takes the pod over"))
            .mended_by_fix(true)
    };
    if !page.strays.is_empty() {
        let links = page.strays.iter().map(|stray| stray.interface.clone());
        remedies.own.entry(node.clone()).or_default().links.extend(links);
    }
    page.strays.iter().map(problem).collect()
}

/// What a node uses although etcd, before and after, gave it to somebody else or to nobody.
fn foreign(evidence: &Evidence, node: &NodeName, page: &Page) -> Vec<Problem> {
    let (before, after) = (&evidence.census.view, &evidence.after);
    let is_own = |view: &View, ip: IpAddr| view.blocks_of(node).any(|block| block.contains(ip));
    let owner = |ip: IpAddr| {
        let around = after.blocks.iter().find(|(block, _)| block.contains(ip));
        around.map_or_else(|| "nobody".to_owned(), |(_, record)| record.value.node.to_string())
    };
    let mut problems = Vec::new();
    for has in page.blocks.iter().filter(|has| has.open) {
        let Some(block) = Block::new(has.block) else { continue };
        let owns = |view: &View| view.blocks.get(&block).is_some_and(|record| record.value.node == *node);
        if !owns(before) && !owns(after) {
            let what = format!("{node} assigns addresses from it, but etcd gives it to {}", owner(block.first()));
            let fix = format!("look at twilld on {node}: it closes such a block as soon as it reaches etcd");
            problems.push(Problem::new(format!("block {block}"), what, fix));
        }
    }
    let in_clusters =
        |ip: IpAddr| after.config.iter().flat_map(|config| &config.value.pools).any(|pool| pool.cidr.contains(ip));
    let used = page.addresses.iter().filter(|at| at.holder.state.is_attachments() && in_clusters(at.ip));
    for at in used.filter(|at| !is_own(before, at.ip) && !is_own(after, at.ip)) {
        let what = format!("{node} has it for {}, and its block belongs to {}", whose(at), owner(at.ip));
        let fix = format!("restart {} on {node}", whose(at));
        problems.push(Problem::new(format!("address {}", at.ip), what, fix));
    }
    problems
}

/// Addresses that pods of two nodes have.
fn twice<'a>(answered: impl Iterator<Item = (&'a NodeName, &'a Page)>) -> Vec<Problem> {
    let mut seen: BTreeMap<IpAddr, (&NodeName, &LiveAddress)> = BTreeMap::new();
    let mut problems = Vec::new();
    for (node, page) in answered {
        for at in page.addresses.iter().filter(|at| at.holder.state.is_attachments()) {
            if let Some((other, theirs)) = seen.insert(at.ip, (node, at)) {
                let what = format!("{} on {other} and {} on {node} both have it", whose(theirs), whose(at));
                let fix = "find out to which of them packets go, and restart the other";
                problems.push(Problem::new(format!("address {}", at.ip), what, fix));
            }
        }
    }
    problems
}
