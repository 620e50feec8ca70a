//! Published ports, by the built plugin and with real traffic: who reaches a pod by a port of the node, and who does not.
#![allow(clippy::unwrap_used, missing_docs, reason = "helpers of tests")]

mod room;
mod street;

use std::time::Duration;

use room::{Room, address, host_ifname};
use serde_json::{Value, json};
use street::{BEYOND, NODE, OUTSIDE, sctp, serve, socket, street, with_ports};

/// A pod with a web server on 80/tcp and a name server on 53/udp, at ports 8080 and 8053 of the node.
fn web(room: &Room, pod: &str) -> Value {
    room.pod(pod);
    let ports = json!([
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
        {"HostPort": 8053, "ContainerPort": 53, "Protocol": "udp"},
    ]);
    let result = room.add(pod, &with_ports(&room.dual(), ports)).result();
    serve(room, pod, &result);
    result
}

/// TCP and UDP: whether it is UDP, the port of the node, and who answers there.
const SERVICES: [(bool, u16, &str); 2] = [(false, 8080, "web"), (true, 8053, "names")];

#[test]
fn a_published_port_is_reached_from_outside_from_the_node_from_pods_and_from_the_pod_itself() {
    let Some(room) = street() else { return };
    let result = web(&room, "a");
    room.pod("b");
    let other = room.add("b", &room.dual()).result();
    for (udp, port, name) in SERVICES {
        for family in [0, 1] {
            let to = socket(NODE[family], port);
            let pod = address(&other, family == 1);
            let answer = |from: &str| room.ask(from, udp, to);
            assert_eq!(answer("outside"), Some(format!("{name} {}", OUTSIDE[family])), "the source is kept");
            assert_eq!(answer("beyond"), Some(format!("{name} {}", BEYOND[family])));
            assert_eq!(answer("node"), Some(format!("{name} {}", NODE[family])));
            assert_eq!(answer("b"), Some(format!("{name} {pod}")));
            let hairpin = answer("a").unwrap_or_else(|| panic!("the pod does not reach itself by {to}"));
            assert_ne!(hairpin, format!("{name} {}", address(&result, family == 1)), "by the node's address");
        }
        // Any address of the node: here one of lo.
        assert!(room.ask("outside", udp, socket("192.0.2.1", port)).is_some());
        let local = room.ask("node", udp, socket("127.0.0.1", port)).unwrap();
        assert!(local.starts_with(name) && !local.contains("127."), "{local}");
    }
    room.check("a", &with_ports(&room.dual(), json!([])), &result).silent();
}

#[test]
fn a_published_port_of_sctp_is_reached_too() {
    let Some(room) = street() else { return };
    room.pod("a");
    let ports = json!([{"hostPort": 8088, "containerPort": 88, "protocol": "SCTP"}]);
    let result = room.add("a", &with_ports(&room.dual(), ports)).result();
    for (family, node) in NODE.iter().enumerate() {
        let pod = socket(&address(&result, family == 1), 88);
        room.inside("a", || sctp::serve(pod));
        for from in ["outside", "beyond", "node"] {
            assert!(room.inside(from, || sctp::is_answered(socket(node, 8088))), "{node} from {from}");
        }
        assert!(!room.inside("outside", || sctp::is_answered(socket(node, 8089))));
    }
    assert!(room.inside("node", || sctp::is_answered(socket("127.0.0.1", 8088))));
}

#[test]
fn what_goes_elsewhere_by_the_same_port_is_not_led_to_the_pod() {
    let Some(room) = street() else { return };
    let result = web(&room, "a");
    for (udp, port, _) in SERVICES {
        for (family, beyond) in BEYOND.iter().enumerate() {
            room.serve("beyond", udp, socket(beyond, port), "beyond");
            let pod = address(&result, family == 1);
            room.serve("a", udp, socket(&pod, port), "direct");
            let from = OUTSIDE[family];
            assert_eq!(room.ask("outside", udp, socket(beyond, port)), Some(format!("beyond {from}")));
            assert_eq!(room.ask("outside", udp, socket(&pod, port)), Some(format!("direct {from}")));
            assert_eq!(room.ask("node", udp, socket(beyond, port)).unwrap().split(' ').next(), Some("beyond"));
        }
    }
}

