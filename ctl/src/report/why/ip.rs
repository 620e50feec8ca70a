//! Why an address is as it is: whose it is, and what is wrong with that.

use std::net::IpAddr;

use serde::Serialize;
use twill_conf::NodeName;

use crate::report::addresses::{AddressRow, Addresses, Sources};
use crate::report::problems::{self, Problem};
use crate::report::untold::Untold;

/// The finding.
#[derive(Debug, Serialize)]
pub(crate) struct WhyIp {
    pub(crate) ip: IpAddr,
    /// What it is, a sentence.
    pub(crate) meaning: String,
    /// As `twillctl ipam show --ip` has it.
    pub(crate) address: AddressRow,
    /// The node whose own address it is, between nodes.
    pub(crate) underlay_of: Option<NodeName>,
    pub(crate) problems: Vec<Problem>,
    /// What could not be looked at, and why.
    pub(crate) unknown: Vec<Untold>,
}

impl WhyIp {
    /// By what etcd has, and this node's store where it is newer.
    pub(crate) fn new(ip: IpAddr, sources: &Sources, unknown: Vec<Untold>) -> Self {
        let Addresses { addresses, unknown, .. } = sources.of_ip(ip, unknown);
        let row = addresses.and_then(|mut rows| rows.pop()).expect("of one address there is a row");
        let underlay_of = underlay_of(sources, ip);
        let meaning = meaning(&row, underlay_of.as_ref());
        let problems = judge(&row, sources, underlay_of.as_ref(), &unknown);
        Self { ip, meaning, address: row, underlay_of, problems, unknown }
    }
}

/// The node that has an address between nodes.
fn underlay_of(sources: &Sources, ip: IpAddr) -> Option<NodeName> {
    let nodes = &sources.census.as_ref()?.view.nodes;
    let has = |record: &twill_cluster::NodeRecord| record.underlay.address(ip.is_ipv6()) == Some(ip);
    nodes.iter().find(|(_, record)| has(&record.value)).map(|(name, _)| name.clone())
}

fn meaning(row: &AddressRow, underlay_of: Option<&NodeName>) -> String {
    let ip = row.ip;
    if let Some(node) = underlay_of {
        return format!("{ip} is the address of node {node} between the nodes");
    }
    let node = row.node.as_ref().map_or_else(|| "this node".to_owned(), ToString::to_string);
    let pod = match (&row.pod, &row.container) {
        (Some(pod), _) => format!("pod {pod}"),
        (None, Some(container)) => format!("container {container}"),
        (None, None) => "a pod of which only the link is known".to_owned(),
    };
    match row.state {
        "attached" => format!("{ip} is an address of {pod} on {node}"),
        "reserved" => format!("{ip} is given to {pod} on {node}, which is being attached"),
        "deleting" => format!("{ip} is an address of {pod} on {node}, which is being detached"),
        "cooling" => format!("{ip} was given back on {node} a short while ago, and is given to nobody yet"),
        "tunnel" => format!("{ip} is the tunnel address of node {node}"),
        "withheld" => format!("{ip} is given to nobody on {node}: the node itself has it, or two links claim it"),
        "free" => format!("{ip} is free: {node} may give it to a pod"),
        "kept by its pool" => format!("{ip} is given to nobody: its pool reserves it"),
        "pool disabled" => format!("{ip} is given to nobody: its pool is disabled"),
        "node draining" => format!("{ip} is given to nobody: node {node}, whose block it is in, is being drained"),
        "block closing" => format!("{ip} is given to nobody: its block is being given back by {node}"),
        "in no block" => format!("{ip} is free: no node has claimed the block of the pool that it is in"),
        "in no pool" => format!("{ip} is in no pool, and no node's own: Twill has nothing to do with it"),
        _ => format!("who has {ip} is not known"),
    }
}

fn judge(row: &AddressRow, sources: &Sources, underlay_of: Option<&NodeName>, unknown: &[Untold]) -> Vec<Problem> {
    let subject = format!("address {}", row.ip);
    let census = sources.census.as_ref();
    let mut problems = Vec::new();
    if let (Some(node), Some(pool)) = (underlay_of, &row.pool) {
        let what = format!("node {node} has it between the nodes, and it lies in pool {pool}: a pod might be given it");
        let fix = "reserve it in the pool (\"reserved\"), or give the pool another range";
        problems.push(Problem::new(&subject, what, fix));
    }
    if row.state == "in no pool" && underlay_of.is_none() && row.block.is_none() {
        let what = "it is outside of all pools";
        let fix = "'twillctl ipam show --pools' shows them; if a pod has it, it is of another network";
        problems.push(Problem::new(&subject, what, fix));
    } else if row.state == "in no pool" && row.block.is_some() {
        let what = "its block lies in no pool any more: nothing more of it is given";
        let fix = "add a pool that it lies in, or restart the pods that have addresses of it";
        problems.push(Problem::new(&subject, what, fix));
    }
    if row.state == "withheld" {
        let what = "two claim it, or the node itself has it";
        problems.push(Problem::new(&subject, what, "'twillctl ipam check' says which, and what to do"));
    }
    let Some((census, owner)) = census.zip(row.node.as_ref()) else { return problems };
    match census.view.nodes.get(owner) {
        Some(record) => {
            problems.extend(problems::node(&census.view, owner, record, census.alive.contains(owner)));
        }
        None if unknown.is_empty() => {
            let what = format!("its block is of {owner}, which has no record");
            problems.push(Problem::new(&subject, what, problems::delete(owner)));
        }
        None => {}
    }
    let claims = census
        .view
        .nodes
        .iter()
        .filter(|(name, record)| *name != owner && record.value.disputes.iter().any(|cidr| cidr.contains(row.ip)));
    problems.extend(claims.map(|(name, _)| {
        let what = format!("{name} has pods in its block, which is {owner}'s now: one of them may have it");
        Problem::new(&subject, what, format!("restart those pods of {name}; {}", problems::delete(name)))
    }));
    problems
}
