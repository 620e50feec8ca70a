//! Reconciliation against a real kernel: what shall stand comes to stand, drift is repaired, what is foreign survives,
//! and a second pass finds nothing to do.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod advance;
mod devices;
mod ends;
#[path = "../lab/mod.rs"]
mod lab;
mod orders;
mod refusals;
mod ways;

use std::collections::BTreeSet;
use std::net::IpAddr;

use lab::{Namespace, ip, mac, name, net};
use nix::errno::Errno;
use twill_linux::state::{
    Address, FdbEntry, KernelState, Link, LinkKind, METRIC, METRIC_POOL, Neighbour, Ownership, PROTOCOL_CLUSTER,
    PROTOCOL_POD, Route, RouteKey, Spared, Target,
};
use twill_linux::table::{Outcome, Repair, complete, reconcile};
use twill_linux::{Error, Netlink};

const VXLAN: &str = "vxlan.twill";
const POD: &str = "tw00000000000aa";

/// A node with an underlay of both families, and one pod's host end.
struct Node {
    namespace: Namespace,
    netlink: Netlink,
    ours: Ownership,
}

impl Node {
    fn new() -> Option<Self> {
        let namespace = Namespace::new()?;
        namespace.ip("link add under type veth peer name wire");
        namespace.ip("link set wire up");
        namespace.ip("link set under up");
        namespace.ip("addr add 192.0.2.1/24 dev under");
        namespace.ip("addr add 2001:db8::1/64 dev under nodad");
        namespace.ip(&format!("link add {POD} type veth peer name podend"));
        namespace.ip("link set podend up");
        namespace.ip(&format!("link set {POD} addrgenmode none up"));
        let netlink = namespace.netlink();
        let ours = Ownership { devices: [name(VXLAN)].into(), pods: [name(POD)].into(), spared: Spared::default() };
        Some(Self { namespace, netlink, ours })
    }

    fn reconcile(&mut self, desired: &KernelState) -> Outcome {
        reconcile(&mut self.netlink, desired, &self.ours).unwrap()
    }

    /// Reconciles, and asserts that nothing was refused and that a second pass has nothing to do. Gives the repairs.
    fn settle(&mut self, desired: &KernelState) -> Vec<String> {
        let outcome = self.reconcile(desired);
        assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
        let again = self.reconcile(desired);
        assert!(again.errors.is_empty(), "{:?}", again.errors);
        assert!(again.repairs.is_empty(), "the second pass found {:?}", again.repairs);
        let told = |Repair { table, action, object, was }| {
            let was = was.map(|was| format!(" (was {was})")).unwrap_or_default();
            format!("{action} {table}: {object}{was}")
        };
        outcome.repairs.into_iter().map(told).collect()
    }

    fn ip(&self, args: &str) -> String {
        self.namespace.ip(args)
    }
}

fn route(destination: &str, protocol: u8, target: Target) -> Route {
    Route { key: RouteKey { destination: net(destination), metric: METRIC }, protocol, target, source: None }
}

fn via(gateway: &str, device: &str, onlink: bool) -> Target {
    Target::Gateway { gateway: ip(gateway), device: name(device), onlink }
}

