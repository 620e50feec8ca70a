//! What somebody removed from the kernel comes back, and what somebody else has put there is left alone.

use serde_json::Value;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::lab::{PROTOCOL_CLUSTER, PROTOCOL_POD, VXLAN};
use twill_tests::{Lab, LabError, Node, Pod, Result, with_lab};

/// Two nodes with a pod each, whose pods reach each other before `damage` and after the repair; `stands` is what the
/// damage removes.
fn is_repaired(
    what: &str,
    damage: impl FnOnce(&Node, &Pod) -> Result<()>,
    stands: impl Fn(&Node, &Pod) -> Result<String>,
) {
    with_lab(Lab::builder().nodes(2), |lab| {
        let node = lab.node(1);
        let (a, b) = (node.add_pod("a")?, lab.node(2).add_pod("b")?);
        for ipv6 in [false, true] {
            a.ping(b.address(ipv6)?, 56)?;
        }
        let before = stands(node, &a)?;
        assert!(!before.is_empty(), "there must be something to damage");
        damage(node, &a)?;
        deadline::until_some(&format!("{what} is back"), PATIENCE, || {
            node.expect_daemon()?;
            let now = stands(node, &a)?;
            Ok(if now == before { Ok(()) } else { Err(format!("\n{now}\ninstead of\n{before}")) })
        })?;
        for ipv6 in [false, true] {
            a.ping_small_and_full(b.address(ipv6)?)?;
        }
        Ok(())
    });
}

/// `ip` with some words, its lines in order.
fn sorted(node: &Node, words: &[&str]) -> Result<String> {
    let text = node.run(words)?;
    let mut lines: Vec<_> = text.lines().map(str::trim_end).collect();
    lines.sort_unstable();
    Ok(lines.join("\n"))
}

fn routes(node: &Node, protocol: u8) -> Result<String> {
    let show = |family| sorted(node, &["ip", "-N", family, "route", "show", "proto", &protocol.to_string()]);
    Ok(format!("{}\n{}", show("-4")?, show("-6")?))
}

fn flush_routes(node: &Node, protocol: u8) -> Result<()> {
    for family in ["-4", "-6"] {
        node.run(&["ip", family, "route", "flush", "proto", &protocol.to_string()])?;
    }
    Ok(())
}

fn permanent_neighbours(node: &Node, device: &str) -> Result<String> {
    let show = |family| sorted(node, &["ip", family, "neigh", "show", "dev", device, "nud", "permanent"]);
    Ok(format!("{}\n{}", show("-4")?, show("-6")?))
}

fn flush_neighbours(node: &Node, device: &str) -> Result<()> {
    for family in ["-4", "-6"] {
        node.run(&["ip", family, "neigh", "flush", "dev", device, "nud", "permanent"])?;
    }
    Ok(())
}

fn fdb(node: &Node) -> Result<String> {
    sorted(node, &["bridge", "fdb", "show", "dev", VXLAN])
}

#[test]
fn routes_to_other_nodes_come_back() {
    let damage = |node: &Node, _: &Pod| flush_routes(node, PROTOCOL_CLUSTER);
    is_repaired("the cluster's routes", damage, |node, _| routes(node, PROTOCOL_CLUSTER));
}

#[test]
fn routes_to_the_nodes_own_pods_come_back() {
    let damage = |node: &Node, _: &Pod| flush_routes(node, PROTOCOL_POD);
    is_repaired("the pods' routes", damage, |node, _| routes(node, PROTOCOL_POD));
}

#[test]
fn neighbours_on_the_tunnel_come_back() {
    let damage = |node: &Node, _: &Pod| flush_neighbours(node, VXLAN);
    is_repaired("the tunnel's neighbours", damage, |node, _| permanent_neighbours(node, VXLAN));
}

#[test]
fn neighbours_of_the_nodes_own_pods_come_back() {
    let damage = |node: &Node, pod: &Pod| flush_neighbours(node, &pod.host_interface()?);
    is_repaired("the pod's neighbours", damage, |node, pod| permanent_neighbours(node, &pod.host_interface()?));
}

