//! Whole states of small clusters, written out.

use std::collections::BTreeSet;

use twill_cluster::record::Path;
use twill_conf::cluster::{ChecksumOffload, Kind, Vxlan};

use twill_linux::state::{Hop, LinkKind, METRIC, RouteKey, Spared, Target};

use super::print::{firewall, print};
use super::sample::{Sample, name};
use super::scenarios::{self, POOLS, Scenario, dual_stack, named};
use super::{Desired, IfName, Learned, Reckoning, Spoken, Underlay, View, desired, judge};
use crate::backend::VxlanUse;
use crate::family::Family;
use crate::mtu::Mtus;

fn pod_mtu(view: &View, local: &twill_conf::NodeName, underlay: &Underlay) -> u32 {
    Mtus::default().follow(view, local, underlay).pods
}

#[test]
fn each_cluster_comes_to_what_is_written_down() {
    for scenario in scenarios::all() {
        insta::assert_snapshot!(scenario.name, print(&scenario.desired()));
    }
}

#[test]
fn the_firewall_of_three_nodes_with_both_families() {
    let rules: Vec<String> = firewall(&named("dual_stack").desired()).iter().map(ToString::to_string).collect();
    insta::assert_snapshot!("dual_stack_firewall", rules.join("\n"));
}

#[test]
fn pods_get_what_the_back_end_leaves_of_the_underlays_mtu() {
    for (name, mtu) in [
        ("dual_stack", 1450),
        ("both_families_over_an_ipv6_underlay", 1430),
        ("mixed_underlays", 1430),
        ("vxlan_direct", 1450),
        ("vxlan_direct_ipv6", 1430),
        ("host_gw", 1500),
        ("host_gw_ipv6", 1500),
        ("bgp", 1500),
    ] {
        let Scenario { sample, local, .. } = named(name);
        assert_eq!(pod_mtu(&sample.view, &local.name, &local.underlay), mtu, "{name}");
    }
}

#[test]
fn a_pods_small_mtu_takes_no_ipv6_from_its_host_end() {
    let sample = dual_stack();
    let mut local = sample.local(1, &["10.42.1.1,fd42::101", "10.42.1.2"]);
    local.pods.iter_mut().for_each(|pod| pod.mtu = 1200);
    let mtus: Vec<u32> = desired(&sample.view, &local).state.ends.values().map(|end| end.mtu).collect();
    assert_eq!(mtus, [1280, 1200]);
}

