//! One etcd, over loopback: how long a claim takes, and how 5,000 nodes join it in batches.
//!
//! The nodes that join at once share one watch, and what it tells; each has a keeper of its own and writes for itself. A
//! real node has a watch of its own: what 5,000 of those cost etcd is not measured here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use twill_cluster::store::{Range, Store};
use twill_cluster::{EtcdStore, View, key};

use super::super::measure::{Samples, mebibytes, milliseconds, row};
use super::super::store;
use super::node::{SimulatedNode, Tally};
use super::rate;
use crate::etcd::Etcd;
use crate::{LabError, Result};

/// Pools with room for two blocks of each family for each of 5,000 nodes.
const POOLS: [(&str, &str, u8); 2] = [("v4", "10.0.0.0/11", 26), ("v6", "fd42::/104", 122)];

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How many claims.
    pub claims: usize,
    /// How many nodes join.
    pub nodes: usize,
    /// How many of them at once.
    pub batch: usize,
}

/// Measures against an etcd that is empty, from a thread in its namespace.
pub fn measure(etcd: &Etcd, plan: Plan) -> Result<(String, Arc<View>)> {
    // One thread, as the daemon has.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(LabError::io("starting a runtime"))?;
    runtime.block_on(async {
        let store = store::connect(etcd)?;
        commit(&store, key::CONFIG, configuration().to_string()).await?;
        let views = follow(&store);
        let mut text = claims(&store, &views, plan.claims).await?;
        text += &joins(&store, &views, plan, etcd).await?;
        let view = views.borrow().clone();
        Ok((text, view))
    })
}

fn configuration() -> Value {
    let pool = |(name, cidr, block): (&str, &str, u8)| json!({ "name": name, "cidr": cidr, "block": block });
    json!({ "pool": POOLS.map(pool), "backend": { "type": "vxlan" } })
}

/// One watch for all: each event makes a view, as the daemon does.
fn follow(store: &EtcdStore) -> watch::Receiver<Arc<View>> {
    let mut events = store.watch(Range::watched());
    let (sender, receiver) = watch::channel(Arc::new(View::default()));
    tokio::spawn(async move {
        let mut view = View::default();
        while let Some(event) = events.recv().await {
            view.follow(&event);
            while let Ok(event) = events.try_recv() {
                view.follow(&event);
            }
            sender.send_replace(Arc::new(view.clone()));
        }
    });
    receiver
}

async fn commit(store: &EtcdStore, key: &str, value: String) -> Result<()> {
    store::commit(store, vec![store::put(key, value)]).await.map(drop)
}

/// As long as the record of a node.
fn filler() -> String {
    "x".repeat(360)
}

/// Claims of one node, each until the block is open, alternating with bare puts.
async fn claims(store: &EtcdStore, views: &watch::Receiver<Arc<View>>, count: usize) -> Result<String> {
    let (mut node, mut views) = (SimulatedNode::new(0, store.clone()), views.clone());
    node.join(&mut views).await;
    let [mut claims, mut puts] = std::array::from_fn(|_| Samples::default());
    for _ in 0..count {
        let begin = Instant::now();
        node.claim_another(&mut views).await;
        claims.add(begin.elapsed());
        let begin = Instant::now();
        commit(store, "bench", filler()).await?;
        puts.add(begin.elapsed());
    }
    let mut text = format!("One claim: medians of {count} alternating rounds (in brackets the 90th percentile).\n\n");
    text += &row(&["what", "median (p90)", "× a put"]);
    text += "|---|---|---|\n";
    for (name, times) in [
        ("reference: a bare put", &puts),
        (
            "a claim of a block of each family at once: from the need to the open blocks, by transaction and watch",
            &claims,
        ),
    ] {
        let ratio = times.median().as_secs_f64() / puts.median().as_secs_f64();
        let time = format!("{} ({})", milliseconds(times.median()), milliseconds(times.quantile(0.9)));
        text += &row(&[name, &time, &format!("{ratio:.1}")]);
    }
    Ok(text + "\n")
}

