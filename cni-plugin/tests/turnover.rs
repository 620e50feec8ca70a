//! Published ports when one pod goes and another comes: flows that do not pause, and DELs that know little.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod room;
mod street;

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use room::address;
use serde_json::json;
use street::{NODE, OUTSIDE, eventually, serve, socket, street, with_ports};

#[test]
fn a_udp_client_that_never_pauses_reaches_the_pod_that_replaces_the_old_one_within_a_second() {
    let Some(room) = street() else { return };
    for family in [0, 1] {
        let client = room.inside("outside", || UdpSocket::bind(socket(OUTSIDE[family], 5000))).unwrap();
        client.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let (over, latest) = (AtomicBool::new(false), std::sync::Mutex::new(String::new()));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut buffer = [0; 128];
                while !over.load(Ordering::Relaxed) {
                    // Refusals by ICMP come here too.
                    client.send_to(b"?", socket(NODE[family], 8053)).ok();
                    if let Ok(length) = client.recv(&mut buffer) {
                        *latest.lock().unwrap() = String::from_utf8_lossy(&buffer[..length]).into_owned();
                    }
                }
            });
            // Ends the client also where an assertion fails.
            let _over = Over(&over);
            for pod in ["old", "new", "newest"] {
                let name = Box::leak(format!("{pod}{family}").into_boxed_str());
                room.pod(name);
                let ports = json!([{"hostPort": 8053, "containerPort": 53, "protocol": "udp"}]);
                let result = room.add(name, &with_ports(&room.dual(), ports)).result();
                room.serve(name, true, socket(&address(&result, family == 1), 53), name);
                let (begin, second) = (Instant::now(), Duration::from_secs(1));
                while !latest.lock().unwrap().starts_with(&*name) {
                    assert!(begin.elapsed() < second, "{name} is not reached, the last was {:?}", latest.lock());
                    std::thread::sleep(Duration::from_millis(1));
                }
                room.del(name, &room.dual()).silent();
            }
        });
    }
}

#[test]
fn a_del_turns_udp_flows_also_where_one_that_was_killed_has_withdrawn_the_port() {
    let Some(room) = street() else { return };
    if !std::path::Path::new("/proc/self/net/nf_conntrack").exists() {
        eprintln!("skipped: this kernel does not show tracked connections as a file");
        return;
    }
    room.pod("a");
    let ports = json!([{"hostPort": 8053, "containerPort": 53, "protocol": "udp"}]);
    let result = room.add("a", &with_ports(&room.dual(), ports)).result();
    serve(&room, "a", &result);
    let flows =
        || room.inside("node", || std::fs::read_to_string("/proc/thread-self/net/nf_conntrack").unwrap_or_default());
    for node in NODE {
        assert!(room.ask("outside", true, socket(node, 8053)).is_some());
    }
    assert_eq!(flows().matches("dport=8053").count(), 2, "{}", flows());
    assert!(room.exec("node", "nft", &["delete", "table", "inet", "twill_ports"]).status.success());
    room.del("a", &room.dual()).silent();
    assert_eq!(flows().matches("dport=8053").count(), 0, "{}", flows());
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_del_without_a_row_removes_ports_and_device_also_by_a_store_that_does_not_know_of_them() {
    let Some(room) = street() else { return };
    let mut conf = with_ports(&room.dual(), json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]));
    conf["runtimeConfig"]["bandwidth"] = json!({"egressRate": 1_000_000});
    // A store that was lost and rebuilt without the link; one of which an older program took the row.
    for lost in [true, false] {
        room.pod("a");
        room.pod("b");
        room.add("a", &conf).result();
        room.remove_namespace("a");
        eventually("the link goes with its namespace", || !room.kernel().contains(": tw"));
        if lost {
            std::fs::remove_dir_all(room.run_dir()).unwrap();
            room.add("b", &room.dual()).result();
        } else {
            let store = rusqlite::Connection::open(room.run_dir().join("node.db")).unwrap();
            store.execute_batch("DELETE FROM address WHERE attachment IS NOT NULL; DELETE FROM attachment").unwrap();
        }
        assert!(room.kernel().contains(": bw"));
        room.del("a", &room.dual()).silent();
        room.del("b", &room.dual()).silent();
        assert_eq!(room.kernel(), "");
        let table = room.exec("node", "nft", &["list", "table", "inet", "twill_ports"]);
        assert!(!String::from_utf8_lossy(&table.stdout).contains("elements"), "{table:?}");
        room.remove_namespace("b");
    }
}
