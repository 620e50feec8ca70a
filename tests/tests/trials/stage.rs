//! What the scenarios have in common.

use std::fs;
use std::time::Duration;

use serde_json::Value;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::node::Told;
use twill_tests::{Lab, LabError, Node, Result};

/// How long what is taken down may take to be gone while the machine is busy: less than the 30 s that pods stand by themselves
/// after what was asked of them last.
pub const GONE: Duration = PATIENCE;

/// Rows of pods of trials, of a node.
pub fn trial_rows(node: &Node) -> Result<usize> {
    Ok(node.query_store("SELECT container FROM attachment WHERE container LIKE 'twill-trial-%'")?.lines().count())
}

/// Namespaces that the daemon of a node holds by descriptors.
pub fn held_namespaces(node: &Node) -> usize {
    let pid = node.daemon_pid().expect("it runs");
    let links = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    links
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter(|link| link.to_string_lossy().starts_with("net:["))
        .count()
}

/// Until the nodes have what they had before, and their daemons hold no namespace.
pub fn nothing_is_left(lab: &Lab, before: &[String], patience: Duration) -> Result<()> {
    for (node, before) in lab.nodes().iter().zip(before) {
        deadline::until_some(&format!("nothing is left on {}", node.name()), patience, || {
            let (now, held) = (node.attachments()?, held_namespaces(node));
            Ok(if now == *before && held == 0 { Ok(()) } else { Err(format!("{held} namespaces; {now}")) })
        })?;
    }
    Ok(())
}

/// What stands on each node.
pub fn standing(lab: &Lab) -> Result<Vec<String>> {
    lab.nodes().iter().map(Node::attachments).collect()
}

/// Until pods of a trial stand on all nodes.
pub fn pods_stand(lab: &Lab, each: usize) -> Result<()> {
    deadline::until("pods of a trial stand on all nodes", PATIENCE, || {
        lab.nodes().iter().try_fold(true, |all, node| Ok(all && trial_rows(node)? == each))
    })
}

/// What `twillctl` says, which must end with this status.
pub fn says(node: &Node, arguments: &[&str], status: i32) -> Result<Told> {
    let told = node.twillctl_told(arguments)?;
    if told.status != Some(status) {
        return Err(LabError::wrong(format!(
            "{arguments:?} ends with {:?}:\n{}{}",
            told.status, told.stdout, told.stderr
        )));
    }
    Ok(told)
}

/// The same as JSON.
pub fn json(node: &Node, arguments: &[&str], status: i32) -> Result<Value> {
    let told = says(node, &[&["-o", "json"], arguments].concat(), status)?;
    serde_json::from_str(&told.stdout).map_err(|_| LabError::wrong(format!("{arguments:?}: {told:?}")))
}

/// Drops what these rules of nftables say, at a hook of a node, for as long as `work` lasts.
pub fn dropping<T>(node: &Node, hook: &str, rules: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    node.run(&["nft", &format!("table inet fault {{ chain faults {{ {hook}; {rules}; }}; }}")])?;
    let done = work();
    node.run(&["nft", "delete", "table", "inet", "fault"])?;
    done
}

/// A hook before all others.
pub const FIRST: &str = "type filter hook prerouting priority -200";
