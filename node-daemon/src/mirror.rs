//! The mirror task: tells etcd what this node gave out of its blocks, for reports and checks.
//!
//! When, and by which transactions, is decided by `cluster::mirror`; here are its eyes, its clock and its hands.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use twill_cluster::mirror::{Answer, Input, Mirror, Order, Output};
use twill_cluster::record::Content;
use twill_cluster::store::Store;
use twill_ipam::BootTime;
use twill_ipam::store::{Inventory, Origin};

use crate::calendar::boot_time;
use crate::picture::{Pictures, Rings};
use crate::store::NodeStore;

/// How often time passes for the rules.
const TICK: Duration = Duration::from_secs(1);
/// How often the store is looked at without a ring: what a sweep frees rings no bell.
const LOOK: Duration = Duration::from_secs(10);

/// How long the end of the daemon waits for the last write.
const FAREWELL: Duration = Duration::from_secs(2);

/// What the mirror hears of.
#[derive(Debug, Clone)]
pub struct News {
    /// The cluster.
    pub pictures: Pictures,
    /// The epoch, while the node is registered.
    pub epochs: watch::Receiver<Option<i64>>,
    /// The plugin's rings.
    pub rings: Rings,
}

/// Keeps the mirror until the daemon ends. What comes by `audits` has it compared with etcd soon.
pub async fn keep<S: Store + Clone>(
    mirror: &mut Mirror,
    etcd: &S,
    store: &NodeStore,
    mut news: News,
    mut audits: mpsc::Receiver<()>,
) {
    let mut orders: JoinSet<(Answer, Duration)> = JoinSet::new();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looked: Option<BootTime> = None;
    let mut rung = true;
    news.pictures.mark_changed();
    news.epochs.mark_changed();
    loop {
        let input = tokio::select! {
            Ok(()) = news.pictures.changed() => match &*news.pictures.borrow_and_update() {
                Some(picture) if picture.proven => Input::View(picture.view.clone()),
                _ => continue,
            },
            Ok(()) = news.epochs.changed() => Input::Epoch(*news.epochs.borrow_and_update()),
            Some(done) = orders.join_next() => {
                let (answer, took) = done.expect("a request to etcd does not panic");
                Input::Answer(answer, took)
            }
            Some(()) = audits.recv() => Input::Audit,
            Ok(()) = news.rings.changed() => {
                rung = true;
                continue;
            }
            _ = tick.tick() => Input::Tick,
        };
        let now = BootTime::now();
        perform(mirror.step(input, now), etcd, &mut orders);
        let is_old = looked.is_none_or(|last| now.since(last) >= LOOK);
        if mirror.is_due(now) && (rung || is_old) {
            // Read on a thread that may block; it is as old as the moment before.
            match store.run(move |store| store.inventory(now)).await {
                Ok(inventory) => {
                    (looked, rung) = (Some(now), false);
                    perform(mirror.step(Input::Contents(contents(&inventory)), now), etcd, &mut orders);
                }
                // The block task tells what is wrong with the store.
                Err(error) => tracing::debug!(%error, "no inventory for the mirror"),
            }
        }
    }
}

/// Brings the mirror up to date as the daemon ends: a node that was drained and stopped can then be deleted.
pub async fn finish<S: Store>(mirror: &mut Mirror, etcd: &S, store: &NodeStore) {
    let now = BootTime::now();
    let write = async {
        let Ok(inventory) = store.run(move |store| store.inventory(now)).await else { return };
        let mut next = mirror.hurry(now).then(|| Input::Contents(contents(&inventory)));
        while let Some(input) = next.take() {
            let outputs = mirror.step(input, now);
            let order = outputs
                .into_iter()
                .find_map(|output| if let Output::Order(order) = output { Some(order) } else { None });
            if let Some(order) = order {
                let (answer, took) = timed(&order, etcd).await;
                next = matches!(answer, Answer::Read(_)).then_some(Input::Answer(answer, took));
            }
        }
    };
    if timeout(FAREWELL, write).await.is_err() {
        tracing::debug!("the last mirror is not written");
    }
}

fn perform<S: Store + Clone>(outputs: Vec<Output>, etcd: &S, orders: &mut JoinSet<(Answer, Duration)>) {
    for output in outputs {
        match output {
            Output::Order(order) => {
                let etcd = etcd.clone();
                orders.spawn(async move { timed(&order, &etcd).await });
            }
            Output::Rests(why) => tracing::warn!("{why}"),
            Output::GoesOn => tracing::info!("the mirror of this node's addresses is written again"),
        }
    }
}

async fn timed<S: Store>(order: &Order, etcd: &S) -> (Answer, Duration) {
    let begin = tokio::time::Instant::now();
    let answer = order.perform(etcd).await;
    (answer, begin.elapsed())
}

/// What is in use of each block of the cluster.
fn contents(inventory: &Inventory) -> std::collections::BTreeMap<twill_ipam::Block, Content> {
    let boot = boot_time();
    let cluster = inventory.blocks.iter().filter(|block| block.origin == Origin::Cluster);
    cluster.map(|has| (has.block, Content::of(inventory, has.block, boot))).collect()
}
