//! ADD by the built plugin, stand-alone, in network namespaces.
#![allow(missing_docs, clippy::unwrap_used)]

mod room;

use std::collections::BTreeSet;
use std::os::unix::net::UnixDatagram;

use room::{address, host_ifname, room};
use serde_json::json;
use twill_ipam::store::{BlockState, Node, Role};
use twill_ipam::{BootTime, Store};

#[test]
fn pods_answer_the_node_and_each_other_in_both_families_at_once() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    let add = |pod: &str| {
        room.pod(pod);
        room.add(pod, &conf).result()
    };
    let (one, two) = (add("p1"), add("p2"));
    for ipv6 in [false, true] {
        room.assert_ping("node", &address(&one, ipv6));
        room.assert_ping("p1", &address(&two, ipv6));
        room.assert_ping("p2", if ipv6 { "2001:db8::1" } else { "192.0.2.1" });
    }
    room.check("p1", &conf, &one).silent();
}

#[test]
fn every_version_gets_its_shape_and_passes_its_check() {
    let Some(room) = room() else { return };
    let path = room.pod("p1");
    for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let mut conf = room.dual();
        conf["cniVersion"] = version.into();
        let result = room.add("p1", &conf).result();
        assert_eq!(result["cniVersion"], version);
        if version < "0.3.0" {
            assert!(result["ip4"]["ip"].as_str().unwrap().ends_with("/32"), "{result}");
            assert!(result["ip6"]["ip"].as_str().unwrap().ends_with("/128"), "{result}");
            assert_eq!(result.get("interfaces"), None);
        } else {
            assert!(result["interfaces"][0]["name"].as_str().unwrap().starts_with("tw"), "{result}");
            assert_eq!(result["interfaces"][1]["sandbox"], path.as_str());
            assert_eq!(result["ips"][1]["interface"], 1);
            assert_eq!(result["ips"][0].get("version").is_some(), version < "1.0.0");
            assert_eq!(result["interfaces"][1].get("mtu").is_some(), version >= "1.1.0");
        }
        let check = room.check("p1", &conf, &result);
        if version < "0.4.0" {
            assert!(check.error(1).contains("0.4.0"));
        } else {
            check.silent();
        }
        room.del("p1", &conf).silent();
    }
    room.assert_empty();
}

#[test]
fn the_sandbox_is_repeated_to_the_letter() {
    let Some(room) = room() else { return };
    room.pod("p1");
    let path = format!("/run/../run/netns/./{}", room.name("p1"));
    let result = room.verb_in("ADD", "p1", &path, &room.dual()).result();
    assert_eq!(result["interfaces"][1]["sandbox"], path.as_str());
}

#[test]
fn a_chain_before_us_is_added_to() {
    let Some(room) = room() else { return };
    room.pod("p1");
    let mut conf = room.dual();
    conf["prevResult"] = json!({
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "net1", "sandbox": "/x"}],
        "ips": [{"interface": 0, "address": "192.0.2.9/24"}],
        "dns": {"nameservers": ["192.0.2.53"]},
    });
    let result = room.add("p1", &conf).result();
    assert_eq!(result["interfaces"].as_array().unwrap().len(), 3);
    assert_eq!(result["ips"][1]["interface"], 2);
    assert_eq!(result["dns"]["nameservers"][0], "192.0.2.53");
    room.check("p1", &conf, &result).silent();
}

#[test]
fn the_mtu_of_the_configuration_is_that_of_both_ends() {
    let Some(room) = room() else { return };
    room.pod("p1");
    let conf = room.conf(json!({"cniVersion": "1.1.0", "subnets": ["10.42.0.0/24"], "mtu": 1400}));
    let result = room.add("p1", &conf).result();
    assert_eq!(result["interfaces"][0]["mtu"], 1400);
    assert!(room.ip("p1", "link show eth0").contains("mtu 1400"));
    assert!(room.ip("node", &format!("link show {}", host_ifname(&result))).contains("mtu 1400"));
}

#[test]
fn ipv6_is_turned_on_at_both_ends_where_it_is_off_by_default() {
    let Some(room) = room() else { return };
    room.pod("p1");
    for namespace in ["p1", "node"] {
        let off = room.exec(namespace, "sh", &["-c", "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6"]);
        assert!(off.status.success());
    }
    let conf = room.dual();
    let result = room.add("p1", &conf).result();
    room.check("p1", &conf, &result).silent();
    room.assert_ping("node", &address(&result, true));
}

