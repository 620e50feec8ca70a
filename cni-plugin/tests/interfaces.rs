//! Several interfaces in one pod: the first has the default route, what is sent from a later one's address leaves by it.
#![allow(missing_docs, clippy::unwrap_used)]

mod room;

use room::{Answer, Room, address, host_ifname, room};
use serde_json::{Value, json};

/// A second network.
fn other(room: &Room, extra: Value) -> Value {
    let mut conf = room.conf(json!({"name": "other", "subnets": ["10.43.0.0/24", "fd00:43::/120"]}));
    conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    conf
}

/// A verb about `eth1` of `p1`.
fn second_in(room: &Room, verb: &str, netns: &str, conf: &Value) -> Answer {
    let variables = [("CNI_COMMAND", verb), ("CNI_CONTAINERID", "p1"), ("CNI_NETNS", netns), ("CNI_IFNAME", "eth1")];
    room.call(&variables, &conf.to_string())
}

fn second(room: &Room, verb: &str, conf: &Value) -> Answer {
    second_in(room, verb, &room.path("p1"), conf)
}

fn check_second(room: &Room, conf: &Value, result: &Value) -> Answer {
    let mut conf = conf.clone();
    conf["prevResult"] = result.clone();
    second(room, "CHECK", &conf)
}

/// Our rules in the pod.
fn rules(room: &Room) -> String {
    let all = room.ip("p1", "-4 rule") + &room.ip("p1", "-6 rule");
    all.lines().filter(|line| line.contains("7777:")).map(|line| format!("{line}\n")).collect()
}

/// Packets that a pod sent by the interface of that result.
fn sent(room: &Room, result: &Value) -> u64 {
    let links: Value = serde_json::from_slice(&room.exec("node", "ip", &["-s", "-j", "link"]).stdout).unwrap();
    let name = host_ifname(result);
    let link = links.as_array().unwrap().iter().find(|link| link["ifname"] == name.as_str()).unwrap();
    link["stats64"]["rx"]["packets"].as_u64().unwrap()
}

#[test]
fn what_is_sent_from_the_address_of_a_later_interface_leaves_by_it() {
    let Some(room) = room() else { return };
    room.pod("p1");
    let (first, later) = (room.dual(), other(&room, json!({})));
    let one = room.add("p1", &first).result();
    let two = second(&room, "ADD", &later).result();
    for ipv6 in [false, true] {
        let (family, node) = if ipv6 { ("-6", "2001:db8::1") } else { ("-4", "192.0.2.1") };
        assert!(room.ip("p1", &format!("{family} route get {node}")).contains("dev eth0"));
        assert!(!room.ip("p1", &format!("{family} route show default")).contains("eth1"));
        let before = (sent(&room, &one), sent(&room, &two));
        let source = address(&two, ipv6);
        let ping = room.exec("p1", "ping", &["-c", "40", "-i", "0.002", "-W", "2", "-I", &source, node]);
        assert!(ping.status.success(), "{}", String::from_utf8_lossy(&ping.stdout));
        room.assert_ping("node", &source);
        // The kernel announces itself now and then on either.
        let after = (sent(&room, &one), sent(&room, &two));
        assert!(after.1 - before.1 >= 41 && after.0 - before.0 < 20, "{before:?} {after:?}: 40 of its own and a reply");
        room.assert_ping("node", &address(&one, ipv6));
        room.assert_ping("p1", node);
    }
    assert_eq!(two["routes"], json!([]), "no default route is promised");
    assert_eq!(one["routes"].as_array().unwrap().len(), 2);
    room.check("p1", &first, &one).silent();
    check_second(&room, &later, &two).silent();
    second(&room, "DEL", &later).silent();
    assert_eq!(rules(&room), "");
    room.check("p1", &first, &one).silent();
}

#[test]
fn a_first_interface_has_neither_rules_nor_a_table() {
    let Some(room) = room() else { return };
    room.pod("p1");
    let result = room.add("p1", &room.dual()).result();
    assert_eq!(rules(&room), "");
    assert!(!room.ip("p1", "route show table all").contains("table 117"));
    let alias = room.ip("node", &format!("link show {}", host_ifname(&result)));
    assert!(alias.contains("alias twill1:") && !alias.contains("rules="), "{alias}");
}

