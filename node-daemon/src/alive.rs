//! `alive/<name>`: a key on a lease, for display only. Nothing in the data path hangs on it. It tells what is wrong with the
//! node ([`Troubles`]); with the lease that is forgotten too.
//!
//! Only the machine that is registered under the name writes it: a second one of that name, which the keeper refuses, must
//! neither look alive nor take the key away with its lease.

use std::time::Duration;

use backon::{BackoffBuilder as _, ConstantBuilder};
use tokio::sync::watch;
use tokio::time::sleep;
use twill_cluster::key;
use twill_cluster::record::AliveRecord;
use twill_cluster::store::{Range, Store, StoreError};
use twill_cluster::txn::{Compare, Op, Txn};
use twill_conf::NodeName;

use crate::troubles::Troubles;

const TTL: Duration = Duration::from_secs(60);
/// Between renewals: 20 s on average, and from two thirds to four thirds of that, so that nodes which were started in one
/// moment do not go on in step.
const RENEWAL: Duration = Duration::from_millis(13_333);

/// So long news of troubles are gathered before they are written.
const GATHER: Duration = Duration::from_secs(1);

/// Keeps the key alive while the node is registered, by the epoch that comes through the channel; while etcd is away, it
/// tries again at the next renewal.
pub async fn keep<S: Store>(store: &S, node: NodeName, mut epochs: watch::Receiver<Option<i64>>, troubles: &Troubles) {
    let mut troubles = troubles.subscribe();
    let mut pauses = ConstantBuilder::default().with_delay(RENEWAL).with_jitter().without_max_times().build();
    let mut lease = None;
    loop {
        tokio::select! {
            () = sleep(pauses.next().unwrap_or(RENEWAL)) => {}
            Ok(()) = epochs.changed() => {}
            Ok(()) = troubles.changed() => sleep(GATHER).await,
        }
        let told: Vec<_> = troubles.borrow_and_update().values().flatten().cloned().collect();
        let record = AliveRecord::new(env!("CARGO_PKG_VERSION"), told);
        let Some(epoch) = *epochs.borrow_and_update() else { continue };
        match beat(store, &node, epoch, lease, &record).await {
            Ok(held) => lease = Some(held),
            Err(error) => tracing::debug!(%error, "liveness not renewed"),
        }
    }
}

/// Renews the lease, and writes the key where it is not there any more or tells something else: whoever deleted it did not
/// touch the lease.
async fn beat<S: Store>(
    store: &S,
    node: &NodeName,
    epoch: i64,
    lease: Option<i64>,
    record: &AliveRecord,
) -> Result<i64, StoreError> {
    let key = key::alive(node);
    let value = serde_json::to_vec(record).expect("a record of texts can be written");
    let lease = match lease {
        Some(lease) if store.renew(lease).await? => {
            if store.read(&Range::key(&key)).await?.entries.iter().any(|entry| entry.value == value) {
                return Ok(lease);
            }
            lease
        }
        _ => store.grant(TTL).await?,
    };
    let ours = Compare::Created { key: key::node(node), revision: epoch };
    store.commit(&Txn { when: vec![ours], then: vec![Op::Put { key, value, lease: Some(lease) }] }).await?;
    Ok(lease)
}
