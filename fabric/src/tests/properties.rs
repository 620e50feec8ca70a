//! What holds of every cluster.

use proptest::prelude::*;

use super::print::{objects, print};
use super::sample::{Sample, mac, name};
use super::{Learned, Local, Reckoning, desired};
use crate::family::Family;
use crate::reckoning::count;

/// A node's number, its underlay's families (bit 0 for IPv4, bit 1 for IPv6), and how many blocks it has of each family.
type Node = (u16, u8, u8, u8);

fn nodes() -> impl Strategy<Value = Vec<Node>> {
    prop::collection::btree_map(2..60u16, (1..4u8, 0..3u8, 0..3u8), 1..10)
        .prop_map(|nodes| nodes.into_iter().map(|(number, (a, b, c))| (number, a, b, c)).collect())
}

/// The objects that name one node, as text that appears in no other node's.
struct Marks(Vec<String>);

fn add(sample: Sample, (number, families, v4, v6): Node) -> Sample {
    let ends = [format!("192.168.9.{number}/24"), format!("fd09::{number:x}/64")];
    let ends: Vec<&str> =
        ends.iter().enumerate().filter(|(bit, _)| families & (1 << bit) != 0).map(|(_, end)| end.as_str()).collect();
    let mut sample = sample.node(number, &ends);
    for at in 0..v4 {
        sample = sample.block(number, &format!("10.42.{number}.{}/26", u32::from(at) * 64));
    }
    for at in 0..v6 {
        sample = sample.block(number, &format!("fd42::{number:x}:{:x}/122", u32::from(at) * 64));
    }
    sample
}

fn cluster(nodes: &[Node]) -> Sample {
    let own = Sample::new(&["10.42.0.0/16", "fd42::/64"]);
    let own = add(own, (1, 3, 1, 1));
    nodes.iter().fold(own, |sample, node| add(sample, *node))
}

fn marks(number: u16) -> Marks {
    Marks(vec![
        mac(number).to_string(),
        format!("192.168.9.{number}\""),
        format!("192.168.9.{number}\n"),
        format!("fd09::{number:x}\""),
        format!("fd09::{number:x}\n"),
        format!("10.42.{number}."),
        format!("fd42::{number:x}:"),
        format!("{} ", mac(number).link_local()),
        format!("node {} ", name(number)),
    ])
}

/// A local state with what has an order in it turned about.
fn reversed(mut local: Local) -> Local {
    local.pods.reverse();
    local.blocks.reverse();
    local
}

proptest! {
    #[test]
    fn the_order_in_which_records_came_does_not_matter(nodes in nodes(), seed in any::<u64>()) {
        let mut shuffled = nodes.clone();
        shuffled.sort_by_key(|node| (u64::from(node.0) + 1).wrapping_mul(seed | 1));
        let (one, other) = (cluster(&nodes), cluster(&shuffled));
        let pods = ["10.42.1.1", "10.42.1.2,fd42::1:1", "10.42.1.2"];
        let (local, turned) = (one.local(1, &pods), reversed(one.local(1, &pods)));
        prop_assert_eq!(desired(&one.view, &local), desired(&other.view, &turned));
    }

    #[test]
    fn a_node_that_leaves_takes_all_that_names_it_and_nothing_else(nodes in nodes(), which in any::<prop::sample::Index>()) {
        let leaver = nodes[which.index(nodes.len())].0;
        let with = cluster(&nodes);
        let local = with.local(1, &["10.42.1.1,fd42::1:1"]);
        let before = desired(&with.view, &local);
        let without = with.without(leaver);
        let after = desired(&without.view, &local);
        let text = print(&after) + "\n";
        for mark in marks(leaver).0 {
            prop_assert!(!text.contains(&mark), "{mark:?} is still in\n{text}");
        }
        let stood = objects(&before.state);
        let new: Vec<String> = objects(&after.state).into_iter().filter(|line| !stood.contains(line)).collect();
        prop_assert!(new.is_empty(), "a departure added {new:?}");
        let rest: Vec<Node> = nodes.into_iter().filter(|node| node.0 != leaver).collect();
        prop_assert_eq!(after, desired(&cluster(&rest).view, &local));
    }

    #[test]
    fn two_nodes_agree_about_the_family_between_them(nodes in nodes()) {
        let sample = cluster(&nodes);
        for (number, ..) in &nodes {
            let there = desired(&sample.view, &sample.local(*number, &[])).state;
            let here = desired(&sample.view, &sample.local(1, &[])).state;
            let to = |state: &crate::KernelState, number| {
                state.fdb.values().find(|entry| entry.mac == mac(number)).map(|entry| Family::of(entry.remote))
            };
            prop_assert_eq!(to(&here, *number), to(&there, 1));
            prop_assert!(to(&here, *number).is_some(), "node 1 has both families");
        }
    }
}

#[test]
fn five_thousand_nodes_are_each_looked_at_once_and_then_those_that_change() {
    const NODES: u16 = 5000;
    let ends = |number: u16| format!("172.16.{}.{}/16", number >> 8, number & 255);
    let mut sample = Sample::new(&["10.0.0.0/8", "fd42::/64"]);
    for number in 1..=NODES {
        let first = u32::from(number) * 64;
        let v4 = std::net::Ipv4Addr::from_bits(0x0a00_0000 + first);
        sample = sample.node(number, &[&ends(number)]);
        sample = sample.block(number, &format!("{v4}/26")).block(number, &format!("fd42::{number:x}:0/122"));
    }
    let local = sample.local(1, &[]);
    count::take();
    let mut reckoning = Reckoning::default();
    let desired = reckoning.follow(&sample.view, &local, &Learned::default());
    let visits = count::take();
    let others = usize::from(NODES) - 1;
    assert_eq!(visits, others);
    assert_eq!(desired.problems, [""; 0]);
    assert_eq!(desired.state.fdb.len(), others);
    assert_eq!(desired.state.neighbours.len(), 2 * others);
    assert_eq!(desired.state.routes.len(), 2 * others + 2 + 2, "blocks of others, of ours, and pools");

    let moved = sample.but(77, |record| record.value.underlay.ipv4 = Some("172.16.99.77/16".parse().unwrap()));
    let after = reckoning.follow(&moved.view, &local, &Learned::default());
    assert_eq!(count::take(), 1);
    assert_eq!(desired.state.fdb.diff(&after.state.fdb).count(), 1);
    let with_pods = moved.local(1, &["10.0.0.64"]);
    assert_eq!(
        reckoning.follow(&moved.view, &with_pods, &Learned::default()).state.routes.len(),
        desired.state.routes.len() + 1
    );
    assert_eq!(count::take(), 0, "a pod of ours is nothing to the others");
}