#[test]
fn a_del_removes_the_rules_by_the_stored_path_too_and_without_the_store() {
    let Some(room) = room() else { return };
    room.pod("p1");
    let later = other(&room, json!({}));
    room.add("p1", &room.dual()).result();
    for lost in [false, true] {
        second(&room, "ADD", &later).result();
        assert_eq!(rules(&room).lines().count(), 2);
        if lost {
            for file in ["node.db", "node.db-wal", "node.db-shm"] {
                std::fs::remove_file(room.run_dir().join(file)).ok();
            }
        }
        let netns = if lost { room.path("p1") } else { String::new() };
        second_in(&room, "DEL", &netns, &later).silent();
        assert_eq!(rules(&room), "", "store lost: {lost}");
        assert!(!room.ip("p1", "route show table all").contains("table 117"));
    }
}

#[test]
fn a_gc_removes_the_rules_of_what_it_collects() {
    let Some(room) = room() else { return };
    room.pod("p1");
    let later = other(&room, json!({"cniVersion": "1.1.0"}));
    room.add("p1", &room.dual()).result();
    second(&room, "ADD", &later).result();
    assert_eq!(rules(&room).lines().count(), 2);
    room.gc_with(&later, &json!({"cni.dev/valid-attachments": []})).silent();
    assert_eq!(rules(&room), "");
    assert_eq!(room.rows().len(), 1);
}

#[test]
fn rules_that_nobody_could_remove_hinder_nobody_and_go_with_the_next_del() {
    let Some(room) = room() else { return };
    room.pod("p1");
    let later = other(&room, json!({}));
    let one = room.add("p1", &room.dual()).result();
    let two = second(&room, "ADD", &later).result();
    // The interface vanishes without a DEL; a runtime that goes on in the same namespace ADDs again.
    room.ip("node", &format!("link delete {}", host_ifname(&two)));
    assert_eq!(rules(&room).lines().count(), 2);
    room.assert_ping("node", &address(&one, false));
    let again = second(&room, "ADD", &later).result();
    assert_eq!(address(&again, false), address(&two, false));
    let ping = room.exec("p1", "ping", &["-c", "1", "-W", "2", "-I", &address(&again, false), "192.0.2.1"]);
    assert!(ping.status.success());
    second(&room, "DEL", &later).silent();
    assert_eq!(rules(&room), "");
}

#[test]
fn a_failed_add_of_a_later_interface_leaves_neither_rule_nor_route() {
    let Some(room) = room() else { return };
    room.pod("p1");
    let later = other(&room, json!({}));
    room.add("p1", &room.dual()).result();
    // lo is 1 and eth0 what the first ADD made; the next number is the later interface's.
    let index = |name: &str| {
        let links: Value = serde_json::from_str(&room.ip("p1", &format!("-j link show {name}"))).unwrap();
        links[0]["ifindex"].as_u64().unwrap()
    };
    let next = index("eth0") + 1;
    room.ip("p1", "link set lo up");
    room.ip("p1", &format!("route add default dev lo table {}", 117_000_000 + next));
    let text = second(&room, "ADD", &later).error(105);
    assert!(text.contains("0.0.0.0/0") && text.contains("table 117"), "{text}");
    assert_eq!(rules(&room), "");
    assert_eq!(room.rows().len(), 1);
    second(&room, "ADD", &later).result();
}

#[test]
fn beside_another_plugins_interface_each_family_is_judged_by_itself() {
    let Some(room) = room() else { return };
    room.pod("p1");
    for command in ["link add br0 type bridge", "link set br0 up", "addr add 198.51.100.2/24 dev br0"] {
        room.ip("p1", command);
    }
    room.ip("p1", "route add default via 198.51.100.1");
    let later = other(&room, json!({}));
    let result = second(&room, "ADD", &later).result();
    assert_eq!(result["routes"], json!([{"dst": "::/0", "gw": "fe80::1"}]));
    assert!(room.ip("p1", "route get 192.0.2.1").contains("dev br0"));
    assert!(room.ip("p1", &format!("route get 192.0.2.1 from {}", address(&result, false))).contains("dev eth1"));
    assert!(room.ip("p1", "-6 route get 2001:db8::1").contains("dev eth1"));
    assert_eq!(rules(&room).lines().count(), 1, "{}", rules(&room));
    room.assert_ping("node", &address(&result, false));
    room.assert_ping("node", &address(&result, true));
    check_second(&room, &later, &result).silent();
    second(&room, "DEL", &later).silent();
    assert_eq!(rules(&room), "");
}

#[test]
fn a_check_names_a_missing_rule_and_a_missing_route_of_its_table() {
    let Some(room) = room() else { return };
    room.pod("p1");
    let later = other(&room, json!({}));
    room.add("p1", &room.dual()).result();
    let result = second(&room, "ADD", &later).result();
    room.ip("p1", &format!("rule delete from {}", address(&result, false)));
    let text = check_second(&room, &later, &result).error(104);
    assert!(text.contains(&format!("no rule 7777: from {}", address(&result, false))), "{text}");
    let table = rules(&room).split_whitespace().skip_while(|word| *word != "lookup").nth(1).unwrap().to_owned();
    room.ip("p1", &format!("-6 route flush table {table}"));
    let text = check_second(&room, &later, &result).error(104);
    assert!(text.contains(&format!("no route ::/0 via fe80::1 dev eth1 table {table}")), "{text}");
}

