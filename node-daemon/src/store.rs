//! The daemon's one connection to the node store, shared by its tasks.
//!
//! One connection for the whole process, opened once and kept: closing any other handle of the file would drop SQLite's
//! locks (POSIX locks belong to the process). A store that somebody deleted is opened anew, and filled from what stands
//! in the kernel before anybody gives an address out of it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use twill_attach::Linux;
use twill_attach::course::{Rows, rebuild};
use twill_ipam::Store;
use twill_ipam::store::{BlockUse, Rebuilt};

/// A handle that tasks and threads clone.
#[derive(Debug, Clone)]
pub struct NodeStore(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    store: Store,
    /// The cluster's blocks as last seen: what a lost store is filled with again.
    blocks: Vec<BlockUse>,
    /// Why a lost store could not be opened anew, as it was told.
    failed: Option<String>,
}

impl NodeStore {
    /// Opens the store in the run directory, making or upgrading it as needed.
    pub fn open(run_dir: &Path) -> Result<Self, twill_attach::Error> {
        let (store, rebuilt) = rebuild::open(&mut Linux::of_daemon(), run_dir, &[])?;
        tell(rebuilt);
        let inner = Inner { store, blocks: Vec::new(), failed: None };
        Ok(Self(Arc::new(Mutex::new(inner))))
    }

    /// Works on the store from a thread that may block: SQLite waits up to 5 s for the plugin's transactions.
    pub fn with<T>(&self, work: impl FnOnce(&mut Store) -> T) -> T {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.reopen();
        work(&mut inner.store)
    }

    /// Keeps in mind which blocks of the cluster the store has.
    pub fn remember(&self, blocks: &[BlockUse]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).blocks = blocks.to_vec();
    }

    /// The same from a task, on a thread that may block.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce(&mut Store) -> T + Send + 'static) -> T {
        let store = self.clone();
        tokio::task::spawn_blocking(move || store.with(work)).await.expect("work on the store does not panic")
    }
}

impl Rows for NodeStore {
    fn with<T>(&mut self, work: impl FnOnce(&mut Store) -> T) -> T {
        Self::with(self, work)
    }
}

impl Inner {
    /// Opens a store in place of one that somebody deleted.
    fn reopen(&mut self) {
        let path = self.store.path().to_owned();
        match rebuild::reopen(&mut Linux::of_daemon(), &mut self.store, &self.blocks) {
            Ok(None) => {}
            Ok(Some(rebuilt)) => {
                tracing::warn!("{} was deleted or replaced: it was opened anew", path.display());
                tell(rebuilt);
                self.failed = None;
            }
            Err(error) => {
                let text = error.to_string();
                if self.failed.as_ref() != Some(&text) {
                    tracing::error!("{} was deleted or replaced, and cannot be opened anew: {text}", path.display());
                    self.failed = Some(text);
                }
            }
        }
    }
}

/// The directory that the store lies in.
pub fn run_dir(store: &Path) -> PathBuf {
    store.parent().expect("the store lies in the run directory").to_owned()
}

/// Tells what a store that was lost was filled with.
fn tell(Rebuilt { added, disputed }: Rebuilt) {
    if !added.is_empty() {
        tracing::warn!("the node store was lost: {} attachments taken over from the kernel", added.len());
    }
    for ip in disputed {
        tracing::error!("{ip} stands twice in the kernel: it is given to nobody else");
    }
}
