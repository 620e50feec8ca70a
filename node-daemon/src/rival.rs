//! That this machine goes by the name of a node which another machine has: told in etcd, so that an operator sees of the two.
//!
//! It is told below the answers of that node (`inquiry::rival_key`), which whoever bears its name may write, on a lease. Nothing hangs
//! on it. Such a machine answers no request either: those are meant for the other one.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use twill_cluster::inquiry::rival_key;
use twill_cluster::inquiry::state::RivalRecord;
use twill_cluster::store::{Range, Store, StoreError};
use twill_cluster::txn::{Op, Txn};
use twill_conf::NodeName;

use crate::picture::{Picture, Pictures};

const TTL: Duration = Duration::from_secs(60);
const RENEWAL: Duration = Duration::from_secs(20);

/// This machine, by the name of its node.
#[derive(Debug, Clone)]
pub struct Bearer {
    /// The name.
    pub node: NodeName,
    /// The machine's identity.
    pub machine_id: String,
}

impl Bearer {
    /// Whether another machine has the name, as etcd has told. While it has told nothing nobody knows.
    pub fn is_rival(&self, picture: Option<&Picture>) -> Option<bool> {
        let picture = picture.filter(|picture| picture.proven)?;
        let record = picture.view.nodes.get(&self.node);
        Some(record.is_some_and(|record| record.value.machine_id != self.machine_id))
    }

    /// Tells it while it is so.
    pub async fn tell<S: Store>(&self, etcd: &S, pictures: Pictures) {
        self.tell_every(RENEWAL, etcd, pictures).await;
    }

    async fn tell_every<S: Store>(&self, renewal: Duration, etcd: &S, mut pictures: Pictures) {
        let mut told: Option<(i64, Instant)> = None;
        loop {
            let is_rival = self.is_rival(pictures.borrow_and_update().as_ref());
            let done = match (is_rival, told) {
                (Some(true), Some((_, at))) if at.elapsed() < renewal => Ok(told),
                (Some(true), _) => self.beat(etcd, told).await.map(|lease| Some((lease, Instant::now()))),
                (Some(false), Some(_)) => self.cease(etcd).await.map(|()| None),
                (None, _) | (Some(false), None) => Ok(told),
            };
            match done {
                Ok(now) => told = now,
                Err(error) => {
                    tracing::debug!(%error, "that the name is another machine's is not told");
                    if pictures.has_changed().is_err() {
                        return;
                    }
                    // Tried again however little changes, and no sooner however much.
                    sleep(renewal).await;
                    continue;
                }
            }
            tokio::select! {
                changed = pictures.changed() => if changed.is_err() { return },
                () = sleep(renewal), if told.is_some() => {}
            }
        }
    }

    async fn beat<S: Store>(&self, etcd: &S, told: Option<(i64, Instant)>) -> Result<i64, StoreError> {
        let lease = match told {
            Some((lease, _)) if etcd.renew(lease).await? => lease,
            _ => etcd.grant(TTL).await?,
        };
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        let record = RivalRecord { machine_id: self.machine_id.clone(), hostname };
        let value = serde_json::to_vec(&record).expect("a record of texts can be written");
        let put = Op::Put { key: rival_key(&self.node), value, lease: Some(lease) };
        etcd.commit(&Txn { when: Vec::new(), then: vec![put] }).await?;
        Ok(lease)
    }

    async fn cease<S: Store>(&self, etcd: &S) -> Result<(), StoreError> {
        let delete = Op::Delete { key: rival_key(&self.node) };
        etcd.commit(&Txn { when: Vec::new(), then: vec![delete] }).await.map(drop)
    }

    /// What a second machine of this name tells.
    pub async fn rival<S: Store>(&self, etcd: &S) -> Option<RivalRecord> {
        let found = etcd.read(&Range::key(&rival_key(&self.node))).await.ok()?;
        let record = RivalRecord::read(&found.entries.first()?.value)?;
        (record.machine_id != self.machine_id).then_some(record)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::watch;
    use twill_cluster::View;
    use twill_cluster::simulated::{Fate, SimulatedStore};
    use twill_cluster::view::{Entry, Snapshot};

    use super::*;

    fn picture(machine_id: &str, proven: bool) -> Option<Picture> {
        let value = format!(r#"{{"machine_id":"{machine_id}","nonce":"x"}}"#).into_bytes();
        let entry = Entry { key: "nodes/n1".into(), value, created: 1, modified: 1 };
        let mut view = View::default();
        view.replace(&Snapshot { revision: 1, entries: vec![entry] });
        let view = Arc::new(view);
        Some(Picture { reach: Arc::clone(&view), view, proven })
    }

    #[tokio::test]
    async fn the_second_machine_tells_of_itself_for_as_long_as_another_one_has_its_name() {
        let etcd = SimulatedStore::new();
        let node: NodeName = "n1".parse().unwrap();
        let bearer = |id: &str| Bearer { node: node.clone(), machine_id: id.to_owned() };
        let (first, second) = (bearer("m1"), bearer("m2"));
        let (pictures, seen) = watch::channel(picture("m1", false));
        assert_eq!(second.is_rival(seen.borrow().as_ref()), None, "a view from the disk proves nothing");
        pictures.send_replace(picture("m1", true));
        assert_eq!([&first, &second].map(|one| one.is_rival(seen.borrow().as_ref())), [Some(false), Some(true)]);
        let watching = async {
            let told = |etcd: &SimulatedStore| {
                let (first, etcd) = (first.clone(), etcd.clone());
                async move { first.rival(&etcd).await }
            };
            while told(&etcd).await.is_none() {
                sleep(Duration::from_millis(10)).await;
            }
            assert_eq!(told(&etcd).await.unwrap().machine_id, "m2");
            assert_eq!(second.rival(&etcd).await, None, "not of itself");
            pictures.send_replace(picture("m2", true));
            while told(&etcd).await.is_some() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            () = watching => {}
            () = second.tell(&etcd, seen.clone()) => panic!("it has ended"),
            () = first.tell(&etcd, seen.clone()) => panic!("it has ended"),
            () = sleep(Duration::from_secs(20)) => panic!("it was not told"),
        }
    }

    #[tokio::test]
    async fn a_first_word_that_is_lost_is_said_again_though_nothing_changes() {
        let etcd = SimulatedStore::new();
        let bearer = |id: &str| Bearer { node: "n1".parse().unwrap(), machine_id: id.to_owned() };
        let (first, second) = (bearer("m1"), bearer("m2"));
        let (_pictures, seen) = watch::channel(picture("m1", true));
        // It is not written at first, nor when it is tried once more.
        etcd.destine([Fate::Unavailable, Fate::Unavailable]);
        let told = async {
            while first.rival(&etcd).await.is_none() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let telling = second.tell_every(Duration::from_millis(20), &etcd, seen);
        tokio::select! {
            biased;
            () = telling => panic!("it has ended"),
            () = told => {}
            () = sleep(Duration::from_secs(20)) => panic!("it was not told"),
        }
    }
}
