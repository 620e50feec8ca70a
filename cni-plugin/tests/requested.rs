//! What a runtime or the network's configuration asks for: addresses, MAC, routes, name servers.
#![allow(missing_docs, clippy::unwrap_used)]

mod room;

use room::{Answer, Room, address, host_ifname, room};
use serde_json::{Value, json};

const MAC: &str = "02:00:5e:10:00:09";

/// The dual-stack configuration with more in it.
fn conf(room: &Room, extra: Value) -> Value {
    let mut conf = room.dual();
    conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    conf
}

fn with_args(room: &Room, verb: &str, container: &str, args: &str, conf: &Value) -> Answer {
    let path = room.path(container);
    let variables = [
        ("CNI_COMMAND", verb),
        ("CNI_CONTAINERID", container),
        ("CNI_NETNS", path.as_str()),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", args),
    ];
    room.call(&variables, &conf.to_string())
}

#[test]
fn a_requested_address_and_mac_are_the_pods_on_both_ends() {
    let Some(room) = room() else { return };
    room.pod("p1");
    let conf =
        conf(&room, json!({"runtimeConfig": {"IPs": ["10.42.0.77/16", "10.42.0.77"], "Mac": "02-00-5E-10-00-09"}}));
    let result = room.add("p1", &conf).result();
    assert_eq!(address(&result, false), "10.42.0.77");
    assert_eq!(address(&result, true), "fd00:42::", "the other family gets its next");
    assert_eq!(result["interfaces"][1]["mac"], MAC);
    assert!(room.ip("p1", "link show eth0").contains(MAC));
    let neighbours = room.ip("node", &format!("neigh show dev {}", host_ifname(&result)));
    assert_eq!(neighbours.matches(MAC).count(), 2, "{neighbours}");
    room.assert_ping("node", "10.42.0.77");
    room.assert_ping("p1", "192.0.2.1");
    room.check("p1", &conf, &result).silent();
    room.ip("p1", "link set eth0 address 02:00:5e:10:00:0a");
    assert!(room.check("p1", &conf, &result).error(104).contains("02:00:5e:10:00:0a instead of 02:00:5e:10:00:09"));
    room.del("p1", &conf).silent();
    room.assert_empty();
}

#[test]
fn a_pod_whose_mac_was_asked_for_finds_its_gateway_again_after_it_is_set_once_more() {
    let Some(room) = room() else { return };
    room.pod("p1");
    // The kernel answers for addresses that it would forward to.
    room.ip("node", "link add up0 type bridge");
    for command in ["link set up0 up", "addr add 198.51.100.1/24 dev up0", "route add default via 198.51.100.2"] {
        room.ip("node", command);
    }
    let conf = conf(&room, json!({"runtimeConfig": {"mac": MAC}}));
    let result = room.add("p1", &conf).result();
    // As the plugin `tuning` does, even where nothing changes: the kernel forgets all neighbours of the interface.
    room.ip("p1", &format!("link set eth0 address {MAC}"));
    assert!(!room.ip("p1", "neigh show nud permanent").contains("169.254.1.1"));
    for (ipv6, node) in [(false, "192.0.2.1"), (true, "2001:db8::1")] {
        room.assert_ping("node", &address(&result, ipv6));
        room.assert_ping("p1", node);
    }
}

#[test]
fn every_source_of_an_address_is_heard_and_the_runtimes_goes_first() {
    let Some(room) = room() else { return };
    let all = json!({
        "runtimeConfig": {"ips": ["10.42.0.11"]},
        "args": {"cni": {"ips": ["10.42.0.12"], "mac": MAC, "labels": [{"key": "a"}]}},
    });
    let args = "IgnoreUnknown=1;IP=10.42.0.13;MAC=02:00:5e:10:00:0d";
    let by_args = json!({"args": {"cni": {"ips": ["10.42.0.12"]}}});
    let table = [("p1", all, "10.42.0.11", MAC), ("p2", by_args, "10.42.0.12", "02:00:5e:10:00:0d")];
    for (pod, extra, ip, mac) in table.into_iter().chain([("p3", json!({}), "10.42.0.13", "02:00:5e:10:00:0d")]) {
        room.pod(pod);
        let result = with_args(&room, "ADD", pod, args, &conf(&room, extra)).result();
        assert_eq!((address(&result, false).as_str(), result["interfaces"][1]["mac"].as_str()), (ip, Some(mac)));
    }
}

