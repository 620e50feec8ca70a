//! Registration: once, by one machine, and for good.

use super::*;
use crate::record::VxlanEnd;

#[test]
fn nothing_is_written_before_the_cluster_was_seen_and_facts_are_there() {
    let etcd = cluster(&[]);
    let node = Node::new(&etcd, "n1");
    assert_eq!(node.log, []);
    let mut keeper = Keeper::new(node.keeper.identity.clone());
    assert_eq!(
        keeper.step(Input::View(Arc::new(View::default())), BootTime::default()).len(),
        1,
        "only that there is no configuration"
    );
    assert_eq!(keeper.standing(), Standing::Waiting);
}

#[test]
fn a_new_node_registers_and_its_epoch_is_the_create_revision() {
    let etcd = cluster(&[("main", "10.42.0.0/16", 26)]);
    let mut node = Node::new(&etcd, "n1");
    node.settle();
    let view = sound_view(&etcd);
    let epoch = view.nodes[&"n1".parse::<NodeName>().unwrap()].created;
    assert_eq!(node.keeper.standing(), Standing::Registered { epoch });
    assert!(node.log.contains(&Output::Registered { epoch, returned: false }));
    assert_eq!(node.keeper.problems(), []);
}

#[test]
fn a_restarted_daemon_keeps_epoch_and_blocks_and_what_others_wrote_into_the_record() {
    let etcd = cluster(&[("main", "10.42.0.0/16", 26)]);
    write(&etcd, "nodes/n1", json!({ "machine_id": "machine-n1", "nonce": "old", "newer": { "a": 1 } }));
    let mut node = Node::new(&etcd, "n1");
    node.settle();
    let before = sound_view(&etcd);
    let mut node = node.restart();
    node.settle();
    let after = sound_view(&etcd);
    let name: NodeName = "n1".parse().unwrap();
    assert_eq!(after.blocks, before.blocks);
    assert_eq!(after.nodes[&name].created, before.nodes[&name].created);
    assert_ne!(
        after.nodes[&name].value.nonce, before.nodes[&name].value.nonce,
        "late writes of the old run are refused"
    );
    assert_eq!(after.nodes[&name].value.other["newer"], json!({ "a": 1 }));
    assert_eq!(node.claims, 0);
}

#[test]
fn changed_facts_are_published_once() {
    let etcd = cluster(&[("main", "10.42.0.0/16", 26)]);
    let mut node = Node::new(&etcd, "n1");
    node.settle();
    let vxlan = Some(VxlanEnd { mac: "02:00:5e:10:00:01".into(), vni: None, port: None });
    for _ in 0..3 {
        node.feed(Input::Facts(Facts { vxlan: vxlan.clone(), ..Facts::default() }));
        node.settle();
    }
    let view = sound_view(&etcd);
    assert_eq!(view.nodes[&"n1".parse::<NodeName>().unwrap()].value.vxlan, vxlan);
    let writes = node.log.iter().filter(|o| matches!(o, Output::Request(Request { action: Action::Publish(_), .. })));
    assert_eq!(writes.count(), 2);
}

#[test]
fn a_second_machine_with_the_same_name_is_refused_loudly() {
    let etcd = cluster(&[("main", "10.42.0.0/16", 26)]);
    let mut first = Node::of_machine(&etcd, "n1", "one", "run");
    first.settle();
    let before = etcd.look(&Range::watched());
    let mut second = Node::of_machine(&etcd, "n1", "two", "run");
    second.settle();
    assert_eq!(etcd.look(&Range::watched()), before, "nothing was written");
    assert_eq!(second.keeper.standing(), Standing::Stopped);
    assert!(second.has_problem(|p| matches!(p, Problem::NameTaken { .. })));
    assert!(second.keeper.problems()[0].to_string().contains("--node-name"));
    assert_eq!((second.open(), second.claims), (Vec::new(), 0));
    first.settle();
    assert!(matches!(first.keeper.standing(), Standing::Registered { .. }));
}

#[test]
fn a_name_is_free_when_the_other_node_was_deleted() {
    let etcd = cluster(&[("main", "10.42.0.0/16", 26)]);
    write(&etcd, "nodes/n1", json!({ "machine_id": "another", "nonce": "x" }));
    let mut node = Node::new(&etcd, "n1");
    node.settle();
    assert_eq!(node.keeper.standing(), Standing::Stopped);
    delete(&etcd, "nodes/n1");
    node.settle();
    assert!(matches!(node.keeper.standing(), Standing::Registered { .. }));
    assert_eq!(node.open().len(), 1);
}

