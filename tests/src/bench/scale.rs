//! One real daemon in clusters of different sizes: how long until a cold start has all of it in the kernel, what a change
//! costs, what the daemon takes at rest.
//!
//! The daemon, its etcd and its kernel are real; the other nodes are records in etcd, as their daemons write them. Whether
//! the cost of one change grows with the cluster is seen by the same measurement in a cluster of a tenth of the size.

mod cluster;
mod kernel;
mod phases;
mod reckoning;
mod trace;

use std::time::Duration;

use super::heap::Allocations;
use super::measure::{Samples, mebibytes, milliseconds, row};
use super::usage::{Cpu, Memory};
use crate::Result;
use kernel::Standing;
use reckoning::Reckoning;
use trace::Sent;

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// So many other nodes in the large cluster.
    pub nodes: usize,
    /// So many changes in one burst, and at most so many one by one.
    pub changes: usize,
    /// So long the daemon is watched at rest.
    pub rest: Duration,
}

/// A cluster of three is measured at rest alone.
const FEW: usize = 2;
/// The small cluster has this part of the large one's nodes.
const PART: usize = 10;

/// What was seen in a cluster of one size.
#[derive(Debug)]
struct Figures {
    /// The other nodes.
    nodes: usize,
    start: Start,
    changes: Option<Changes>,
    /// At rest after all of it: what was used up, and in what time.
    rest: (Cpu, Duration),
    /// What is in core then.
    memory: Memory,
}

/// A cold start.
#[derive(Debug)]
struct Start {
    /// From the start of the process to its word that it is in step with etcd.
    listed: Duration,
    /// From there until all stood in the kernel.
    stood: Duration,
    standing: Standing,
    /// Up to then.
    cpu: Cpu,
    /// When it had come to rest.
    memory: Memory,
}

/// Changes of the cluster.
#[derive(Debug)]
struct Changes {
    burst: Burst,
    /// Each as soon as the one before it stood.
    dense: OneByOne,
    /// Each after a pause.
    spaced: OneByOne,
    /// For so many changes: what was sent to the kernel.
    sent: (usize, Sent),
    /// What following a few more allocates.
    reckoned: Reckoning,
}

/// Many changes at once.
#[derive(Debug)]
struct Burst {
    count: usize,
    /// Until etcd had all of them.
    written: Duration,
    /// Until the kernel had all of them, from the first write on.
    stood: Duration,
    cpu: Cpu,
    /// So many objects were changed in the kernel.
    made: usize,
}

/// Changes one by one.
#[derive(Debug)]
struct OneByOne {
    /// From the write until the kernel shows it.
    times: Samples,
    cpu: Cpu,
}

impl OneByOne {
    /// What one of them costs the processor.
    fn each(&self) -> Duration {
        self.cpu.sum() / u32::try_from(self.times.len().max(1)).unwrap_or(u32::MAX)
    }
}

/// Measures in a cluster of three, in the small one and in the large one. A table.
pub fn measure(plan: Plan) -> Result<String> {
    let sizes = [(FEW, 0), (plan.nodes / PART, plan.changes), (plan.nodes, plan.changes)];
    let measured = sizes.into_iter().map(|(nodes, changes)| {
        eprintln!("one daemon beside {nodes} nodes");
        phases::measure(nodes, changes, plan.rest)
    });
    Ok(table(&measured.collect::<Result<Vec<_>>>()?))
}

/// A part of what is reckoned for a change.
type Part = fn(&Reckoning) -> Allocations;

/// All parts.
const RECKONED: [(&str, Part); 3] = [
    ("to take it into the view", |reckoned| reckoned.taken),
    ("to hand the view on", |reckoned| reckoned.handed),
    ("to reckon what shall stand", |reckoned| reckoned.desired),
];

