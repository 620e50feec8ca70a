//! What a view makes of snapshots, deltas and garbage.

use serde_json::json;

use super::decode::able;
use super::*;
use crate::ability::{Ability, Can};

fn entry(key: &str, value: serde_json::Value, revision: i64) -> Entry {
    Entry { key: key.into(), value: value.to_string().into_bytes(), created: revision, modified: revision }
}

fn node(name: &str, index: u8, revision: i64) -> Entry {
    let value = json!({
        "machine_id": format!("machine-{name}"),
        "nonce": "run-1",
        "underlay": { "ipv4": format!("192.168.7.{index}/24") },
        "tunnel": { "ipv4": format!("10.42.{index}.1") },
        "vxlan": { "mac": format!("02:00:5e:10:00:{index:02x}") },
        "version": "0.1.0",
    });
    entry(&format!("nodes/{name}"), value, revision)
}

fn block(cidr: &str, node: &str, revision: i64) -> Entry {
    let block: Block = cidr.parse().unwrap();
    let value = json!({ "node": node, "machine_id": format!("machine-{node}"), "epoch": 1, "nonce": "run-2" });
    entry(&key::block(block), value, revision)
}

fn config(revision: i64) -> Entry {
    let value = json!({
        "pool": [{ "name": "main", "cidr": "10.42.0.0/16", "block": 26 }],
        "backend": { "type": "vxlan" },
    });
    entry("config", value, revision)
}

fn two_nodes() -> Vec<Entry> {
    vec![config(2), node("n1", 1, 3), node("n2", 2, 4), block("10.42.1.0/26", "n1", 5), block("10.42.2.0/26", "n2", 6)]
}

fn view(entries: Vec<Entry>) -> View {
    let mut view = View::default();
    view.replace(&Snapshot { revision: 10, entries });
    view
}

fn put(entry: Entry) -> Delta {
    Delta { revision: entry.modified, changes: vec![Change::Put(entry)] }
}

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

#[test]
fn a_snapshot_is_read_without_faults() {
    let view = view(two_nodes());
    assert_eq!(view.faults, BTreeMap::new());
    assert_eq!((view.nodes.len(), view.blocks.len(), view.revision), (2, 2, 10));
    assert_eq!(view.config.as_ref().unwrap().modified, 2);
    assert_eq!(view.blocks_of(&name("n1")).collect::<Vec<_>>(), ["10.42.1.0/26".parse().unwrap()]);
}

#[test]
fn a_snapshot_replaces_what_was_known_before() {
    let mut view = view(two_nodes());
    let entries = two_nodes().into_iter().filter(|e| !e.key.contains("n2")).collect();
    view.replace(&Snapshot { revision: 12, entries });
    assert!(!view.nodes.contains_key(&name("n2")));
    assert_eq!(view.blocks.len(), 2);
    view.replace(&Snapshot { revision: 13, entries: Vec::new() });
    assert_eq!(view, View { revision: 13, ..View::default() });
}

#[test]
fn deltas_lead_to_the_same_view_as_a_snapshot() {
    let mut by_delta = View::default();
    for (at, entry) in two_nodes().into_iter().rev().enumerate() {
        by_delta.apply(&Delta { revision: at as i64, changes: vec![Change::Put(entry)] });
    }
    by_delta.apply(&Delta { revision: 10, changes: Vec::new() });
    assert_eq!(by_delta, view(two_nodes()));
}

#[test]
fn merged_deltas_are_the_same_as_one_after_the_other() {
    let later = |key: &str, revision| Delta { revision, changes: vec![Change::Delete(key.into())] };
    let deltas = [put(node("n3", 3, 11)), later("nodes/n3", 12), later("nodes/n2", 13), put(node("n2", 2, 14))];
    let (mut one_by_one, mut at_once) = (view(two_nodes()), view(two_nodes()));
    let mut merged = Delta { revision: 10, changes: Vec::new() };
    for delta in deltas {
        one_by_one.apply(&delta);
        merged.merge(delta);
    }
    at_once.apply(&merged);
    assert_eq!(at_once, one_by_one);
    assert_eq!((at_once.revision, at_once.nodes[&name("n2")].created), (14, 14));
}

#[test]
fn a_view_survives_the_way_over_its_snapshot() {
    let mut entries = two_nodes();
    entries.push(entry("nodes/n3", json!({ "machine_id": "m3", "nonce": "x", "of a newer version": [1] }), 8));
    let view = view(entries);
    let mut again = View::default();
    again.replace(&view.snapshot());
    assert_eq!(again, view);
    assert_eq!(again.nodes[&name("n3")].value.other["of a newer version"], json!([1]));
}

