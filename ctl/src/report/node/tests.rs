//! Nodes as their records, blocks and mirrors describe them.

use std::time::Duration;

use serde_json::json;
use twill_cluster::view::{Entry, Snapshot};

use super::*;
use crate::access::node_record as record;
use crate::arguments::Output;
use crate::print;
use crate::report::{Report, Verdict};

fn sources() -> Sources {
    let addresses = json!({
        "10.42.0.0": { "state": "tunnel" }, "10.42.0.1": { "state": "attached", "since": 1 },
        "10.42.0.2": { "state": "cooling", "since": 1, "until": 200 },
    });
    let block = |name: &str, epoch| json!({ "node": name, "machine_id": "m", "epoch": epoch, "nonce": "x" });
    let entries = [
        ("config", json!({ "pool": [{ "name": "default", "cidr": "10.42.0.0/16", "block": 26 }] })),
        ("nodes/n1", record(1, json!({ "labels": { "zone": "a" } }))),
        ("nodes/n2", record(2, json!({ "drain": "w", "disputes": ["10.42.0.0/26"] }))),
        ("blocks/4/0a2a0000-26", block("n1", 2)),
        ("addresses/n1/4/0a2a0000-26", json!({ "epoch": 2, "nonce": "x", "addresses": addresses })),
        ("alive/n1", json!({})),
        ("alive/n2", json!({})),
    ];
    let entry = |(i, (key, value)): (i64, (&str, serde_json::Value))| Entry {
        key: key.into(),
        value: value.to_string().into_bytes(),
        created: i,
        modified: i,
    };
    let census = Census::of(Snapshot { revision: 20, entries: (1..).zip(entries).map(entry).collect() });
    Sources { census: Some(census), store: None, boot: Duration::ZERO, now: 100 }
}

#[test]
fn nodes_are_listed_with_their_use_and_a_dispute_is_a_problem() {
    let report = Report::Nodes(Nodes::new(&sources()).unwrap());
    assert_eq!(report.verdict(), Verdict::Problems);
    let wanted = "\
NODE  ALIVE  DRAINING  VERSION  UNDERLAY   BLOCKS  USED  COOLING  FREE  DISPUTES
n1    yes    no        0.1.0    192.0.2.1  1       1     1        61    -
n2    yes    YES       0.1.0    192.0.2.2  0       0     0        0     10.42.0.0/26

PROBLEM node n2: it has pods in 10.42.0.0/26, which is n1's now: nobody assigns more of that
    fix: restart those pods of n2; if its machine is off for good, delete it: 'twillctl node delete n2 --machine-is-off'
";
    assert_eq!(print::render(&report, Output::Text), wanted, "that a drained node has no block is none");
}

#[test]
fn one_node_is_shown_with_its_blocks() {
    let shown = NodeShown::new(&sources(), &"n1".parse().unwrap()).unwrap();
    let report = Report::Node(Box::new(shown));
    assert_eq!(report.verdict(), Verdict::Good);
    let wanted = "\
node      n1
machine   m1
alive     yes
draining  no
version   0.1.0
underlay  192.0.2.1
tunnel    -
labels    zone=a
disputes  -

BLOCK         POOL     NODE  USED  COOLING  FREE  OF  TUNNEL
10.42.0.0/26  default  n1    1     1        61    64  10.42.0.0
";
    assert_eq!(print::render(&report, Output::Text), wanted);
    let json: serde_json::Value = serde_json::from_str(&print::render(&report, Output::Json)).unwrap();
    assert_eq!((&json["name"], &json["used"], &json["own_blocks"][0]["free"]), (&json!("n1"), &json!(1), &json!(61)));
    assert!(NodeShown::new(&sources(), &"n9".parse().unwrap()).is_none());
}

#[test]
fn a_drain_is_told_with_what_is_in_use_yet_as_far_as_that_could_be_read() {
    let text = |sources: Option<&Sources>, was: bool, on: bool, unknown: &[&str]| {
        let unknown = unknown.iter().map(|what| Untold::new(*what, "mend it")).collect();
        print::render(&Report::Drained(Drained::new(sources, &"n1".parse().unwrap(), (was, on), unknown)), Output::Text)
    };
    let begun = "node n1 is being drained: no new pod gets an address there";
    assert_eq!(text(Some(&sources()), false, true, &[]), format!("{begun}; it has 1 block and 1 addresses in use\n"));
    assert_eq!(text(None, false, true, &["what"]), format!("{begun}\n\nCOULD NOT TELL: what\n    fix: mend it\n"));
    assert_eq!(text(Some(&sources()), true, false, &[]), "node n1 serves new pods again\n");
    let idle = "node n1 was not being drained: it serves new pods as before\n";
    assert_eq!(text(Some(&sources()), false, false, &[]), idle);
}
