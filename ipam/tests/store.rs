//! The methods of the store, one by one.

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use common::{at, attach, block, delete, ip, ip_of, ips, key, node, reserve, reserve_of, store_with};
use twill_ipam::attachment::Pod;
use twill_ipam::store::{Attempt, BlockState, Origin, Reservation, Role};
use twill_ipam::{Error, KeyHash, Liveness, State, Store};

#[test]
fn a_pod_gets_one_address_of_each_family_ipv4_first() {
    let (_dir, mut store) = store_with(&["fd00::/122", "10.0.0.0/26"]);
    let row = reserve(&mut store, "a", at(0)).unwrap();
    assert_eq!(row.addresses, [(ip("10.0.0.0"), block("10.0.0.0/26")), (ip("fd00::"), block("fd00::/122"))]);
    assert_eq!(row.state, State::Reserved);
    assert_eq!(store.attachment(key("a").hash()).unwrap().unwrap(), row);
    assert!(store.still_reserved(row.id).unwrap());
}

#[test]
fn what_was_reserved_is_read_back_with_all_its_fields() {
    let (_dir, mut store) = store_with(&["10.0.0.0/26"]);
    let pod = Pod { namespace: "default".into(), name: "web-0".into() };
    let (netns, key) = (std::ffi::OsStr::new("/run/netns/x"), key("a"));
    let wanted =
        Reservation { key: &key, netns: Path::new(netns), pod: Some(&pod), subnets: &[], pools: &[], requested: &[] };
    let row = store.reserve(&wanted, at(3)).unwrap();
    store.confirm(row.id, at(4)).unwrap();
    let read = store.attachments().unwrap();
    assert_eq!(read, [twill_ipam::Attachment { state: State::Attached, changed: at(4), ..row }]);
}

#[test]
fn a_row_that_exists_is_told_with_its_state() {
    let (_dir, mut store) = store_with(&["10.0.0.0/26"]);
    attach(&mut store, "a", at(0));
    assert!(matches!(reserve(&mut store, "a", at(1)), Err(Error::Exists { state: State::Attached })));
    store.mark_deleting(key("a").hash(), at(2)).unwrap();
    assert!(matches!(reserve(&mut store, "a", at(3)), Err(Error::Exists { state: State::Deleting })));
}

#[test]
fn the_reservation_of_a_killed_add_is_taken_over_with_its_address_as_a_new_row() {
    let (_dir, mut store) = store_with(&["10.0.0.0/26", "fd00::/122"]);
    let killed = reserve(&mut store, "a", at(0)).unwrap();
    let taken = reserve(&mut store, "a", at(1)).unwrap();
    assert_eq!(taken.addresses, killed.addresses);
    assert!(taken.id > killed.id);
    assert!(matches!(store.confirm(killed.id, at(2)), Err(Error::Overtaken)));
    store.confirm(taken.id, at(2)).unwrap();
}

#[test]
fn a_reservation_in_a_closed_block_is_taken_over_with_another_address() {
    let (_dir, mut store) = store_with(&["10.0.0.0/26"]);
    reserve(&mut store, "a", at(0)).unwrap();
    store.put_block(block("10.0.0.0/26"), &"default".parse().unwrap(), BlockState::Closing).unwrap();
    store.put_block(block("10.0.1.0/26"), &"default".parse().unwrap(), BlockState::Open).unwrap();
    assert_eq!(ip_of(&reserve(&mut store, "a", at(1)).unwrap()), ip("10.0.1.0"));
}

#[test]
fn a_del_in_between_overtakes_the_add() {
    let (_dir, mut store) = store_with(&["10.0.0.0/26"]);
    let row = reserve(&mut store, "a", at(0)).unwrap();
    store.mark_deleting(row.hash, at(1)).unwrap();
    assert!(!store.still_reserved(row.id).unwrap());
    assert!(matches!(store.confirm(row.id, at(2)), Err(Error::Overtaken)));
    store.release(row.id, at(3)).unwrap();
    assert!(matches!(store.confirm(row.id, at(4)), Err(Error::Overtaken)));
}

#[test]
fn deleting_again_or_what_was_never_there_does_nothing() {
    let (_dir, mut store) = store_with(&["10.0.0.0/26"]);
    assert!(store.mark_deleting(key("a").hash(), at(0)).unwrap().is_none());
    let row = attach(&mut store, "a", at(0));
    assert_eq!(store.mark_deleting(row.hash, at(1)).unwrap().unwrap().changed, at(1));
    assert_eq!(store.mark_deleting(row.hash, at(2)).unwrap().unwrap().changed, at(1));
    store.release(row.id, at(3)).unwrap();
    store.release(row.id, at(4)).unwrap();
    assert!(store.attachments().unwrap().is_empty());
}

