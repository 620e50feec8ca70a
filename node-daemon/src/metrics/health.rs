//! Whether the daemon is well, and whether the node can serve pods: two questions.
//!
//! [`Pulses`] tell whether the daemon's tasks run: whoever supervises it may restart it where they do not. That etcd or peers are
//! away is no illness, a restart would not help. [`Readiness`] tells whether a pod that came now could be served, by the same rules as
//! the plugin's STATUS ([`serving`]): a store, a record of this node, an address of each family. It looks at most once a
//! second, one look at a time, whoever asks.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use twill_attach::serving::{self, Trouble};
use twill_ipam::BootTime;

use crate::store::NodeStore;

/// How often the event loop notes that it turns.
const BEAT: Duration = Duration::from_secs(1);
/// It hangs where it has not for so long; no work between two turns takes a tenth of that.
const LOOP_PATIENCE: Duration = Duration::from_secs(20);
/// The reconciler hangs where it has not begun a pass for so long: it does each nine seconds, and rests less than one between two. In a cluster of
/// thousands of nodes a pass may take some seconds.
const PASS_PATIENCE: Duration = Duration::from_secs(90);

/// How long a look at the readiness is good for.
const FRESH: Duration = Duration::from_secs(1);
/// How long it is waited for; SQLite may wait longer for a plugin.
const LOOK_PATIENCE: Duration = Duration::from_secs(2);

/// When something was last seen to live.
#[derive(Debug, Clone)]
pub struct Pulse {
    begin: Instant,
    /// Milliseconds since then.
    last: Arc<AtomicU64>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { begin: Instant::now(), last: Arc::default() }
    }
}

impl Pulse {
    /// It lives.
    pub fn beat(&self) {
        let now = u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    /// Beats for as long as the event loop turns that it is called from.
    pub async fn keep(&self) {
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            self.beat();
        }
    }

    /// How long ago it was seen to live.
    fn age(&self) -> Duration {
        self.begin.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }
}

/// The tasks without which the daemon is of no use.
#[derive(Debug, Clone, Default)]
pub struct Pulses {
    /// The thread that all tasks share which speak to etcd and hear the doorbell.
    pub event_loop: Pulse,
    /// The reconciler's passes, made or not.
    pub passes: Pulse,
}

impl Pulses {
    /// What is ill, a sentence each.
    pub fn ills(&self) -> Vec<String> {
        let watched = [
            (&self.event_loop, LOOP_PATIENCE, "the event loop has not turned"),
            (&self.passes, PASS_PATIENCE, "the reconciler has not begun a pass"),
        ];
        let ills = watched.into_iter().filter_map(|(pulse, patience, what)| {
            let age = pulse.age();
            (age > patience).then(|| format!("{what} for {} s", age.as_secs()))
        });
        ills.collect()
    }
}

/// The metric of the readiness.
#[derive(Debug, Clone)]
pub struct Ready(Gauge);

impl Ready {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let gauge = Gauge::default();
        let help = "Whether a pod that came now could be served, as /readyz and the plugin's STATUS say: 1 or 0";
        registry.register("ready", help, gauge.clone());
        Self(gauge)
    }
}

/// Looks whether pods can be served.
#[derive(Debug)]
pub struct Readiness {
    store: NodeStore,
    run_dir: PathBuf,
    ready: Ready,
    state: Mutex<State>,
}

/// What stands in the way of serving pods, a line each; none where nothing does.
type Wrong = Arc<Vec<String>>;

#[derive(Debug, Default)]
struct State {
    last: Option<(Instant, Wrong)>,
    /// A look that was not waited for any longer.
    running: Option<JoinHandle<Vec<String>>>,
}

impl Readiness {
    /// Of the node with this store and run directory.
    pub fn new(store: NodeStore, run_dir: PathBuf, ready: Ready) -> Self {
        Self { store, run_dir, ready, state: Mutex::default() }
    }

    /// What stands in the way of serving pods.
    pub async fn wrong(&self) -> Wrong {
        let mut state = self.state.lock().await;
        if let Some((at, wrong)) = &state.last
            && at.elapsed() < FRESH
        {
            return Arc::clone(wrong);
        }
        let mut running = state.running.take().unwrap_or_else(|| {
            let (store, run_dir) = (self.store.clone(), self.run_dir.clone());
            tokio::task::spawn_blocking(move || look(&store, &run_dir))
        });
        let wrong = match timeout(LOOK_PATIENCE, &mut running).await {
            Ok(Ok(wrong)) => wrong,
            Ok(Err(failed)) => vec![format!("looking for addresses failed: {failed}")],
            Err(_) => {
                state.running = Some(running);
                vec![format!("the node store has not answered for {} s", LOOK_PATIENCE.as_secs())]
            }
        };
        self.ready.0.set(wrong.is_empty().into());
        let wrong = Arc::new(wrong);
        state.last = Some((Instant::now(), Arc::clone(&wrong)));
        wrong
    }
}

/// The store is kept from the other tasks for no longer than it is read.
fn look(store: &NodeStore, run_dir: &Path) -> Vec<String> {
    if let Some(trouble) = serving::place(run_dir) {
        return vec![text(&trouble)];
    }
    match store.with(|store| serving::supply(store, &[], &[], BootTime::now())) {
        Ok(supply) => serving::cut_off(&supply.pods).iter().chain(&supply.wrong).map(text).collect(),
        Err(error) => vec![text(&Trouble::from(&error))],
    }
}

fn text(trouble: &Trouble) -> String {
    let mut text = trouble.what.clone();
    if let Some(remedy) = trouble.remedy {
        write!(text, "; {remedy}").expect("text can be written to memory");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    fn pulse(age: Duration) -> Pulse {
        Pulse { begin: Instant::now().checked_sub(age).unwrap(), last: Arc::default() }
    }

    #[test]
    fn a_task_that_has_not_been_seen_for_long_is_ill_until_it_is_seen_again() {
        let pulses = Pulses { event_loop: pulse(LOOP_PATIENCE / 2), passes: pulse(PASS_PATIENCE * 2) };
        assert_eq!(pulses.ills(), ["the reconciler has not begun a pass for 180 s"]);
        pulses.passes.beat();
        assert!(pulses.ills().is_empty());
    }

    #[tokio::test]
    async fn a_node_is_ready_while_it_has_addresses_and_says_what_it_lacks() {
        let Some(node) = Fixture::new() else { return };
        let mut registry = Registry::default();
        let ready = Ready::register(&mut registry);
        let readiness = |run: &Path| Readiness::new(node.store.clone(), run.to_owned(), ready.clone());
        let of_node = readiness(node.run.path());
        assert_eq!((of_node.wrong().await.len(), ready.0.get()), (0, 1));
        let exhausted = twill_ipam::store::Node { name: "n1".into(), ipv6: true, ..Default::default() };
        node.store.with(|store| store.set_node(&exhausted)).unwrap();
        assert_eq!(of_node.wrong().await.len(), 0, "for a second it is as it was");
        let wrong = readiness(node.run.path()).wrong().await;
        assert!(wrong.len() == 1 && wrong[0].contains("twilld"), "{wrong:?}");
        assert_eq!(ready.0.get(), 0);
        let wrong = readiness(Path::new("/proc/self/stat")).wrong().await;
        assert!(wrong[0].contains("is no directory"), "{wrong:?}");
    }
}