#[test]
fn of_two_machines_that_register_one_name_at_once_one_wins() {
    let etcd = cluster(&[("main", "10.42.0.0/16", 26)]);
    let (mut one, mut two) = (Node::of_machine(&etcd, "n1", "one", "r"), Node::of_machine(&etcd, "n1", "two", "r"));
    one.see();
    two.see();
    one.settle();
    two.settle();
    assert!(matches!(one.keeper.standing(), Standing::Registered { .. }));
    assert_eq!(two.keeper.standing(), Standing::Stopped);
}

#[test]
fn a_node_whose_record_was_changed_or_spoilt_assigns_nothing_more() {
    type Harm = fn(&SimulatedStore);
    let harms: [(Harm, &str); 3] = [
        (|etcd| write(etcd, "nodes/n1", json!({ "machine_id": "machine-n1", "nonce": "foreign" })), "changed"),
        (|etcd| write(etcd, "nodes/n1", json!({ "machine_id": "other", "nonce": "foreign" })), "another machine"),
        (|etcd| write(etcd, "nodes/n1", json!("garbage")), "is not one"),
    ];
    for (harm, word) in harms {
        let etcd = cluster(&[("main", "10.42.0.0/16", 26)]);
        let mut node = Node::new(&etcd, "n1");
        node.settle();
        assert_eq!(node.open().len(), 1);
        harm(&etcd);
        let before = etcd.look(&Range::watched());
        node.settle();
        assert_eq!(node.open(), [], "{word}");
        assert_eq!(node.keeper.standing(), Standing::Stopped);
        assert!(node.keeper.problems().iter().any(|p| p.to_string().contains(word)), "{:?}", node.keeper.problems());
        assert_eq!(etcd.look(&Range::watched()), before, "{word}: nothing was written over it");
    }
}

#[test]
fn a_registration_with_an_unknown_outcome_is_read_back() {
    for fate in [Fate::Lost, Fate::AnswerLost, Fate::Late, Fate::Unavailable] {
        let etcd = cluster(&[("main", "10.42.0.0/16", 26)]);
        etcd.destine([fate]);
        let mut node = Node::new(&etcd, "n1");
        node.settle();
        etcd.deliver();
        node.settle();
        assert!(matches!(node.keeper.standing(), Standing::Registered { .. }), "{fate:?}");
        assert_eq!(node.keeper.problems(), [], "{fate:?}");
        assert_eq!(sound_view(&etcd).blocks.len(), 1, "{fate:?}");
    }
}

#[test]
fn a_late_registration_is_known_again_when_it_overtakes_the_second() {
    let etcd = cluster(&[("main", "10.42.0.0/16", 26)]);
    etcd.destine([Fate::Late]);
    let mut node = Node::new(&etcd, "n1");
    node.see();
    // The first write has no answer, and the key is not there when it is read back; then it comes through.
    while node.act() {}
    etcd.deliver();
    node.feed(Input::Resume);
    while node.act() {}
    node.settle();
    assert!(matches!(node.keeper.standing(), Standing::Registered { .. }));
    assert_eq!(node.keeper.problems(), []);
}

#[test]
fn a_late_update_of_the_record_is_not_taken_for_somebody_elses() {
    let etcd = cluster(&[("main", "10.42.0.0/16", 26)]);
    let mut node = Node::new(&etcd, "n1");
    node.settle();
    etcd.destine([Fate::Late]);
    node.feed(Input::Facts(Facts { version: "2".into(), ..Facts::default() }));
    while node.act() {}
    etcd.deliver();
    node.settle();
    assert!(matches!(node.keeper.standing(), Standing::Registered { .. }), "{:?}", node.keeper.problems());
    assert_eq!(sound_view(&etcd).nodes[&"n1".parse::<NodeName>().unwrap()].value.version, "2");
}

#[test]
fn a_view_that_is_older_than_our_own_write_is_no_deletion() {
    let etcd = cluster(&[("main", "10.42.0.0/16", 26)]);
    let mut node = Node::new(&etcd, "n1");
    node.see();
    let mut old = View::default();
    old.replace(&etcd.look(&Range::watched()));
    while node.act() {}
    node.feed(Input::View(Arc::new(old)));
    while node.act() {}
    node.see();
    while node.act() {}
    assert!(matches!(node.keeper.standing(), Standing::Registered { .. }));
    assert_eq!(node.open().len(), 1, "nor are blocks closed for it");
}

#[test]
fn an_etcd_that_steps_back_is_reported_and_nothing_is_claimed() {
    let etcd = cluster(&[("main", "10.42.0.0/16", 30)]);
    let mut node = Node::new(&etcd, "n1");
    node.settle();
    let claims = node.claims;
    node.feed(Input::View(Arc::new(View { revision: 1, ..View::default() })));
    node.assign(false, 4);
    while node.act() {}
    assert!(node.has_problem(|p| matches!(p, Problem::SteppedBack { now: 1, .. })));
    assert_eq!(node.claims, claims);
    assert_eq!(node.open().len(), 1);
}
