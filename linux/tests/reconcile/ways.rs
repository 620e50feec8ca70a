//! Routes by several gateways (ECMP): IPv4, IPv6, and IPv4 by gateways of IPv6.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use twill_linux::Error;
use twill_linux::monitor::{Echoes, Heard};
use twill_linux::state::{Hop, KernelState, PROTOCOL_CLUSTER, Route, Target};

use super::advance::{calm, is_news};
use super::lab::{ip, name};
use super::{Node, route, via};

/// Destinations, each with its gateways.
const ROUTES: [(&str, [&str; 3]); 3] = [
    ("10.42.7.0/26", ["192.0.2.2", "192.0.2.3", "198.51.100.2"]),
    ("fd42:0:0:7::/64", ["2001:db8::2", "2001:db8::3", "2001:db8:1::2"]),
    ("10.42.8.0/26", ["2001:db8::2", "2001:db8::3", "2001:db8:1::2"]),
];

/// A node with two links.
fn node() -> Option<Node> {
    let node = Node::new()?;
    second_link(&node);
    Some(node)
}

/// The link to the third gateways.
pub(crate) fn second_link(node: &Node) {
    node.ip("link add second type veth peer name far");
    node.ip("link set far up");
    node.ip("link set second up");
    node.ip("addr add 198.51.100.1/24 dev second");
    node.ip("addr add 2001:db8:1::1/64 dev second nodad");
}

fn hops(gateways: &[&str]) -> Target {
    let device =
        |gateway: &str| if gateway.contains(":1::") || gateway.starts_with("198") { "second" } else { "under" };
    let hop = |gateway: &&str| Hop { gateway: ip(gateway), device: name(device(gateway)), onlink: false };
    Target::by(gateways.iter().map(hop)).unwrap()
}

/// Each destination by the first `count` of its gateways, in the wrong order.
pub(crate) fn desired(count: usize) -> KernelState {
    let by = |(destination, gateways): (&str, [&str; 3])| {
        let mut gateways = gateways[..count].to_vec();
        gateways.reverse();
        route(destination, PROTOCOL_CLUSTER, hops(&gateways))
    };
    Route::all(ROUTES.map(by))
}

fn standing(node: &Node, destination: &str) -> Vec<String> {
    let family = if destination.contains(':') { "-6" } else { "-4" };
    let shown = node.ip(&format!("-N {family} route show {destination}"));
    let mut words: Vec<String> =
        shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    words.sort();
    words
}

#[test]
fn several_ways_are_made_seen_in_any_order_and_removed_whole() {
    let Some(mut node) = node() else { return };
    let made = node.settle(&desired(3));
    let expected = [
        "added route: 10.42.7.0/26 proto 116 metric 7777 nexthop via 192.0.2.2 dev under weight 1 \
         nexthop via 192.0.2.3 dev under weight 1 nexthop via 198.51.100.2 dev second weight 1",
        "added route: 10.42.8.0/26 proto 116 metric 7777 nexthop via inet6 2001:db8::2 dev under weight 1 \
         nexthop via inet6 2001:db8::3 dev under weight 1 nexthop via inet6 2001:db8:1::2 dev second weight 1",
        "added route: fd42:0:0:7::/64 proto 116 metric 7777 nexthop via 2001:db8::2 dev under weight 1 \
         nexthop via 2001:db8::3 dev under weight 1 nexthop via 2001:db8:1::2 dev second weight 1",
    ];
    assert_eq!(made, expected);
    for (destination, gateways) in ROUTES {
        let lines = standing(&node, destination);
        assert_eq!(lines.len(), 4, "{lines:#?}");
        for gateway in gateways {
            assert!(lines.iter().any(|line| line.contains(&format!("{gateway} dev ")) && line.contains("weight 1")));
        }
        let family = if gateways[0].contains(':') && !destination.contains(':') { "inet6 " } else { "" };
        let turned = gateways.map(|gateway| {
            let device = if gateway == gateways[2] { "second" } else { "under" };
            format!("nexthop via {family}{gateway} dev {device}")
        });
        node.ip(&format!(
            "route replace {destination} proto 116 metric 7777 {} {} {}",
            turned[2], turned[0], turned[1]
        ));
        assert_eq!(node.settle(&desired(3)), [""; 0], "another order");
    }
    assert_eq!(node.settle(&KernelState::default()).len(), 3);
    ROUTES.iter().for_each(|(destination, _)| assert_eq!(standing(&node, destination), [""; 0]));
}

