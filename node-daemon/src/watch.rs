//! The cluster watch: events from etcd become the [`Picture`] that all other tasks look at.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use twill_cluster::former::Former;
use twill_cluster::key::Key;
use twill_cluster::store::{Event, Range, Store};
use twill_cluster::view::{Change, Entry};
use twill_cluster::{View, saved};
use twill_conf::NodeName;

use crate::bell::{Bell, Causes};
use crate::metrics::{Cluster, Convergence};
use crate::picture::Picture;

/// A view is written to disk this long after its first change that is not there yet, and longer by so much for each record in
/// it, since it is written whole: a change of a large cluster must not cost a node much work.
const SAVE_AFTER: Duration = Duration::from_secs(2);
const SAVE_AFTER_EACH: Duration = Duration::from_millis(10);
/// But never longer than that.
const SAVE_AT_LAST: Duration = Duration::from_secs(60);
/// After a write that failed, the next try waits longer.
const SAVE_AGAIN: Duration = Duration::from_secs(60);

/// Where the view goes.
#[derive(Debug)]
pub struct Watch {
    /// To the other tasks.
    pub pictures: watch::Sender<Option<Picture>>,
    /// To the reconciler.
    pub bell: Arc<Bell>,
    /// To the disk, for a start without etcd.
    pub saved: PathBuf,
    /// To who asks.
    pub metrics: Cluster,
    /// How long it takes until the kernel follows.
    pub convergence: Convergence,
    /// The prefix of the cluster's keys, for the saved view is good for that cluster only.
    pub prefix: String,
}

impl Watch {
    /// Follows the cluster until the daemon ends.
    pub async fn follow<S: Store>(self, store: &S) {
        let mut events = store.watch(Range::watched());
        // What an earlier run saw tells whether etcd has lost history since.
        let mut view = self.pictures.borrow().as_ref().map(|picture| View::clone(&picture.view)).unwrap_or_default();
        let mut former = Former::default();
        former.see(&view);
        self.metrics.sees(&view);
        let mut proven = false;
        let mut lost = false;
        let mut save_at: Option<Instant> = None;
        let mut saving: JoinSet<bool> = JoinSet::new();
        let mut next = None;
        loop {
            let event = tokio::select! {
                event = async { if next.is_some() { next.take() } else { events.recv().await } } => event,
                () = sleep_until(save_at.unwrap_or_else(Instant::now)), if save_at.is_some() && saving.is_empty() => {
                    save_at = None;
                    self.save(&mut saving);
                    continue;
                }
                Some(saved) = saving.join_next() => {
                    if !saved.unwrap_or(false) {
                        save_at = Some(Instant::now() + SAVE_AGAIN);
                    }
                    continue;
                }
            };
            let heard = std::time::Instant::now();
            match event {
                Some(event @ (Event::Snapshot(_) | Event::Restored(_))) => {
                    let before = view.clone();
                    view.follow(&event);
                    if view.history > before.history {
                        former.find(&before, &view);
                        self.metrics.restored();
                        tracing::error!(
                            "etcd has lost history: it was restored from a backup since it was last seen here"
                        );
                    }
                    tell_snapshot(&view, proven);
                    proven = true;
                    lost = false;
                }
                Some(Event::Delta(mut delta)) => {
                    // What has come meanwhile costs no more than the first of it: a view is read whole each time.
                    while let Ok(event) = events.try_recv() {
                        match event {
                            Event::Delta(later) => delta.merge(later),
                            other => {
                                next = Some(other);
                                break;
                            }
                        }
                    }
                    if std::mem::take(&mut lost) {
                        tracing::info!("etcd is back, in step at revision {}", delta.revision);
                    }
                    let touched: BTreeSet<NodeName> = delta.changes.iter().filter_map(node_of).collect();
                    let known = touched.into_iter().map(|name| (view.nodes.contains_key(&name), name)).collect();
                    view.apply(&delta);
                    tell_nodes(known, &view);
                }
                Some(Event::Lost(cause)) => {
                    tracing::warn!("etcd is out of reach, the data path stays as it is: {cause}");
                    lost = true;
                    self.metrics.lost();
                    continue;
                }
                None => return,
            }
            former.see(&view);
            self.metrics.told(&view);
            let told = Arc::new(view.clone());
            self.pictures.send_replace(Some(Picture { reach: former.with(&told), view: told, proven }));
            self.convergence.heard(heard);
            self.bell.ring(Causes { view: true, ..Causes::default() });
            save_at = save_at.or_else(|| Some(Instant::now() + unsaved(&view)));
        }
    }

    /// Writes the view on a thread that may block: a slow disk must not keep the cluster from being followed.
    fn save(&self, saving: &mut JoinSet<bool>) {
        let Some(view) = self.pictures.borrow().as_ref().map(Picture::to_save) else { return };
        let (path, prefix) = (self.saved.clone(), self.prefix.clone());
        saving.spawn_blocking(move || {
            let written = saved::write(&path, &prefix, &view);
            if let Err(error) = &written {
                tracing::warn!("the view cannot be saved for a start without etcd: {error}");
            }
            written.is_ok()
        });
    }
}

/// How long a change of this view may be missing on disk.
fn unsaved(view: &View) -> Duration {
    let records = u32::try_from(view.nodes.len() + view.blocks.len()).unwrap_or(u32::MAX);
    SAVE_AFTER_EACH.saturating_mul(records).saturating_add(SAVE_AFTER).min(SAVE_AT_LAST)
}

fn tell_snapshot(view: &View, again: bool) {
    let (nodes, blocks, revision) = (view.nodes.len(), view.blocks.len(), view.revision);
    let when = if again { "again in step with etcd" } else { "in step with etcd" };
    tracing::info!("{when}: {nodes} nodes, {blocks} blocks at revision {revision}");
    if view.config.is_none() {
        tracing::warn!("there is no cluster configuration yet: 'twillctl config apply FILE' writes one");
    }
}

/// The node whose record a change is about, if it is one.
fn node_of(change: &Change) -> Option<NodeName> {
    let (Change::Put(Entry { key, .. }) | Change::Delete(key)) = change;
    match Key::parse(key) {
        Ok(Some(Key::Node(name))) => Some(name),
        _ => None,
    }
}

/// Whether each of these nodes was known before, and what has become of that.
fn tell_nodes(known: Vec<(bool, NodeName)>, view: &View) {
    for (was, name) in known {
        match view.nodes.get(&name) {
            Some(node) if !was => {
                let address = node.value.underlay.address(false).or(node.value.underlay.address(true));
                tracing::info!("{name} joined{}", address.map(|ip| format!(" at {ip}")).unwrap_or_default());
            }
            None if was => tracing::info!("{name} left"),
            _ => {}
        }
    }
}
