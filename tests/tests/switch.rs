//! Back ends, and how a running cluster goes from one to the other: no packet is lost, and no connection breaks.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use twill_tests::conversation::Conversation;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::lab::{PROTOCOL_CLUSTER, VXLAN};
use twill_tests::probe::Probe;
use twill_tests::wire::{INTERFACE, Underlay};
use twill_tests::{Lab, LabError, Node, Pod, Result, with_lab};

const TUNNEL: &str = "type = \"vxlan\"\n";
const DIRECT: &str = "type = \"vxlan\"\ndirect = true\n";
const HOST_GW: &str = "type = \"host-gw\"\n";
const BGP: &str = "type = \"bgp\"\n[bgp]\n";

const MILLISECOND: Duration = Duration::from_millis(1);
/// After nobody has sent by it for ten seconds, the tunnel goes.
const LONGER: Duration = Duration::from_secs(40);

/// The devices by which a node's routes lead to the others' blocks.
fn ways(node: &Node) -> Result<Vec<String>> {
    let mut devices = Vec::new();
    for ipv6 in [false, true] {
        for route in node.routes(ipv6, PROTOCOL_CLUSTER)? {
            devices.extend(route["dev"].as_str().filter(|_| route["type"].is_null()).map(str::to_owned));
        }
    }
    devices.sort_unstable();
    devices.dedup();
    Ok(devices)
}

fn sends_by(node: &Node, device: &str) -> Result<()> {
    deadline::until_some(&format!("{} sends by {device}", node.name()), PATIENCE, || {
        node.expect_daemon()?;
        let ways = ways(node)?;
        Ok(if ways == [device] { Ok(()) } else { Err(format!("{ways:?}")) })
    })
}

fn device_of(backend: &str) -> &'static str {
    if backend == TUNNEL { VXLAN } else { "eth0" }
}

fn has_tunnel(backend: &str) -> bool {
    [TUNNEL, DIRECT].contains(&backend)
}

/// The pods reach each other, small and full-size, and the other nodes; the nodes reach the pods in the families that they have.
fn all_reach_all(lab: &Lab, pods: &[Pod]) -> Result<()> {
    for (at, pod) in pods.iter().enumerate() {
        for (to, other) in pods.iter().enumerate().filter(|(to, _)| *to != at) {
            for ipv6 in [false, true] {
                pod.ping_small_and_full(other.address(ipv6)?)?;
            }
            for address in lab.node(to + 1).addresses() {
                pod.ping(*address, 56)?;
                let pod = other.address(address.is_ipv6())?.to_string();
                lab.node(at + 1).run(&["ping", "-n", "-q", "-c1", "-W3", &pod])?;
            }
        }
    }
    Ok(())
}

/// One pod on each node.
fn pods(lab: &Lab) -> Result<Vec<Pod>> {
    lab.nodes().iter().map(|node| node.attach(&format!("p-{}", node.name()))).collect()
}

fn works(backend: &'static str, underlay: Underlay) {
    with_lab(Lab::builder().nodes(2).backend(backend).underlay(underlay), |lab| {
        let pods = pods(lab)?;
        all_reach_all(lab, &pods)?;
        for node in lab.nodes() {
            sends_by(node, device_of(backend))?;
            let has = node.interfaces()?.iter().any(|name| name == VXLAN);
            assert_eq!(has, has_tunnel(backend), "{:?}", node.interfaces()?);
        }
        let mtu = if !has_tunnel(backend) {
            1500
        } else if underlay == Underlay::V6 {
            1430
        } else {
            1450
        };
        assert_eq!(pods[0].mtu()?, mtu);
        Ok(())
    });
}

#[test]
fn host_gw_reaches_pods_and_nodes_over_both_families() {
    works(HOST_GW, Underlay::Dual);
}

#[test]
fn host_gw_over_ipv6_alone_carries_ipv4_too() {
    works(HOST_GW, Underlay::V6);
}

#[test]
fn bgp_reaches_pods_and_nodes_over_both_families() {
    works(BGP, Underlay::Dual);
}

#[test]
fn bgp_over_ipv6_alone_carries_ipv4_too() {
    works(BGP, Underlay::V6);
}

