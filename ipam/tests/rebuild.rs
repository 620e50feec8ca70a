//! A store that was lost, and learns again from the kernel.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::net::IpAddr;

use common::{at, attach, block, delete, ip, ip_of, ips, key, node, reserve, reserve_of, store_with};
use tempfile::TempDir;
use twill_conf::PoolName;
use twill_ipam::store::{BlockState, Observed, Rebuilt, Role};
use twill_ipam::{BootTime, Error, KeyHash, State, Store};

fn pool() -> PoolName {
    "default".parse().unwrap()
}

fn pods(attachments: &[(KeyHash, &[&str])]) -> Observed {
    let attachments = attachments.iter().map(|(hash, list)| (*hash, list.iter().map(|text| ip(text)).collect()));
    Observed { attachments: attachments.collect(), ..Observed::default() }
}

fn rebuild(store: &mut Store, observed: &Observed, now: BootTime) -> Option<Rebuilt> {
    store.rebuild(|| Ok::<_, Error>(observed.clone()), now).unwrap()
}

/// A store of a node that was rebuilt from that at 0.
fn rebuilt(role: Role, observed: &Observed) -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), role).unwrap();
    store.set_node(&node(true, false)).unwrap();
    rebuild(&mut store, observed, at(0)).unwrap();
    (dir, store)
}

#[test]
fn a_rebuilt_store_knows_the_kernels_addresses_and_lets_all_others_cool() {
    let mut observed = pods(&[(key("a").hash(), &["10.0.0.1", "fd00::1", "10.0.0.1"]), (KeyHash(5), &["192.0.2.1"])]);
    observed.tunnel = vec![ip("10.0.0.0")];
    let (_dir, mut store) = rebuilt(Role::Daemon, &observed);
    assert!(!store.needs_rebuild().unwrap());
    store.bring_back(block("10.0.0.0/16"), &pool()).unwrap();
    assert!(matches!(reserve(&mut store, "b", at(29)), Err(Error::NoFreeAddress { used: 65536, .. })));
    let usage = &store.blocks(at(29)).unwrap()[0];
    assert_eq!((usage.assigned, usage.cooling, usage.free()), (1, 65534, 0));
    assert!(!store.remove_block(block("10.0.0.0/16"), at(29)).unwrap());
    assert_eq!(store.tunnel(false, at(29)).unwrap(), Some(ip("10.0.0.0")));
    assert_eq!(ip_of(&reserve(&mut store, "b", at(30)).unwrap()), ip("10.0.0.2"));
    let row = store.attachment(key("a").hash()).unwrap().unwrap();
    assert_eq!((row.state, row.key.clone()), (State::Attached, None));
    assert_eq!(row.addresses[0], (ip("10.0.0.1"), block("10.0.0.0/16")));
    delete(&mut store, "a", at(40));
    store.mark_deleting(KeyHash(5), at(40)).unwrap().unwrap();
}

#[test]
fn a_store_is_rebuilt_once_and_who_comes_later_does_not_even_look() {
    let (dir, mut store) = rebuilt(Role::Plugin, &Observed::default());
    let mut late = Store::open(dir.path(), Role::Plugin).unwrap();
    // A veth that an ADD has just made says nothing about a store before this one.
    attach_in_subnet(&mut store, "a");
    let nothing = late.rebuild(|| -> Result<Observed, Error> { panic!("there is nothing to look at") }, at(1));
    assert_eq!(nothing.unwrap(), None);
    reserve_of(&mut late, "b", &["10.1.0.0/24"], at(2)).unwrap();
}

fn attach_in_subnet(store: &mut Store, container: &str) {
    let row = reserve_of(store, container, &["10.1.0.0/24"], at(0)).unwrap();
    store.confirm(row.id, at(0)).unwrap();
}

#[test]
fn attachments_that_the_store_has_are_left_alone_and_do_not_tell_of_a_lost_one() {
    let (_dir, mut store) = store_with(&["10.0.0.0/26"]);
    let row = attach(&mut store, "a", at(0));
    let done = rebuild(&mut store, &pods(&[(row.hash, &["10.0.0.9"])]), at(1)).unwrap();
    assert_eq!(done, Rebuilt::default());
    assert_eq!(ips(&store.attachments().unwrap()[0]), ips(&row));
    reserve(&mut store, "b", at(2)).unwrap();
}

#[test]
fn an_attachment_whose_link_goes_during_the_rebuild_does_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), Role::Daemon).unwrap();
    let mut looks = [pods(&[(KeyHash(1), &["10.0.0.1"])]), pods(&[(KeyHash(1), &[]), (KeyHash(2), &["10.0.0.2"])])];
    let done = store.rebuild(|| Ok::<_, Error>(looks[1].clone()), at(0)).unwrap().unwrap();
    assert_eq!(done.added, [KeyHash(1), KeyHash(2)]);

    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), Role::Daemon).unwrap();
    looks.reverse();
    let mut looks = looks.into_iter();
    let done = store.rebuild(|| Ok::<_, Error>(looks.next().unwrap()), at(0)).unwrap().unwrap();
    assert_eq!(done.added, [KeyHash(1)]);
    assert_eq!(store.attachments().unwrap().iter().map(|row| row.hash).collect::<Vec<_>>(), [KeyHash(1)]);
}

