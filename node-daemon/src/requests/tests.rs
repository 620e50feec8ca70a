//! What waits for what, with an etcd that is slow.

use std::future::pending;

use serde_json::json;
use twill_cluster::View;
use twill_cluster::simulated::SimulatedStore;
use twill_cluster::view::{Entry, Snapshot};
use twill_conf::node::NodeLayer;

use super::*;
use crate::blocks::Complaints;
use crate::fixture::Fixture;
use crate::metrics::Metrics;
use crate::metrics::health::Readiness;
use crate::picture::Picture;
use crate::troubles::Troubles;

/// An etcd that does not answer when it is asked for a second machine of the name, as a member that hangs.
#[derive(Debug, Clone)]
struct Slow {
    store: SimulatedStore,
    rival: Range,
}

impl Store for Slow {
    async fn read(&self, range: &Range) -> Result<Snapshot, StoreError> {
        if *range == self.rival {
            pending::<()>().await;
        }
        self.store.read(range).await
    }

    async fn commit(&self, txn: &Txn) -> Result<twill_cluster::txn::Outcome, StoreError> {
        self.store.commit(txn).await
    }

    async fn grant(&self, ttl: Duration) -> Result<i64, StoreError> {
        self.store.grant(ttl).await
    }

    async fn renew(&self, lease: i64) -> Result<bool, StoreError> {
        self.store.renew(lease).await
    }

    fn watch(&self, range: Range) -> mpsc::Receiver<Event> {
        self.store.watch(range)
    }
}

/// The cluster as etcd has told it: n1 is this machine.
fn pictures() -> Pictures {
    let value = br#"{"machine_id":"m1","nonce":"x"}"#.to_vec();
    let mut view = View::default();
    let entry = Entry { key: "nodes/n1".into(), value, created: 1, modified: 1 };
    view.replace(&Snapshot { revision: 1, entries: vec![entry] });
    let view = Arc::new(view);
    watch::channel(Some(Picture { reach: Arc::clone(&view), view, proven: true })).1
}

fn requests(node: &Fixture) -> Requests {
    let (pictures, troubles, run_dir) = (pictures(), Troubles::default(), node.run.path().to_owned());
    let (metrics, handles) = Metrics::new(&troubles);
    let sources = Sources {
        begin: std::time::Instant::now(),
        requests: handles.requests,
        cluster: handles.cluster,
        convergence: handles.convergence,
        passes: handles.passes,
        peers: handles.peers,
        probes: handles.probes,
        reckoning: Arc::default(),
        standings: watch::channel(None).1,
        troubles: troubles.clone(),
        complaints: Complaints::default(),
        readiness: Arc::new(Readiness::new(node.store.clone(), run_dir.clone(), metrics.ready().clone())),
    };
    let conf = NodeLayer::from_toml("etcd = ['http://192.0.2.1:2379']").unwrap().resolve("n1").unwrap();
    let underlays = watch::channel(None).1;
    let machine = Machine::new(conf, pictures.clone(), underlays.clone(), troubles, Complaints::default());
    let means = Means::for_tests(run_dir.join("plugin"), pictures.clone(), underlays);
    let helpers = Helpers {
        drain: mpsc::channel(1).0,
        audit: mpsc::channel(1).0,
        speaker: mpsc::channel(1).0,
        wanted: watch::channel(None).1,
        sources,
        machine,
        means,
    };
    let bearer = Bearer { node: "n1".parse().unwrap(), machine_id: "m1".into() };
    Requests::new(bearer, node.store.clone(), pictures, helpers)
}

#[tokio::test]
async fn how_the_daemon_is_keeps_no_other_request_waiting_where_etcd_is_slow() {
    let Some(node) = Fixture::new() else { return };
    let n1: NodeName = "n1".parse().unwrap();
    let store = SimulatedStore::new();
    let slow = Slow { store: store.clone(), rival: Range::key(&inquiry::rival_key(&n1)) };
    // In the order of their keys.
    for (id, ask) in [("0-1", json!({ "kind": "state" })), ("0-2", json!({ "kind": "attempts" }))] {
        let value = json!({ "from": "a test", "ask": ask }).to_string().into_bytes();
        let put = Op::Put { key: inquiry::request_key(&n1, id), value, lease: None };
        store.apply(&Txn { when: Vec::new(), then: vec![put] });
    }
    let is_answered = |id: &str| !store.look(&Range::key(&inquiry::answer_key(&n1, id))).entries.is_empty();
    let answered = async {
        while !is_answered("0-2") {
            sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = requests(&node).answer(&slow) => panic!("it has ended"),
        () = answered => assert!(!is_answered("0-1"), "etcd was not slow"),
        () = sleep(Duration::from_secs(20)) => panic!("the second one waits for the first one"),
    }
}
