//! Which pools a node claims of: by selector, by what ADDs want, and how a pool is drained.

use std::time::Duration;

use serde_json::Value;
use twill_ipam::{Key, Want};

use super::*;
use crate::keeper::Refusal;

fn pool(name: &str, cidr: &str, block: u8, more: Value) -> Value {
    let mut pool = json!({ "name": name, "cidr": cidr, "block": block });
    pool.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    pool
}

fn set(etcd: &SimulatedStore, pools: &[Value]) {
    write(etcd, "config", json!({ "pool": pools, "backend": { "type": "vxlan" } }));
}

fn cluster_of(pools: &[Value]) -> SimulatedStore {
    let etcd = SimulatedStore::new();
    set(&etcd, pools);
    etcd
}

fn in_zone(etcd: &SimulatedStore, name: &str, zone: &str) -> Node {
    let mut node = Node::new(etcd, name);
    node.feed(Input::Facts(Facts { labels: [("zone".to_owned(), zone.to_owned())].into(), ..Facts::default() }));
    node
}

/// The blocks that a node has open, as text.
fn open(node: &Node) -> Vec<String> {
    node.open().iter().map(ToString::to_string).collect()
}

fn want(container: &str, pools: &[&str], address: Option<&str>) -> Want {
    let key =
        Key { network: "n".parse().unwrap(), container: container.parse().unwrap(), ifname: "eth0".parse().unwrap() };
    let pools = pools.iter().map(|pool| pool.parse().unwrap()).collect();
    Want { key: key.hash(), pools, address: address.map(|ip| ip.parse().unwrap()), at: BootTime::default() }
}

/// What becomes of a want: the blocks that it brings, or the refusal.
fn ask(node: &mut Node, pools: &[&str], address: Option<&str>) -> Result<Vec<String>, String> {
    let before: BTreeSet<Block> = node.open().into_iter().collect();
    let from = node.log.len();
    node.feed(Input::Wants(vec![want("c", pools, address)]));
    node.settle();
    node.feed(Input::Wants(Vec::new()));
    let refusal = node.log[from..]
        .iter()
        .find_map(|o| if let Output::Refuse { why, .. } = o { Some(why.to_string()) } else { None });
    match refusal {
        Some(why) => Err(why),
        None => Ok(node.open().iter().filter(|block| !before.contains(block)).map(ToString::to_string).collect()),
    }
}

const ZONE_A: &str = "zone == 'a'";

#[test]
fn a_node_claims_of_the_first_pool_that_is_for_it() {
    let etcd = cluster_of(&[
        pool("a", "10.41.0.0/16", 26, json!({ "nodes": ZONE_A })),
        pool("off", "10.42.0.0/16", 26, json!({ "disabled": true })),
        pool("all", "10.43.0.0/16", 26, json!({})),
    ]);
    let (mut a, mut b) = (in_zone(&etcd, "n1", "a"), in_zone(&etcd, "n2", "b"));
    a.settle();
    b.settle();
    assert!(open(&a)[0].starts_with("10.41.") && open(&b)[0].starts_with("10.43."), "{:?} {:?}", open(&a), open(&b));
    assert_eq!((a.claims, b.claims), (1, 1));
    assert_eq!((a.keeper.problems(), b.keeper.problems()), (&[][..], &[][..]));
}

#[test]
fn a_node_that_no_pool_is_for_claims_nothing_and_says_why() {
    let etcd = cluster_of(&[
        pool("a", "10.41.0.0/16", 26, json!({ "nodes": ZONE_A })),
        pool("off", "10.42.0.0/16", 26, json!({ "disabled": true })),
    ]);
    let mut node = in_zone(&etcd, "n1", "b");
    node.settle();
    assert_eq!(node.claims, 0);
    let told = "no pool of the cluster configuration is for this node, which has the labels zone=b: pool a is for nodes \
                with zone == 'a', pool off is disabled; change \"nodes\" or \"disabled\" of a pool, or the labels of the node";
    assert_eq!(node.keeper.problems().iter().map(ToString::to_string).collect::<Vec<_>>(), [told]);
    assert_eq!(ask(&mut node, &[], None).unwrap_err(), told, "an ADD that waits is told the same");
    set(&etcd, &[pool("a", "10.41.0.0/16", 26, json!({ "nodes": "zone in {'a', 'b'}" }))]);
    node.settle();
    assert_eq!((node.claims, node.keeper.problems()), (1, &[][..]));
}