/// What a node of a VXLAN cluster has: every kind of object, both families, and one remote node.
fn desired(local: &str, remote: &str) -> KernelState {
    let mut state = KernelState::default();
    let device = name(VXLAN);
    let peer = mac("02:00:00:00:00:02");
    let kind = LinkKind::Vxlan { vni: 7777, port: 4789, local: ip(local) };
    state.links.insert(device, Link { name: device, kind, mac: mac("02:00:00:00:00:01"), mtu: 1430 });
    for cidr in ["10.42.0.0/32", "fd42::/128", "fe80::ff:fe00:1/64"] {
        state.addresses.insert(Address { device, cidr: net(cidr) });
    }
    let neighbours = [(VXLAN, "10.42.1.0", peer), (VXLAN, "fe80::ff:fe00:2", peer)];
    let pods = ["10.42.0.5", "fd42::5"].map(|pod| (POD, pod, mac("02:00:00:00:00:05")));
    for (device, address, mac) in neighbours.into_iter().chain(pods) {
        let neighbour = Neighbour { device: name(device), ip: ip(address), mac };
        state.neighbours.insert((neighbour.device, neighbour.ip), neighbour);
    }
    state.fdb.insert((device, peer), FdbEntry { device, mac: peer, remote: ip(remote) });
    state.sysctls.insert(format!("net/ipv4/conf/{VXLAN}/rp_filter"), "2".to_owned());
    state.sysctls.insert(format!("net/ipv6/conf/{VXLAN}/keep_addr_on_down"), "1".to_owned());
    state.sysctls.insert("net/ipv4/ip_forward".to_owned(), "1".to_owned());

    let source = |address: &str| Some(ip(address));
    let remote_v4 =
        Route { source: source("10.42.0.0"), ..route("10.42.1.0/26", PROTOCOL_CLUSTER, via("10.42.1.0", VXLAN, true)) };
    let remote_v6 = Route {
        source: source("fd42::"),
        ..route("fd42:0:0:1::/64", PROTOCOL_CLUSTER, via("fe80::ff:fe00:2", VXLAN, false))
    };
    let mut routes = vec![
        remote_v4,
        remote_v6,
        route("10.42.2.0/26", PROTOCOL_CLUSTER, via("192.0.2.2", "under", false)),
        route("fd42:0:0:2::/64", PROTOCOL_CLUSTER, via("2001:db8::2", "under", false)),
        route("10.42.0.5/32", PROTOCOL_POD, Target::Device(name(POD))),
        route("fd42::5/128", PROTOCOL_POD, Target::Device(name(POD))),
    ];
    for block in ["10.42.0.0/26", "fd42::/64"] {
        routes.push(route(block, PROTOCOL_CLUSTER, Target::Unreachable));
    }
    for pool in ["10.42.0.0/16", "fd42::/48"] {
        let key = RouteKey { destination: net(pool), metric: METRIC_POOL };
        routes.push(Route { key, ..route(pool, PROTOCOL_CLUSTER, Target::Unreachable) });
    }
    routes.into_iter().for_each(|route| route.insert_into(&mut state.routes));
    state
}

