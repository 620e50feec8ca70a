//! Removing an attachment that a rule has condemned ([`sweep`](crate::sweep)): under its lock, the kernel first, then the
//! row. Called by the plugin's GC and by the daemon's sweep, which bring the hands for the kernel.
//!
//! Between the look that condemned a row and the lock, a DEL and an ADD of the same key may have come and gone. What stands
//! in the kernel then belongs to a living pod, so the row is compared once more before anything is touched.

use std::path::Path;

use crate::{Attachment, BootTime, Error, KeyHash, Liveness, Store};

/// The rows, as the plugin has them and as the daemon's tasks share them.
pub trait Rows {
    /// The row of one key.
    fn current(&mut self, key: KeyHash) -> Result<Option<Attachment>, Error>;
    /// Frees a row under its lock, if it did not change since it was read; says whether it was freed.
    fn free(&mut self, row: &Attachment, held: &Liveness) -> Result<bool, Error>;
}

impl Rows for Store {
    fn current(&mut self, key: KeyHash) -> Result<Option<Attachment>, Error> {
        self.attachment(key)
    }

    fn free(&mut self, row: &Attachment, held: &Liveness) -> Result<bool, Error> {
        self.sweep(row, held, BootTime::now())
    }
}

/// What became of a condemned attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It is gone from kernel and store; its addresses cool.
    Done,
    /// It is in use after all, or somebody works on it: nothing was touched.
    Spared,
    /// It is gone from the kernel. The row changed meanwhile and is somebody else's to free.
    Changed,
}

/// Why an attachment is left.
#[derive(Debug, thiserror::Error)]
pub enum Failure<E> {
    /// The store or the lock.
    #[error(transparent)]
    Store(#[from] Error),
    /// The kernel, in the words of whoever asked it.
    #[error("{0}")]
    Kernel(E),
}

/// Removes what stands in the kernel of an attachment that has no row: an older program that does not know of such things
/// has deleted it, or a DEL did while the store was away. `clear` takes it out of the kernel, or says with `false` that it
/// must stay: where its link stands, it may be the attachment of somebody with another store.
pub fn leftover<E>(
    run_dir: &Path,
    rows: &mut impl Rows,
    hash: KeyHash,
    clear: impl FnOnce() -> Result<bool, E>,
) -> Result<Removal, Failure<E>> {
    let Some(_held) = Liveness::try_acquire(run_dir, hash)? else { return Ok(Removal::Spared) };
    if rows.current(hash)?.is_some() || !clear().map_err(Failure::Kernel)? {
        return Ok(Removal::Spared);
    }
    Ok(Removal::Done)
}

/// Removes the attachment of `row`. `clear` takes all of it out of the kernel, or says with `false` that it must stay.
pub fn remove<E>(
    run_dir: &Path,
    rows: &mut impl Rows,
    row: &Attachment,
    clear: impl FnOnce() -> Result<bool, E>,
) -> Result<Removal, Failure<E>> {
    let Some(held) = Liveness::try_acquire(run_dir, row.hash)? else { return Ok(Removal::Spared) };
    if !rows.current(row.hash)?.is_some_and(|now| now.is_still(row)) {
        return Ok(Removal::Spared);
    }
    if !clear().map_err(Failure::Kernel)? {
        return Ok(Removal::Spared);
    }
    Ok(if rows.free(row, &held)? { Removal::Done } else { Removal::Changed })
}