#[test]
fn a_freed_address_cools_for_thirty_seconds_and_then_comes_back() {
    let (_dir, mut store) = store_with(&["10.0.0.0/32"]);
    attach(&mut store, "a", at(0));
    delete(&mut store, "a", at(10));
    assert!(matches!(reserve(&mut store, "b", at(39)), Err(Error::NoFreeAddress { used: 1, total: 1, .. })));
    assert_eq!(store.blocks(at(39)).unwrap()[0].cooling, 1);
    assert_eq!(store.blocks(at(40)).unwrap()[0].free(), 1);
    assert_eq!(ip_of(&reserve(&mut store, "b", at(40)).unwrap()), ip("10.0.0.0"));
}

#[test]
fn the_same_container_has_its_cooling_address_back_at_once() {
    let (_dir, mut store) = store_with(&["10.0.0.0/26", "fd00::/122"]);
    let first = attach(&mut store, "a", at(0));
    delete(&mut store, "a", at(10));
    assert_ne!(ips(&attach(&mut store, "b", at(11))), ips(&first));
    assert_eq!(attach(&mut store, "a", at(12)).addresses, first.addresses);
}

#[test]
fn every_address_up_to_the_numeric_end_is_given() {
    for (text, size) in [
        ("255.255.255.252/30", 4),
        ("255.255.255.254/31", 2),
        ("255.255.255.255/32", 1),
        ("0.0.0.0/30", 4),
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffc/126", 4),
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128", 1),
        ("::/127", 2),
    ] {
        let (_dir, mut store) = store_with(&[text]);
        let given: BTreeSet<_> = (0..size).map(|n| ip_of(&attach(&mut store, &format!("c{n}"), at(0)))).collect();
        assert_eq!(given.len(), size, "{text}");
        assert!(given.contains(&block(text).last()), "{text}");
        assert!(matches!(reserve(&mut store, "more", at(0)), Err(Error::NoFreeAddress { .. })), "{text}");
    }
}

#[test]
fn addresses_go_round_so_that_one_given_back_rests_longest() {
    let (_dir, mut store) = store_with(&["10.0.0.0/30"]);
    let given: Vec<_> = (0..6_u64)
        .map(|n| {
            let row = attach(&mut store, &format!("c{n}"), at(100 * n));
            delete(&mut store, &format!("c{n}"), at(100 * n));
            ip_of(&row)
        })
        .collect();
    assert_eq!(given, ["10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.0", "10.0.0.1"].map(ip));
}

#[test]
fn blocks_serve_in_order_of_address_where_there_is_room() {
    let (_dir, mut store) = store_with(&["10.0.1.0/31", "10.0.0.0/31"]);
    let given: Vec<_> = (0..4).map(|n| ip_of(&attach(&mut store, &format!("c{n}"), at(0)))).collect();
    assert_eq!(given, ["10.0.0.0", "10.0.0.1", "10.0.1.0", "10.0.1.1"].map(ip));
}

#[test]
fn a_closing_block_gives_no_address_and_keeps_those_it_gave() {
    let (_dir, mut store) = store_with(&["10.0.0.0/26"]);
    attach(&mut store, "a", at(0));
    store.put_block(block("10.0.0.0/26"), &"default".parse().unwrap(), BlockState::Closing).unwrap();
    assert!(matches!(reserve(&mut store, "b", at(1)), Err(Error::NotReady)));
    assert_eq!(store.blocks(at(1)).unwrap()[0].assigned, 1);
}

#[test]
fn only_blocks_of_the_wanted_pools_serve() {
    let (_dir, mut store) = store_with(&["10.0.0.0/26"]);
    store.put_block(block("10.0.1.0/26"), &"other".parse().unwrap(), BlockState::Open).unwrap();
    let (key, netns, other) = (key("a"), Path::new("/n"), ["other".parse().unwrap()]);
    let wanted = Reservation { key: &key, netns, pod: None, subnets: &[], pools: &other, requested: &[] };
    assert_eq!(ip_of(&store.reserve(&wanted, at(0)).unwrap()), ip("10.0.1.0"));
    let none = ["none".parse().unwrap()];
    let wanted = Reservation { key: &common::key("b"), netns, pod: None, subnets: &[], pools: &none, requested: &[] };
    assert!(matches!(store.reserve(&wanted, at(0)), Err(Error::NoFreeAddress { total: 0, .. })));
}

