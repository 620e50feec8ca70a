//! The way that the kernel sends to an address: interface and source, without routes of ours.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod lab;

use lab::{Namespace, ip, name};
use nix::errno::Errno;
use twill_linux::table::link;
use twill_linux::table::route::{self, Decision, Flow, Found, SeenHop, SeenTarget, Way};

#[test]
fn a_way_has_the_interface_and_the_kernels_choice_of_source_and_is_none_by_a_route_of_ours() {
    let Some(node) = Namespace::new() else { return };
    node.must("sysctl -qw net.ipv6.conf.default.accept_dad=0");
    node.ip("link add eth0 type veth peer name peer0");
    for device in ["eth0", "peer0"] {
        node.ip(&format!("link set {device} up"));
    }
    let mut netlink = node.netlink();
    let index = link::by_name(&mut netlink, &name("eth0")).unwrap().unwrap().index;
    let ends = [
        ("192.0.2.1", "24", "192.0.2.2", "198.51.100.7", "203.0.113.7"),
        ("2001:db8::1", "64", "2001:db8::2", "2001:db8:7::7", "2001:db8:8::8"),
    ];
    for (own, length, near, far, chosen) in ends {
        let mut to = |address: &str| route::to(&mut netlink, ip(address)).unwrap();
        assert_eq!(to(far), None, "nothing leads there");
        node.ip(&format!("address add {own}/{length} dev eth0"));
        node.ip(&format!("address add {chosen} dev lo"));
        let way = |source: &str| Some(Way { index, source: Some(ip(source)), local: false });
        assert_eq!(to(near), way(own));
        node.ip(&format!("route add {far} via {near} src {chosen}"));
        assert_eq!(to(far), way(chosen));
        assert!(to(own).is_some_and(|way| way.local));

        node.ip(&format!("route replace {far} via {near} proto 116"));
        assert_eq!(to(far), None, "a route of ours");
        node.ip(&format!("route del {far}"));
        for kind in ["unreachable", "prohibit", "blackhole"] {
            node.ip(&format!("route add {kind} {far}"));
            assert_eq!(to(far), None, "{kind}");
            node.ip(&format!("route del {kind} {far}"));
        }
    }
}

#[test]
fn a_lookup_finds_the_route_that_decides_about_a_packet_by_its_source_and_interface_and_says_how_one_is_refused() {
    let Some(node) = Namespace::new() else { return };
    node.must("sysctl -qw net.ipv6.conf.default.accept_dad=0");
    node.must("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    for (device, peer) in [("eth0", "peer0"), ("tw1", "pod1")] {
        node.ip(&format!("link add {device} type veth peer name {peer}"));
        node.ip(&format!("link set {device} up"));
        node.ip(&format!("link set {peer} up"));
    }
    let mut netlink = node.netlink();
    let mut index = |device: &str| link::by_name(&mut netlink, &name(device)).unwrap().unwrap().index;
    let (eth0, tw1) = (index("eth0"), index("tw1"));
    let mut netlink = node.netlink();
    let families = [
        ("", "192.0.2.1/24", "10.42.0.5", "10.42.2.9", "10.42.2.0/26", ["192.0.2.2", "192.0.2.3"]),
        ("-6 ", "2001:db8::1/64", "fd42::5", "fd42::209", "fd42::200/122", ["2001:db8::2", "2001:db8::3"]),
    ];
    for (family, own, pod, far, block, [gateway, other]) in families {
        node.ip(&format!("address add {own} dev eth0"));
        node.ip(&format!("{family}route add {pod} dev tw1 proto 117 metric 7777"));
        let flow = Flow { source: Some(ip(pod)), destination: ip(far), input: Some(tw1) };
        let mut found = |flow: Flow| route::look_up(&mut netlink, flow).unwrap();
        assert!(matches!(found(flow), Found::Refused(_)), "nothing leads there");

        node.ip(&format!("{family}route add {block} via {gateway} proto 116 metric 7777"));
        let Found::Route(decision) = found(flow) else { panic!("{:?}", found(flow)) };
        let target = SeenTarget::Gateway { gateway: ip(gateway), index: eth0, onlink: false };
        assert_eq!((decision.key.destination, decision.key.metric), (block.parse().unwrap(), 7777));
        assert_eq!((decision.protocol, &decision.target, decision.table, decision.local), (116, &target, 254, false));
        let Found::Route(chosen) = found(Flow { source: None, input: None, ..flow }) else { panic!("it is routed") };
        assert_eq!(chosen.source, own.split('/').next().map(ip));
        node.ip(&format!("{family}route change {block} via {gateway} proto 116 metric 7777 mtu 1300"));
        assert!(matches!(found(flow), Found::Route(Decision { mtu: Some(1300), .. })));
        node.ip(&format!("{family}route del {block}"));

        let ways = format!("nexthop via {gateway} dev eth0 nexthop via {other} dev eth0");
        node.ip(&format!("{family}route add {block} proto 116 metric 7777 {ways}"));
        let hop = |gateway| SeenHop { gateway: ip(gateway), index: eth0, onlink: false };
        let Found::Route(decision) = found(flow) else { panic!("it is routed") };
        assert_eq!(decision.target, SeenTarget::Several(vec![hop(gateway), hop(other)]));

        node.ip(&format!("{family}route add default dev eth0 table 100"));
        node.ip(&format!("{family}rule add from {pod} lookup 100 priority 100"));
        let Found::Route(decision) = found(flow) else { panic!("it is routed") };
        assert_eq!((decision.table, decision.key.destination.prefix()), (100, 0));
        node.ip(&format!("{family}rule del from {pod} lookup 100 priority 100"));
        for kind in ["unreachable", "prohibit", "blackhole"] {
            node.ip(&format!("{family}route add {kind} {far} metric 5"));
            assert!(matches!(found(flow), Found::Refused(_)), "{kind}");
            node.ip(&format!("{family}route del {kind} {far} metric 5"));
        }
        let to_us = Flow { destination: ip(own.split('/').next().unwrap()), ..flow };
        assert!(matches!(found(to_us), Found::Route(Decision { local: true, .. })));
    }
    // Only IPv4 has the kernel look at the source.
    node.must("sysctl -qw net.ipv4.conf.tw1.rp_filter=1");
    let forged = Flow { source: Some(ip("192.0.2.9")), destination: ip("10.42.2.9"), input: Some(tw1) };
    // EINVAL since Linux 6.13, EXDEV before.
    let found = route::look_up(&mut netlink, forged).unwrap();
    assert!(matches!(found, Found::Refused(Errno::EXDEV | Errno::EINVAL)), "{found:?}");
}
