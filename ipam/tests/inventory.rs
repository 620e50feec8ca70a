//! All that is in use at one moment; a node that is drained; a pod that is taken over.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{at, attach, block, delete, ip, key, node, reserve, store_with};
use twill_ipam::store::{Node, Observed, Occupant, Occupied};
use twill_ipam::{Error, Liveness, State};

#[test]
fn the_inventory_tells_of_each_address_why_it_is_not_free_until_it_has_cooled() {
    let (_dir, mut store) = store_with(&["10.0.0.0/28"]);
    store.tunnel(false, at(0)).unwrap();
    attach(&mut store, "a", at(1));
    attach(&mut store, "b", at(2));
    reserve(&mut store, "c", at(3)).unwrap();
    delete(&mut store, "b", at(10));
    let found = store.inventory(at(39)).unwrap();
    assert_eq!(found.node, Some(node(true, false)));
    assert_eq!(found.blocks, store.blocks(at(39)).unwrap());
    let occupied = |last: &str, by| Occupied { ip: ip(last), block: Some(block("10.0.0.0/28")), by };
    let cooling = Occupant::Cooling { since: at(10), until: at(40), owner: Some(key("b").hash()) };
    let wanted = [
        occupied("10.0.0.0", Occupant::Tunnel),
        occupied("10.0.0.1", Occupant::Attachment(0)),
        occupied("10.0.0.2", cooling),
        occupied("10.0.0.3", Occupant::Attachment(1)),
    ];
    assert_eq!(found.addresses, wanted);
    assert_eq!(found.attachments.iter().map(|row| row.state).collect::<Vec<_>>(), [State::Attached, State::Reserved]);
    assert_eq!(store.inventory(at(40)).unwrap().addresses.len(), 3);
}

#[test]
fn a_block_of_a_lost_store_is_told_to_cool() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = twill_ipam::Store::open(dir.path(), twill_ipam::store::Role::Daemon).unwrap();
    let attachments = vec![(key("a").hash(), vec![ip("10.0.0.1")])];
    let seen = Observed { attachments, ..Observed::default() };
    store.rebuild(|| Ok::<_, Error>(seen.clone()), at(0)).unwrap();
    store.bring_back(block("10.0.0.0/28"), &"default".parse().unwrap()).unwrap();
    assert_eq!(store.inventory(at(29)).unwrap().cooling, [(block("10.0.0.0/28"), at(30))]);
    assert_eq!(store.inventory(at(30)).unwrap().cooling, []);
}

#[test]
fn a_node_that_is_drained_gives_no_address_and_keeps_those_that_are_given() {
    let (_dir, mut store) = store_with(&["10.0.0.0/28"]);
    attach(&mut store, "a", at(1));
    store.set_node(&Node { drain: Some("w".into()), ..node(true, false) }).unwrap();
    assert_eq!(store.node().unwrap(), Some(Node { drain: Some("w".into()), ..node(true, false) }));
    let refused = reserve(&mut store, "b", at(2)).unwrap_err();
    assert!(!refused.is_temporary());
    assert!(refused.to_string().contains("'twillctl node drain n1 --undo'"), "{refused}");
    assert!(matches!(store.outlook(&[], &[], at(2)), Err(Error::Draining { .. })));
    delete(&mut store, "a", at(3));
    store.set_node(&node(true, false)).unwrap();
    reserve(&mut store, "b", at(4)).unwrap();
}

#[test]
fn an_older_program_that_writes_the_node_leaves_no_drain_behind() {
    let (dir, mut store) = store_with(&["10.0.0.0/28"]);
    store.set_node(&Node { drain: Some("w".into()), ..node(true, false) }).unwrap();
    let older = rusqlite::Connection::open(dir.path().join("node.db")).unwrap();
    let write = "INSERT OR REPLACE INTO node (id, name, mtu, ipv4, ipv6, exhausted) VALUES (1, 'n1', 1450, 1, 0, '[]')";
    older.execute(write, []).unwrap();
    assert_eq!(store.node().unwrap(), Some(node(true, false)));
}

#[test]
fn a_pod_without_a_row_is_taken_over_once_and_its_address_is_nobody_elses() {
    let (dir, mut store) = store_with(&["10.0.0.0/28"]);
    let hash = key("a").hash();
    let seen = |addresses: &[&str]| Observed {
        attachments: vec![(hash, addresses.iter().map(|text| ip(text)).collect())],
        ..Observed::default()
    };
    let held = Liveness::try_acquire(dir.path(), hash).unwrap().unwrap();
    assert!(store.adopt(&seen(&["10.0.0.0"]), &held, at(1)).unwrap());
    assert!(!store.adopt(&seen(&["10.0.0.0"]), &held, at(2)).unwrap(), "it has a row now");
    let row = store.attachment(hash).unwrap().unwrap();
    assert_eq!((row.state, row.addresses), (State::Attached, vec![(ip("10.0.0.0"), block("10.0.0.0/28"))]));
    assert_eq!(common::ip_of(&reserve(&mut store, "b", at(3)).unwrap()), ip("10.0.0.1"));
    assert_eq!(store.blocks(at(3)).unwrap()[0].assigned, 2);
}

#[test]
fn a_pod_whose_address_is_anothers_or_who_was_not_seen_is_not_taken_over() {
    let (dir, mut store) = store_with(&["10.0.0.0/28"]);
    attach(&mut store, "b", at(1));
    let (one, two) = (key("a").hash(), key("c").hash());
    let held = Liveness::try_acquire(dir.path(), one).unwrap().unwrap();
    let taken = Observed { attachments: vec![(one, vec![ip("10.0.0.0")])], ..Observed::default() };
    assert!(!store.adopt(&taken, &held, at(2)).unwrap());
    let twice = vec![(one, vec![ip("10.0.0.5")]), (two, vec![ip("10.0.0.5")])];
    assert!(!store.adopt(&Observed { attachments: twice, ..Observed::default() }, &held, at(2)).unwrap());
    assert!(!store.adopt(&Observed::default(), &held, at(2)).unwrap());
    assert_eq!(store.attachments().unwrap().len(), 1);
}