#[test]
fn a_taken_interface_name_is_101_and_leaves_nothing() {
    let Some(room) = room() else { return };
    room.pod("p1");
    room.ip("p1", "link add eth0 type bridge");
    assert!(room.add("p1", &room.dual()).error(101).contains("eth0"));
    room.assert_empty();
    assert!(room.ip("p1", "-d link show eth0").contains("bridge"), "the foreign device is left alone");
    room.ip("p1", "link delete eth0");
    room.add("p1", &room.dual()).result();
}

#[test]
fn a_missing_namespace_is_102_and_leaves_nothing() {
    let Some(room) = room() else { return };
    let text = room.add("gone", &room.dual()).error(102);
    assert!(text.contains(&room.path("gone")), "{text}");
    assert!(room.verb_in("ADD", "file", "/etc/passwd", &room.dual()).error(102).contains("/etc/passwd"));
    room.assert_empty();
}

#[test]
fn the_own_namespace_is_refused_unless_it_is_allowed() {
    let Some(room) = room() else { return };
    let node = room.path("node");
    assert!(room.verb_in("ADD", "c", &node, &room.dual()).error(102).contains("CNI_NETNS_OVERRIDE"));
    room.assert_empty();
    let variables = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c"),
        ("CNI_NETNS", node.as_str()),
        ("CNI_IFNAME", "own0"),
        ("CNI_NETNS_OVERRIDE", "1"),
    ];
    room.call(&variables, &room.conf(json!({"subnets": ["10.42.0.0/24"]})).to_string()).result();
    assert!(room.ip("node", "link show own0").contains("own0"));
}

#[test]
fn a_lost_store_is_rebuilt_though_a_pod_lives_in_the_nodes_namespace() {
    let Some(room) = room() else { return };
    let conf = room.conf(json!({"subnets": ["10.42.0.0/29"]}));
    let node = room.path("node");
    let variables = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c"),
        ("CNI_NETNS", node.as_str()),
        ("CNI_IFNAME", "own0"),
        ("CNI_NETNS_OVERRIDE", "1"),
    ];
    let own = room.call(&variables, &conf.to_string()).result();
    std::fs::remove_dir_all(room.run_dir()).unwrap();
    room.pod("p1");
    room.add("p1", &conf).error(11);
    let [row] = &room.rows()[..] else { panic!("{:?}", room.rows()) };
    assert_eq!(row.addresses[0].0.to_string(), address(&own, false));
}

#[test]
fn adds_at_once_on_a_fresh_boot_do_not_take_each_other_for_what_a_lost_store_left() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    let pods: Vec<_> = (0..12).map(|n| format!("p{n}")).collect();
    for pod in &pods {
        room.pod(pod);
    }
    std::thread::scope(|scope| {
        let calls: Vec<_> = pods.iter().map(|pod| scope.spawn(|| room.add(pod, &conf))).collect();
        for call in calls {
            call.join().unwrap().result();
        }
    });
    assert_eq!(room.rows().len(), pods.len());
}

#[test]
fn an_exhausted_subnet_is_100_and_leaves_what_was_there() {
    let Some(room) = room() else { return };
    let conf = room.conf(json!({"subnets": ["10.42.0.0/30"]}));
    let mut given = BTreeSet::new();
    let text = loop {
        let pod = format!("p{}", given.len());
        room.pod(&pod);
        let answer = room.add(&pod, &conf);
        if answer.code != Some(0) {
            break answer.error(100);
        }
        assert!(given.insert(address(&answer.result(), false)), "an address was given twice");
        assert!(given.len() <= 4);
    };
    assert!(text.contains("IPv4") && text.contains("subnets"), "{text}");
    assert!(!given.is_empty());
    assert_eq!(room.rows().len(), given.len());
    assert_eq!(room.ip("node", "-o link show type veth").lines().count(), given.len());
    let attempt = &room.store().attempts().unwrap()[0];
    assert_eq!((attempt.code, attempt.verb.as_str(), attempt.step.as_str()), (100, "ADD", "reserving an address"));
    assert_eq!(attempt.pod.as_ref().unwrap().name, "till");
}

#[test]
fn a_subnet_whose_addresses_cool_says_try_again() {
    let Some(room) = room() else { return };
    let conf = room.conf(json!({"subnets": ["10.42.0.0/32"]}));
    room.pod("p1");
    room.pod("p2");
    room.add("p1", &conf).result();
    room.add("p2", &conf).error(100);
    room.del("p1", &conf).silent();
    room.add("p2", &conf).error(11);
    room.add("p1", &conf).result();
}

