//! Deleted nodes that come back, and blocks that go back.

use std::time::Duration;

use super::*;
use crate::keeper::giving::REST;
use crate::keeper::rupture::HOLD;

const POOLS: &[(&str, &str, u8)] = &[("main", "10.42.0.0/24", 26)];
const MINUTE: Duration = Duration::from_secs(60);

fn wait(node: &mut Node, time: Duration) {
    node.now.0 += time;
    node.feed(Input::Tick);
    while node.act() {}
}

fn blocks(etcd: &SimulatedStore) -> Vec<Block> {
    sound_view(etcd).blocks.keys().copied().collect()
}

/// A node that has an empty second block.
fn with_spare(etcd: &SimulatedStore) -> Node {
    let mut node = Node::new(etcd, "n1");
    node.settle();
    node.assign(false, 60);
    node.settle();
    assert_eq!(node.open().len(), 2);
    node.local.values_mut().for_each(|has| has.assigned = 0);
    let first = *node.local.keys().next().unwrap();
    node.local.get_mut(&first).unwrap().assigned = 10;
    node.look();
    node.settle();
    node
}

#[test]
fn an_empty_block_is_given_back_after_ten_minutes_and_not_before() {
    let etcd = cluster(POOLS);
    let mut node = with_spare(&etcd);
    wait(&mut node, REST - MINUTE);
    assert_eq!(blocks(&etcd).len(), 2);
    wait(&mut node, MINUTE);
    node.settle();
    assert_eq!(blocks(&etcd).len(), 1);
    assert_eq!(node.open(), blocks(&etcd));
    wait(&mut node, 100 * REST);
    node.settle();
    assert_eq!((blocks(&etcd).len(), node.claims), (1, 2), "and that is all");
}

#[test]
fn a_block_is_kept_if_less_than_twice_the_low_mark_stayed_free() {
    let etcd = cluster(POOLS);
    let mut node = with_spare(&etcd);
    node.local.values_mut().next().unwrap().assigned = 33;
    node.look();
    wait(&mut node, REST);
    assert_eq!(blocks(&etcd).len(), 2, "31 would be free, and the mark is 16");
    node.local.values_mut().next().unwrap().assigned = 32;
    node.look();
    wait(&mut node, REST - MINUTE);
    assert_eq!(blocks(&etcd).len(), 2, "it has not been so for long");
    wait(&mut node, MINUTE);
    assert_eq!(blocks(&etcd).len(), 1);
}

#[test]
fn a_block_with_cooling_addresses_or_the_tunnels_is_not_empty() {
    type Use = fn(&mut BlockUse);
    let uses: [Use; 3] =
        [|has| has.cooling = 1, |has| has.tunnel = Some("10.42.0.1".parse().unwrap()), |has| has.assigned = 1];
    for make in uses {
        let etcd = cluster(POOLS);
        let mut node = with_spare(&etcd);
        make(node.local.values_mut().last().unwrap());
        node.look();
        wait(&mut node, 2 * REST);
        assert_eq!(blocks(&etcd).len(), 2);
    }
}

#[test]
fn a_block_that_is_used_at_the_last_moment_is_not_given_back() {
    let etcd = cluster(POOLS);
    let mut node = with_spare(&etcd);
    node.now.0 += REST;
    node.feed(Input::Tick);
    node.local.values_mut().last().unwrap().assigned = 1;
    while node.act() {}
    node.settle();
    assert_eq!((blocks(&etcd).len(), node.open().len()), (2, 2));
}

#[test]
fn whatever_becomes_of_a_give_back_the_block_is_free_or_written_anew_before_it_is_opened() {
    for fate in [Fate::Lost, Fate::AnswerLost, Fate::Late, Fate::Twice, Fate::Unavailable] {
        let etcd = cluster(POOLS);
        let mut node = with_spare(&etcd);
        etcd.destine([fate]);
        wait(&mut node, REST);
        node.settle();
        etcd.deliver();
        node.settle();
        assert_eq!(node.open(), blocks(&etcd), "{fate:?}");
        assert_eq!(node.keeper.problems(), [], "{fate:?}");
        let given = matches!(fate, Fate::AnswerLost | Fate::Twice);
        assert_eq!(blocks(&etcd).len(), if given { 1 } else { 2 }, "{fate:?}");
    }
}

#[test]
fn a_daemon_that_was_killed_while_it_gave_a_block_back_writes_it_anew_before_it_opens_it() {
    let etcd = cluster(POOLS);
    let mut node = with_spare(&etcd);
    etcd.destine([Fate::Late]);
    node.now.0 += REST;
    node.feed(Input::Tick);
    while !node.log.iter().any(|o| matches!(o, Output::Request(Request { action: Action::GiveBack(_), .. }))) {
        assert!(node.act());
    }
    assert!(node.act(), "it is sent");
    let mut node = node.restart();
    node.settle();
    etcd.deliver();
    node.settle();
    assert_eq!((node.open().len(), node.open()), (2, blocks(&etcd)));
}

