//! Claims: when, where, and what becomes of them.

use proptest::prelude::*;

use super::*;
use twill_conf::cluster::Pool;
use twill_ipam::block::low_mark;

use crate::keeper::place::Occupancy;

const V4: (&str, &str, u8) = ("four", "10.42.0.0/16", 26);
const V6: (&str, &str, u8) = ("six", "fd00:42::/48", 122);

#[test]
fn a_new_node_gets_a_block_of_each_family_that_has_pools() {
    for (pools, count) in [(vec![V4], 1), (vec![V6], 1), (vec![V4, V6], 2)] {
        let etcd = cluster(&pools);
        let mut node = Node::new(&etcd, "n1");
        node.settle();
        assert_eq!(node.open().len(), count);
        assert_eq!(node.claims, count);
        assert_eq!(sound_view(&etcd).blocks.len(), count);
    }
}

#[test]
fn without_a_configuration_nothing_is_claimed_and_the_operator_is_told() {
    let etcd = SimulatedStore::new();
    let mut node = Node::new(&etcd, "n1");
    node.settle();
    assert_eq!(node.claims, 0);
    assert!(node.has_problem(|p| *p == Problem::NoConfiguration { cause: None }));
    write(&etcd, "config", json!({ "pool": 7 }));
    node.settle();
    assert!(node.has_problem(|p| matches!(p, Problem::NoConfiguration { cause: Some(_) })));
    configure(&etcd, &[V4]);
    node.settle();
    assert_eq!((node.claims, node.keeper.problems()), (1, &[][..]));
}

#[test]
fn fifty_nodes_that_join_at_once_have_one_block_each() {
    let etcd = cluster(&[V4, V6]);
    let mut nodes: Vec<Node> = (0..50).map(|i| Node::new(&etcd, &format!("node-{i}"))).collect();
    nodes.iter_mut().for_each(Node::see);
    // In turns, one action each, all by the view that they had at the beginning.
    while nodes.iter_mut().map(Node::act).fold(false, |any, acted| any | acted) {}
    nodes.iter_mut().for_each(Node::settle);
    let view = sound_view(&etcd);
    assert_eq!((view.nodes.len(), view.blocks.len()), (50, 100));
    for node in &nodes {
        assert_eq!(node.open(), view.blocks_of(&node.keeper.identity.node).collect::<Vec<_>>());
        assert_eq!(node.open().len(), 2);
    }
    let claims: usize = nodes.iter().map(|node| node.claims).sum();
    assert!(claims <= 110, "{} claims for 100 blocks", claims);
}

#[test]
fn fifty_nodes_fill_a_pool_of_fifty_blocks_and_more_to_the_last() {
    let etcd = cluster(&[("small", "10.42.0.0/26", 32)]);
    let mut nodes: Vec<Node> = (0..64).map(|i| Node::new(&etcd, &format!("node-{i}"))).collect();
    nodes.iter_mut().for_each(Node::see);
    while nodes.iter_mut().map(Node::act).fold(false, |any, acted| any | acted) {}
    nodes.iter_mut().for_each(Node::settle);
    assert!(nodes.iter().all(|node| node.open().len() == 1));
    assert!(
        nodes.iter().all(|node| !node.log.iter().any(|o| matches!(o, Output::Close { .. }))),
        "none was overwritten"
    );
    assert_eq!(sound_view(&etcd).blocks.len(), 64);
}

#[test]
fn of_two_nodes_that_want_the_same_block_one_gets_it_and_the_other_another() {
    let etcd = cluster(&[("two", "10.42.0.0/30", 31)]);
    // With two blocks, some two of these names point at the same one.
    let mut nodes: Vec<Node> = ["a", "b", "c"].iter().map(|name| Node::new(&etcd, name)).collect();
    nodes.iter_mut().for_each(Node::see);
    while nodes.iter_mut().map(Node::act).fold(false, |any, acted| any | acted) {}
    nodes.iter_mut().for_each(Node::settle);
    assert_eq!(sound_view(&etcd).blocks.len(), 2);
    let without: Vec<&Node> = nodes.iter().filter(|node| node.open().is_empty()).collect();
    assert_eq!(without.len(), 1);
    assert!(without[0].has_problem(|p| matches!(p, Problem::PoolExhausted(_))), "{:?}", without[0].keeper.problems());
}

#[test]
fn a_steady_state_makes_no_claims_at_any_block_size() {
    for length in 24..=32 {
        let etcd = cluster(&[("main", "10.42.0.0/16", length)]);
        let mut node = Node::new(&etcd, "n1");
        node.settle();
        node.assign(false, 100);
        for _ in 0..100 {
            node.settle();
            let assigned: u64 = node.local.values().map(|has| has.assigned).sum();
            node.assign(false, 100 - assigned);
        }
        let claims = node.claims;
        let free: u64 = node.local.values().map(|has| has.total - has.assigned).sum();
        assert!(free >= low_mark(1 << (32 - length)), "/{length}: {free} free");
        assert!(free < low_mark(1 << (32 - length)) + (1 << (32 - length)), "/{length}: {free} free");
        for _ in 0..10 {
            node.settle();
            node.look();
        }
        assert_eq!(node.claims, claims, "/{length}");
        assert_eq!(node.claims, node.open().len(), "/{length}: each claim brought a block");
    }
}

