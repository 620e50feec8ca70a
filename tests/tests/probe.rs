//! The path probe: each fault of the network between two nodes is told with its own advice, by the log and by `twillctl`, and
//! so is its end.

use std::net::IpAddr;

use twill_tests::deadline::{self, PATIENCE};
use twill_tests::{Lab, LabBuilder, Underlay, with_lab};

/// A fault at the second node, and what the first one tells of it.
struct Fault {
    /// What is dropped there, as rules of nftables.
    rules: String,
    /// Begins with the node's name and address.
    told: &'static str,
    advice: &'static [&'static str],
}

const TUNNEL: &str = "udp dport 4789";

fn fault(rules: impl Into<String>, told: &'static str, advice: &'static [&'static str]) -> Fault {
    Fault { rules: rules.into(), told, advice }
}

/// A fault of whatever comes from the first node.
fn cut(from: &[IpAddr]) -> Fault {
    let rule = |ip: &IpAddr| format!("{} saddr {ip} drop", if ip.is_ipv6() { "ip6" } else { "ip" });
    let rules = from.iter().map(rule).collect::<Vec<_>>().join("; ");
    fault(rules, "does not answer, neither at its underlay address", &["is the machine on", "icmp_echo_ignore_all"])
}

/// Two nodes, of which the second needs no daemon for all of this.
fn each_is_told(wanted: LabBuilder, faults: impl FnOnce(&Lab) -> Vec<Fault>) {
    with_lab(wanted.nodes(2).asleep(), |lab| {
        for node in lab.nodes() {
            node.start_daemon_with(&["--probe-turn-ms", "100"])?;
        }
        lab.converged()?;
        let (one, two) = (lab.node(1), lab.node(2));
        two.kill_daemon()?;
        let faults = faults(lab);
        let name = format!("n2 ({})", two.addresses()[0]);
        let status = || {
            Ok(one.twillctl_told(&["status", "--timeout", "1"])?.stdout
                + &one.twillctl_told(&["node", "show", "n1"])?.stdout)
        };
        for Fault { rules, told, advice } in &faults {
            let chain = "type filter hook prerouting priority -200";
            two.run(&["nft", &format!("table inet fault {{ chain faults {{ {chain}; {rules}; }}; }}")])?;
            one.says(told)?;
            deadline::until(&format!("twillctl says {told:?}"), PATIENCE, || {
                let status: String = status()?;
                Ok(status.matches(told).count() == 2 && advice.iter().all(|word| status.contains(word)))
            })?;
            two.run(&["nft", "delete", "table", "inet", "fault"])?;
            deadline::until(&format!("{told:?} is over"), PATIENCE, || {
                let over = one.daemon_log().lines().any(|line| line.contains("over: ") && line.contains(told));
                Ok(over && !status()?.contains(told))
            })?;
        }
        // Nothing else was told, neither of a good path nor beside a fault.
        let log = one.daemon_log();
        let told: Vec<_> = log.lines().filter(|line| line.contains("WARN") && line.contains(&name)).collect();
        assert_eq!(told.len(), faults.len(), "{told:#?}");
        Ok(())
    });
}

#[test]
fn what_is_wrong_with_a_tunnel_is_told_with_what_to_look_at() {
    each_is_told(Lab::builder().underlay(Underlay::V4), |lab| {
        vec![
            fault(
                format!("{TUNNEL} drop"),
                "answers, but not through the tunnel",
                &["UDP port 4789", "rp_filter", "vni and port", "checksum_offload"],
            ),
            fault(
                format!("{TUNNEL} meta length > 1400 drop"),
                "those of 1450 bytes, the MTU of pods, do not",
                &["1500 bytes"],
            ),
            fault(
                "iifname vxlan.twill meta l4proto udp drop",
                "come back through the tunnel, and UDP comes back beside it only",
                &["checksum_offload = \"off\""],
            ),
            cut(lab.node(1).addresses()),
        ]
    });
}

#[test]
fn a_tunnel_over_ipv6_is_probed_like_any_other() {
    each_is_told(Lab::builder().underlay(Underlay::V6), |_| {
        vec![
            fault(format!("{TUNNEL} drop"), "answers, but not through the tunnel", &["UDP port 4789"]),
            fault(
                format!("{TUNNEL} meta length > 1400 drop"),
                "those of 1430 bytes, the MTU of pods, do not",
                &["1500 bytes"],
            ),
        ]
    });
}

#[test]
fn a_way_without_a_tunnel_is_probed_between_the_nodes_own_addresses() {
    each_is_told(Lab::builder().backend("type = \"host-gw\"\n"), |lab| {
        let small = "those of 1500 bytes, the MTU of pods, do not";
        vec![
            fault("icmp type echo-request meta length > 1400 drop", small, &["must carry 1500 bytes"]),
            cut(lab.node(1).addresses()),
        ]
    });
}

#[test]
fn what_a_firewall_of_the_asking_node_drops_is_told_of_that_node_and_not_of_the_network() {
    with_lab(Lab::builder().nodes(2).underlay(Underlay::V4).asleep(), |lab| {
        for node in lab.nodes() {
            node.start_daemon_with(&["--probe-turn-ms", "100"])?;
        }
        lab.converged()?;
        let one = lab.node(1);
        let told = "a firewall of this node itself drops what it sends to n2 itself: the kernel sends nothing to ";
        let status = || Ok(one.twillctl_told(&["status"])?.stdout);
        let rule = format!("type filter hook output priority 0; ip daddr {} drop", lab.node(2).addresses()[0]);
        one.run(&["nft", &format!("table inet fault {{ chain faults {{ {rule}; }}; }}")])?;
        deadline::until(&format!("twillctl says {told:?}"), PATIENCE, || {
            let status: String = status()?;
            Ok(status.contains(&format!("PROBLEM node n1: {told}")) && status.contains("output and the postrouting"))
        })?;
        one.run(&["nft", "delete", "table", "inet", "fault"])?;
        deadline::until(&format!("{told:?} is over"), PATIENCE, || Ok(!status()?.contains(told)))
    });
}
