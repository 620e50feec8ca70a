//! What is said of pods, addresses and nodes of a small cluster.

use std::time::Duration;

use serde_json::json;
use twill_cluster::Census;
use twill_cluster::inquiry::attempts::History;
use twill_cluster::inquiry::client::{Answers, Silence};
use twill_cluster::inquiry::state::{RivalRecord, State};
use twill_cluster::view::{Entry, Snapshot};
use twill_conf::NodeName;

use super::ip::WhyIp;
use super::node::{Evidence, WhyNode};
use super::pod::WhyPod;
use crate::access::node_record as record;
use crate::arguments::Output;
use crate::print;
use crate::report::addresses::Sources;
use crate::report::{Report, Verdict};

fn name(name: &str) -> NodeName {
    name.parse().unwrap()
}

/// n1 with a pod, alive; n2, which is not, and is drained with nothing left; n3 with a block of a pool that is gone.
fn census() -> Census {
    let attached = json!({
        "state": "attached", "since": 940, "pod": "shop/till-0", "container": "c1", "network": "net", "ifname": "eth0",
        "interface": "tw0000000000001",
    });
    let mirror = |addresses: serde_json::Value, epoch| json!({ "epoch": epoch, "nonce": "x", "addresses": addresses });
    let block = |name: &str, epoch| json!({ "node": name, "machine_id": "m", "epoch": epoch, "nonce": "x" });
    let pool = json!({ "name": "default", "cidr": "10.42.0.0/16", "block": 26, "reserved": ["10.42.0.60-10.42.0.63"] });
    let drained = json!({ "epoch": 3, "nonce": "x", "drain": "w" });
    let entries = [
        ("config", json!({ "pool": [pool] })),
        ("nodes/n1", record(1, json!({}))),
        ("nodes/n2", record(2, json!({ "drain": "w" }))),
        ("nodes/n3", record(3, json!({ "disputes": ["10.42.0.0/26"] }))),
        ("blocks/4/0a2a0000-26", block("n1", 2)),
        ("blocks/4/0a2a0040-26", block("n2", 3)),
        ("blocks/4/0a2b0000-26", block("n3", 4)),
        (
            "addresses/n1/4/0a2a0000-26",
            mirror(
                json!({ "10.42.0.0": { "state": "tunnel" }, "10.42.0.1": attached,
                        "10.42.0.2": { "state": "cooling", "since": 980, "until": 1010 } }),
                2,
            ),
        ),
        ("addresses/n2/4/0a2a0040-26", drained),
        ("alive/n1", json!({})),
        ("alive/n3", json!({})),
    ];
    let entry = |(i, (key, value)): (i64, (&str, serde_json::Value))| Entry {
        key: key.into(),
        value: value.to_string().into_bytes(),
        created: i,
        modified: i,
    };
    Census::of(Snapshot { revision: 20, entries: (1..).zip(entries).map(entry).collect() })
}

fn sources() -> Sources {
    Sources { census: Some(census()), store: None, boot: Duration::ZERO, now: 1000 }
}

fn history(value: serde_json::Value) -> Result<History, Silence> {
    Ok(serde_json::from_value(value).unwrap())
}

fn pod(pod: &str, answers: Answers<History>) -> (Verdict, String) {
    let report = Report::WhyPod(WhyPod::new(pod, &sources(), answers, true));
    (report.verdict(), print::render(&report, Output::Text))
}

fn nothing() -> Result<History, Silence> {
    Ok(History::default())
}

#[test]
fn a_pod_that_is_attached_is_shown_where_it_is() {
    let attached = json!({ "attachments": [{
        "age_seconds": 60, "state": "attached", "pod": "shop/till-0", "container": "c1", "network": "net", "interface": "eth0",
        "host_interface": "tw0000000000001", "addresses": ["10.42.0.1"],
    }] });
    let (verdict, text) = pod("shop/till-0", [(name("n1"), history(attached)), (name("n3"), nothing())].into());
    let wanted = "\
NODE  STATE     SINCE  ADDRESSES  CONTAINER  NETWORK  INTERFACE  HOST INTERFACE
n1    attached  60s    10.42.0.1  c1         net      eth0       tw0000000000001
";
    assert_eq!((verdict, text.as_str()), (Verdict::Good, wanted));
    let attached = json!({ "attachments": [{ "age_seconds": 60, "state": "attached", "pod": "shop/till-0", "host_interface": "tw1" }] });
    let (verdict, text) =
        pod("shop/till-0", [(name("n1"), history(attached)), (name("n2"), Err(Silence::Dead))].into());
    assert_eq!(verdict, Verdict::Good, "another node's death is nothing to it: {text}");
    let (verdict, text) = pod("shop/till-0", [(name("n1"), Err(Silence::Timeout(Duration::from_secs(5))))].into());
    assert_eq!(verdict, Verdict::Unknown);
    assert!(
        text.contains("10.42.0.1  attached  60s")
            && text
                .contains("what node n1 has of it: no answer within 5 s\n    fix: try again, with a longer --timeout"),
        "{text}"
    );
}

