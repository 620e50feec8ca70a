//! Nodes on two subnets, each a wire of its own, with a router between them that knows no pod. Plain packets reach the
//! nodes on the same subnet alone, and of a node that moves to the other one it is decided anew.

use twill_tests::deadline::{self, PATIENCE};
use twill_tests::lab::{PROTOCOL_CLUSTER, VXLAN};
use twill_tests::wire::INTERFACE;
use twill_tests::{Lab, Node, Pod, Result, with_lab};

use super::stage::{DIRECT, HOST_GW};

/// A subnet: the bridge that is its wire, and what its addresses begin with.
struct Subnet {
    bridge: &'static str,
    ipv4: &'static str,
    ipv6: &'static str,
}

/// That of the lab, with etcd.
const NEAR: Subnet = Subnet { bridge: "br0", ipv4: "192.168.77.", ipv6: "fd00:77::" };
/// That behind the gateway.
const FAR: Subnet = Subnet { bridge: "br1", ipv4: "192.168.78.", ipv6: "fd00:78::" };

/// A lab of three nodes, the third of which is on the far subnet when the daemons start.
fn with_subnets(backend: &str, scene: impl FnOnce(&Lab) -> Result<()>) {
    with_lab(Lab::builder().backend(backend).asleep(), |lab| {
        lay_far_subnet(lab)?;
        relocate(lab, 3, &NEAR, &FAR)?;
        lab.nodes().iter().try_for_each(Node::start_daemon)?;
        scene(lab)
    });
}

/// Makes the far subnet, with the nodes' gateway for a router between both.
fn lay_far_subnet(lab: &Lab) -> Result<()> {
    let router = lab.outside();
    lab.wire().namespace().ip_batch(&format!(
        "link add {bridge} type bridge forward_delay 0 mcast_snooping 0\nlink set {bridge} up\n\
         link add far type veth peer name eth1 netns {}\nlink set far master {bridge} up\n",
        router.name(),
        bridge = FAR.bridge
    ))?;
    router.ip_batch(&format!(
        "link set eth1 up\naddr add {}1/24 dev eth1\naddr add {}1/64 dev eth1 nodad\n",
        FAR.ipv4, FAR.ipv6
    ))?;
    ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"].iter().try_for_each(|path| router.set_sysctl(path, "1"))
}

/// Unplugs a node from the wire of one subnet and plugs it into that of another, with addresses there that end in the
/// same digits, and the router for all else.
fn relocate(lab: &Lab, number: usize, from: &Subnet, to: &Subnet) -> Result<()> {
    lab.wire().namespace().ip_batch(&format!("link set n{number} master {}\n", to.bridge))?;
    lab.node(number).namespace().ip_batch(&format!(
        "addr del {}1{number}/24 dev eth0\naddr del {}1{number}/64 dev eth0\n\
         addr add {v4}1{number}/24 dev eth0\naddr add {v6}1{number}/64 dev eth0 nodad\n\
         route replace 0.0.0.0/0 via {v4}1 dev eth0\nroute replace ::/0 via {v6}1 dev eth0\n",
        from.ipv4,
        from.ipv6,
        v4 = to.ipv4,
        v6 = to.ipv6
    ))
}

/// Waits until each node sends to those on its subnet by plain routes, and to the others through the tunnel. `far`:
/// those on the far subnet.
fn all_send_by_subnet(lab: &Lab, far: &[usize]) -> Result<()> {
    let all = 1..=lab.nodes().len();
    let pairs = all.clone().flat_map(|from| all.clone().map(move |to| (from, to))).filter(|(from, to)| from != to);
    for (from, to) in pairs {
        let device = if far.contains(&from) == far.contains(&to) { INTERFACE } else { VXLAN };
        deadline::until_some(&format!("n{from} sends to n{to} by {device}"), PATIENCE, || {
            let ways = ways(lab, from, to)?;
            Ok(if !ways.is_empty() && ways.iter().all(|way| way == device) { Ok(()) } else { Err(ways) })
        })?;
    }
    Ok(())
}

