//! The reconciler's passes: what shall stand and what does, what was repaired, how long it takes until the kernel is as the
//! cluster wants it, and whether all of the kernel's events were heard.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use twill_linux::state::KernelState;
use twill_linux::table::{Outcome, Repair};

use super::board::{Board, Histograms, durations};
use super::memory::Memory;

/// What can be changed, by the tables of the kernel as [`Repair::table`] has them, with the actions; and published ports.
const KINDS: [(&str, &[&str]); 10] = [
    ("link", &THREE),
    ("offload", &["changed"]),
    ("address", &THREE),
    ("route", &THREE),
    ("neighbour", &THREE),
    ("fdb", &THREE),
    ("sysctl", &["changed"]),
    ("firewall", &["changed", "opened"]),
    (FILTERS, &["added", "changed"]),
    (PORTS, &["added", "changed"]),
];
const THREE: [&str; 3] = ["added", "changed", "removed"];
const PORTS: &str = "port";
/// Those of the host ends of pods, which the plugin makes.
pub const FILTERS: &str = "filter";

/// How a pass ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// All that shall stand does.
    Settled,
    /// Something is left to do: the kernel refused an object, or etcd itself has not told yet what shall stand.
    Incomplete,
    /// There was nothing to do: the cluster has no configuration, or nothing is known of it.
    Idle,
    /// It could not be made.
    Obstructed,
}

