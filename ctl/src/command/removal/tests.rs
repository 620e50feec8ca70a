//! Deletions over the simulated store, also where they fail half-way.

use serde_json::{Value, json};
use twill_cluster::removal::Found;
use twill_cluster::simulated::{Fate, SimulatedStore};
use twill_cluster::store::Range;
use twill_conf::NodeName;

use super::*;
use crate::report::Verdict;

fn put(store: &SimulatedStore, key: &str, value: &Value) {
    let put = Op::Put { key: key.into(), value: value.to_string().into_bytes(), lease: None };
    store.apply(&Txn { when: Vec::new(), then: vec![put] });
}

fn n1() -> NodeName {
    "n1".parse().unwrap()
}

/// n1 with so many blocks, each with a mirror.
fn with_blocks(count: usize) -> SimulatedStore {
    let store = SimulatedStore::new();
    put(&store, "nodes/n1", &json!({ "machine_id": "m", "nonce": "x" }));
    for number in 0..count {
        let block = json!({ "node": "n1", "machine_id": "m", "epoch": 2, "nonce": "x" });
        put(&store, &format!("blocks/4/0a2a{number:04x}-32"), &block);
        put(&store, &format!("addresses/n1/4/0a2a{number:04x}-32"), &json!({ "epoch": 2, "nonce": "x" }));
    }
    store
}

async fn found(store: &SimulatedStore) -> Found {
    Found::read(store, &n1(), 0).await.unwrap()
}

fn left(store: &SimulatedStore) -> usize {
    store.look(&Range { start: String::new(), end: "~".into() }).entries.len()
}

#[tokio::test]
async fn a_node_with_blocks_is_deleted_only_if_its_machine_is_said_to_be_off() {
    let store = with_blocks(100);
    let refused = remove(&store, &found(&store).await, false).await.unwrap_err().to_string();
    assert!(refused.starts_with("nothing was deleted: ") && refused.contains("--machine-is-off"), "{refused}");
    let removed = remove(&store, &found(&store).await, true).await.unwrap();
    assert_eq!((removed, left(&store)), (Removed { blocks: 100, mirrors: 100 }, 0));
    let again = remove(&store, &found(&store).await, true).await.unwrap_err().to_string();
    assert!(again.contains("no node n1"), "{again}");
}

#[tokio::test]
async fn what_a_node_claimed_after_it_was_read_goes_too_and_is_counted() {
    let store = with_blocks(1);
    let before = found(&store).await;
    let late = json!({ "node": "n1", "machine_id": "m", "epoch": 2, "nonce": "x" });
    put(&store, "blocks/4/0a2b0000-32", &late);
    let removed = remove(&store, &before, true).await.unwrap();
    assert_eq!((removed, left(&store)), (Removed { blocks: 2, mirrors: 1 }, 0));
}

#[tokio::test]
async fn a_node_that_changed_before_anything_was_deleted_is_told_so() {
    let store = with_blocks(1);
    let before = found(&store).await;
    put(&store, "nodes/n1", &json!({ "machine_id": "m", "nonce": "y" }));
    let refused = remove(&store, &before, true).await.unwrap_err().to_string();
    assert!(refused.starts_with("node n1 changed while it was being deleted, so nothing was deleted"), "{refused}");
    assert_eq!(left(&store), 3);
}

#[tokio::test]
async fn a_deletion_that_ends_half_way_says_what_is_gone_and_how_to_go_on() {
    // Refused: the block of the second transaction changed.
    let store = with_blocks(100);
    let before = found(&store).await;
    put(&store, "blocks/4/0a2a0063-32", &json!({ "node": "n1", "machine_id": "m", "epoch": 2, "nonce": "y" }));
    let error = remove(&store, &before, true).await.unwrap_err();
    let told = error.to_string();
    let words = "node n1: its record and 63 of its blocks are deleted, and something may be left: the rest changed meanwhile, so it \
                 may be coming back; ";
    assert!(told.starts_with(words) && told.contains("'twillctl node delete n1 --machine-is-off'"), "{told}");
    assert_eq!((error.verdict(), left(&store)), (Verdict::Problems, 2 * 37));
    // As it says.
    assert_eq!(remove(&store, &found(&store).await, true).await.unwrap(), Removed { blocks: 37, mirrors: 37 });

    // The answer to the second transaction is lost.
    let store = with_blocks(100);
    let before = found(&store).await;
    store.destine([Fate::Done, Fate::AnswerLost]);
    let told = remove(&store, &before, true).await.unwrap_err().to_string();
    assert!(told.starts_with("node n1: its record and 63 of its blocks are deleted"), "{told}");

    // That to the first one is.
    let store = with_blocks(1);
    store.destine([Fate::AnswerLost]);
    let told = remove(&store, &found(&store).await, true).await.unwrap_err().to_string();
    assert!(told.starts_with("node n1: ") && told.contains("may or may not have been deleted"), "{told}");
}
