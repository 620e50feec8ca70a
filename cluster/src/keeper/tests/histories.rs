//! Random histories: whatever is lost, done late or cut short by a crash, no block has two owners and none is lost.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    /// A node does the next thing that it has to do.
    Act(usize),
    /// A node sees the cluster as it is now.
    See(usize),
    /// A node's pause is over.
    Resume(usize),
    /// Pods come to a node or leave it.
    Assign(usize, u64),
    /// A node's daemon is killed and started again.
    Crash(usize),
    /// What becomes of the next transaction.
    Destine(Fate),
    /// What was late comes through.
    Deliver,
    /// The operator cuts the pools into blocks of other sizes.
    Configure(u8),
    /// A node is switched off and deleted, and starts again.
    Remove(usize),
}

fn steps() -> impl Strategy<Value = Step> {
    let node = 0..3usize;
    let fates = [Fate::Lost, Fate::AnswerLost, Fate::Late, Fate::Unavailable];
    prop_oneof![
        12 => node.clone().prop_map(Step::Act),
        4 => node.clone().prop_map(Step::See),
        3 => node.clone().prop_map(Step::Resume),
        3 => (node.clone(), 0..12u64).prop_map(|(node, count)| Step::Assign(node, count)),
        1 => node.clone().prop_map(Step::Crash),
        1 => node.prop_map(Step::Remove),
        3 => proptest::sample::select(fates.to_vec()).prop_map(Step::Destine),
        1 => Just(Step::Deliver),
        1 => (0..3u8).prop_map(Step::Configure),
    ]
}

/// So few places that nodes meet.
fn pools(finer: u8) -> [(&'static str, &'static str, u8); 2] {
    [("four", "10.42.0.0/27", 28 + finer), ("six", "fd00:42::/123", 125 + finer)]
}

/// Every open block of a node is its own, by what etcd holds now.
fn assert_owned(etcd: &SimulatedStore, nodes: &[Node]) {
    let view = sound_view(etcd);
    for node in nodes {
        for block in node.open() {
            let owner = view.blocks.get(&block).map(|record| &record.value.node);
            assert_eq!(owner, Some(&node.keeper.identity.node), "{block}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_block_has_two_owners_and_none_is_lost(
        names in proptest::collection::btree_set("[a-z]{2}", 3),
        steps in proptest::collection::vec(steps(), 1..120),
    ) {
        let etcd = cluster(&pools(1));
        let mut nodes: Vec<Node> = names.iter().map(|name| Node::new(&etcd, name)).collect();
        let mut runs = 0;
        for step in steps {
            match step {
                Step::Act(node) => drop(nodes[node].act()),
                Step::See(node) => nodes[node].see(),
                Step::Resume(node) => nodes[node].feed(Input::Resume),
                Step::Assign(node, count) => {
                    nodes[node].local.values_mut().for_each(|has| has.assigned = 0);
                    nodes[node].assign(false, count);
                    nodes[node].assign(true, count);
                }
                Step::Crash(node) => {
                    runs += 1;
                    let dead = nodes.remove(node);
                    nodes.insert(node, dead.restart_as(&format!("again{runs}")));
                }
                Step::Destine(fate) => etcd.destine([fate]),
                Step::Deliver => etcd.deliver(),
                Step::Configure(finer) => configure(&etcd, &pools(finer)),
                Step::Remove(node) => {
                    runs += 1;
                    let mut dead = nodes.remove(node);
                    dead.remove();
                    nodes.insert(node, dead.restart_as(&format!("again{runs}")));
                }
            }
            assert_owned(&etcd, &nodes);
        }
        etcd.calm();
        etcd.deliver();
        nodes.iter_mut().for_each(Node::settle);
        nodes.iter_mut().for_each(Node::settle);
        let view = sound_view(&etcd);
        for node in &nodes {
            prop_assert!(matches!(node.keeper.standing(), Standing::Registered { .. }), "{:?}", node.keeper.problems());
            prop_assert_eq!(node.open(), view.blocks_of(&node.keeper.identity.node).collect::<Vec<_>>());
        }
    }
}