impl Pass {
    const ALL: [Self; 4] = [Self::Settled, Self::Incomplete, Self::Idle, Self::Obstructed];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Incomplete => "incomplete",
            Self::Idle => "idle",
            Self::Obstructed => "obstructed",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct OfTable {
    table: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Mended {
    table: &'static str,
    action: &'static str,
}

/// The reconciler's handle.
#[derive(Debug, Clone)]
pub struct Passes {
    passes: Histograms<Ended>,
    settled: Gauge,
    desired: Board<OfTable>,
    actual: Board<OfTable>,
    repairs: Family<Mended, Counter>,
    changes: Family<Mended, Counter>,
    refused: Gauge,
    contested: Gauge,
    memory: Arc<Mutex<Memory>>,
}

impl Passes {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let make = || Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]);
        let all = Pass::ALL.map(|pass| Ended { outcome: pass.word() });
        let passes = durations(registry, ("pass_duration", "How long the reconciler's passes took"), make, all);
        let help = "Objects that shall stand in the kernel, by table";
        let desired = Board::register(registry, "desired_objects", help);
        let help = "Objects of this daemon's that stood in the kernel when it last looked, before it changed anything; it looks \
                    every nine seconds at least";
        let actual = Board::register(registry, "actual_objects", help);
        let help = "Objects of the kernel that somebody else had changed and that were put right";
        let repairs = mended(registry, "repairs", help);
        let help = "Objects of the kernel that were changed since something else is wanted than before";
        let changes = mended(registry, "changes", help);
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let settled = gauge("settled", "Whether all stood that shall when the last pass was over: 1 or 0");
        let refused =
            gauge("refused_objects", "What the kernel refused in the last pass, errors with many objects as one");
        let help = "Objects that are repaired again and again, since somebody else undoes it";
        let contested = gauge("contested_objects", help);
        Self { passes, settled, desired, actual, repairs, changes, refused, contested, memory: Arc::default() }
    }

    /// A pass is over.
    pub fn made(&self, pass: Pass, took: Duration) {
        self.passes.get_or_create(&Ended { outcome: pass.word() }).observe(took.as_secs_f64());
        self.settled.set((pass == Pass::Settled).into());
        self.remember(|memory| memory.made(pass));
    }

    /// A pass is about the configuration of this revision, if there is one.
    pub fn about(&self, config: Option<i64>) {
        self.remember(|memory| memory.about(config));
    }

    /// A pass cannot be made.
    pub fn obstructed(&self, why: String) {
        self.remember(|memory| memory.obstacles = vec![why]);
    }

    /// What numbers do not tell.
    pub fn memory(&self) -> Memory {
        self.remember(|memory| memory.clone())
    }

    /// How many repairs there were, by what was repaired, where there were any.
    pub fn repaired(&self) -> BTreeMap<&'static str, u64> {
        let count = |(table, actions): (&'static str, &'static [&'static str])| {
            let of = |action: &&'static str| self.repairs.get_or_create(&Mended { table, action }).get();
            (table, actions.iter().map(of).sum())
        };
        KINDS.into_iter().map(count).filter(|(_, count)| *count > 0).collect()
    }

    /// How many objects are repaired again and again.
    pub fn feuds(&self) -> u64 {
        self.contested.get().unsigned_abs()
    }

    fn remember<T>(&self, work: impl FnOnce(&mut Memory) -> T) -> T {
        work(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What shall stand, on a node with so many pods.
    pub fn wanted(&self, state: &KernelState, pods: usize) {
        let counts = [
            ("link", state.links.len() + state.ends.len()),
            ("offload", state.offloads.len()),
            ("address", state.addresses.len()),
            ("route", state.routes.len()),
            ("neighbour", state.neighbours.len()),
            ("fdb", state.fdb.len()),
            ("sysctl", state.sysctls.len()),
            ("firewall", state.firewall.iter().len()),
            (FILTERS, pods),
        ];
        self.desired.replace(counts.map(|(table, count)| (OfTable { table }, count as u64)));
    }

    /// What a pass found and did. `drifted`: nothing else was wanted than before.
    pub fn did(&self, outcome: &Outcome, drifted: bool) {
        if !outcome.stood.is_empty() {
            self.actual.replace(outcome.stood.iter().map(|(table, count)| (OfTable { table }, *count as u64)));
        }
        let counted = if drifted { &self.repairs } else { &self.changes };
        for Repair { table, action, .. } in &outcome.repairs {
            counted.get_or_create(&Mended { table, action }).inc();
        }
        self.refused.set(count(outcome.errors.len()));
        self.remember(|memory| memory.did(outcome, drifted));
    }

    /// So many published ports were made again, and the `rules` that they stand by.
    pub fn published_again(&self, ports: usize, rules: bool) {
        let of = |action| self.repairs.get_or_create(&Mended { table: PORTS, action });
        of("added").inc_by(ports as u64);
        of("changed").inc_by(rules.into());
        if ports > 0 || rules {
            let rules = if rules { " and their rules" } else { "" };
            self.remember(|memory| memory.repaired(format!("port: published {ports}{rules} again")));
        }
    }

    /// So many objects are contested.
    pub fn contested(&self, objects: usize) {
        self.contested.set(count(objects));
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn mended(registry: &mut Registry, name: &str, help: &str) -> Family<Mended, Counter> {
    let family = Family::<Mended, Counter>::default();
    for (table, actions) in KINDS {
        for action in actions {
            drop(family.get_or_create(&Mended { table, action }));
        }
    }
    registry.register(name, help, family.clone());
    family
}

/// From when the cluster's view has changed to when all stands that follows from it. What is heard meanwhile belongs to the same
/// time.
#[derive(Debug, Clone)]
pub struct Convergence {
    took: Histogram,
    last: Arc<Mutex<Option<Duration>>>,
    /// When the first change was heard that is not brought about yet.
    since: Arc<Mutex<Option<Instant>>>,
}

impl Convergence {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let took = Histogram::new([0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0]);
        let help = "From when a change of the cluster was heard to when all stood in the kernel that follows from it";
        registry.register_with_unit("convergence_duration", help, Unit::Seconds, took.clone());
        Self { took, last: Arc::default(), since: Arc::default() }
    }

    /// The view has changed by what was heard then. To be told when those who look at the view see it: a pass that begins after that
    /// brings it about.
    pub fn heard(&self, at: Instant) {
        self.with(|since| {
            since.get_or_insert(at);
        });
    }

    /// A pass begins: since when it has something to bring about.
    pub fn begun(&self) -> Option<Instant> {
        self.with(Option::take)
    }

    /// The pass is over. Where not all stands, the next one is still about what this one was about.
    pub fn over(&self, begun: Option<Instant>, pass: Pass) {
        let Some(begun) = begun else { return };
        match pass {
            Pass::Settled => {
                let took = begun.elapsed();
                self.took.observe(took.as_secs_f64());
                *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(took);
            }
            // Nothing follows from it: it may take days until somebody writes a configuration.
            Pass::Idle => {}
            Pass::Incomplete | Pass::Obstructed => self.with(|since| *since = Some(begun)),
        }
    }

    /// How long it took the last time.
    pub fn last(&self) -> Option<Duration> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, work: impl FnOnce(&mut Option<Instant>) -> T) -> T {
        work(&mut self.since.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The monitor's handle.
#[derive(Debug, Clone)]
pub struct Events {
    overruns: Counter,
}

impl Events {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let overruns = Counter::default();
        let help = "Times that more happened in the kernel than there was room for until it was heard; everything was looked at then";
        registry.register("event_overruns", help, overruns.clone());
        Self { overruns }
    }

    /// Some events were lost.
    pub fn overrun(&self) {
        self.overruns.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_to_converge_begins_with_the_first_change_and_ends_when_all_stands() {
        let convergence = Convergence::register(&mut Registry::default());
        let early = Instant::now().checked_sub(Duration::from_secs(7)).unwrap();
        convergence.heard(early);
        convergence.heard(Instant::now());
        let since = convergence.begun();
        assert_eq!(since, Some(early));
        convergence.heard(Instant::now());
        convergence.over(since, Pass::Incomplete);
        assert_eq!(convergence.took.count(), 0);
        convergence.over(convergence.begun(), Pass::Settled);
        assert_eq!((convergence.took.count(), convergence.took.sum() >= 7.0), (1, true));
        convergence.heard(early);
        convergence.over(convergence.begun(), Pass::Idle);
        convergence.over(convergence.begun(), Pass::Settled);
        assert_eq!(convergence.took.count(), 1, "a pass that no news called for brings nothing about");
    }

    #[test]
    fn only_what_others_have_changed_counts_as_a_repair() {
        let passes = Passes::register(&mut Registry::default());
        let repair = Repair { table: "route", action: "added", object: "10.0.0.0/24".into(), was: None };
        let outcome = Outcome { repairs: vec![repair], stood: [("route", 3)].into(), ..Outcome::default() };
        passes.did(&outcome, false);
        passes.did(&outcome, true);
        passes.did(&outcome, true);
        let labels = Mended { table: "route", action: "added" };
        let of = |family: &Family<Mended, Counter>| family.get_or_create(&labels).get();
        assert_eq!((of(&passes.changes), of(&passes.repairs)), (1, 2));
        let all: usize = KINDS.iter().map(|(_, actions)| actions.len()).sum();
        assert_eq!(passes.repairs.len(), all, "all labels are known from the beginning");
    }
}