#[test]
fn whatever_somebody_does_to_the_ways_is_repaired() {
    let Some(mut node) = node() else { return };
    let wanted = desired(3);
    node.settle(&wanted);
    let before = ROUTES.map(|(destination, _)| standing(&node, destination));
    let changes: [(&str, &str); 9] = [
        ("changed", "-6 route del fd42:0:0:7::/64 via 2001:db8::3 dev under metric 7777"),
        ("changed", "-6 route append fd42:0:0:7::/64 via 2001:db8::9 dev under proto 116 metric 7777"),
        ("added", "-6 route del fd42:0:0:7::/64 proto 116 metric 7777"),
        (
            "changed",
            "-6 route replace fd42:0:0:7::/64 proto 116 metric 7777 nexthop via 2001:db8::2 dev under weight 5 \
             nexthop via 2001:db8::3 dev under nexthop via 2001:db8:1::2 dev second",
        ),
        (
            "changed",
            "route replace 10.42.7.0/26 proto 116 metric 7777 nexthop via 192.0.2.2 dev under \
             nexthop via 198.51.100.2 dev second",
        ),
        (
            "changed",
            "route replace 10.42.7.0/26 proto 116 metric 7777 nexthop via 192.0.2.2 dev under weight 2 \
             nexthop via 192.0.2.3 dev under nexthop via 198.51.100.2 dev second",
        ),
        (
            "changed",
            "route replace 10.42.7.0/26 proto 116 metric 7777 nexthop via 192.0.2.2 dev under onlink \
             nexthop via 192.0.2.3 dev under nexthop via 198.51.100.2 dev second",
        ),
        ("changed", "route replace 10.42.8.0/26 proto 116 metric 7777 via inet6 2001:db8::2 dev under"),
        ("added", "route del 10.42.8.0/26 proto 116 metric 7777"),
    ];
    for (action, change) in changes {
        node.ip(change);
        let repairs = node.settle(&wanted);
        let destination = change.split(' ').find(|word| word.contains('/')).unwrap();
        assert_eq!(repairs.len(), 1, "{change}: {repairs:?}");
        assert!(repairs[0].starts_with(&format!("{action} route: {destination} proto 116")), "{change}: {repairs:?}");
        assert_eq!(ROUTES.map(|(destination, _)| standing(&node, destination)), before, "{change}");
    }
}

#[test]
fn a_way_whose_link_is_down_is_no_difference() {
    let Some(mut node) = node() else { return };
    node.settle(&desired(3));
    for (device, flag) in [("far", "linkdown"), ("second", "dead")] {
        node.ip(&format!("link set {device} down"));
        for (destination, _) in ROUTES {
            let lines = standing(&node, destination);
            assert!(lines.iter().any(|line| line.contains(" dev second") && line.contains(flag)), "{lines:#?}");
        }
        assert_eq!(node.settle(&desired(3)), [""; 0], "{device}");
    }
}

/// Looks the way to a destination up all the time, in a thread of its own; gives how often there was one, or none.
fn looking_up<T>(node: &Node, destination: &str, during: impl FnOnce(&Node) -> T) -> (u64, u64) {
    let open = node.namespace.open();
    let first = format!("[{}]:9", destination.split('/').next().unwrap());
    let address = if destination.contains(':') { first } else { first.replace(['[', ']'], "") };
    let (done, begun) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let looker = scope.spawn(|| {
            let own = if destination.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
            let count = || {
                let (mut found, mut lost) = (0, 0);
                while !done.load(Ordering::Relaxed) {
                    let socket = UdpSocket::bind(own).unwrap();
                    match socket.connect(&address) {
                        Ok(()) => found += 1,
                        Err(_) => lost += 1,
                    }
                    begun.store(true, Ordering::Relaxed);
                }
                (found, lost)
            };
            open.run(count).unwrap()
        });
        while !begun.load(Ordering::Relaxed) && !looker.is_finished() {
            std::thread::yield_now();
        }
        during(node);
        done.store(true, Ordering::Relaxed);
        looker.join().unwrap()
    })
}

