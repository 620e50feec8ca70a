//! GC by the built plugin, in network namespaces.
#![allow(missing_docs, clippy::unwrap_used)]

mod room;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use room::{Room, host_ifname, room};
use serde_json::{Value, json};
use twill_ipam::store::{Observed, Role};
use twill_ipam::{BootTime, KeyHash, Liveness, State, Store};

/// Attaches these pods and gives their results.
fn attach(room: &Room, conf: &Value, pods: &[&str]) -> Vec<Value> {
    let one = |pod: &&str| {
        room.pod(pod);
        room.add(pod, conf).result()
    };
    pods.iter().map(one).collect()
}

/// The containers that have a row.
fn containers(room: &Room) -> BTreeSet<String> {
    room.rows()
        .into_iter()
        .map(|row| row.key.map_or_else(|| row.hash.to_string(), |key| key.container.to_string()))
        .collect()
}

fn set(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_not_in_the_list_goes_with_link_route_and_row_and_what_is_stays_as_it_was() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    let results = attach(&room, &conf, &["p1", "p2", "p3"]);
    room.gc(&conf, &["p2"]).silent();
    assert_eq!(containers(&room), set(&["p2"]));
    let kept = host_ifname(&results[1]);
    assert!(room.kernel().lines().all(|line| line.contains(&kept)), "{}", room.kernel());
    room.check("p2", &conf, &results[1]).silent();
    assert!(!room.try_ip("p1", "link show eth0").status.success());
    // What went may come again, and what the runtime still deletes is gone.
    room.add("p1", &conf).result();
    room.del("p3", &conf).silent();
    room.gc(&conf, &[]).silent();
    room.assert_empty();
}

#[test]
fn what_either_key_names_stays_and_null_names_nothing() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    attach(&room, &conf, &["p1", "p2", "p3"]);
    let one = |id: &str| json!([{"containerID": id, "ifname": "eth0"}]);
    room.gc_with(&conf, &json!({"cni.dev/valid-attachments": one("p1"), "cni.dev/attachments": one("p2")})).silent();
    assert_eq!(containers(&room), set(&["p1", "p2"]));
    room.gc_with(&conf, &json!({"cni.dev/valid-attachments": null, "cni.dev/attachments": one("p2")})).silent();
    assert_eq!(containers(&room), set(&["p2"]));
    room.gc_with(&conf, &json!({"cni.dev/attachments": null})).silent();
    room.assert_empty();
}

#[test]
fn another_interface_of_a_listed_container_is_not_listed() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    attach(&room, &conf, &["p1"]);
    room.gc_with(&conf, &json!({"cni.dev/attachments": [{"containerID": "p1", "ifname": "eth1"}]})).silent();
    room.assert_empty();
}

#[test]
fn a_missing_or_a_broken_list_is_refused_and_removes_nothing() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    attach(&room, &conf, &["p1", "p2"]);
    let before = room.kernel();
    assert!(room.gc_with(&conf, &json!({})).error(7).contains("cni.dev/valid-attachments: missing"));
    let good = json!({"containerID": "p1", "ifname": "eth0"});
    for bad in [
        json!({"containerID": "p2"}),
        json!({"ifname": "eth0"}),
        json!({"containerID": "/p2", "ifname": "eth0"}),
        json!({"containerID": "p2", "ifname": "eth 0"}),
        json!("p2"),
        json!(null),
    ] {
        for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
            let text = room.gc_with(&conf, &json!({key: [good, bad]})).error(7);
            assert!(text.contains(&format!("{key}[1]")), "{bad}: {text}");
        }
    }
    room.gc_with(&conf, &json!({"cni.dev/attachments": {}})).error(7);
    let mut old = conf.clone();
    old["cni.dev/attachments"] = json!([]);
    let gc = [("CNI_COMMAND", "GC"), ("CNI_PATH", "/x")];
    assert!(room.call(&gc, &old.to_string()).error(1).contains("1.1.0"));
    assert!(room.call(&gc[..1], &old.to_string()).error(4).contains("CNI_PATH"));
    assert_eq!((room.kernel(), containers(&room)), (before, set(&["p1", "p2"])));
}

