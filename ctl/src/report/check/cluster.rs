//! What etcd alone shows to be wrong.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use twill_cluster::{BlockRecord, Census, Versioned, View, key};
use twill_conf::NodeName;
use twill_ipam::Block;

use super::Remedies;
use crate::report::pools::pool_of;
use crate::report::problems::{self, Problem};

const FIX: &str = "'twillctl ipam check --fix' has the node write it anew";

pub(super) fn judge(census: &Census, now: u64, remedies: &mut Remedies) -> Vec<Problem> {
    let view = &census.view;
    let mut problems = problems::unreadable(view);
    // With the blocks of nodes that have no record.
    problems.extend(ghosts(census, remedies));
    problems.extend(problems::outlived(view));
    problems.extend(outside(view));
    problems.extend(overlaps(view));
    problems.extend(tunnels(view));
    problems.extend(mirrors(census, remedies));
    problems.extend(recorded_twice(census, now));
    problems
}

/// Nodes that are gone, and of which something is left.
fn ghosts(census: &Census, remedies: &mut Remedies) -> Vec<Problem> {
    let ghosts = census.ghosts();
    let problem = |name: &NodeName| {
        let blocks: Vec<String> = census.view.blocks_of(name).map(|block| block.to_string()).collect();
        let mirrors = census.mirrors.get(name).map_or(0, BTreeMap::len);
        let has = match blocks.len() {
            0 => format!("{mirrors} mirrors"),
            count => format!("{count} blocks ({}) and {mirrors} mirrors", problems::shortened(&blocks)),
        };
        let what =
            format!("it has no record, and there are {has} of it: its record was deleted by other means than twillctl");
        let is_alive = census.alive.contains(name);
        let fix = match is_alive {
            true => "its daemon is alive and will register anew; wait, and check again".to_owned(),
            false => format!(
                "if the machine of {name} is off or gone, 'twillctl ipam check --fix' deletes them; else start twilld there"
            ),
        };
        Problem::new(format!("node {name}"), what, fix).mended_by_fix(!is_alive)
    };
    let problems = ghosts.iter().map(problem).collect();
    remedies.ghosts.extend(ghosts.into_iter().filter(|name| !census.alive.contains(name)));
    problems
}

fn outside(view: &View) -> Vec<Problem> {
    let lost = view.blocks.iter().filter(|(block, _)| view.config.is_some() && pool_of(view, **block).is_none());
    let problem = |(block, record): (&Block, &Arc<Versioned<BlockRecord>>)| {
        let node = &record.value.node;
        let what = format!("it is {node}'s and lies in no pool: nothing is assigned from it, and no route leads to it");
        let fix = format!("add a pool that holds it, or drain {node} and delete it ('twillctl node delete {node}')");
        Problem::new(format!("block {block}"), what, fix)
    };
    lost.map(problem).collect()
}

/// Blocks that lie in others: etcd refuses such a claim, so somebody wrote one by other means.
fn overlaps(view: &View) -> Vec<Problem> {
    let mut around: Vec<(Block, &NodeName)> = Vec::new();
    let mut problems = Vec::new();
    for (block, record) in &view.blocks {
        around.retain(|(wide, _)| wide.covers(*block));
        if let Some((wide, owner)) = around.last() {
            let what = format!("it is {}'s and lies in {wide}, which is {owner}'s", record.value.node);
            let fix = "find out who wrote the younger of the two keys; drain that node and delete it";
            problems.push(Problem::new(format!("block {block}"), what, fix));
        }
        around.push((*block, &record.value.node));
    }
    problems
}

fn tunnels(view: &View) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, record) in &view.nodes {
        let tunnel = &record.value.tunnel;
        for ip in [tunnel.ipv4.map(IpAddr::V4), tunnel.ipv6.map(IpAddr::V6)].into_iter().flatten() {
            if !view.blocks_of(name).any(|block| block.contains(ip)) {
                let what = format!("its tunnel address {ip} is in none of its blocks: no other node uses it");
                let fix = format!("look at twilld on {name}: it takes another one when it has a block");
                problems.push(Problem::new(format!("node {name}"), what, fix));
            }
        }
    }
    problems
}