const UNDERLAYS: [(&str, &str); 2] = [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")];

#[test]
fn leftover_routes_of_a_family_that_is_spared_stay_until_it_is_not() {
    let Some(mut node) = Node::new() else { return };
    let routes = ["10.42.2.0/26", "fd42:0:0:2::/64"].map(|to| {
        let gateway = if to.contains(':') { "2001:db8::2" } else { "192.0.2.2" };
        route(to, PROTOCOL_CLUSTER, via(gateway, "under", false))
    });
    node.settle(&Route::all(routes));
    node.ours.spared = Spared { ipv4: true, ipv6: false };
    let nothing = KernelState::default();
    assert_eq!(node.settle(&nothing).len(), 1, "the other family's");
    assert!(node.ip("-4 route show 10.42.2.0/26").contains("via 192.0.2.2"));
    node.ours.spared = Spared::default();
    node.settle(&nothing);
    assert_eq!(node.ip("-4 route show 10.42.2.0/26"), "");
}

#[test]
fn everything_is_made_and_a_second_pass_finds_nothing_to_do() {
    for (local, remote) in UNDERLAYS {
        let Some(mut node) = Node::new() else { return };
        let desired = desired(local, remote);
        let repairs = node.settle(&desired);
        let objects = 1 + 3 + 3 + 4 + 1 + 10;
        assert_eq!(repairs.len(), objects, "{repairs:#?}");

        let link = node.ip(&format!("-d link show dev {VXLAN}"));
        let expected = format!("vxlan id 7777 local {local} ");
        for part in
            [expected.as_str(), "dstport 4789", "nolearning", "addrgenmode none", "mtu 1430", "02:00:00:00:00:01"]
        {
            assert!(link.contains(part), "{part} in {link}");
        }
        assert!(!link.contains(" df "), "{link}");
        let shown = node.ip("route show proto 116 10.42.1.0/26");
        assert_eq!(shown.trim(), format!("10.42.1.0/26 via 10.42.1.0 dev {VXLAN} src 10.42.0.0 metric 7777 onlink"));
        assert!(node.ip("-6 route show proto 116").contains("unreachable fd42::/48 dev lo metric 777777"));
    }
}

#[test]
fn a_pass_counts_what_stood_before_it() {
    let Some(mut node) = Node::new() else { return };
    let desired = desired("192.0.2.1", "192.0.2.2");
    let counts = |state: &KernelState| {
        let [link, address, route] = [state.links.len(), state.addresses.len(), state.routes.len()];
        let [neighbour, fdb] = [state.neighbours.len(), state.fdb.len()];
        [("link", link), ("address", address), ("route", route), ("neighbour", neighbour), ("fdb", fdb)].into()
    };
    assert_eq!(node.reconcile(&desired).stood, counts(&KernelState::default()));
    node.ip("route del 10.42.2.0/26");
    let mut all: std::collections::BTreeMap<_, _> = counts(&desired);
    all.insert("route", desired.routes.len() - 1);
    assert_eq!(node.reconcile(&desired).stood, all, "the one that was gone did not stand");
    all.insert("route", desired.routes.len());
    assert_eq!(node.reconcile(&desired).stood, all);
}

#[test]
fn each_kind_of_drift_is_repaired_and_named() {
    for (local, remote) in UNDERLAYS {
        let Some(mut node) = Node::new() else { return };
        let desired = desired(local, remote);
        node.settle(&desired);
        let other = if local.contains(':') { "2001:db8::9" } else { "192.0.2.9" };
        let drifts: &[(&str, &[&str])] = &[
            (
                // The last IPv4 address takes the device's IPv4 routes and neighbours with it.
                "addr del 10.42.0.0/32 dev vxlan.twill",
                &[
                    "added address: 10.42.0.0/32 dev vxlan.twill",
                    "added neighbour: 10.42.1.0 dev vxlan.twill lladdr 02:00:00:00:00:02 nud permanent",
                    "added route: 10.42.1.0/26 via 10.42.1.0 dev vxlan.twill proto 116 src 10.42.0.0 metric 7777 onlink",
                ],
            ),
            ("addr add 10.9.9.9/32 dev vxlan.twill", &["removed address: 10.9.9.9/32 dev vxlan.twill"]),
            (
                "addr change fd42::/128 dev vxlan.twill preferred_lft 0",
                &["changed address: fd42::/128 dev vxlan.twill"],
            ),
            (
                "neigh del 10.42.1.0 dev vxlan.twill",
                &["added neighbour: 10.42.1.0 dev vxlan.twill lladdr 02:00:00:00:00:02 nud permanent"],
            ),
            (
                "neigh replace fd42::5 dev tw00000000000aa lladdr 02:00:00:00:00:66 nud permanent",
                &["changed neighbour: fd42::5 dev tw00000000000aa lladdr 02:00:00:00:00:05 nud permanent"],
            ),
            (
                "neigh replace 10.42.0.5 dev tw00000000000aa lladdr 02:00:00:00:00:66 nud stale",
                &["added neighbour: 10.42.0.5 dev tw00000000000aa lladdr 02:00:00:00:00:05 nud permanent"],
            ),
            (
                "neigh add 10.42.0.77 dev tw00000000000aa lladdr 02:00:00:00:00:66 nud permanent",
                &["removed neighbour: 10.42.0.77 dev tw00000000000aa lladdr 02:00:00:00:00:66 nud permanent"],
            ),
            (
                "route del 10.42.0.0/26 proto 116 metric 7777",
                &["added route: unreachable 10.42.0.0/26 proto 116 metric 7777"],
            ),
            (
                "-6 route del fd42:0:0:2::/64 metric 7777",
                &["added route: fd42:0:0:2::/64 via 2001:db8::2 dev under proto 116 metric 7777"],
            ),
            (
                "-6 route del fd42::5 metric 7777",
                &["added route: fd42::5/128 dev tw00000000000aa proto 117 metric 7777"],
            ),
            (
                "route replace 10.42.2.0/26 via 192.0.2.7 dev under proto 116 metric 7777",
                &["changed route: 10.42.2.0/26 via 192.0.2.2 dev under proto 116 metric 7777"],
            ),
            (
                "-6 route append fd42:0:0:2::/64 via 2001:db8::7 dev under proto 116 metric 7777",
                &["changed route: fd42:0:0:2::/64 via 2001:db8::2 dev under proto 116 metric 7777"],
            ),
            (
                "route replace 10.42.2.0/26 proto 116 metric 7777 mtu 1300 via 192.0.2.2 dev under",
                &["changed route: 10.42.2.0/26 via 192.0.2.2 dev under proto 116 metric 7777"],
            ),
            (
                "-6 route replace blackhole fd42::/64 proto 116 metric 7777",
                &["changed route: unreachable fd42::/64 proto 116 metric 7777"],
            ),
            (
                "route add 10.42.9.0/26 via 192.0.2.9 dev under proto 116 metric 5",
                &["removed route: 10.42.9.0/26 via 192.0.2.9 dev under proto 116 metric 5"],
            ),
            (
                "route add 10.42.9.0/26 tos 0x10 via 192.0.2.9 dev under proto 116 metric 7777",
                &["removed route: 10.42.9.0/26 via 192.0.2.9 dev under proto 116 metric 7777, of a kind or with \
                     settings that are not Twill's"],
            ),
            (
                "-6 route add fd42:0:0:9::/64 proto 116 nexthop via 2001:db8::8 dev under nexthop via 2001:db8::9 dev under",
                &["removed route: fd42:0:0:9::/64 proto 116 metric 1024 \
                     nexthop via 2001:db8::8 dev under nexthop via 2001:db8::9 dev under"],
            ),
            (
                "-6 route add unreachable fd42:0:0:9::/64 proto 116",
                &["removed route: unreachable fd42:0:0:9::/64 proto 116 metric 1024"],
            ),
            (
                "route replace 10.42.0.5/32 dev vxlan.twill proto 117 metric 7777",
                &["changed route: 10.42.0.5/32 dev tw00000000000aa proto 117 metric 7777"],
            ),
            (
                "-6 route replace blackhole fd42::5/128 proto 117 metric 7777",
                &["changed route: fd42::5/128 dev tw00000000000aa proto 117 metric 7777"],
            ),
            (
                "route add 10.42.0.9/32 dev tw00000000000aa proto 117 metric 7777",
                &["removed route: 10.42.0.9/32 dev tw00000000000aa proto 117 metric 7777"],
            ),
        ];
        for (drift, expected) in drifts {
            node.ip(drift);
            let repairs = node.settle(&desired);
            let told: Vec<&str> = repairs.iter().map(|repair| repair.split(" (was ").next().unwrap()).collect();
            assert_eq!(&told, expected, "after ip {drift}");
            for changed in repairs.iter().filter(|repair| repair.starts_with("changed ")) {
                let (object, was) = changed.split_once(" (was ").expect("it is told as what it was found");
                assert!(!object.contains(was.trim_end_matches(')')), "after ip {drift}: {changed}");
            }
        }
        node.ip("route replace 10.42.2.0/26 via 192.0.2.7 dev under proto 116 metric 7777");
        let told = "changed route: 10.42.2.0/26 via 192.0.2.2 dev under proto 116 metric 7777 \
                    (was 10.42.2.0/26 via 192.0.2.7 dev under proto 116 metric 7777)";
        assert_eq!(node.settle(&desired), [told]);
        let fdb = [
            ("del 02:00:00:00:00:02 dev vxlan.twill".to_owned(), "added"),
            (format!("replace 02:00:00:00:00:02 dev vxlan.twill dst {other} self permanent"), "changed"),
            (format!("replace 02:00:00:00:00:02 dev vxlan.twill dst {remote} port 9999 self permanent"), "changed"),
            (format!("replace 02:00:00:00:00:02 dev vxlan.twill dst {remote} self dynamic"), "changed"),
            (format!("append 02:00:00:00:00:02 dev vxlan.twill dst {other} self permanent"), "changed"),
            (format!("append 00:00:00:00:00:00 dev vxlan.twill dst {other} port 9999 self permanent"), "removed"),
            (format!("append 00:00:00:00:00:00 dev vxlan.twill dst {other} self permanent"), "removed"),
        ];
        for (drift, action) in fdb {
            if drift.starts_with("append 02") {
                // So that the wanted destination is the second of two.
                node.namespace
                    .must(&format!("bridge fdb replace 02:00:00:00:00:02 dev vxlan.twill dst {other} self permanent"));
                let wanted = drift.replace(other, remote);
                node.namespace.must(&format!("bridge fdb {wanted}"));
            } else {
                node.namespace.must(&format!("bridge fdb {drift}"));
            }
            let repairs = node.settle(&desired);
            assert_eq!(repairs.len(), 1, "after bridge fdb {drift}: {repairs:?}");
            assert!(repairs[0].starts_with(&format!("{action} fdb: ")), "after bridge fdb {drift}: {repairs:?}");
        }
        node.namespace.must("sysctl -qw net/ipv4/ip_forward=0");
        assert_eq!(node.settle(&desired), ["changed sysctl: net/ipv4/ip_forward = 1 (was 0)"]);
    }
}

#[test]
fn nothing_desired_removes_all_of_ours_and_leaves_what_is_foreign() {
    let Some(mut node) = Node::new() else { return };
    let foreign = [
        "route add 10.42.77.0/24 via 192.0.2.77 dev under proto static metric 7777",
        "-6 route add fd42:77::/64 via 2001:db8::77 dev under proto bird metric 7777",
        "route add blackhole 10.77.0.0/16",
        "route add 10.42.3.0/26 via 192.0.2.3 dev under proto 116 table 100",
        "route add 10.42.0.99/32 dev under proto 117 metric 7777",
        "neigh add 192.0.2.77 dev under lladdr 02:00:00:00:00:77 nud permanent",
        "addr add 10.42.77.1/32 dev under",
        "rule add from 10.42.0.0/16 table 100 priority 77",
        "link add tw00000000000bb type veth peer name inflight",
    ];
    foreign.iter().for_each(|made| drop(node.ip(made)));
    node.ip("link set tw00000000000bb up");
    node.ip("route add 10.42.0.6/32 dev tw00000000000bb proto 117 metric 7777");
    node.ip("neigh add 10.42.0.6 dev tw00000000000bb lladdr 02:00:00:00:00:06 nud permanent");
    let everything = |node: &Node| {
        let tables =
            ["route show table all", "-6 route show", "rule show", "addr show dev under", "neigh show nud permanent"];
        tables.map(|table| {
            let shown = node.ip(table);
            // Lifetimes and states of autoconfiguration move by themselves.
            let lines = shown.lines().filter(|line| !line.contains("valid_lft"));
            let mut lines: Vec<String> = lines.map(|line| line.trim().replace(" tentative", "")).collect();
            lines.sort();
            lines
        })
    };
    let before = everything(&node);
    node.settle(&desired("192.0.2.1", "192.0.2.2"));
    let repairs = node.settle(&KernelState::default());
    assert_eq!(everything(&node), before, "{repairs:#?}");
    assert!(!node.namespace.run(&format!("ip link show dev {VXLAN}")).status.success());
    assert!(repairs.contains(&format!("removed link: {VXLAN}")), "{repairs:#?}");
}

#[test]
fn completing_makes_what_is_missing_and_leaves_what_differs_and_what_is_beyond() {
    let Some(mut node) = Node::new() else { return };
    let desired = desired("192.0.2.1", "192.0.2.2");
    node.settle(&desired);
    node.ip("route add 10.42.9.0/26 via 192.0.2.9 dev under proto 116 metric 7777");
    node.ip("route replace 10.42.2.0/26 via 192.0.2.7 dev under proto 116 metric 7777");
    node.ip(&format!("link set {VXLAN} mtu 1400"));
    node.ip("route del 10.42.0.0/26 proto 116 metric 7777");
    let outcome = complete(&mut node.netlink, &desired, &node.ours, &BTreeSet::new()).unwrap();
    assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
    let made: Vec<_> = outcome.repairs.iter().map(|repair| (repair.action, repair.object.as_str())).collect();
    assert_eq!(made, [("added", "unreachable 10.42.0.0/26 proto 116 metric 7777")]);
    let routes = node.ip("route show proto 116");
    assert!(routes.contains("10.42.9.0/26") && routes.contains("via 192.0.2.7"), "{routes}");

    // But for routes of which more is known than what stands, and no others.
    node.ip("route add 10.42.8.0/26 via 192.0.2.9 dev under proto 116 metric 7777");
    let key = |text: &str| RouteKey { destination: text.parse().unwrap(), metric: 7777 };
    let fresh = ["10.42.2.0/26", "10.42.9.0/26", "10.42.7.0/26"].map(key).into();
    let outcome = complete(&mut node.netlink, &desired, &node.ours, &fresh).unwrap();
    assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
    let made: Vec<_> = outcome.repairs.iter().map(|repair| (repair.action, repair.object.as_str())).collect();
    let expected = [
        ("changed", "10.42.2.0/26 via 192.0.2.2 dev under proto 116 metric 7777"),
        ("removed", "10.42.9.0/26 via 192.0.2.9 dev under proto 116 metric 7777"),
    ];
    assert_eq!(made, expected);
    assert!(node.ip("route show proto 116").contains("10.42.8.0/26"));

    // What does not hang on other nodes is put right.
    node.ip(&format!("neigh replace 10.42.0.5 dev {POD} lladdr 02:00:00:00:00:99 nud permanent"));
    node.ip(&format!("link set {VXLAN} down"));
    node.ip(&format!("link set {VXLAN} address 02:00:00:00:99:99"));
    let outcome = complete(&mut node.netlink, &desired, &node.ours, &BTreeSet::new()).unwrap();
    assert!(outcome.errors.is_empty() && outcome.lacking.is_empty(), "{outcome:?}");
    let shown = node.ip(&format!("link show dev {VXLAN}"));
    assert!(shown.contains("mtu 1400") && shown.contains(",UP") && !shown.contains("99:99"), "{shown}");
    assert!(node.ip(&format!("neigh show 10.42.0.5 dev {POD}")).contains("02:00:00:00:00:05"));
}

#[test]
fn an_address_of_the_same_subnet_survives_the_removal_of_the_older_one() {
    let Some(mut node) = Node::new() else { return };
    let mut desired = desired("192.0.2.1", "192.0.2.2");
    desired.addresses.insert(Address { device: name(VXLAN), cidr: net("10.50.0.1/24") });
    node.settle(&desired);
    desired.addresses.remove(&Address { device: name(VXLAN), cidr: net("10.50.0.1/24") });
    desired.addresses.insert(Address { device: name(VXLAN), cidr: net("10.50.0.2/24") });
    node.settle(&desired);
    assert!(node.ip(&format!("addr show dev {VXLAN}")).contains("10.50.0.2/24"));
}

#[test]
fn twenty_thousand_routes_are_made_dumped_and_removed() {
    let Some(mut node) = Node::new() else { return };
    let mut desired = KernelState::default();
    for number in 0..10_000u32 {
        let v4 = IpAddr::from((0x0a64_0000 + number * 64).to_be_bytes());
        let v6 = IpAddr::from((0xfd64_u128 << 112 | u128::from(number) << 64).to_be_bytes());
        for (prefix, gateway) in [(format!("{v4}/26"), "192.0.2.2"), (format!("{v6}/64"), "2001:db8::2")] {
            route(&prefix, PROTOCOL_CLUSTER, via(gateway, "under", false)).insert_into(&mut desired.routes);
        }
    }
    assert_eq!(desired.routes.len(), 20_000);
    assert_eq!(node.settle(&desired).len(), 20_000);
    desired.routes = desired.routes.into_iter().step_by(2).collect();
    assert_eq!(node.settle(&desired).len(), 10_000);
    assert_eq!(node.settle(&KernelState::default()).len(), 10_000);
}

#[test]
fn values_print_as_ip_shows_them() {
    let state = desired("192.0.2.1", "192.0.2.2");
    insta::assert_snapshot!(state);
}
