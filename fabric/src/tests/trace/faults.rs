//! What is not as it shall be: each fault is the last step, with its cause and what to do.

use twill_cluster::inquiry::trace::{Outer, Transport};
use twill_conf::cluster::Kind;
use twill_linux::arrival::{How, Shut};
use twill_linux::forward::{Barrier, Place};
use twill_linux::state::{METRIC, RouteKey, Target};

use super::backends::{cluster, from_two, node, vxlan};
use super::machine::{device, foreign, via};
use super::*;

/// The pod's address, one of n2's, one of n1's that nobody has, and the block of n2; of each family.
const FAMILIES: [[&str; 4]; 2] = [
    ["10.42.1.1", "10.42.2.9", "10.42.1.40", "10.42.2.0/26"],
    ["fd42::101", "fd42::209", "fd42::120", "fd42::200/122"],
];

/// The last step, which must be broken, and what became of the packet.
fn fault(title: &str, answer: &Answer) -> String {
    let last = answer.steps.last().unwrap();
    assert_eq!((last.state, &answer.end), (State::Broken, &End::Lost), "{title}: {answer:#?}");
    assert!(
        answer.steps.iter().rev().skip(1).all(|step| step.state != State::Broken),
        "{title}: nothing follows a fault"
    );
    let only = Answer { steps: vec![last.clone()], ..answer.clone() };
    let text = written(&sent("-", "10.42.0.0"), &only);
    let lines: Vec<&str> =
        text.lines().skip(1).filter(|line| line.starts_with("      ") || line.starts_with("  1")).collect();
    format!("{title}:\n{}", lines.join("\n"))
}

fn key(block: &str) -> RouteKey {
    RouteKey { destination: block.parse().unwrap(), metric: METRIC }
}

/// From n1's pod to n2, after some damage to a node of this kind; in both families.
fn each(title: &str, make: impl Fn() -> Node, damage: impl Fn(&mut Node, &[&str; 4])) -> Vec<String> {
    let told = |family: &[&str; 4]| {
        let mut node = make();
        damage(&mut node, family);
        fault(title, &node.sends(family[0], family[1]))
    };
    FAMILIES.iter().map(told).collect()
}

#[test]
fn what_is_missing_or_another_on_the_way_out_is_named() {
    let host = "tw0000000000001";
    let tunnel = "vxlan.twill";
    let mut told = Vec::new();
    told.extend(each("a route is missing", vxlan, |node, family| {
        node.machine.state.routes.remove(&key(family[3]));
    }));
    told.extend(each("a route leads elsewhere", vxlan, |node, family| {
        let route = node.machine.state.routes.get_mut(&key(family[3])).unwrap();
        route.target = via("192.168.9.77", "eth0");
    }));
    told.extend(each("somebody's route is narrower", vxlan, |node, family| {
        let to = format!("{}/{}", family[1], if family[1].contains(':') { 128 } else { 32 });
        node.machine.foreign.push(foreign(&to, 0, via("192.168.9.254", "eth0")));
    }));
    told.extend(each("somebody's route has a lower metric, and refuses", vxlan, |node, family| {
        node.machine.foreign.push(foreign(family[3], 5, Target::Unreachable));
    }));
    told.extend(each("a rule leads to another table", vxlan, |node, family| {
        node.machine.foreign.push(foreign(family[3], 5, via("192.168.9.254", "eth0")));
        node.machine.table = 100;
    }));
    told.extend(each("the tunnel is down", vxlan, |node, _| node.machine.change_link(tunnel, |link| link.up = false)));
    told.extend(each("the tunnel is missing", vxlan, |node, _| drop(node.machine.links.remove(&device(tunnel)))));
    told.extend(each("a neighbour is missing", vxlan, |node, _| {
        let standing = std::mem::take(&mut node.machine.state.neighbours);
        node.machine.state.neighbours = standing.into_iter().filter(|((by, _), _)| by.as_str() != tunnel).collect();
    }));
    told.extend(each("a neighbour is another", vxlan, |node, _| {
        let wrong = twill_linux::MacAddr([2, 9, 9, 9, 9, 9]);
        let standing = std::mem::take(&mut node.machine.state.neighbours);
        let other = |(key, known)| (key, twill_linux::state::Neighbour { mac: wrong, ..known });
        node.machine.state.neighbours = standing.into_iter().map(other).collect();
    }));
    told.extend(each("an entry is missing", vxlan, |node, _| node.machine.state.fdb.clear()));
    told.extend(each("an entry leads elsewhere", vxlan, |node, _| {
        let standing = std::mem::take(&mut node.machine.state.fdb);
        let other = |(key, known)| (key, twill_linux::state::FdbEntry { remote: ip("192.168.9.77"), ..known });
        node.machine.state.fdb = standing.into_iter().map(other).collect();
    }));
    told.extend(each("the underlay is down", vxlan, |node, _| {
        node.machine.change_link("eth0", |link| link.carrier = false);
    }));
    told.extend(each("the way to the other node leads into the tunnel", vxlan, |node, _| {
        node.machine.foreign.push(foreign("192.168.9.2/32", 0, Target::Device(device(tunnel))));
    }));
    told.extend(each("the pod's link is down", vxlan, |node, _| {
        node.machine.change_link(host, |link| link.up = false)
    }));
    told.extend(each("the pod's link is gone", vxlan, |node, _| drop(node.machine.links.remove(&device(host)))));
    told.extend(each(
        "the underlay is down, without a tunnel",
        || self::node(Kind::HostGw),
        |node, _| {
            node.machine.change_link("eth0", |link| link.up = false);
        },
    ));
    told.extend(each("the pod's address is this machine's", vxlan, |node, family| {
        node.machine.own.push(ip(family[1]))
    }));
    insta::assert_snapshot!("trace_faults", told.join("\n\n"));
}

