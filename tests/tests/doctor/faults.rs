//! Faults of a cluster that runs: each comes, is told, goes, and is told no more.

use std::fs;

use serde_json::{Value, json};
use twill_testkit::commands_of;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::golden::{is_golden, problems_of};
use twill_tests::{Lab, LabError, Node, PoolSpec, Result, Underlay, with_lab};

use super::stage::{
    comes_to_be_golden, comes_to_be_good, comes_to_print_all_good, comes_to_tell, look, start, start_deaf,
    status_comes_to_be_golden,
};

/// What is done to the second node, what is told of whom, and how it is undone; its golden file.
struct Fault {
    golden: &'static str,
    done: fn(&Node) -> Result<()>,
    undone: fn(&Node) -> Result<()>,
    subject: &'static str,
    what: &'static str,
    fix: &'static str,
    /// What `twillctl status` says of it, which looks at less.
    status: Option<[&'static str; 2]>,
}

fn nft(node: &Node, rules: &str) -> Result<()> {
    node.run(&["nft", rules]).map(drop)
}

fn drop_here(node: &Node, rules: &str) -> Result<()> {
    nft(
        node,
        &format!("table inet fault {{ chain faults {{ type filter hook prerouting priority -200; {rules} drop; }}; }}"),
    )
}

fn mend_here(node: &Node) -> Result<()> {
    nft(node, "delete table inet fault")
}

fn foreign(node: &Node) -> std::path::PathBuf {
    node.net_d().join("00-other.conflist")
}

const FAULTS: [Fault; 7] = [
    Fault {
        golden: "dropped-vxlan",
        done: |node| drop_here(node, "udp dport 4789"),
        undone: mend_here,
        subject: "node n1",
        what: "answers, but not through the tunnel",
        fix: "UDP port 4789",
        status: Some(["node n1: n2", "not through the tunnel"]),
    },
    Fault {
        golden: "shut-tunnel",
        done: |node| {
            nft(node, "table inet guard { chain in { type filter hook input priority 0; udp dport 4789 drop; }; }")
        },
        undone: |node| nft(node, "delete table inet guard"),
        subject: "node n2",
        what: "inet guard in: it drops what other nodes send by the tunnel, to UDP port 4789",
        fix: "nft insert rule inet guard in udp dport 4789 accept",
        status: None,
    },
    Fault {
        golden: "small-packets-only",
        done: |node| drop_here(node, "udp dport 4789 meta length > 1400"),
        undone: mend_here,
        subject: "node n1",
        what: "those of 1450 bytes, the MTU of pods, do not",
        fix: "1500 bytes",
        status: None,
    },
    Fault {
        golden: "wrong-mtu",
        done: |node| node.run(&["ip", "link", "set", "eth0", "mtu", "1400"]).map(drop),
        undone: |node| node.run(&["ip", "link", "set", "eth0", "mtu", "1500"]).map(drop),
        subject: "node n2",
        what: "a greater MTU than 1350",
        fix: "restart those pods",
        status: Some(["node n1: small packets to n2", "the MTU of pods"]),
    },
    Fault {
        golden: "forward-drop",
        done: |node| {
            nft(node, "table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }")
        },
        undone: |node| nft(node, "delete table ip filter"),
        subject: "node n2",
        what: "ip filter FORWARD: it drops what pods send and get: its policy is drop",
        fix: "open_forward = true",
        status: Some(["node n2: ", "FORWARD"]),
    },
    Fault {
        golden: "foreign-conflist",
        done: |node| {
            let text = r#"{"cniVersion":"1.0.0","name":"other","plugins":[{"type":"bridge"}]}"#;
            fs::write(foreign(node), text).map_err(LabError::io("writing a network"))
        },
        undone: |node| fs::remove_file(foreign(node)).map_err(LabError::io("removing a network")),
        subject: "node n2",
        what: "it is another network's, and the first by name",
        fix: "move it away",
        status: None,
    },
    Fault {
        golden: "missing-plugin",
        done: |node| fs::remove_file(node.bin().join("twill")).map_err(LabError::io("removing the plugin")),
        undone: |node| node.install_plugin(),
        subject: "node n2",
        what: "the plugin is not there",
        fix: "twilld install",
        status: None,
    },
];

#[test]
fn a_healthy_cluster_is_good_and_each_fault_is_told_with_cause_and_fix_until_it_is_mended() {
    with_lab(Lab::builder().nodes(2).underlay(Underlay::V4).asleep(), |lab| {
        for node in lab.nodes() {
            start(node)?;
        }
        lab.converged()?;
        let (one, two) = (lab.node(1), lab.node(2));
        let _pod = two.attach("p")?;
        let said = comes_to_be_good(one)?;
        assert_eq!((&said["nodes"], &said["answered"]), (&json!(2), &json!(2)));
        let checks = said["checks"].as_array().expect("a list");
        for check in
            ["kernel", "nft", "sysctl", "conntrack", "firewall", "mtu", "tunnel", "overlap", "cni", "path", "etcd"]
        {
            let of = checks.iter().filter(|row| row["check"] == check && row["node"] == "n2" && row["state"] == "ok");
            assert_eq!(of.count(), 1, "{check}: {said:#}");
        }
        // Whether something keeps the clock is the machine's affair.
        let is_kept = |row: &&Value| row["check"] == "clock" && row["node"] == "n2";
        let clocks: Vec<_> = checks.iter().filter(is_kept).map(|row| (&row["state"], row["what"].as_str())).collect();
        let [(state, Some(what))] = clocks.as_slice() else { panic!("{said:#}") };
        assert!((**state == "ok" || **state == "note") && what.contains("in step"), "{said:#}");
        assert!(checks.iter().any(|row| row["place"] == "cluster" && row["check"] == "etcd"), "{said:#}");
        let (status, of_one) = look(one, &["--node", "n2", "--timeout", "30"])?;
        assert_eq!((status, &of_one["nodes"]), (Some(0), &json!(1)));
        let shown = one.run_script(&commands_of("doctor.md", "look"), &[("NODE", "n2")])?;
        assert!(
            shown.contains("2 of 2 nodes answered\n\nno problems\n") && shown.contains("(cluster)  etcd"),
            "{shown}"
        );

        is_golden("doctor", "healthy", &comes_to_print_all_good(one)?);
        for fault in &FAULTS {
            (fault.done)(two)?;
            comes_to_tell(one, fault.subject, fault.what, fault.fix)?;
            comes_to_be_golden(one, fault.golden, &[fault.subject, fault.what])?;
            if let Some(words) = fault.status {
                status_comes_to_be_golden(one, fault.golden, &words)?;
            }
            (fault.undone)(two)?;
            comes_to_be_good(one)?;
        }
        Ok(())
    });
}

#[test]
fn a_route_that_is_missing_is_told_by_the_way_that_lacks_it() {
    with_lab(Lab::builder().nodes(2).underlay(Underlay::V4).pools([PoolSpec::v4()]).asleep(), |lab| {
        for node in lab.nodes() {
            start_deaf(node)?;
        }
        lab.converged()?;
        let (one, two) = (lab.node(1), lab.node(2));
        let _pod = two.attach("p")?;
        comes_to_be_good(one)?;
        let block = lab.etcd().blocks()?.into_iter().find(|block| block.node == "n2");
        let block = block.expect("it has a pod").cidr.to_string();
        let words = ["node n1", "no route to the pods of n2 ("];
        let text = deadline::until_some("doctor tells of the way to n2", PATIENCE, || {
            // The timer repairs it: then it is damaged again.
            one.run(&["sh", "-c", &format!("ip route del {block} || true")])?;
            let told = one.twillctl_told(&["doctor", "--timeout", "3"])?;
            let found = problems_of(&told.stdout, &words);
            Ok(if found.is_empty() { Err(told) } else { Ok(found) })
        })?;
        assert!(text.contains("this node has no route to the pods of n2") && !text.contains("firewall"), "{text}");
        is_golden("doctor", "missing-route", &text);
        comes_to_be_good(one).map(drop)
    });
}

#[test]
fn who_is_not_there_is_named_and_who_is_silent_could_not_be_told() {
    with_lab(Lab::builder().nodes(2).underlay(Underlay::V4).asleep(), |lab| {
        for node in lab.nodes() {
            start(node)?;
        }
        lab.converged()?;
        let (one, two) = (lab.node(1), lab.node(2));
        let told = one.twillctl_told(&["doctor", "--node", "n7"])?;
        assert!(told.status == Some(1) && told.stderr.contains("there is no node n7"), "{told:?}");
        comes_to_be_good(one)?;
        two.kill_daemon()?;
        let (status, said) = look(one, &["--timeout", "2"])?;
        assert_eq!((status, &said["answered"]), (Some(2), &json!(1)), "{said:#}");
        let unknown = said["unknown"][0].as_str().unwrap_or_default();
        assert!(unknown.starts_with("node n2: no answer within 2 s; try again, with a longer --timeout"), "{said:#}");
        deadline::until("the daemon counts as stopped", 3 * PATIENCE, || {
            let (status, said) = look(one, &["--timeout", "2"])?;
            let stopped = super::stage::problem(&said, "its daemon has not been heard of for a minute");
            Ok(status == Some(1)
                && stopped.is_some_and(|one| one["fix"].as_str().is_some_and(|fix| fix.contains("twilld on n2"))))
        })
    });
}
