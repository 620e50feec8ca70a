//! The daemon's own devices, what is on them, and the interfaces of others beside them.

use super::*;

#[test]
fn a_changed_device_is_set_right_and_one_that_cannot_be_is_made_anew_with_all_that_is_on_it() {
    for (local, remote) in UNDERLAYS {
        let Some(mut node) = Node::new() else { return };
        let desired = desired(local, remote);
        node.settle(&desired);
        let index = |node: &Node| node.ip(&format!("-o link show dev {VXLAN}")).split(':').next().unwrap().to_owned();
        let before = index(&node);
        node.ip("link add br0 type bridge");
        for drift in [
            "mtu 1300",
            "address 02:00:00:00:00:99",
            "addrgenmode eui64",
            "type vxlan local LOCAL",
            "master br0",
            "protodown on",
        ] {
            let other = if local.contains(':') { "2001:db8::99" } else { "192.0.2.99" };
            node.ip(&format!("link set {VXLAN} {}", drift.replace("LOCAL", other)));
            let repairs = node.settle(&desired);
            assert!(repairs[0].starts_with("changed link: vxlan.twill mtu 1430"), "{drift}: {repairs:?}");
            assert_eq!(index(&node), before, "{drift} needs no new device");
        }
        node.ip(&format!("link set {VXLAN} down"));
        let repairs = node.settle(&desired);
        assert!(repairs.iter().any(|r| r.starts_with("added route: 10.42.1.0/26")), "{repairs:#?}");
        assert!(repairs.iter().any(|r| r.starts_with("added neighbour: 10.42.1.0")), "{repairs:#?}");
        assert_eq!(index(&node), before);

        let wrong = [
            format!("type vxlan id 7778 local {local} dstport 4789 nolearning"),
            format!("type vxlan id 7777 local {local} dstport 4790 nolearning"),
            format!("type vxlan id 7777 local {local} dstport 4789"),
            format!("type vxlan id 7777 local {local} dstport 4789 nolearning dev under"),
            "type bridge".to_owned(),
            "type vxlan id 7777 dstport 4789 nolearning".to_owned(),
            format!("type vxlan id 7777 local {local} dstport 4789 nolearning ttl 1"),
            format!("type vxlan id 7777 local {local} dstport 4789 nolearning ttl inherit"),
            format!("type vxlan id 7777 local {local} dstport 4789 nolearning tos 4"),
            format!("type vxlan id 7777 local {local} dstport 4789 nolearning rsc"),
        ];
        for kind in wrong {
            node.ip(&format!("link del {VXLAN}"));
            node.ip(&format!("link add {VXLAN} address 02:00:00:00:00:01 mtu 1430 {kind}"));
            node.ip(&format!("link set {VXLAN} addrgenmode none up"));
            let repairs = node.settle(&desired);
            // The device, its three addresses, two sysctls, two neighbours, one FDB entry and two routes.
            assert_eq!(repairs.len(), 11, "{kind}: {repairs:#?}");
        }
        node.ip(&format!("link del {VXLAN}"));
        assert_eq!(node.settle(&desired).len(), 11);
    }
}

#[test]
fn an_address_with_another_end_is_removed_and_one_in_the_place_of_ours_put_right() {
    let Some(mut node) = Node::new() else { return };
    let desired = desired("192.0.2.1", "192.0.2.2");
    node.settle(&desired);
    node.ip(&format!("addr add 10.9.9.9 peer 10.42.1.5/32 dev {VXLAN}"));
    assert_eq!(node.settle(&desired), [format!("removed address: 10.9.9.9/32 peer 10.42.1.5 dev {VXLAN}")]);
    node.ip(&format!("addr add 10.42.0.0 peer 10.42.1.5/32 dev {VXLAN}"));
    assert_eq!(node.settle(&desired).len(), 1, "beside ours");
    node.ip(&format!("addr del 10.42.0.0/32 dev {VXLAN}"));
    node.ip(&format!("addr add 10.42.0.0 peer 10.42.1.5/32 dev {VXLAN}"));
    let repairs = node.settle(&desired);
    assert!(repairs[0].contains("address") && repairs[0].contains("10.42.0.0/32"), "{repairs:?}");
    assert!(!node.ip(&format!("addr show dev {VXLAN}")).contains("peer"));
}

