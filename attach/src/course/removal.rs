//! Removing an attachment that a rule has condemned ([`twill_ipam::sweep`]): under its lock, the kernel first, then the row.
//!
//! Between the look that condemned a row and the lock, a DEL and an ADD of the same key may have come and gone. What stands
//! in the kernel then belongs to a living pod, so the row is compared once more before anything is touched.

use std::path::Path;

use twill_ipam::alias::Proof;
use twill_ipam::{Attachment, Liveness};

use super::{Rows, take_out};
use crate::error::Error;
use crate::kernel::{Kernel, Remains};

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

/// What is to become of a link that stands all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// It spares the attachment, which was condemned because it had none.
    Spares,
    /// It goes too.
    Goes,
}

/// Removes the attachment of `row`.
pub fn remove(
    kernel: &mut impl Kernel,
    run_dir: &Path,
    rows: &mut impl Rows,
    row: &Attachment,
    link: Link,
    step: &'static str,
) -> Result<Removal, Error> {
    let held = Liveness::try_acquire(run_dir, row.hash).map_err(Error::store(step))?;
    let Some(held) = held else { return Ok(Removal::Spared) };
    let now = rows.with(|store| store.attachment(row.hash)).map_err(Error::store(step))?;
    if !now.is_some_and(|now| now.is_still(row)) {
        return Ok(Removal::Spared);
    }
    if link == Link::Spares && kernel.stands(row.hash, Proof::Name).map_err(Error::kernel(step))? {
        return Ok(Removal::Spared);
    }
    take_out(kernel, &Remains::of(row)).map_err(Error::kernel(step))?;
    let now = kernel.now();
    let freed = rows.with(|store| store.sweep(row, &held, now)).map_err(Error::store(step))?;
    Ok(if freed { Removal::Done } else { Removal::Changed })
}
