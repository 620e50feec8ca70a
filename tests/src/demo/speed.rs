//! iperf3 between two nodes: node to node, and pod to pod.

use std::net::IpAddr;

use super::{Screen, two_pods};
use crate::iperf::Iperf;
use crate::namespace::Namespace;
use crate::pod::Pod;
use crate::{Lab, Result};

/// Seconds of each run.
const SECONDS: &str = "3";

/// Measures both, one after the other.
pub(super) fn iperf(lab: &Lab, pods: &[Pod], screen: &mut Screen) -> Result<()> {
    let (here, from, there, to) = two_pods(lab, pods);
    screen.step("iperf3 for 3 seconds each: TCP, one stream, over the same wire");
    let wire = there.addresses().first().copied().expect("a node has an address");
    let runs: [(&str, &Namespace, &Namespace, IpAddr); 2] = [
        ("node to node", here.namespace(), there.namespace(), wire),
        ("pod to pod, VXLAN", from.namespace(), to.namespace(), to.address(false)?),
    ];
    for (what, from, to, target) in runs {
        let log = lab.directory().join("iperf3.log");
        let report = Iperf::start(from, to, target, &["-t", SECONDS], &log)?.finish()?;
        let gigabits = report.bits_per_second / 1e9;
        screen.note(&format!("{what:<18} {gigabits:6.2} Gbit/s, {} retransmits", report.retransmits));
        screen.ask(&format!("{what} carries traffic"), report.bits_per_second > 0.0);
    }
    Ok(())
}
