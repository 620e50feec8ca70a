//! The sweep: frees what a runtime forgot or a killed process left half-way, and never a living pod's address.
//!
//! The rule is [`twill_ipam::sweep`], which wants two observations a grace period apart. Whether the path of a pod's
//! namespace can be seen is not asked: the daemon may live in another mount namespace, and that proves nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use twill_ipam::sweep::{Observation, Suspicion, Verdict, judge};
use twill_ipam::{Attachment, AttachmentId, KeyHash, Liveness};

use super::removal::{Link, Removal, remove};
use super::{Rows, leftover};
use crate::error::Error;
use crate::kernel::Kernel;

const LOOK: &str = "looking at what is attached";
const REMOVE: &str = "removing what nobody has asked to";

/// What one look must remember for the next one.
pub type Suspicions = BTreeMap<AttachmentId, Suspicion>;

/// What one look at all rows leaves.
#[derive(Debug, Default)]
pub struct Swept {
    /// What the next one must remember.
    pub suspicions: Suspicions,
    /// The rows that were freed.
    pub freed: Vec<Attachment>,
    /// The owners whose ports and limits were removed.
    pub behind: Vec<KeyHash>,
    /// What could not be judged or freed. What was suspected of rows is remembered.
    pub failed: Vec<(KeyHash, Error)>,
    /// Why what is left without a row was not looked for.
    pub unseen: Option<Error>,
}

/// Looks at all rows, and frees what has to be freed.
pub fn sweep(
    kernel: &mut impl Kernel,
    run_dir: &Path,
    rows: &mut impl Rows,
    before: &Suspicions,
    grace: Duration,
) -> Result<Swept, Error> {
    let at = kernel.now();
    let ends = kernel.standing().map_err(Error::kernel(LOOK))?;
    let all = rows.with(|store| store.checkpoint().and_then(|()| store.attachments())).map_err(Error::store(LOOK))?;
    let mut swept = Swept::default();
    for row in all {
        let known = before.get(&row.id).copied();
        let mut one = || {
            let lock_free = Liveness::try_acquire(run_dir, row.hash).map_err(Error::store(LOOK))?.is_some();
            let verdict = judge(&row, known, Observation { at, link: ends.contains(&row.hash), lock_free }, grace);
            let link = match verdict {
                Verdict::Free => Link::Spares,
                Verdict::Finish => Link::Goes,
                Verdict::Live | Verdict::Suspect(_) => return Ok((verdict, Removal::Spared)),
            };
            remove(kernel, run_dir, rows, &row, link, REMOVE).map(|removal| (verdict, removal))
        };
        match one() {
            Ok((Verdict::Suspect(suspicion), _)) => swept.suspicions.extend([(row.id, suspicion)]),
            Ok((_, Removal::Done)) => swept.freed.push(row),
            Ok(_) => {}
            Err(error) => {
                swept.suspicions.extend(known.map(|known| (row.id, known)));
                swept.failed.push((row.hash, error));
                kernel.reconnect();
            }
        }
    }
    match leftover::collect(kernel, run_dir, rows, REMOVE) {
        Ok(found) => {
            swept.behind = found.removed;
            swept.failed.extend(found.failed);
        }
        Err(error) => swept.unseen = Some(error),
    }
    Ok(swept)
}
