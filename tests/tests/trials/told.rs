//! What is told of faults, word by word.

use twill_tests::golden::{is_golden, problems_of};
use twill_tests::{Lab, LabError, PoolSpec, Underlay, with_lab};

use super::stage::{FIRST, GONE, dropping, nothing_is_left, says, standing};

/// As short as it can be.
const BENCH: [&str; 5] = ["bench", "--repeat", "1", "--seconds", "1"];

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
fn what_is_told_of_a_node_that_does_not_send_is_as_the_golden_files_have_it() {
    with_lab(Lab::builder().nodes(2).underlay(Underlay::V4).pools([PoolSpec::v4()]), |lab| {
        let one = lab.node(1);
        let [block] = lab.etcd().blocks_of("n2")?.try_into().map_err(|all| LabError::wrong(format!("{all:?}")))?;
        let block = block.to_string();
        let route = |verb: &str| format!("ip route {verb} blackhole {block} proto static metric 5");
        one.run_script(&route("add"), &[])?;
        // Whoever asks, and of whichever direction is told first: it is the node that has the route.
        for node in lab.nodes() {
            let told = says(node, &["test"], 1)?;
            is_golden("trials", "route-that-refuses", &problems_of(&told.stdout, &[]));
        }
        one.run_script(&route("del"), &[])?;
        let output = "type filter hook output priority 0";
        let kept = dropping(one, output, &format!("ip daddr {block} drop"), || says(one, &["test"], 1))?;
        is_golden("trials", "own-firewall", &problems_of(&kept.stdout, &[]));
        Ok(())
    });
}

#[test]
fn what_bench_tells_of_faults_is_as_the_golden_files_have_it() {
    with_lab(Lab::builder().nodes(2).underlay(Underlay::V4).pools([PoolSpec::v4()]), |lab| {
        let (one, two) = (lab.node(1), lab.node(2));
        let forward = "type filter hook forward priority 5; policy drop";
        let faults =
            [("dropped-vxlan", FIRST, "udp dport 4789 drop"), ("forward-drop", forward, "ct state invalid drop")];
        let before = standing(lab)?;
        for (name, hook, rule) in faults {
            let told = dropping(two, hook, rule, || says(one, &BENCH, 1))?;
            is_golden("trials", &format!("bench-{name}"), &problems_of(&told.stdout, &[]));
        }
        nothing_is_left(lab, &before, GONE)?;
        two.kill_daemon()?;
        // As when its lease has ended.
        assert!(lab.etcd().delete("alive/n2")?);
        let named = ["--nodes", "n2,n1"];
        for words in [&BENCH[..], &[&BENCH[..], &named].concat()] {
            let told = says(one, words, 1)?;
            assert!(told.stdout.contains("nothing was measured"), "{told:?}");
            is_golden("trials", "bench-stopped-daemon", &problems_of(&told.stdout, &[]));
        }
        lab.etcd().stop()?;
        let dead = says(one, &BENCH, 2)?;
        assert_eq!(dead.stdout, "");
        is_golden("trials", "bench-dead-etcd", &dead.stderr);
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
        for words in [&both[..], &["test"], &["test", "--all"]] {
            let stopped = says(one, words, 1)?;
            assert!(
                !stopped.stdout.contains("COULD NOT TELL") && !stopped.stdout.contains("no problems"),
                "{stopped:?}"
            );
            is_golden("trials", "stopped-daemon", &problems_of(&stopped.stdout, &[]));
        }
        // Of a node that is not named nothing is said.
        says(one, &["test", "--nodes", "n1"], 0)?;
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
        // The one address that is left cools, since a pod of that trial had it.
        let told = says(one, &BENCH, 1)?;
        is_golden("trials", "bench-exhausted-pool", &problems_of(&told.stdout, &[]));
        Ok(())
    });
}
