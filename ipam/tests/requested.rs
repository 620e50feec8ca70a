//! Addresses that are asked for: what is given, and what stands in the way of the rest.

#![allow(clippy::unwrap_used, reason = "these are tests, though their helpers are not marked so")]

mod common;

use std::path::Path;

use common::{ask, at, attach, block, delete, ip, ip_of, ips, key, node, reserve, store_with};
use twill_ipam::attachment::Pod;
use twill_ipam::store::{BlockState, Observed, Reservation, Role};
use twill_ipam::{Error, KeyHash, Store};

/// The text of the refusal.
fn refusal(store: &mut Store, container: &str, address: &str, seconds: u64) -> String {
    match ask(store, container, &[ip(address)], at(seconds)).unwrap_err() {
        error @ Error::Requested { .. } => error.to_string(),
        other => panic!("{other}"),
    }
}

#[test]
fn a_requested_address_is_given_out_of_turn_and_the_other_family_gets_its_next() {
    let (_dir, mut store) = store_with(&["10.0.0.0/29", "fd00::/125"]);
    assert_eq!(ips(&attach(&mut store, "a", at(0))), [ip("10.0.0.0"), ip("fd00::")]);
    let asked = ask(&mut store, "b", &[ip("10.0.0.5")], at(0)).unwrap();
    assert_eq!(ips(&asked), [ip("10.0.0.5"), ip("fd00::1")]);
    assert_eq!(
        ips(&ask(&mut store, "c", &[ip("fd00::7"), ip("10.0.0.7")], at(0)).unwrap()),
        [ip("10.0.0.7"), ip("fd00::7")]
    );
    assert_eq!(ips(&attach(&mut store, "d", at(0))), [ip("10.0.0.1"), ip("fd00::2")], "the round goes on");
    for container in ["e", "f", "g"] {
        attach(&mut store, container, at(0));
    }
    let next = ip_of(&attach(&mut store, "h", at(0)));
    assert_eq!(next, ip("10.0.0.6"), "it passes over what was asked for");
    assert!(matches!(reserve(&mut store, "i", at(0)), Err(Error::NoFreeAddress { used: 8, total: 8, .. })));
}

#[test]
fn an_address_of_a_living_pod_is_refused_with_its_holder() {
    let (_dir, mut store) = store_with(&["10.0.0.0/29"]);
    attach(&mut store, "a", at(0));
    assert!(refusal(&mut store, "b", "10.0.0.0", 0).ends_with("the container a has it"));
    let (key, pod) = (key("c"), Pod { namespace: "shop".into(), name: "till-0".into() });
    let requested = &[ip("10.0.0.3")];
    let netns = Path::new("/run/netns/test");
    let wanted = Reservation { key: &key, netns, pod: Some(&pod), subnets: &[], pools: &[], requested };
    store.reserve(&wanted, at(0)).unwrap();
    assert!(refusal(&mut store, "b", "10.0.0.3", 0).ends_with("the pod shop/till-0 has it"));
    assert_eq!(store.attachments().unwrap().len(), 2, "a refusal leaves no row");
}

#[test]
fn a_cooling_address_goes_to_its_last_holder_at_once_and_to_others_when_it_is_cool() {
    let (_dir, mut store) = store_with(&["10.0.0.0/29"]);
    for (container, address) in [("a", "10.0.0.2"), ("b", "10.0.0.3")] {
        let row = ask(&mut store, container, &[ip(address)], at(0)).unwrap();
        store.confirm(row.id, at(0)).unwrap();
        delete(&mut store, container, at(10));
    }
    assert!(refusal(&mut store, "c", "10.0.0.2", 15).contains("free in 26 s"));
    assert_eq!(ip_of(&ask(&mut store, "a", &[ip("10.0.0.2")], at(15)).unwrap()), ip("10.0.0.2"));
    assert!(refusal(&mut store, "c", "10.0.0.3", 39).contains("free in 2 s"));
    assert_eq!(ip_of(&ask(&mut store, "c", &[ip("10.0.0.3")], at(40)).unwrap()), ip("10.0.0.3"));
}

#[test]
fn an_address_that_the_kernel_refused_cools_for_all_and_its_sibling_only_for_others() {
    let (_dir, mut store) = store_with(&["10.0.0.0/29", "fd00::/125"]);
    let row = ask(&mut store, "a", &[ip("10.0.0.2"), ip("fd00::2")], at(0)).unwrap();
    assert!(store.abandon(row.id, ip("10.0.0.2"), at(0)).unwrap());
    assert!(refusal(&mut store, "a", "10.0.0.2", 0).contains("it cools"));
    assert_eq!(ips(&ask(&mut store, "a", &[ip("fd00::2")], at(0)).unwrap()), [ip("10.0.0.0"), ip("fd00::2")]);
}

