//! No underlay at all, or none of one family.

use twill_tests::deadline::{self, PATIENCE};
use twill_tests::{Lab, Result};

use crate::stage::{HOST_GW, Pair, TUNNEL, V4, V6, plug_in, with_pair, with_prepared_pair};

/// Takes from the first node what a pod has on it, and waits until it is there again.
fn lose_and_get_back(pair: &Pair<'_>) -> Result<()> {
    let node = pair.node();
    let pod = format!("{}/32", pair.pods[0].address(false)?);
    let route = || node.run(&["ip", "route", "show", &pod]);
    let table = || Ok(node.namespace().run(&["nft", "list", "table", "inet", "twill"]).is_ok());
    node.run(&["ip", "route", "del", &pod])?;
    node.run(&["nft", "flush", "ruleset"])?;
    node.namespace().set_sysctl("net/ipv4/ip_forward", "0")?;
    let is_there = || Ok(route()?.contains(" dev tw") && table()?);
    deadline::until("it is there again", PATIENCE, is_there)?;
    node.run(&["ip", "route", "replace", "blackhole", &pod, "proto", "117", "metric", "7777"])?;
    deadline::until("it leads to the pod again", PATIENCE, is_there)?;
    deadline::until("the node forwards", PATIENCE, || {
        Ok(node.run(&["sysctl", "-n", "net.ipv4.ip_forward"])?.trim() == "1")
    })
}

fn pods_keep_what_they_have_on_their_node(backend: &str) {
    with_pair(Lab::builder().backend(backend), &[], |pair| {
        pair.ip("link del eth0\n")?;
        pair.node().says("cannot reconcile")?;
        lose_and_get_back(pair)?;
        pair.connect_again()?;
        pair.node().says("reconciling again")?;
        pair.publishes(&[V4, V6])?;
        pair.reach_each_other()
    });
}

#[test]
fn without_an_underlay_what_pods_have_on_their_node_is_repaired() {
    pods_keep_what_they_have_on_their_node(TUNNEL);
}

#[test]
fn without_an_underlay_of_plain_routes_what_pods_have_on_their_node_is_repaired() {
    pods_keep_what_they_have_on_their_node(HOST_GW);
}

#[test]
fn a_family_whose_own_interface_is_down_is_given_up_for_the_other() {
    let second = "fd00:77::21/64";
    let prepare = |lab: &Lab| {
        plug_in(lab, 1, &[second])?;
        lab.node(1).run(&["ip", "addr", "del", V6, "dev", "eth0"]).map(drop)
    };
    with_prepared_pair(Lab::builder(), prepare, [&["--underlay-ipv6", "eth1"], &[]], |pair| {
        pair.publishes(&[V4, second])?;
        pair.ip("link set eth0 down\n")?;
        pair.publishes(&[second])?;
        pair.reach_each_other()?;
        // Set down and up again, what was given up is not what was there last.
        pair.ip("link set eth0 up\naddr flush dev eth0\nlink set eth0 down\n")?;
        pair.pass()?;
        pair.publishes(&[second])?;
        pair.ip(&format!("link set eth0 up\naddr add {V4} dev eth0\nroute add default via 192.168.77.1 dev eth0\n"))?;
        pair.publishes(&[V4, second])
    });
}

#[test]
fn an_address_that_comes_back_while_etcd_is_away_cuts_nobody_off() {
    with_pair(Lab::builder(), &[], |pair| {
        pair.ip(&format!("addr del {V4} dev eth0\n"))?;
        pair.publishes(&[V6])?;
        pair.reach_each_other()?;
        // Who has heard of what was written after that has heard of that too.
        pair.lab.apply_config(&(pair.lab.cluster_config() + "\n[firewall]\nno_masquerade = [\"203.0.113.0/24\"]\n"))?;
        deadline::until("the daemon has heard of it", PATIENCE, || {
            Ok(pair.node().run(&["nft", "list", "table", "inet", "twill"])?.contains("203.0.113.0/24"))
        })?;
        pair.lab.etcd().stop()?;
        pair.ip(&format!("addr add {V4} dev eth0\n"))?;
        pair.node().says(&format!("the underlay is {V4} on eth0"))?;
        pair.pass()?;
        pair.reach_each_other()?;
        pair.lab.etcd().start()?;
        pair.publishes(&[V4, V6])?;
        pair.reach_each_other()
    });
}