#[test]
fn a_block_that_is_reserved_entirely_is_not_claimed() {
    let reserved = json!({ "reserved": ["10.42.0.0/27", "10.42.0.32-10.42.0.51"] });
    let etcd = cluster_of(&[pool("main", "10.42.0.0/26", 29, reserved)]);
    let mut node = Node::new(&etcd, "n1");
    node.settle();
    node.assign(false, 7);
    node.settle();
    let blocks: Vec<_> = sound_view(&etcd).blocks.keys().map(ToString::to_string).collect();
    assert_eq!(blocks, ["10.42.0.48/29", "10.42.0.56/29"]);
    node.assign(false, 16);
    node.settle();
    assert!(node.has_problem(|p| matches!(p, Problem::PoolExhausted(_))), "{:?}", node.keeper.problems());
}

#[test]
fn an_add_that_names_a_pool_brings_a_block_of_it_and_nothing_is_claimed_ahead_there() {
    let etcd = cluster_of(&[
        pool("all", "10.42.0.0/16", 26, json!({})),
        pool("a", "10.41.0.0/28", 30, json!({ "nodes": ZONE_A })),
        pool("a6", "fd41::/120", 126, json!({ "nodes": ZONE_A })),
        pool("off", "10.40.0.0/16", 26, json!({ "disabled": true })),
    ]);
    let mut node = in_zone(&etcd, "n1", "b");
    node.settle();
    assert_eq!(node.claims, 1);
    let brought = ask(&mut node, &["off", "a6", "a"], None).unwrap();
    assert!(brought.len() == 2 && brought[0].starts_with("10.41.") && brought[1].starts_with("fd41:"), "{brought:?}");
    assert_eq!(ask(&mut node, &["a"], None).unwrap(), [""; 0], "there is room");
    node.local
        .iter_mut()
        .filter(|(block, _)| block.to_string().starts_with("10.41."))
        .for_each(|(_, has)| has.assigned = 4);
    node.look();
    node.settle();
    assert_eq!(node.claims, 3, "nobody waits");
    assert_eq!(ask(&mut node, &["a"], None).unwrap().len(), 1);
    assert_eq!(
        ask(&mut node, &["of"], None).unwrap_err(),
        "the cluster configuration has no pool of; it has all, a, a6 and off: correct \"pools\" of the network configuration"
    );
    assert!(ask(&mut node, &["off"], None).unwrap_err().contains("(off) all is disabled"));
    for _ in 0..4 {
        node.local
            .iter_mut()
            .filter(|(block, _)| block.to_string().starts_with("10.41."))
            .for_each(|(_, has)| has.assigned = 4);
        node.look();
        drop(ask(&mut node, &["a"], None));
    }
    let full = ask(&mut node, &["a"], None).unwrap_err();
    assert!(full.starts_with("pool a (10.41.0.0/28) is exhausted: each of its /30 blocks has an owner"), "{full}");
    let exhausted =
        node.log.iter().rev().find_map(|o| if let Output::Exhausted(of) = o { Some(of.clone()) } else { None });
    assert_eq!(exhausted, Some(vec!["a".parse().unwrap()]));
}

