//! What an ADD wants of the daemon where the node's own blocks have nothing for it, and what becomes of it.
#![allow(missing_docs, clippy::unwrap_used)]

mod room;

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use room::{Room, address, room};
use serde_json::{Value, json};
use twill_conf::cluster::{Given, Pool};
use twill_ipam::store::{BlockState, Node, Role};
use twill_ipam::{BootTime, NodePool, Store, Want};

/// A node with a pool for all, one for other nodes and one that is disabled, and a block of the first.
fn cluster(room: &Room) -> Store {
    let pool = |name: &str, cidr: &str, given| {
        NodePool::new(&Pool::new(name.parse().unwrap(), cidr.parse().unwrap(), 26), given)
    };
    let pools = vec![
        pool("main", "10.42.0.0/16", Given::Default),
        pool("other", "10.43.0.0/16", Given::Named),
        pool("off", "10.44.0.0/16", Given::Nobody),
    ];
    let mut store = Store::open(&room.run_dir(), Role::Daemon).unwrap();
    let node = Node { name: "n1".into(), mtu: 1450, ipv4: true, ipv6: false, pools: Some(pools), ..Node::default() };
    store.set_node(&node).unwrap();
    store.put_block("10.42.7.0/26".parse().unwrap(), &"main".parse().unwrap(), BlockState::Open).unwrap();
    store
}

/// An ADD of the pod p1, while `daemon` does with the want that the first ring tells of what it likes.
fn add(room: &Room, conf: &Value, daemon: impl FnOnce(&mut Store, Want)) -> room::Answer {
    room.pod("p1");
    let mut store = cluster(room);
    let bell = UnixDatagram::bind(room.run_dir().join("doorbell")).unwrap();
    std::thread::scope(|scope| {
        let adding = scope.spawn(|| room.add("p1", conf));
        let mut buffer = [0; 256];
        let length = bell.recv(&mut buffer).unwrap();
        assert!(String::from_utf8_lossy(&buffer[..length]).contains("\"code\":11"));
        let want = store.wants(BootTime::now()).unwrap().remove(0);
        daemon(&mut store, want);
        let answer = adding.join().unwrap();
        assert_eq!(wants(room), 0, "it is taken back");
        answer
    })
}

/// How many stand in the store, those that are refused or too old among them.
fn wants(room: &Room) -> u32 {
    let plain = rusqlite::Connection::open(room.run_dir().join("node.db")).unwrap();
    plain.query_row("SELECT count(*) FROM want", [], |row| row.get(0)).unwrap()
}

fn open(store: &mut Store, block: &str, pool: &str) {
    store.put_block(block.parse().unwrap(), &pool.parse().unwrap(), BlockState::Open).unwrap();
}

#[test]
fn who_names_a_pool_wants_a_block_of_it() {
    let Some(room) = room() else { return };
    let answer = add(&room, &room.conf(json!({ "pools": ["other"] })), |store, want| {
        assert_eq!((want.pools, want.address), (vec!["other".parse().unwrap()], None));
        open(store, "10.43.1.0/26", "other");
    });
    assert_eq!(address(&answer.result(), false), "10.43.1.0");
}

#[test]
fn who_asks_for_an_address_wants_its_block() {
    let Some(room) = room() else { return };
    let conf = room.conf(json!({ "runtimeConfig": { "ips": ["10.42.9.9"] } }));
    let answer = add(&room, &conf, |store, want| {
        assert_eq!((want.pools.len(), want.address), (0, Some("10.42.9.9".parse().unwrap())));
        open(store, "10.42.9.0/26", "main");
    });
    assert_eq!(address(&answer.result(), false), "10.42.9.9");
}

#[test]
fn what_the_daemon_refuses_is_told_at_once_in_its_words() {
    let asked = json!({ "runtimeConfig": { "ips": ["10.42.9.9"] } });
    for (extra, code) in [(json!({ "pools": ["off"] }), 100), (asked, 103)] {
        let Some(room) = room() else { return };
        let mut refused = None;
        let answer = add(&room, &room.conf(extra), |store, want| {
            store.refuse_want(&want, "it is so because I say so").unwrap();
            refused = Some(Instant::now());
        });
        let took = refused.unwrap().elapsed();
        assert!(answer.error(code).contains("it is so because I say so"), "{}", answer.stdout);
        // An ADD that did not hear of it would wait for three seconds.
        assert!(took < Duration::from_secs(2), "{took:?}");
        room.assert_empty();
    }
}

#[test]
fn an_address_of_which_the_daemon_says_nothing_is_to_be_tried_again() {
    let Some(room) = room() else { return };
    let conf = room.conf(json!({ "runtimeConfig": { "ips": ["10.42.9.9"] } }));
    let text = add(&room, &conf, |_, _| {}).error(11);
    assert!(text.contains("twilld has not said yet"), "{text}");
    room.assert_empty();
}

#[test]
fn without_a_daemon_nothing_is_wanted_of_it() {
    let Some(room) = room() else { return };
    room.pod("p1");
    cluster(&room);
    assert!(
        room.add("p1", &room.conf(json!({ "pools": ["other"] }))).error(11).contains("it has no block for this pod")
    );
    let asked = room.conf(json!({ "runtimeConfig": { "ips": ["10.42.9.9"] } }));
    assert!(room.add("p1", &asked).error(103).contains("in none of the ranges of this node"));
    assert_eq!(wants(&room), 0);
    room.assert_empty();
}

/// A cluster whose daemon is of a version that knows no pools.
fn with_an_older_daemon(room: &Room) -> Store {
    let mut store = cluster(room);
    let node = Node { pools: None, ..store.node().unwrap().unwrap() };
    store.set_node(&node).unwrap();
    store
}

#[test]
fn a_daemon_that_tells_of_no_pools_is_not_asked_for_the_block_of_an_address() {
    let Some(room) = room() else { return };
    room.pod("p1");
    with_an_older_daemon(&room);
    let _bell = UnixDatagram::bind(room.run_dir().join("doorbell")).unwrap();
    let asked = room.conf(json!({ "runtimeConfig": { "ips": ["10.42.9.9"] } }));
    room.add("p1", &asked).error(103);
    room.assert_empty();
}

#[test]
fn a_daemon_that_tells_of_no_pools_is_rung_and_finds_no_want() {
    let Some(room) = room() else { return };
    room.pod("p1");
    let mut store = with_an_older_daemon(&room);
    let bell = UnixDatagram::bind(room.run_dir().join("doorbell")).unwrap();
    std::thread::scope(|scope| {
        let adding = scope.spawn(|| room.add("p1", &room.conf(json!({ "pools": ["other"] }))));
        bell.recv(&mut [0; 256]).unwrap();
        assert_eq!(wants(&room), 0);
        open(&mut store, "10.43.1.0/26", "other");
        assert_eq!(address(&adding.join().unwrap().result(), false), "10.43.1.0");
    });
}

#[test]
fn a_network_that_names_a_pool_is_ready_before_it_has_a_block_and_not_when_the_pool_is_exhausted_or_disabled() {
    let Some(room) = room() else { return };
    let mut store = cluster(&room);
    let status = |pool: &str| room.status(&room.conf(json!({ "pools": [pool], "cniVersion": "1.1.0" })));
    status("other").silent();
    assert!(status("off").error(50).contains("no IPv4 address is left on this node"));
    let node = Node { exhausted: vec!["other".parse().unwrap()], ..store.node().unwrap().unwrap() };
    store.set_node(&node).unwrap();
    assert!(status("other").error(50).contains("no further block is to be had of other"));
}