#[test]
fn a_later_interface_gets_the_default_route_that_is_asked_for_behind_the_first_ones_and_answers_by_itself() {
    let Some(room) = room() else { return };
    room.pod("p1");
    room.add("p1", &room.dual()).result();
    for (route, metric) in
        [(json!({"dst": "0.0.0.0/0", "priority": 500}), "metric 500"), (json!({"dst": "0.0.0.0/0"}), "metric 1170000")]
    {
        let beside = other(&room, json!({"routes": [route]}));
        let result = second(&room, "ADD", &beside).result();
        assert_eq!(result["routes"], json!([{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}]));
        assert!(room.ip("p1", "route show default").contains(&format!("dev eth1 {metric}")));
        assert!(room.ip("p1", "route get 192.0.2.1").contains("dev eth0"));
        assert_eq!(rules(&room).lines().count(), 2);
        let ping = room.exec("p1", "ping", &["-c", "1", "-W", "2", "-I", &address(&result, false), "192.0.2.1"]);
        assert!(ping.status.success());
        check_second(&room, &beside, &result).silent();
        // What is left serves alone.
        room.del("p1", &room.dual()).silent();
        assert!(room.ip("p1", "route get 192.0.2.1").contains("dev eth1"));
        room.assert_ping("p1", "192.0.2.1");
        room.add("p1", &room.dual()).result();
        assert!(room.ip("p1", "route get 192.0.2.1").contains("dev eth0"), "in whichever order they come");
        check_second(&room, &beside, &result).silent();
        second(&room, "DEL", &beside).silent();
        assert_eq!(rules(&room), "");
    }
}

#[test]
fn a_network_with_routes_serves_two_interfaces_of_a_pod_and_the_first_ones_go_before() {
    let Some(room) = room() else { return };
    room.pod("p1");
    let mut conf = room.dual();
    conf["routes"] = json!([{"dst": "198.51.100.0/24"}, {"dst": "::/0"}]);
    let one = room.add("p1", &conf).result();
    let two = second(&room, "ADD", &conf).result();
    assert_ne!(address(&one, false), address(&two, false));
    assert_eq!(room.ip("p1", "route show 198.51.100.0/24").lines().count(), 2);
    assert!(room.ip("p1", "route get 198.51.100.1").contains("dev eth0"));
    assert!(room.ip("p1", "-6 route get 2001:db8::1").contains("dev eth0"));
    for result in [&one, &two] {
        room.assert_ping("node", &address(result, false));
        room.assert_ping("node", &address(result, true));
    }
    room.check("p1", &conf, &one).silent();
    check_second(&room, &conf, &two).silent();
}

#[test]
fn a_route_of_a_priority_that_another_interface_has_is_refused_and_nothing_is_changed() {
    let Some(room) = room() else { return };
    room.pod("p1");
    room.add("p1", &room.dual()).result();
    let same = other(&room, json!({"routes": [{"dst": "0.0.0.0/0", "priority": 0}]}));
    let before = (room.kernel(), room.ip("p1", "route show table all"));
    let text = second(&room, "ADD", &same).error(7);
    assert!(text.contains("routes[0].dst") && text.contains("0.0.0.0/0") && text.contains("priority"), "{text}");
    assert_eq!((room.kernel(), room.ip("p1", "route show table all")), before);
    assert_eq!((rules(&room).as_str(), room.rows().len()), ("", 1));
}

#[test]
fn without_its_first_interface_a_pod_has_no_default_route_and_its_others_answer_on() {
    let Some(room) = room() else { return };
    room.pod("p1");
    let later = other(&room, json!({}));
    room.add("p1", &room.dual()).result();
    let two = second(&room, "ADD", &later).result();
    room.del("p1", &room.dual()).silent();
    assert!(!room.try_ip("p1", "route get 192.0.2.1").status.success());
    for ipv6 in [false, true] {
        room.assert_ping("node", &address(&two, ipv6));
    }
    check_second(&room, &later, &two).silent();
    // Whoever comes next is the first.
    let one = room.add("p1", &room.dual()).result();
    assert!(room.ip("p1", "route get 192.0.2.1").contains("dev eth0"));
    room.check("p1", &room.dual(), &one).silent();
}