#[test]
fn direct_routes_reach_pods_and_nodes_over_both_families() {
    works(DIRECT, Underlay::Dual);
}

#[test]
fn direct_routes_over_ipv6_alone_carry_ipv4_too() {
    works(DIRECT, Underlay::V6);
}

/// What goes on while the nodes are switched.
struct Traffic {
    probes: Vec<(String, Probe)>,
    conversations: Vec<(String, Conversation)>,
}

impl Traffic {
    fn start(lab: &Lab, pods: &[Pod]) -> Result<Self> {
        let mut probes = Vec::new();
        let mut conversations = Vec::new();
        for ipv6 in [false, true] {
            let family = if ipv6 { 6 } else { 4 };
            let (a, b, c) = (&pods[0], &pods[1], &pods[2]);
            let to = |pod: &Pod| pod.address(ipv6);
            let small = |from, pod: &Pod| Probe::start(from, pod.namespace(), to(pod)?, MILLISECOND);
            let full = |from, pod: &Pod| Probe::start_full(from, pod.namespace(), to(pod)?, MILLISECOND, pod.mtu()?);
            let talk = |from, pod: &Pod| Conversation::start(from, pod.namespace(), to(pod)?);
            probes.push((format!("pod to pod, IPv{family}"), small(a.namespace(), b)?));
            probes.push((format!("pod to pod, full size, IPv{family}"), full(b.namespace(), c)?));
            conversations.push((format!("pod with pod, IPv{family}"), talk(c.namespace(), a)?));
            // A node without an address of the family has none to send by, where there is no tunnel.
            if lab.node(3).addresses().iter().any(|address| address.is_ipv6() == ipv6) {
                probes.push((format!("node to pod, IPv{family}"), small(lab.node(3).namespace(), a)?));
                probes.push((format!("node to pod, full size, IPv{family}"), full(lab.node(2).namespace(), c)?));
                conversations.push((format!("node with pod, IPv{family}"), talk(lab.node(1).namespace(), b)?));
            }
        }
        Ok(Self { probes, conversations })
    }

    fn flows(&self) -> Result<()> {
        let flows = |(what, probe): &(String, Probe)| {
            probe.until_answered(50).map_err(|error| LabError::wrong(format!("{what}: {error}")))
        };
        self.probes.iter().try_for_each(flows)
    }

    /// Nothing was lost, and nothing broke.
    fn end(self, when: &str) -> Result<()> {
        for (what, probe) in self.probes {
            let report = probe.stop()?;
            println!("{when}: {what}: {} of {} lost", report.lost, report.sent);
            if report.lost > 0 {
                return Err(LabError::wrong(format!("{what}: {report:?}")));
            }
        }
        for (what, conversation) in self.conversations {
            let (answers, longest) = conversation.end()?;
            println!("{when}: {what}: {answers} answers, the longest after {longest:?}");
        }
        Ok(())
    }
}

/// Applies a back end, and lets the nodes hear of it one after another, in this order. After each, packets go on.
fn switch(lab: &Lab, backend: &str, order: [usize; 3], traffic: &Traffic) -> Result<()> {
    for node in lab.nodes() {
        pause(node, "-STOP")?;
    }
    let applied = lab.apply_config(&lab.config_with(backend));
    for number in order {
        let node = lab.node(number);
        pause(node, "-CONT")?;
        // It has heard, and done what it can while the others have not.
        deadline::until(&format!("{} knows the new configuration", node.name()), PATIENCE, || {
            let saved = std::fs::read_to_string(node.directory().join("state/view.json")).unwrap_or_default();
            let kind = match backend {
                HOST_GW => "host-gw",
                BGP => "bgp",
                _ => "vxlan",
            };
            let direct = saved.contains("\\\"direct\\\":true");
            Ok(saved.contains(&format!("\\\"type\\\":\\\"{kind}\\\"")) && direct == (backend == DIRECT))
        })?;
        if backend != TUNNEL {
            // Plain packets are understood by all. For the tunnel it may have to wait for those that stand still.
            sends_by(node, device_of(backend))?;
        }
        traffic.flows()?;
    }
    applied?;
    lab.nodes().iter().try_for_each(|node| sends_by(node, device_of(backend)))
}