#[test]
fn from_one_gateway_to_several_and_back_there_is_always_a_way() {
    let Some(mut node) = node() else { return };
    for (destination, gateways) in ROUTES {
        let by = |count: usize| Route::all([route(destination, PROTOCOL_CLUSTER, hops(&gateways[..count]))]);
        node.settle(&by(1));
        let mut netlink = node.namespace.netlink();
        let (found, lost) = looking_up(&node, destination, |node| {
            for count in [2, 1, 3, 2, 3, 1].repeat(20) {
                let outcome = super::reconcile(&mut netlink, &by(count), &node.ours).unwrap();
                assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
                assert_eq!(outcome.repairs.len(), 1);
                assert_eq!(standing(node, destination).len(), if count == 1 { 1 } else { count + 1 }, "{destination}");
            }
        });
        assert!(found > 100 && lost == 0, "{destination}: {found} times a way, {lost} times none");
        let refusing = Route::all([route(destination, PROTOCOL_CLUSTER, Target::Unreachable)]);
        for state in [&by(3), &refusing, &by(2)] {
            assert_eq!(node.settle(state).len(), 1, "{destination}");
        }
        node.settle(&KernelState::default());
    }
}

#[test]
fn a_foreign_route_of_several_ways_in_the_way_survives_and_is_named() {
    let Some(mut node) = node() else { return };
    node.ip("route add 10.42.7.0/26 proto static metric 7777 nexthop via 192.0.2.55 dev under \
         nexthop via 198.51.100.55 dev second weight 3");
    node.ip("-6 route add fd42:0:0:7::/64 proto bird metric 7777 nexthop via 2001:db8::55 dev under \
         nexthop via 2001:db8:1::55 dev second");
    let before = ROUTES.map(|(destination, _)| standing(&node, destination));
    for _ in 0..2 {
        let outcome = node.reconcile(&desired(3));
        assert!(outcome.errors.iter().all(|error| error.errno() == Some(Errno::EEXIST)), "{:?}", outcome.errors);
        let texts: Vec<String> = outcome.errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 2, "{texts:?}");
        assert!(
            texts[0].ends_with("(taken by 10.42.7.0/26 via 192.0.2.55 dev under proto 4 metric 7777)"),
            "{}",
            texts[0]
        );
        let holder = "(taken by fd42:0:0:7::/64 proto 12 metric 7777 nexthop via 2001:db8::55 dev under \
                      nexthop via 2001:db8:1::55 dev second)";
        assert!(texts[1].ends_with(holder), "{}", texts[1]);
    }
    node.settle(&KernelState::default());
    assert_eq!(ROUTES.map(|(destination, _)| standing(&node, destination))[..2], before[..2]);
}

#[test]
fn ways_by_a_device_that_is_missing_are_one_error_and_the_route_is_not_made_by_the_others() {
    let Some(mut node) = node() else { return };
    let hop = |gateway: &str, device: &str| Hop { gateway: ip(gateway), device: name(device), onlink: true };
    let target = Target::by([hop("192.0.2.2", "under"), hop("192.0.2.3", "gone"), hop("192.0.2.4", "gone")]).unwrap();
    let state = Route::all([route("10.42.7.0/26", PROTOCOL_CLUSTER, target)]);
    let outcome = node.reconcile(&state);
    assert!(matches!(&outcome.errors[..], [Error::NoDevice { .. }]), "{:?}", outcome.errors);
    let text = outcome.errors[0].to_string();
    assert!(text.starts_with("add 10.42.7.0/26 proto 116") && text.ends_with("there is no device gone"), "{text}");
    assert!(!text.contains("other objects") && !outcome.routed, "{text}");
    assert_eq!(standing(&node, "10.42.7.0/26"), [""; 0]);
}

