//! From one desired state to the next without a look: what is made so is what a reconciliation would have made, and is no
//! news to a monitor that knows of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use twill_linux::monitor::{Echoes, Heard, Monitor};
use twill_linux::state::{FdbEntry, KernelState, Neighbour, Target};
use twill_linux::table::{self, Outcome, advance};

use super::lab::{ip, mac, name};
use super::{Node, PROTOCOL_CLUSTER, UNDERLAYS, VXLAN, desired, route, via};

/// With another node, which is reached as the first is.
pub(crate) fn and_another(mut state: KernelState, remote: &str) -> KernelState {
    let (device, peer) = (name(VXLAN), mac("02:00:00:00:00:03"));
    for address in ["10.42.3.0", "fe80::ff:fe00:3"] {
        state.neighbours.insert((device, ip(address)), Neighbour { device, ip: ip(address), mac: peer });
    }
    state.fdb.insert((device, peer), FdbEntry { device, mac: peer, remote: ip(remote) });
    route("10.42.3.0/26", PROTOCOL_CLUSTER, via("10.42.3.0", VXLAN, true)).insert_into(&mut state.routes);
    route("fd42:0:0:3::/64", PROTOCOL_CLUSTER, via("fe80::ff:fe00:3", VXLAN, false)).insert_into(&mut state.routes);
    route("10.42.4.0/26", PROTOCOL_CLUSTER, Target::Unreachable).insert_into(&mut state.routes);
    state
}

impl Node {
    pub(crate) fn advance(&mut self, before: &KernelState, after: &KernelState) -> Option<Outcome> {
        let links = table::links(&mut self.netlink).unwrap();
        advance(&mut self.netlink, &links, before, after).unwrap()
    }

    /// Opened when all addresses are usable: that they become so is news, too.
    /// `echoes` expects what the node does from now on.
    pub(crate) fn monitor(&mut self, echoes: &Arc<Echoes>) -> Monitor {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.ip("-6 addr show tentative").is_empty() {
            assert!(Instant::now() < deadline, "some addresses stay tentative");
        }
        self.netlink = self.namespace.netlink().expecting(echoes);
        self.namespace.open().run(|| Monitor::open(Arc::clone(echoes), Arc::default())).unwrap().unwrap()
    }
}

pub(crate) fn calm(monitor: &mut Monitor) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while monitor.wait(Duration::from_millis(300)).unwrap() != Heard::default() {
        assert!(Instant::now() < deadline, "it never gets quiet");
    }
}

#[test]
fn a_node_comes_moves_and_goes_without_a_look_and_without_news() {
    for (local, remote) in UNDERLAYS {
        let Some(mut node) = Node::new() else { return };
        let few = desired(local, remote);
        let more = and_another(few.clone(), remote);
        node.settle(&few);
        let echoes: Arc<Echoes> = Arc::default();
        let mut monitor = node.monitor(&echoes);
        calm(&mut monitor);

        let moved_to = if remote.contains(':') { "2001:db8::7" } else { "192.0.2.7" };
        let mut moved = more.clone();
        moved.fdb = moved.fdb.iter().map(|(key, entry)| (*key, FdbEntry { remote: ip(moved_to), ..*entry })).collect();
        for (before, after, changes) in
            [(&few, &more, 6), (&more, &more, 0), (&more, &moved, 2), (&moved, &more, 2), (&more, &few, 6)]
        {
            let outcome = node.advance(before, after).unwrap();
            assert!(outcome.errors.is_empty() && outcome.routed, "{:?}", outcome.errors);
            assert_eq!(outcome.repairs.len(), changes, "{:#?}", outcome.repairs);
            assert_eq!(monitor.wait(Duration::from_millis(300)).unwrap(), Heard::default());
            let look = node.reconcile(after);
            assert!(look.repairs.is_empty() && look.errors.is_empty(), "a look finds {look:?}");
        }
    }
}

/// A node to which another one has just come, or from which it has just gone, without a look.
fn advanced(comes: bool) -> Option<(Node, Arc<Echoes>, Monitor)> {
    let mut node = Node::new()?;
    let (local, remote) = UNDERLAYS[0];
    let few = desired(local, remote);
    let more = and_another(few.clone(), remote);
    let (before, after) = if comes { (few, more) } else { (more, few) };
    node.settle(&before);
    let echoes: Arc<Echoes> = Arc::default();
    let mut monitor = node.monitor(&echoes);
    node.advance(&before, &after).unwrap();
    calm(&mut monitor);
    Some((node, echoes, monitor))
}