#[test]
fn a_pod_whose_add_fails_has_the_last_failure_for_its_problem() {
    let attempt = |age: u64, code: u32, step: &str, cause: &str| {
        json!({ "age_seconds": age, "verb": "ADD", "pod": "shop/cart", "container": "c2", "network": "net", "interface": "eth0",
                "step": step, "cause": cause, "code": code })
    };
    let first = history(
        json!({ "attempts": [attempt(200, 11, "waiting for a block", "waiting for a block: this node has no block yet")] }),
    );
    let second =
        history(json!({ "attempts": [attempt(5, 100, "reserving an address", "no free IPv4 address on this node")] }));
    let (verdict, text) = pod("shop/cart", [(name("n1"), first), (name("n3"), second)].into());
    let wanted = "\
pod shop/cart is attached nowhere, as far as the nodes have told

3m ago on n1: ADD failed at waiting for a block, code 11: this node has no block yet
    fix: the runtime tries again by itself; if that goes on, look whether twilld runs on n1 and reaches etcd: 'twillctl why node n1'

PROBLEM pod shop/cart: it is not attached: its last ADD, 5 s ago on n3, failed at reserving an address (code 100): no free IPv4 address on this node
    fix: add a pool of this family, remove pods, or delete nodes that are gone: 'twillctl status' shows the pools
";
    assert_eq!((verdict, text.as_str()), (Verdict::Problems, wanted));
}

#[test]
fn a_pod_that_nobody_knows_is_a_problem_only_where_everybody_was_asked() {
    let all: Answers<History> = ["n1", "n2", "n3"].map(|node| (name(node), nothing())).into();
    let (verdict, text) = pod("shop/ghost", all);
    assert_eq!(verdict, Verdict::Problems);
    assert!(text.contains("PROBLEM pod shop/ghost: no node has heard of it: the plugin was not called"), "{text}");
    let older = Err(Silence::Unsupported { version: "0.0.9".into(), cause: "unknown variant".into() });
    let (verdict, text) = pod("shop/ghost", [(name("n1"), nothing()), (name("n2"), older)].into());
    assert_eq!(verdict, Verdict::Unknown, "{text}");
    assert!(text.contains("COULD NOT TELL: node n2: ") && text.contains("\n    fix: update twilld on n2\n"), "{text}");
    let (verdict, text) = pod("shop/ghost", [(name("n1"), nothing()), (name("n2"), Err(Silence::Dead))].into());
    assert_eq!(verdict, Verdict::Problems, "it may be there: {text}");
    assert!(
        text.contains("PROBLEM node n2: its daemon has not been heard of")
            && text.contains("fix: look at twilld on n2"),
        "{text}"
    );
    assert!(!text.contains("no node has heard of it"), "{text}");
}

#[test]
fn what_was_given_up_half_way_is_told() {
    let half = json!({ "attachments": [{ "age_seconds": 600, "state": "reserved", "pod": "shop/a", "host_interface": "tw1" }] });
    let (verdict, text) = pod("shop/a", [(name("n1"), history(half))].into());
    assert_eq!(verdict, Verdict::Problems);
    assert!(text.contains("on n1 it is half made: reserved for longer than any call lasts"), "{text}");
}

fn ip(ip: &str) -> (Verdict, String) {
    let report = Report::WhyIp(Box::new(WhyIp::new(ip.parse().unwrap(), &sources(), Vec::new())));
    (report.verdict(), print::render(&report, Output::Text))
}

#[test]
fn each_kind_of_address_is_called_what_it_is() {
    for (address, words) in [
        ("10.42.0.0", "10.42.0.0 is the tunnel address of node n1\n"),
        ("10.42.0.1", "10.42.0.1 is an address of pod shop/till-0 on n1\n"),
        ("10.42.0.2", "10.42.0.2 was given back on n1 a short while ago, and is given to nobody yet\n"),
        ("10.42.0.3", "10.42.0.3 is free: n1 may give it to a pod\n"),
        ("10.42.0.61", "10.42.0.61 is given to nobody: its pool reserves it\n"),
        ("10.42.0.70", "10.42.0.70 is given to nobody: node n2, whose block it is in, is being drained\n"),
        ("10.42.9.9", "10.42.9.9 is free: no node has claimed the block of the pool that it is in\n"),
        ("192.0.2.3", "192.0.2.3 is the address of node n3 between the nodes\n"),
        ("198.51.100.1", "198.51.100.1 is in no pool, and no node's own: Twill has nothing to do with it\n"),
    ] {
        let (_, text) = ip(address);
        assert!(text.starts_with(words), "{address}: {text}");
    }
}