#[test]
fn without_node_or_block_the_store_is_not_ready() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), Role::Plugin).unwrap();
    assert!(matches!(reserve(&mut store, "a", at(0)), Err(Error::NotReady)));
    store.set_node(&node(true, false)).unwrap();
    assert!(matches!(reserve(&mut store, "a", at(0)), Err(Error::NotReady)));
    assert!(store.attachments().unwrap().is_empty());
}

#[test]
fn a_pool_is_exhausted_only_where_the_daemon_said_so() {
    let (_dir, mut store) = store_with(&["10.0.0.0/32"]);
    attach(&mut store, "a", at(0));
    assert!(reserve(&mut store, "b", at(0)).unwrap_err().is_temporary());
    let pool = "default".parse().unwrap();
    store.set_node(&twill_ipam::store::Node { exhausted: vec![pool], ..node(true, false) }).unwrap();
    let error = reserve(&mut store, "b", at(0)).unwrap_err();
    assert!(matches!(error, Error::NoFreeAddress { family: "IPv4", used: 1, total: 1, .. }), "{error:?}");
    assert!(
        !error.is_temporary()
            && error.to_string().ends_with("pool default is exhausted: each of its blocks has an owner")
    );
    assert!(store.attachment(key("b").hash()).unwrap().is_none());
}

#[test]
fn stand_alone_subnets_need_no_daemon_and_may_be_of_any_size() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), Role::Plugin).unwrap();
    let row = reserve_of(&mut store, "a", &["10.9.0.0/16", "fd00::/64"], at(0)).unwrap();
    assert_eq!(ips(&row), [ip("10.9.0.0"), ip("fd00::")]);
    let usage = store.blocks(at(0)).unwrap();
    assert!(usage.iter().all(|usage| usage.origin == Origin::Configuration && usage.assigned == 1));
    assert_eq!(usage[1].total, u64::MAX);
}

#[test]
fn a_subnet_across_a_block_of_the_cluster_is_refused_and_the_reverse() {
    let (_dir, mut store) = store_with(&["10.0.0.0/26"]);
    for subnet in ["10.0.0.0/26", "10.0.0.0/24", "10.0.0.16/28"] {
        assert!(matches!(reserve_of(&mut store, "a", &[subnet], at(0)), Err(Error::Overlap { .. })), "{subnet}");
    }
    reserve_of(&mut store, "a", &["10.1.0.0/24"], at(0)).unwrap();
    for text in ["10.1.0.0/24", "10.1.0.64/26", "10.1.0.0/16", "10.0.0.0/24"] {
        let put = store.put_block(block(text), &"default".parse().unwrap(), BlockState::Open);
        assert!(matches!(put, Err(Error::Overlap { .. })), "{text}");
    }
    assert_eq!(store.blocks(at(0)).unwrap().len(), 2);
}

#[test]
fn a_subnet_that_was_widened_or_narrowed_gives_no_address_twice() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), Role::Plugin).unwrap();
    let mut given = BTreeSet::new();
    for (subnet, from) in [("10.1.0.4/30", 0), ("10.1.0.0/29", 2), ("10.1.0.4/30", 4)] {
        for n in from..from + 2 {
            let row = reserve_of(&mut store, &format!("c{n}"), &[subnet], at(0)).unwrap();
            assert!(block(subnet).contains(ip_of(&row)));
            assert!(given.insert(ip_of(&row)), "{row:?}");
        }
    }
    assert_eq!(store.blocks(at(0)).unwrap()[0].block, block("10.1.0.0/29"));
    assert_eq!(store.blocks(at(0)).unwrap()[0].assigned, 6);
    let full = reserve_of(&mut store, "more", &["10.1.0.4/30"], at(0));
    assert!(matches!(full, Err(Error::NoFreeAddress { total: 4, .. })), "{full:?}");
}

#[test]
fn a_block_goes_only_when_nothing_is_in_it_and_nothing_cools() {
    let (_dir, mut store) = store_with(&["10.0.0.0/26"]);
    let there = block("10.0.0.0/26");
    attach(&mut store, "a", at(0));
    assert!(!store.close_empty_block(there, at(0)).unwrap());
    assert!(!store.remove_block(there, at(0)).unwrap());
    delete(&mut store, "a", at(1));
    assert!(!store.close_empty_block(there, at(30)).unwrap());
    assert!(!store.remove_block(there, at(30)).unwrap());
    assert!(store.close_empty_block(there, at(31)).unwrap());
    assert!(matches!(reserve(&mut store, "b", at(31)), Err(Error::NotReady)));
    assert!(store.remove_block(there, at(31)).unwrap());
    assert!(store.blocks(at(31)).unwrap().is_empty());
    assert!(store.remove_block(there, at(31)).unwrap());
    assert!(!store.close_empty_block(there, at(31)).unwrap());
}

