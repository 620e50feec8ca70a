//! Nodes that join and leave.

use serde_json::Value;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::lab::{PROTOCOL_CLUSTER, VXLAN};
use twill_tests::{Lab, LabError, Node, Pod, Result, with_lab};

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