#[test]
fn other_networks_are_not_touched_also_where_the_store_does_not_know_whose_a_pod_is() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    let mut other = room.conf(json!({"subnets": ["10.43.0.0/24"]}));
    other["name"] = "other".into();
    attach(&room, &conf, &["p1"]);
    let kept = attach(&room, &other, &["p2"]);
    room.gc(&conf, &[]).silent();
    assert_eq!(containers(&room), set(&["p2"]));
    room.check("p2", &other, &kept[0]).silent();

    std::fs::remove_dir_all(room.run_dir()).unwrap();
    room.gc(&conf, &[]).silent();
    assert!(!room.run_dir().exists(), "a GC makes nothing");
    room.pod("p3");
    room.add("p3", &conf).error(11);
    let [row] = &room.rows()[..] else { panic!("{:?}", room.rows()) };
    assert_eq!(row.key, None);
    room.gc(&conf, &[]).silent();
    room.gc(&other, &[]).silent();
    assert_eq!(room.rows().len(), 1, "its network is not known");
    room.assert_ping("node", &room::address(&kept[0], false));
    room.del("p2", &other).silent();
    assert_eq!(room.rows(), []);
}

#[test]
fn a_further_interface_that_goes_leaves_no_rule_in_its_pod_and_the_first_one_serves_on() {
    let Some(room) = room() else { return };
    let first = room.dual();
    let mut second = room.conf(json!({"subnets": ["10.43.0.0/24", "fd00:43::/120"]}));
    second["name"] = "other".into();
    let one = attach(&room, &first, &["p1"]).remove(0);
    let rules = || room.ip("p1", "rule show") + &room.ip("p1", "-6 rule show");
    let before = rules();
    let path = room.path("p1");
    let add = [("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "p1"), ("CNI_NETNS", path.as_str()), ("CNI_IFNAME", "eth1")];
    room.call(&add, &second.to_string()).result();
    assert_ne!(rules(), before);
    room.gc(&second, &[]).silent();
    assert_eq!(rules(), before);
    assert_eq!(room.rows().len(), 1);
    room.check("p1", &first, &one).silent();
}

/// The limiting devices of the node and the elements of its table of published ports.
fn beside_links(room: &Room) -> (usize, usize) {
    let devices = room.ip("node", "-o link show type ifb").lines().count();
    let table = room.exec("node", "nft", &["list", "table", "inet", "twill_ports"]);
    let table = String::from_utf8(table.stdout).unwrap();
    // Rules bear comments too.
    (devices, table.matches("comment").count() - table.matches("comment \"twill ").count())
}

#[test]
fn ports_and_limits_go_with_what_is_collected_and_those_of_others_stay() {
    let Some(room) = room() else { return };
    let asks = |port: u16| {
        let mut conf = room.dual();
        conf["runtimeConfig"] = json!({
            "portMappings": [{"hostPort": port, "containerPort": 80, "protocol": "tcp"}],
            "bandwidth": {"egressRate": 20_000_000, "egressBurst": 1_000_000},
        });
        conf
    };
    for (pod, port) in [("p1", 8081), ("p2", 8082)] {
        attach(&room, &asks(port), &[pod]);
    }
    let (devices, elements) = beside_links(&room);
    assert_eq!(devices, 2);
    assert!(elements > 0 && elements % 2 == 0, "{elements}");
    room.gc(&room.dual(), &["p2"]).silent();
    assert_eq!(beside_links(&room), (1, elements / 2));
    // A pod's end takes the link, the routes and the neighbours with it, but not these.
    room.remove_namespace("p2");
    room.gc(&room.dual(), &[]).silent();
    assert_eq!(beside_links(&room), (0, 0));
    room.assert_empty();
}

#[test]
fn what_an_add_works_on_is_no_garbage_and_what_a_killed_one_left_is() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    attach(&room, &conf, &["p1", "p2"]);
    let row = room.rows().into_iter().next().unwrap();
    let held = Liveness::acquire(&room.run_dir(), row.hash, Duration::ZERO).unwrap();
    room.gc(&conf, &[]).silent();
    assert_eq!(room.rows().iter().map(|row| row.hash).collect::<Vec<_>>(), [row.hash]);
    drop(held);
    // A process that another test has just forked holds the lock too, until it begins its program.
    let deadline = Instant::now() + Duration::from_secs(10);
    while !room.rows().is_empty() && Instant::now() < deadline {
        room.gc(&conf, &[]).silent();
    }
    room.assert_empty();
}

/// A runtime may attach pods while a GC runs: its list cannot know them. This GC gets its list only when the second pod stands.
#[test]
fn a_pod_that_is_younger_than_the_gc_is_not_collected() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    attach(&room, &conf, &["p1"]);
    let mut gc = room.spawn(&[("CNI_COMMAND", "GC"), ("CNI_PATH", "/x")]);
    wait_until_it_reads(gc.id());
    let young = attach(&room, &conf, &["p2"]);
    let mut list = conf.clone();
    list["cniVersion"] = "1.1.0".into();
    list["cni.dev/valid-attachments"] = json!([]);
    gc.stdin.take().unwrap().write_all(list.to_string().as_bytes()).unwrap();
    assert!(gc.wait().unwrap().success());
    assert_eq!(containers(&room), set(&["p2"]));
    room.check("p2", &conf, &young[0]).silent();
}

