//! Starts the tasks, and ends them in order.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use twill_cluster::etcd::{EtcdStore, InvalidEndpoint};
use twill_cluster::keeper::Identity;
use twill_cluster::mirror::Mirror;
use twill_cluster::saved;
use twill_conf::node::NodeConf;
use twill_fabric::Reckoning;
use twill_linux::monitor::{Echoes, Monitor, Touched};

use crate::bell::{Bell, Causes};
use crate::bgp::{self, Bgp};
use crate::blocks::{self, Blocks, Complaints};
use crate::flags::ForTests;
use crate::metrics::health::{Pulses, Readiness};
use crate::metrics::serve::{self, Pages};
use crate::metrics::{Measured, Metrics};
use crate::picture::Picture;
use crate::probe::Probe;
use crate::reconcile::{self, Findings, Me, Reconciler};
use crate::requests::{Helpers, Machine, Requests, Sources};
use crate::rival::Bearer;
use crate::store::NodeStore;
use crate::supervisor::Supervised;
use crate::trials::{self, Means};
use crate::troubles::Troubles;
use crate::watch::Watch;
use crate::{alive, doorbell, identity, lock, mirror, monitor, supervisor, sweep};

/// How long the daemon's end waits for trials before it does anything else that takes time: most have ended by then.
const TRIALS_END: Duration = Duration::from_secs(2);
/// How long it waits for the others when all else is done. All of it must be over before the supervisor's patience is
/// (TimeoutStopSec of twilld.service).
const TRIALS_LAST: Duration = Duration::from_secs(8);