pub(crate) fn is_news(node: &Node, monitor: &mut Monitor, change: &str) {
    node.namespace.must(change);
    assert!(monitor.wait(Duration::from_secs(10)).unwrap().network, "{change}");
    calm(monitor);
}

#[test]
fn what_somebody_does_to_an_object_just_made_is_news() {
    let Some((node, _, mut monitor)) = advanced(true) else { return };
    let changes = [
        "ip route del 10.42.3.0/26 proto 116 metric 7777",
        "ip -6 route del fd42:0:0:3::/64 proto 116 metric 7777",
        "ip neigh replace 10.42.3.0 dev vxlan.twill lladdr 02:00:00:00:00:66 nud permanent",
        "ip neigh del 10.42.3.0 dev vxlan.twill",
        "bridge fdb replace 02:00:00:00:00:03 dev vxlan.twill dst 192.0.2.66 self permanent",
        "bridge fdb del 02:00:00:00:00:03 dev vxlan.twill self",
    ];
    changes.iter().for_each(|change| is_news(&node, &mut monitor, change));
}

#[test]
fn an_object_just_removed_that_somebody_makes_again_is_news() {
    let Some((node, echoes, mut monitor)) = advanced(false) else { return };
    let changes = [
        "ip route add unreachable 10.42.4.0/26 proto 116 metric 7777",
        "ip neigh add 10.42.3.0 dev vxlan.twill lladdr 02:00:00:00:00:03 nud permanent",
        "bridge fdb add 02:00:00:00:00:03 dev vxlan.twill dst 192.0.2.2 self permanent",
    ];
    changes.iter().for_each(|change| is_news(&node, &mut monitor, change));
    echoes.forget();
    is_news(&node, &mut monitor, "ip route del unreachable 10.42.4.0/26 proto 116 metric 7777");
}

#[test]
fn what_a_look_repairs_is_no_news_either() {
    let Some(mut node) = Node::new() else { return };
    let (local, remote) = UNDERLAYS[0];
    let few = desired(local, remote);
    node.settle(&few);
    let echoes: Arc<Echoes> = Arc::default();
    let mut monitor = node.monitor(&echoes);
    calm(&mut monitor);
    assert_eq!(node.reconcile(&and_another(few, remote)).repairs.len(), 6);
    assert_eq!(monitor.wait(Duration::from_millis(300)).unwrap(), Heard::default());
}

#[test]
fn what_takes_a_look_is_left_alone() {
    let Some(mut node) = Node::new() else { return };
    let (local, remote) = UNDERLAYS[0];
    let before = desired(local, remote);
    node.settle(&before);
    let device = name(VXLAN);
    let route_moved = {
        let mut after = before.clone();
        route("10.42.2.0/26", PROTOCOL_CLUSTER, via("192.0.2.9", "under", false)).insert_into(&mut after.routes);
        after
    };
    let mut link = before.clone();
    link.links.get_mut(&device).unwrap().mtu = 1400;
    let mut address = before.clone();
    address.addresses.pop_first();
    let mut sysctl = before.clone();
    sysctl.sysctls.insert(format!("net/ipv4/conf/{VXLAN}/rp_filter"), "0".to_owned());
    let mut absent = before.clone();
    route("10.42.9.0/26", PROTOCOL_CLUSTER, via("10.42.9.0", "nowhere", true)).insert_into(&mut absent.routes);
    let cases = BTreeMap::from([
        ("a route leads elsewhere", route_moved),
        ("a device changes", link),
        ("an address goes", address),
        ("a sysctl changes", sysctl),
        ("a device is not there", absent),
    ]);
    for (case, after) in cases {
        assert!(node.advance(&before, &after).is_none(), "{case}");
        assert!(node.reconcile(&before).repairs.is_empty(), "{case}: nothing was changed");
    }
}

#[test]
fn a_foreign_route_in_the_way_is_an_error_and_survives() {
    let Some(mut node) = Node::new() else { return };
    let (local, remote) = UNDERLAYS[0];
    let few = desired(local, remote);
    let more = and_another(few.clone(), remote);
    node.settle(&few);
    node.ip("route add 10.42.3.0/26 via 192.0.2.66 metric 7777");
    let outcome = node.advance(&few, &more).unwrap();
    assert_eq!(outcome.errors.len(), 1, "{:?}", outcome.errors);
    assert!(!outcome.routed);
    assert!(node.ip("route show 10.42.3.0/26").contains("192.0.2.66"));
}
