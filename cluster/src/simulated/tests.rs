//! The simulated store keeps etcd's promises, and breaks answers as told.

use super::*;
use crate::txn::{Compare, Op};
use crate::view::Change;

fn put(key: &str, lease: Option<i64>) -> Op {
    Op::Put { key: key.into(), value: b"{}".into(), lease }
}

fn txn(when: Vec<Compare>, key: &str) -> Txn {
    Txn { when, then: vec![put(key, None)] }
}

#[test]
fn a_transaction_is_done_at_one_revision_or_not_at_all() {
    let store = SimulatedStore::new();
    let both = Txn { when: Vec::new(), then: vec![put("a", None), put("b", None)] };
    assert_eq!(store.transact(&both).unwrap(), Outcome::Done(2));
    let none = |start: &str, end: &str| Compare::NoneIn { start: start.into(), end: end.into() };
    assert_eq!(store.transact(&txn(vec![none("b", "c")], "c")).unwrap(), Outcome::Refused(2));
    assert_eq!(store.transact(&txn(vec![none("c", "d")], "c")).unwrap(), Outcome::Done(3));
    let created = |key: &str, revision| Compare::Created { key: key.into(), revision };
    let modified = |key: &str, revision| Compare::Modified { key: key.into(), revision };
    assert_eq!(store.transact(&txn(vec![created("a", 2), modified("a", 2)], "a")).unwrap(), Outcome::Done(4));
    assert_eq!(store.transact(&txn(vec![modified("a", 2)], "a")).unwrap(), Outcome::Refused(4));
    assert_eq!(store.transact(&txn(vec![created("a", 0)], "a")).unwrap(), Outcome::Refused(4));
}

#[test]
fn fates_come_true_in_order() {
    let store = SimulatedStore::new();
    store.destine([Fate::Lost, Fate::AnswerLost, Fate::Late, Fate::Unavailable]);
    let keys = || store.look(&Range::prefix("k")).entries.into_iter().map(|e| e.key).collect::<Vec<_>>();
    assert!(matches!(store.transact(&txn(vec![], "k1")), Err(StoreError::Unknown { .. })));
    assert!(matches!(store.transact(&txn(vec![], "k2")), Err(StoreError::Unknown { .. })));
    assert!(matches!(store.transact(&txn(vec![], "k3")), Err(StoreError::Unknown { .. })));
    assert!(matches!(store.transact(&txn(vec![], "k4")), Err(StoreError::Unavailable { .. })));
    assert!(store.transact(&txn(vec![], "k5")).is_ok());
    assert_eq!(keys(), ["k2", "k5"]);
    store.deliver();
    assert_eq!(keys(), ["k2", "k3", "k5"]);
}

#[tokio::test]
async fn a_watch_brings_a_snapshot_then_deltas_and_a_snapshot_after_compaction() {
    let store = SimulatedStore::new();
    store.transact(&txn(vec![], "nodes/a")).unwrap();
    let mut events = store.watch(Range::watched());
    let Some(Event::Snapshot(snapshot)) = events.recv().await else { panic!("a snapshot comes first") };
    assert_eq!((snapshot.revision, snapshot.entries.len()), (2, 1));
    let lease = store.grant(Duration::from_secs(60)).await.unwrap();
    store.transact(&Txn { when: vec![], then: vec![put("nodes/b", Some(lease)), put("alive/b", None)] }).unwrap();
    let Some(Event::Delta(delta)) = events.recv().await else { panic!("then a delta") };
    assert_eq!(delta.changes.len(), 1, "alive/ is not watched: {delta:?}");
    assert!(store.renew(lease).await.unwrap());
    store.expire(lease);
    assert!(!store.renew(lease).await.unwrap());
    let Some(Event::Delta(delta)) = events.recv().await else { panic!("then a delta") };
    assert_eq!(delta.changes, [Change::Delete("nodes/b".into())]);
    store.transact(&txn(vec![], "nodes/c")).unwrap();
    store.compact();
    let Some(Event::Snapshot(snapshot)) = events.recv().await else { panic!("what was compacted cannot be told") };
    assert_eq!(snapshot.entries.len(), 2);
}
