//! What `twillctl status` prints.

use super::table::{list, notes, or_dash, parts, pools, problems, table};
use crate::report::status::{Node, Status};

pub(super) fn status(status: &Status) -> String {
    let config = match &status.config {
        Some(config) => format!("configuration {}, back end {}", config.revision, config.backend),
        None => "no configuration".to_owned(),
    };
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
    parts([
        format!("revision {}, {config}\n", status.revision),
        if status.nodes.is_empty() { "no nodes\n".to_owned() } else { table(heading, status.nodes.iter().map(row)) },
        pools(&status.pools),
        match status.problems.len() {
            0 => "no problems\n".to_owned(),
            _ => problems(&status.problems),
        },
        notes(&status.notes),
    ])
}
