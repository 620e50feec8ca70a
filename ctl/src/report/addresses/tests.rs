//! Who has an address, by the mirror and by the store.

use serde_json::json;
use twill_cluster::view::{Entry, Snapshot};
use twill_ipam::store::{BlockState, BlockUse, Node, Occupant, Occupied, Origin};
use twill_ipam::{BootTime, KeyHash};

use super::*;
use crate::arguments::Output;
use crate::print;
use crate::report::Report;

const NOW: u64 = 1000;

fn entry((revision, (key, value)): (i64, (&str, serde_json::Value))) -> Entry {
    Entry { key: key.into(), value: value.to_string().into_bytes(), created: revision, modified: revision }
}

fn census() -> Census {
    let block = |name: &str| json!({ "node": name, "machine_id": "m", "epoch": 2, "nonce": "x" });
    let attached = json!({
        "state": "attached", "since": 940, "pod": "shop/till-0", "container": "c1", "network": "net", "ifname": "eth0",
        "interface": "tw0000000000001",
    });
    let cooling = |until: u64| json!({ "state": "cooling", "since": 980, "until": until });
    let addresses = json!({
        "10.42.0.0": { "state": "tunnel" }, "10.42.0.1": attached, "10.42.0.2": cooling(1010), "10.42.0.3": cooling(1000),
    });
    let mirror = |more: serde_json::Value| {
        let mut mirror = json!({ "epoch": 2, "nonce": "x" });
        for (field, value) in more.as_object().unwrap() {
            mirror[field] = value.clone();
        }
        mirror
    };
    let entries = [
        ("config", json!({ "pool": [{ "name": "default", "cidr": "10.42.0.0/16", "block": 28 }] })),
        ("nodes/n1", json!({ "machine_id": "m", "nonce": "x" })),
        ("blocks/4/0a2a0000-28", block("n1")),
        ("blocks/4/0a2a0010-28", block("n1")),
        ("blocks/4/0a2a0020-28", block("n1")),
        ("blocks/4/0a2a0030-28", block("n2")),
        ("addresses/n1/4/0a2a0000-28", mirror(json!({ "addresses": addresses }))),
        ("addresses/n1/4/0a2a0010-28", mirror(json!({ "left_out": 3 }))),
        ("addresses/n1/4/0a2a0020-28", mirror(json!({ "cools_until": 1020 }))),
    ];
    Census::of(Snapshot { revision: 20, entries: (1..).zip(entries).map(entry).collect() })
}

fn sources() -> Sources {
    Sources { census: Some(census()), store: None, boot: Duration::from_secs(NOW - 100), now: NOW }
}

/// State, node, and what is unknown of an address.
fn told(sources: &Sources, ip: &str) -> (&'static str, Option<String>, usize, Verdict) {
    let found = sources.of_ip(ip.parse().unwrap(), Vec::new());
    let row = &found.addresses.as_ref().unwrap()[0];
    (row.state, row.node.as_ref().map(ToString::to_string), found.unknown.len(), found.verdict())
}

#[test]
fn what_nobody_has_and_cannot_be_given_is_told_with_the_reason_and_is_not_free() {
    let with = |pool: serde_json::Value, drain: serde_json::Value| {
        let addresses = json!({ "10.42.0.4": { "state": "attached" }, "10.42.0.9": { "state": "attached" } });
        let entries = [
            ("config", json!({ "pool": [pool] })),
            ("nodes/n1", json!({ "machine_id": "m", "nonce": "x", "drain": drain })),
            ("blocks/4/0a2a0000-28", json!({ "node": "n1", "machine_id": "m", "epoch": 2, "nonce": "x" })),
            ("addresses/n1/4/0a2a0000-28", json!({ "epoch": 2, "nonce": "x", "addresses": addresses })),
        ];
        let census = Some(Census::of(Snapshot { revision: 20, entries: (1..).zip(entries).map(entry).collect() }));
        let sources = Sources { census, ..sources() };
        let row = sources.block_row("10.42.0.0/28".parse().unwrap(), "n1".parse().unwrap());
        (told(&sources, "10.42.0.5").0, row.free.unwrap())
    };
    let pool = |more: serde_json::Value| {
        let mut pool = json!({ "name": "default", "cidr": "10.42.0.0/16", "block": 28 });
        pool.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        pool
    };
    assert_eq!(with(pool(json!({})), json!(null)), ("free", 14));
    assert_eq!(with(pool(json!({ "reserved": ["10.42.0.4/31"] })), json!(null)), ("kept by its pool", 13));
    assert_eq!(with(pool(json!({ "reserved": ["10.42.0.0/28"] })), json!(null)), ("kept by its pool", 0));
    assert_eq!(with(pool(json!({ "cidr": "10.43.0.0/16" })), json!(null)), ("in no pool", 0));
    assert_eq!(with(pool(json!({ "nodes": "has(gpu)" })), json!(null)), ("free", 14), "to who names the pool");
    assert_eq!(with(pool(json!({ "disabled": true })), json!(null)), ("pool disabled", 0));
    assert_eq!(with(pool(json!({})), json!("w1")), ("node draining", 0));
}

