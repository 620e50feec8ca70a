//! Pools as the daemon tells of them: to whom they give, what they reserve, and what an ADD may want of the daemon.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::{ask, at, attach, block, delete, ip, ip_of, ips, key, node, reserve, store_with};
use twill_conf::PoolName;
use twill_conf::cluster::{Given, Pool};
use twill_ipam::store::{BlockState, Environment, Node, Outlook, Reservation, Role, Schema};
use twill_ipam::{Attachment, Error, NodePool, Store, Want};

fn name(text: &str) -> PoolName {
    text.parse().unwrap()
}

/// A pool as the daemon tells of it.
fn pool(name: &str, cidr: &str, given: Given, reserved: &[&str]) -> NodePool {
    let mut pool = Pool::new(name.parse().unwrap(), cidr.parse().unwrap(), 32);
    pool.reserved = reserved.iter().map(|range| range.parse().unwrap()).collect();
    NodePool::new(&pool, given)
}

/// The families are those of the pools that give to every pod.
fn tell(store: &mut Store, pools: Vec<NodePool>) {
    let has = |family| pools.iter().any(|pool| pool.family == family && pool.given == Given::Default);
    let (ipv4, ipv6) = (has(twill_ipam::Family::V4), has(twill_ipam::Family::V6));
    store.set_node(&Node { pools: Some(pools), ..node(ipv4, ipv6) }).unwrap();
}

fn open(store: &mut Store, text: &str, pool: &str) {
    store.put_block(block(text), &name(pool), BlockState::Open).unwrap();
}

/// An ADD whose network configuration names pools.
fn reserve_of(store: &mut Store, container: &str, pools: &[&str]) -> Result<Attachment, Error> {
    let (key, pools): (_, Vec<_>) = (key(container), pools.iter().map(|pool| name(pool)).collect());
    let netns = Path::new("/run/netns/test");
    store.reserve(&Reservation { key: &key, netns, pod: None, subnets: &[], pools: &pools, requested: &[] }, at(0))
}

fn outlook(store: &Store, pools: &[&str]) -> Vec<Outlook> {
    let pools: Vec<_> = pools.iter().map(|pool| name(pool)).collect();
    store.outlook(&[], &pools, at(0)).unwrap()
}

#[test]
fn a_reserved_address_is_given_to_nobody_and_is_not_free() {
    let (_dir, mut store) = store_with(&["10.42.0.0/29"]);
    tell(&mut store, vec![pool("default", "10.42.0.0/24", Given::Default, &["10.42.0.0-10.42.0.2", "10.42.0.5"])]);
    let usage = &store.blocks(at(0)).unwrap()[0];
    assert_eq!((usage.total, usage.reserved, usage.free()), (8, 4, 4));
    let refused = ask(&mut store, "asks", &[ip("10.42.0.5")], at(0)).unwrap_err().to_string();
    assert!(refused.ends_with("it is reserved in the pool default"), "{refused}");
    let given: Vec<_> = (0..4).map(|n| ip_of(&attach(&mut store, &format!("c{n}"), at(0)))).collect();
    assert_eq!(given, ["10.42.0.3", "10.42.0.4", "10.42.0.6", "10.42.0.7"].map(ip));
    assert!(matches!(reserve(&mut store, "more", at(0)), Err(Error::NoFreeAddress { .. })));
    assert_eq!(outlook(&store, &[])[0].free, 0);
}

#[test]
fn a_pod_keeps_an_address_that_is_reserved_later_and_nobody_gets_it_after() {
    let (_dir, mut store) = store_with(&["10.42.0.0/30"]);
    for container in ["a", "b"] {
        attach(&mut store, container, at(0));
    }
    delete(&mut store, "a", at(1));
    tell(&mut store, vec![pool("default", "10.42.0.0/24", Given::Default, &["10.42.0.0/31"])]);
    // One is reserved and cools, one is reserved and somebody's.
    let usage = store.blocks(at(2)).unwrap().remove(0);
    assert_eq!((usage.assigned, usage.cooling, usage.reserved, usage.free()), (1, 1, 0, 2));
    assert_eq!(ip_of(&attach(&mut store, "a", at(2))), ip("10.42.0.2"), "not even its last holder has it back");
    let usage = store.blocks(at(31)).unwrap().remove(0);
    assert_eq!((usage.assigned, usage.cooling, usage.reserved, usage.free()), (2, 0, 1, 1));
    attach(&mut store, "c", at(31));
    assert!(matches!(reserve(&mut store, "d", at(31)), Err(Error::NoFreeAddress { .. })));
    assert!(store.attachment(key("b").hash()).unwrap().is_some());
}