#[test]
fn what_is_wrong_with_an_address_is_told_with_it() {
    assert_eq!(
        ip("10.42.9.9"),
        (Verdict::Good, "10.42.9.9 is free: no node has claimed the block of the pool that it is in\n".into())
    );
    assert_eq!(ip("192.0.2.3").0, Verdict::Good);
    let (verdict, text) = ip("10.42.0.1");
    assert_eq!(verdict, Verdict::Problems);
    assert!(
        text.contains(
            "PROBLEM address 10.42.0.1: n3 has pods in its block, which is n1's now: one of them may have it"
        ),
        "{text}"
    );
    let (verdict, text) = ip("10.42.0.70");
    assert_eq!(verdict, Verdict::Problems);
    assert!(text.contains("PROBLEM node n2: its daemon has not been heard of for a minute"), "{text}");
    let (_, text) = ip("10.43.0.9");
    assert!(text.contains("COULD NOT TELL") || text.contains("its block lies in no pool any more"), "{text}");
    let (verdict, text) = ip("198.51.100.1");
    assert_eq!(verdict, Verdict::Problems);
    assert!(
        text.contains(
            "PROBLEM address 198.51.100.1: it is outside of all pools\n    fix: 'twillctl ipam show --pools'"
        ),
        "{text}"
    );
}

fn why_node(
    node: &str,
    answer: Result<State, Silence>,
    rival: Option<RivalRecord>,
    others: Answers<State>,
) -> Option<WhyNode> {
    let (sources, census, node) = (sources(), census(), name(node));
    let found = census.found(&node, 1000);
    WhyNode::new(&node, Evidence { sources: &sources, found: &found, answer, rival, others })
}

#[test]
fn a_node_says_who_cannot_reach_it_and_whether_it_may_be_deleted() {
    let blind: State =
        serde_json::from_value(json!({ "peers": { "faulty": { "n2": "silent" }, "faulty_nodes": 1 } })).unwrap();
    let cut: State = serde_json::from_value(json!({ "peers": { "unreached": 1, "unreached_nodes": ["n2"] } })).unwrap();
    let others = [(name("n1"), Ok(blind)), (name("n3"), Ok(cut))].into();
    let rival = RivalRecord { machine_id: "m9".into(), hostname: "copy".into() };
    let why = why_node("n2", Err(Silence::Dead), Some(rival), others).unwrap();
    assert!(why.deletion.allowed && why.unknown.is_empty());
    let text = print::render(&Report::WhyNode(Box::new(why)), Output::Text);
    let wanted = "
NODE  FINDS THE WAY TO IT
n1    silent
n3    no_route

may it be deleted: yes, it was drained and has no pods: 'twillctl node delete n2'

PROBLEM node n2: its daemon has not been heard of for a minute; its pods keep what they have
    fix: look at twilld on n2: is it running, and does it reach etcd?
PROBLEM node n2: a second machine (copy, machine ID m…) goes by its name, and can serve no pod
    fix: give that machine a name of its own with --node-name; or, if it replaces this node, delete this one first
PROBLEM node n2: the way to it is not good from n1, n3 (no_route, silent)
    fix: 'twillctl status --node n1' has what to look at
";
    assert!(text.ends_with(wanted), "{text}");
}

#[test]
fn a_node_that_is_alive_is_not_deleted_and_one_that_is_not_there_is_unknown() {
    let well: State =
        serde_json::from_value(json!({ "version": "0.1.0", "config": { "known": 1, "applied": 1 } })).unwrap();
    let why = why_node("n1", Ok(well), None, Answers::new()).unwrap();
    assert_eq!(
        (why.deletion.allowed, why.deletion.why.as_str()),
        (false, "it is alive, and not drained of all its pods")
    );
    let report = Report::WhyNode(Box::new(why));
    assert_eq!(report.verdict(), Verdict::Good);
    let json: serde_json::Value = serde_json::from_str(&print::render(&report, Output::Json)).unwrap();
    assert_eq!(
        (&json["name"], &json["node"]["machine_id"], &json["daemon"]["version"]),
        (&json!("n1"), &json!("m1"), &json!("0.1.0"))
    );
    assert!(why_node("n9", Err(Silence::Dead), None, Answers::new()).is_none());
}