#[test]
fn cooling_addresses_count_as_used() {
    let etcd = cluster(&[V4]);
    let mut node = Node::new(&etcd, "n1");
    node.settle();
    node.local.values_mut().for_each(|has| has.cooling = 48);
    node.look();
    node.settle();
    assert_eq!(node.claims, 1, "16 are free and cool");
    node.local.values_mut().for_each(|has| has.cooling = 49);
    node.look();
    while node.act() {}
    assert_eq!(node.claims, 2);
}

#[test]
fn one_claim_at_most_is_on_its_way_for_each_family() {
    let etcd = cluster(&[("main", "10.42.0.0/16", 30)]);
    let mut node = Node::new(&etcd, "n1");
    node.see();
    node.act();
    for _ in 0..5 {
        node.look();
        node.see();
    }
    let waiting = node.queue.iter().filter(|o| matches!(o, Output::Request(r) if r.claims().is_some())).count();
    assert_eq!(waiting, 1);
}

#[test]
fn when_the_first_pool_is_full_the_next_of_the_family_is_used() {
    let etcd = cluster(&[("first", "10.42.0.0/28", 30), V6, ("second", "10.43.0.0/16", 26)]);
    let mut node = Node::new(&etcd, "n1");
    for _ in 0..6 {
        node.settle();
        node.assign(false, 4);
    }
    node.settle();
    let first = "10.42.0.0/28".parse::<ipnetwork::IpNetwork>().unwrap();
    let (inside, outside): (Vec<Block>, Vec<Block>) =
        node.open().into_iter().filter(|b| b.cidr().is_ipv4()).partition(|b| first.contains(b.first()));
    assert_eq!((inside.len(), outside.len()), (4, 1));
    assert!(outside[0].to_string().starts_with("10.43."));
    let exhausted = node.log.iter().rev().find_map(|o| if let Output::Exhausted(of) = o { Some(of) } else { None });
    assert_eq!(exhausted, Some(&vec!["first".parse().unwrap()]));
    assert_eq!(node.keeper.problems(), [], "the node has what it needs");
}

#[test]
fn an_exhausted_pool_is_told_and_told_again_when_it_has_room() {
    let etcd = cluster(&[("main", "10.42.0.0/30", 31)]);
    let mut nodes = [Node::new(&etcd, "n1"), Node::new(&etcd, "n2")];
    nodes.iter_mut().for_each(Node::settle);
    nodes[0].settle();
    assert_eq!(nodes[0].keeper.problems(), []);
    nodes[0].assign(false, 2);
    nodes[0].settle();
    let pool: PoolName = "main".parse().unwrap();
    assert!(nodes[0].log.contains(&Output::Exhausted(vec![pool])));
    assert!(nodes[0].keeper.problems()[0].to_string().contains("10.42.0.0/30"), "{:?}", nodes[0].keeper.problems());
    assert_eq!(nodes[0].claims, 1, "no claim is made where no place is");
    nodes[0].local.values_mut().for_each(|has| has.assigned = 0);
    nodes[0].look();
    assert_eq!(nodes[0].log.iter().rfind(|o| matches!(o, Output::Exhausted(_))), Some(&Output::Exhausted(vec![])));
    assert_eq!(nodes[0].keeper.problems(), []);
}

#[test]
fn a_claim_by_an_old_configuration_is_refused() {
    let etcd = cluster(&[V4]);
    let mut node = Node::new(&etcd, "n1");
    node.see();
    node.act(); // Registered; the claim waits to be sent.
    configure(&etcd, &[("other", "10.99.0.0/16", 26)]);
    while node.act() {}
    assert_eq!(sound_view(&etcd).blocks.len(), 0);
    node.settle();
    let view = sound_view(&etcd);
    assert_eq!(view.blocks.len(), 1);
    assert!(view.blocks.keys().all(|block| block.to_string().starts_with("10.99.")));
}

#[test]
fn a_lasting_refusal_is_not_tried_again_with_each_view_of_a_busy_cluster() {
    let etcd = cluster(&[("one", "10.42.0.0/26", 26)]);
    // In the way of the only place, and in no view.
    write(&etcd, "blocks/4/0a2a0005-32", json!("unreadable"));
    let mut node = Node::new(&etcd, "n1");
    node.see();
    node.act(); // Registered; the claim waits to be sent.
    node.see();
    let busy = |node: &mut Node| {
        for at in 0..20 {
            write(&etcd, "nodes/other", json!({ "machine_id": "m", "nonce": format!("{at}") }));
            node.see();
            while node.act() {}
        }
    };
    busy(&mut node);
    let (claims, pauses) = (node.claims, node.log.iter().filter(|o| **o == Output::Pause).count());
    assert!((1..=4).contains(&claims) && pauses == 1, "{claims} claims, {pauses} pauses");
    node.feed(Input::Resume);
    busy(&mut node);
    assert!((claims + 1..=claims + 4).contains(&node.claims), "{} claims after the pause", node.claims);
    // The pause is not over, but the refusals were about another configuration.
    configure(&etcd, &[V4]);
    for _ in 0..2 {
        node.see();
        while node.act() {}
    }
    assert_eq!(node.open().len(), 1);
}

