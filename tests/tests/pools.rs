//! Pools on a running cluster: which nodes they are for, what they reserve, addresses that are asked for, and how a pool goes.

use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use serde_json::{Value, json};
use twill_tests::cni::code;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::{Lab, LabError, Node, Pod, PoolSpec, Result, with_lab};

/// Addresses cool for half a minute before their block is empty.
const COOL: Duration = Duration::from_secs(60);
/// An address that was asked for cannot be given.
const NOT_GIVEN: u64 = 103;

fn lab(nodes: u8) -> twill_tests::LabBuilder {
    Lab::builder().nodes(nodes).pools([PoolSpec::new("main", "10.42.0.0/16", Some(28))])
}

/// Pools of a name and a range each, with further lines.
fn conf(pools: &[(&str, &str, &str)]) -> String {
    let pool = |(name, cidr, more): &(&str, &str, &str)| {
        format!("[[pool]]\nname = '{name}'\ncidr = '{cidr}'\nblock = 28\n{more}\n")
    };
    pools.iter().map(pool).collect()
}

fn is_in(pod: &Pod, cidr: &str) -> Result<bool> {
    let cidr: IpNetwork = cidr.parse().map_err(|_| LabError::wrong(format!("{cidr} is no prefix")))?;
    Ok(pod.addresses()?.into_iter().any(|ip| cidr.contains(ip)))
}

/// An ADD with further keys in the network configuration.
fn add(node: &Node, name: &str, keys: &Value) -> Result<(Pod, twill_tests::cni::Answer)> {
    let pod = node.create_pod(name)?;
    let answer = pod.add_with_keys(keys)?;
    Ok((pod, answer))
}

fn asking(ip: &str) -> Value {
    json!({ "runtimeConfig": { "ips": [ip] } })
}

/// The text of a refusal with this code.
fn refusal(answer: &twill_tests::cni::Answer, code: u64) -> Result<String> {
    answer.expect_code(code)?;
    Ok(answer.output.to_string())
}

/// Waits until the plugin of a node knows this pool as it is now: nothing of it is given there, or something is.
fn told(node: &Node, text: &str) -> Result<()> {
    deadline::until(&format!("{} knows {text}", node.name()), PATIENCE, || {
        Ok(node.query_store("SELECT pools FROM node")?.contains(text))
    })
}

/// Waits until one pod reaches another one, whose block may have been claimed a moment ago: the other nodes hear of it.
fn reaches(pod: &Pod, other: &Pod) -> Result<()> {
    let ip = other.address(false)?;
    deadline::until(&format!("{ip} can be reached"), PATIENCE, || Ok(pod.ping_small_and_full(ip).is_ok()))
}

fn blocks_in(lab: &Lab, cidr: &str) -> Result<Vec<String>> {
    let cidr: IpNetwork = cidr.parse().map_err(|_| LabError::wrong(format!("{cidr} is no prefix")))?;
    let inside = lab.etcd().blocks()?.into_iter().filter(|block| cidr.contains(block.cidr.ip()));
    Ok(inside.map(|block| format!("{} of {}", block.cidr, block.node)).collect())
}

#[test]
fn a_pool_is_added_another_disabled_drained_and_removed_and_pods_go_on_all_the_while() {
    with_lab(lab(2), |lab| {
        let (old, far) = (lab.node(1).add_pod("old")?, lab.node(2).add_pod("far")?);
        let both = [("main", "10.42.0.0/16", "disabled = true\nannounce = true"), ("new", "10.43.0.0/16", "")];
        lab.apply_config(&conf(&both))?;
        for node in lab.nodes() {
            told(node, "\"given\":\"nobody\"")?;
        }
        let (new, other) = (lab.node(1).add_pod("new")?, lab.node(2).add_pod("other")?);
        assert!(is_in(&new, "10.43.0.0/16")? && is_in(&other, "10.43.0.0/16")?, "new pods are of the other pool");
        old.ping_small_and_full(far.address(false)?)?;
        new.ping_small_and_full(old.address(false)?)?;
        reaches(&old, &other)?;
        let shown = lab.node(1).twillctl(&["status", "--wait", "20s"])?;
        assert!(shown.contains("DISABLED; announced"), "{shown}");
        assert!(lab.node(1).twillctl(&["config", "show"])?.contains("announce = true"));

        let without = conf(&both[1..]);
        let refused = lab.apply_config(&without).expect_err("nodes have blocks of it").to_string();
        assert!(
            refused.contains("pool \"main\" cannot be removed") && refused.contains("disabled = true"),
            "{refused}"
        );

        old.del()?;
        deadline::until_some("n1 has given its blocks of the pool back", COOL, || {
            let left = blocks_in(lab, "10.42.0.0/16")?;
            Ok(if left.iter().any(|block| block.ends_with("n1")) { Err(left) } else { Ok(()) })
        })?;
        assert_eq!(blocks_in(lab, "10.42.0.0/16")?.len(), 1, "the pod on n2 keeps its block");
        far.ping_small_and_full(new.address(false)?)?;
        far.del()?;
        deadline::until_some("no node has a block of the pool", COOL, || {
            let left = blocks_in(lab, "10.42.0.0/16")?;
            Ok(if left.is_empty() { Ok(()) } else { Err(left) })
        })?;
        lab.apply_config(&without)?;
        lab.converged()?;
        new.ping_small_and_full(other.address(false)?)?;
        let again = lab.node(2).add_pod("again")?;
        again.ping_small_and_full(new.address(false)?)
    });
}