#[test]
fn a_lost_store_is_rebuilt_from_the_kernel_before_an_address_is_given() {
    let Some(room) = room() else { return };
    let conf = room.conf(json!({"subnets": ["10.42.0.0/29"]}));
    room.pod("p1");
    let first = room.add("p1", &conf).result();
    std::fs::remove_dir_all(room.run_dir()).unwrap();
    room.pod("p2");
    // The other addresses cool, since some of them may have been in use a moment ago.
    room.add("p2", &conf).error(11);
    assert_eq!(room.rows().len(), 1, "the pod that lives is known again");
    room.check("p1", &conf, &first).silent();
    room.add("p1", &conf).error(101);
    room.del("p1", &conf).silent();
    room.assert_empty();
}

#[test]
fn a_living_pod_of_a_lost_store_is_not_taken_for_a_dead_one_by_an_add_elsewhere() {
    let Some(room) = room() else { return };
    let conf = room.conf(json!({"subnets": ["10.42.0.0/29"]}));
    room.pod("p1");
    let first = room.add("p1", &conf).result();
    std::fs::remove_dir_all(room.run_dir()).unwrap();
    let elsewhere = room.pod("p2");
    let error = room.verb_in("ADD", "p1", &elsewhere, &conf).error(101);
    assert!(error.contains("in a namespace that is not known"), "{error}");
    room.check("p1", &conf, &first).silent();
}

#[test]
fn twenty_at_once_get_twenty_addresses() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    let pods: Vec<String> = (0..20).map(|n| format!("p{n}")).collect();
    pods.iter().for_each(|pod| drop(room.pod(pod)));
    let given: Vec<String> = std::thread::scope(|scope| {
        let (room, conf) = (&room, &conf);
        let add = |pod: &String| {
            let pod = pod.clone();
            scope.spawn(move || address(&room.add(&pod, conf).result(), false))
        };
        let running: Vec<_> = pods.iter().map(add).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), 20, "{given:?}");
    std::thread::scope(|scope| {
        pods.iter().for_each(|pod| drop(scope.spawn(|| room.del(pod, &conf).silent())));
    });
    room.assert_empty();
}

#[test]
fn one_container_twice_at_once_is_attached_once() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    room.pod("p1");
    let answers: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..4).map(|_| scope.spawn(|| room.add("p1", &conf))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(answers.iter().filter(|answer| answer.code == Some(0)).count(), 1);
    answers.iter().filter(|answer| answer.code != Some(0)).for_each(|answer| drop(answer.error(101)));
    assert_eq!(room.rows().len(), 1);
}

#[test]
fn an_address_that_the_node_routes_elsewhere_is_105_and_is_undone() {
    let Some(room) = room() else { return };
    let conf = room.conf(json!({"subnets": ["10.42.0.0/32"]}));
    room.pod("p1");
    room.ip("node", "route add 10.42.0.0/32 dev lo metric 7777");
    let text = room.add("p1", &conf).error(105);
    assert!(text.contains("10.42.0.0"), "{text}");
    room.assert_empty();
    assert!(!room.try_ip("p1", "link show eth0").status.success());
}

#[test]
fn an_add_goes_round_an_address_that_the_node_routes_elsewhere() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    room.pod("p1");
    let first = room.add("p1", &conf).result();
    room.del("p1", &conf).silent();
    // The same container would get its address back, but somebody has taken it meanwhile.
    room.ip("node", &format!("route add {}/32 dev lo metric 7777", address(&first, false)));
    let second = room.add("p1", &conf).result();
    assert_ne!(address(&first, false), address(&second, false));
    room.check("p1", &conf, &second).silent();
}

#[test]
fn an_attachment_that_stands_is_101_and_one_whose_link_is_gone_is_made_anew() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    room.pod("p1");
    let first = room.add("p1", &conf).result();
    assert!(room.add("p1", &conf).error(101).contains("DEL it first"));
    room.check("p1", &conf, &first).silent();
    room.ip("node", &format!("link delete {}", host_ifname(&first)));
    let second = room.add("p1", &conf).result();
    room.check("p1", &conf, &second).silent();
    assert_eq!(room.rows().len(), 1);
}

