//! Faults of the network and of nodes: each is one problem with its cause and what to do.

use std::os::unix::fs::symlink;

use serde_json::Value;
use twill_tests::{Lab, LabError, PoolSpec, Underlay, with_lab};

use super::stage::{FIRST, GONE, dropping, json, nothing_is_left, says, standing};

/// The problems, as lines.
fn problems(found: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let line = |problem: &Value| {
        format!("{}: {}; {}", text(&problem["subject"]), text(&problem["what"]), text(&problem["fix"]))
    };
    found["problems"].as_array().into_iter().flatten().map(line).collect()
}

/// That there is one problem, with these words.
fn is_one(found: &Value, words: &[&str]) {
    let problems = problems(found);
    assert!(problems.len() == 1 && words.iter().all(|word| problems[0].contains(word)), "{words:?}: {problems:#?}");
}

#[test]
fn a_tunnel_that_is_dropped_and_one_that_carries_small_packets_only_are_told_apart() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let (one, two) = (lab.node(1), lab.node(2));
        let before = standing(lab)?;
        let cut = dropping(two, FIRST, "udp dport 4789 drop", || json(one, &["test"], 1))?;
        is_one(&cut, &["pods on n1 and n2: ", "answers, but not through the tunnel", "UDP port 4789"]);
        let rule = "udp dport 4789 meta length > 1400 drop";
        let small = dropping(two, FIRST, rule, || json(one, &["test"], 1))?;
        let words =
            ["pods on n1 to n2: small packets to n2", "those of 1450 bytes, the MTU of pods, do not", "1500 bytes"];
        is_one(&small, &words);
        // What is dropped on the way to n2 says nothing of the way back.
        let verdict = |from: &str, to: &str| {
            let mut ways = small["ways"].as_array().into_iter().flatten();
            let is = |way: &&Value| way["kind"] == "pod-to-pod" && way["from"] == from && way["to"] == to;
            ways.find(is).map(|way| way["verdict"].clone()).unwrap_or_default()
        };
        assert_eq!((verdict("n1", "n2"), verdict("n2", "n1")), ("small-only".into(), "passed".into()));
        nothing_is_left(lab, &before, GONE)
    });
}

#[test]
fn plain_packets_with_pods_addresses_that_are_dropped_are_told() {
    with_lab(
        Lab::builder().nodes(2).underlay(Underlay::V4).pools([PoolSpec::v4()]).backend("type = \"host-gw\"\n"),
        |lab| {
            let rule = "iifname eth0 ip saddr 10.42.0.0/16 drop";
            let cut = dropping(lab.node(2), FIRST, rule, || json(lab.node(1), &["test", "--family", "4"], 1))?;
            let problems = problems(&cut);
            assert!(
                problems[0].contains("the nodes reach each other") && problems[0].contains("back end vxlan"),
                "{problems:?}"
            );
            Ok(())
        },
    );
}

#[test]
fn a_node_that_forwards_nothing_is_told_and_not_each_way_that_fails_by_it() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let hook = "type filter hook forward priority 5; policy drop";
        let found = dropping(lab.node(1), hook, "ct state invalid drop", || json(lab.node(2), &["test"], 1))?;
        is_one(&found, &["node n1: it reaches its pods, and they do not reach each other", "open_forward = true"]);
        Ok(())
    });
}

#[test]
fn a_rule_that_masquerades_from_pod_to_pod_is_told() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let one = lab.node(1);
        let hook = "type nat hook postrouting priority 90";
        let rule = "ip saddr 10.42.0.0/16 oifname vxlan.twill masquerade";
        let found = dropping(one, hook, rule, || json(one, &["test", "--family", "4"], 1))?;
        is_one(&found, &["node n1: a pod there that sends by 10.42.", " is heard as ", "nft list ruleset"]);
        Ok(())
    });
}

#[test]
fn a_node_without_the_plugin_is_told_and_the_others_are_tested() {
    with_lab(Lab::builder().nodes(2).asleep(), |lab| {
        let (one, two) = (lab.node(1), lab.node(2));
        one.start_daemon()?;
        two.start_daemon_with(&["--cni-bin-dir", "/nowhere"])?;
        lab.converged()?;
        let found = json(one, &["test"], 1)?;
        is_one(
            &found,
            &["node n2: the plugin is not at /nowhere/twill", "twilld install", "as cni_bin_dir in twilld's file"],
        );
        assert_eq!(found["nodes"], serde_json::json!(["n1"]));
        two.kill_daemon()?;
        // As long as is waited for it, the pods of others stand.
        let silent = says(one, &["test"], 2)?;
        assert!(silent.stdout.contains("COULD NOT TELL: node n2: no answer within "), "{silent:?}");
        assert!(!silent.stdout.contains("PROBLEM"), "{silent:?}");
        Ok(())
    });
}

#[test]
fn a_node_without_iperf3_is_told_by_bench_and_its_pods_go() {
    with_lab(Lab::builder().nodes(2).asleep(), |lab| {
        let programs = lab.directory().join("programs");
        std::fs::create_dir_all(&programs).map_err(LabError::io("making a directory of programs"))?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        for program in ["nft", "ip"] {
            let found =
                std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.exists());
            let found = found.ok_or_else(|| LabError::wrong(format!("there is no {program}")))?;
            symlink(found, programs.join(program)).map_err(LabError::io("linking a program"))?;
        }
        lab.node(1).start_daemon()?;
        lab.node(2).start_daemon_with_programs_in(&programs)?;
        lab.converged()?;
        let before = standing(lab)?;
        let found = json(lab.node(1), &["bench", "--repeat", "1", "--seconds", "1"], 1)?;
        is_one(&found, &["node n2: there is no iperf3; install it"]);
        nothing_is_left(lab, &before, GONE)
    });
}