/// Until a process reads its standard input (system call 0 of x86-64, 63 of arm64, on descriptor 0).
fn wait_until_it_reads(pid: u32) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let reads = |call: &str| ["0 0x0 ", "63 0x0 "].iter().any(|read| call.starts_with(read));
    while !std::fs::read_to_string(format!("/proc/{pid}/syscall")).is_ok_and(|call| reads(&call)) {
        assert!(Instant::now() < deadline, "the GC does not read");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn many_go_while_as_many_come() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    let old: Vec<String> = (0..8).map(|n| format!("old{n}")).collect();
    let new: Vec<String> = (0..8).map(|n| format!("new{n}")).collect();
    let listed: Vec<&str> = new.iter().map(String::as_str).collect();
    attach(&room, &conf, &old.iter().map(String::as_str).collect::<Vec<_>>());
    new.iter().for_each(|pod| drop(room.pod(pod)));
    let results: Vec<Value> = std::thread::scope(|scope| {
        let gc = scope.spawn(|| room.gc(&conf, &listed));
        let adds: Vec<_> = new.iter().map(|pod| scope.spawn(|| room.add(pod, &conf).result())).collect();
        gc.join().unwrap().silent();
        adds.into_iter().map(|add| add.join().unwrap()).collect()
    });
    assert_eq!(containers(&room), new.iter().cloned().collect());
    for (pod, result) in new.iter().zip(&results) {
        room.check(pod, &conf, result).silent();
    }
}

#[test]
fn a_del_that_did_not_come_to_its_end_is_finished() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    attach(&room, &conf, &["p1", "p2"]);
    let mut store = Store::open(&room.run_dir(), Role::Guest).unwrap();
    for row in store.attachments().unwrap() {
        store.mark_deleting(row.hash, BootTime::now()).unwrap();
    }
    drop(store);
    room.gc(&conf, &["p2"]).silent();
    assert_eq!(containers(&room), set(&["p2"]), "the DEL of what the runtime calls valid is its own to repeat");
    room.del("p2", &conf).silent();
    room.assert_empty();
}