#[test]
fn who_has_no_address_and_whose_block_it_would_be_is_told() {
    let mut told = Vec::new();
    for [pod, far, free, _] in FAMILIES {
        let mut node = vxlan();
        told.push(fault("nobody on this node has it", &node.sends(pod, free)));
        let unclaimed = if pod.contains(':') { "fd42::ffff" } else { "10.42.200.1" };
        told.push(fault("nobody has the block", &node.sends(pod, unclaimed)));
        told.push(fault("the source is nobody's", &node.sends(free, far)));
        told.push(fault("the source is another node's", &node.sends(far, pod)));
        node.machine.foreign.retain(|route| route.key.destination.prefix() != 0);
        let outside = if pod.contains(':') { "2001:db8::9" } else { "203.0.113.9" };
        told.push(fault("there is no default route", &node.sends(pod, outside)));
    }
    let apart = cluster().but(2, |record| {
        record.value.underlay.ipv4 = Some("192.168.10.2/24".parse().unwrap());
        record.value.underlay.ipv6 = None;
    });
    for (kind, title) in [(Kind::HostGw, "host-gw does not reach the node"), (Kind::Bgp, "BGP has learned nothing")] {
        let sample = Sample { view: apart.view.clone() }.backend(kind).without_tunnels();
        let mut node = Node::new(sample, 1, &["10.42.1.1,fd42::101"], &Learned::default());
        told.extend(FAMILIES.map(|[pod, far, ..]| fault(title, &node.sends(pod, far))));
    }
    insta::assert_snapshot!("trace_nobody", told.join("\n\n"));
}

#[test]
fn a_packet_that_is_too_large_is_dropped_where_it_does_not_fit() {
    let mut told = Vec::new();
    for [pod, far, ..] in FAMILIES {
        let question = |size| sized(sent(pod, far), size);
        let mut node = vxlan();
        assert_eq!(node.ask(&question(1450)).steps.last().unwrap().state, State::Good);
        told.push(fault("larger than the pod's interface", &node.ask(&question(1451))));
        node.machine.change_link("vxlan.twill", |link| link.mtu = 1400);
        told.push(fault("larger than the tunnel", &node.ask(&question(1450))));
        let mut node = vxlan();
        node.machine.path_mtu = Some(1300);
        told.push(fault("larger than what a router has told", &node.ask(&question(1450))));
        let mut node = vxlan();
        node.machine.change_link("eth0", |link| link.mtu = 1400);
        let answer = node.ask(&question(1450));
        assert_eq!(answer.steps.last().unwrap().state, State::Odd, "in fragments");
        let outer = from_two(&node);
        told.push(fault(
            "larger than what is received",
            &node.ask(&sized(received(sent(far, pod), Some(outer)), 1450)),
        ));
        let mut node = self::node(Kind::HostGw);
        node.machine.change_link("tw0000000000001", |link| link.mtu = 1500);
        node.machine.change_link("eth0", |link| link.mtu = 1400);
        told.push(fault("larger than the underlay", &node.ask(&question(1450))));
    }
    insta::assert_snapshot!("trace_sizes", told.join("\n\n"));
}