#[test]
fn an_address_that_cannot_be_given_is_103_with_the_reason_and_leaves_nothing() {
    let Some(room) = room() else { return };
    room.pod("p1");
    room.pod("p2");
    let asked = |ip: &str| conf(&room, json!({"runtimeConfig": {"ips": [ip]}}));
    room.add("p1", &asked("10.42.0.5")).result();
    let before = room.kernel();
    assert!(room.add("p2", &asked("10.42.0.5")).error(103).contains("10.42.0.5 was asked for"));
    assert!(room.add("p2", &asked("10.42.0.5")).error(103).contains("the pod shop/till has it"));
    assert!(room.add("p2", &asked("10.43.0.5")).error(103).contains("which are 10.42.0.0/24"));
    assert_eq!((room.kernel(), room.rows().len()), (before, 1));
    room.del("p1", &room.dual()).silent();
    assert!(room.add("p2", &asked("10.42.0.5")).error(103).contains("is free in"));
    assert_eq!(address(&room.add("p1", &asked("10.42.0.5")).result(), false), "10.42.0.5");
    assert_eq!(room.store().attempts().unwrap()[0].code, 103);
}

#[test]
fn what_is_asked_for_wrongly_is_refused_by_an_add_and_never_by_a_del() {
    let Some(room) = room() else { return };
    room.pod("p1");
    let bad = json!({"runtimeConfig": {"ips": ["10.42.0"], "mac": "x", "portMappings": 7, "bandwidth": []},
        "routes": {}, "dns": [], "args": {"cni": 1}});
    assert!(room.add("p1", &conf(&room, bad.clone())).error(7).contains("args.cni"));
    for (args, said) in [("IP=ten", "IP=ten"), ("MAC=ff:ff:ff:ff:ff:ff", "multicast")] {
        assert!(with_args(&room, "ADD", "p1", args, &room.dual()).error(4).contains(said));
    }
    let gateways = conf(&room, json!({"runtimeConfig": {"mac": "02:74:77:00:00:01"}}));
    assert!(room.add("p1", &gateways).error(7).contains("gateway"));
    room.assert_empty();
    with_args(&room, "ADD", "p1", "IP=10.42.0.9", &room.dual()).result();
    with_args(&room, "DEL", "p1", "IP=ten;MAC=x", &conf(&room, bad)).silent();
    room.assert_empty();
}

#[test]
fn the_routes_of_the_configuration_stand_in_the_pod_and_in_the_result() {
    let Some(room) = room() else { return };
    room.pod("p1");
    let routes = json!([
        {"dst": "198.51.100.0/24", "gw": "169.254.1.1", "mtu": 1300, "advmss": 1200, "priority": 50},
        {"dst": "203.0.113.0/24", "table": 1000, "scope": 200},
        {"dst": "2001:db8:1::/48"},
    ]);
    let conf = conf(&room, json!({"cniVersion": "1.1.0", "routes": routes}));
    let result = room.add("p1", &conf).result();
    assert!(room.ip("p1", "route show 198.51.100.0/24").contains("via 169.254.1.1 dev eth0 metric 50 onlink mtu 1300"));
    let of_table = room.ip("p1", "route show table 1000");
    assert!(
        of_table.contains("203.0.113.0/24 via 169.254.1.1 dev eth0") && of_table.contains("scope site"),
        "{of_table}"
    );
    assert!(room.ip("p1", "-6 route show 2001:db8:1::/48").contains("via fe80::1 dev eth0"));
    let expected = json!([
        {"dst": "0.0.0.0/0", "gw": "169.254.1.1"},
        {"dst": "::/0", "gw": "fe80::1"},
        {"dst": "198.51.100.0/24", "gw": "169.254.1.1", "mtu": 1300, "advmss": 1200, "priority": 50},
        {"dst": "203.0.113.0/24", "gw": "169.254.1.1", "table": 1000, "scope": 200},
        {"dst": "2001:db8:1::/48", "gw": "fe80::1"},
    ]);
    assert_eq!(result["routes"], expected);
    room.check("p1", &conf, &result).silent();

    for (command, missing) in [
        (
            "route replace 198.51.100.0/24 via 169.254.1.1 dev eth0 metric 50 onlink mtu 1280 advmss 1200",
            "the mtu 1280 instead of 1300",
        ),
        ("route flush table 1000", "no route 203.0.113.0/24 via 169.254.1.1 dev eth0 table 1000"),
        ("-6 route delete 2001:db8:1::/48", "no route 2001:db8:1::/48 via fe80::1 dev eth0"),
    ] {
        room.ip("p1", command);
        let text = room.check("p1", &conf, &result).error(104);
        assert!(text.contains(missing), "{text}");
    }
}

