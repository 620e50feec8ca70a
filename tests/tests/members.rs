//! Nodes that join and leave.

use ipnetwork::IpNetwork;
use serde_json::Value;
use twill_tests::cni::{Verb, code};
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::lab::{PROTOCOL_CLUSTER, VXLAN};
use twill_tests::{Lab, LabError, Node, Pod, PoolSpec, Result, with_lab};

/// Both ways, in both families.
fn reach_each_other(a: &Pod, b: &Pod) -> Result<()> {
    for ipv6 in [false, true] {
        a.ping_small_and_full(b.address(ipv6)?)?;
        b.ping_small_and_full(a.address(ipv6)?)?;
    }
    Ok(())
}

/// All that a node's kernel knows of the others: routes, neighbours and FDB entries, as text.
fn known_of_others(node: &Node) -> Result<String> {
    let protocol = PROTOCOL_CLUSTER.to_string();
    let parts = [
        node.run(&["ip", "-N", "-4", "route", "show", "proto", &protocol])?,
        node.run(&["ip", "-N", "-6", "route", "show", "proto", &protocol])?,
        node.run(&["ip", "-4", "neigh", "show", "dev", VXLAN])?,
        node.run(&["ip", "-6", "neigh", "show", "dev", VXLAN])?,
        node.run(&["bridge", "fdb", "show", "dev", VXLAN])?,
    ];
    Ok(parts.join("\n"))
}

/// What the others' kernels must know of a node: its blocks, its tunnel and underlay addresses, its VTEP's MAC.
fn traces_of(lab: &Lab, name: &str) -> Result<Vec<String>> {
    let records = lab.etcd().nodes()?;
    let (_, record) = records
        .iter()
        .find(|(node, _)| node == name)
        .ok_or_else(|| LabError::wrong(format!("{name} has no record")))?;
    let mut traces: Vec<String> = lab.etcd().blocks_of(name)?.iter().map(ToString::to_string).collect();
    let text = |value: &Value| value.as_str().map(|s| s.split('/').next().unwrap_or(s).to_owned());
    traces.extend(text(&record["tunnel"]["ipv4"]));
    traces.extend(text(&record["vxlan"]["mac"]));
    assert!(traces.len() >= 4, "two blocks, a tunnel address and a MAC: {record}");
    Ok(traces)
}

#[test]
fn a_fourth_node_joins_and_is_reachable() {
    with_lab(Lab::builder(), |lab| {
        let first = lab.node(1).add_pod("a")?;
        lab.join()?;
        lab.converged()?;
        let fourth = lab.node(4).add_pod("d")?;
        reach_each_other(&first, &fourth)
    });
}

#[test]
fn the_routes_neighbours_and_fdb_entries_of_a_deleted_node_go() {
    with_lab(Lab::builder(), |lab| {
        let (a, b) = (lab.node(1).add_pod("a")?, lab.node(2).add_pod("b")?);
        let traces = traces_of(lab, "n3")?;
        for number in [1, 2] {
            let known = known_of_others(lab.node(number))?;
            for trace in &traces {
                assert!(known.contains(trace.as_str()), "n{number} should know {trace}:\n{known}");
            }
        }

        lab.node(3).kill_daemon()?;
        for block in lab.etcd().blocks()?.iter().filter(|b| b.node == "n3") {
            assert!(lab.etcd().delete(&block.key)?, "{} was there", block.key);
        }
        assert!(lab.etcd().delete("nodes/n3")?);

        for number in [1, 2] {
            deadline::until_some(&format!("n{number} has forgotten n3"), PATIENCE, || {
                let known = known_of_others(lab.node(number))?;
                let left = traces.iter().find(|trace| known.contains(trace.as_str()));
                Ok(left.map_or(Ok(()), |trace| Err(format!("{trace} in\n{known}"))))
            })?;
        }
        reach_each_other(&a, &b)
    });
}

