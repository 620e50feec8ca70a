//! What an ADD would find is told without giving anything.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{at, attach, block, delete, reserve, reserve_of, store_with};
use ipnetwork::IpNetwork;
use twill_ipam::store::{BlockState, Observed, Outlook, Role};
use twill_ipam::{Error, KeyHash, Store};

/// Total, assigned, cooling and free of the only family.
fn counts(found: Result<Vec<Outlook>, Error>) -> (u64, u64, u64, u64) {
    let [one] = &found.unwrap()[..] else { panic!("not one family") };
    (one.total, one.assigned, one.cooling, one.free)
}

fn subnets(list: &[&str]) -> Vec<IpNetwork> {
    list.iter().map(|subnet| subnet.parse().unwrap()).collect()
}

#[test]
fn the_outlook_follows_what_is_given_and_what_cools() {
    let (_dir, mut store) = store_with(&["10.42.0.0/30"]);
    assert_eq!(counts(store.outlook(&[], &[], at(0))), (4, 0, 0, 4));
    store.tunnel(false, at(0)).unwrap();
    for pod in ["a", "b", "c"] {
        attach(&mut store, pod, at(0));
    }
    assert_eq!(counts(store.outlook(&[], &[], at(0))), (4, 3, 0, 0));
    delete(&mut store, "a", at(10));
    assert_eq!(counts(store.outlook(&[], &[], at(39))), (4, 2, 1, 0));
    assert!(matches!(reserve(&mut store, "d", at(39)), Err(Error::NoFreeAddress { .. })));
    assert_eq!(counts(store.outlook(&[], &[], at(40))), (4, 2, 0, 1));
    reserve(&mut store, "d", at(40)).unwrap();
}

#[test]
fn subnets_are_counted_as_if_their_blocks_were_made_and_none_is() {
    let (_dir, mut store) = store_with(&[]);
    let wide = subnets(&["10.42.0.0/29", "fd00::/126"]);
    let found = store.outlook(&wide, &[], at(0)).unwrap();
    assert_eq!(found.iter().map(|one| one.free).collect::<Vec<_>>(), [8, 4]);
    assert_eq!(store.blocks(at(0)).unwrap(), []);
    let narrow = ["10.42.0.0/31"];
    for pod in ["a", "b"] {
        reserve_of(&mut store, pod, &narrow, at(0)).unwrap();
    }
    assert_eq!(counts(store.outlook(&subnets(&narrow), &[], at(0))), (2, 2, 0, 0));
    assert_eq!(counts(store.outlook(&subnets(&["10.42.0.0/29"]), &[], at(0))), (8, 2, 0, 6));
    assert_eq!(store.blocks(at(0)).unwrap().len(), 1);
}

#[test]
fn a_node_without_a_block_is_not_ready_and_a_subnet_across_a_block_is_refused() {
    let (_dir, store) = store_with(&["10.42.0.0/30"]);
    assert!(matches!(store.outlook(&subnets(&["10.42.0.0/24"]), &[], at(0)), Err(Error::Overlap { .. })));
    let (_dir, mut store) = store_with(&["10.42.0.0/30"]);
    store.put_block(block("10.42.0.0/30"), &"default".parse().unwrap(), BlockState::Closing).unwrap();
    assert!(matches!(store.outlook(&[], &[], at(0)), Err(Error::NotReady)));
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Store::open(dir.path(), Role::Daemon).unwrap().outlook(&[], &[], at(0)), Err(Error::NotReady)));
}

#[test]
fn after_the_loss_of_a_store_all_that_is_not_known_cools() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path(), Role::Plugin).unwrap());
    std::fs::remove_file(dir.path().join("node.db")).unwrap();
    let mut store = Store::open(dir.path(), Role::Plugin).unwrap();
    let wanted = subnets(&["10.42.0.0/30"]);
    assert!(matches!(store.outlook(&wanted, &[], at(0)), Err(Error::NotRebuilt)));
    let seen = Observed { attachments: vec![(KeyHash(1), vec!["10.42.0.1".parse().unwrap()])], ..Observed::default() };
    store.rebuild(|| Ok::<_, Error>(seen.clone()), at(0)).unwrap();
    assert_eq!(counts(store.outlook(&wanted, &[], at(1))), (4, 1, 3, 0));
    assert_eq!(counts(store.outlook(&wanted, &[], at(30))), (4, 1, 0, 3));
}