#[test]
fn as_many_adds_as_wait_are_served_though_the_low_mark_asks_for_less() {
    let etcd = cluster_of(&[pool("main", "10.42.0.0/24", 32, json!({}))]);
    let mut node = Node::new(&etcd, "n1");
    node.settle();
    assert_eq!(node.open().len(), 1);
    node.feed(Input::Wants((0..9).map(|n| want(&format!("c{n}"), &[], None)).collect()));
    node.settle();
    assert_eq!(node.open().len(), 9);
}

#[test]
fn the_block_of_an_address_that_is_asked_for_is_claimed_unless_something_stands_in_the_way() {
    let etcd = cluster_of(&[
        pool("all", "10.42.0.0/16", 26, json!({ "reserved": ["10.42.9.9"] })),
        pool("a", "10.41.0.0/16", 26, json!({ "nodes": ZONE_A })),
        pool("off", "10.40.0.0/16", 26, json!({ "disabled": true })),
    ]);
    let (mut node, mut other) = (in_zone(&etcd, "n1", "b"), in_zone(&etcd, "n2", "b"));
    node.settle();
    other.settle();
    assert_eq!(ask(&mut node, &[], Some("10.42.200.70")).unwrap(), ["10.42.200.64/26"]);
    assert_eq!(ask(&mut node, &[], Some("10.42.200.71")).unwrap(), [""; 0], "it has the block");
    let theirs = other.open()[0];
    let refused = |node: &mut Node, pools: &[&str], ip: &str| ask(node, pools, Some(ip)).unwrap_err();
    assert_eq!(
        refused(&mut node, &[], &theirs.last().to_string()),
        format!("it is in the block {theirs}, which is n2's")
    );
    assert_eq!(
        refused(&mut node, &[], "192.0.2.1"),
        "it is in no pool of the cluster, which has 10.42.0.0/16, 10.41.0.0/16, 10.40.0.0/16"
    );
    assert_eq!(refused(&mut node, &[], "10.42.9.9"), "it is reserved in the pool all");
    assert!(
        refused(&mut node, &[], "10.41.0.1").starts_with(
            "it is of the pool a, which is for nodes with zone == 'a', and this node has the labels zone=b"
        )
    );
    assert!(refused(&mut node, &[], "10.40.0.1").contains("disabled"));
    assert_eq!(refused(&mut node, &["a"], "10.42.0.1"), "it is of the pool all, which the configuration does not name");
    assert_eq!(ask(&mut node, &["a"], Some("10.41.7.1")).unwrap(), ["10.41.7.0/26"], "who names the pool may");
}

#[test]
fn who_loses_the_race_for_the_block_of_an_address_is_told_the_owner() {
    let etcd = cluster_of(&[pool("all", "10.42.0.0/16", 26, json!({}))]);
    let mut nodes = [Node::new(&etcd, "n1"), Node::new(&etcd, "n2")];
    nodes.iter_mut().for_each(Node::settle);
    for node in &mut nodes {
        node.feed(Input::Wants(vec![want("c", &[], Some("10.42.200.70"))]));
    }
    nodes.iter_mut().for_each(Node::settle);
    let refusals = |node: &Node| {
        node.log.iter().filter(|o| matches!(o, Output::Refuse { why: Refusal::Owned { .. }, .. })).count()
    };
    assert_eq!(nodes.iter().filter(|node| open(node).contains(&"10.42.200.64/26".into())).count(), 1);
    assert_eq!(nodes.iter().filter(|node| refusals(node) > 0).count(), 1);
}

/// Two pools, the first of them to be drained.
fn draining(disabled: bool) -> [Value; 2] {
    [pool("old", "10.41.0.0/16", 30, json!({ "disabled": disabled })), pool("new", "10.42.0.0/16", 30, json!({}))]
}

