//! Plans over the simulated store.

use super::*;
use crate::simulated::SimulatedStore;
use crate::txn::Outcome;

/// The time of day, in seconds since 1970.
const NOW: u64 = 2_000;

fn put(store: &SimulatedStore, key: &str, value: serde_json::Value) {
    let value = value.to_string().into_bytes();
    store.apply(&Txn { when: Vec::new(), then: vec![Op::Put { key: key.into(), value, lease: None }] });
}

fn node() -> NodeName {
    "n1".parse().unwrap()
}

fn found(store: &SimulatedStore) -> Found {
    let look = |range: Range| store.look(&range);
    let mirror = look(Range::prefix("addresses/n1/"));
    Found::of(&node(), &look(Range::watched()), &mirror, &look(Range::key("alive/n1")), NOW)
}

fn with_blocks(count: usize) -> SimulatedStore {
    let store = SimulatedStore::new();
    for name in ["n1", "n10"] {
        put(&store, &format!("nodes/{name}"), serde_json::json!({ "machine_id": name, "nonce": "x" }));
    }
    for i in 0..count + 1 {
        let name: NodeName = if i == 0 { "n10".parse().unwrap() } else { node() };
        let block: Block = format!("10.42.{}.{}/32", i / 256, i % 256).parse().unwrap();
        put(
            &store,
            &key::block(block),
            serde_json::json!({ "node": name, "machine_id": "m", "epoch": 2, "nonce": "x" }),
        );
        put(&store, &key::addresses(&name, block), serde_json::json!({ "epoch": 2, "nonce": "x" }));
    }
    store
}

#[test]
fn a_node_goes_with_its_blocks_and_their_mirrors_and_nobody_elses() {
    for (blocks, transactions) in [(0, 1), (2, 1), (63, 1), (64, 2), (200, 4)] {
        let store = with_blocks(blocks);
        let plan = found(&store).plan(true).unwrap();
        assert_eq!(plan.len(), transactions, "{blocks} blocks");
        for txn in &plan {
            assert!(txn.when.len() <= MOST && txn.then.len() <= MOST);
            assert!(matches!(store.apply(txn), Outcome::Done(_)));
        }
        let left = store.look(&Range { start: String::new(), end: "~".into() }).entries;
        let left: Vec<&str> = left.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(left, ["addresses/n10/4/0a2a0000-32", "blocks/4/0a2a0000-32", "nodes/n10"]);
    }
}

#[test]
fn what_changed_since_it_was_read_makes_the_deletion_fail() {
    for key in ["nodes/n1", "blocks/4/0a2a0001-32", "alive/n1"] {
        let store = with_blocks(1);
        let plan = found(&store).plan(true).unwrap();
        put(&store, key, serde_json::json!({ "node": "n1", "machine_id": "n1", "epoch": 2, "nonce": "y" }));
        assert!(matches!(store.apply(&plan[0]), Outcome::Refused(_)), "{key}");
    }
}

#[test]
fn a_node_that_is_alive_or_may_run_or_is_not_there_is_not_deleted() {
    let store = with_blocks(1);
    assert!(matches!(found(&store).plan(false), Err(Refusal::MayRun { blocks: 1, .. })));
    put(&store, "alive/n1", serde_json::json!({}));
    assert_eq!(found(&store).plan(true), Err(Refusal::Alive(node())));
    assert_eq!(found(&SimulatedStore::new()).plan(true), Err(Refusal::Unknown(node())));
    assert!(found(&with_blocks(0)).plan(false).is_ok(), "it has nothing to lose");
}

/// n1 drained, with one block whose mirror says this.
fn drained(content: serde_json::Value) -> SimulatedStore {
    let store = with_blocks(1);
    put(&store, "nodes/n1", serde_json::json!({ "machine_id": "n1", "nonce": "x", "drain": "w2" }));
    let mut record = serde_json::json!({ "epoch": 2, "nonce": "x", "drain": "w2" });
    for (key, value) in content.as_object().unwrap() {
        record[key] = value.clone();
    }
    put(&store, "addresses/n1/4/0a2a0001-32", record);
    store
}

#[test]
fn a_drained_node_that_mirrors_no_pod_is_deleted_without_an_assertion() {
    let cooling = |until: u64| serde_json::json!({ "state": "cooling", "since": 1, "until": until });
    let tunnel = serde_json::json!({ "state": "tunnel" });
    for content in [
        serde_json::json!({}),
        serde_json::json!({ "addresses": { "10.42.0.1": tunnel } }),
        serde_json::json!({ "addresses": { "10.42.0.1": cooling(NOW) } }),
    ] {
        let store = drained(content.clone());
        let plan = found(&store).plan(false).unwrap_or_else(|refusal| panic!("{content}: {refusal}"));
        assert!(matches!(store.apply(&plan[0]), Outcome::Done(_)));
    }
}

#[test]
fn a_drained_node_is_not_deleted_where_its_mirror_proves_nothing() {
    let attached = serde_json::json!({ "state": "attached", "since": 1 });
    let cooling = serde_json::json!({ "state": "cooling", "since": 1, "until": NOW + 1 });
    for content in [
        serde_json::json!({ "drain": null }),
        // Of an earlier drain: since then it has served.
        serde_json::json!({ "drain": "w1" }),
        serde_json::json!({ "epoch": 3 }),
        serde_json::json!({ "left_out": 1 }),
        serde_json::json!({ "cools_until": NOW + 1 }),
        serde_json::json!({ "addresses": { "10.42.0.1": attached } }),
        // Two links may claim it.
        serde_json::json!({ "addresses": { "10.42.0.1": { "state": "withheld" } } }),
        serde_json::json!({ "addresses": { "10.42.0.1": cooling } }),
        serde_json::json!({ "addresses": { "10.42.0.1": { "state": "teleported" } } }),
        serde_json::json!({ "addresses": "rubbish" }),
    ] {
        let refused = found(&drained(content.clone())).plan(false);
        assert!(matches!(refused, Err(Refusal::MayRun { .. })), "{content}: {refused:?}");
    }
    let without_a_mirror = drained(serde_json::json!({}));
    let delete = Op::Delete { key: "addresses/n1/4/0a2a0001-32".into() };
    without_a_mirror.apply(&Txn { when: Vec::new(), then: vec![delete] });
    assert!(found(&without_a_mirror).plan(false).is_err());
}

#[test]
fn a_node_with_pods_in_blocks_of_others_or_an_unreadable_record_is_deleted_by_assertion_only() {
    let drained_with = |more: serde_json::Value| {
        let store = drained(serde_json::json!({}));
        put(&store, "nodes/n1", more);
        store
    };
    let nothing_of_its_own = with_blocks(0);
    let disputing =
        || serde_json::json!({ "machine_id": "n1", "nonce": "x", "drain": "w2", "disputes": ["10.42.9.0/24"] });
    put(&nothing_of_its_own, "nodes/n1", disputing());
    for store in [drained_with(disputing()), nothing_of_its_own, drained_with(serde_json::json!("rubbish"))] {
        assert_eq!(found(&store).plan(false), Err(Refusal::Disputes(node())));
        assert!(found(&store).plan(true).is_ok());
    }
}

#[test]
fn a_mirror_that_changes_after_the_look_makes_the_deletion_of_a_drained_node_fail() {
    let store = drained(serde_json::json!({}));
    let plan = found(&store).plan(false).unwrap();
    put(&store, "addresses/n1/4/0a2a0001-32", serde_json::json!({ "epoch": 2, "nonce": "y" }));
    assert!(matches!(store.apply(&plan[0]), Outcome::Refused(_)));
}