#[test]
fn a_host_ip_restricts_a_port_to_that_address() {
    let Some(room) = street() else { return };
    room.pod("a");
    let ports = json!([
        {"hostPort": 8080, "containerPort": 80, "hostIP": NODE[0]},
        {"hostPort": 8080, "containerPort": 80, "hostIP": NODE[1]},
        {"hostPort": 8081, "containerPort": 80, "hostIP": "127.0.0.1"},
        {"hostPort": 8082, "containerPort": 80, "hostIP": "0.0.0.0"},
    ]);
    let result = room.add("a", &with_ports(&room.dual(), ports)).result();
    serve(&room, "a", &result);
    let reaches = |from: &str, ip: &str, port| room.ask(from, false, socket(ip, port)).is_some();
    for node in NODE {
        assert!(reaches("outside", node, 8080) && reaches("node", node, 8080));
    }
    for (from, ip) in [("outside", "192.0.2.1"), ("outside", "2001:db8::1"), ("node", "127.0.0.1")] {
        assert!(!reaches(from, ip, 8080), "{from} by {ip}");
    }
    assert!(reaches("node", "127.0.0.1", 8081) && !reaches("outside", NODE[0], 8081));
    assert!(reaches("outside", NODE[0], 8082) && !reaches("outside", NODE[1], 8082));
}

#[test]
fn a_port_on_all_addresses_takes_no_server_away_that_listens_on_another_loopback_or_a_link_local_address() {
    let Some(room) = street() else { return };
    room.pod("a");
    let ports = json!([
        {"hostPort": 8080, "containerPort": 80},
        {"hostPort": 8081, "containerPort": 80, "hostIP": "127.0.0.2"},
    ]);
    let result = room.add("a", &with_ports(&room.dual(), ports)).result();
    serve(&room, "a", &result);
    let ask = |ip: &str, port| room.ask("node", false, socket(ip, port));
    assert!(ask("127.0.0.1", 8080).unwrap().starts_with("web"));
    room.serve("node", false, socket("127.0.0.53", 8080), "resolver");
    assert_eq!(ask("127.0.0.53", 8080).as_deref(), Some("resolver 127.0.0.1"));
    // But one that is named leads to the pod.
    assert!(ask("127.0.0.2", 8081).unwrap().starts_with("web"));
    assert_eq!((ask("127.0.0.3", 8081), ask("127.0.0.1", 8081)), (None, None));
    room.del("a", &room.dual()).silent();
    assert_eq!(elements(&room), 0);
    // A link-local address is asked by its zone, which `ask` cannot say: the rules are looked at.
    let chains = room.exec("node", "nft", &["list", "table", "inet", "twill_ports"]);
    assert_eq!(String::from_utf8(chains.stdout).unwrap().matches("ip6 daddr fe80::/10 accept").count(), 2);
}

#[test]
fn a_port_on_all_addresses_takes_none_of_the_services_of_ipvs_away() {
    let Some(room) = street() else { return };
    room.ip("node", "link add kube-ipvs0 type bridge");
    for service in ["10.96.0.10/32", "fd00:96::10/128"] {
        room.ip("node", &format!("addr add {service} dev kube-ipvs0 nodad"));
    }
    web(&room, "a");
    for service in ["10.96.0.10", "fd00:96::10"] {
        room.serve("node", false, socket(service, 8080), "service");
        for from in ["node", "outside"] {
            let answer = room.ask(from, false, socket(service, 8080));
            assert!(answer.is_some_and(|answer| answer.starts_with("service")), "{service} from {from}");
        }
    }
    assert!(room.ask("outside", false, socket(NODE[0], 8080)).unwrap().starts_with("web"));
}

#[test]
fn a_host_ip_that_could_never_lead_to_the_pod_is_refused_with_nothing_left() {
    let Some(room) = street() else { return };
    room.pod("a");
    let ipv4 = room.conf(json!({"subnets": ["10.42.0.0/24"]}));
    for (conf, host) in [(room.dual(), "::1"), (room.dual(), "fe80::7"), (ipv4, "2001:db8::1")] {
        let asked = with_ports(&conf, json!([{"hostPort": 8080, "containerPort": 80, "hostIP": host}]));
        let text = room.add("a", &asked).error(7);
        assert!(text.contains("hostIP") && text.contains(host), "{text}");
        room.assert_empty();
    }
}

