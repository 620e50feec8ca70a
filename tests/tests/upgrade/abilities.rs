//! What a configuration asks of all nodes, while some are of a version that cannot do it.

use std::path::Path;

use serde_json::json;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::{Lab, Result};

use super::{DAEMON, replace, with_old_nodes};

/// `twillctl config apply` of a configuration with this section, by the tools of a directory. What it said, and whether it did it.
fn apply(lab: &Lab, tools: &Path, section: &str) -> Result<(bool, String)> {
    let file = lab.directory().join("asked.toml");
    std::fs::write(&file, format!("{}\n{section}", lab.cluster_config()))
        .expect("the lab's own directory can be written");
    let (ctl, file) = (tools.join("twillctl").display().to_string(), file.display().to_string());
    let told = lab.etcd().namespace().run(&[&ctl, "config", "apply", &file, "--etcd", &lab.etcd().endpoints()]);
    Ok(told.map_or_else(|error| (false, error.to_string()), |text| (true, text)))
}

/// The record of a node as a version before BGP left it: that says nothing of what it can.
fn as_of_before_bgp(lab: &Lab, name: &str) -> Result<()> {
    let records = lab.etcd().nodes()?;
    let (_, record) = records.iter().find(|(node, _)| node == name).expect("the node is registered");
    let mut record = record.clone();
    record.as_object_mut().expect("a record is an object").remove("can");
    record["version"] = json!("0.0.9");
    lab.etcd().put(&format!("nodes/{name}"), &record.to_string())
}

#[test]
fn what_a_registered_node_cannot_do_is_not_applied_and_the_node_is_named() {
    with_old_nodes(|lab, old| {
        let new = lab.binaries().directory().to_owned();
        for number in [1, 3] {
            replace(lab.node(number), DAEMON, &new)?;
        }
        let before = lab.etcd().read("config")?;
        lab.node(2).stop_daemon()?;
        as_of_before_bgp(lab, "n2")?;
        for tools in [&new, old] {
            let (done, told) = apply(lab, tools, "[bgp]")?;
            // The newer one also says of which version the node is.
            let words =
                ["it asks twilld to speak BGP, and that has not said that it can on n2", ": update it there first"];
            assert!(!done && words.iter().all(|words| told.contains(words)), "{told}");
        }
        assert_eq!(lab.etcd().read("config")?, before, "nothing was changed");
        // When the node is of a version that can, and has said so, the same is applied.
        replace(lab.node(2), DAEMON, &new)?;
        deadline::until_some("n2 has said what it can", PATIENCE, || {
            let (done, told) = apply(lab, &new, "[bgp]")?;
            Ok(if done { Ok(()) } else { Err(told) })
        })
    });
}