#[test]
fn under_bgp_what_was_learned_counts_and_plain_routes_are_for_what_was_not() {
    let with =
        |kind| dual_stack().node(4, &["192.168.10.4/24"]).block(4, "10.42.4.0/26").backend(kind).without_tunnels();
    let follow = |kind, learned: &Learned| {
        let sample = with(kind);
        Reckoning::default().follow(&sample.view, &sample.local(1, &["10.42.1.1,fd42::101"]), learned)
    };
    let nothing = Learned::default();
    let [plain, alone] = [Kind::HostGw, Kind::Bgp].map(|kind| follow(kind, &nothing));
    assert_eq!(alone.state, plain.state);
    assert_eq!(alone.problems, [""; 0], "where n4 is, BGP knows");

    let device = IfName::new("eth1").unwrap();
    let router = Target::Gateway { gateway: [192, 168, 8, 9].into(), device, onlink: false };
    let destinations = ["10.42.2.0/26", "10.42.4.0/26", "203.0.113.0/24"].map(|prefix| prefix.parse().unwrap());
    let learned = Learned {
        routes: destinations.iter().map(|destination| (*destination, router.clone())).collect(),
        awaited: [Family::V6].into(),
        exits: [(device, true)].into(),
    };
    let leads = |desired: &Desired| {
        destinations.map(|destination| {
            let key = RouteKey { destination, metric: METRIC };
            desired.state.routes.get(&key).is_some_and(|route| route.target == router)
        })
    };
    let [beside, under] = [Kind::HostGw, Kind::Bgp].map(|kind| follow(kind, &learned));
    assert_eq!((leads(&beside), leads(&under)), ([false, true, true], [true; 3]));
    assert_eq!(under.state.routes.len(), plain.state.routes.len() + 2);
    assert_eq!(under.state.sysctls.get("net/ipv4/conf/eth1/rp_filter").map(String::as_str), Some("2"));
    assert_eq!(under.ours.spared, Spared { ipv4: false, ipv6: true });

    // Flows are spread by their ports where, and as long as, a route leads several ways.
    let policies = |desired: &Desired| {
        let policy = |ip: &str| desired.state.sysctls.contains_key(&format!("net/{ip}/fib_multipath_hash_policy"));
        ["ipv4", "ipv6"].map(policy)
    };
    let hop = |last| Hop { gateway: [192, 168, 8, last].into(), device, onlink: false };
    let both = Target::by([hop(8), hop(9)]).unwrap();
    let spread = Learned { routes: learned.routes.update(destinations[0], both), ..learned.clone() };
    let sample = with(Kind::Bgp);
    let local = sample.local(1, &["10.42.1.1,fd42::101"]);
    let mut reckoning = Reckoning::default();
    let mut then = |learned| policies(&reckoning.follow(&sample.view, &local, learned));
    assert_eq!(
        [then(&learned), then(&spread), then(&spread), then(&learned)].map(|[ipv4, _]| ipv4),
        [false, true, true, false]
    );
    assert_eq!(then(&spread), [true, false]);

    // Of which of them its word is newer than a view from the disk, also when it takes them back.
    for (kind, expected) in [(Kind::HostGw, &destinations[2..]), (Kind::Bgp, &destinations[..])] {
        let (mut spoken, sample) = (Spoken::default(), with(kind));
        [&learned, &nothing].into_iter().for_each(|learned| spoken.follow(&sample.view, learned));
        assert_eq!(spoken.keys().iter().map(|key| key.destination).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn which_way_leads_to_a_node_is_decided_anew_when_its_address_changes() {
    let Scenario { sample, local, .. } = named("vxlan_direct");
    let moved = sample.but(4, |record| record.value.underlay.ipv4 = Some("192.168.9.4/24".parse().unwrap()));
    let routes = routes(&desired(&moved.view, &local));
    assert!(routes.iter().any(|route| route.starts_with("route 10.42.4.0/26 via 192.168.9.4 dev eth0 ")), "{routes:?}");
}

#[test]
fn host_gw_names_the_nodes_that_are_on_another_subnet_and_reaches_the_others() {
    let sample = dual_stack()
        .node(4, &["192.168.10.4/24", "fd10::4/64"])
        .node(5, &["192.168.9.5/24"])
        .block(4, "10.42.4.0/26")
        .block(5, "10.42.5.0/26")
        .block(5, "fd42::500/122")
        .backend(Kind::HostGw);
    let desired = desired(&sample.view, &sample.local(1, &[]));
    let wanted = [
        "node n4 (192.168.10.4/24 and fd10::4/64) is not on this node's subnet: host-gw does not reach it",
        "node n5 has no IPv6 underlay address: host-gw cannot reach its IPv6 blocks",
    ];
    assert_eq!(desired.problems, wanted);
    assert_eq!(
        routes(&desired).iter().filter(|route| route.contains(" via ")).count(),
        6,
        "n2 has three, n3 two, n5 one"
    );
    let wanted = |family, names| {
        format!(
            "host-gw reaches only nodes on the same subnet, and for {family} these are not on that of the others: {names}: \
             give them addresses there, or take vxlan, which may have direct = true"
        )
    };
    assert_eq!(judge(&sample.view), [wanted("IPv4", "n4"), wanted("IPv6", "n4, n5")]);
}

/// The records that say by which ways a node sends and receives, and what node 1 makes of them.
#[test]
fn a_node_sends_by_the_tunnel_when_it_has_said_so_and_the_other_says_that_it_receives() {
    let path = |tunnels| Some(Path { tunnels, mtu: 1500, pods: 1500 });
    for (says, receives, tunnelled) in [(false, true, false), (true, false, false), (true, true, true)] {
        let sample = dual_stack().but(1, |record| record.value.path = path(says)).but(2, |record| {
            record.value.path = path(true);
            record.value.vxlan = record.value.vxlan.take().filter(|_| receives);
        });
        let desired = desired(&sample.view, &sample.local(1, &[]));
        let found =
            routes(&desired).iter().any(|route| route.starts_with("route 10.42.2.0/26 via 10.42.2.0 dev vxlan"));
        assert_eq!(found, tunnelled, "says {says}, receives {receives}: {:?}", routes(&desired));
        assert_eq!(desired.vxlan, VxlanUse { receives: Some((7777, 4789)), sends: true, needed: true });
        assert_eq!(desired.problems, [""; 0]);
    }
}

#[test]
fn a_node_keeps_its_tunnel_under_host_gw_for_as_long_as_its_record_promises_it() {
    let quiet = |sample: Sample, number| {
        sample.but(number, |record| record.value.path = Some(Path { tunnels: false, mtu: 1500, pods: 0 }))
    };
    let sample = quiet(quiet(dual_stack().backend(Kind::HostGw), 1), 2);
    let still = desired(&sample.view, &sample.local(1, &[]));
    assert_eq!(still.vxlan, VxlanUse { receives: Some((7777, 4789)), sends: false, needed: true }, "n3 may send");
    assert!(routes(&still).iter().all(|route| !route.contains("vxlan")), "all its routes are plain");
    assert_eq!(still.state.fdb.len(), 2);
    assert_eq!(pod_mtu(&sample.view, &name(1), &sample.local(1, &[]).underlay), 1450, "the others still tunnel");
    let sample = quiet(sample, 3);
    assert_eq!(desired(&sample.view, &sample.local(1, &[])).vxlan, VxlanUse { needed: false, ..still.vxlan });
    let sample = sample.but(1, |record| record.value.vxlan = None);
    let gone = desired(&sample.view, &sample.local(1, &[]));
    assert_eq!((gone.vxlan.receives, gone.state.links.len(), gone.state.fdb.len()), (None, 0, 0));
    assert_eq!(gone.ours.devices, still.ours.devices, "what is left of it is removed");
}

#[test]
fn pods_get_no_more_than_the_configured_mtu() {
    let with = |mtu, kind| {
        let mut sample = dual_stack().backend(kind);
        sample.view.config.as_mut().unwrap().value.backend.mtu = Some(mtu);
        let local = sample.local(1, &[]);
        (pod_mtu(&sample.view, &local.name, &local.underlay), desired(&sample.view, &local).problems)
    };
    assert_eq!(with(1400, Kind::HostGw), (1400, Vec::new()));
    assert_eq!(with(1450, Kind::Vxlan(Vxlan::default())), (1450, Vec::new()));
    let (mtu, problems) = with(1451, Kind::Vxlan(Vxlan::default()));
    assert_eq!(mtu, 1450);
    assert_eq!(
        problems,
        ["the configuration's mtu is 1451, and eth0 with its MTU of 1500 leaves 1450 bytes for pods: they get these"]
    );
}

#[test]
fn the_tunnels_checksums_are_left_to_the_kernel_unless_told_otherwise() {
    for (wanted, found) in [
        (ChecksumOffload::Auto, None),
        (ChecksumOffload::On, Some("offload vxlan.twill tx on")),
        (ChecksumOffload::Off, Some("offload vxlan.twill tx off")),
    ] {
        let sample = dual_stack().backend(Kind::Vxlan(Vxlan { checksum_offload: wanted, ..Vxlan::default() }));
        let lines = super::print::objects(&desired(&sample.view, &sample.local(1, &[])).state);
        assert_eq!(lines.iter().find(|line| line.starts_with("offload")).map(String::as_str), found);
    }
}

fn routes(desired: &crate::Desired) -> Vec<String> {
    super::print::objects(&desired.state).into_iter().filter(|line| line.starts_with("route ")).collect()
}

#[test]
fn a_node_without_a_tunnel_address_is_awaited_while_it_is_new_and_reported_afterwards() {
    let mut sample = dual_stack().but(2, |record| {
        record.value.tunnel.ipv4 = None;
        record.modified = record.created;
    });
    let while_new = desired(&sample.view, &sample.local(1, &[]));
    assert_eq!(while_new.problems, [""; 0]);
    sample = sample.but(2, |record| record.modified += 1);
    let afterwards = desired(&sample.view, &sample.local(1, &[]));
    assert_eq!(while_new.state, afterwards.state);
    assert_eq!(afterwards.problems, named("a_node_without_a_tunnel_address").desired().problems);
    assert_eq!(afterwards.problems.len(), 2, "its IPv4 blocks");
}

#[test]
fn one_ipv6_node_among_dual_ones_gets_a_device_and_changes_nothing_for_the_others() {
    let before = dual_stack();
    let after = dual_stack().node(4, &["fd09::4/64"]).block(4, "10.42.4.0/26").block(4, "fd42::400/122");
    let (old, new) =
        (desired(&before.view, &before.local(1, &[])).state, desired(&after.view, &after.local(1, &[])).state);
    let kept: Vec<String> = super::print::objects(&old);
    let all = super::print::objects(&new);
    assert!(kept.iter().all(|line| all.contains(line)), "something that stood was taken away");
    let added: Vec<&str> = all.iter().filter(|line| !kept.contains(line)).map(String::as_str).collect();
    insta::assert_snapshot!(added.join("\n"));
    assert_eq!(pod_mtu(&after.view, &name(1), &after.local(1, &[]).underlay), 1430);
}

#[test]
fn a_disabled_pool_and_one_for_other_nodes_are_the_clusters_as_any_other() {
    let sample = || {
        Sample::new(&["10.42.0.0/16", "10.43.0.0/16", "fd42::/64", "fd43::/64"])
            .node(1, &["192.168.9.1/24", "fd09::1/64"])
            .node(2, &["192.168.9.2/24", "fd09::2/64"])
            .block(1, "10.42.1.0/26")
            .block(1, "fd43::100/122")
            .block(2, "10.43.2.0/26")
            .block(2, "fd42::200/122")
    };
    let mut other = sample();
    let pools = &mut other.view.config.as_mut().unwrap().value.pools;
    (pools[1].disabled, pools[3].disabled) = (true, true);
    pools[0].nodes = Some("zone == 'a'".parse().unwrap());
    pools[2].reserved = vec!["fd42::200/122".parse().unwrap()];
    let plain = sample();
    let (before, after) = (
        desired(&plain.view, &plain.local(1, &["10.42.1.1,fd43::101"])),
        desired(&other.view, &other.local(1, &["10.42.1.1,fd43::101"])),
    );
    assert_eq!(before, after, "what stands goes on, whatever is given from now on");
    let rules: Vec<String> = firewall(&after).iter().map(ToString::to_string).collect();
    let set = |name: &str| rules.iter().find(|rule| rule.contains(&format!("\"{name}\""))).cloned().unwrap_or_default();
    for (name, ranges) in [("inside4", ["10.42.0.0", "10.43.0.0"]), ("inside6", ["fd42::", "fd43::"])] {
        assert!(ranges.iter().all(|range| set(name).contains(range)), "{name}: {}", set(name));
    }
}

#[test]
fn a_node_that_shares_no_family_is_named_and_the_others_work() {
    let sample = Sample::new(&POOLS)
        .node(1, &["192.168.9.1/24"])
        .node(2, &["192.168.9.2/24"])
        .node(3, &["fd09::3/64"])
        .block(2, "10.42.2.0/26")
        .block(3, "10.42.3.0/26");
    let desired = desired(&sample.view, &sample.local(1, &[]));
    assert_eq!(desired.problems, ["node n3 cannot be reached: it has no underlay address of our family"]);
    assert_eq!(desired.state.fdb.len(), 1);
}

#[test]
fn families_on_two_interfaces_have_each_its_own_mtu_sysctls_and_guard() {
    let sample = dual_stack().node(4, &["fd09::4/64"]);
    let mut local = sample.local(1, &[]);
    let side = local.underlay.ipv6.as_mut().unwrap();
    (side.device, side.index, side.mtu) = (IfName::new("eth1").unwrap(), 3, 1400);
    assert_eq!(pod_mtu(&sample.view, &local.name, &local.underlay), 1330, "the least over all nodes");
    let desired = desired(&sample.view, &local);
    let mtus: Vec<u32> = desired.state.links.values().map(|link| link.mtu).collect();
    assert_eq!(mtus, [1450, 1330]);
    for device in ["eth0", "eth1"] {
        assert_eq!(desired.state.sysctls[&format!("net/ipv4/conf/{device}/send_redirects")], "0");
    }
    let rules: Vec<String> = firewall(&desired).iter().map(ToString::to_string).collect();
    for (index, set) in [(2, "@nodes4"), (3, "@nodes6")] {
        let guard = |rule: &&String| rule.contains(r#""chain":"vxlan-in""#) && rule.contains(set);
        assert!(rules.iter().find(guard).unwrap().contains(&format!(r#""right":{index}"#)), "{rules:#?}");
    }
}

#[test]
fn a_tunnel_changes_its_family_when_others_know_of_it() {
    let before = dual_stack().but(1, |record| record.value.underlay.ipv4 = None);
    let local = dual_stack().local(1, &[]);
    let by = |sample: &Sample| -> BTreeSet<bool> {
        let state = desired(&sample.view, &local).state;
        let remotes = state.fdb.values().map(|entry| entry.remote.is_ipv4());
        let LinkKind::Vxlan { local, .. } = state.links.values().next().unwrap().kind;
        remotes.chain([local.is_ipv4()]).collect()
    };
    assert_eq!(by(&before), [false].into(), "others still know it by IPv6 alone");
    assert_eq!(by(&dual_stack()), [true].into());
    let lost = dual_stack().but(1, |record| record.value.underlay.ipv6 = None);
    let mut without = local.clone();
    without.underlay.ipv4 = None;
    assert!(!desired(&lost.view, &without).state.fdb.is_empty(), "what it has now is all that is left");
}

#[test]
fn where_packets_may_go_as_they_are_the_mtu_is_that_of_either_familys_interface() {
    let direct = || Kind::Vxlan(Vxlan { direct: true, ..Vxlan::default() });
    let mtu_of = |sample: &Sample| {
        let mut local = sample.local(1, &[]);
        let side = local.underlay.ipv6.as_mut().unwrap();
        (side.device, side.index, side.mtu) = (IfName::new("eth1").unwrap(), 3, 1400);
        pod_mtu(&sample.view, &local.name, &local.underlay)
    };
    assert_eq!(mtu_of(&dual_stack()), 1450, "by IPv4 in the tunnel alone");
    assert_eq!(mtu_of(&dual_stack().backend(direct())), 1400);
    assert_eq!(mtu_of(&dual_stack().backend(Kind::HostGw)), 1400, "though its own end of a tunnel still stands");
    assert_eq!(mtu_of(&dual_stack().backend(Kind::HostGw).without_tunnels()), 1400);
}

#[test]
fn an_mtu_too_small_for_ipv6_is_reported_and_never_goes_below_1280() {
    let sample = dual_stack();
    let mut local = sample.local(1, &[]);
    local.underlay.ipv4.as_mut().unwrap().mtu = 1300;
    let desired = desired(&sample.view, &local);
    assert!(
        desired.problems[0].starts_with("the MTU of eth0 is 1300, which leaves 1250 bytes"),
        "{:?}",
        desired.problems
    );
    assert_eq!(desired.state.links.values().next().unwrap().mtu, 1280);
    assert_eq!(pod_mtu(&sample.view, &local.name, &local.underlay), 1280);
}

#[test]
fn without_a_configuration_pods_stand_and_the_devices_are_let_be() {
    let mut sample = dual_stack();
    sample.view.config = None;
    let desired = desired(&sample.view, &sample.local(1, &["10.42.1.1"]));
    assert!(desired.ours.devices.is_empty());
    assert_eq!(desired.state.firewall, None);
    assert_eq!(desired.state.neighbours.len(), 1);
    assert_eq!(desired.problems, ["the cluster has no configuration: this node reaches no other"]);
}

#[test]
fn a_pool_that_is_not_masqueraded_is_inside_all_the_same() {
    let mut sample = dual_stack();
    sample.view.config.as_mut().unwrap().value.pools[0].masquerade = false;
    let text = print(&desired(&sample.view, &sample.local(1, &[])));
    assert!(text.contains("set masqueraded4 \n"), "{text}");
    assert!(text.contains(r#"set inside4 [{"prefix":{"addr":"10.42.0.0","len":16}}]"#), "{text}");
}
