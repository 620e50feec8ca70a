//! Draining a node, and ending that.

use super::*;

const POOLS: [(&str, &str, u8); 1] = [("v4", "10.42.0.0/24", 28)];

/// A node with two blocks, the first of which has the tunnel.
fn node(etcd: &SimulatedStore) -> Node {
    let mut node = Node::new(etcd, "n1");
    node.settle();
    node.assign(false, 13);
    node.settle();
    let open = node.open();
    assert_eq!(open.len(), 2);
    let has = node.local.get_mut(&open[0]).unwrap();
    (has.tunnel, has.assigned) = (Some(open[0].first()), 3);
    node.look();
    node
}

/// The word of the drain in the node's record.
fn record(etcd: &SimulatedStore) -> Option<String> {
    sound_view(etcd).nodes.values().next().unwrap().value.drain.clone()
}

/// Whether the plugin is to refuse.
fn refuses(node: &Node) -> Option<bool> {
    node.keeper.drain().map(|drain| drain.is_some())
}

#[test]
fn a_drained_node_says_so_in_its_record_claims_nothing_and_gives_back_what_is_empty() {
    let etcd = cluster(&POOLS);
    let mut node = node(&etcd);
    let (first, second) = (node.open()[0], node.open()[1]);
    node.local.get_mut(&second).unwrap().assigned = 2;
    node.feed(Input::Drain(true));
    node.settle();
    assert!(record(&etcd).is_some());
    assert_eq!(refuses(&node), Some(true));
    assert_eq!(node.open(), [first, second], "pods have addresses in both");
    let claims = node.claims;
    node.assign(false, 20);
    node.settle();
    assert_eq!(node.claims, claims, "however few are free");

    for block in [first, second] {
        node.local.get_mut(&block).unwrap().assigned = 0;
    }
    node.local.get_mut(&second).unwrap().cooling = 1;
    node.look();
    node.settle();
    assert_eq!(sound_view(&etcd).blocks.len(), 2, "an address cools");
    node.local.get_mut(&second).unwrap().cooling = 0;
    node.look();
    node.settle();
    let view = sound_view(&etcd);
    assert_eq!(view.blocks.keys().copied().collect::<Vec<_>>(), [first], "without waiting; the tunnel's stays");
    assert!(etcd.look(&Range::key(&key::addresses(&"n1".parse().unwrap(), second))).entries.is_empty());
}

#[test]
fn a_drain_outlives_the_daemon_and_ends_by_being_undone() {
    let etcd = cluster(&POOLS);
    let mut node = node(&etcd);
    node.feed(Input::Drain(true));
    node.settle();
    let mut again = node.restart();
    assert_eq!(refuses(&again), None, "before it has seen the cluster");
    again.settle();
    assert!(record(&etcd).is_some());
    assert_eq!(refuses(&again), Some(true));
    let claims = again.claims;
    for has in again.local.values_mut().filter(|has| has.state == BlockState::Open) {
        has.assigned = has.total - 1;
    }
    again.look();
    again.settle();
    assert_eq!(again.claims, claims);
    again.feed(Input::Drain(false));
    again.settle();
    assert_eq!(record(&etcd), None);
    assert_eq!(refuses(&again), Some(false));
    assert!(again.claims > claims, "it claims ahead again");
}

#[test]
fn a_node_that_was_drained_and_deleted_serves_when_it_is_back() {
    let etcd = cluster(&POOLS);
    let mut node = node(&etcd);
    node.feed(Input::Drain(true));
    node.settle();
    node.remove();
    node.settle();
    assert_eq!(record(&etcd), None);
    assert_eq!(refuses(&node), Some(false));
    assert!(!node.open().is_empty());
}

#[test]
fn a_node_that_was_deleted_for_its_emptiness_refuses_pods_until_what_is_not_its_own_is_closed() {
    let etcd = cluster(&POOLS);
    let mut node = node(&etcd);
    node.feed(Input::Drain(true));
    node.settle();
    let block = node.open()[0];
    let local = node.local.clone();
    node.remove();
    node.local = local;
    let mut other = Node::new(&etcd, "n2");
    other.settle();
    let mut again = node.restart();
    assert_eq!(again.open(), [block], "by the store, in the same boot");
    again.see();
    while !again.queue.is_empty() {
        if again.open().contains(&block) {
            assert_eq!(refuses(&again), None, "what the store says goes on");
        }
        again.act();
    }
    again.settle();
    assert_eq!(refuses(&again), Some(false));
}

#[test]
fn a_drain_whose_record_comes_late_is_taken_up_by_the_next_run_without_a_pause() {
    let etcd = cluster(&POOLS);
    let mut node = node(&etcd);
    etcd.destine([Fate::Late]);
    node.feed(Input::Drain(true));
    node.act();
    let mut again = node.restart();
    again.see();
    assert_eq!((record(&etcd), refuses(&again)), (None, None), "the store has the word, and etcd has not");
    etcd.deliver();
    assert!(record(&etcd).is_some());
    while again.act() {
        assert_ne!(refuses(&again), Some(false));
    }
    again.settle();
    assert_eq!((record(&etcd).is_some(), refuses(&again)), (true, Some(true)));
}

#[test]
fn a_drained_node_puts_back_what_etcd_has_lost_where_it_has_pods() {
    let etcd = cluster(&POOLS);
    let backup = etcd.backup();
    let mut node = node(&etcd);
    node.feed(Input::Drain(true));
    node.settle();
    let open = node.open();
    etcd.restore(&backup);
    let mut view = View::default();
    view.replace(&etcd.look(&Range::watched()));
    view.history = 1;
    for _ in 0..30 {
        node.feed(Input::View(Arc::new(View { history: 1, ..view.clone() })));
        while node.act() {}
        node.feed(Input::Resume);
        while node.act() {}
        view.replace(&etcd.look(&Range::watched()));
    }
    assert!(record(&etcd).is_some(), "though the backup is older than the drain");
    assert!(sound_view(&etcd).blocks.contains_key(&open[0]));
}

#[test]
fn a_drain_that_is_to_end_holds_until_etcd_has_a_record_without_it() {
    let etcd = cluster(&POOLS);
    let mut node = node(&etcd);
    node.feed(Input::Drain(true));
    assert_eq!(refuses(&node), Some(true), "at once");
    node.settle();
    let word = record(&etcd);
    etcd.destine([Fate::Lost]);
    node.feed(Input::Drain(false));
    while node.act() {}
    assert_eq!((record(&etcd), refuses(&node)), (word.clone(), Some(true)), "etcd has not got it");
    node.feed(Input::Drain(true));
    node.settle();
    assert_eq!(record(&etcd), word, "it has never ended");
    node.feed(Input::Drain(false));
    node.settle();
    assert_eq!((record(&etcd), refuses(&node)), (None, Some(false)));
    node.feed(Input::Drain(true));
    node.settle();
    assert!(record(&etcd).is_some_and(|next| Some(next) != word), "another one has another word");
}