/// The devices by which a node's routes lead to the blocks of another, one for each route.
fn ways(lab: &Lab, from: usize, to: usize) -> Result<Vec<String>> {
    let blocks = lab.etcd().blocks_of(lab.node(to).name())?;
    let mut ways = Vec::new();
    for ipv6 in [false, true] {
        for route in lab.node(from).routes(ipv6, PROTOCOL_CLUSTER)? {
            if blocks.iter().any(|block| route["dst"] == block.to_string().as_str()) {
                ways.extend(route["dev"].as_str().map(str::to_owned));
            }
        }
    }
    Ok(ways)
}

/// The pods reach each other within a while, small and full-size.
fn all_reach_all(pods: &[&Pod]) -> Result<()> {
    for (at, from) in pods.iter().enumerate() {
        for to in pods.iter().enumerate().filter(|(to, _)| *to != at).map(|(_, to)| to) {
            for target in to.addresses()? {
                deadline::until_some(&format!("{} reaches {target}", from.name()), PATIENCE, || {
                    Ok(from.ping_small_and_full(target).map_err(|error| error.to_string()))
                })?;
            }
        }
    }
    Ok(())
}

/// One pod on each node.
fn pods(lab: &Lab) -> Result<Vec<Pod>> {
    lab.nodes().iter().map(|node| node.attach(&format!("p-{}", node.name()))).collect()
}

#[test]
fn direct_routes_lead_to_nodes_on_the_subnet_and_the_tunnel_to_the_others_also_after_a_move() {
    with_subnets(DIRECT, |lab| {
        lab.converged()?;
        let pods = pods(lab)?;
        all_send_by_subnet(lab, &[3])?;
        all_reach_all(&pods.iter().collect::<Vec<_>>())?;

        relocate(lab, 2, &NEAR, &FAR)?;
        all_send_by_subnet(lab, &[2, 3])?;
        all_reach_all(&pods.iter().collect::<Vec<_>>())?;
        let refused = lab.apply_config(&lab.config_with(HOST_GW)).err().map(|error| error.to_string());
        let reason = "not on one IPv4 subnet with the others: n1, whose pods host-gw would not reach";
        assert!(refused.as_ref().is_some_and(|told| told.contains(reason)), "{refused:?}");

        relocate(lab, 2, &FAR, &NEAR)?;
        all_send_by_subnet(lab, &[3])?;
        all_reach_all(&pods.iter().collect::<Vec<_>>())
    });
}

#[test]
fn host_gw_names_the_node_on_another_subnet_until_it_is_on_that_of_the_others() {
    with_subnets(HOST_GW, |lab| {
        lab.converged_among(&["n1", "n2"])?;
        let pods = pods(lab)?;
        let reason =
            "host-gw reaches only nodes on the same subnet, and for IPv4 these are not on that of the others: n3";
        status_says(lab.node(1), reason, true)?;
        let apart =
            "node n3 (192.168.78.13/24 and fd00:78::13/64) is not on this node's subnet: host-gw does not reach it";
        lab.node(1).says(apart)?;
        all_reach_all(&[&pods[0], &pods[1]])?;
        for target in pods[2].addresses()? {
            assert!(pods[0].ping(target, 56).is_err(), "there is no way to n3");
        }

        relocate(lab, 3, &FAR, &NEAR)?;
        lab.converged()?;
        all_reach_all(&pods.iter().collect::<Vec<_>>())?;
        status_says(lab.node(1), reason, false)
    });
}

/// Waits until `twillctl status` says these words, or does not say them.
fn status_says(node: &Node, words: &str, says: bool) -> Result<()> {
    deadline::until_some(&format!("the status says {words:?}: {says}"), PATIENCE, || {
        let told = node.twillctl_told(&["status", "--timeout", "1"])?.stdout;
        Ok(if told.contains(words) == says { Ok(()) } else { Err(told) })
    })
}