#[test]
fn a_disabled_pool_closes_and_its_blocks_go_as_soon_as_they_are_empty() {
    let etcd = cluster_of(&draining(false));
    let mut node = Node::new(&etcd, "n1");
    node.settle();
    node.assign(false, 4);
    node.settle();
    node.assign(false, 3);
    assert!(open(&node).iter().all(|block| block.starts_with("10.41.")));
    set(&etcd, &draining(true));
    node.settle();
    let old = |node: &Node| {
        node.local.values().filter(|has| has.block.to_string().starts_with("10.41.")).cloned().collect::<Vec<_>>()
    };
    assert!(open(&node).len() == 1 && open(&node)[0].starts_with("10.42."), "{:?}", open(&node));
    assert_eq!(old(&node).iter().map(|has| has.assigned).sum::<u64>(), 7, "pods go on");
    let claims = node.claims;
    node.settle();
    assert_eq!(node.claims, claims, "nothing is claimed of it again");
    node.local.values_mut().for_each(|has| has.assigned = 0);
    node.look();
    node.settle();
    assert!(sound_view(&etcd).blocks.keys().all(|block| block.to_string().starts_with("10.42.")));
    assert_eq!(node.keeper.problems(), []);
}

#[test]
fn a_pool_that_is_enabled_again_opens_what_is_left_of_it() {
    let etcd = cluster_of(&draining(false));
    let mut node = Node::new(&etcd, "n1");
    node.settle();
    node.assign(false, 2);
    set(&etcd, &draining(true));
    node.settle();
    let mut node = node.restart();
    node.settle();
    assert!(open(&node)[0].starts_with("10.42."));
    let renewed =
        node.log.iter().filter(|o| matches!(o, Output::Request(r) if matches!(r.action, Action::Renew(_)))).count();
    assert_eq!(renewed, 0, "what stays closed needs no new nonce");
    set(&etcd, &draining(false));
    node.settle();
    assert_eq!(open(&node).iter().filter(|block| block.starts_with("10.41.")).count(), 1);
}

#[test]
fn the_tunnel_leaves_a_disabled_pool_for_another_or_goes_with_the_last_of_its_family() {
    let etcd = cluster_of(&draining(false));
    let mut node = Node::new(&etcd, "n1");
    node.settle();
    node.local.values_mut().for_each(|has| has.tunnel = Some(has.block.first()));
    node.look();
    set(&etcd, &draining(true));
    node.settle();
    let moves =
        |node: &Node| node.log.iter().filter(|o| matches!(o, Output::MoveTunnel { give_up: false, .. })).count();
    assert!(moves(&node) > 0);
    assert!(open(&node).len() == 1 && open(&node)[0].starts_with("10.42."), "{:?}", open(&node));
    assert_eq!(sound_view(&etcd).blocks.len(), 1, "the old block is back");
    set(
        &etcd,
        &[pool("new", "10.42.0.0/16", 30, json!({ "disabled": true })), pool("six", "fd42::/104", 122, json!({}))],
    );
    node.settle();
    assert!(node.log.iter().any(|o| matches!(o, Output::MoveTunnel { give_up: true, .. })));
    assert!(sound_view(&etcd).blocks.keys().all(|block| block.family() == Family::V6));
}

#[test]
fn a_pool_that_is_for_others_now_gives_its_empty_blocks_back_after_ten_minutes() {
    let pools = |nodes: &str| {
        [pool("one", "10.41.0.0/16", 30, json!({ "nodes": nodes })), pool("two", "10.42.0.0/16", 30, json!({}))]
    };
    let etcd = cluster_of(&pools("all()"));
    let mut node = in_zone(&etcd, "n1", "b");
    node.settle();
    set(&etcd, &pools(ZONE_A));
    node.settle();
    assert_eq!(open(&node).len(), 2, "a block of the other pool is here at once, and the first stays open");
    node.now.0 += Duration::from_secs(599);
    node.look();
    node.settle();
    assert_eq!(open(&node).len(), 2);
    node.now.0 += Duration::from_secs(1);
    node.feed(Input::Tick);
    node.settle();
    assert!(open(&node).len() == 1 && open(&node)[0].starts_with("10.42."), "{:?}", open(&node));
}