#[test]
fn a_pod_with_published_ports_cannot_reach_the_loopback_of_the_node() {
    let Some(room) = street() else { return };
    web(&room, "a");
    room.serve("node", false, socket("127.0.0.1", 9999), "secret");
    // What an attacker with the capability would do in his pod.
    room.exec("a", "sysctl", &["-q", "net.ipv4.conf.all.route_localnet=1"]);
    room.ip("a", "addr del 127.0.0.1/8 dev lo");
    room.ip("a", "route add 127.0.0.0/8 via 169.254.1.1 dev eth0");
    assert_eq!(room.ask("a", false, socket("127.0.0.1", 9999)), None);
    // It is the guard that keeps him out.
    assert!(room.exec("node", "nft", &["flush", "chain", "inet", "twill_ports", "guard"]).status.success());
    assert!(room.ask("a", false, socket("127.0.0.1", 9999)).is_some());
}

#[test]
fn what_somebody_else_lets_in_to_the_loopback_of_the_node_is_not_kept_out() {
    let Some(room) = street() else { return };
    web(&room, "a");
    room.serve("node", false, socket("127.0.0.1", 9999), "let in");
    for place in ["node", "outside"] {
        room.exec(place, "sysctl", &["-q", "net.ipv4.conf.all.route_localnet=1"]);
    }
    room.ip("outside", "addr del 127.0.0.1/8 dev lo");
    room.ip("outside", &format!("route add 127.0.0.0/8 via {}", NODE[0]));
    assert_eq!(room.ask("outside", false, socket("127.0.0.1", 9999)), Some(format!("let in {}", OUTSIDE[0])));
}

fn elements(room: &Room) -> usize {
    let listing = room.exec("node", "nft", &["list", "table", "inet", "twill_ports"]);
    let text = String::from_utf8(listing.stdout).unwrap();
    // Rules bear comments too.
    text.matches("comment").count() - text.matches("comment \"twill ").count()
}

#[test]
fn a_del_withdraws_the_ports_whatever_configuration_it_is_given_and_the_next_pod_may_have_them() {
    let Some(room) = street() else { return };
    web(&room, "a");
    assert_eq!(elements(&room), 6, "two ports and the hairpin, in two families");
    room.del("a", &room.dual()).silent();
    assert_eq!(elements(&room), 0);
    room.assert_empty();
    assert_eq!(room.ask("outside", false, socket(NODE[0], 8080)), None);
    let result = web(&room, "b");
    assert!(room.ask("outside", false, socket(NODE[0], 8080)).is_some());
    // The node's store away: what stands in the kernel is enough.
    std::fs::remove_dir_all(room.run_dir()).unwrap();
    room.del("b", &room.dual()).silent();
    assert_eq!((elements(&room), room.kernel().as_str()), (0, ""));
    assert!(host_ifname(&result).starts_with("tw"));
}

#[test]
fn a_port_that_somebody_has_is_refused_with_his_name_and_nothing_is_left() {
    let Some(room) = street() else { return };
    web(&room, "a");
    room.pod("b");
    let taken = with_ports(
        &room.dual(),
        json!([{"hostPort": 9000, "containerPort": 80}, {"hostPort": 8080, "containerPort": 80}]),
    );
    let text = room.add("b", &taken).error(107);
    assert!(text.contains("8080/tcp") && text.contains("shop/till"), "{text}");
    // The kernel refuses by itself where the store does not know, as of one who has another store.
    room.ip("node", "link add tw00000000000aa type veth peer name other");
    let other = "create element inet twill_ports tcp4 { 0.0.0.0/0 . 9000 comment \"00000000000aa\" : 10.43.0.1 . 80 }";
    assert!(room.exec("node", "nft", &[other]).status.success());
    let conf = with_ports(
        &room.dual(),
        json!([{"hostPort": 7000, "containerPort": 80}, {"hostPort": 9000, "containerPort": 80}]),
    );
    let text = room.add("b", &conf).error(107);
    assert!(text.contains("9000/tcp") && text.contains("behind tw00000000000aa"), "{text}");
    room.ip("node", "link del tw00000000000aa");
    assert_eq!((elements(&room), room.rows().len()), (7, 1));
    assert_eq!(room.kernel().lines().filter(|line| line.contains("mtu")).count(), 1);
}

#[test]
fn an_element_whose_owner_is_no_more_gives_way() {
    let Some(room) = street() else { return };
    web(&room, "a");
    room.del("a", &room.dual()).silent();
    let left = "create element inet twill_ports tcp4 { 0.0.0.0/0 . 8080 comment \"00000000000aa\" : 10.42.0.99 . 80 }";
    assert!(room.exec("node", "nft", &[left]).status.success());
    // Also where somebody works on him for a moment yet.
    let owner = twill_ipam::KeyHash::parse("00000000000aa").unwrap();
    let working = twill_ipam::Liveness::try_acquire(room.run_dir().as_ref(), owner).unwrap().unwrap();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        drop(working);
    });
    web(&room, "b");
    assert!(room.ask("outside", false, socket(NODE[0], 8080)).is_some());
    assert_eq!(elements(&room), 6);
}

