//! Taking over a pod that stands in the kernel and has no row: somebody has meddled with the store. What a store that was
//! lost learns of all pods ([`rebuild`](super::rebuild)), it learns here of one.

use std::path::Path;

use twill_ipam::alias::Proof;
use twill_ipam::store::Observed;
use twill_ipam::{KeyHash, Liveness};

use super::Rows;
use crate::error::Error;
use crate::kernel::Kernel;

const ADOPT: &str = "taking over a pod without a row";

/// Gives the attachment of `hash` a row, by what was `seen` of it a moment ago. `false`, and nothing is changed, where its
/// link is gone, somebody works on it, or somebody else has one of its addresses.
pub fn adopt(
    kernel: &mut impl Kernel,
    run_dir: &Path,
    rows: &mut impl Rows,
    hash: KeyHash,
    seen: &Observed,
) -> Result<bool, Error> {
    let held = Liveness::try_acquire(run_dir, hash).map_err(Error::store(ADOPT))?;
    let Some(held) = held else { return Ok(false) };
    if !kernel.stands(hash, Proof::Alias).map_err(Error::kernel(ADOPT))? {
        return Ok(false);
    }
    let now = kernel.now();
    rows.with(|store| store.adopt(seen, &held, now)).map_err(Error::store(ADOPT))
}
