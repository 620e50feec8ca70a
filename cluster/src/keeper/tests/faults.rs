//! Answers that are lost, late or never come, and histories of them.

use super::*;

const POOLS: &[(&str, &str, u8)] = &[("main", "10.42.0.0/16", 26)];

fn registered(etcd: &SimulatedStore) -> Node {
    let mut node = Node::new(etcd, "n1");
    node.see();
    node.act();
    node
}

#[test]
fn a_claim_whose_answer_was_lost_is_read_back_and_kept() {
    let etcd = cluster(POOLS);
    let mut node = registered(&etcd);
    etcd.destine([Fate::AnswerLost]);
    while node.act() {}
    assert_eq!((node.claims, node.open().len()), (1, 0), "the view has not shown it yet");
    node.settle();
    assert_eq!((node.claims, node.open().len(), sound_view(&etcd).blocks.len()), (1, 1, 1));
}

#[test]
fn a_claim_that_was_lost_is_made_again() {
    let etcd = cluster(POOLS);
    let mut node = registered(&etcd);
    etcd.destine([Fate::Lost]);
    while node.act() {}
    assert_eq!(node.open(), []);
    node.settle();
    assert_eq!((node.claims, node.open().len(), sound_view(&etcd).blocks.len()), (2, 1, 1));
}

#[test]
fn a_claim_that_is_done_late_is_adopted() {
    let etcd = cluster(POOLS);
    let mut node = registered(&etcd);
    etcd.destine([Fate::Late]);
    node.settle();
    assert_eq!(node.open().len(), 1);
    etcd.deliver();
    node.settle();
    let view = sound_view(&etcd);
    assert_eq!((node.claims, view.blocks.len()), (2, 2));
    assert_eq!(node.open(), view.blocks.keys().copied().collect::<Vec<_>>());
}

#[test]
fn a_claim_of_an_epoch_that_is_over_is_refused_when_it_comes_late() {
    let etcd = cluster(POOLS);
    let mut node = registered(&etcd);
    etcd.destine([Fate::Late]);
    while node.act() {}
    node.remove();
    let mut node = node.restart();
    node.see();
    node.act();
    assert!(matches!(node.keeper.standing(), Standing::Registered { .. }), "in a new epoch");
    etcd.deliver();
    assert_eq!(sound_view(&etcd).blocks.len(), 0);
}

#[test]
fn nothing_is_sent_again_before_the_pause_is_over() {
    let etcd = cluster(POOLS);
    let mut node = registered(&etcd);
    etcd.destine([Fate::Unavailable]);
    while node.act() {}
    node.look();
    while node.act() {}
    assert_eq!(node.claims, 1);
    assert_eq!(node.log.iter().filter(|o| **o == Output::Pause).count(), 1);
    node.feed(Input::Resume);
    while node.act() {}
    node.see();
    while node.act() {}
    assert_eq!((node.claims, node.open().len()), (2, 1));
}

#[test]
fn after_a_crash_at_any_point_the_next_run_has_the_blocks_and_claims_none_twice() {
    for steps in 0..12 {
        let etcd = cluster(&[("four", "10.42.0.0/16", 26), ("six", "fd00:42::/48", 122)]);
        let mut node = Node::new(&etcd, "n1");
        node.see();
        for _ in 0..steps {
            node.act();
        }
        let mut node = node.restart();
        node.settle();
        let view = sound_view(&etcd);
        assert_eq!(view.blocks.len(), 2, "after {steps} steps");
        assert_eq!(node.open().len(), 2, "after {steps} steps");
    }
}

#[test]
fn own_blocks_are_opened_by_what_etcd_tells_and_by_nothing_else() {
    let etcd = cluster(POOLS);
    let mut node = Node::new(&etcd, "n1");
    node.settle();
    let owned = node.open();
    // A reboot: the node store is empty.
    let mut node = node.restart();
    node.local.clear();
    node.look();
    while node.act() {}
    assert_eq!(node.open(), [], "etcd has told nothing yet");
    node.settle();
    assert_eq!((node.open(), node.claims), (owned, 0));
}

#[test]
fn a_block_that_could_not_be_opened_is_ordered_again() {
    let etcd = cluster(POOLS);
    let mut node = registered(&etcd);
    while node.open().is_empty() {
        // The node store fails: nothing is opened.
        node.queue.retain(|output| !matches!(output, Output::Open { .. }));
        if !node.act() {
            break;
        }
    }
    assert_eq!((node.open(), node.claims), (Vec::new(), 1));
    node.settle();
    assert_eq!((node.open().len(), node.claims), (1, 1));
}