#[test]
fn nobody_opens_the_store_while_it_is_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), Role::Daemon).unwrap();
    let look = || {
        let quick = twill_ipam::store::Environment { patience: std::time::Duration::ZERO, ..Default::default() };
        assert!(matches!(Store::open_in(dir.path(), Role::Plugin, &quick), Err(Error::Contended(_))));
        Ok::<_, Error>(Observed::default())
    };
    store.rebuild(look, at(0)).unwrap();
    Store::open(dir.path(), Role::Plugin).unwrap();
}

#[test]
fn an_old_block_that_becomes_known_later_cools_for_the_rest_of_the_time_and_a_claimed_one_not_at_all() {
    let (_dir, mut store) = rebuilt(Role::Daemon, &pods(&[(KeyHash(1), &["10.0.0.0"])]));
    store.bring_back(block("10.0.0.0/31"), &pool()).unwrap();
    assert!(matches!(reserve(&mut store, "a", at(29)), Err(Error::NoFreeAddress { .. })));
    store.put_block(block("10.0.0.2/31"), &pool(), BlockState::Open).unwrap();
    assert_eq!(ip_of(&reserve(&mut store, "a", at(29)).unwrap()), ip("10.0.0.2"));
    assert_eq!(ip_of(&reserve(&mut store, "b", at(30)).unwrap()), ip("10.0.0.1"));
}

#[test]
fn a_block_that_is_brought_back_while_it_is_there_is_opened_and_goes_on() {
    let (_dir, mut store) = store_with(&["10.0.0.0/26"]);
    store.put_block(block("10.0.0.0/26"), &pool(), BlockState::Closing).unwrap();
    store.bring_back(block("10.0.0.0/26"), &pool()).unwrap();
    reserve(&mut store, "a", at(0)).unwrap();
    assert!(matches!(store.bring_back(block("10.0.0.0/24"), &pool()), Err(Error::Overlap { .. })));
}

#[test]
fn an_address_of_the_node_in_a_subnet_is_never_given_and_delays_nothing() {
    let local: Vec<IpAddr> = vec![ip("10.1.0.0"), ip("192.0.2.1"), ip("192.0.2.1")];
    let (_dir, mut store) = rebuilt(Role::Plugin, &Observed { local, ..Observed::default() });
    assert_eq!(ip_of(&reserve_of(&mut store, "a", &["10.1.0.0/30"], at(0)).unwrap()), ip("10.1.0.1"));
    assert_eq!(store.blocks(at(0)).unwrap()[0].free(), 2);
    store.put_block(block("192.0.2.0/31"), &pool(), BlockState::Open).unwrap();
    assert_eq!(store.tunnel(false, at(0)).unwrap(), Some(ip("192.0.2.0")), "a local address is not the tunnel's");
}

#[test]
fn an_address_of_two_owners_is_withheld_and_all_else_is_rebuilt() {
    let twice = pods(&[(KeyHash(1), &["10.0.0.0", "10.0.0.1"]), (KeyHash(2), &["10.0.0.0"])]);
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), Role::Daemon).unwrap();
    let done = rebuild(&mut store, &twice, at(0)).unwrap();
    assert_eq!(done, Rebuilt { added: vec![KeyHash(1), KeyHash(2)], disputed: vec![ip("10.0.0.0")] });
    let rows = store.attachments().unwrap();
    assert_eq!(rows.iter().map(ips).collect::<Vec<_>>(), [vec![ip("10.0.0.1")], vec![]]);
    for row in rows {
        store.release(row.id, at(1)).unwrap();
    }
    store.set_node(&node(true, false)).unwrap();
    store.bring_back(block("10.0.0.0/31"), &pool()).unwrap();
    assert_eq!(ip_of(&reserve(&mut store, "a", at(99)).unwrap()), ip("10.0.0.1"));
    assert!(matches!(reserve(&mut store, "b", at(99)), Err(Error::NoFreeAddress { .. })));
}

#[test]
fn an_address_that_somebody_in_the_store_has_stays_with_him() {
    let (_dir, mut store) = store_with(&["10.0.0.0/26"]);
    let row = attach(&mut store, "a", at(0));
    let done = rebuild(&mut store, &pods(&[(KeyHash(1), &["10.0.0.0"])]), at(0)).unwrap();
    assert_eq!(done.disputed, ips(&row));
    assert_eq!(ips(&store.attachment(row.hash).unwrap().unwrap()), ips(&row));
    assert!(ips(&store.attachment(KeyHash(1)).unwrap().unwrap()).is_empty());
}

#[test]
fn the_first_store_of_a_boot_lets_nothing_cool_where_the_kernel_has_nothing() {
    let (_dir, mut store) = rebuilt(Role::Daemon, &Observed::default());
    store.bring_back(block("10.0.0.0/26"), &pool()).unwrap();
    reserve(&mut store, "a", at(0)).unwrap();
}

#[test]
fn stand_alone_blocks_of_a_rebuilt_store_take_up_what_was_observed_and_cool() {
    let (_dir, mut store) = rebuilt(Role::Plugin, &pods(&[(KeyHash(1), &["10.1.0.0"])]));
    assert!(matches!(reserve_of(&mut store, "a", &["10.1.0.0/24"], at(29)), Err(Error::NoFreeAddress { .. })));
    assert_eq!(ip_of(&reserve_of(&mut store, "a", &["10.1.0.0/24"], at(30)).unwrap()), ip("10.1.0.1"));
}