#[test]
fn a_killed_add_that_asked_is_taken_over_with_its_address() {
    let (_dir, mut store) = store_with(&["10.0.0.0/29"]);
    let dead = ask(&mut store, "a", &[ip("10.0.0.4")], at(0)).unwrap();
    let again = ask(&mut store, "a", &[ip("10.0.0.4")], at(1)).unwrap();
    assert!(again.id > dead.id && ip_of(&again) == ip("10.0.0.4"));
    // It asks for another one now: the first cools in its name.
    assert_eq!(ip_of(&ask(&mut store, "a", &[ip("10.0.0.6")], at(2)).unwrap()), ip("10.0.0.6"));
    assert!(refusal(&mut store, "b", "10.0.0.4", 3).contains("it cools"));
    let usage = &store.blocks(at(3)).unwrap()[0];
    assert_eq!((usage.assigned, usage.cooling), (1, 1));
}

#[test]
fn an_address_that_is_not_this_nodes_to_give_is_refused_with_the_reason() {
    let (_dir, mut store) = store_with(&["10.0.0.0/29", "10.0.0.8/29"]);
    store.put_block(block("10.0.0.8/29"), &"default".parse().unwrap(), BlockState::Closing).unwrap();
    store.put_block(block("10.1.0.0/29"), &"other".parse().unwrap(), BlockState::Open).unwrap();
    assert!(refusal(&mut store, "a", "192.0.2.1", 0).ends_with("which are 10.0.0.0/29, 10.1.0.0/29"));
    assert!(refusal(&mut store, "a", "10.0.0.9", 0).ends_with("its block 10.0.0.8/29 is being given back"));
    assert!(refusal(&mut store, "a", "fd00::1", 0).ends_with("no address of its family is given here"));
    let (key, pools, requested) = (key("a"), ["default".parse().unwrap()], [ip("10.1.0.1")]);
    let netns = Path::new("/run/netns/test");
    let wanted = Reservation { key: &key, netns, pod: None, subnets: &[], pools: &pools, requested: &requested };
    let error = store.reserve(&wanted, at(0)).unwrap_err().to_string();
    assert!(error.ends_with("it is of the pool other, which the configuration does not name"), "{error}");
    assert_eq!(store.attachments().unwrap(), []);
}

#[test]
fn an_address_of_the_node_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), Role::Daemon).unwrap();
    store.set_node(&node(true, false)).unwrap();
    store.put_block(block("10.0.0.0/29"), &"default".parse().unwrap(), BlockState::Open).unwrap();
    let tunnel = store.tunnel(false, at(0)).unwrap().unwrap();
    assert!(refusal(&mut store, "a", &tunnel.to_string(), 0).ends_with("it is an address of the node itself"));
}

#[test]
fn after_a_loss_an_address_of_which_nothing_is_known_cools_for_whoever_asks() {
    let (_dir, mut store) = store_with(&["10.0.0.0/29"]);
    let attachments = vec![(KeyHash(1), vec![ip("10.0.0.3")])];
    let observed = Observed { attachments, ..Observed::default() };
    store.rebuild(|| Ok::<_, Error>(observed.clone()), at(0)).unwrap().unwrap();
    assert!(refusal(&mut store, "a", "10.0.0.3", 10).ends_with("the pod behind tw0000000000001 has it"));
    assert!(refusal(&mut store, "a", "10.0.0.4", 10).contains("free in 21 s"));
    assert_eq!(ip_of(&ask(&mut store, "a", &[ip("10.0.0.4")], at(30)).unwrap()), ip("10.0.0.4"));
}

#[test]
fn stand_alone_an_address_lies_in_the_subnets_of_the_call() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), Role::Plugin).unwrap();
    store.rebuild(|| Ok::<_, Error>(Observed::default()), at(0)).unwrap();
    let subnets = ["10.0.0.0/29".parse().unwrap(), "fd00::/64".parse().unwrap()];
    let mut reserve = |container: &str, requested: &[&str]| {
        let (key, requested): (_, Vec<_>) = (key(container), requested.iter().map(|text| ip(text)).collect());
        let netns = Path::new("/run/netns/test");
        let wanted = Reservation { key: &key, netns, pod: None, subnets: &subnets, pools: &[], requested: &requested };
        store.reserve(&wanted, at(0)).map(|row| ips(&row)).map_err(|error| error.to_string())
    };
    assert_eq!(reserve("a", &["fd00::abcd:1234"]).unwrap(), [ip("10.0.0.0"), ip("fd00::abcd:1234")]);
    assert!(reserve("b", &["10.0.0.8"]).unwrap_err().ends_with("which are 10.0.0.0/29"));
    assert_eq!(reserve("b", &[]).unwrap(), [ip("10.0.0.1"), ip("fd00::")]);
}

#[test]
fn who_abandons_an_address_is_told_that_a_del_came_in_between() {
    let (_dir, mut store) = store_with(&["10.0.0.0/29"]);
    let row = reserve(&mut store, "a", at(0)).unwrap();
    let ip = row.addresses[0].0;
    store.mark_deleting(row.hash, at(0)).unwrap();
    assert!(!store.abandon(row.id, ip, at(0)).unwrap());
    assert_eq!(store.attachment(row.hash).unwrap(), None);
}
