//! The pods, the tables, and the way of a packet.

use serde_json::Value;

use super::{PODS, Screen, two_pods};
use crate::deadline::{self, PATIENCE};
use crate::node::Told;
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

/// How one pod reaches another, as both nodes tell it; of the reply and of IPv6 the outcome alone, for the steps are the same.
pub(super) fn way(lab: &Lab, pods: &[Pod], screen: &mut Screen) -> Result<()> {
    let (here, from, there, to) = two_pods(lab, pods);
    screen.step(&format!(
        "how {} on {} reaches {} on {}: twillctl trace",
        from.name(),
        here.name(),
        to.name(),
        there.name()
    ));
    for ipv6 in [false, true] {
        let (source, target) = (from.address(ipv6)?.to_string(), to.address(ipv6)?.to_string());
        let told = traced(lab, &source, &target, 0)?;
        if ipv6 {
            screen.note(&format!("and the reply comes back so, and {source} reaches {target} in the same way"));
        } else {
            screen.quote(told.stdout.split("\nThe reply:").next().unwrap_or_default());
        }
        let ends = format!("\nnode {}\n", there.name());
        let is_told = told.stdout.contains(&ends) && told.stdout.contains("the reply arrives");
        screen.ask(&format!("the way to {target} ends at {}, and the reply comes back", there.name()), is_told);
    }
    Ok(())
}

/// What is told of a packet's way when it ends with this status: of a pod that was just attached other nodes know a moment later.
pub(super) fn traced(lab: &Lab, source: &str, target: &str, status: i32) -> Result<Told> {
    deadline::until_some(&format!("trace {source} {target} ends with {status}"), PATIENCE, || {
        let told = lab.node(1).twillctl_told(&["trace", source, target])?;
        Ok(if told.status == Some(status) { Ok(told) } else { Err(told) })
    })
}