#[test]
fn a_node_that_was_deleted_can_join_again() {
    with_lab(Lab::builder().nodes(2), |lab| {
        lab.node(2).kill_daemon()?;
        for block in lab.etcd().blocks()?.iter().filter(|b| b.node == "n2") {
            lab.etcd().delete(&block.key)?;
        }
        lab.etcd().delete("nodes/n2")?;
        lab.node(2).start_daemon()?;
        lab.converged()?;
        let (a, b) = (lab.node(1).add_pod("a")?, lab.node(2).add_pod("b")?);
        reach_each_other(&a, &b)
    });
}

#[test]
fn another_machine_with_the_name_of_a_node_is_refused() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let node = lab.node(2);
        let record = lab.etcd().read("nodes/n2")?;
        node.kill_daemon()?;
        node.set_machine_id("0123456789abcdef0123456789abcdef")?;
        node.start_daemon()?;
        // Whether it ends or keeps trying is its own affair: it says why, and touches nothing.
        let machine = record[0].1["machine_id"].as_str().unwrap_or_default().to_owned();
        deadline::until("the daemon names the other machine", PATIENCE, || Ok(node.daemon_log().contains(&machine)))?;
        assert_eq!(lab.etcd().read("nodes/n2")?, record);
        Ok(())
    });
}

/// Two nodes with two blocks of four addresses each; nobody can have any of the other blocks, which somebody wrote by hand.
/// The pods, four on each node, and the keys of the blocks that are nobody's.
fn two_nodes_with_all_blocks(lab: &Lab) -> Result<(Vec<Pod>, Vec<String>)> {
    let mut pods = Vec::new();
    for node in lab.nodes() {
        // One address is the tunnel's; the fourth pod needs a second block.
        for n in 0..4 {
            pods.push(node.attach(&format!("{}{n}", node.name()))?);
        }
    }
    assert_eq!((lab.etcd().blocks_of("n1")?.len(), lab.etcd().blocks_of("n2")?.len()), (2, 2));
    let taken: Vec<String> = lab.etcd().blocks()?.into_iter().map(|block| block.key).collect();
    let all = (0..16).map(|n| format!("blocks/4/{:08x}-30", 0x0a2a_0000 + 4 * n));
    let others: Vec<String> = all.filter(|key| !taken.contains(key)).collect();
    let nobody = r#"{"node": "nobody", "machine_id": "ffffffffffffffff", "epoch": 1, "nonce": "x-1"}"#;
    others.iter().try_for_each(|key| lab.etcd().put(key, nobody))?;
    Ok((pods, others))
}

/// What an operator does about a node that is off; the wait for the end of its lease is left out.
fn declare_off(lab: &Lab, name: &str) -> Result<()> {
    lab.etcd().delete(&format!("alive/{name}"))?;
    lab.node(1).twillctl(&["node", "delete", name, "--machine-is-off"]).map(drop)
}

fn lies_in(pod: &Pod, block: IpNetwork) -> Result<bool> {
    Ok(block.contains(pod.address(false)?))
}