fn pause(node: &Node, signal: &str) -> Result<()> {
    let pid = node.daemon_pid().ok_or_else(|| LabError::wrong(format!("{} has no daemon", node.name())))?;
    node.run(&["kill", signal, &pid.to_string()]).map(drop)
}

/// Applies a back end by `twillctl` on the first node, with some more words. What it said, and whether it did it.
fn apply_with(lab: &Lab, backend: &str, words: &[&str]) -> Result<(bool, String)> {
    let file = lab.directory().join("switch.toml");
    std::fs::write(&file, lab.config_with(backend)).map_err(LabError::io(format!("writing {}", file.display())))?;
    let file = file.display().to_string();
    let told = lab.node(1).twillctl(&[&["config", "apply", &file], words].concat());
    Ok(told.map_or_else(|error| (false, error.to_string()), |text| (true, text)))
}

#[test]
fn a_switch_that_pods_would_lose_packets_by_is_refused_with_the_reason_unless_forced() {
    with_lab(Lab::builder().nodes(2).backend(HOST_GW), |lab| {
        let pods = pods(lab)?;
        deadline::until_some("the record tells of the pod's MTU", PATIENCE, || {
            let records = lab.etcd().nodes()?;
            let told = records.iter().all(|(_, record)| record["path"]["pods"] == 1500);
            Ok(if told { Ok(()) } else { Err(format!("{records:?}")) })
        })?;
        let reason = "pods on n1 have an MTU of 1500 bytes, and the new way carries 1450";
        let (done, told) = apply_with(lab, TUNNEL, &[])?;
        assert!(!done && told.contains(reason), "{told}");
        assert!(lab.nodes().iter().all(|node| ways(node).is_ok_and(|ways| ways == ["eth0"])), "nothing was changed");
        // With headroom, pods that are made anew are no obstacle; the old ones still are.
        let low = format!("{HOST_GW}mtu = 1450\n");
        assert!(apply_with(lab, &low, &[])?.0);
        deadline::until_some("new pods have it", PATIENCE, || {
            let pod = lab.node(1).attach("low")?;
            let mtu = pod.mtu()?;
            pod.del()?;
            Ok(if mtu == 1450 { Ok(()) } else { Err(mtu.to_string()) })
        })?;
        assert!(!apply_with(lab, TUNNEL, &[])?.0);
        for pod in &pods {
            pod.del()?;
        }
        drop(pods);
        // What has become less is said after a while.
        deadline::until_some("nothing is in the way of it", LONGER, || {
            let (done, told) = apply_with(lab, TUNNEL, &[])?;
            Ok(if done { Ok(()) } else { Err(told) })
        })?;
        lab.nodes().iter().try_for_each(|node| sends_by(node, VXLAN))?;

        // Another identifier is another tunnel, which the others do not understand.
        let other = "type = \"vxlan\"\nvni = 9\n";
        let (done, told) = apply_with(lab, other, &[])?;
        assert!(!done && told.contains("n1, n2 send by VXLAN with the identifier 7777"), "{told}");
        let (done, told) = apply_with(lab, other, &["--force"])?;
        assert!(done, "{told}");
        let pods: Vec<Pod> =
            lab.nodes().iter().map(|node| node.attach(&format!("q-{}", node.name()))).collect::<Result<_>>()?;
        deadline::until("they reach each other by the other tunnel", PATIENCE, || {
            let link = lab.node(1).run(&["ip", "-d", "link", "show", "dev", VXLAN])?;
            Ok(link.contains(" id 9 ") && all_reach_all(lab, &pods).is_ok())
        })
    });
}

/// The orders in which three nodes can hear of something.
const ORDERS: [[usize; 3]; 6] = [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]];

/// What the orders of a test are made of: the number in `TWILL_SEED`, to have those of an earlier run, or any number.
fn seed() -> u64 {
    // Enough for a different order at each of six steps.
    let any = || RandomState::new().build_hasher().finish() % 6_u64.pow(6);
    std::env::var("TWILL_SEED").map_or_else(|_| any(), |text| text.parse().expect("TWILL_SEED is a number"))
}

