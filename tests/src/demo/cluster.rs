//! The pods, the tables, and the way of a packet.

use serde_json::Value;

use super::{PODS, Screen, two_pods};
use crate::pod::Pod;
use crate::{Lab, Result};

/// Two pods on each node, by cnitool.
pub(super) fn pods(lab: &Lab, screen: &mut Screen) -> Result<Vec<Pod>> {
    screen.step("two pods on each node, attached by cnitool (the time is cnitool's whole process)");
    let mut pods = Vec::new();
    for node in lab.nodes() {
        for letter in PODS {
            let pod = node.create_pod(&format!("{}-{letter}", node.name()))?;
            let added = pod.add()?;
            let addresses: Vec<String> = added.addresses.iter().map(|address| address.ip().to_string()).collect();
            let (name, millis) = (pod.name(), added.took.as_secs_f64() * 1000.0);
            screen.note(&format!("{name}  {:<38} ADD {millis:5.1} ms", addresses.join("  ")));
            screen.ask(&format!("{name} has an address of each family"), addresses.len() == 2);
            screen.ask(&format!("CHECK of {name}"), pod.check().is_ok());
            pods.push(pod);
        }
    }
    Ok(pods)
}

/// Nodes, blocks and tunnel addresses; then the pods, as each node's own store has them.
pub(super) fn tables(lab: &Lab, pods: &[Pod], screen: &mut Screen) -> Result<()> {
    screen.step("nodes, blocks and tunnel addresses: twillctl status");
    let status = lab.node(1).twillctl(&["status", "--wait", "20s"])?;
    screen.quote(&status);
    for node in lab.nodes() {
        screen.ask(&format!("the status names {}", node.name()), status.contains(node.name()));
    }
    screen.step("pods, as each node's store has them: twillctl -o json ipam show");
    screen.note(&format!("{:<6}{:<9}{:<18}{:<17}{:<10}{}", "NODE", "POD", "IPV4", "HOST INTERFACE", "STATE", "IPV6"));
    for node in lab.nodes() {
        let shown = node.twillctl(&["-o", "json", "ipam", "show"])?;
        let shown: Value = serde_json::from_str(&shown).unwrap_or_default();
        let rows = shown["local"]["pods"].as_array().cloned().unwrap_or_default();
        screen.ask(&format!("the store of {} has its pods", node.name()), rows.len() == PODS.len());
        for row in rows {
            screen.note(&pod_line(node.name(), pods, &row));
        }
    }
    Ok(())
}

/// Small and full-size packets between all nodes' pods, and to nodes and the outside.
pub(super) fn tested(lab: &Lab, screen: &mut Screen) -> Result<()> {
    screen.step("small and full-size packets between pods of all nodes, nodes and the outside: twillctl test");
    let told = lab.node(1).twillctl_told(&["test"])?;
    screen.quote(&told.stdout);
    screen.quote(&told.stderr);
    screen.ask("twillctl test finds no problem", told.status == Some(0));
    Ok(())
}

/// A row of the node store, with the name that the lab gave to the pod of its address.
fn pod_line(node: &str, pods: &[Pod], row: &Value) -> String {
    let addresses: Vec<&str> = row["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let of_family = |ipv6: bool| addresses.iter().copied().find(|ip| ip.contains(':') == ipv6).unwrap_or("-");
    let has = |pod: &&Pod| pod.address(false).is_ok_and(|ip| ip.to_string() == of_family(false));
    let name = pods.iter().find(has).map_or("?", Pod::name);
    let text = |key: &str| row[key].as_str().unwrap_or("-").to_owned();
    let (host, state) = (text("host_interface"), text("state"));
    format!("{node:<6}{name:<9}{:<18}{host:<17}{state:<10}{}", of_family(false), of_family(true))
}

/// How one pod reaches another, from the kernel's own tables.
pub(super) fn way(lab: &Lab, pods: &[Pod], screen: &mut Screen) -> Result<()> {
    let (here, from, there, to) = two_pods(lab, pods);
    screen.step(&format!("how {} on {} reaches {} on {}", from.name(), here.name(), to.name(), there.name()));
    for ipv6 in [false, true] {
        let (source, target) = (from.address(ipv6)?, to.address(ipv6)?);
        let family = if ipv6 { "-6" } else { "-4" };
        let host = from.host_interface()?;
        let route =
            here.run(&["ip", family, "route", "get", &target.to_string(), "from", &source.to_string(), "iif", &host])?;
        let gateway = route.split_whitespace().skip_while(|word| *word != "via").nth(1).unwrap_or_default();
        let neighbour = here.run(&["ip", family, "neigh", "show", gateway, "dev", "vxlan.twill"])?;
        let mac = neighbour.split_whitespace().skip_while(|word| *word != "lladdr").nth(1).unwrap_or_default();
        let fdb = here.run(&["bridge", "fdb", "show", "dev", "vxlan.twill"])?;
        let entry = fdb.lines().find(|line| !mac.is_empty() && line.starts_with(mac)).unwrap_or_default();
        let peer = entry.split_whitespace().skip_while(|word| *word != "dst").nth(1).unwrap_or_default();
        screen.note(&format!("packet     {source} → {target}, out of {host}"));
        screen.note(&format!("route      {}", route.lines().next().unwrap_or_default()));
        screen.note(&format!("neighbour  {neighbour}"));
        screen.note(&format!("FDB entry  {entry}"));
        screen.note(&format!("peer       {peer}, {} on the wire", there.name()));
        let known = there.addresses().iter().any(|address| address.to_string() == peer);
        screen.ask(&format!("the way to {target} ends at {}", there.name()), known);
    }
    Ok(())
}
