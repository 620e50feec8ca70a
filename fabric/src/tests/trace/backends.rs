//! Where all stands.

use twill_cluster::inquiry::trace::{Outer, Question, Transport};
use twill_conf::cluster::{Kind, Vxlan};
use twill_linux::ports::{Port, Protocol};
use twill_linux::state::{Hop, Target};

use super::machine::device;
use super::*;

const POOLS: [&str; 2] = ["10.42.0.0/16", "fd42::/64"];
const PODS: [&str; 2] = ["10.42.1.1,fd42::101", "10.42.1.2,fd42::102"];

pub(super) fn cluster() -> Sample {
    Sample::new(&POOLS)
        .node(1, &["192.168.9.1/24", "fd09::1/64"])
        .node(2, &["192.168.9.2/24", "fd09::2/64"])
        .block(1, "10.42.1.0/26")
        .block(1, "fd42::100/122")
        .block(2, "10.42.2.0/26")
        .block(2, "fd42::200/122")
}

pub(super) fn node(kind: Kind) -> Node {
    let plain = kind.vxlan().is_none();
    let sample = cluster().backend(kind);
    let sample = if plain { sample.without_tunnels() } else { sample };
    Node::new(sample, 1, &PODS, &Learned::default())
}

pub(super) fn vxlan() -> Node {
    node(Kind::Vxlan(Vxlan::default()))
}

/// The tunnel's header as n2 puts it around what it sends.
pub(super) fn from_two(node: &Node) -> Outer {
    let link = node.desired.state.links.values().next().unwrap();
    let twill_linux::state::LinkKind::Vxlan { vni, port, local } = link.kind;
    Outer { source: ip("192.168.9.2"), destination: local, vni, port }
}

/// From a pod of n1 to each kind of destination, and from n2 to that pod; in both families.
fn ways(node: &Node) -> Vec<Question> {
    let outer = node.desired.state.links.values().next().map(|_| from_two(node));
    let families = [
        ("10.42.1.1", "10.42.1.2", "10.42.2.9", "192.168.9.2", "203.0.113.9"),
        ("fd42::101", "fd42::102", "fd42::209", "fd09::2", "2001:db8::9"),
    ];
    let of = |(pod, near, far, other, outside)| {
        [
            sent(pod, near),
            sent(pod, far),
            sent("-", far),
            sent(pod, other),
            sent(pod, outside),
            received(sent(far, pod), outer.clone()),
        ]
    };
    families.into_iter().flat_map(of).collect()
}

#[test]
fn by_vxlan() {
    let mut node = vxlan();
    let ways = ways(&node);
    insta::assert_snapshot!("trace_vxlan", all_written(&mut node, ways));
}

#[test]
fn by_vxlan_and_plain_routes_on_one_subnet() {
    let mut node = node(Kind::Vxlan(Vxlan { direct: true, ..Vxlan::default() }));
    let ways = ways(&node).into_iter().map(|way| match way.half {
        Half::Receives { from, .. } => Question { half: Half::Receives { from, outer: None }, ..way },
        Half::Sends => way,
    });
    insta::assert_snapshot!("trace_direct", all_written(&mut node, ways));
}

#[test]
fn by_host_gw() {
    let mut node = node(Kind::HostGw);
    let ways = ways(&node);
    insta::assert_snapshot!("trace_host_gw", all_written(&mut node, ways));
}

#[test]
fn by_what_bgp_has_learned_on_one_way_and_on_several() {
    let hop = |gateway: &str, by: &str| Hop { gateway: ip(gateway), device: device(by), onlink: false };
    let target = |hops: &[Hop]| Target::by(hops.iter().copied()).unwrap();
    let of = |several: bool| {
        let count = if several { 2 } else { 1 };
        let ipv4 = [hop("192.168.9.254", "eth0"), hop("192.168.8.254", "eth1")];
        let ipv6 = [hop("fd09::254", "eth0"), hop("fd08::254", "eth1")];
        let routes = [("10.42.2.0/26", &ipv4), ("fd42::200/122", &ipv6), ("203.0.113.0/24", &ipv4)];
        let routes = routes.map(|(to, hops)| (to.parse::<ipnetwork::IpNetwork>().unwrap(), target(&hops[..count])));
        let learned = Learned { routes: routes.into_iter().collect(), ..Learned::default() };
        Node::new(cluster().backend(Kind::Bgp).without_tunnels(), 1, &PODS, &learned)
    };
    let mut one = of(false);
    let ways = ways(&one);
    insta::assert_snapshot!("trace_bgp", all_written(&mut one, ways));
    let mut several = of(true);
    let ways = [sent("10.42.1.1", "10.42.2.9"), sent("fd42::101", "fd42::209"), sent("10.42.1.1", "203.0.113.9")];
    let text = all_written(&mut several, ways.clone());
    several.machine.change_link("eth1", |link| link.carrier = false);
    let [way, ..] = ways;
    insta::assert_snapshot!("trace_ecmp", text + "\n\nwith eth1 down:\n" + &all_written(&mut several, [way]));
}

#[test]
fn a_published_port_leads_to_its_pod_for_whoever_comes() {
    let mut node = vxlan();
    let port = |host: Option<&str>, pod: &str| Port {
        protocol: Protocol::Tcp,
        host: host.map(ip),
        host_port: 8080,
        pod: pod.parse().unwrap(),
        owner: "a".to_owned(),
    };
    node.machine.ports = vec![port(None, "10.42.1.2:80"), port(Some("fd09::1"), "[fd42::102]:80")];
    let to = |source: &str, destination: &str| to_port(sent(source, destination), Transport::Tcp, 8080);
    let ways = [
        received(to("10.42.2.9", "192.168.9.1"), None),
        received(to("fd09::2", "fd09::1"), None),
        to("10.42.1.1", "192.168.9.1"),
        to_port(sent("10.42.1.1", "192.168.9.1"), Transport::Udp, 8080),
    ];
    insta::assert_snapshot!("trace_ports", all_written(&mut node, ways));
}

#[test]
fn a_reply_is_not_translated_by_the_rules_for_what_is_new() {
    let mut node = vxlan();
    let reply = Question { reply: true, ..sent("10.42.1.1", "203.0.113.9") };
    assert!(!all_written(&mut node, [reply]).contains("takes the node's address"));
}

#[test]
fn nothing_is_masqueraded_that_the_configuration_leaves_out() {
    let mut sample = cluster();
    let conf = &mut sample.view.config.as_mut().unwrap().value;
    conf.pools[1].masquerade = false;
    conf.firewall.no_masquerade = vec!["203.0.113.0/24".parse().unwrap()];
    let mut node = Node::new(sample, 1, &PODS, &Learned::default());
    let mut told = |source, destination| {
        let steps = node.sends(source, destination).steps;
        steps.into_iter().find(|step| step.what.contains("keeps its source")).map(|step| step.what)
    };
    let kept = |source: &str, why: &str| Some(format!("it keeps its source {source}: {why}"));
    let why = "203.0.113.9 is in 203.0.113.0/24 of no_masquerade";
    assert_eq!(told("10.42.1.1", "203.0.113.9"), kept("10.42.1.1", why));
    assert_eq!(told("fd42::101", "2001:db8::9"), kept("fd42::101", "pool pool1 has masquerade = false"));
    assert_eq!(told("10.42.1.1", "198.51.100.9"), None);
}