#[test]
fn a_claimed_block_is_fresh_whether_the_view_or_the_answer_comes_first() {
    for view_first in [false, true] {
        let etcd = cluster(POOLS);
        let mut node = registered(&etcd);
        let at = node.queue.iter().position(|o| matches!(o, Output::Request(r) if r.claims().is_some())).unwrap();
        let Some(Output::Request(claim)) = node.queue.remove(at) else { unreachable!() };
        let answer = now(claim.perform(&etcd));
        if view_first {
            node.see();
        }
        node.feed(Input::Answer(claim.id, answer));
        node.see();
        assert!(node.freshness()[0], "view first: {view_first}");
    }
}

#[test]
fn a_block_is_fresh_once_and_only_in_the_run_that_claimed_it() {
    let etcd = cluster(POOLS);
    let mut node = Node::new(&etcd, "n1");
    node.settle();
    assert_eq!(node.freshness(), [true]);
    // The node store is lost under the running daemon, and then over a restart.
    node.local.clear();
    node.look();
    while node.act() {}
    assert_eq!((node.freshness(), node.open().len()), (vec![true, false], 1));
    let mut node = node.restart();
    node.local.clear();
    node.look();
    node.settle();
    assert_eq!((node.freshness(), node.open().len()), (vec![false], 1));
}

#[test]
fn a_block_that_vanished_or_went_to_another_is_closed_and_reported() {
    let etcd = cluster(POOLS);
    let mut node = Node::new(&etcd, "n1");
    node.settle();
    let block = node.open()[0];
    node.assign(false, 3);
    write(&etcd, &key::block(block), json!({ "node": "n2", "machine_id": "m2", "epoch": 1, "nonce": "x" }));
    node.settle();
    assert_eq!(node.local[&block].state, BlockState::Closing);
    assert!(node.has_problem(|p| *p == Problem::BlockLost { block, owner: Some("n2".parse().unwrap()) }));
    assert_eq!(node.open().len(), 1, "another block was claimed instead");
    let disputes = |etcd| sound_but_foreign(etcd).nodes[&node_name("n1")].value.disputes.clone();
    assert_eq!(disputes(&etcd), [block.cidr()], "whoever has it now is told");
    node.local.get_mut(&block).unwrap().assigned = 0;
    node.look();
    node.settle();
    assert_eq!(node.keeper.problems(), [], "nobody has an address in it");
    assert_eq!(disputes(&etcd), []);
}

#[test]
fn a_block_that_etcd_lost_is_claimed_again_only_where_the_node_has_pods_in_it() {
    for pods in [0, 3] {
        let etcd = cluster(POOLS);
        let mut node = Node::new(&etcd, "n1");
        node.settle();
        let block = node.open()[0];
        node.assign(false, pods);
        delete(&etcd, &key::block(block));
        node.settle();
        assert_eq!(node.open().contains(&block), pods > 0);
        assert!(pods == 0 || !node.freshness().last().unwrap(), "its addresses may be in use");
        assert_eq!(node.keeper.problems(), []);
    }
}

fn node_name(name: &str) -> NodeName {
    name.parse().unwrap()
}

/// The cluster, with blocks of nodes that are not there.
fn sound_but_foreign(etcd: &SimulatedStore) -> View {
    let mut view = View::default();
    view.replace(&etcd.look(&Range::watched()));
    view
}

#[test]
fn a_block_of_a_machine_with_our_name_is_not_ours() {
    let etcd = cluster(POOLS);
    let block: Block = "10.42.7.0/26".parse().unwrap();
    write(&etcd, &key::block(block), json!({ "node": "n1", "machine_id": "another", "epoch": 1, "nonce": "x" }));
    let mut node = Node::new(&etcd, "n1");
    node.settle();
    assert!(!node.open().contains(&block));
    assert_eq!(node.open().len(), 1);
}

#[test]
fn a_block_in_no_pool_is_closed_until_its_pool_is_back() {
    let etcd = cluster(POOLS);
    let mut node = Node::new(&etcd, "n1");
    node.settle();
    let block = node.open()[0];
    configure(&etcd, &[("other", "10.99.0.0/16", 26)]);
    node.settle();
    assert_eq!(node.local[&block].state, BlockState::Closing);
    assert!(node.has_problem(|p| *p == Problem::BlockOutsidePools { block }));
    configure(&etcd, POOLS);
    node.settle();
    assert_eq!(node.local[&block].state, BlockState::Open);
    assert_eq!(node.local[&block].pool.as_ref().unwrap().as_str(), "main");
}

#[test]
fn stand_alone_blocks_are_left_alone() {
    let etcd = cluster(POOLS);
    let mut node = Node::new(&etcd, "n1");
    let block: Block = "10.200.0.0/24".parse().unwrap();
    node.put(block, "x".parse().unwrap(), BlockState::Open);
    let has = node.local.get_mut(&block).unwrap();
    (has.origin, has.pool) = (Origin::Configuration, None);
    node.look();
    node.settle();
    assert_eq!(node.local[&block].state, BlockState::Open);
    assert_eq!(node.open().len(), 2);
}