#[test]
fn the_tunnel_address_stays_and_pins_its_block() {
    let (_dir, mut store) = store_with(&["10.0.0.0/31", "10.0.1.0/31"]);
    attach(&mut store, "a", at(0));
    attach(&mut store, "b", at(0));
    let tunnel = store.tunnel(false, at(0)).unwrap().unwrap();
    assert_eq!(tunnel, ip("10.0.1.0"));
    delete(&mut store, "a", at(1));
    assert_eq!(store.tunnel(false, at(100)).unwrap(), Some(tunnel));
    assert_eq!(store.tunnel(true, at(100)).unwrap(), None);
    assert!(!store.remove_block(block("10.0.1.0/31"), at(100)).unwrap());
    assert_eq!(store.blocks(at(100)).unwrap()[1].tunnel, Some(tunnel));
    assert_eq!(store.blocks(at(100)).unwrap()[1].free(), 1);
    store.release_tunnel(tunnel, at(100)).unwrap();
    assert!(!store.remove_block(block("10.0.1.0/31"), at(129)).unwrap());
    assert!(store.remove_block(block("10.0.1.0/31"), at(130)).unwrap());
}

#[test]
fn a_sweep_frees_only_the_row_it_judged_and_only_under_its_lock() {
    let (dir, mut store) = store_with(&["10.0.0.0/26"]);
    attach(&mut store, "a", at(0));
    let seen = store.attachments().unwrap().remove(0);
    let other = Liveness::try_acquire(dir.path(), KeyHash(1)).unwrap().unwrap();
    assert!(!store.sweep(&seen, &other, at(1)).unwrap());
    let held = Liveness::try_acquire(dir.path(), seen.hash).unwrap().unwrap();
    store.mark_deleting(seen.hash, at(2)).unwrap();
    assert!(!store.sweep(&seen, &held, at(3)).unwrap());
    let seen = store.attachments().unwrap().remove(0);
    assert!(store.sweep(&seen, &held, at(4)).unwrap());
    assert_eq!(store.blocks(at(4)).unwrap()[0].cooling, 1);
}

#[test]
fn the_last_256_attempts_are_kept_newest_first() {
    let (_dir, mut store) = store_with(&[]);
    let attempt = |n: u32| Attempt {
        at: at(n.into()),
        verb: "ADD".into(),
        key: n.is_multiple_of(2).then(|| key("a")),
        pod: Some(Pod { namespace: "default".into(), name: format!("p{n}") }),
        step: "veth".into(),
        cause: "no such device".into(),
        code: 105,
        took: Duration::from_micros(1234),
    };
    for n in 0..300 {
        store.record_attempt(&attempt(n)).unwrap();
    }
    let kept = store.attempts().unwrap();
    assert_eq!(kept, (44..300).rev().map(attempt).collect::<Vec<_>>());
    store.record_attempt(&Attempt { cause: "é".repeat(5000), ..attempt(300) }).unwrap();
    assert_eq!(store.attempts().unwrap()[0].cause.len(), 2048);
}

#[test]
fn the_nodes_row_is_read_back_as_it_was_written() {
    let (_dir, mut store) = store_with(&[]);
    for mtu in [1450, 9000] {
        let node = twill_ipam::store::Node { mtu, exhausted: vec!["a".parse().unwrap()], ..node(true, false) };
        store.set_node(&node).unwrap();
        assert_eq!(store.node().unwrap(), Some(node));
    }
}

#[test]
fn an_operator_reads_addresses_as_text() {
    let (dir, mut store) = store_with(&["10.0.0.0/26", "fd00::/122"]);
    attach(&mut store, "a", at(0));
    store.checkpoint().unwrap();
    drop(store);
    let plain = rusqlite::Connection::open(dir.path().join("node.db")).unwrap();
    let mut select = plain.prepare("SELECT address, block, state, interface FROM assignment").unwrap();
    let rows: Vec<[String; 4]> = select
        .query_map([], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let name = key("a").hash().host_ifname();
    assert_eq!(rows[0], ["10.0.0.0", "10.0.0.0/26", "attached", name.as_str()]);
    assert_eq!(rows[1], ["fd00::", "fd00::/122", "attached", name.as_str()]);
}

#[test]
fn a_store_can_be_moved_to_another_thread() {
    fn assert_send<T: Send>() {}
    assert_send::<Store>();
}