#[test]
fn a_namespace_replaced_by_another_of_the_same_path_is_attached_anew() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    room.pod("p1");
    room.add("p1", &conf).result();
    room.remove_namespace("p1");
    room.pod("p1");
    let second = room.add("p1", &conf).result();
    room.check("p1", &conf, &second).silent();
}

#[test]
fn what_a_killed_add_left_is_no_obstacle() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    room.pod("p1");
    let host = host_ifname(&room.add("p1", &conf).result());
    room.del("p1", &conf).silent();
    room.ip("node", &format!("link add {host} type veth peer name eth0 netns {}", room.name("p1")));
    let result = room.add("p1", &conf).result();
    room.check("p1", &conf, &result).silent();
}

#[test]
fn a_foreign_device_of_our_name_is_105_and_stays() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    room.pod("p1");
    let host = host_ifname(&room.add("p1", &conf).result());
    room.del("p1", &conf).silent();
    room.ip("node", &format!("link add {host} type bridge"));
    assert!(room.add("p1", &conf).error(105).contains(&host));
    assert_eq!(room.rows(), []);
    room.del("p1", &conf).silent();
    assert!(room.ip("node", &format!("-d link show {host}")).contains("bridge"));
}

#[test]
fn a_foreign_device_does_not_keep_an_add_from_finishing_what_was_there() {
    let Some(room) = room() else { return };
    let conf = room.dual();
    room.pod("p1");
    let host = host_ifname(&room.add("p1", &conf).result());
    room.ip("node", &format!("link delete {host}"));
    room.ip("node", &format!("link add {host} type bridge"));
    assert!(room.add("p1", &conf).error(105).contains(&host));
    assert_eq!(room.rows(), []);
}

#[test]
fn without_a_daemon_a_node_without_blocks_says_try_again_and_does_not_wait() {
    let Some(room) = room() else { return };
    room.pod("p1");
    room.add("p1", &room.conf(json!({}))).error(11);
    room.assert_empty();
}

#[test]
fn an_add_waits_for_the_block_that_the_daemon_claims_when_the_bell_rings() {
    let Some(room) = room() else { return };
    room.pod("p1");
    std::fs::create_dir_all(room.run_dir()).unwrap();
    let bell = UnixDatagram::bind(room.run_dir().join("doorbell")).unwrap();
    let mut store = Store::open(&room.run_dir(), Role::Daemon).unwrap();
    let node = Node { name: "n1".to_owned(), mtu: 1450, ipv4: true, ipv6: false, ..Node::default() };
    store.set_node(&node).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| room.add("p1", &room.conf(json!({}))));
        let mut buffer = [0; 256];
        let length = bell.recv(&mut buffer).unwrap();
        assert!(String::from_utf8_lossy(&buffer[..length]).contains("\"code\":11"));
        store.put_block("10.42.7.0/26".parse().unwrap(), &"main".parse().unwrap(), BlockState::Open).unwrap();
        let result = waiting.join().unwrap().result();
        assert!(address(&result, false).starts_with("10.42.7."), "{result}");
        let length = bell.recv(&mut buffer).unwrap();
        let told: serde_json::Value = serde_json::from_slice(&buffer[..length]).unwrap();
        assert_eq!((&told["verb"], &told["code"]), (&json!("ADD"), &json!(0)));
        assert!(told["micros"].as_u64().unwrap() > 0);
    });
    assert!(room.ip("p1", "link show eth0").contains("mtu 1450"), "the node's MTU");
    assert_eq!(store.blocks(BootTime::now()).unwrap()[0].assigned, 1);
}

#[test]
fn a_cluster_without_a_further_block_is_100_at_once() {
    let Some(room) = room() else { return };
    room.pod("p1");
    room.pod("p2");
    let pool = "main".parse().unwrap();
    let mut store = Store::open(&room.run_dir(), Role::Daemon).unwrap();
    let exhausted = vec!["main".parse().unwrap()];
    let node = Node { name: "n1".to_owned(), mtu: 1450, ipv4: true, ipv6: false, exhausted, ..Node::default() };
    store.set_node(&node).unwrap();
    store.put_block("10.42.7.9/32".parse().unwrap(), &pool, BlockState::Open).unwrap();
    drop(store);
    let first = room.add("p1", &room.conf(json!({}))).result();
    assert_eq!(address(&first, false), "10.42.7.9");
    let text = room.add("p2", &room.conf(json!({}))).error(100);
    assert!(text.contains("1 of 1") && text.contains("add a pool"), "{text}");
    assert_eq!(room.rows().len(), 1);
}