#[test]
fn the_neighbour_of_a_pod_follows_the_mac_that_the_pod_has() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let node = lab.node(1);
        let (a, b) = (node.add_pod("a")?, lab.node(2).add_pod("b")?);
        let host = a.host_interface()?;
        let gateways = a.namespace().run(&["ip", "neigh", "show", "dev", "eth0", "nud", "permanent"])?;
        let gateways =
            gateways + &a.namespace().run(&["ip", "-6", "neigh", "show", "dev", "eth0", "nud", "permanent"])?;
        a.namespace().run(&["ip", "link", "set", "eth0", "address", "02:00:5e:10:00:09"])?;
        // With its address an interface loses all that it knows of its neighbours.
        for line in gateways.lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            let (ip, mac) = (words[0], words[2]);
            a.namespace().run(&["ip", "neigh", "replace", ip, "lladdr", mac, "dev", "eth0", "nud", "permanent"])?;
        }
        let follows = || {
            node.expect_daemon()?;
            let now = permanent_neighbours(node, &host)?;
            Ok(if now.matches("02:00:5e:10:00:09").count() == 2 { Ok(()) } else { Err(now) })
        };
        deadline::until_some("the pod's neighbours have its new MAC", PATIENCE, follows)?;
        flush_neighbours(node, &host)?;
        deadline::until_some("they are back with it", PATIENCE, follows)?;
        for ipv6 in [false, true] {
            a.ping(b.address(ipv6)?, 56)?;
        }
        Ok(())
    });
}

#[test]
fn fdb_entries_come_back() {
    let damage = |node: &Node, _: &Pod| {
        for line in fdb(node)?.lines() {
            let mac = line.split(' ').next().unwrap_or_default();
            node.run(&["bridge", "fdb", "del", mac, "dev", VXLAN])?;
        }
        Ok(())
    };
    is_repaired("the FDB", damage, |node, _| fdb(node));
}

#[test]
fn the_vxlan_device_comes_back_with_all_that_was_on_it() {
    let damage = |node: &Node, _: &Pod| node.run(&["ip", "link", "del", VXLAN]).map(drop);
    is_repaired("the VXLAN device", damage, |node, _| {
        let link = node.run(&["ip", "-o", "-d", "link", "show", "dev", VXLAN])?;
        // The interface's number is another one.
        let link = link.split_once(": ").map_or_else(String::new, |(_, rest)| rest.to_owned());
        let parts = [fdb(node)?, permanent_neighbours(node, VXLAN)?, routes(node, PROTOCOL_CLUSTER)?, link];
        Ok(parts.join("\n"))
    });
}

#[test]
fn the_vxlan_device_is_set_up_again() {
    let damage = |node: &Node, _: &Pod| node.run(&["ip", "link", "set", VXLAN, "down"]).map(drop);
    is_repaired("the VXLAN device is up", damage, |node, _| {
        let links = node.namespace().run_json(&["ip", "-j", "link", "show", "dev", VXLAN])?;
        let is_up = links[0]["flags"].as_array().is_some_and(|flags| flags.contains(&Value::from("UP")));
        Ok(format!("up {is_up}\n{}\n{}", routes(node, PROTOCOL_CLUSTER)?, permanent_neighbours(node, VXLAN)?))
    });
}

#[test]
fn tunnel_addresses_come_back() {
    let addresses =
        |node: &Node, _: &Pod| sorted(node, &["ip", "-o", "addr", "show", "dev", VXLAN]).map(without_number);
    let damage = |node: &Node, _: &Pod| node.run(&["ip", "addr", "flush", "dev", VXLAN]).map(drop);
    is_repaired("the tunnel's addresses", damage, addresses);
}

fn without_number(lines: String) -> String {
    lines.lines().filter_map(|line| Some(line.split_once(": ")?.1.to_owned())).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_firewall_comes_back_after_someones_flush() {
    let damage = |node: &Node, _: &Pod| node.run(&["nft", "flush", "ruleset"]).map(drop);
    is_repaired("the firewall", damage, |node, _| node.run(&["nft", "--stateless", "list", "ruleset"]));
}

#[test]
fn foreign_routes_and_devices_are_left_alone() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let node = lab.node(1);
        node.namespace().ip_batch(
            "link add foreign0 type bridge\nlink set foreign0 up\naddr add 172.31.0.1/24 dev foreign0\n\
             route add 172.31.9.0/24 via 172.31.0.2 proto static\nroute add blackhole 172.31.10.0/24 proto 99\n",
        )?;
        let mine = || Ok::<_, LabError>((routes(node, 99)?, node.run(&["ip", "route", "show", "proto", "static"])?));
        let before = mine()?;
        // A whole round of repair.
        flush_routes(node, PROTOCOL_CLUSTER)?;
        lab.converged()?;
        assert_eq!(mine()?, before);
        assert!(node.interfaces()?.iter().any(|name| name == "foreign0"));
        Ok(())
    });
}
