//! Nodes among themselves.

use twill_tests::wire::Underlay;
use twill_tests::{Lab, with_lab};

use super::stage::{BGP, all_reach_all, pods, sessions_are_up};

#[test]
fn four_nodes_mesh_and_their_pods_reach_each_other() {
    with_lab(Lab::builder().nodes(4).backend(BGP), |lab| {
        for node in lab.nodes() {
            let others = lab.nodes().iter().filter(|other| other.name() != node.name());
            sessions_are_up(node, &others.map(|other| format!("node {}", other.name())).collect::<Vec<_>>())?;
        }
        all_reach_all(&pods(lab)?, &[false, true])
    });
}

#[test]
fn a_mesh_over_ipv6_alone_carries_ipv4_too() {
    with_lab(Lab::builder().nodes(2).underlay(Underlay::V6).backend(BGP), |lab| {
        sessions_are_up(lab.node(1), &["node n2".to_owned()])?;
        all_reach_all(&pods(lab)?, &[false, true])
    });
}
