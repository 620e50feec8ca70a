//! By whose addresses a pod sends, by the built plugin alone: nobody else is there who would look.
#![allow(clippy::unwrap_used, missing_docs, reason = "helpers of tests")]

mod room;

use room::{Room, address, host_ifname, room};
use serde_json::{Value, json};

/// Addresses of others, which the node knows a way back to.
const FOREIGN: [&str; 2] = ["198.51.100.7", "2001:db8:77::7"];

/// A pod of a network with these keys that has the foreign addresses too.
fn pod(room: &Room, name: &str, keys: &Value) -> Value {
    let mut conf = room.dual();
    keys.as_object().unwrap().iter().for_each(|(key, value)| conf[key] = value.clone());
    room.pod(name);
    let result = room.add(name, &conf).result();
    room.check(name, &conf, &result).silent();
    for (foreign, length, now) in [(FOREIGN[0], 32, ""), (FOREIGN[1], 128, " nodad")] {
        room.ip(name, &format!("address add {foreign}/{length} dev eth0{now}"));
        room.ip("node", &format!("route replace {foreign}/{length} dev {}", host_ifname(&result)));
        // What the node answers it sends straight there.
        let mac = room.ip(name, "-o link show eth0");
        let mac = mac.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap();
        room.ip("node", &format!("neigh replace {foreign} lladdr {mac} dev {}", host_ifname(&result)));
    }
    result
}

/// Whether another pod answers what this one sends by an address.
fn is_answered(room: &Room, from: &str, source: &str, to: &str) -> bool {
    room.exec(from, "ping", &["-n", "-c1", "-W1", "-I", source, to]).status.success()
}

#[test]
fn by_a_filter_a_pod_sends_by_its_own_addresses_alone() {
    let Some(room) = room() else { return };
    room.pod("target");
    let target = room.add("target", &room.dual()).result();
    let targets = [false, true].map(|ipv6| address(&target, ipv6));
    for (name, keys, free) in [
        ("filtered", json!({ "hostEndFilter": true }), false),
        ("unfiltered", json!({}), true),
        ("router", json!({ "hostEndFilter": true, "spoofCheck": false }), true),
    ] {
        let result = pod(&room, name, &keys);
        for ((foreign, to), ipv6) in FOREIGN.into_iter().zip(&targets).zip([false, true]) {
            assert!(is_answered(&room, name, &address(&result, ipv6), to), "{name} by its own address to {to}");
            assert_eq!(is_answered(&room, name, foreign, to), free, "{name} by {foreign}");
        }
        let host = host_ifname(&result);
        let alias = room.ip("node", &format!("-o link show {host}"));
        assert_eq!(alias.contains(";filter=on"), !free, "{alias}");
        let hooks = room.exec("node", "tc", &["qdisc", "show", "dev", &host]);
        let hooks = String::from_utf8(hooks.stdout).unwrap();
        assert_eq!(hooks.contains("clsact"), !free, "{hooks}");
    }
}

#[test]
fn a_check_tells_of_a_filter_that_is_lost() {
    let Some(room) = room() else { return };
    room.pod("p1");
    let mut conf = room.dual();
    conf["hostEndFilter"] = true.into();
    let result = room.add("p1", &conf).result();
    room.check("p1", &conf, &result).silent();
    let host = host_ifname(&result);
    for words in [["filter", "del", "dev", &host, "ingress"].as_slice(), &["qdisc", "del", "dev", &host, "clsact"]] {
        assert!(room.exec("node", "tc", words).status.success());
        let text = room.check("p1", &conf, &result).error(104);
        assert!(text.contains(&format!("{host} has no filter of what the pod sends by other addresses")), "{text}");
    }
    room.del("p1", &conf).silent();
    room.assert_empty();
}