#[test]
fn the_tunnel_takes_no_reserved_address_and_a_block_for_all_before_one_for_few() {
    let (_dir, mut store) = store_with(&[]);
    let few = pool("few", "10.41.0.0/24", Given::Named, &[]);
    let all = pool("all", "10.42.0.0/24", Given::Default, &["10.42.0.0/30"]);
    tell(&mut store, vec![few, all]);
    open(&mut store, "10.41.0.0/29", "few");
    open(&mut store, "10.42.0.0/29", "all");
    assert_eq!(store.tunnel(false, at(0)).unwrap(), Some(ip("10.42.0.4")));
}

#[test]
fn who_names_no_pool_gets_those_of_this_node_and_who_names_some_gets_those() {
    let (_dir, mut store) = store_with(&[]);
    let pools = vec![
        pool("mine", "10.42.0.0/24", Given::Default, &[]),
        pool("other", "10.41.0.0/24", Given::Named, &[]),
        pool("off", "10.40.0.0/24", Given::Nobody, &[]),
        pool("six", "fd42::/64", Given::Named, &[]),
    ];
    tell(&mut store, pools);
    for (text, pool) in
        [("10.40.0.0/30", "off"), ("10.41.0.0/30", "other"), ("10.42.0.0/30", "mine"), ("fd42::/126", "six")]
    {
        open(&mut store, text, pool);
    }
    assert_eq!(ips(&reserve(&mut store, "a", at(0)).unwrap()), [ip("10.42.0.0")]);
    assert_eq!(ips(&reserve_of(&mut store, "b", &["other"]).unwrap()), [ip("10.41.0.0")]);
    assert_eq!(ips(&reserve_of(&mut store, "c", &["six", "mine"]).unwrap()), [ip("10.42.0.1"), ip("fd42::")]);
    assert_eq!(ips(&reserve_of(&mut store, "d", &["six"]).unwrap()), [ip("fd42::1")]);
    assert_eq!(ips(&reserve_of(&mut store, "e", &["off", "other"]).unwrap()), [ip("10.41.0.1")]);
    assert!(matches!(reserve_of(&mut store, "f", &["off"]), Err(Error::NoFreeAddress { total: 0, .. })));
    let refusal = |store: &mut Store, address: &str| ask(store, "g", &[ip(address)], at(0)).unwrap_err().to_string();
    assert!(refusal(&mut store, "10.40.0.1").ends_with("its pool off is disabled"));
    assert!(refusal(&mut store, "10.41.0.3").contains("the pool other, which is for other nodes"));
}

#[test]
fn where_no_pool_is_for_this_node_each_is_named_with_the_reason() {
    let (_dir, mut store) = store_with(&[]);
    tell(&mut store, vec![pool("a", "10.42.0.0/24", Given::Named, &[]), pool("b", "10.43.0.0/24", Given::Nobody, &[])]);
    let error = reserve(&mut store, "c", at(0)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no pool of the cluster gives addresses here: pool a is for other nodes, pool b is disabled"
    );
    assert!(!error.is_temporary());
    assert!(matches!(store.outlook(&[], &[], at(0)), Err(Error::NoPool(_))));
}

#[test]
fn a_pool_that_is_named_brings_a_block_when_an_add_needs_it_unless_it_is_exhausted() {
    let (_dir, mut store) = store_with(&[]);
    tell(
        &mut store,
        vec![pool("a", "10.42.0.0/24", Given::Default, &[]), pool("b", "10.43.0.0/24", Given::Named, &[])],
    );
    open(&mut store, "10.42.0.0/30", "a");
    assert!(outlook(&store, &["b"])[0].on_demand);
    assert!(!outlook(&store, &[])[0].on_demand);
    assert!(reserve_of(&mut store, "c", &["b"]).unwrap_err().is_temporary());
    let node = Node { exhausted: vec![name("b")], ..store.node().unwrap().unwrap() };
    store.set_node(&node).unwrap();
    assert_eq!(outlook(&store, &["b"])[0].exhausted, [name("b")]);
    assert_eq!(outlook(&store, &[])[0].exhausted, []);
    let refused = reserve_of(&mut store, "c", &["b"]).unwrap_err();
    assert!(!refused.is_temporary() && refused.to_string().contains("pool b is exhausted"), "{refused}");
}

