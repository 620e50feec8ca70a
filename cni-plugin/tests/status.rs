//! STATUS by the built plugin, in network namespaces.
#![allow(missing_docs, clippy::unwrap_used)]

mod room;

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

use room::{Room, room};
use serde_json::{Value, json};
use twill_conf::PoolName;
use twill_ipam::store::{BlockState, Node, Role};
use twill_ipam::{BootTime, Store};

/// The store of a node in a cluster, as the daemon keeps it.
fn cluster(room: &Room, blocks: &[&str], exhausted: &[&str]) -> Store {
    let mut store = Store::open(&room.run_dir(), Role::Daemon).unwrap();
    let exhausted: Vec<PoolName> = exhausted.iter().map(|pool| pool.parse().unwrap()).collect();
    store
        .set_node(&Node { name: "n1".into(), mtu: 1450, ipv4: true, ipv6: false, exhausted, ..Node::default() })
        .unwrap();
    for block in blocks {
        store.put_block(block.parse().unwrap(), &"main".parse().unwrap(), BlockState::Open).unwrap();
    }
    store
}

fn attach(room: &Room, conf: &Value, pods: &[&str]) {
    for pod in pods {
        room.pod(pod);
        room.add(pod, conf).result();
    }
}

#[test]
fn stand_alone_a_node_is_ready_before_its_first_pod_and_nothing_is_written() {
    let Some(room) = room() else { return };
    room.status(&room.dual()).silent();
    assert!(!room.run_dir().exists());
}

#[test]
fn status_came_with_the_newest_version_and_refuses_what_an_add_refuses() {
    let Some(room) = room() else { return };
    let status = [("CNI_COMMAND", "STATUS")];
    for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"] {
        let mut conf = room.dual();
        conf["cniVersion"] = version.into();
        let document = room.call(&status, &conf.to_string());
        assert!(document.error(1).contains("STATUS needs cniVersion 1.1.0"));
        assert_eq!(document.document()["cniVersion"], version);
    }
    room.status(&room.conf(json!({"subnets": ["10.42.0.1/24"]}))).error(7);
    room.status(&room.conf(json!({"ipam": {"type": "host-local"}}))).error(2);
}

#[test]
fn stand_alone_subnets_that_are_used_up_are_50_as_long_as_they_are() {
    let Some(room) = room() else { return };
    let conf = room.conf(json!({"subnets": ["10.42.0.0/31", "fd00:42::/120"]}));
    attach(&room, &conf, &["p1"]);
    room.status(&conf).silent();
    attach(&room, &conf, &["p2"]);
    let text = room.status(&conf).error(50);
    assert!(text.contains("no IPv4 address is left on this node: 2 of 2"), "{text}");
    assert!(text.contains("network net ") && text.contains("add a prefix to \"subnets\""), "{text}");
    assert!(!text.contains("IPv6"), "{text}");
    room.pod("p3");
    room.add("p3", &conf).error(100);
    // An address that cools is free in a moment: an ADD is told to try again, and the node stays ready.
    room.del("p1", &conf).silent();
    room.status(&conf).silent();
    room.add("p3", &conf).error(11);
    // Another network on the node has room.
    room.status(&room.conf(json!({"subnets": ["10.43.0.0/24"]}))).silent();
}

#[test]
fn stand_alone_subnets_inside_a_block_that_another_network_made_are_used_up_for_an_add_too() {
    let Some(room) = room() else { return };
    let wide = room.conf(json!({"subnets": ["10.42.0.0/24"]}));
    attach(&room, &wide, &["p1", "p2"]);
    // Those two have the first addresses.
    let narrow = room.conf(json!({"subnets": ["10.42.0.0/31"]}));
    room.pod("p3");
    assert!(room.status(&narrow).error(50).contains("2 of 2"));
    room.add("p3", &narrow).error(100);
    room.del("p1", &wide).silent();
    room.status(&narrow).silent();
    room.add("p3", &narrow).error(11);
}

