//! What `twillctl node` prints.

use super::addresses::blocks;
use super::table::{list, notes, number, or_dash, parts, problems, table};
use crate::report::node::{Deleted, Drained, Node, NodeShown, Nodes};

pub(super) fn nodes(found: &Nodes) -> String {
    let row = |node: &Node| {
        [
            node.name.to_string(),
            if node.alive { "yes" } else { "NO" }.to_owned(),
            if node.draining { "YES" } else { "no" }.to_owned(),
            or_dash(Some(&node.version).filter(|version| !version.is_empty())),
            list(&node.underlay),
            node.blocks.to_string(),
            node.used.to_string(),
            node.cooling.to_string(),
            node.free.to_string(),
            list(&node.disputes),
        ]
    };
    let heading = ["NODE", "ALIVE", "DRAINING", "VERSION", "UNDERLAY", "BLOCKS", "USED", "COOLING", "FREE", "DISPUTES"];
    let rows = match found.nodes.as_slice() {
        [] => "no nodes\n".to_owned(),
        all => table(heading, all.iter().map(row)),
    };
    parts([rows, problems(&found.problems), notes(&found.notes)])
}

pub(super) fn shown(shown: &NodeShown) -> String {
    let told = [problems(&shown.problems), notes(&shown.notes)];
    parts([record(&shown.node), blocks(&shown.own_blocks)].into_iter().chain(told))
}

/// What etcd has of a node, a line for each thing.
pub(super) fn record(node: &Node) -> String {
    let labels: Vec<String> = node.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let line = |name: &str, value: String| [name.to_owned(), value];
    let rows = [
        line("machine", node.machine_id.clone()),
        line("alive", if node.alive { "yes" } else { "NO" }.to_owned()),
        line("draining", if node.draining { "YES" } else { "no" }.to_owned()),
        line("version", or_dash(Some(&node.version).filter(|version| !version.is_empty()))),
        line("underlay", list(&node.underlay)),
        line("tunnel", list(&node.tunnel)),
        line("labels", list(&labels)),
        line("disputes", list(&node.disputes)),
    ];
    table(["node", node.name.as_str()], rows)
}

pub(super) fn drained(drained: &Drained) -> String {
    let Drained { node, draining, was_draining, used, blocks, unknown } = drained;
    if !draining {
        return match was_draining {
            true => format!("node {node} serves new pods again\n"),
            false => format!("node {node} was not being drained: it serves new pods as before\n"),
        };
    }
    let has = used.zip(*blocks).map(|(used, blocks)| {
        let blocks = number(blocks, "block");
        format!("; it has {blocks} and {used} addresses in use")
    });
    let has = has.unwrap_or_default();
    let done = format!("node {node} is being drained: no new pod gets an address there{has}\n");
    parts([done, super::table::unknown(unknown)])
}

pub(super) fn deleted(deleted: &Deleted) -> String {
    let Deleted { node, blocks } = deleted;
    format!("deleted node {node}; {blocks} blocks are free again\n")
}