#[test]
fn what_the_daemon_tells_of_its_node_reads_back() {
    let (_dir, mut store) = store_with(&[]);
    tell(
        &mut store,
        vec![pool("a", "10.42.0.0/24", Given::Default, &["10.42.0.9"]), pool("b", "fd42::/64", Given::Nobody, &[])],
    );
    let told = store.node().unwrap().unwrap();
    assert_eq!((told.pools.as_ref().map(Vec::len), told.ipv4, told.ipv6), (Some(2), true, false));
    store.set_node(&told).unwrap();
    assert_eq!(store.node().unwrap(), Some(told));
}

#[test]
fn of_pools_that_cannot_be_read_nothing_is_given_also_where_there_are_no_others() {
    let (dir, mut store) = store_with(&[]);
    tell(&mut store, vec![pool("a", "10.42.0.0/24", Given::Default, &[])]);
    open(&mut store, "10.42.0.0/30", "a");
    let plain = rusqlite::Connection::open(dir.path().join("node.db")).unwrap();
    // Of a kind, and with a range, that only a newer daemon knows.
    let newer = [r#""given": "sometimes", "reserved": []"#, r#""given": "default", "reserved": ["every other"]"#];
    let rows = newer.map(|rest| format!(r#"[{{"name": "a", "family": 4, {rest}}}]"#));
    for row in rows.iter().map(String::as_str).chain(["[]"]) {
        plain.execute("UPDATE node SET pools = ?1", [row]).unwrap();
        assert_eq!(store.node().unwrap().unwrap().pools, Some(Vec::new()), "{row}");
        for pools in [&[][..], &["a"]] {
            let refused = reserve_of(&mut store, "c", pools).unwrap_err();
            assert!(matches!(refused, Error::NoFreeAddress { total: 0, .. }), "{row}: {refused}");
            assert_eq!((outlook(&store, pools)[0].total, outlook(&store, pools)[0].free), (0, 0), "{row}");
        }
        ask(&mut store, "c", &[ip("10.42.0.1")], at(0)).unwrap_err();
    }
    plain.execute("UPDATE node SET pools = NULL", []).unwrap();
    assert_eq!(store.node().unwrap().unwrap().pools, None);
    reserve(&mut store, "c", at(0)).unwrap();
}

#[test]
fn a_want_waits_until_it_is_taken_back_refused_or_too_old() {
    let (_dir, mut store) = store_with(&[]);
    let want = |container: &str, at| Want { key: key(container).hash(), pools: vec![name("b")], address: None, at };
    let asked = Want { address: Some(ip("fd42::7")), pools: Vec::new(), ..want("a", at(1)) };
    for want in [&want("a", at(0)), &asked, &want("b", at(2)), &want("c", at(3))] {
        store.leave_want(want).unwrap();
    }
    assert_eq!(store.wants(at(3)).unwrap(), [asked, want("b", at(2)), want("c", at(3))], "an attachment has one");
    store.take_want_back(key("a").hash()).unwrap();
    assert_eq!(store.want_refusal(key("b").hash()).unwrap(), None);
    store.refuse_want(&want("b", at(2)), "for a reason").unwrap();
    store.refuse_want(&want("a", at(0)), "too late").unwrap();
    assert_eq!(store.want_refusal(key("b").hash()).unwrap().as_deref(), Some("for a reason"));
    assert_eq!(store.want_refusal(key("a").hash()).unwrap(), None);
    assert_eq!(store.wants(at(12)).unwrap(), [want("c", at(3))]);
    assert_eq!(store.want_refusal(key("b").hash()).unwrap(), None, "it was forgotten");
    assert_eq!(store.wants(at(13)).unwrap(), []);
}

#[test]
fn a_refusal_is_of_the_want_that_was_judged_and_of_none_that_came_after_it() {
    let (_dir, mut store) = store_with(&[]);
    let want = |seconds| Want { key: key("a").hash(), pools: Vec::new(), address: None, at: at(seconds) };
    store.leave_want(&want(0)).unwrap();
    store.leave_want(&want(1)).unwrap();
    store.refuse_want(&want(0), "for a reason").unwrap();
    assert_eq!(store.want_refusal(key("a").hash()).unwrap(), None);
    assert_eq!(store.wants(at(1)).unwrap(), [want(1)]);
    store.refuse_want(&want(1), "for a reason").unwrap();
    assert_eq!(store.want_refusal(key("a").hash()).unwrap().as_deref(), Some("for a reason"));
}

/// As the version before made it.
fn before() -> Environment {
    Environment { schema: Schema { steps: &Schema::CURRENT.steps[..2], ..Schema::CURRENT }, ..Environment::default() }
}

#[test]
fn a_file_of_the_version_before_serves_and_has_no_place_for_a_want_until_the_daemon_opens_it() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open_in(dir.path(), Role::Daemon, &before()).unwrap());
    let plain = rusqlite::Connection::open(dir.path().join("node.db")).unwrap();
    plain.execute("INSERT INTO node VALUES (1, 'n1', 1450, 1, 0, '[]')", []).unwrap();
    plain.close().unwrap();
    let mut store = Store::open(dir.path(), Role::Plugin).unwrap();
    assert_eq!(store.node().unwrap(), Some(node(true, false)));
    open(&mut store, "10.42.0.0/30", "a");
    reserve(&mut store, "a", at(0)).unwrap();
    reserve_of(&mut store, "b", &["a"]).unwrap();
    let want = Want { key: key("c").hash(), pools: Vec::new(), address: None, at: at(0) };
    store.leave_want(&want).unwrap_err();
    let mut daemon = Store::open(dir.path(), Role::Daemon).unwrap();
    store.leave_want(&want).unwrap();
    assert_eq!(daemon.wants(at(1)).unwrap(), [want]);
}

#[test]
fn a_plugin_of_the_version_before_goes_on_and_a_daemon_of_it_leaves_what_is_newer() {
    let (dir, mut store) = store_with(&["10.42.0.0/30", "10.43.0.0/30"]);
    tell(&mut store, vec![pool("default", "10.42.0.0/15", Given::Nobody, &[])]);
    store.put_block(block("10.42.0.0/30"), &name("default"), BlockState::Closing).unwrap();
    let plain = rusqlite::Connection::open(dir.path().join("node.db")).unwrap();
    // What it reads, by the names of the columns that it knows.
    let sql = "SELECT name, mtu, ipv4, ipv6, exhausted FROM node";
    assert_eq!(plain.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap(), "n1");
    plain
        .execute(
            "INSERT OR REPLACE INTO node (id, name, mtu, ipv4, ipv6, exhausted) VALUES (1, 'n1', 1400, 1, 0, '[]')",
            [],
        )
        .unwrap();
    drop(plain);
    let told = store.node().unwrap().unwrap();
    assert_eq!((told.mtu, told.pools), (1400, None), "an older daemon tells of no pools");
    assert_eq!(ip_of(&reserve(&mut store, "a", at(0)).unwrap()), ip("10.43.0.0"), "by the blocks alone");
}

#[test]
fn the_tunnel_moves_to_an_open_block_or_stays_and_its_old_address_cools() {
    let (_dir, mut store) = store_with(&["10.42.0.0/30"]);
    let v4 = twill_ipam::Family::V4;
    let old = store.tunnel(false, at(0)).unwrap().unwrap();
    store.put_block(block("10.42.0.0/30"), &name("default"), BlockState::Closing).unwrap();
    assert!(store.move_tunnel(v4, false, at(1)).is_err());
    assert_eq!(store.tunnel(false, at(1)).unwrap(), Some(old), "there is no other");
    open(&mut store, "10.43.0.0/30", "default");
    assert_eq!(store.move_tunnel(v4, false, at(1)).unwrap(), Some(ip("10.43.0.0")));
    let uses = store.blocks(at(2)).unwrap();
    assert_eq!((uses[0].tunnel, uses[0].cooling, uses[1].tunnel), (None, 1, Some(ip("10.43.0.0"))));
    store.put_block(block("10.43.0.0/30"), &name("default"), BlockState::Closing).unwrap();
    assert_eq!(store.move_tunnel(v4, true, at(3)).unwrap(), None);
    assert!(store.blocks(at(3)).unwrap().iter().all(|block| block.tunnel.is_none() && block.cooling == 1));
}
