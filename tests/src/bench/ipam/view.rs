//! The view of a whole cluster: how much memory it takes, and what one change costs the daemon.

use std::sync::Arc;
use std::time::Instant;

use twill_cluster::View;
use twill_cluster::keeper::{Identity, Input, Keeper};
use twill_cluster::view::{Change, Delta, Entry, Snapshot};
use twill_ipam::BootTime;

use super::super::measure::{Samples, mebibytes, row};
use super::super::usage::Memory;
use super::node;
use crate::Result;

/// So many views are made, to tell their memory from everything else's.
const COPIES: u64 = 8;
/// So many changes.
const CHANGES: i64 = 300;

/// Measures by a view of a cluster.
pub fn measure(view: &View) -> Result<String> {
    let snapshot = view.snapshot();
    let bytes: usize = snapshot.entries.iter().map(|entry| entry.key.len() + entry.value.len()).sum();
    let before = resident()?;
    let views: Vec<View> = (0..COPIES).map(|_| read(&snapshot)).collect();
    let each = resident()?.saturating_sub(before) / COPIES;
    drop(views);
    let (nodes, blocks) = (view.nodes.len(), view.blocks.len());
    let mut text = format!("The view of {nodes} nodes and {blocks} blocks.\n\n");
    text += &row(&["what", "figure"]);
    text += "|---|---|\n";
    text += &row(&["reference: the records as they stand in etcd", &mebibytes(bytes as u64)]);
    text += &row(&["memory of the view", &mebibytes(each)]);
    for (what, times) in changes(&snapshot) {
        text += &row(&[what, &format!("{:.0} µs ({:.0} µs)", micros(&times, 0.5), micros(&times, 0.9))]);
    }
    Ok(text)
}

fn micros(times: &Samples, part: f64) -> f64 {
    times.quantile(part).as_secs_f64() * 1e6
}

fn read(snapshot: &Snapshot) -> View {
    let mut view = View::default();
    view.replace(snapshot);
    view
}

/// What handing the view on would be if the copies shared nothing.
fn copy(view: &View) -> View {
    let mut copy = view.clone();
    copy.nodes = view.nodes.iter().map(|(name, record)| (name.clone(), Arc::new((**record).clone()))).collect();
    copy.blocks = view.blocks.iter().map(|(block, record)| (*block, Arc::new((**record).clone()))).collect();
    copy
}

/// What the daemon does for each change: the record is read and put into the view, the view is handed to the other tasks,
/// and the keeper looks at it. Medians, and 90th percentiles in brackets.
fn changes(snapshot: &Snapshot) -> [(&'static str, Samples); 5] {
    let [mut whole, mut copied, mut applied, mut handed, mut kept] = std::array::from_fn(|_| Samples::default());
    for _ in 0..5 {
        let begin = Instant::now();
        let view = read(snapshot);
        whole.add(begin.elapsed());
        drop(view);
    }
    let mut view = read(snapshot);
    let (name, facts) = node::facts(1);
    let identity = Identity { node: name, machine_id: format!("{:032x}", 1), run: "bench".into() };
    let mut keeper = Keeper::new(identity);
    keeper.step(Input::Facts(facts), BootTime::now());
    keeper.step(Input::Local(Vec::new()), BootTime::now());
    let others: Vec<&Entry> = snapshot.entries.iter().filter(|entry| entry.key.starts_with("nodes/")).skip(2).collect();
    // What was published last is kept by the readers until the next one comes.
    let mut published = Arc::new(view.clone());
    for (number, entry) in (1..=CHANGES).zip(others.iter().cycle()) {
        let revision = snapshot.revision + number;
        let value = String::from_utf8_lossy(&entry.value).replace("\"nonce\":\"", &format!("\"nonce\":\"{number}-"));
        let changed = Entry { value: value.into_bytes(), modified: revision, ..(*entry).clone() };
        let delta = Delta { revision, changes: vec![Change::Put(changed)] };
        let begin = Instant::now();
        view.apply(&delta);
        applied.add(begin.elapsed());
        let begin = Instant::now();
        let copy = copy(&view);
        copied.add(begin.elapsed());
        drop(copy);
        let begin = Instant::now();
        published = Arc::new(view.clone());
        handed.add(begin.elapsed());
        let begin = Instant::now();
        keeper.step(Input::View(Arc::clone(&published)), BootTime::now());
        kept.add(begin.elapsed());
    }
    drop(published);
    [
        ("reference: the whole view read anew", whole),
        ("reference: every record copied", copied),
        ("one change: into the view", applied),
        ("one change: the view handed to the other tasks", handed),
        ("one change: the keeper looks at it", kept),
    ]
}

/// The memory of this process, in bytes.
fn resident() -> Result<u64> {
    Ok(Memory::of(std::process::id())?.proportional)
}
