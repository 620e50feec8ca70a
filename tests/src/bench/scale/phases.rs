//! The life of one daemon in a cluster of one size: it starts cold, follows a burst of changes and single ones, and rests.

use std::collections::{BTreeMap, HashSet};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::super::measure::Samples;
use super::super::store;
use super::super::usage::{Cpu, Memory};
use super::cluster::{self, Cluster};
use super::kernel::{Event, Standing, Witness};
use super::reckoning;
use super::trace::Trace;
use super::{Burst, Changes, Figures, OneByOne, Start};
use crate::lab::Lab;
use crate::node::Node;
use crate::{LabError, Result, deadline};

/// No phase takes longer, also on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(120);
/// What the daemon says after the first list.
const LISTED: &str = "in step with etcd";
/// How often its log is looked at for that.
const LOOK: Duration = Duration::from_millis(1);
/// The daemon has rested so long before its memory is looked at: the view is saved by then, and its claims are done.
const CALM: Duration = Duration::from_secs(6);
/// Single changes are made for so long at most.
const DENSE: Duration = Duration::from_secs(30);
/// So many single changes with a pause before each, in which passes pay off what they owe (`reconcile/pace.rs`).
const SPACED: (usize, Duration) = (15, Duration::from_secs(2));
/// So many changes are made while it is traced.
const TRACED: usize = 9;
/// So many changes, ten of each kind, are followed to count what is allocated for them.
const RECKONED: usize = 30;

/// All phases. The lab is gone afterwards, also where one fails.
pub(super) fn measure(nodes: usize, changes: usize, rest: Duration) -> Result<Figures> {
    let lab = Lab::builder().nodes(1).pools(cluster::pools()).asleep().build()?;
    // The client's connections are made on a thread that inherits this one's namespace.
    lab.etcd().members()[0].namespace().enter(|| in_lab(&lab, nodes, changes, rest))?
}

fn in_lab(lab: &Lab, nodes: usize, changes: usize, rest: Duration) -> Result<Figures> {
    let node = lab.node(1);
    let mut cluster = Cluster::new(store::connect(lab.etcd())?, nodes, changes)?;
    let wanted = cluster.fill()?;
    let mut life = Life { node, witness: Witness::open(node)?, pid: 0 };
    let start = life.start(wanted, cluster.standing())?;
    let burst = (changes > 0).then(|| life.burst(&mut cluster, changes)).transpose()?;
    let singles = burst.map(|burst| {
        let spaced = life.one_by_one(&mut cluster, SPACED.0, SPACED.1)?;
        let dense = life.one_by_one(&mut cluster, changes, Duration::ZERO)?;
        Ok((burst, spaced, dense))
    });
    let singles = singles.transpose()?;
    let rest = life.rest(rest)?;
    let memory = Memory::of(life.pid)?;
    let changes = singles.map(|(burst, spaced, dense)| {
        let sent = life.traced(&mut cluster, &lab.directory().join("strace"))?;
        let reckoned = reckoning::follow(&mut cluster, node.name(), RECKONED)?;
        Ok(Changes { burst, spaced, dense, sent, reckoned })
    });
    node.expect_daemon()?;
    Ok(Figures { nodes, start, changes: changes.transpose()?, rest, memory })
}

/// The daemon, and who watches what it does.
struct Life<'a> {
    node: &'a Node,
    witness: Witness,
    pid: u32,
}

impl Life<'_> {
    fn start(&mut self, wanted: HashSet<Event>, standing: Standing) -> Result<Start> {
        let begin = Instant::now();
        self.node.start_daemon()?;
        self.pid = self.node.daemon_pid().ok_or_else(|| LabError::wrong("no daemon was started"))?;
        while !self.node.daemon_log().contains(LISTED) {
            if begin.elapsed() > PATIENCE {
                return Err(LabError::wrong(format!("it never said {LISTED:?}:\n{}", self.node.last_words(20))));
            }
            sleep(LOOK);
        }
        let listed = Instant::now();
        let stood = self.await_all(wanted)?;
        let cpu = Cpu::of(self.pid)?;
        self.confirm(standing)?;
        sleep(CALM);
        self.witness.settle()?;
        let memory = Memory::of(self.pid)?;
        let stood = stood.saturating_duration_since(listed);
        Ok(Start { listed: listed - begin, stood, standing, cpu, memory })
    }

    /// Many changes as fast as etcd takes them.
    fn burst(&mut self, cluster: &mut Cluster, count: usize) -> Result<Burst> {
        let changes: Vec<_> = (0..count).map(|_| cluster.plan()).collect();
        // Of several changes of one thing only the last need ever stand.
        let shows: BTreeMap<_, _> = changes.iter().map(|change| (change.place, change.shows.clone())).collect();
        let (before, begin) = (Cpu::of(self.pid)?, Instant::now());
        cluster.make_all(changes)?;
        let written = begin.elapsed();
        let stood = self.await_all(shows.into_values().flatten().collect())? - begin;
        self.confirm(cluster.standing())?;
        sleep(CALM);
        let made = self.witness.settle()?;
        Ok(Burst { count, written, stood, cpu: Cpu::of(self.pid)? - before, made })
    }

    /// Changes of which each waits for the one before it, and then for a while.
    fn one_by_one(&mut self, cluster: &mut Cluster, count: usize, pause: Duration) -> Result<OneByOne> {
        let (before, begin, mut times) = (Cpu::of(self.pid)?, Instant::now(), Samples::default());
        while times.len() < count && (!pause.is_zero() || begin.elapsed() < DENSE) {
            sleep(pause);
            let change = cluster.plan();
            let shows = change.shows.iter().copied().collect();
            let written = Instant::now();
            cluster.make(change)?;
            times.add(self.await_all(shows)?.saturating_duration_since(written));
        }
        let cpu = Cpu::of(self.pid)? - before;
        self.confirm(cluster.standing())?;
        sleep(CALM);
        self.witness.settle()?;
        Ok(OneByOne { times, cpu })
    }

    /// What it uses while nothing happens.
    fn rest(&self, time: Duration) -> Result<(Cpu, Duration)> {
        let (before, begin) = (Cpu::of(self.pid)?, Instant::now());
        sleep(time);
        Ok((Cpu::of(self.pid)? - before, begin.elapsed()))
    }

    /// What it sends to the kernel for a few changes.
    fn traced(&mut self, cluster: &mut Cluster, file: &std::path::Path) -> Result<(usize, super::trace::Sent)> {
        let trace = Trace::attach(self.node, self.pid, file)?;
        for _ in 0..TRACED {
            let change = cluster.plan();
            let shows = change.shows.iter().copied().collect();
            cluster.make(change)?;
            self.await_all(shows)?;
        }
        Ok((TRACED, trace.end()?))
    }

    fn await_all(&mut self, wanted: HashSet<Event>) -> Result<Instant> {
        let waited = self.witness.wait(wanted, PATIENCE);
        waited.map_err(|error| LabError::wrong(format!("{error}\n{}", self.node.last_words(20))))
    }

    /// Holds what stands against what shall, by dumps.
    fn confirm(&self, standing: Standing) -> Result<()> {
        deadline::until_some(&format!("{standing:?} in the kernel"), PATIENCE, || {
            let found = Standing::of(self.node)?;
            Ok(if found == standing { Ok(()) } else { Err(found) })
        })
    }
}
