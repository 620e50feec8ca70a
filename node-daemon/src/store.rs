//! The daemon's one connection to the node store, shared by its tasks.
//!
//! One connection for the whole process, opened once and kept: closing any other handle of the file would drop SQLite's
//! locks (POSIX locks belong to the process). A store that somebody deleted is opened anew, and filled from what stands
//! in the kernel before anybody gives an address out of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use twill_conf::PoolName;
use twill_conf::network::Protocol;
use twill_ipam::alias::{HostEnd, LocalAddress};
use twill_ipam::extras::Published;
use twill_ipam::removal::Rows;
use twill_ipam::store::{BlockUse, Observed, Rebuilt, Role};
use twill_ipam::{Attachment, Block, BootTime, Error, Extras, KeyHash, Liveness, Store};
use twill_linux::Netlink;
use twill_linux::ports::{self, Port};
use twill_linux::table::{self, SeenLink, link, route, traffic};

/// A handle that tasks and threads clone.
#[derive(Debug, Clone)]
pub struct NodeStore(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    store: Store,
    /// The cluster's blocks as last seen: what a lost store is filled with again.
    blocks: Vec<(Block, PoolName)>,
    /// Why a lost store could not be opened anew, as it was told.
    failed: Option<String>,
}

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file.
    #[error(transparent)]
    Store(#[from] Error),
    /// The kernel would not tell what stands in it.
    #[error("looking for attached pods: {0}")]
    Kernel(#[from] twill_linux::Error),
}

impl NodeStore {
    /// Opens the store in the run directory, making or upgrading it as needed.
    pub fn open(run_dir: &Path) -> Result<Self, StoreError> {
        let inner = Inner { store: open(run_dir, &[])?, blocks: Vec::new(), failed: None };
        Ok(Self(Arc::new(Mutex::new(inner))))
    }

    /// Works on the store from a thread that may block: SQLite waits up to 5 s for the plugin's transactions.
    pub fn with<T>(&self, work: impl FnOnce(&mut Store) -> T) -> T {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(Error::Replaced(path)) = inner.store.still_there() {
            inner.reopen(&path);
        }
        work(&mut inner.store)
    }

    /// Keeps in mind which blocks of the cluster the store has.
    pub fn remember(&self, blocks: &[BlockUse]) {
        let known = blocks.iter().filter_map(|block| Some((block.block, block.pool.clone()?))).collect();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).blocks = known;
    }

    /// The same from a task, on a thread that may block.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce(&mut Store) -> T + Send + 'static) -> T {
        let store = self.clone();
        tokio::task::spawn_blocking(move || store.with(work)).await.expect("work on the store does not panic")
    }
}

impl Rows for NodeStore {
    fn current(&mut self, key: KeyHash) -> Result<Option<Attachment>, Error> {
        self.with(|store| store.attachment(key))
    }

    fn free(&mut self, row: &Attachment, held: &Liveness) -> Result<bool, Error> {
        self.with(|store| store.sweep(row, held, BootTime::now()))
    }
}

impl Inner {
    /// Opens a store in place of one that somebody deleted. Until that succeeds, work goes on in the deleted file, where
    /// every write is refused.
    fn reopen(&mut self, path: &Path) {
        match open(&run_dir(path), &self.blocks) {
            Ok(store) => {
                tracing::warn!("{} was deleted or replaced: it was opened anew", path.display());
                (self.store, self.failed) = (store, None);
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

fn open(run_dir: &Path, blocks: &[(Block, PoolName)]) -> Result<Store, StoreError> {
    let mut store = Store::open(run_dir, Role::Daemon)?;
    if store.needs_rebuild()? {
        let mut netlink = Netlink::open()?;
        let rebuilt = store.rebuild(|| observe(&mut netlink).map_err(StoreError::from), BootTime::now())?;
        let Rebuilt { added, disputed } = rebuilt.unwrap_or_default();
        if !added.is_empty() {
            tracing::warn!("the node store was lost: {} attachments taken over from the kernel", added.len());
        }
        for ip in disputed {
            tracing::error!("{ip} stands twice in the kernel: it is given to nobody else");
        }
        for (block, pool) in blocks {
            store.bring_back(*block, pool)?;
        }
    }
    Ok(store)
}

/// What stands in the kernel that a store should know of.
fn observe(netlink: &mut Netlink) -> Result<Observed, twill_linux::Error> {
    let (links, routes) = (table::links(netlink)?, route::of_pods(netlink)?);
    let ends: Vec<_> = links
        .iter()
        .map(|link| HostEnd {
            ifname: link.name.as_str(),
            kind: link.kind.as_deref(),
            alias: link.alias.as_deref(),
            routes: route::destinations(&routes, link.index),
        })
        .collect();
    let addresses = table::addresses(netlink)?;
    let local = |seen: &table::SeenAddress| {
        let link = links.iter().find(|link| link.index == seen.index);
        LocalAddress { ip: seen.cidr.ip(), ifname: link.map_or("", |link| link.name.as_str()) }
    };
    let observed = Observed::from(&ends, &addresses.iter().map(local).collect::<Vec<_>>());
    Ok(Observed { extras: beyond(netlink, &links)?, ..observed })
}

/// What attachments have beyond link and addresses, as the kernel shows it.
fn beyond(netlink: &mut Netlink, links: &[SeenLink]) -> Result<BTreeMap<KeyHash, Extras>, twill_linux::Error> {
    let standing = ports::standing()?.unwrap_or_default();
    let published = standing.ports.iter().map(|port| {
        let protocol = match port.protocol {
            ports::Protocol::Tcp => Protocol::Tcp,
            ports::Protocol::Udp => Protocol::Udp,
            ports::Protocol::Sctp => Protocol::Sctp,
        };
        let Port { host, host_port, pod, .. } = *port;
        (port.owner.as_str(), Published { protocol, host, host_port, pod })
    });
    let rates = traffic::rates(netlink)?;
    // A limiting device counts also where its limit is gone: it has to be removed with its attachment.
    let limited =
        |link: &SeenLink| rates.get(&link.index).copied().or((link.kind.as_deref() == Some(link::IFB)).then_some(1));
    let rates = links.iter().filter_map(|link| Some((link.name.as_str(), 8 * limited(link)?)));
    Ok(Extras::observed(published, rates))
}