#[test]
fn a_route_by_a_device_that_goes_and_another_that_stays_is_changed_or_removed_before() {
    let Some(mut node) = node() else { return };
    let (local, remote) = super::UNDERLAYS[0];
    let plain = super::desired(local, remote);
    let by = |devices: &[(&str, &str)]| {
        let hop = |(gateway, device): &(&str, &str)| Hop { gateway: ip(gateway), device: name(device), onlink: true };
        let target = Target::by(devices.iter().map(hop)).unwrap();
        let destination = if devices[0].0.contains(':') { "fd42:0:0:7::/64" } else { "10.42.7.0/26" };
        route(destination, PROTOCOL_CLUSTER, target)
    };
    for ways in [
        [("10.42.7.0", super::VXLAN), ("192.0.2.2", "under")],
        [("fe80::ff:fe00:7", super::VXLAN), ("2001:db8::2", "under")],
    ] {
        let mut both = plain.clone();
        by(&ways).insert_into(&mut both.routes);
        node.settle(&both);
        // The device goes, and all else that is on it.
        let repairs = node.settle(&Route::all([by(&ways[1..])]));
        assert!(repairs.iter().any(|repair| repair.starts_with("changed route: ")), "{repairs:#?}");
        node.settle(&both);
        let repairs = node.settle(&KernelState::default());
        assert!(repairs.iter().any(|repair| repair.starts_with("removed route: ") && repair.contains("nexthop")));
    }
}

#[test]
fn several_ways_come_and_go_without_a_look_and_without_news_but_what_others_do_to_them_is() {
    let Some(mut node) = node() else { return };
    let (none, some) = (KernelState::default(), desired(3));
    let echoes: Arc<Echoes> = Arc::default();
    let mut monitor = node.monitor(&echoes);
    calm(&mut monitor);
    for (before, after) in [(&none, &some), (&some, &none), (&none, &some)] {
        let outcome = node.advance(before, after).unwrap();
        assert!(outcome.errors.is_empty() && outcome.routed, "{:?}", outcome.errors);
        assert_eq!(outcome.repairs.len(), 3, "{:#?}", outcome.repairs);
        assert_eq!(monitor.wait(Duration::from_millis(300)).unwrap(), Heard::default());
        assert!(node.reconcile(after).repairs.is_empty());
    }
    // What a look replaces is no news either; it is left to one.
    assert!(node.advance(&some, &desired(2)).is_none());
    assert_eq!(node.reconcile(&desired(2)).repairs.len(), 3);
    assert_eq!(monitor.wait(Duration::from_millis(300)).unwrap(), Heard::default());
    is_news(&node, &mut monitor, "ip -6 route del fd42:0:0:7::/64 via 2001:db8::3 dev under metric 7777");
    is_news(&node, &mut monitor, "ip route replace 10.42.7.0/26 via 192.0.2.2 dev under proto 116 metric 7777");
}

#[test]
fn ways_by_one_gateway_alone_are_a_plain_route() {
    let Some(mut node) = node() else { return };
    let state = desired(1);
    assert_eq!(state.routes.get(&route("10.42.7.0/26", 0, Target::Unreachable).key).unwrap().target, {
        via("192.0.2.2", "under", false)
    });
    node.settle(&state);
    assert_eq!(standing(&node, "10.42.8.0/26"), ["10.42.8.0/26 via inet6 2001:db8::2 dev under proto 116 metric 7777"]);
}

#[test]
fn of_several_values_of_a_sysctl_the_first_is_written_where_none_stands() {
    let Some(mut node) = Node::new() else { return };
    let policy = "net/ipv4/fib_multipath_hash_policy";
    let desired = KernelState { sysctls: [(policy.to_owned(), "1|2".to_owned())].into(), ..KernelState::default() };
    assert_eq!(node.settle(&desired), [format!("changed sysctl: {policy} = 1 (was 0)")]);
    node.namespace.must(&format!("echo 2 >/proc/sys/{policy}"));
    assert_eq!(node.settle(&desired), [""; 0], "somebody's own choice");
}
