//! Our words in etcd's.

use etcd_client::{Compare, CompareOp, Event, EventType, KeyValue, PutOptions, Txn, TxnOp};

use crate::txn;
use crate::view::{Change, Entry};

/// A transaction, with the prefix before all keys.
pub(super) fn transaction(prefix: &str, txn: &txn::Txn) -> Txn {
    let when: Vec<Compare> = txn.when.iter().map(|condition| compare(prefix, condition)).collect();
    let then: Vec<TxnOp> = txn.then.iter().map(|op| operation(prefix, op)).collect();
    Txn::new().when(when).and_then(then)
}

fn compare(prefix: &str, condition: &txn::Compare) -> Compare {
    let full = |key: &str| format!("{prefix}{key}");
    match condition {
        txn::Compare::Created { key, revision } => Compare::create_revision(full(key), CompareOp::Equal, *revision),
        txn::Compare::Modified { key, revision } => Compare::mod_revision(full(key), CompareOp::Equal, *revision),
        // Of every key in the range it is asked whether it was never created.
        txn::Compare::NoneIn { start, end } => {
            Compare::create_revision(full(start), CompareOp::Equal, 0).with_range(full(end))
        }
    }
}

fn operation(prefix: &str, op: &txn::Op) -> TxnOp {
    match op {
        txn::Op::Put { key, value, lease } => {
            let options = lease.map(|lease| PutOptions::new().with_lease(lease));
            TxnOp::put(format!("{prefix}{key}"), value.clone(), options)
        }
        txn::Op::Delete { key } => TxnOp::delete(format!("{prefix}{key}"), None),
    }
}

/// A key with its value, without the prefix. What is not UTF-8 is no key of ours; it is told apart and kept, to be reported.
pub(super) fn entry(prefix: &str, kv: &KeyValue) -> Entry {
    Entry {
        key: short(prefix, kv.key()),
        value: kv.value().to_vec(),
        created: kv.create_revision(),
        modified: kv.mod_revision(),
    }
}

/// A change, without the prefix.
pub(super) fn change(prefix: &str, event: &Event) -> Option<Change> {
    let kv = event.kv()?;
    Some(match event.event_type() {
        EventType::Put => Change::Put(entry(prefix, kv)),
        EventType::Delete => Change::Delete(short(prefix, kv.key())),
    })
}

fn short(prefix: &str, key: &[u8]) -> String {
    String::from_utf8_lossy(key.strip_prefix(prefix.as_bytes()).unwrap_or(key)).into_owned()
}