#[test]
fn a_node_of_a_cluster_is_not_ready_before_it_has_a_block() {
    let Some(room) = room() else { return };
    let conf = room.conf(json!({}));
    assert!(room.status(&conf).error(50).contains("twilld"));
    drop(Store::open(&room.run_dir(), Role::Daemon).unwrap());
    assert!(room.status(&conf).error(50).contains("no block"));
    drop(cluster(&room, &[], &[]));
    assert!(room.status(&conf).error(50).contains("no block"));
    let mut store = cluster(&room, &["10.42.0.0/26"], &[]);
    room.status(&conf).silent();
    store.put_block("10.42.0.0/26".parse().unwrap(), &"main".parse().unwrap(), BlockState::Closing).unwrap();
    room.status(&conf).error(50);
}

#[test]
fn without_a_daemon_and_etcd_a_node_is_ready_while_addresses_remain() {
    let Some(room) = room() else { return };
    let conf = room.conf(json!({}));
    drop(cluster(&room, &["10.42.0.0/31"], &[]));
    attach(&room, &conf, &["p1"]);
    room.status(&conf).silent();
    attach(&room, &conf, &["p2"]);
    assert!(room.status(&conf).error(50).contains("2 of 2"));
    drop(cluster(&room, &[], &["main"]));
    assert!(room.status(&conf).error(50).contains("add a pool"));
    room.del("p1", &conf).silent();
    room.status(&conf).silent();
}

#[test]
fn only_the_pools_that_the_network_names_count() {
    let Some(room) = room() else { return };
    drop(cluster(&room, &["10.42.0.0/26"], &[]));
    room.status(&room.conf(json!({"pools": ["main"]}))).silent();
    room.status(&room.conf(json!({"pools": ["other"]}))).error(50);
}

#[test]
fn a_store_of_another_major_version_is_50() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    attach(&room, &conf, &["p1"]);
    let path = room.run_dir().join("node.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 2000").unwrap();
    assert!(room.status(&conf).error(50).contains("schema 2000"));
    rusqlite::Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 1999").unwrap();
    room.status(&conf).silent();
}

#[test]
fn a_lost_store_is_50_where_only_the_daemon_can_rebuild_it() {
    let Some(room) = room() else { return };
    drop(cluster(&room, &["10.42.0.0/26"], &[]));
    std::fs::remove_file(room.run_dir().join("node.db")).unwrap();
    room.status(&room.conf(json!({}))).error(50);
    room.status(&room.dual()).silent();
    drop(Store::open(&room.run_dir(), Role::Plugin).unwrap());
    assert!(room.status(&room.conf(json!({}))).error(50).contains("lost"));
    room.status(&room.dual()).silent();
}

#[test]
fn a_run_directory_that_is_full_or_read_only_or_none_is_50() {
    let Some(room) = room() else { return };
    let mount = |options: &str| {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "twill-test"]).arg(room.run_dir());
        assert!(mount.status().unwrap().success());
    };
    let conf = room.dual();
    std::fs::write(room.run_dir(), "").unwrap();
    assert!(room.status(&conf).error(50).contains("no directory"));
    std::fs::remove_file(room.run_dir()).unwrap();
    std::fs::create_dir(room.run_dir()).unwrap();

    mount("size=1m");
    let _unmount = Unmount(&room);
    attach(&room, &conf, &["p1"]);
    room.status(&conf).silent();
    std::fs::write(room.run_dir().join("ballast"), vec![0; 1 << 20]).unwrap_err();
    assert!(room.status(&conf).error(50).contains("full"));
    room.pod("p2");
    room.add("p2", &conf).error(11);
    std::fs::remove_file(room.run_dir().join("ballast")).unwrap();
    mount_again(&room, "remount,ro");
    assert!(room.status(&conf).error(50).contains("cannot be written"));
    mount_again(&room, "remount,rw");
    room.status(&conf).silent();
}

fn mount_again(room: &Room, options: &str) {
    assert!(Command::new("mount").args(["-o", options]).arg(room.run_dir()).status().unwrap().success());
}

