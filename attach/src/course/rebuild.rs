//! A store that was lost while pods live: a new one is told what stands in the kernel, before anybody gives an address out
//! of it.
//!
//! Where a daemon runs it does so, since it knows the node's blocks and tunnel, and the plugin waits for it; stand-alone
//! the plugin does.

use std::path::Path;

use twill_ipam::Store;
use twill_ipam::store::{BlockState, BlockUse, Rebuilt, Role};

use crate::error::Error;
use crate::kernel::Kernel;

const OPEN: &str = "opening the node store";
const REBUILD: &str = "rebuilding the node store from the kernel";

/// Tells `store`, if it is new in this boot, of the pods and of the node's own addresses.
pub fn rebuild(kernel: &mut impl Kernel, store: &mut Store) -> Result<Option<Rebuilt>, Error> {
    let now = kernel.now();
    store.rebuild(|| kernel.observe().map_err(Refused::Kernel), now).map_err(|refused| match refused {
        Refused::Kernel(error) => Error::kernel(REBUILD)(error),
        Refused::Store(error) => Error::store(REBUILD)(error),
    })
}

/// Opens the store for the daemon. One that is new in this boot is rebuilt, and gets those `blocks` back, as they were seen
/// last, that were open. One that was closed is on its way back to the cluster: nothing more is given of it.
pub fn open(kernel: &mut impl Kernel, run_dir: &Path, blocks: &[BlockUse]) -> Result<(Store, Rebuilt), Error> {
    let mut store = Store::open(run_dir, Role::Daemon).map_err(Error::store(OPEN))?;
    if !store.needs_rebuild().map_err(Error::store(OPEN))? {
        return Ok((store, Rebuilt::default()));
    }
    let rebuilt = rebuild(kernel, &mut store)?.unwrap_or_default();
    for had in blocks.iter().filter(|had| had.state == BlockState::Open) {
        if let Some(pool) = &had.pool {
            store.bring_back(had.block, pool).map_err(Error::store(REBUILD))?;
        }
    }
    Ok((store, rebuilt))
}

/// Opens a store in place of one that somebody deleted. `None` where nobody did; until it succeeds, work goes on in the
/// deleted file, where every write is refused.
pub fn reopen(kernel: &mut impl Kernel, store: &mut Store, blocks: &[BlockUse]) -> Result<Option<Rebuilt>, Error> {
    let Err(twill_ipam::Error::Replaced(path)) = store.still_there() else { return Ok(None) };
    let run_dir = path.parent().expect("the store lies in the run directory");
    let (new, rebuilt) = open(kernel, run_dir, blocks)?;
    *store = new;
    Ok(Some(rebuilt))
}

/// Who refused.
enum Refused {
    Kernel(twill_linux::Error),
    Store(twill_ipam::Error),
}

impl From<twill_ipam::Error> for Refused {
    fn from(error: twill_ipam::Error) -> Self {
        Self::Store(error)
    }
}