#[test]
fn a_dead_pod_whose_link_is_gone_gives_way_with_all_it_had_and_a_living_one_does_not() {
    let Some(room) = street() else { return };
    let mut conf = with_ports(&room.dual(), json!([{"hostPort": 8080, "containerPort": 80}]));
    conf["runtimeConfig"]["bandwidth"] = json!({"egressRate": 16_000_000});
    room.pod("a");
    let dead = room.add("a", &conf).result();
    room.pod("b");
    let asked = with_ports(&room.dual(), json!([{"hostPort": 8080, "containerPort": 81}]));
    room.add("b", &asked).error(107);
    room.ip("node", &format!("link del {}", host_ifname(&dead)));
    // As of a link that somebody has renamed for a moment: its routes stand.
    let route = format!("{}/32 dev lo proto 117 metric 7777", address(&dead, false));
    room.ip("node", &format!("route add {route}"));
    room.add("b", &asked).error(107);
    room.ip("node", &format!("route del {route}"));
    // Somebody works on him.
    let owner = twill_ipam::KeyHash::parse(host_ifname(&dead).strip_prefix("tw").unwrap()).unwrap();
    let working = twill_ipam::Liveness::try_acquire(room.run_dir().as_ref(), owner).unwrap().unwrap();
    room.add("b", &asked).error(107);
    drop(working);
    let result = room.add("b", &asked).result();
    assert_eq!((room.rows().len(), elements(&room)), (1, 4));
    assert!(!room.kernel().contains("bw"), "{}", room.kernel());
    room.serve("b", false, socket(&address(&result, false), 81), "web");
    assert!(room.ask("outside", false, socket(NODE[0], 8080)).is_some());
    room.del("a", &conf).silent();
    assert_eq!((room.rows().len(), elements(&room)), (1, 4));
}

#[test]
fn a_gc_removes_ports_and_limiting_devices_that_have_neither_row_nor_link() {
    let Some(room) = street() else { return };
    web(&room, "a");
    room.del("a", &room.dual()).silent();
    let result = web(&room, "b");
    for owner in ["00000000000aa", "00000000000bb"] {
        let host_port = if owner.ends_with("aa") { 9000 } else { 9001 };
        let element = format!("0.0.0.0/0 . {host_port} comment \"{owner}\" : 10.42.0.99 . 80");
        let left = format!("create element inet twill_ports tcp4 {{ {element} }}");
        assert!(room.exec("node", "nft", &[&left]).status.success());
        room.ip("node", &format!("link add bw{owner} type ifb"));
    }
    // Somebody's, who has another store.
    room.ip("node", "link add tw00000000000bb type veth peer name other");
    let mut conf = room.dual();
    conf["cniVersion"] = json!("1.1.0");
    conf["cni.dev/valid-attachments"] = json!([{"containerID": "b", "ifname": "eth0"}]);
    let gc = [("CNI_COMMAND", "GC"), ("CNI_PATH", "/opt/cni/bin")];
    room.call(&gc, &conf.to_string()).silent();
    assert_eq!(elements(&room), 7);
    assert!(!room.kernel().contains("00aa") && room.kernel().contains("bw00000000000bb"));
    assert!(room.ask("outside", false, socket(NODE[0], 8080)).is_some(), "{result}");
}

#[test]
fn what_a_killed_add_published_is_withdrawn_by_the_next_one() {
    let Some(room) = street() else { return };
    web(&room, "a");
    let plain = rusqlite::Connection::open(room.run_dir().join("node.db")).unwrap();
    plain.execute("UPDATE attachment SET state = 'reserved'", []).unwrap();
    drop(plain);
    room.add("a", &room.dual()).result();
    assert_eq!(elements(&room), 0);
    assert_eq!(room.rows().len(), 1);
}