/// All nodes join, a batch at once, the next one when it is in.
async fn joins(store: &EtcdStore, views: &watch::Receiver<Arc<View>>, plan: Plan, etcd: &Etcd) -> Result<String> {
    let before = puts_a_second(store, plan.batch).await?;
    let revision = views.borrow().revision;
    let (mut tally, mut batches) = (Tally::default(), Samples::default());
    let begin = Instant::now();
    for first in (1..=plan.nodes).step_by(plan.batch) {
        let started = Instant::now();
        let mut nodes = JoinSet::new();
        for number in first..(first + plan.batch).min(plan.nodes + 1) {
            let (mut node, mut views) = (SimulatedNode::new(number, store.clone()), views.clone());
            nodes.spawn(async move {
                node.join(&mut views).await;
                node.tally
            });
        }
        while let Some(joined) = nodes.join_next().await {
            tally.add(joined.map_err(|error| LabError::wrong(error.to_string()))?);
        }
        batches.add(started.elapsed());
    }
    let took = begin.elapsed();
    let after = puts_a_second(store, plan.batch).await?;
    let (nodes, blocks, revisions) = {
        let view = views.borrow();
        (view.nodes.len(), view.blocks.len(), view.revision - revision)
    };
    let size = Size::of(etcd)?;
    etcd.etcdctl(&["compact", "--physical", &size.revision.to_string()])?;
    etcd.etcdctl(&["defrag"])?;
    let packed = Size::of(etcd)?;
    let mut text = format!("{} nodes join one etcd, {} at once.\n\n", plan.nodes, plan.batch);
    text += &row(&["what", "figure"]);
    text += "|---|---|\n";
    for (what, figure) in [
        ("reference: bare puts a second, as many at once, before and after", format!("{before:.0}, {after:.0}")),
        ("all joined after", format!("{:.1} s, {:.0} nodes a second", took.as_secs_f64(), rate(plan.nodes, took))),
        (
            "a batch, median (p90)",
            format!("{} ({})", milliseconds(batches.median()), milliseconds(batches.quantile(0.9))),
        ),
        ("transactions done", format!("{}, {:.0} a second", tally.writes, rate(tally.writes, took))),
        ("transactions refused, since somebody else was first", tally.conflicts.to_string()),
        ("requests that failed", tally.failed.to_string()),
        ("in the view then", format!("{nodes} nodes, {blocks} blocks, {revisions} revisions later")),
        ("etcd's database, with all history", mebibytes(size.bytes)),
        ("the same, compacted and defragmented", mebibytes(packed.bytes)),
    ] {
        text += &row(&[what, &figure]);
    }
    Ok(text)
}

/// By so many at once, for two seconds.
async fn puts_a_second(store: &EtcdStore, at_once: usize) -> Result<f64> {
    let time = Duration::from_secs(2);
    let (begin, mut writers) = (Instant::now(), JoinSet::new());
    for number in 0..at_once {
        let store = store.clone();
        writers.spawn(async move {
            let mut count = 0;
            while begin.elapsed() < time {
                commit(&store, &format!("bench{number}"), filler()).await?;
                count += 1;
            }
            Ok::<usize, LabError>(count)
        });
    }
    let mut sum = 0;
    while let Some(count) = writers.join_next().await {
        sum += count.map_err(|error| LabError::wrong(error.to_string()))??;
    }
    Ok(rate(sum, begin.elapsed()))
}

/// How much etcd has.
struct Size {
    revision: i64,
    bytes: u64,
}

impl Size {
    fn of(etcd: &Etcd) -> Result<Self> {
        let text = etcd.etcdctl(&["endpoint", "status", "--write-out=json"])?;
        let status: Value = serde_json::from_str(&text).map_err(|error| LabError::Unreadable {
            what: "etcdctl endpoint status".into(),
            cause: error.to_string(),
            text: text.clone(),
        })?;
        let status = &status[0]["Status"];
        let figures = status["header"]["revision"].as_i64().zip(status["dbSize"].as_u64());
        let (revision, bytes) = figures.ok_or_else(|| LabError::wrong(format!("no figures in {text}")))?;
        Ok(Self { revision, bytes })
    }
}