#[test]
fn of_each_address_it_is_told_who_has_it_or_why_nobody() {
    let n1 = || Some("n1".to_owned());
    for (ip, state, node, unknown, verdict) in [
        ("10.42.0.1", "attached", n1(), 0, Verdict::Good),
        ("10.42.0.0", "tunnel", n1(), 0, Verdict::Good),
        ("10.42.0.2", "cooling", n1(), 0, Verdict::Good),
        ("10.42.0.3", "free", n1(), 0, Verdict::Good),
        ("10.42.0.4", "free", n1(), 0, Verdict::Good),
        ("10.42.0.17", "not told", n1(), 1, Verdict::Unknown),
        ("10.42.0.33", "cooling", n1(), 0, Verdict::Good),
        ("10.42.0.49", "not told", Some("n2".to_owned()), 1, Verdict::Unknown),
        ("10.42.9.9", "in no block", None, 0, Verdict::Problems),
        ("192.0.2.1", "in no pool", None, 0, Verdict::Problems),
        ("fd42::1", "in no pool", None, 0, Verdict::Problems),
    ] {
        assert_eq!(told(&sources(), ip), (state, node, unknown, verdict), "{ip}");
    }
}

#[test]
fn tables_align_and_say_since_when_and_for_how_long_yet() {
    let sources = sources();
    let name = "n1".parse().unwrap();
    let mut found = sources.of_node(&name, Vec::new()).unwrap();
    let [cut] = found.unknown.as_slice() else { panic!("{:?}", found.unknown) };
    assert_eq!(cut.what, "3 more addresses of 10.42.0.16/28: they do not fit into its mirror");
    assert_eq!(cut.fix, "ask on n1 itself: 'twillctl ipam show' there");
    found.unknown.clear();
    let wanted = "\
BLOCK          POOL     NODE  USED  COOLING  FREE  OF  TUNNEL
10.42.0.0/28   default  n1    1     1        13    16  10.42.0.0
10.42.0.16/28  default  n1    3     0        13    16  -
10.42.0.32/28  default  n1    0     16       0     16  -

ADDRESS    STATE                 SINCE  POD          CONTAINER  NETWORK  INTERFACE  HOST INTERFACE   NODE  BLOCK         POOL
10.42.0.0  tunnel                -      -            -          -        -          -                n1    10.42.0.0/28  default
10.42.0.1  attached              60s    shop/till-0  c1         net      eth0       tw0000000000001  n1    10.42.0.0/28  default
10.42.0.2  cooling, free in 10s  20s    -            -          -        -          -                n1    10.42.0.0/28  default
";
    let report = Report::Addresses(found);
    assert_eq!(print::render(&report, Output::Text), wanted);
    let json: serde_json::Value = serde_json::from_str(&print::render(&report, Output::Json)).unwrap();
    assert_eq!((&json["addresses"][1]["since"], &json["addresses"][1]["source"]), (&json!(940), &json!("mirror")));
    assert_eq!(json["pools"], serde_json::Value::Null);
    assert!(sources.of_node(&"n9".parse().unwrap(), Vec::new()).is_none());
}

#[test]
fn a_pod_is_found_by_its_name_and_what_was_not_told_is_said() {
    let found = sources().of_pod("shop/till-0", Vec::new());
    assert_eq!(found.addresses.as_ref().unwrap().len(), 1);
    assert_eq!(found.unknown.len(), 2, "{:?}", found.unknown);
    assert_eq!(sources().of_pod("shop/till-1", Vec::new()).addresses.unwrap(), []);
    assert_eq!(sources().of_pod("c1", Vec::new()).addresses, found.addresses, "by its container");
}

