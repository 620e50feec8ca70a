//! Small clusters of each back end, family and kind of underlay, as their node 1 sees them. What each comes to is
//! written down (`golden`), and it comes to that in whatever order its records arrive (`orders`).

use ipnetwork::IpNetwork;
use twill_conf::cluster::{Kind, Vxlan};
use twill_linux::IfName;
use twill_linux::state::{Hop, Target};

use super::sample::Sample;
use super::{Desired, Learned, Local, Reckoning};
use crate::family::Family;

pub(super) const POOLS: [&str; 2] = ["10.42.0.0/16", "fd42::/64"];

/// A cluster, and what else node 1 knows.
pub(super) struct Scenario {
    /// The name of what is written down.
    pub(super) name: &'static str,
    pub(super) sample: Sample,
    pub(super) local: Local,
    pub(super) learned: Learned,
}

impl Scenario {
    fn new(name: &'static str, sample: Sample, pods: &[&str]) -> Self {
        let local = sample.local(1, pods);
        Self { name, sample, local, learned: Learned::default() }
    }

    /// On an underlay that filters by the way back, and has its default route from advertisements.
    fn filtered(mut self) -> Self {
        for side in [&mut self.local.underlay.ipv4, &mut self.local.underlay.ipv6].into_iter().flatten() {
            (side.rp_filter, side.accept_ra) = (true, true);
        }
        self
    }

    /// Where BGP has learned these routes, which lead out of eth1.
    fn learned(mut self, routes: &[(&str, &[&str])]) -> Self {
        let device = IfName::new("eth1").unwrap();
        let hop = |gateway: &&str| Hop { gateway: gateway.parse().unwrap(), device, onlink: false };
        let route = |(prefix, gateways): &(&str, &[&str])| {
            (prefix.parse::<IpNetwork>().unwrap(), Target::by(gateways.iter().map(hop)).unwrap())
        };
        let routes = routes.iter().map(route).collect();
        self.learned = Learned { routes, awaited: [Family::V6].into(), exits: [(device, true)].into() };
        self
    }

    /// What shall stand.
    pub(super) fn desired(&self) -> Desired {
        Reckoning::default().follow(&self.sample.view, &self.local, &self.learned)
    }
}

/// The one of that name.
pub(super) fn named(name: &str) -> Scenario {
    all().into_iter().find(|scenario| scenario.name == name).unwrap()
}

/// All of them.
pub(super) fn all() -> Vec<Scenario> {
    [by_tunnels(), by_either(), by_plain_routes(), by_bgp()].into_iter().flatten().collect()
}

fn by_tunnels() -> Vec<Scenario> {
    let ipv4_alone = Sample::new(&POOLS[..1])
        .node(1, &["192.168.9.1/24"])
        .node(2, &["192.168.9.2/24", "fd09::2/64"])
        .block(1, "10.42.1.0/26")
        .block(2, "10.42.2.0/26");
    let one_family = Sample::new(&POOLS[..1])
        .node(1, &["fd09::1/64"])
        .node(2, &["fd09::2/64"])
        .block(1, "10.42.1.0/26")
        .block(2, "10.42.2.0/26");
    let both_families = Sample::new(&POOLS)
        .node(1, &["fd09::1/64"])
        .node(2, &["fd09::2/64"])
        .block(1, "10.42.1.0/26")
        .block(1, "fd42::100/122")
        .block(2, "10.42.2.0/26")
        .block(2, "fd42::200/122");
    let nowhere = dual_stack().but(2, |record| record.value.tunnel.ipv4 = None);
    vec![
        Scenario::new("dual_stack", dual_stack(), &["10.42.1.1,fd42::101", "10.42.1.2"]).filtered(),
        Scenario::new("ipv4_alone", ipv4_alone, &["10.42.1.1"]),
        Scenario::new("one_family_over_an_ipv6_underlay", one_family, &["10.42.1.1"]),
        Scenario::new("both_families_over_an_ipv6_underlay", both_families, &[]),
        Scenario::new("mixed_underlays", mixed_underlays(), &["10.42.1.1,fd42::101"]),
        Scenario::new("a_node_without_a_tunnel_address", nowhere, &[]),
        Scenario::new("records_at_odds", at_odds(), &["10.42.1.1"]),
    ]
}