#[test]
fn a_claim_inside_or_around_a_block_that_the_view_did_not_show_is_refused() {
    for there in ["10.42.0.0/16", "10.0.0.0/8", "10.42.0.0/23", "10.42.1.0/24", "10.42.1.77/32"] {
        let etcd = cluster(&[("one", "10.42.1.0/24", 24)]);
        let mut node = Node::new(&etcd, "n1");
        node.see();
        node.act(); // Registered; the claim waits to be sent.
        let value = json!({ "node": "n2", "machine_id": "m2", "epoch": 1, "nonce": "x" });
        write(&etcd, &key::block(there.parse().unwrap()), value);
        while node.act() {}
        assert_eq!((node.claims, node.open()), (1, Vec::new()), "{there}");
        node.settle();
        assert!(node.has_problem(|p| matches!(p, Problem::PoolExhausted(_))), "{there}");
        assert_eq!(node.claims, 1, "{there}: there is no other place");
    }
}

#[test]
fn blocks_of_another_size_are_never_claimed_across() {
    let etcd = cluster(&[("main", "10.42.0.0/24", 26)]);
    let mut nodes: Vec<Node> = (0..3).map(|i| Node::new(&etcd, &format!("n{i}"))).collect();
    nodes.iter_mut().for_each(Node::settle);
    for length in [28, 25, 24, 30] {
        configure(&etcd, &[("main", "10.42.0.0/24", length)]);
        for node in &mut nodes {
            node.assign(false, 200);
            node.settle();
        }
    }
    // `sound_view` finds overlaps.
    let view = sound_view(&etcd);
    assert!(view.blocks.len() > 3);
}

/// Where the slots of a pool are taken, block by block: the slow way.
fn slots(pool: &Pool, taken: &[Block]) -> Vec<Block> {
    let pool_size = 1u32 << (pool.block - pool.cidr.prefix());
    let std::net::IpAddr::V4(first) = pool.cidr.network() else { unreachable!() };
    let all = (0..pool_size).map(|slot| {
        let ip = std::net::Ipv4Addr::from(u32::from(first) + (slot << (32 - pool.block)));
        Block::new(ipnetwork::IpNetwork::new(ip.into(), pool.block).unwrap()).unwrap()
    });
    all.filter(|slot| !taken.iter().any(|b| b.contains(slot.first()) || slot.contains(b.first()))).collect()
}

proptest! {
    #[test]
    fn a_place_is_chosen_among_the_free_ones_and_only_there(
        length in 24u8..=30,
        taken in proptest::collection::vec((0u32..1024, 20u8..=32), 0..40),
        word in "[a-z]{1,8}",
    ) {
        let pool = Pool::new("p".parse().unwrap(), "10.42.0.0/22".parse().unwrap(), length);
        let taken: BTreeSet<Block> = taken.iter().map(|(offset, length)| {
            let ip = ipnetwork::Ipv4Network::new((u32::from_be_bytes([10, 42, 0, 0]) + offset).into(), *length).unwrap();
            Block::new(ipnetwork::IpNetwork::new(ip.network().into(), *length).unwrap()).unwrap()
        }).collect();
        let occupancy = Occupancy::of(&pool, &View::default(), &taken).unwrap();
        let free = slots(&pool, &taken.iter().copied().collect::<Vec<_>>());
        prop_assert_eq!(occupancy.free(), free.len() as u128);
        match occupancy.choose(&[&word]) {
            Some(block) => prop_assert!(free.contains(&block)),
            None => prop_assert!(free.is_empty()),
        }
    }

    #[test]
    fn a_pool_of_any_size_has_places(prefix in 16u8..=128, more in 0u8..=112, word in "[a-z]{1,8}") {
        let cidr = ipnetwork::Ipv6Network::new("fd00::".parse().unwrap(), prefix).unwrap();
        let cidr = ipnetwork::IpNetwork::new(cidr.network().into(), prefix).unwrap();
        let length = prefix.saturating_add(more).min(128);
        let pool = Pool::new("p".parse().unwrap(), cidr, length);
        let occupancy = Occupancy::of(&pool, &View::default(), &BTreeSet::new()).unwrap();
        let block = occupancy.choose(&[&word]).unwrap();
        prop_assert!(cidr.contains(block.first()) && block.cidr().prefix() == length);
    }
}