#[test]
fn what_cannot_be_read_is_told_with_its_key_and_whose_it_is() {
    let entries = [
        ("config", json!({ "pool": [{ "name": "default", "cidr": "10.42.0.0/16", "block": 28 }] })),
        ("nodes/n1", json!({ "machine_id": "m", "nonce": "x" })),
        ("nodes/n2", json!(7)),
        ("blocks/4/0a2a0000-28", json!({ "node": "n1", "machine_id": "m", "epoch": 2, "nonce": "x" })),
        ("blocks/4/0a2a0010-28", json!({})),
        ("addresses/n1/4/0a2a0000-28", json!({})),
    ];
    let census = Some(Census::of(Snapshot { revision: 20, entries: (1..).zip(entries).map(entry).collect() }));
    let sources = Sources { census, ..sources() };
    let mirror = "the mirror of n1, the key addresses/n1/4/0a2a0000-28, cannot be read: it is JSON of another kind (";
    let record =
        "block 10.42.0.16/28: its record, the key blocks/4/0a2a0010-28, cannot be read, so nobody knows whose it is: ";
    let all = |found: Addresses, wanted: &[&str]| {
        assert_eq!((found.unknown.len(), found.verdict()), (wanted.len(), Verdict::Unknown), "{:?}", found.unknown);
        let is_told = |(told, wanted): (&Untold, &&str)| told.what.contains(wanted) && !told.fix.is_empty();
        assert!(found.unknown.iter().zip(wanted).all(is_told), "{:?}", found.unknown);
    };
    all(sources.all_blocks(Vec::new()), &[record, mirror]);
    all(sources.pools(Vec::new()), &[record]);
    all(sources.of_pod("shop/till-0", Vec::new()), &[record, mirror]);
    all(sources.of_ip("10.42.0.17".parse().unwrap(), Vec::new()), &[record]);
    all(sources.of_ip("10.42.0.1".parse().unwrap(), Vec::new()), &[mirror]);
    let n2 = "node n2: its record, the key nodes/n2, cannot be read: ";
    all(sources.of_node(&"n2".parse().unwrap(), Vec::new()).unwrap(), &[n2]);

    let nodes = crate::report::node::Nodes::new(&sources).unwrap();
    let subjects = |found: &[Problem]| found.iter().map(|problem| problem.subject.clone()).collect::<Vec<_>>();
    let told = subjects(&nodes.problems);
    assert!(["node n2", "block 10.42.0.16/28"].iter().all(|wanted| told.contains(&(*wanted).to_owned())), "{told:?}");
    assert_eq!(subjects(&nodes.notes), ["node n1"]);
    assert!(
        nodes.notes[0].what.starts_with(&format!("its use leaves out 10.42.0.0/28: {mirror}")),
        "{:?}",
        nodes.notes
    );
}

/// n1's own store: 10.42.0.1 is free there by now, and 10.42.0.5 is not.
fn store(origin: Origin) -> Inventory {
    let block: Block = "10.42.0.0/28".parse().unwrap();
    let has = BlockUse {
        block,
        pool: None,
        state: BlockState::Open,
        origin,
        tunnel: None,
        total: 16,
        assigned: 0,
        cooling: 1,
        reserved: 0,
    };
    let at = |seconds| BootTime(Duration::from_secs(seconds));
    let by = Occupant::Cooling { since: at(90), until: at(120), owner: Some(KeyHash(1)) };
    Inventory {
        node: Some(Node { name: "n1".into(), mtu: 1450, ipv4: true, ipv6: false, ..Node::default() }),
        blocks: vec![has],
        addresses: vec![Occupied { ip: "10.42.0.5".parse().unwrap(), block: Some(block), by }],
        ..Inventory::default()
    }
}

#[test]
fn on_the_node_itself_its_store_tells_and_of_other_blocks_the_mirror() {
    let sources = Sources { store: Some(store(Origin::Cluster)), ..sources() };
    assert_eq!(told(&sources, "10.42.0.1").0, "free");
    let row = &sources.of_ip("10.42.0.5".parse().unwrap(), Vec::new()).addresses.unwrap()[0];
    let times = (row.since, row.until, row.source, row.host_interface.as_deref());
    assert_eq!(times, (Some(990), Some(1020), Some("store"), Some("tw0000000000001")));
    assert_eq!(told(&sources, "10.42.0.33").0, "cooling");
}

#[test]
fn a_node_that_stands_alone_tells_by_its_store() {
    let sources = Sources { store: Some(store(Origin::Configuration)), census: None, ..sources() };
    assert_eq!(told(&sources, "10.42.0.5").0, "cooling");
    assert_eq!(told(&sources, "10.42.0.6").0, "free");
    assert_eq!(told(&sources, "10.42.9.9").0, "not told");
}
