//! The table of nftables that a node gets: which rules and chains stand by which configuration.

use twill_cluster::record::VxlanEnd;
use twill_conf::cluster::{Bgp, ClusterConf, FirewallConf, Kind};

use super::desired;
use super::print::{firewall, print};
use super::sample::{Sample, mac};
use super::scenarios::dual_stack;
use crate::Local;

#[test]
fn a_pod_without_spoof_check_is_in_a_set_that_is_there_for_it_alone() {
    let sample = dual_stack();
    let mut local = sample.local(1, &["10.42.1.1,fd42::101", "10.42.1.2"]);
    let rules = |local: &Local| -> Vec<String> {
        firewall(&desired(&sample.view, local)).iter().map(ToString::to_string).collect()
    };
    let before = rules(&local);
    local.pods[1].unchecked = true;
    let after = rules(&local);
    let added: Vec<_> = after.iter().filter(|rule| !before.contains(rule)).cloned().collect();
    assert_eq!(after.len(), before.len() + 2, "a set, a rule against forged tunnels, and one rule that is another");
    insta::assert_snapshot!("unchecked", added.join("\n"));
    let sysctls = desired(&sample.view, &local).state.sysctls;
    assert_eq!(sysctls.get("net/ipv4/conf/tw0000000000002/rp_filter").map(String::as_str), Some("0"));
    assert_eq!(sysctls.get("net/ipv4/conf/tw0000000000001/rp_filter"), None);
}

#[test]
fn rules_look_at_sources_unless_every_host_end_has_a_filter() {
    let sample = dual_stack();
    let local = sample.local(1, &["10.42.1.1,fd42::101", "10.42.1.2"]);
    let rules = |local: &Local| -> Vec<String> {
        firewall(&desired(&sample.view, local)).iter().map(ToString::to_string).collect()
    };
    let with = rules(&local);
    let without = rules(&Local { unfiltered: false, ..local });
    let spared: Vec<_> = with.into_iter().filter(|rule| !without.contains(rule)).collect();
    insta::assert_snapshot!("unfiltered", spared.join("\n"));
}

#[test]
fn a_speaker_of_bgp_is_guarded_against_pods_by_a_rule_for_each_of_its_ports() {
    let mut sample = dual_stack();
    let local = sample.local(1, &["10.42.1.1,fd42::101"]);
    let rules = |sample: &Sample| -> Vec<String> {
        firewall(&desired(&sample.view, &local)).iter().map(ToString::to_string).collect()
    };
    let before = rules(&sample);
    sample.view.config.as_mut().unwrap().value.bgp = Some(Bgp { port: 1179, ..Bgp::default() });
    let after = rules(&sample);
    let added: Vec<_> = after.iter().filter(|rule| !before.contains(rule)).cloned().collect();
    assert_eq!(after.len(), before.len() + 3);
    insta::assert_snapshot!("speaker", added.join("\n"));
}

#[test]
fn networks_that_are_not_masqueraded_are_inside_and_segments_are_clamped_where_that_is_asked_for() {
    let mut sample = dual_stack();
    let plain: Vec<String> =
        firewall(&desired(&sample.view, &sample.local(1, &[]))).iter().map(ToString::to_string).collect();
    assert!(!plain.iter().any(|rule| rule.contains("maxseg")));
    sample.view.config.as_mut().unwrap().value.firewall = FirewallConf {
        no_masquerade: ["192.0.2.0/24", "10.0.0.0/8", "2001:db8::/32"].map(|text| text.parse().unwrap()).into(),
        clamp_mss: true,
        open_forward: false,
    };
    let text = print(&desired(&sample.view, &sample.local(1, &[])));
    let inside4 = r#"set inside4 [{"prefix":{"addr":"10.0.0.0","len":8}},{"prefix":{"addr":"192.0.2.0","len":24}}]"#;
    assert!(text.contains(inside4), "the pool is within one of them: {text}");
    assert!(text.contains(r#"{"prefix":{"addr":"2001:db8::","len":32}}"#), "{text}");
    let rules: Vec<String> =
        firewall(&desired(&sample.view, &sample.local(1, &[]))).iter().map(ToString::to_string).collect();
    assert_eq!(rules.iter().filter(|rule| rule.contains("maxseg")).count(), 2);
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
fn a_chain_stands_only_where_it_has_rules() {
    let chains_with = |sample: &Sample, local: &Local| -> Vec<String> {
        let rules = firewall(&desired(&sample.view, local));
        let chains = rules.iter().filter_map(|object| object.get("chain"));
        chains.map(|chain| chain["name"].as_str().unwrap().to_owned()).collect()
    };
    let chains = |sample: &Sample| chains_with(sample, &sample.local(1, &[]));
    fn conf(sample: &mut Sample) -> &mut ClusterConf {
        &mut sample.view.config.as_mut().unwrap().value
    }
    let mut plain = dual_stack().backend(Kind::HostGw).without_tunnels();
    assert_eq!(chains(&plain), ["prerouting", "postrouting"]);
    let filtered = Local { unfiltered: false, ..plain.local(1, &[]) };
    assert_eq!(chains_with(&plain, &filtered), ["postrouting"]);
    let mut unchecked = plain.local(1, &["10.42.1.1,fd42::101"]);
    unchecked.pods[0].unchecked = true;
    assert_eq!(chains_with(&plain, &unchecked), ["prerouting", "postrouting", "vxlan-in"], "others may have tunnels");
    conf(&mut plain).firewall.clamp_mss = true;
    assert_eq!(chains(&plain), ["prerouting", "forward", "postrouting"]);
    conf(&mut plain).firewall.clamp_mss = false;
    let other = VxlanEnd { mac: mac(2).to_string(), vni: Some(8), port: Some(8472) };
    let lingering = plain.but(2, |record| record.value.vxlan = Some(other.clone()));
    assert_eq!(chains(&lingering), ["prerouting", "forward", "postrouting", "vxlan-from-pod"], "n2 still receives");
    let rules = firewall(&desired(&lingering.view, &unchecked));
    let of = |chain| rules.iter().filter(move |object| object["rule"]["chain"] == chain).map(ToString::to_string);
    for (chain, told) in [("forward", "8472"), ("vxlan-from-pod", r#""right":8}"#), ("vxlan-in", r#""right":8}"#)] {
        assert!(of(chain).any(|rule| rule.contains(told)), "{chain}: {:?}", of(chain).collect::<Vec<_>>());
    }
    let mut tunnels = dual_stack();
    conf(&mut tunnels).pools[0].masquerade = false;
    assert!(chains(&tunnels).contains(&"postrouting".to_owned()), "for the other family");
    conf(&mut tunnels).pools[1].masquerade = false;
    assert_eq!(chains(&tunnels), ["prerouting", "output", "forward", "heads", "vxlan-in", "vxlan-from-pod"]);
    // With a speaker too, headless fragments are dropped where they come by first, and once.
    conf(&mut tunnels).bgp = Some(Bgp::default());
    let rules = firewall(&desired(&tunnels.view, &tunnels.local(1, &[])));
    let jumps = rules.iter().filter(|object| object.to_string().contains(r#"{"jump":{"target":"heads"}}"#));
    assert_eq!(jumps.map(|rule| &rule["rule"]["chain"]).collect::<Vec<_>>(), ["prerouting"]);
    assert_eq!(rules.iter().filter(|object| object["rule"]["chain"] == "heads").count(), 2);
}
