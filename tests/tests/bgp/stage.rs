//! What the scenarios have in common.

use ipnetwork::IpNetwork;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::lab::PROTOCOL_CLUSTER;
use twill_tests::{Lab, Node, Pod, Result};

/// Plain routes by BGP, all nodes meshed.
pub const BGP: &str = "type = \"bgp\"\n[bgp]\n";

/// A prefix.
pub fn net(text: &str) -> IpNetwork {
    text.parse().expect("a prefix")
}

/// One pod on each node.
pub fn pods(lab: &Lab) -> Result<Vec<Pod>> {
    lab.nodes().iter().map(|node| node.attach(&format!("p-{}", node.name()))).collect()
}

/// The pods reach each other, small and full-size.
pub fn all_reach_all(pods: &[Pod], families: &[bool]) -> Result<()> {
    for (at, pod) in pods.iter().enumerate() {
        for other in pods.iter().enumerate().filter(|(to, _)| *to != at).map(|(_, other)| other) {
            for ipv6 in families {
                pod.ping_small_and_full(other.address(*ipv6)?)?;
            }
        }
    }
    Ok(())
}

/// Waits until a node's log tells that its session with each of these is up.
pub fn sessions_are_up(node: &Node, with: &[String]) -> Result<()> {
    deadline::until_some(&format!("the sessions of {} are up", node.name()), PATIENCE, || {
        node.expect_daemon()?;
        let log = node.daemon_log();
        let missing: Vec<_> = with.iter().filter(|peer| !log.contains(&format!("the session with {peer} ("))).collect();
        Ok(if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?}\n{}", node.last_words(10))) })
    })
}

/// The blocks of a node.
pub fn blocks_of(lab: &Lab, name: &str) -> Result<Vec<IpNetwork>> {
    Ok(lab.etcd().blocks()?.into_iter().filter(|block| block.node == name).map(|block| block.cidr).collect())
}

/// The gateways by which a node's kernel leads to a prefix by a route of the cluster's, in order.
pub fn gateways(node: &Node, prefix: IpNetwork) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let wanted = if prefix.prefix() == if prefix.is_ipv4() { 32 } else { 128 } {
        prefix.ip().to_string()
    } else {
        prefix.to_string()
    };
    for route in node.routes(prefix.is_ipv6(), PROTOCOL_CLUSTER)? {
        if route["dst"] != wanted.as_str() || !route["type"].is_null() {
            continue;
        }
        let hops = route["nexthops"].as_array().cloned().unwrap_or_else(|| vec![route.clone()]);
        for hop in hops {
            let gateway = hop["gateway"].as_str().or_else(|| hop["via"]["host"].as_str());
            found.extend(gateway.map(str::to_owned));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Waits until a node's kernel leads to a prefix by just these gateways.
pub fn leads_by(node: &Node, prefix: IpNetwork, by: &[String]) -> Result<()> {
    let mut by = by.to_vec();
    by.sort_unstable();
    deadline::until_some(&format!("{} leads to {prefix} by {by:?}", node.name()), PATIENCE, || {
        let seen = gateways(node, prefix)?;
        Ok(if seen == by { Ok(()) } else { Err(format!("{seen:?}\n{}", node.last_words(5))) })
    })
}
