//! Reports about a cluster that is well, each as its file has it, and what changes it in small: a configuration, and a node that leaves.

use twill_tests::deadline::{self, PATIENCE};
use twill_tests::golden::is_golden;
use twill_tests::{Lab, LabError, Node, Result, with_lab};

use super::status::comes_to_tell;

/// What is said, which must end so; as the file of this name has it.
fn is_shown(node: &Node, name: &str, arguments: &[&str], status: i32) -> Result<()> {
    let told = node.twillctl_told(arguments)?;
    assert_eq!(told.status, Some(status), "{arguments:?}: {told:?}");
    is_golden("operator", name, &by_the_rest(&(told.stdout + &told.stderr)));
    Ok(())
}

/// The rows of each table by all but their first column: blocks, of which each run has other ones.
fn by_the_rest(text: &str) -> String {
    let mut shown = Vec::new();
    for part in text.trim_end().split("\n\n") {
        let mut lines: Vec<&str> = part.lines().collect();
        if lines.first().is_some_and(|heading| heading.starts_with("BLOCK ")) {
            lines[1..].sort_by_key(|line| line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>());
        }
        shown.push(lines.join("\n") + "\n");
    }
    shown.join("\n")
}

/// Until the nodes have told what each has free: of two blocks of 64 addresses, two are the tunnel's.
fn is_counted(node: &Node, free: &[&str]) -> Result<()> {
    deadline::until_some(&format!("{free:?} are free"), PATIENCE, || {
        let told = node.twillctl(&["node", "list"])?;
        let rows = told.lines().skip(1).take_while(|row| !row.is_empty());
        let counts: Vec<&str> = rows.filter_map(|row| row.split_whitespace().nth_back(1)).collect();
        Ok(if counts == free { Ok(()) } else { Err(told) })
    })
}

#[test]
fn what_is_asked_of_a_cluster_that_is_well_is_told_as_its_file_has_it() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let (one, two) = (lab.node(1), lab.node(2));
        let pod = one.create_pod("a")?;
        pod.add_as("shop", "till-0")?;
        let ip = pod.address(false)?.to_string();
        let by_mirror = format!("{ip} is an address of pod shop/till-0 on n1\n");
        comes_to_tell(two, &["why", "ip", &ip], 0, &by_mirror)?;
        comes_to_tell(two, &["ipam", "check"], 0, "2 addresses in use")?;
        comes_to_tell(one, &["status", "--wait", "1m"], 0, "no problems\n")?;
        is_counted(one, &["124", "126"])?;
        for (name, arguments) in [
            ("node-list", &["node", "list"][..]),
            ("node-show", &["node", "show", "n1"]),
            ("ipam-show", &["ipam", "show"]),
            ("ipam-check", &["ipam", "check"]),
            ("why-ip", &["why", "ip", &ip]),
            ("version", &["version", "--cluster"]),
        ] {
            is_shown(one, name, arguments, 0)?;
        }

        let file = lab.directory().join("wanted.toml");
        let wanted = format!("{}\n[firewall]\nopen_forward = true\n", lab.cluster_config());
        std::fs::write(&file, wanted).map_err(LabError::io("writing a configuration"))?;
        let file = file.display().to_string();
        is_shown(one, "config-diff", &["config", "diff", &file], 1)?;
        is_shown(one, "config-apply", &["config", "apply", &file], 0)?;
        is_shown(one, "config-same", &["config", "diff", &file], 0)
    });
}

#[test]
fn a_node_that_leaves_is_told_of_as_its_file_has_it() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let (one, two) = (lab.node(1), lab.node(2));
        is_counted(one, &["126", "126"])?;
        is_shown(one, "node-drain", &["node", "drain", "n2"], 0)?;
        deadline::until("it is known to have no pods", PATIENCE, || {
            Ok(one.twillctl_told(&["why", "node", "n2"])?.stdout.contains("it is drained and has no pods"))
        })?;
        is_counted(one, &["126", "0"])?;
        is_shown(one, "node-drained", &["node", "list"], 0)?;
        is_shown(one, "node-delete-alive", &["node", "delete", "n2"], 1)?;
        two.stop_daemon()?;
        lab.etcd().delete("alive/n2")?;
        is_shown(one, "node-delete", &["node", "delete", "n2"], 0)
    });
}
