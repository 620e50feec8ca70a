//! Writing to the lab's etcd as daemons do, by the real client, for benchmarks that fill it.

use twill_cluster::EtcdStore;
use twill_cluster::store::Store as _;
use twill_cluster::txn::{Op, Outcome, Txn};

use crate::etcd::{Etcd, PREFIX};
use crate::{LabError, Result};

/// A client of all members. Its sockets are made in the namespace of the runtime's threads.
pub fn connect(etcd: &Etcd) -> Result<EtcdStore> {
    let endpoints: Vec<String> = etcd.members().iter().flat_map(|member| member.clients().to_vec()).collect();
    EtcdStore::connect(&endpoints, PREFIX).map_err(|error| LabError::wrong(error.to_string()))
}

/// Does all of it in one transaction, whatever stands. The revision then.
pub async fn commit(store: &EtcdStore, then: Vec<Op>) -> Result<i64> {
    let done = store.commit(&Txn { when: Vec::new(), then }).await;
    match done.map_err(|error| LabError::wrong(error.to_string()))? {
        Outcome::Done(revision) => Ok(revision),
        Outcome::Refused(revision) => Err(LabError::wrong(format!("refused without a condition, at {revision}"))),
    }
}

/// Writes a key.
pub fn put(key: impl Into<String>, value: impl Into<Vec<u8>>) -> Op {
    Op::Put { key: key.into(), value: value.into(), lease: None }
}

/// Writes a record under a key, as JSON.
pub fn put_record(key: String, record: &impl serde::Serialize) -> Op {
    put(key, serde_json::to_vec(record).expect("records have string keys and finite numbers"))
}
