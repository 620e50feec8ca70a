//! What is told of faults, word by word.

use twill_tests::golden::{is_golden, problems_of};
use twill_tests::{Lab, PoolSpec, Underlay, with_lab};

use super::stage::{FIRST, dropping, says};

#[test]
fn what_is_told_of_faults_of_the_network_is_as_the_golden_files_have_it() {
    with_lab(Lab::builder().nodes(2).underlay(Underlay::V4).pools([PoolSpec::v4()]), |lab| {
        let forward = "type filter hook forward priority 5; policy drop";
        let faults = [
            ("dropped-vxlan", FIRST, "udp dport 4789 drop"),
            ("wrong-mtu", FIRST, "udp dport 4789 meta length > 1400 drop"),
            ("forward-drop", forward, "ct state invalid drop"),
        ];
        for (name, hook, rule) in faults {
            let told = dropping(lab.node(2), hook, rule, || says(lab.node(1), &["test"], 1))?;
            is_golden("trials", name, &problems_of(&told.stdout, &[]));
        }
        Ok(())
    });
}

#[test]
fn what_is_told_of_nodes_that_take_no_part_is_as_the_golden_files_have_it() {
    with_lab(Lab::builder().nodes(2).underlay(Underlay::V4).pools([PoolSpec::v4()]).asleep(), |lab| {
        let (one, two) = (lab.node(1), lab.node(2));
        one.start_daemon()?;
        two.start_daemon_with(&["--cni-bin-dir", "/nowhere"])?;
        lab.converged()?;
        let told = says(one, &["test"], 1)?;
        is_golden("trials", "missing-plugin", &problems_of(&told.stdout, &[]));
        two.kill_daemon()?;
        let both = ["test", "--nodes", "n1,n2", "--timeout", "1"];
        let silent = says(one, &both, 2)?;
        is_golden("trials", "silent-daemon", &untold(&silent.stdout));
        // As when its lease has ended.
        assert!(lab.etcd().delete("alive/n2")?);
        let stopped = says(one, &both, 2)?;
        is_golden("trials", "stopped-daemon", &untold(&stopped.stdout));
        lab.etcd().stop()?;
        let dead = says(one, &["test"], 2)?;
        assert_eq!(dead.stdout, "");
        is_golden("trials", "dead-etcd", &dead.stderr);
        Ok(())
    });
}

/// What could not be told, each with what to do, and the line that sums up.
fn untold(text: &str) -> String {
    let (mut told, mut goes_on) = (String::new(), false);
    for line in text.lines() {
        let is_it = line.starts_with("COULD NOT TELL");
        if is_it || line.contains(" ways ") || (goes_on && line.starts_with("    fix: ")) {
            told += &format!("{line}\n");
        }
        goes_on = is_it;
    }
    told
}

#[test]
fn what_is_told_of_an_exhausted_pool_is_as_the_golden_file_has_it() {
    // A block of four addresses for each node, one of them the tunnel's; the pods of a trial are two.
    let pool = PoolSpec::new("v4", "10.42.0.0/29", Some(30));
    with_lab(Lab::builder().nodes(2).underlay(Underlay::V4).pools([pool]), |lab| {
        let (one, two) = (lab.node(1), lab.node(2));
        for pod in ["a", "b"] {
            two.attach(pod)?;
        }
        let told = says(one, &["test"], 1)?;
        is_golden("trials", "exhausted-pool", &problems_of(&told.stdout, &[]));
        Ok(())
    });
}