#[test]
fn a_group_of_next_hops_in_the_place_of_a_destination_is_put_right() {
    let Some(mut node) = Node::new() else { return };
    let desired = desired("192.0.2.1", "192.0.2.2");
    node.settle(&desired);
    node.ip("nexthop add id 5 via 192.0.2.9 fdb");
    node.ip("nexthop add id 6 group 5 fdb");
    let entry = format!("02:00:00:00:00:02 dev {VXLAN}");
    node.namespace.must(&format!("bridge fdb del {entry}"));
    node.namespace.must(&format!("bridge fdb add {entry} nhid 6 self permanent"));
    let repairs = node.settle(&desired);
    assert!(repairs.len() == 1 && repairs[0].starts_with("changed fdb: 02:00:00:00:00:02"), "{repairs:?}");
    assert!(node.namespace.must(&format!("bridge fdb show dev {VXLAN}")).contains("02:00:00:00:00:02 dst 192.0.2.2"));
}

#[test]
fn an_address_of_another_scope_is_put_right_with_the_routes_that_name_it() {
    let Some(mut node) = Node::new() else { return };
    let desired = desired("192.0.2.1", "192.0.2.2");
    node.settle(&desired);
    node.ip(&format!("addr del 10.42.0.0/32 dev {VXLAN}"));
    node.ip(&format!("addr add 10.42.0.0/32 dev {VXLAN} scope link"));
    let repairs = node.settle(&desired);
    let told = format!("changed address: 10.42.0.0/32 dev {VXLAN} (was 10.42.0.0/32 dev {VXLAN} of another scope)");
    assert!(repairs.contains(&told), "{repairs:#?}");
    assert!(node.ip(&format!("addr show dev {VXLAN}")).contains("inet 10.42.0.0/32 scope global"));
    assert!(node.ip("route show 10.42.1.0/26").contains("src 10.42.0.0"));
}

#[test]
fn interfaces_of_others_go_on_listening_to_routers_when_the_machine_begins_to_forward() {
    let Some(mut node) = Node::new() else { return };
    let read = |node: &Node, device: &str| {
        node.namespace.must(&format!("sysctl -n net/ipv6/conf/{device}/accept_ra")).trim().to_owned()
    };
    // One that has learned a route, one that has an address for a time, one that does not listen, and one that has learned nothing.
    node.ip("link add lent type veth peer name other");
    for (device, accept) in [("under", 1), ("lent", 1), ("wire", 0), (POD, 1)] {
        node.namespace.must(&format!("sysctl -qw net/ipv6/conf/{device}/accept_ra={accept}"));
    }
    node.ip("-6 route add default via 2001:db8::fe dev under proto ra metric 1024");
    node.ip("addr add 2001:db8:1::1/64 dev lent nodad valid_lft 3600 preferred_lft 3600");
    node.ip("addr add 2001:db8:2::1/64 dev wire nodad valid_lft 3600 preferred_lft 3600");
    let forwarding = ("net/ipv6/conf/all/forwarding".to_owned(), "1".to_owned());
    let desired = KernelState { sysctls: [forwarding].into(), ..KernelState::default() };
    assert_eq!(node.settle(&desired).len(), 1);
    let all = ["under", "lent", "wire", POD].map(|device| read(&node, device));
    assert_eq!(all, ["2", "2", "0", "1"], "who does not listen is not made to, and a pod's host end never");
    node.namespace.must("sysctl -qw net/ipv6/conf/under/accept_ra=1");
    assert_eq!(node.settle(&desired).len(), 0);
    assert_eq!(read(&node, "under"), "1", "from then on it is its owner's affair");
}

#[test]
fn a_device_that_goes_makes_way_first_where_another_takes_its_place() {
    let Some(mut node) = Node::new() else { return };
    let [(local, _), (local6, remote6)] = UNDERLAYS;
    let second = name("vxlan6.twill");
    node.ours.devices.insert(second);
    let kind = LinkKind::Vxlan { vni: 7777, port: 4789, local: ip(local6) };
    let mut both = desired(local, "192.0.2.2");
    both.links.insert(second, Link { name: second, kind, mac: mac("02:00:00:00:00:01"), mtu: 1430 });
    node.settle(&both);
    // The underlay has lost its IPv4 address.
    node.settle(&desired(local6, remote6));
    assert!(node.ip(&format!("-d link show dev {VXLAN}")).contains("local 2001:db8::1"));
    assert!(!node.namespace.run(&format!("ip link show dev {second}")).status.success());
}

#[test]
fn the_underlay_changes_its_family() {
    let Some(mut node) = Node::new() else { return };
    let [(local, remote), (local6, remote6)] = UNDERLAYS;
    node.settle(&desired(local, remote));
    node.settle(&desired(local6, remote6));
    assert!(node.ip(&format!("-d link show dev {VXLAN}")).contains("local 2001:db8::1"));
    node.settle(&desired(local, remote));
}
