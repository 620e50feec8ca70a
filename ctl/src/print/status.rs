//! What `twillctl status` prints.

pub(super) mod depth;

use super::table::{list, notes, or_dash, parts, pools, problems, table, unknown};
use crate::report::status::{Alone, Local, Node, Status};

pub(super) fn status(status: &Status) -> String {
    let config = match &status.config {
        Some(config) => format!("configuration {}, back end {}", config.revision, config.backend),
        None => "no configuration".to_owned(),
    };
    let nodes = match (status.nodes.as_slice(), status.in_depth) {
        ([], _) => "no nodes\n".to_owned(),
        (all, false) => parts([of_records(all), of_daemons(all)]),
        (all, true) => parts([of_records(all)].into_iter().chain(all.iter().map(depth::of))),
    };
    parts([
        format!("revision {}, {config}\n", status.revision),
        nodes,
        pools(&status.pools),
        match status.problems.len() {
            0 if status.unknown.is_empty() => "no problems\n".to_owned(),
            0 => "no problems, as far as could be told\n".to_owned(),
            _ => problems(&status.problems),
        },
        notes(&status.notes),
        unknown(&status.unknown),
    ])
}

/// What etcd has of the nodes.
fn of_records(nodes: &[Node]) -> String {
    let row = |node: &Node| {
        [
            node.name.to_string(),
            if node.alive { "yes" } else { "NO" }.to_owned(),
            if node.draining { "YES" } else { "no" }.to_owned(),
            list(&node.underlay),
            list(&node.tunnel),
            or_dash(node.vtep.as_ref()),
            node.blocks.to_string(),
            or_dash(Some(&node.version).filter(|version| !version.is_empty())),
        ]
    };
    let heading = ["NODE", "ALIVE", "DRAINING", "UNDERLAY", "TUNNEL", "VTEP", "BLOCKS", "VERSION"];
    table(heading, nodes.iter().map(row))
}

/// What the daemons say, where any has answered.
fn of_daemons(nodes: &[Node]) -> String {
    if nodes.iter().all(|node| node.daemon.is_none()) {
        return String::new();
    }
    let row = |node: &Node| {
        let Some(state) = &node.daemon else {
            let nothing = || "?".to_owned();
            return [
                node.name.to_string(),
                nothing(),
                nothing(),
                nothing(),
                nothing(),
                nothing(),
                nothing(),
                nothing(),
            ];
        };
        [
            node.name.to_string(),
            depth::backend(state),
            format!("{} of {}", state.peers.nodes.saturating_sub(state.peers.unreached), state.peers.nodes),
            depth::free(state, false),
            depth::free(state, true),
            state.repairs.by_kind.values().copied().fold(0, u64::saturating_add).to_string(),
            depth::latency(state.etcd.median_micros),
            depth::followed(state),
        ]
    };
    let heading = ["NODE", "BACK END", "REACHES", "FREE IPV4", "FREE IPV6", "REPAIRS", "ETCD", "CONFIGURATION"];
    table(heading, nodes.iter().map(row))
}

/// What a node knows by itself.
pub(super) fn alone(alone: &Alone) -> String {
    let Some(local) = &alone.local else { return unknown(&alone.unknown) };
    let Local { node, attached, blocks, failures, .. } = local;
    let of_node = node.as_ref().map_or_else(|| "this node".to_owned(), |name| format!("this node, {name},"));
    let draining = if local.draining { "it is being drained; " } else { "" };
    let rows = blocks.iter().map(|block| {
        let free = block.free.to_string();
        [block.block.clone(), or_dash(block.pool.as_ref()), block.state.to_owned(), block.used.to_string(), free]
    });
    parts([
        unknown(&alone.unknown),
        format!(
            "what {of_node} knows by itself: {draining}{} attached, {} kept ('twillctl ipam attempts')\n",
            super::table::number(*attached, "pod interface"),
            super::table::number(*failures, "failure")
        ),
        table(["BLOCK", "POOL", "STATE", "USED", "FREE"], rows),
    ])
}
