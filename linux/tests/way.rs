//! The way that the kernel sends to an address: interface and source, without routes of ours.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod lab;

use lab::{Namespace, ip, name};
use twill_linux::table::link;
use twill_linux::table::route::{self, Way};

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
