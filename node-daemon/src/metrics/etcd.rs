//! etcd, as this node finds it: how long it takes to answer, and whether the node is in step with it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;
use tokio::time::Instant;
use twill_cluster::View;
use twill_cluster::store::{Event, Range, Store, StoreError};
use twill_cluster::txn::{Outcome, Txn};
use twill_cluster::view::Snapshot;

use super::board::{Histograms, durations};

const REQUESTS: [&str; 4] = ["read", "write", "grant", "renew"];
/// So many answers of late are remembered.
const RECENT: usize = 64;
const OUTCOMES: [&str; 5] = ["success", "unavailable", "unknown", "full", "compacted"];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    request: &'static str,
    outcome: &'static str,
}

/// Notes requests to etcd.
#[derive(Debug, Clone)]
pub struct Requests {
    durations: Histograms<Labels>,
    /// How long those took that were answered of late, the last one at the end.
    recent: Arc<Mutex<VecDeque<Duration>>>,
}

impl Requests {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let make = || Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]);
        let all = REQUESTS.into_iter().flat_map(|request| OUTCOMES.map(|outcome| Labels { request, outcome }));
        let help = "How long requests to etcd took until they were answered or given up, all tries and pages together; \
                    a transaction whose conditions do not hold was answered";
        Self { durations: durations(registry, ("etcd_request_duration", help), make, all), recent: Arc::default() }
    }

    fn note<T>(&self, request: &'static str, begin: Instant, result: &Result<T, StoreError>) {
        let outcome = match result {
            Ok(_) => "success",
            Err(StoreError::Unavailable { .. }) => "unavailable",
            Err(StoreError::Unknown { .. }) => "unknown",
            Err(StoreError::Full { .. }) => "full",
            Err(StoreError::Compacted(_)) => "compacted",
        };
        let took = begin.elapsed();
        self.durations.get_or_create(&Labels { request, outcome }).observe(took.as_secs_f64());
        if result.is_ok() {
            let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
            if recent.len() == RECENT {
                recent.pop_front();
            }
            recent.push_back(took);
        }
    }

    /// How long the last one took that was answered, and the median of the last ones.
    pub fn latency(&self) -> Option<(Duration, Duration)> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let last = *recent.back()?;
        let mut sorted = Vec::from(recent);
        sorted.sort_unstable();
        Some((last, sorted[sorted.len() / 2]))
    }
}

/// A store of which each request is noted. It does nothing else.
#[derive(Debug, Clone)]
pub struct Measured<S> {
    store: S,
    requests: Requests,
}

impl<S> Measured<S> {
    /// Notes what is asked of `store`.
    pub fn new(store: S, requests: Requests) -> Self {
        Self { store, requests }
    }
}

impl<S: Store> Store for Measured<S> {
    async fn read(&self, range: &Range) -> Result<Snapshot, StoreError> {
        let begin = Instant::now();
        let result = self.store.read(range).await;
        self.requests.note("read", begin, &result);
        result
    }

    async fn commit(&self, txn: &Txn) -> Result<Outcome, StoreError> {
        let begin = Instant::now();
        let result = self.store.commit(txn).await;
        self.requests.note("write", begin, &result);
        result
    }

    async fn grant(&self, ttl: Duration) -> Result<i64, StoreError> {
        let begin = Instant::now();
        let result = self.store.grant(ttl).await;
        self.requests.note("grant", begin, &result);
        result
    }

    async fn renew(&self, lease: i64) -> Result<bool, StoreError> {
        let begin = Instant::now();
        let result = self.store.renew(lease).await;
        self.requests.note("renew", begin, &result);
        result
    }

    async fn reconnect(&self) {
        self.store.reconnect().await;
    }

    fn watch(&self, range: Range) -> mpsc::Receiver<Event> {
        self.store.watch(range)
    }
}

/// The watch's handle: the cluster as this node sees it.
#[derive(Debug, Clone)]
pub struct Cluster {
    connected: Gauge,
    losses: Counter,
    restores: Counter,
    revision: Gauge,
    nodes: Gauge,
    blocks: Gauge,
    faults: Gauge,
}

impl Cluster {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let connected = gauge("etcd_connected", "Whether this node follows what happens in etcd: 1 or 0");
        let revision = gauge("view_revision", "The revision of etcd up to which this node knows the cluster");
        let nodes = gauge("view_nodes", "Nodes of the cluster that this node knows, itself among them");
        let blocks = gauge("view_blocks", "Blocks of the cluster that this node knows, its own among them");
        let faults = gauge("view_faults", "Keys in etcd that this node cannot read or understand");
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let losses = counter("etcd_losses", "Times that etcd went out of this node's reach");
        let help = "Times that etcd was found to have lost history, as where it was restored from a backup";
        let restores = counter("etcd_restores", help);
        Self { connected, losses, restores, revision, nodes, blocks, faults }
    }

    /// etcd is out of reach. It may be told again and again.
    pub fn lost(&self) {
        if self.connected.set(0) != 0 {
            self.losses.inc();
        }
    }

    /// etcd has told of the cluster as it is now.
    pub fn told(&self, view: &View) {
        self.connected.set(1);
        self.sees(view);
    }

    /// The cluster as this node takes it to be.
    pub fn sees(&self, view: &View) {
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.revision.set(view.revision);
        self.nodes.set(count(view.nodes.len()));
        self.blocks.set(count(view.blocks.len()));
        self.faults.set(count(view.faults.len()));
    }

    /// Whether etcd is followed, up to which revision it is known, and how often it went out of reach.
    pub fn stands(&self) -> (bool, i64, u64) {
        (self.connected.get() != 0, self.revision.get(), self.losses.get())
    }

    /// etcd has lost history.
    pub fn restored(&self) {
        self.restores.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_that_is_told_twice_is_one() {
        let cluster = Cluster::register(&mut Registry::default());
        cluster.lost();
        assert_eq!(cluster.losses.get(), 0, "it was not connected yet");
        cluster.told(&View::default());
        cluster.lost();
        cluster.lost();
        assert_eq!((cluster.losses.get(), cluster.connected.get()), (1, 0));
    }

    #[test]
    fn the_latency_is_that_of_the_last_answers() {
        let requests = Requests::register(&mut Registry::default());
        assert_eq!(requests.latency(), None);
        for millis in [9000, 1, 3, 2] {
            for _ in 0..RECENT / 2 {
                let begin = Instant::now().checked_sub(Duration::from_millis(millis)).unwrap();
                requests.note("read", begin, &Ok(()));
            }
        }
        requests.note::<()>("read", Instant::now(), &Err(StoreError::Compacted(1)));
        let (last, median) = requests.latency().unwrap();
        assert!(last >= Duration::from_millis(2) && last < Duration::from_secs(1), "{last:?}");
        assert!(median >= last && median < Duration::from_secs(1), "what is long ago is forgotten: {median:?}");
    }

    #[tokio::test]
    async fn each_request_is_noted_with_what_became_of_it() {
        let requests = Requests::register(&mut Registry::default());
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", nobody.local_addr().unwrap());
        drop(nobody);
        let etcd = twill_cluster::etcd::EtcdStore::connect(&[url], "/").unwrap();
        let etcd = Measured::new(etcd, requests.clone());
        assert!(etcd.renew(1).await.is_err() && etcd.commit(&Txn::default()).await.is_err());
        for request in ["renew", "write"] {
            let of = |outcome| requests.durations.get_or_create(&Labels { request, outcome }).count();
            assert_eq!((of("success"), of("unavailable")), (0, 1), "{request}");
        }
    }
}