fn mirrors(census: &Census, remedies: &mut Remedies) -> Vec<Problem> {
    let view = &census.view;
    let mut problems = Vec::new();
    problems.extend(census.faults.iter().map(|(key, cause)| garbage(census, key, cause, remedies)));
    let mut of_node = |node: &NodeName, key: String, what: String| {
        remedies.own.entry(node.clone()).or_default();
        problems.push(Problem::new(key, what, FIX).mended_by_fix(true));
    };
    for (node, mirrors) in census.mirrors.iter().filter(|(node, _)| view.nodes.contains_key(*node)) {
        for (block, record) in mirrors {
            let key = key::addresses(node, *block);
            match view.blocks.get(block).map(|owner| &owner.value) {
                Some(owner) if owner.node == *node => {
                    let mut strangers = record.value.content.addresses.keys().filter(|ip| !block.contains(**ip));
                    if let Some(ip) = strangers.next() {
                        of_node(node, key, format!("this mirror of {block} has {ip}, which does not lie in it"));
                    }
                }
                Some(owner) => of_node(node, key, format!("a mirror of {block}, which is {}'s", owner.node)),
                None => of_node(node, key, format!("a mirror of {block}, which is nobody's")),
            }
        }
    }
    for (block, owner) in view.blocks.iter().filter(|(_, owner)| view.nodes.contains_key(&owner.value.node)) {
        let node = &owner.value.node;
        let is_there = census.mirrors.get(node).is_some_and(|mirrors| mirrors.contains_key(block));
        let key = key::addresses(node, *block);
        if !is_there && !census.faults.contains_key(&key) {
            of_node(node, key, format!("the mirror of {block} is missing"));
        }
    }
    problems
}

/// A key below `addresses/` that cannot be read. Who is right about a node that has no record is for people to say, unless all
/// that there is of it goes.
fn garbage(census: &Census, key: &str, cause: &str, remedies: &mut Remedies) -> Problem {
    let Some((node, block)) = key::parse_addresses(key) else {
        let what = format!("this key is none of Twill's: {cause}");
        return Problem::new(key, what, "find out who wrote this key, and delete it");
    };
    let what = format!("node {node}'s mirror of {block} cannot be read: {cause}");
    let is_ghost = remedies.ghosts.contains(&node);
    let has_record = census.view.nodes.contains_key(&node);
    let fix = if has_record {
        remedies.own.entry(node).or_default();
        FIX.to_owned()
    } else if is_ghost {
        format!("'twillctl ipam check --fix' deletes it with all that is left of {node}")
    } else if census.view.faults.contains_key(&key::node(&node)) {
        format!("see to the record of {node} first, which cannot be read either")
    } else if census.alive.contains(&node) {
        "its daemon is alive and will register anew; wait, and check again".to_owned()
    } else {
        format!("{node} has no record: if its machine is off or gone, 'twillctl node delete {node}' deletes it")
    };
    Problem::new(key, what, fix).mended_by_fix(has_record || is_ghost)
}

/// Addresses that two mirrors have in use.
fn recorded_twice(census: &Census, now: u64) -> Vec<Problem> {
    let mut seen: BTreeMap<IpAddr, &NodeName> = BTreeMap::new();
    let mut problems = Vec::new();
    for (node, mirrors) in &census.mirrors {
        let contents = mirrors.values().flat_map(|record| &record.value.content.addresses);
        for (ip, _) in contents.filter(|(_, holder)| holder.holds(now) && holder.state.is_attachments()) {
            if let Some(other) = seen.insert(*ip, node).filter(|other| *other != node) {
                let what = format!("the mirrors of {other} and {node} both have it in use");
                let fix = "find out which of the pods answers to it, and restart the other";
                problems.push(Problem::new(format!("address {ip}"), what, fix));
            }
        }
    }
    problems
}