struct Unmount<'a>(&'a Room);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(self.0.run_dir()).status().ok();
    }
}

#[test]
fn pods_that_reach_nobody_since_forwarding_was_switched_off_are_51() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    let switch = |path: &str, value: &str| {
        let done = room.exec("node", "sh", &["-c", &format!("echo {value} > /proc/sys/net/{path}")]);
        assert!(done.status.success());
    };
    // Nobody suffers yet, and the first ADD switches it on.
    room.status(&conf).silent();
    attach(&room, &conf, &["p1"]);
    room.status(&conf).silent();
    switch("ipv4/ip_forward", "0");
    let text = room.status(&conf).error(51);
    assert!(text.contains("forwarding of IPv4") && !text.contains("of IPv6"), "{text}");
    // The machine's switch alone says nothing: what counts is that of each interface.
    let host = room.rows()[0].hash.host_ifname();
    switch(&format!("ipv4/conf/{host}/forwarding"), "1");
    room.status(&conf).silent();
    switch("ipv6/conf/all/forwarding", "0");
    assert!(room.status(&conf).error(51).contains("IPv6"));
    attach(&room, &conf, &["p2"]);
    room.status(&conf).silent();
    // Worse is told first, and all of it.
    let small = room.conf(json!({"subnets": ["10.42.0.0/31"]}));
    switch("ipv4/ip_forward", "0");
    let text = room.status(&small).error(51);
    assert!(text.contains("forwarding of IPv4") && text.contains("no IPv4 address is left"), "{text}");
}

/// What there is in the run directory, with sizes and times of change.
fn contents(room: &Room) -> BTreeMap<String, (u64, std::time::SystemTime, Vec<u8>)> {
    let entries = std::fs::read_dir(room.run_dir()).unwrap().map(Result::unwrap);
    // The shared index of a store is a place where readers, too, mark what they read.
    let entries = entries.filter(|entry| entry.file_name() != "node.db-shm" && entry.file_name() != "doorbell");
    let look = |entry: std::fs::DirEntry| {
        let metadata = entry.metadata().unwrap();
        let (name, bytes) = (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap());
        (name, (metadata.len(), metadata.modified().unwrap(), bytes))
    };
    entries.map(look).collect()
}

#[test]
fn a_status_writes_nothing_and_rings_nobody() {
    let Some(room) = room() else { return };
    let conf = room.conf(json!({"subnets": ["10.42.0.0/32"]}));
    attach(&room, &conf, &["p1"]);
    let bell = UnixDatagram::bind(room.run_dir().join("doorbell")).unwrap();
    bell.set_nonblocking(true).unwrap();
    // Another process keeps the store open, as the daemon does: who closes it last tidies up.
    let keeper = Store::open(&room.run_dir(), Role::Reader).unwrap();
    assert_eq!(keeper.attachments().unwrap().len(), 1);
    let before = contents(&room);
    room.status(&conf).error(50);
    room.status(&room.dual()).silent();
    assert_eq!(contents(&room), before);
    assert_eq!(bell.recv(&mut [0; 16]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(keeper.attempts().unwrap(), []);
    assert!(keeper.blocks(BootTime::now()).unwrap().iter().all(|block| block.block.to_string() == "10.42.0.0/32"));
}

/// It is polled: while a writer has the store, and somebody the attachment's lock, it answers all the same.
#[test]
fn a_status_waits_for_nobody() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    attach(&room, &conf, &["p1"]);
    let writer = rusqlite::Connection::open(room.run_dir().join("node.db")).unwrap();
    writer.execute_batch("BEGIN IMMEDIATE; UPDATE meta SET lost = lost").unwrap();
    let deadline = Instant::now() + Duration::from_secs(4);
    room.status(&conf).silent();
    room.status(&room.conf(json!({}))).error(50);
    assert!(Instant::now() < deadline, "an ADD would wait for 5 seconds here, a STATUS does not");
    writer.execute_batch("ROLLBACK").unwrap();
}