#[test]
fn a_chain_of_others_that_lets_no_tunnel_in_is_named_where_the_packet_comes_in() {
    for [pod, far, ..] in FAMILIES {
        let mut node = vxlan();
        let coming = received(sent(far, pod), Some(from_two(&node)));
        let shut = |family: &str| {
            let place = Place { family: family.to_owned(), table: "filter".to_owned(), chain: "INPUT".to_owned() };
            Shut { place, how: How::Rule(7) }
        };
        node.machine.shut = vec![shut("ip6")];
        assert!(matches!(node.ask(&coming).end, End::Delivered { .. }), "the tunnel's packets are of IPv4");
        node.machine.shut = vec![shut("ip")];
        let answer = node.ask(&coming);
        let broken = answer.steps.iter().find(|step| step.state == State::Broken).unwrap();
        assert_eq!(broken.what, "it is for this node, UDP port 4789");
        let told = format!("{broken:?}");
        assert!(told.contains("ip filter INPUT drops it: its rule with handle 7"), "{told}");
        assert!(told.contains("nft insert rule ip filter INPUT udp dport 4789 accept"), "{told}");
        assert!(matches!(node.sends(pod, far).end, End::Leaves { .. }), "what leaves does not come in");
    }
}

#[test]
fn what_the_firewall_and_those_of_others_drop_is_named_with_the_rule() {
    let mut told = Vec::new();
    for [pod, far, ..] in FAMILIES {
        let family = if pod.contains(':') { "ip6" } else { "ip" };
        let barrier = |closed: &[&'static str], entrance: bool| {
            let place = Place { family: family.to_owned(), table: "filter".to_owned(), chain: "FORWARD".to_owned() };
            let entrance = entrance.then(|| place.clone());
            Barrier { place, how: "its policy is drop", closed: closed.to_vec(), entrance, refused: None }
        };
        let mut node = vxlan();
        node.machine.barriers = vec![barrier(&["iifname", "oifname"], true)];
        told.push(fault("a chain of iptables", &node.sends(pod, far)));
        node.machine.barriers = vec![barrier(&["iifname"], false)];
        told.push(fault("a chain of somebody", &node.sends(pod, far)));
        let outer = from_two(&node);
        let coming = received(sent(far, pod), Some(outer.clone()));
        assert!(matches!(node.ask(&coming).end, End::Delivered { .. }), "it accepts what goes to pods");
        node.machine.barriers = vec![barrier(&["oifname"], false)];
        assert!(matches!(node.sends(pod, far).end, End::Leaves { .. }), "it accepts what comes from pods");
        told.push(fault("a chain on the way in", &node.ask(&coming)));
        let reply = node.ask(&Question { reply: true, ..coming.clone() });
        assert!(matches!(reply.end, End::Delivered { .. }), "a chain may accept what belongs to a connection");
        node.machine.barriers.clear();

        let stranger = Outer { source: ip("192.168.9.66"), ..outer.clone() };
        told.push(fault("a stranger", &node.ask(&received(sent(far, pod), Some(stranger)))));
        let other = Outer { vni: 3, ..outer.clone() };
        told.push(fault("another tunnel", &node.ask(&received(sent(far, pod), Some(other)))));
        let moved = Outer { destination: ip("192.168.9.88"), ..outer };
        told.push(fault("another address", &node.ask(&received(sent(far, pod), Some(moved)))));
        let to_node = if pod.contains(':') { "fd09::2" } else { "192.168.9.2" };
        told.push(fault("a forged tunnel", &node.ask(&to_port(sent(pod, to_node), Transport::Udp, 4789))));
        node.machine.strict = true;
        told.push(fault("a source that the kernel does not believe", &node.ask(&coming)));

        let mut node = vxlan();
        let own = if pod.contains(':') { 128 } else { 32 };
        node.machine.state.routes.remove(&key(&format!("{pod}/{own}")));
        node.local.pods[0].filtered = true;
        let answer = node.sends(pod, far);
        let cause = answer.steps[1].cause.as_deref().unwrap_or_default();
        assert!(answer.steps[1].state == State::Odd && cause.contains("no answer comes back"), "{answer:#?}");
        node.local.pods[0].filtered = false;
        told.push(fault("no route back to the pod", &node.sends(pod, far)));
        let mut node = vxlan();
        node.machine.firewall = false;
        node.local.pods[0].filtered = true;
        assert_eq!(node.sends(pod, far).steps[1].state, State::Good, "the filter looks at the source");
        node.local.pods[0].filtered = false;
        assert_eq!(node.sends(pod, far).steps[1].state, State::Odd, "nothing looks at the source");
        let outside = if pod.contains(':') { "2001:db8::9" } else { "203.0.113.9" };
        told.push(fault("the table is gone", &node.sends(pod, outside)));
    }
    insta::assert_snapshot!("trace_rules", told.join("\n\n"));
}

#[test]
fn a_pod_whose_source_is_not_looked_at_may_send_by_its_own() {
    let mut node = vxlan();
    node.local.pods[0].unchecked = true;
    let answer = node.sends("10.42.1.1", "10.42.2.9");
    assert!(answer.steps[1].what.contains("spoofCheck = false"), "{answer:#?}");
}