#[test]
fn a_default_route_of_the_configuration_stands_in_the_place_of_the_usual_one() {
    let Some(room) = room() else { return };
    room.pod("p1");
    let conf = conf(&room, json!({"routes": [{"dst": "0.0.0.0/0", "mtu": 1300}]}));
    let result = room.add("p1", &conf).result();
    let routes = room.ip("p1", "route show default");
    assert!(routes.contains("mtu 1300") && routes.lines().count() == 1, "{routes}");
    room.assert_ping("p1", "192.0.2.1");
    assert_eq!(result["routes"].as_array().unwrap().len(), 2, "{result}");
    room.check("p1", &conf, &result).silent();
}

#[test]
fn routes_of_a_family_that_the_pod_does_not_get_are_left_out() {
    let Some(room) = room() else { return };
    room.pod("p1");
    let conf = room.conf(json!({"subnets": ["10.42.0.0/24"], "routes": [{"dst": "2001:db8:1::/48"}]}));
    let result = room.add("p1", &conf).result();
    assert_eq!(result["routes"], json!([{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}]));
    room.check("p1", &conf, &result).silent();
}

#[test]
fn name_servers_go_into_the_result_of_every_version_and_the_runtimes_go_first() {
    let Some(room) = room() else { return };
    room.pod("p1");
    let network = json!({"nameservers": ["10.96.0.10"], "domain": "example.org", "search": ["a.example.org"]});
    for version in ["0.1.0", "0.2.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let mut conf = conf(&room, json!({"cniVersion": version, "dns": network}));
        assert_eq!(room.add("p1", &conf).result()["dns"], network, "{version}");
        room.del("p1", &conf).silent();
        conf["runtimeConfig"] = json!({"dns": {"Servers": ["fd00::53"], "Searches": ["b"], "Options": ["ndots:5"]}});
        let runtimes = json!({"nameservers": ["fd00::53"], "search": ["b"], "options": ["ndots:5"]});
        let result = room.add("p1", &conf).result();
        assert_eq!(result["dns"], runtimes, "{version}");
        if version >= "0.4.0" {
            room.check("p1", &conf, &result).silent();
        }
        room.del("p1", &conf).silent();
    }
}

#[test]
fn a_requested_address_that_the_node_routes_elsewhere_is_103_and_the_pods_again_when_it_is_not() {
    let Some(room) = room() else { return };
    room.pod("p1");
    let conf = conf(&room, json!({"runtimeConfig": {"ips": ["10.42.0.77"]}}));
    room.ip("node", "route add 10.42.0.77/32 dev lo metric 7777");
    for _ in 0..2 {
        let text = room.add("p1", &conf).error(103);
        assert!(text.contains("10.42.0.77") && text.contains("a route to it"), "{text}");
        room.assert_empty();
    }
    room.ip("node", "route delete 10.42.0.77/32 metric 7777");
    assert_eq!(address(&room.add("p1", &conf).result(), false), "10.42.0.77");
}
