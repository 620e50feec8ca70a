//! What stands of published ports and limits without a row and without a link: an older program, which knows nothing of
//! them, has deleted the attachment, or a DEL did while the store was away. GC and sweep remove it.

use std::path::Path;

use twill_ipam::alias::Proof;
use twill_ipam::{KeyHash, Liveness};

use super::{Rows, take_out};
use crate::error::Error;
use crate::kernel::{Beyond, Kernel, Remains};

/// What was found.
#[derive(Debug, Default)]
pub struct Leftovers {
    /// Whose was removed.
    pub removed: Vec<KeyHash>,
    /// Whose could not be.
    pub failed: Vec<(KeyHash, Error)>,
}

/// Looks for it, and removes it.
pub(super) fn collect(
    kernel: &mut impl Kernel,
    run_dir: &Path,
    rows: &mut impl Rows,
    step: &'static str,
) -> Result<Leftovers, Error> {
    let mut seen = kernel.owners().map_err(Error::kernel(step))?;
    let mut found = Leftovers::default();
    if seen.is_empty() {
        return Ok(found);
    }
    for row in rows.with(|store| store.attachments()).map_err(Error::store(step))? {
        seen.remove(&row.hash);
    }
    for hash in seen {
        match remove(kernel, run_dir, rows, hash, step) {
            Ok(true) => found.removed.push(hash),
            Ok(false) => {}
            Err(error) => found.failed.push((hash, error)),
        }
    }
    Ok(found)
}

/// `false` where it must stay: with its link it may be the attachment of somebody with another store.
fn remove(
    kernel: &mut impl Kernel,
    run_dir: &Path,
    rows: &mut impl Rows,
    hash: KeyHash,
    step: &'static str,
) -> Result<bool, Error> {
    let held = Liveness::try_acquire(run_dir, hash).map_err(Error::store(step))?;
    let known = |rows: &mut _| Rows::with(rows, |store| store.attachment(hash)).map_err(Error::store(step));
    if held.is_none() || known(rows)?.is_some() || kernel.stands(hash, Proof::Name).map_err(Error::kernel(step))? {
        return Ok(false);
    }
    let remains = Remains { hash, proof: Proof::Alias, namespaces: Vec::new(), beyond: Beyond::Unknown };
    take_out(kernel, &remains).map_err(Error::kernel(step)).map(|()| true)
}