/// By plain routes to nodes on the same subnet, and by tunnels to the others.
fn by_either() -> Vec<Scenario> {
    let direct = || Kind::Vxlan(Vxlan { direct: true, ..Vxlan::default() });
    let subnets = dual_stack()
        .node(4, &["192.168.10.4/24", "fd10::4/64"])
        .node(5, &["192.168.9.5/24", "fd10::5/64"])
        .block(4, "10.42.4.0/26")
        .block(4, "fd42::400/122")
        .block(5, "10.42.5.0/26")
        .block(5, "fd42::500/122");
    let of_ipv6 = (1..=3).fold(Sample::new(&POOLS), |sample, number| {
        let subnet = if number == 3 { "fd10" } else { "fd09" };
        sample
            .node(number, &[&format!("{subnet}::{number}/64")])
            .block(number, &format!("10.42.{number}.0/26"))
            .block(number, &format!("fd42::{number}00/122"))
    });
    vec![
        Scenario::new("vxlan_direct", subnets.backend(direct()), &["10.42.1.1,fd42::101"]),
        Scenario::new("vxlan_direct_ipv6", of_ipv6.backend(direct()), &["10.42.1.1,fd42::101"]),
        Scenario::new("vxlan_direct_mixed_underlays", mixed_underlays().backend(direct()), &[]),
    ]
}

fn by_plain_routes() -> Vec<Scenario> {
    let plain = |sample: Sample| sample.backend(Kind::HostGw).without_tunnels();
    let of_ipv6 = Sample::new(&POOLS)
        .node(1, &["fd09::1/64"])
        .node(2, &["fd09::2/64"])
        .block(1, "10.42.1.0/26")
        .block(2, "10.42.2.0/26")
        .block(2, "fd42::200/122");
    vec![
        Scenario::new("host_gw", plain(dual_stack()), &["10.42.1.1,fd42::101"]),
        Scenario::new("host_gw_ipv6", plain(of_ipv6), &[]),
        Scenario::new("host_gw_mixed_underlays", plain(mixed_underlays()), &[]),
    ]
}

fn by_bgp() -> Vec<Scenario> {
    let with = |name| {
        let sample = dual_stack().node(4, &["192.168.10.4/24"]).block(4, "10.42.4.0/26");
        Scenario::new(name, sample.backend(Kind::Bgp).without_tunnels(), &["10.42.1.1,fd42::101"])
    };
    let learned: [(&str, &[&str]); 4] = [
        ("10.42.2.0/26", &["192.168.8.9"]),
        ("10.42.4.0/26", &["192.168.8.8", "192.168.8.9"]),
        ("203.0.113.0/24", &["192.168.8.9"]),
        ("fd42::200/122", &["fd08::9"]),
    ];
    vec![with("bgp_before_it_has_learned"), with("bgp").learned(&learned)]
}

pub(super) fn dual_stack() -> Sample {
    Sample::new(&POOLS)
        .node(1, &["192.168.9.1/24", "fd09::1/64"])
        .node(2, &["192.168.9.2/24", "fd09::2/64"])
        .node(3, &["192.168.9.3/24", "fd09::3/64"])
        .block(1, "10.42.1.0/26")
        .block(1, "fd42::100/122")
        .block(2, "10.42.2.0/26")
        .block(2, "10.42.2.64/26")
        .block(2, "fd42::200/122")
        .block(3, "10.42.3.0/26")
        .block(3, "fd42::300/122")
}

/// With a node that has only IPv6 there, and one that has only IPv4.
fn mixed_underlays() -> Sample {
    dual_stack()
        .node(4, &["fd09::4/64"])
        .node(5, &["192.168.9.5/24"])
        .block(4, "10.42.4.0/26")
        .block(4, "fd42::400/122")
        .block(5, "10.42.5.0/26")
        .block(5, "fd42::500/122")
}

/// With a node that has another's address and a block around that node's; and with one that has a block outside of all
/// pools, and this node's tunnel address.
fn at_odds() -> Sample {
    dual_stack()
        .node(5, &["192.168.9.2/24"])
        .block(5, "10.42.2.0/24")
        .block(3, "192.0.2.0/26")
        .but(3, |record| record.value.tunnel.ipv4 = Some([10, 42, 1, 0].into()))
}