/// The table: a column for each cluster.
fn table(all: &[Figures]) -> String {
    let mut text = row_of("beside it", all, |figures| format!("{} nodes", figures.nodes));
    text += &format!("|---|{}\n", "---|".repeat(all.len()));
    let mut add = |what: &str, figure: &dyn Fn(&Figures) -> Option<String>| {
        text += &row_of(what, all, |figures| figure(figures).unwrap_or_default());
    };
    add("cold start: to the first list", &|f| Some(milliseconds(f.start.listed)));
    add("from the first list until all is in the kernel", &|f| Some(milliseconds(f.start.stood)));
    add("in the kernel: routes, neighbours, FDB entries", &|f| {
        let Standing { routes, neighbours, fdb } = f.start.standing;
        Some(format!("{routes}, {neighbours}, {fdb}"))
    });
    add("processor time until then (of it `nft`)", &|f| Some(processor(f.start.cpu)));
    add("memory: at most, until it rests", &|f| Some(mebibytes(f.start.memory.peak)));
    add("memory at rest after the start (heap and stacks of it)", &|f| Some(memory(f.start.memory)));
    add("a burst: changes; written to etcd in", &|f| {
        let burst = &f.changes.as_ref()?.burst;
        Some(format!("{}; {}", burst.count, milliseconds(burst.written)))
    });
    add("from the first write until all is in the kernel", &|f| Some(milliseconds(f.changes.as_ref()?.burst.stood)));
    add("objects changed in the kernel", &|f| Some(f.changes.as_ref()?.burst.made.to_string()));
    add("processor time (of it `nft`)", &|f| Some(processor(f.changes.as_ref()?.burst.cpu)));
    type Which = fn(&Changes) -> &OneByOne;
    let spaced: Which = |changes| &changes.spaced;
    let dense: Which = |changes| &changes.dense;
    for (what, which) in [("one by one, each after a pause", spaced), ("one by one without pause", dense)] {
        add(&format!("{what}: changes; median, 99th percentile"), &|f| Some(times(which(f.changes.as_ref()?))));
        add("processor time each, with all that runs meanwhile", &|f| {
            Some(milliseconds(which(f.changes.as_ref()?).each()))
        });
    }
    add("sent to the kernel for one: dumps, requests, system calls", &|f| {
        let (count, sent) = f.changes.as_ref()?.sent;
        let each = |number: usize| number as f64 / count as f64;
        Some(format!("{:.1}, {:.1}, {:.1}", each(sent.dumps), each(sent.requests), each(sent.calls)))
    });
    for (what, which) in RECKONED {
        add(&format!("allocated for one write, {what}"), &|f| {
            let reckoned = &f.changes.as_ref()?.reckoned;
            let Allocations { count, bytes } = which(reckoned);
            Some(format!("{}, {:.1} KiB", count / reckoned.writes, bytes as f64 / 1024.0 / reckoned.writes as f64))
        });
    }
    add("memory at rest after all of it (heap and stacks of it)", &|f| Some(memory(f.memory)));
    add("memory: at most, in all its life", &|f| Some(mebibytes(f.memory.peak)));
    add("at rest: of one processor", &|f| {
        let (cpu, time) = f.rest;
        Some(format!("{:.2} % of {:.0} s", 100.0 * cpu.sum().as_secs_f64() / time.as_secs_f64(), time.as_secs_f64()))
    });
    text
}

fn row_of(what: &str, all: &[Figures], figure: impl Fn(&Figures) -> String) -> String {
    row(&std::iter::once(what.to_owned()).chain(all.iter().map(figure)).collect::<Vec<_>>())
}

fn processor(cpu: Cpu) -> String {
    format!("{} ({})", milliseconds(cpu.sum()), milliseconds(cpu.children))
}

fn memory(memory: Memory) -> String {
    format!("{} ({})", mebibytes(memory.resident), mebibytes(memory.anonymous))
}

fn times(changes: &OneByOne) -> String {
    let times = &changes.times;
    format!("{}; {}, {}", times.len(), milliseconds(times.median()), milliseconds(times.quantile(0.99)))
}