#[test]
fn a_pool_is_for_the_nodes_that_its_selector_says_and_for_who_names_it() {
    with_lab(lab(2), |lab| {
        lab.apply_config(&conf(&[
            ("main", "10.42.0.0/16", "disabled = true"),
            ("first", "10.43.0.0/16", "nodes = \"node == 'n1'\""),
            ("second", "10.44.0.0/16", "nodes = \"node != 'n1' && !has(gpu)\""),
            ("nobodys", "10.45.0.0/16", "nodes = \"has(gpu)\""),
        ]))?;
        lab.nodes().iter().try_for_each(|node| told(node, "nobodys"))?;
        let (a, b) = (lab.node(1).add_pod("a")?, lab.node(2).add_pod("b")?);
        assert!(is_in(&a, "10.43.0.0/16")? && is_in(&b, "10.44.0.0/16")?);
        reaches(&a, &b)?;

        let (named, answer) = add(lab.node(2), "named", &json!({ "pools": ["first"] }))?;
        assert!(answer.success && is_in(&named, "10.43.0.0/16")?, "{}", answer.output);
        reaches(&named, &a)?;
        assert_eq!(blocks_in(lab, "10.45.0.0/16")?, [""; 0], "nobody asked for that one");

        let (_pod, answer) = add(lab.node(2), "typo", &json!({ "pools": ["frist"] }))?;
        let text = refusal(&answer, code::NO_ADDRESS)?;
        assert!(text.contains("no pool frist; it has main, first, second and nobodys"), "{text}");
        let (_pod, answer) = add(lab.node(2), "off", &json!({ "pools": ["main"] }))?;
        assert!(refusal(&answer, code::NO_ADDRESS)?.contains("disabled"));

        lab.apply_config(&conf(&[
            ("main", "10.42.0.0/16", "disabled = true"),
            ("first", "10.43.0.0/16", "nodes = \"node == 'n1'\""),
            ("second", "10.44.0.0/16", "nodes = \"node == 'n9'\""),
            ("nobodys", "10.45.0.0/16", "nodes = \"has(gpu)\""),
        ]))?;
        deadline::until("n2 gives no address of its own accord", PATIENCE, || {
            Ok(lab.node(2).query_store("SELECT ipv4 FROM node")?.trim() == "0")
        })?;
        let (_pod, answer) = add(lab.node(2), "none", &json!({}))?;
        let text = refusal(&answer, code::NO_ADDRESS)?;
        assert!(
            text.contains("the labels node=n2") && text.contains("pool second is for nodes with node == 'n9'"),
            "{text}"
        );
        let status = lab.node(2).twillctl(&["status"]).expect_err("there are problems").to_string();
        assert!(
            status.contains("node n2: no pool is for it") && status.contains("no node has labels with node == 'n9'"),
            "{status}"
        );
        b.ping_small_and_full(a.address(false)?)
    });
}

#[test]
fn an_address_that_is_asked_for_brings_its_block_or_is_refused_with_the_reason() {
    with_lab(lab(2), |lab| {
        lab.apply_config(&conf(&[
            ("main", "10.42.0.0/16", "reserved = ['10.42.200.0/30', '10.42.201.5']"),
            ("off", "10.43.0.0/16", "disabled = true"),
        ]))?;
        lab.nodes().iter().try_for_each(|node| told(node, "off"))?;
        let plain = lab.node(2).add_pod("plain")?;
        let (asked, answer) = add(lab.node(1), "asked", &asking("10.42.200.7"))?;
        assert!(answer.success, "{}", answer.output);
        let address: IpAddr = [10, 42, 200, 7].into();
        assert_eq!(asked.address(false)?, address);
        assert!(blocks_in(lab, "10.42.200.0/28")?.contains(&"10.42.200.0/28 of n1".to_owned()));
        reaches(&plain, &asked)?;
        let mac = "02:42:0a:2a:c8:09";
        let by_runtime = lab.node(1).create_pod("by-runtime")?;
        let added = by_runtime.add_asking(Some(&json!({ "ips": ["10.42.200.9"], "mac": mac })))?;
        assert_eq!(by_runtime.address(false)?, IpAddr::from([10, 42, 200, 9]), "the network passes it on");
        assert!(added.result["interfaces"].to_string().contains(mac), "{}", added.result);

        for (node, ip, why) in [
            (2, "10.42.200.8", "it is in the block 10.42.200.0/28, which is n1's"),
            (1, "10.42.200.7", "has it"),
            (1, "10.42.200.2", "it is reserved in the pool main"),
            (2, "10.42.201.5", "it is reserved in the pool main"),
            (1, "10.43.0.1", "disabled"),
            (1, "192.0.2.1", "it is in no pool of the cluster"),
        ] {
            let (_pod, answer) = add(lab.node(node), &format!("r{node}-{}", ip.replace('.', "-")), &asking(ip))?;
            let text = refusal(&answer, NOT_GIVEN)?;
            assert!(text.contains(why), "{ip} on n{node}: {text}");
        }
        assert_eq!(lab.node(1).query_store("SELECT count(*) FROM want")?.trim(), "0", "wants are taken back");

        // Of the block that was claimed for one address others are given, but not those that are reserved.
        lab.etcd().stop()?;
        let (_pod, answer) = add(lab.node(2), "away", &asking("10.42.202.1"))?;
        assert!(refusal(&answer, code::LATER)?.contains("has not said yet"));
        lab.etcd().start()
    });
}
