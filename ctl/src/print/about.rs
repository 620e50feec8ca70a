//! What `twillctl version` and `man` print.

use super::table::{notes, or_dash, parts, problems, table};
use crate::report::about::{ClusterVersions, NodeVersion, Pages, Version};

pub(super) fn version(version: &Version) -> String {
    let own = format!(
        "twillctl {} for {}\nCNI specification: {}\nbeyond what every version can: {}\n",
        version.version,
        version.target,
        version.cni.join(", "),
        version.can.join(", ")
    );
    parts([own, version.cluster.as_ref().map(cluster).unwrap_or_default()])
}

fn cluster(cluster: &ClusterVersions) -> String {
    let row = |node: &NodeVersion| {
        let record = node.record.as_ref().map(|record| format!("record by {record}")).unwrap_or_default();
        [
            node.name.to_string(),
            if node.alive { "yes" } else { "no" }.to_owned(),
            or_dash(node.version.as_ref()),
            if node.can.is_empty() { "-".to_owned() } else { node.can.join(" ") },
            record,
        ]
    };
    let nodes = table(["NODE", "ALIVE", "VERSION", "CAN", "REMARKS"], cluster.nodes.iter().map(row));
    let counts: Vec<String> = cluster
        .versions
        .iter()
        .map(|count| format!("{} on {}", count.version, super::table::number(count.nodes, "node")))
        .collect();
    let counts =
        if counts.is_empty() { "no node is registered\n".to_owned() } else { format!("{}\n", counts.join(", ")) };
    let found = if cluster.problems.is_empty() { "no problems\n".to_owned() } else { problems(&cluster.problems) };
    parts([nodes, counts, found, notes(&cluster.notes)])
}

pub(super) fn pages(pages: &Pages) -> String {
    format!("{} pages in {}\n", pages.pages.len(), pages.dir.display())
}