#[test]
fn a_garbage_record_harms_only_itself() {
    for (garbage, why) in [
        (&b"\xff\xfe"[..], "expected value"),
        (b"", "it is empty"),
        (b"[]", "invalid"),
        (b"{}", "machine_id"),
        (br#"{"machine_id":"m","nonce":7}"#, "string"),
        (br#"{"machine_id":"","nonce":"x"}"#, "machine_id"),
        (br#"{"machine_id":"m","nonce":"x","underlay":{"ipv4":"fd00::1/64"}}"#, "other family"),
        (br#"{"machine_id":"m","nonce":"x","underlay":{"ipv4":"127.0.0.1/8"}}"#, "no address of a host"),
        (br#"{"machine_id":"m","nonce":"x","vxlan":{"mac":"01:00:5e:00:00:01"}}"#, "unicast"),
        (br#"{"machine_id":"m","nonce":"x","vxlan":{"mac":"02:00:5e:00:00"}}"#, "unicast"),
        (br#"{"machine_id":"m\u001b[2J","nonce":"x"}"#, "machine_id"),
        (br#"{"machine_id":"m","nonce":"x\u0007"}"#, "nonce"),
        (br#"{"machine_id":"m","nonce":"x","version":"\u001b]0;owned\u0007"}"#, "version"),
        (br#"{"machine_id":"m","nonce":"x","labels":{"a":"\u009b31m"}}"#, "labels"),
        (br#"{"machine_id":"m","nonce":"x","labels":{"\u202e":"a"}}"#, "labels"),
    ] {
        let mut entries = two_nodes();
        entries.push(Entry { key: "nodes/n3".into(), value: garbage.into(), created: 7, modified: 7 });
        let view = view(entries);
        assert_eq!((view.nodes.len(), view.blocks.len()), (2, 2));
        assert_eq!(view.faults.len(), 1);
        assert!(view.faults["nodes/n3"].contains(why), "{:?}", view.faults);
    }
}

#[test]
fn garbage_over_a_good_record_removes_it_until_it_is_good_again() {
    let mut view = view(two_nodes());
    for key in ["nodes/n2", "blocks/4/0a2a0200-26", "config"] {
        let good = two_nodes().into_iter().find(|e| e.key == key).unwrap();
        view.apply(&put(Entry { value: b"nonsense".into(), modified: 11, ..good.clone() }));
        assert!(view.faults.contains_key(key), "{:?}", view.faults);
        view.apply(&put(good));
        assert!(!view.faults.contains_key(key), "{:?}", view.faults);
    }
    assert_eq!(view.faults, BTreeMap::new());
    view.apply(&put(Entry { key: "nodes/n3".into(), value: b"?".into(), created: 12, modified: 12 }));
    view.apply(&Delta { revision: 13, changes: vec![Change::Delete("nodes/n3".into())] });
    assert_eq!(view.faults, BTreeMap::new());
}

#[test]
fn a_huge_record_is_refused_unread_and_its_fault_is_short() {
    let value = json!({ "machine_id": "m", "nonce": "x", "labels": { "a": "b".repeat(1 << 20) } });
    let odd = json!({ "machine_id": "m", "nonce": format!("\u{1b}[2J{}", "x".repeat(10_000)) });
    let view = view(vec![entry("nodes/n1", value, 2), entry("nodes/n2", odd, 3)]);
    assert_eq!(view.nodes.len(), 0);
    assert!(view.faults["nodes/n1"].contains("bytes long"));
    assert!(view.faults["nodes/n2"].len() < 1000 && !view.faults["nodes/n2"].contains('\u{1b}'));
}

/// As the operator may configure it and the daemon publishes it, all at its longest.
#[test]
fn the_longest_legal_record_is_read() {
    // 64 labels of 4 KiB in all, of what JSON escapes; each name needs a letter at both ends.
    let label = |i: u8| format!("l{i:02}x = '{}'", "\\".repeat(60));
    let layer = |labels: usize| (0..labels as u8).map(label).collect::<Vec<_>>().join("\n");
    let conf = |labels: usize| twill_conf::node::NodeLayer::from_toml(&format!("[labels]\n{}", layer(labels)));
    let record = NodeRecord {
        machine_id: "m".repeat(64),
        nonce: format!("{}-{}", "f".repeat(16), u64::MAX),
        underlay: crate::record::Underlay {
            ipv4: Some("192.168.255.255/24".parse().unwrap()),
            ipv6: Some("2001:db8:1111:2222:3333:4444:5555:6666/128".parse().unwrap()),
        },
        tunnel: crate::record::Tunnel {
            ipv4: Some("100.100.100.100".parse().unwrap()),
            ipv6: Some("fd00:1111:2222:3333:4444:5555:6666:7777".parse().unwrap()),
        },
        vxlan: Some(crate::record::VxlanEnd {
            mac: "02:00:5e:10:00:01".into(),
            vni: Some(16_777_215),
            port: Some(u16::MAX),
        }),
        path: Some(crate::record::Path { tunnels: true, mtu: u32::MAX, pods: u32::MAX }),
        labels: conf(64).unwrap().labels.unwrap(),
        version: "9".repeat(128),
        can: Can::of(&"9".repeat(128), &[Ability::Bgp]),
        disputes: vec!["fd00:1111:2222:3333:4444:5555:6666:7700/122".parse().unwrap(); 64],
        drain: None,
        other: serde_json::Map::new(),
    };
    assert_eq!(record.labels.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>(), 4096);
    let view = view(vec![entry("nodes/n1", serde_json::to_value(&record).unwrap(), 2)]);
    assert!(view.nodes.get(&name("n1")).is_some_and(|read| read.value == record), "{:?}", view.faults);
}

#[test]
fn keys_that_are_none_are_faults_and_those_of_other_places_are_not() {
    let view = view(vec![
        entry("blocks/4/0a2a0001-26", json!({}), 2),
        entry("nodes/UPPER", json!({}), 3),
        entry("policies/p1", json!({}), 4),
        entry("config-of-something-else", json!({}), 5),
    ]);
    assert_eq!(view.faults.keys().collect::<Vec<_>>(), ["blocks/4/0a2a0001-26", "nodes/UPPER"]);
}

#[test]
fn records_that_contradict_each_other_are_read_and_left_to_be_judged() {
    let mut entries = two_nodes();
    entries.extend([node("twin", 1, 7), block("10.42.1.32/27", "twin", 8), block("0.0.0.0/0", "n2", 9)]);
    let view = view(entries);
    assert_eq!(view.faults, BTreeMap::new());
    assert_eq!((view.nodes.len(), view.blocks.len()), (3, 4));
}

proptest::proptest! {
    #[test]
    fn what_overlaps_a_block_is_found_without_a_look_at_the_others(
        there in proptest::collection::vec((0u32..64, 26u8..=32), 0..8), at in 0u32..64, length in 24u8..=32,
    ) {
        let block = |at: u32, length: u8| {
            let ip = std::net::Ipv4Addr::from_bits(0x0a2a_0000 + at);
            Block::new(ipnetwork::Ipv4Network::new(ip, 32).unwrap().into()).unwrap().around(length).unwrap()
        };
        let other = Entry { key: "blocks/4/0a2a0040-26".into(), ..super::tests::block("10.42.0.64/26", "n1", 1) };
        let blocks = there.into_iter().map(|(at, length)| super::tests::block(&block(at, length).to_string(), "n1", 1));
        let view = view(blocks.chain([other]).collect());
        let wanted = block(at, length);
        let first = view.blocks.iter().find(|(there, _)| there.overlaps(wanted));
        proptest::prop_assert_eq!(view.overlapping(wanted), first);
    }
}

#[test]
fn a_back_end_that_a_version_cannot_serve_is_a_fault_and_a_speaker_beside_another_is_none() {
    let pools = json!([{ "name": "a", "cidr": "10.42.0.0/16" }]);
    let read = |more: serde_json::Value| {
        let mut conf = json!({ "pool": pools });
        conf.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        view(vec![entry("config", conf, 3)]).config.unwrap().value
    };
    let [beside, only] = [json!({ "bgp": {} }), json!({ "backend": { "type": "bgp" } })].map(read);
    assert!(beside.bgp.is_some());
    let fault = "backend.type: \"bgp\" asks every node to speak BGP, which this version cannot";
    assert_eq!((able(&beside, &[]), able(&only, &[])), (Ok(()), Err(fault.to_owned())));
    assert_eq!(able(&only, Ability::OF_THIS_VERSION), Ok(()));
}

#[test]
fn what_a_node_can_is_read_and_a_record_without_it_is_written_as_before() {
    let old =
        json!({ "machine_id": "m", "nonce": "x", "underlay": {}, "tunnel": {}, "labels": {}, "version": "0.1.0" });
    let mut new = old.clone();
    new["can"] = json!({ "version": "0.1.0", "what": ["bgp", "later"] });
    let view = view(vec![entry("nodes/n1", old.clone(), 2), entry("nodes/n2", new.clone(), 3)]);
    let record = |text| &view.nodes[&name(text)].value;
    assert_eq!([record("n1"), record("n2")].map(|record| record.can(Ability::Bgp)), [false, true]);
    assert_eq!(serde_json::to_value(record("n1")).unwrap(), old);
    assert_eq!(serde_json::to_value(record("n2")).unwrap(), new);
}