/// The orders that a number stands for, one after another: its digits, as there are six of each.
fn orders(seed: u64) -> impl Iterator<Item = [usize; 3]> {
    let rests = std::iter::successors(Some(seed), |rest| Some(rest / 6));
    rests.map(|rest| ORDERS[usize::try_from(rest % 6).expect("a digit")])
}

/// Has a node filter reverse paths strictly, as some distributions do. The kernel then drops a packet that comes by
/// another device than its receiver sends by, as it does while one of two nodes is switched.
///
/// By an interface without an IPv4 address the kernel drops such packets too where it is `all` that filters, however loosely: Twill's to
/// change is the interface's own setting.
fn filter_strictly(node: &Node, underlay: Underlay) -> Result<()> {
    let filter = |scope: &str| node.namespace().set_sysctl(&format!("net/ipv4/conf/{scope}/rp_filter"), "1");
    let scopes: &[&str] = if underlay.ipv4() { &["all", INTERFACE] } else { &[INTERFACE] };
    scopes.iter().try_for_each(|scope| filter(scope))
}

/// A switch: its name, and the back end.
type Step = (&'static str, &'static str);

/// Goes from VXLAN from one back end to the next, the nodes in any order each time.
fn nothing_is_lost_by(underlay: Underlay, steps: &[Step]) {
    with_lab(Lab::builder().underlay(underlay).asleep(), |lab| {
        let seed = seed();
        println!("TWILL_SEED={seed}");
        lab.nodes().iter().try_for_each(|node| filter_strictly(node, underlay))?;
        lab.nodes().iter().try_for_each(Node::start_daemon)?;
        lab.converged()?;
        let pods = pods(lab)?;
        for ((what, backend), order) in steps.iter().zip(orders(seed)) {
            let what = format!("{what}, in the order {order:?}");
            let done = loses_nothing(lab, &pods, &what, backend, order);
            done.map_err(|error| LabError::wrong(format!("TWILL_SEED={seed}: {what}: {error}")))?;
        }
        Ok(())
    });
}

fn loses_nothing(lab: &Lab, pods: &[Pod], what: &str, backend: &str, order: [usize; 3]) -> Result<()> {
    let traffic = Traffic::start(lab, pods)?;
    traffic.flows()?;
    switch(lab, backend, order, &traffic)?;
    traffic.flows()?;
    traffic.end(what)?;
    all_reach_all(lab, pods)?;
    if !has_tunnel(backend) {
        for node in lab.nodes() {
            deadline::until("the tunnel is gone", LONGER, || Ok(!node.interfaces()?.iter().any(|name| name == VXLAN)))?;
        }
        all_reach_all(lab, pods)?;
    }
    Ok(())
}

#[test]
fn a_switch_in_any_direction_and_order_of_nodes_loses_no_packet_and_breaks_no_connection() {
    nothing_is_lost_by(
        Underlay::Dual,
        &[
            ("vxlan to direct", DIRECT),
            ("direct to host-gw", HOST_GW),
            ("host-gw to bgp", BGP),
            ("bgp to vxlan", TUNNEL),
            ("vxlan to host-gw", HOST_GW),
            ("host-gw to vxlan", TUNNEL),
        ],
    );
}

#[test]
fn a_switch_in_the_other_directions_loses_nothing_either() {
    nothing_is_lost_by(
        Underlay::Dual,
        &[
            ("vxlan to bgp", BGP),
            ("bgp to direct", DIRECT),
            ("direct to bgp", BGP),
            ("bgp to host-gw", HOST_GW),
            ("host-gw to direct", DIRECT),
            ("direct to vxlan", TUNNEL),
        ],
    );
}

#[test]
fn a_switch_over_ipv6_alone_loses_nothing_of_either_family() {
    nothing_is_lost_by(
        Underlay::V6,
        &[
            ("vxlan to direct", DIRECT),
            ("direct to host-gw", HOST_GW),
            ("host-gw to direct", DIRECT),
            ("direct to vxlan", TUNNEL),
        ],
    );
}