#[test]
fn a_check_finds_ports_that_are_no_longer_published() {
    let Some(room) = street() else { return };
    let result = web(&room, "a");
    let conf = with_ports(&room.dual(), json!([{"hostPort": 8080, "containerPort": 80}]));
    room.check("a", &conf, &result).silent();
    let delete = ["delete element inet twill_ports tcp6 { ::/0 . 8080 }"];
    assert!(room.exec("node", "nft", &delete).status.success());
    let text = room.check("a", &conf, &result).error(104);
    assert!(text.contains("tcp [::]:8080 to [fd00:42::") && !text.contains("udp"), "{text}");
    assert!(room.exec("node", "nft", &["delete", "table", "inet", "twill_ports"]).status.success());
    let text = room.check("a", &conf, &result).error(104);
    assert!(text.contains("udp 0.0.0.0:8053") && text.contains("rules"), "{text}");
}

#[test]
fn a_check_finds_what_keeps_a_published_port_from_working() {
    let Some(room) = street() else { return };
    let result = web(&room, "a");
    let conf = with_ports(&room.dual(), json!([]));
    room.check("a", &conf, &result).silent();
    let table = "inet twill_ports";
    let own = format!("net.ipv4.conf.{}.route_localnet", host_ifname(&result));
    let damages = [
        ("sysctl", format!("-q {own}=0"), "route_localnet", format!("-q {own}=1")),
        ("nft", format!("flush set {table} hairpin6"), "its own address fd00:42::", String::new()),
        (
            "nft",
            format!("flush chain {table} guard ; add rule {table} guard accept ; add rule {table} guard accept"),
            "rules",
            String::new(),
        ),
    ];
    let run = |program, line: &str| {
        let done = room.exec("node", program, &line.split(' ').collect::<Vec<_>>());
        assert!(done.status.success(), "{line}");
    };
    for (program, damage, told, mended) in damages {
        run(program, &damage);
        let text = room.check("a", &conf, &result).error(104);
        assert!(text.contains(told), "{damage}: {text}");
        if !mended.is_empty() {
            run(program, &mended);
            room.check("a", &conf, &result).silent();
        }
    }
}

#[test]
fn a_store_that_was_lost_learns_of_the_ports_and_a_del_by_it_withdraws_them() {
    let Some(room) = street() else { return };
    let mut conf = with_ports(&room.dual(), json!([{"hostPort": 8080, "containerPort": 80}]));
    conf["runtimeConfig"]["bandwidth"] = json!({"ingressRate": 8_000_000, "egressRate": 16_000_000});
    room.pod("a");
    let result = room.add("a", &conf).result();
    let before = room.rows()[0].extras.clone();
    std::fs::remove_file(room.run_dir().join("node.db")).unwrap();
    // The next ADD rebuilds the store, though it finds all addresses cooling.
    room.pod("b");
    room.add("b", &room.dual()).error(11);
    let after = room.rows()[0].extras.clone();
    assert_eq!(after.ports, before.ports);
    let rates =
        |extras: &twill_ipam::Extras| extras.bandwidth.map(|b| (b.ingress.map(|s| s.rate), b.egress.map(|s| s.rate)));
    assert_eq!(rates(&after), rates(&before));
    room.check("a", &conf, &result).silent();
    room.del("a", &room.dual()).silent();
    assert_eq!(elements(&room), 0);
    room.assert_empty();
}

#[test]
fn an_add_that_publishes_nothing_makes_no_table() {
    let Some(room) = street() else { return };
    room.pod("a");
    room.add("a", &with_ports(&room.dual(), json!([]))).result();
    assert!(!room.exec("node", "nft", &["list", "table", "inet", "twill_ports"]).status.success());
    room.del("a", &room.dual()).silent();
}

#[test]
fn pods_that_are_added_at_once_all_get_their_ports() {
    let Some(room) = street() else { return };
    let names: Vec<String> = (0..40).map(|n| format!("p{n}")).collect();
    for name in &names {
        room.pod(name);
    }
    std::thread::scope(|scope| {
        for (name, port) in names.iter().zip(10_000..) {
            let room = &room;
            let conf = with_ports(&room.dual(), json!([{"hostPort": port, "containerPort": 80}]));
            scope.spawn(move || {
                let result = room.add(name, &conf).result();
                room.serve(name, false, socket(&address(&result, false), 80), "web");
            });
        }
    });
    for port in 10_000..10_040 {
        assert!(room.ask("outside", false, socket(NODE[0], port)).is_some(), "{port}");
    }
    std::thread::scope(|scope| {
        for name in &names {
            let room = &room;
            scope.spawn(move || room.del(name, &room.dual()).silent());
        }
    });
    assert_eq!(elements(&room), 0);
    room.assert_empty();
}