#[test]
fn a_node_that_was_deleted_while_it_was_cut_off_comes_back_with_a_new_epoch_and_its_pods_blocks() {
    let etcd = cluster(POOLS);
    let mut node = with_spare(&etcd);
    let (used, spare) = (node.open()[0], node.open()[1]);
    let Standing::Registered { epoch: before } = node.keeper.standing() else { panic!("it was registered") };
    let local = node.local.clone();
    node.remove();
    node.local = local;
    node.settle();
    let Standing::Registered { epoch } = node.keeper.standing() else { panic!("{:?}", node.keeper.problems()) };
    assert!(epoch > before);
    assert!(node.open().contains(&used) && !node.open().contains(&spare), "{:?}", node.open());
    assert_eq!(node.open(), blocks(&etcd));
}

#[test]
fn a_returning_node_disputes_what_others_have_taken_and_they_stop_assigning_in_it() {
    let etcd = cluster(&[("main", "10.42.0.0/25", 26)]);
    let mut old = Node::new(&etcd, "n1");
    old.settle();
    old.assign(false, 5);
    let block = old.open()[0];
    let local = old.local.clone();
    old.remove();
    let mut new = Node::new(&etcd, "n2");
    new.settle();
    new.assign(false, 60);
    new.settle();
    assert_eq!(new.open().len(), 2, "it has all");
    old.local = local;
    old.settle();
    assert_eq!(old.open(), []);
    assert!(old.has_problem(|p| matches!(p, Problem::BlockLost { owner: Some(_), .. })));
    new.settle();
    assert!(!new.open().contains(&block));
    assert!(new.has_problem(|p| matches!(p, Problem::BlockDisputed { .. })));
    old.local.values_mut().for_each(|has| has.assigned = 0);
    old.look();
    old.settle();
    new.settle();
    assert!(new.open().contains(&block), "the dispute is over");
}

#[test]
fn after_a_rupture_a_node_puts_its_own_blocks_back_and_claims_no_others_for_a_while() {
    let etcd = cluster(POOLS);
    let backup = etcd.backup();
    let mut node = Node::new(&etcd, "n1");
    node.settle();
    node.assign(false, 60);
    node.settle();
    let before = node.open();
    node.local.values_mut().for_each(|has| has.assigned = 60);
    etcd.restore(&backup);
    let mut view = View::clone(node.keeper.view.as_ref().unwrap());
    view.follow(&crate::store::Event::Restored(etcd.look(&Range::watched())));
    node.feed(Input::View(Arc::new(view.clone())));
    assert!(matches!(node.queue.front(), Some(Output::Unregistered)));
    let mut follow = |node: &mut Node| {
        for _ in 0..8 {
            while node.act() {}
            node.feed(Input::Resume);
            view.follow(&crate::store::Event::Snapshot(etcd.look(&Range::watched())));
            node.feed(Input::View(Arc::new(view.clone())));
        }
    };
    follow(&mut node);
    assert_eq!(node.open(), before, "its own are back");
    assert!(node.has_problem(|p| matches!(p, Problem::Restored { .. })));
    node.now.0 += HOLD;
    node.feed(Input::Tick);
    follow(&mut node);
    assert_eq!(node.open().len(), 3, "and now it claims what it needs");
    assert_eq!(node.keeper.problems(), []);
}

/// An hour of a node's life: pods come and go in numbers that stay as they are.
#[test]
fn in_an_hour_of_steady_state_there_are_neither_claims_nor_returns_at_any_block_size() {
    for length in 24..=32 {
        let etcd = cluster(&[("main", "10.42.0.0/16", length)]);
        let mut node = Node::new(&etcd, "n1");
        node.settle();
        let mut left = 100;
        while left > 0 {
            left -= node.assign(false, left);
            node.settle();
        }
        let mut after_warming = None;
        // A pod goes every six seconds and cools for thirty, and another comes: in the first block with room.
        let mut cooling: VecDeque<Block> = VecDeque::new();
        for turn in 0..1200_usize {
            node.now.0 += Duration::from_secs(6);
            let used: Vec<Block> = node.local.values().filter(|has| has.assigned > 0).map(|has| has.block).collect();
            let leaving = node.local.get_mut(&used[turn * 7 % used.len()]).unwrap();
            leaving.assigned -= 1;
            leaving.cooling += 1;
            cooling.push_back(leaving.block);
            if cooling.len() > 5 {
                let cool = cooling.pop_front().unwrap();
                node.local.get_mut(&cool).unwrap().cooling -= 1;
            }
            let room = |has: &&mut BlockUse| has.state == BlockState::Open && has.free() > 0;
            if let Some(has) = node.local.values_mut().find(room) {
                has.assigned += 1;
            }
            node.look();
            node.feed(Input::Tick);
            while node.act() {}
            node.see();
            while node.act() {}
            let returns = node.log.iter().filter(|o| matches!(o, Output::GaveBack { .. })).count();
            // The first hour is for coming to rest.
            if turn == 600 {
                after_warming = Some((node.claims, returns));
            }
            assert!(turn < 600 || after_warming == Some((node.claims, returns)), "/{length}: turn {turn}");
        }
    }
}