#[test]
fn a_row_that_a_rebuild_made_goes_if_a_del_has_named_it() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    let mut store = Store::open(&room.run_dir(), Role::Plugin).unwrap();
    let seen = || Observed { attachments: vec![(KeyHash(1), vec![]), (KeyHash(2), vec![])], ..Observed::default() };
    store.rebuild(|| Ok::<_, twill_ipam::Error>(seen()), BootTime::now()).unwrap();
    room.ip("node", "link add tw0000000000001 type veth peer name one");
    room.ip("node", "link add tw0000000000002 type veth peer name two");
    store.mark_deleting(KeyHash(1), BootTime::now()).unwrap();
    drop(store);
    room.gc(&conf, &[]).silent();
    let rows = room.rows();
    assert_eq!(rows.iter().map(|row| (row.hash, row.state)).collect::<Vec<_>>(), [(KeyHash(2), State::Attached)]);
    assert!(!room.kernel().contains("tw0000000000001") && room.kernel().contains("tw0000000000002"));
}

#[test]
fn a_foreign_device_of_our_name_stays_and_does_not_keep_the_row() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    let host = host_ifname(&attach(&room, &conf, &["p1"])[0]);
    room.ip("node", &format!("link delete {host}"));
    room.ip("node", &format!("link add {host} type bridge"));
    room.gc(&conf, &[]).silent();
    assert_eq!(room.rows(), []);
    assert!(room.ip("node", &format!("-d link show {host}")).contains("bridge"));
}

#[test]
fn a_gc_that_fails_names_all_that_is_left_with_106_and_it_is_kept() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    attach(&room, &conf, &["p1", "p2", "p3"]);
    // Whoever frees the rows of two of them is refused; the third goes.
    let doomed = "CREATE TRIGGER refuse BEFORE DELETE ON attachment WHEN OLD.container <> 'p2'
        BEGIN SELECT RAISE(ABORT, 'no such file or directory'); END";
    sqlite(&room, doomed);
    let document = room.gc(&conf, &[]).document();
    assert_eq!((&document["code"], &document["cniVersion"]), (&json!(106), &json!("1.1.0")));
    assert!(document["msg"].as_str().unwrap().contains("2 of 3 attachments of network net"), "{document}");
    let details = document["details"].as_str().unwrap();
    assert!(details.contains("container p1") && details.contains("container p3"), "{details}");
    assert_eq!(containers(&room), set(&["p1", "p3"]));
    assert_eq!(room.kernel(), "", "it goes on after an error");
    let attempts = room.store().attempts().unwrap();
    let kept: BTreeSet<_> = attempts.iter().map(|one| one.key.as_ref().unwrap().container.to_string()).collect();
    assert_eq!(kept, set(&["p1", "p3"]));
    for attempt in &attempts {
        assert_eq!((attempt.code, attempt.verb.as_str()), (106, "GC"));
        assert_eq!(attempt.pod.as_ref().unwrap().name, "till");
        assert!(!attempt.took.is_zero() && attempt.step.contains("not valid"), "{attempt:?}");
    }
    sqlite(&room, "DROP TRIGGER refuse");
    room.gc(&conf, &[]).silent();
    room.assert_empty();
}

/// What an operator might do to the store, or a newer program.
fn sqlite(room: &Room, sql: &str) {
    rusqlite::Connection::open(room.run_dir().join("node.db")).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn a_store_of_a_newer_major_version_is_refused_and_nothing_is_touched() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    attach(&room, &conf, &["p1"]);
    let before = room.kernel();
    sqlite(&room, "PRAGMA user_version = 2000");
    assert!(room.gc(&conf, &[]).error(5).contains("schema 2000"));
    assert_eq!(room.kernel(), before);
}

#[test]
fn a_gc_rings_the_doorbell_and_needs_neither_store_nor_run_directory() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    room.gc(&conf, &[]).silent();
    assert!(!room.run_dir().exists());
    std::fs::create_dir_all(room.run_dir()).unwrap();
    let bell = UnixDatagram::bind(room.run_dir().join("doorbell")).unwrap();
    room.gc(&conf, &[]).silent();
    let mut buffer = [0; 256];
    let length = bell.recv(&mut buffer).unwrap();
    let told: Value = serde_json::from_slice(&buffer[..length]).unwrap();
    assert_eq!((&told["verb"], &told["code"]), (&json!("GC"), &json!(0)));
    assert!(!room.run_dir().join("node.db").exists());
}
