//! Whole states of small clusters, written out.

use super::print::{firewall, print};
use super::sample::Sample;
use super::{desired, pod_mtu};

const POOLS: [&str; 2] = ["10.42.0.0/16", "fd42::/64"];

fn dual_stack() -> Sample {
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

#[test]
fn three_nodes_with_both_families() {
    let sample = dual_stack();
    let mut local = sample.local(1, &["10.42.1.1,fd42::101", "10.42.1.2"]);
    local.underlay.rp_filter = true;
    local.underlay.accept_ra = true;
    let desired = desired(&sample.view, &local);
    insta::assert_snapshot!("dual_stack", print(&desired));
    let rules: Vec<String> = firewall(&desired).iter().map(ToString::to_string).collect();
    insta::assert_snapshot!("dual_stack_firewall", rules.join("\n"));
    assert_eq!(pod_mtu(&sample.view, &local.underlay), 1450);
}

#[test]
fn ipv4_alone() {
    let sample = Sample::new(&["10.42.0.0/16"])
        .node(1, &["192.168.9.1/24"])
        .node(2, &["192.168.9.2/24", "fd09::2/64"])
        .block(1, "10.42.1.0/26")
        .block(2, "10.42.2.0/26");
    insta::assert_snapshot!(print(&desired(&sample.view, &sample.local(1, &["10.42.1.1"]))));
}

#[test]
fn both_families_over_an_ipv6_underlay() {
    let sample = Sample::new(&POOLS)
        .node(1, &["fd09::1/64"])
        .node(2, &["fd09::2/64"])
        .block(1, "10.42.1.0/26")
        .block(1, "fd42::100/122")
        .block(2, "10.42.2.0/26")
        .block(2, "fd42::200/122");
    let local = sample.local(1, &[]);
    insta::assert_snapshot!(print(&desired(&sample.view, &local)));
    assert_eq!(pod_mtu(&sample.view, &local.underlay), 1430);
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
    insta::assert_snapshot!(print(&afterwards));
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
    assert_eq!(pod_mtu(&after.view, &after.local(1, &[]).underlay), 1430);
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
fn each_pool_says_for_itself_whether_it_is_masqueraded() {
    let mut sample =
        Sample::new(&["10.42.0.0/16", "10.43.0.0/16", "fd42::/64", "fd43::/64"]).node(1, &["192.168.9.1/24"]);
    let pools = &mut sample.view.config.as_mut().unwrap().value.pools;
    (pools[0].masquerade, pools[3].masquerade) = (false, false);
    let rules: Vec<String> =
        firewall(&desired(&sample.view, &sample.local(1, &[]))).iter().map(ToString::to_string).collect();
    let set = |name: &str| rules.iter().find(|rule| rule.contains(&format!("\"{name}\""))).cloned().unwrap_or_default();
    for (name, has, lacks) in [("masqueraded4", "10.43.0.0", "10.42.0.0"), ("masqueraded6", "fd42::", "fd43::")] {
        assert!(set(name).contains(has) && !set(name).contains(lacks), "{name}: {}", set(name));
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
fn an_mtu_too_small_for_ipv6_is_reported_and_never_goes_below_1280() {
    let sample = dual_stack();
    let mut local = sample.local(1, &[]);
    local.underlay.mtu = 1300;
    let desired = desired(&sample.view, &local);
    assert!(
        desired.problems[0].starts_with("the MTU of eth0 is 1300, which leaves 1250 bytes"),
        "{:?}",
        desired.problems
    );
    assert_eq!(desired.state.links.values().next().unwrap().mtu, 1280);
    assert_eq!(pod_mtu(&sample.view, &local.underlay), 1280);
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
