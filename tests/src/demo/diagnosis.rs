//! What an operator asks when something is wrong: whether a machine is well, why a pod does not start, and where packets end; with the
//! fix that is told, and what becomes of it.

use super::cluster::traced;
use super::{Screen, two_pods};
use crate::deadline::{self, PATIENCE};
use crate::golden::problems_of;
use crate::pod::Pod;
use crate::{Lab, Result};

/// The pod that has no luck at first.
const POD: &str = "shop/till-0";

/// The machine of one node, check by check.
pub(super) fn examined(lab: &Lab, screen: &mut Screen) -> Result<()> {
    let node = lab.node(1);
    screen.step(&format!("what is wrong with the machine of {0}: twillctl doctor --node {0}", node.name()));
    let told = deadline::until_some("doctor finds no problem", PATIENCE, || {
        let told = node.twillctl_told(&["doctor", "--node", node.name()])?;
        Ok(if told.status == Some(0) { Ok(told) } else { Err(told) })
    })?;
    screen.quote(&told.stdout);
    screen.quote(&told.stderr);
    screen.ask("twillctl doctor finds no problem", told.status == Some(0));
    Ok(())
}

/// A pod on a node that is being drained: why it does not start, and that it does by the fix.
pub(super) fn refused(lab: &Lab, screen: &mut Screen) -> Result<()> {
    let node = lab.node(3);
    let name = node.name();
    screen.step(&format!("{POD} does not start on {name}, which is being drained: twillctl why pod {POD}"));
    let (namespace, of_pod) = POD.split_once('/').unwrap_or_default();
    lab.node(1).twillctl(&["node", "drain", name])?;
    let pod = node.create_pod("till")?;
    screen.ask("a node that is being drained refuses a pod", pod.add_as(namespace, of_pod).is_err());
    let why = || lab.node(1).twillctl_told(&["why", "pod", POD]);
    let told = why()?;
    screen.quote(&told.stdout);
    let undone = format!("'twillctl node drain {name} --undo'");
    let is_told = told.status == Some(1) && problems_of(&told.stdout, &[POD]).contains(&undone);
    screen.ask(&format!("twillctl why pod {POD} tells why, and what to do"), is_told);
    lab.node(1).twillctl(&["node", "drain", name, "--undo"])?;
    screen.ask("the pod starts after that", pod.add_as(namespace, of_pod).is_ok());
    let told = why()?;
    screen.note(&format!("After twillctl node drain {name} --undo:"));
    screen.quote(&told.stdout);
    screen.ask(&format!("twillctl why pod {POD} finds it attached"), told.status == Some(0));
    pod.del().map(drop)
}

/// A policy of DROP, as Docker sets it: found by trace, and opened by the key that its fix names.
pub(super) fn closed(lab: &Lab, pods: &[Pod], screen: &mut Screen) -> Result<()> {
    let (_, from, there, to) = two_pods(lab, pods);
    let (source, target) = (from.address(false)?, to.address(false)?);
    screen.step(&format!(
        "{} is given iptables -P FORWARD DROP, as by Docker: twillctl trace {source} {target}",
        there.name()
    ));
    there.run(&["iptables-nft", "-P", "FORWARD", "DROP"])?;
    screen.ask("nothing arrives then", from.ping(target, 56).is_err());
    let told = traced(lab, &source.to_string(), &target.to_string(), 1)?;
    let problems = problems_of(&told.stdout, &[there.name()]);
    screen.quote(&problems);
    let is_told = problems.contains("filter FORWARD drops it") && problems.contains("open_forward = true");
    screen.ask("twillctl trace names the chain, and the key that opens it", is_told);

    lab.apply_config(&format!("{}\n[firewall]\nopen_forward = true\n", lab.cluster_config()))?;
    let opened = deadline::until("pings are answered", PATIENCE, || Ok(from.ping(target, 56).is_ok()));
    screen.ask("with that key in the cluster's configuration packets arrive", opened.is_ok());
    traced(lab, &source.to_string(), &target.to_string(), 0)?;
    screen
        .note("After twillctl config apply with that key the ping is answered, and twillctl trace finds the way open.");
    // What comes next is measured as before.
    there.run(&["iptables-nft", "-P", "FORWARD", "ACCEPT"])?;
    lab.apply_config(&lab.cluster_config())
}