#[test]
fn a_node_that_was_deleted_while_cut_off_comes_back_and_gives_nothing_of_what_it_lost() {
    with_lab(Lab::builder().nodes(2).pools([PoolSpec::new("v4", "10.42.0.0/26", Some(30))]), |lab| {
        let (pods, others) = two_nodes_with_all_blocks(lab)?;
        let near = &pods[0];
        let own: Vec<IpNetwork> = lab.etcd().blocks_of("n2")?;
        lab.wire().set_port("n2", false)?;
        declare_off(lab, "n2")?;
        lab.join()?;
        // n3 finds two free blocks, and takes one of them.
        deadline::until("n3 has a block", PATIENCE, || Ok(!lab.etcd().blocks_of("n3")?.is_empty()))?;
        let taken = lab.etcd().blocks_of("n3")?[0];
        let left = *own.iter().find(|block| **block != taken).ok_or_else(|| LabError::wrong("nothing is left"))?;
        others.iter().try_for_each(|key| lab.etcd().delete(key).map(drop))?;
        // As long as it is cut off it cannot know, and serves its pods; then it hears of it.
        lab.wire().set_port("n2", true)?;
        let node = lab.node(2);
        node.says(&format!("block {taken} was this node's and now belongs to n3"))?;
        lab.node(3).says(&format!("block {taken} of this node was n2's before, which still has pods in it"))?;
        deadline::until_some("n2 has again what nobody took", PATIENCE, || {
            let own = lab.etcd().blocks_of("n2")?;
            Ok(if own.contains(&left) && !own.contains(&taken) { Ok(()) } else { Err(own) })
        })?;
        let disputes = lab.etcd().read("nodes/n2")?[0].1["disputes"].clone();
        assert_eq!(disputes, serde_json::json!([taken]));

        // Neither gives an address of it, whatever else there is.
        for number in [2, 3] {
            for n in 0..4 {
                let pod = lab.node(number).create_pod(&format!("x{number}{n}"))?;
                let answer = pod.call(Verb::Add)?;
                if answer.success {
                    assert!(!lies_in(&pod, taken)?, "{:?} of a disputed block", pod.address(false)?);
                } else {
                    assert!(matches!(answer.code(), Some(code::LATER | code::NO_ADDRESS)), "{}", answer.output);
                }
            }
        }
        // The running pods keep what they have, and where nobody took the block others reach them.
        for pod in &pods[4..] {
            pod.call(Verb::Check)?.expect_success()?;
            if lies_in(pod, left)? {
                deadline::until(&format!("{} is reached", pod.name()), PATIENCE, || {
                    Ok(near.ping(pod.address(false)?, 56).is_ok())
                })?;
            }
        }
        Ok(())
    });
}

#[test]
fn a_second_machine_with_the_name_of_a_living_node_is_refused_and_does_not_disturb_it() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let pod = lab.node(1).attach("a")?;
        lab.node(2).kill_daemon()?;
        // The pod's MTU falls in the record a moment after the pod is there; nothing else changes it from then on.
        let record = deadline::until_some("n1's record tells its pod's MTU", PATIENCE, || {
            let record = lab.etcd().read("nodes/n1")?;
            Ok(if record[0].1["path"]["pods"] == 0 { Err(record) } else { Ok(record) })
        })?;
        lab.node(2).start_daemon_named("n1")?;
        lab.node(2).says("the node name n1 belongs to another machine")?;
        lab.node(2).says("--node-name")?;
        // It has blocks of its former life under its own name; under this one it gives nothing.
        let refused = lab.node(2).create_pod("r")?.call(Verb::Add)?;
        refused.expect_code(code::LATER)?;
        assert_eq!(lab.etcd().read("nodes/n1")?, record, "it wrote over the record");
        assert!(!lab.node(1).daemon_log().contains("was changed by somebody else"));
        pod.check()?;
        lab.node(1).attach("b")?.check()
    });
}

#[test]
fn a_node_whose_machine_was_copied_assigns_nothing_more_and_says_so() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let (first, second) = (lab.node(1), lab.node(2));
        let living = [first.attach("a")?, first.attach("b")?];
        // Name and machine ID are those of n1: nothing but the run tells them apart.
        second.kill_daemon()?;
        second.set_machine_id(&first.machine_id())?;
        second.start_daemon_named("n1")?;
        first.says("the record of n1 in etcd was changed by somebody else: nothing more is assigned here")?;
        first.says("look for a second machine with this node's name and machine ID")?;
        deadline::until("n1 has closed its blocks", PATIENCE, || {
            Ok(first.query_store("SELECT count(*) FROM block WHERE state = 'open'")? == "0")
        })?;
        first.create_pod("c")?.call(Verb::Add)?.expect_code(code::LATER)?;
        living.iter().try_for_each(Pod::check)
    });
}

#[test]
fn blocks_of_different_nodes_never_overlap() {
    with_lab(Lab::builder().nodes(5), |lab| {
        let blocks = lab.etcd().blocks()?;
        for (n, one) in blocks.iter().enumerate() {
            for other in &blocks[n + 1..] {
                let apart = !one.cidr.contains(other.cidr.ip()) && !other.cidr.contains(one.cidr.ip());
                assert!(apart, "{one:?} and {other:?}");
            }
        }
        assert!(blocks.len() >= 10, "a block of each family on five nodes: {blocks:?}");
        Ok(())
    });
}