/// Why the daemon cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The run directory is not to be had.
    #[error(transparent)]
    Lock(#[from] lock::Taken),
    /// The machine has no identity.
    #[error(transparent)]
    Identity(#[from] identity::NoMachineId),
    /// The node store cannot be opened.
    #[error(transparent)]
    Store(#[from] twill_attach::Error),
    /// The endpoints of etcd cannot be used.
    #[error(transparent)]
    Etcd(#[from] InvalidEndpoint),
    /// The kernel refuses a socket.
    #[error(transparent)]
    Kernel(#[from] twill_linux::Error),
    /// Metrics cannot be served where they were to be.
    #[error(
        "metrics: {at} cannot be listened on: {cause}; it must be an address of this machine, and a port that no other program has"
    )]
    Metrics {
        /// Where.
        at: SocketAddr,
        /// The system's error.
        cause: io::Error,
    },
    /// A task that runs for ever has ended.
    #[error("the {0} task has ended by itself")]
    Ended(&'static str),
    /// A socket, a thread or a signal handler cannot be had.
    #[error("{what}: {cause}")]
    Io {
        /// What was attempted.
        what: &'static str,
        /// The system's error.
        cause: io::Error,
    },
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> Fatal {
    move |cause| Fatal::Io { what, cause }
}

/// Runs the daemon until SIGTERM or SIGINT.
pub fn run(conf: NodeConf, tests: ForTests) -> Result<(), Fatal> {
    let _lock = lock::take(&conf.run_dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()
        .map_err(io_error("starting the runtime"))?;
    let stopped = runtime.block_on(serve(conf, tests));
    runtime.shutdown_background();
    stopped
}

async fn serve(conf: NodeConf, tests: ForTests) -> Result<(), Fatal> {
    let machine_id = identity::machine_id(&conf.machine_id_file)?;
    let store = NodeStore::open(&conf.run_dir)?;
    let begin = std::time::Instant::now();
    let troubles = Troubles::default();
    let (metrics, handles) = Metrics::new(&troubles);
    let etcd = Measured::new(EtcdStore::open(&conf.etcd, &conf.prefix)?, handles.requests.clone());
    let pulses = Pulses::default();
    let readiness = Arc::new(Readiness::new(store.clone(), conf.run_dir.clone(), metrics.ready().clone()));
    if let Some(at) = conf.metrics {
        let pages = Pages { metrics, pulses: pulses.clone(), readiness: Arc::clone(&readiness) };
        serve_pages(at, pages)?;
    }
    let bell = Arc::new(Bell::default());
    let (pictures, seen) = watch::channel(saved_picture(&conf));
    let (underlays, underlay) = watch::channel(None);
    let (standings, standing) = watch::channel(None);
    let (wanted, wants) = watch::channel(None);
    let (ring, rings) = watch::channel(());
    let (drain, drains) = mpsc::channel(1);
    let (audit, audits) = mpsc::channel(1);
    let (asks, questions) = mpsc::channel(1);
    let (registered, epochs) = watch::channel(None);
    let (learned, routes) = watch::channel(bgp::unknown());
    let (stirred, stirs) = watch::channel(());
    let (stopping, stop) = watch::channel(false);

    let me = Me {
        name: conf.node_name.clone(),
        vtep_mac: identity::vtep_mac(&conf.node_name, &machine_id),
        underlay: conf.underlay.clone(),
        run_dir: conf.run_dir.clone(),
    };
    let run = identity::run_word().map_err(io_error("reading a random word"))?;
    let mut mirror = Mirror::new(conf.node_name.clone(), run.clone());
    let bearer = Bearer { node: conf.node_name.clone(), machine_id: machine_id.clone() };
    let identity = Identity { node: conf.node_name.clone(), machine_id, run };
    let complaints = Complaints::default();
    let hearers =
        blocks::Hearers { bell: bell.clone(), registered, metrics: handles.addresses, complaints: complaints.clone() };
    let blocks = Blocks::new(&conf, identity, me.vtep_mac, store.clone(), hearers);
    let echoes: Arc<Echoes> = Arc::default();
    let touched: Arc<Touched> = Arc::default();
    let events = (!tests.deaf).then(|| Monitor::open(Arc::clone(&echoes), Arc::clone(&touched))).transpose()?;
    let reckoning: Arc<Mutex<Reckoning>> = Arc::default();
    let findings = Findings {
        underlays,
        reckoning: Arc::clone(&reckoning),
        standings,
        wanted,
        troubles: troubles.clone(),
        passes: handles.passes.clone(),
        convergence: handles.convergence.clone(),
        pulse: pulses.passes.clone(),
    };
    let news = reconcile::News {
        bell: bell.clone(),
        echoes: Arc::clone(&echoes),
        touched: Arc::clone(&touched),
        pictures: seen.clone(),
        learned: routes,
    };
    let reconciler = Reconciler::new(me.clone(), news, findings, store.clone())?;
    let reconciling = thread("reconcile", move || reconciler.run())?;
    if let Some(events) = events {
        let bell = bell.clone();
        thread("monitor", move || monitor::listen(events, (&echoes, &touched), &bell, &stirred, &handles.events))?;
    }

    let speaker = Bgp {
        name: me.name,
        vtep_mac: me.vtep_mac,
        pictures: seen.clone(),
        underlays: underlay.clone(),
        stirred: stirs,
        stop,
        run_dir: me.run_dir,
        learned,
        bell: bell.clone(),
        troubles: troubles.clone(),
        metrics: handles.peers.clone(),
    };
    let (spoken, silence) = oneshot::channel::<()>();
    let speaking = thread("bgp", move || {
        let _spoken = spoken;
        speaker.run(questions)
    })?;

    let probe = Probe {
        name: conf.node_name.clone(),
        pictures: seen.clone(),
        reckoning: Arc::clone(&reckoning),
        underlays: underlay.clone(),
        turn: tests.probe_turn,
        troubles: troubles.clone(),
        metrics: handles.probes.clone(),
    };
    thread("probe", move || probe.run())?;

    let sources = Sources {
        begin,
        requests: handles.requests,
        cluster: handles.cluster.clone(),
        convergence: handles.convergence.clone(),
        passes: handles.passes,
        peers: handles.peers,
        probes: handles.probes,
        reckoning,
        standings: standing.clone(),
        troubles: troubles.clone(),
        complaints: complaints.clone(),
        readiness: Arc::clone(&readiness),
    };
    let machine = Machine::new(conf.clone(), seen.clone(), underlay.clone(), troubles.clone(), complaints);
    let standing_trials = trials::Standing::default();
    let leftovers = trials::Leftovers::new(troubles.clone());
    leftovers.inherit(&store);
    let means = Means {
        name: conf.node_name.clone(),
        plugin: conf.cni.plugin(),
        run_dir: conf.run_dir.clone(),
        pictures: seen.clone(),
        underlays: underlay.clone(),
        standing: standing_trials.clone(),
        leftovers: leftovers.clone(),
    };
    let supplies =
        blocks::News { pictures: seen.clone(), underlays: underlay, standings: standing, rings: rings.clone(), drains };
    let news = mirror::News { pictures: seen.clone(), epochs: epochs.clone(), rings: rings.clone() };
    let helpers = Helpers { drain, audit, speaker: asks, wanted: wants, sources, machine, means };
    let requests = Requests::new(bearer.clone(), store.clone(), seen.clone(), helpers);
    let watch = Watch {
        pictures,
        bell: bell.clone(),
        saved: saved_path(&conf),
        metrics: handles.cluster,
        convergence: handles.convergence,
        prefix: conf.prefix.clone(),
    };
    let socket = doorbell::open(&conf.run_dir).map_err(io_error("making the doorbell"))?;
    tracing::info!("twilld {} serves node {} in {}", env!("CARGO_PKG_VERSION"), conf.node_name, conf.run_dir.display());
    let mut terminate = signal(SignalKind::terminate()).map_err(io_error("handling SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(io_error("handling SIGINT"))?;
    if supervisor::is_there() {
        let supervised = Supervised::new(pulses.clone(), readiness);
        thread("supervisor", move || {
            if let Err(error) = supervised.run() {
                tracing::error!("the supervisor cannot be told that the daemon runs: {error}");
            }
        })?;
    }
    let ended = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        _ = silence => Err(Fatal::Ended("BGP")),
        () = watch.follow(&etcd) => Err(Fatal::Ended("watch")),
        () = blocks.keep(&etcd, supplies) => Err(Fatal::Ended("block")),
        () = alive::keep(&etcd, conf.node_name.clone(), epochs.clone(), &troubles) => Err(Fatal::Ended("liveness")),
        () = mirror::keep(&mut mirror, &etcd, &store, news, audits) => Err(Fatal::Ended("mirror")),
        () = requests.answer(&etcd) => Err(Fatal::Ended("request")),
        () = bearer.tell(&etcd, seen.clone()) => Err(Fatal::Ended("rival")),
        () = sweep::keep(&store, tests.sweep_grace, &leftovers) => Err(Fatal::Ended("sweep")),
        () = pulses.event_loop.keep() => Err(Fatal::Ended("pulse")),
        heard = doorbell::listen(socket, ring, &handles.plugin) => heard.map_err(io_error("hearing the doorbell")),
    };
    supervisor::stopping();
    stopping.send_replace(true);
    bell.ring(Causes { stop: true, ..Causes::default() });
    // They began to end with the select; what they gave back, the mirror still tells.
    standing_trials.wait(TRIALS_END);
    mirror::finish(&mut mirror, &etcd, &store).await;
    if reconciling.join().is_err() {
        tracing::error!("the reconciler had failed");
    }
    match speaking.join() {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!("BGP could not be spoken: {error}"),
        Err(_) => tracing::error!("the speaker of BGP had failed"),
    }
    let last = seen.borrow().clone();
    if let Some(picture) = last.filter(|picture| picture.proven)
        && let Err(error) = saved::write(&saved_path(&conf), &conf.prefix, &picture.to_save())
    {
        tracing::warn!("the view cannot be saved for a start without etcd: {error}");
    }
    if !standing_trials.wait(TRIALS_LAST) {
        tracing::warn!("pods of a trial are not taken down in time: the next start frees their addresses");
    }
    tracing::info!("twilld ends; the data path stays as it is");
    ended
}

/// Serves metrics, health and readiness by a thread of their own.
fn serve_pages(at: SocketAddr, pages: Pages) -> Result<(), Fatal> {
    let listener = serve::listen(at).map_err(|cause| Fatal::Metrics { at, cause })?;
    tracing::info!("metrics are served at http://{at}/metrics");
    thread("metrics", move || {
        if let Err(error) = serve::run(listener, pages) {
            tracing::error!("metrics cannot be served: {error}");
        }
    })
    .map(drop)
}

fn thread<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<std::thread::JoinHandle<T>, Fatal> {
    std::thread::Builder::new().name(name.into()).spawn(work).map_err(io_error("starting a thread"))
}

fn saved_path(conf: &NodeConf) -> std::path::PathBuf {
    conf.state_dir.join(saved::FILE)
}

/// The view that an earlier run wrote. It programs routes until etcd answers, and proves nothing.
fn saved_picture(conf: &NodeConf) -> Option<Picture> {
    match saved::read(&saved_path(conf), &conf.prefix) {
        Ok(Some(view)) => {
            tracing::info!("starting with the saved view of revision {}", view.revision);
            let view = Arc::new(view);
            Some(Picture { reach: Arc::clone(&view), view, proven: false })
        }
        Ok(None) => None,
        Err(error) => {
            tracing::warn!("the saved view is not used: {error}");
            None
        }
    }
}
