//! GC: removes what the runtime does not know any more, of one network and on this node.
//!
//! The store's rows say what there is. A row goes that is of this network, not in the runtime's list, older than this GC,
//! and that nobody works on: an ADD in flight holds its lock, from before the GC looks at anything. Each goes
//! as by a DEL, the kernel first; what fails is gathered while the others go on.
//!
//! When the list was made nobody tells. An ADD that began and ended after that and before this process began looks like one
//! that the runtime has forgotten, so a runtime makes its list and calls GC with nothing attached in between. No margin is
//! given to it: what is not in the list goes at the first GC, however young it is.
//!
//! What bears no name of a network is left alone: rows that were rebuilt from the kernel, whose alias holds but a digest of
//! the key (a DEL finds them by it, and the sweep when their link goes), and with them all that stood before a store was lost.

use std::path::Path;

use twill_ipam::attachment::Pod;
use twill_ipam::store::Role;
use twill_ipam::sweep::{Collection, is_garbage};
use twill_ipam::{Attachment, Key, KeyHash, Liveness, Store};

use super::leftover;
use super::removal::{Link, remove};
use crate::error::Error;
use crate::kernel::Kernel;

const READ: &str = "reading what is attached";
const REMOVE: &str = "removing what is not valid any more";

/// What a GC did.
#[derive(Debug, Default)]
pub struct Collected {
    /// How many attachments were to go.
    pub of: usize,
    /// Those that did not.
    pub left: Vec<Left>,
}

/// An attachment that could not be removed.
#[derive(Debug)]
pub struct Left {
    /// Which.
    pub hash: KeyHash,
    /// Whose it is, where there is a row of it.
    pub key: Option<Key>,
    /// The pod, where the runtime told.
    pub pod: Option<Pod>,
    /// Why it is left.
    pub why: Error,
}

impl Left {
    fn new(row: &Attachment, why: Error) -> Self {
        Self { hash: row.hash, key: row.key.clone(), pod: row.pod.clone(), why }
    }
}

/// Removes what is not valid.
pub fn gc(kernel: &mut impl Kernel, run_dir: &Path, collection: &Collection<'_>) -> Result<Collected, Error> {
    // Before anything that may wait: an ADD that is about to give its result has written its row already, and may have
    // ended when the row is read, but the runtime's list does not know it yet.
    let in_flight = Liveness::held(run_dir).map_err(Error::store(READ))?;
    let mut store = match Store::open(run_dir, Role::Guest) {
        Ok(store) => store,
        // Of what was attached in this boot there is no trace, so there is nothing that a list could be compared with.
        Err(error) if error.is_absence() => return Ok(Collected::default()),
        Err(error) => return Err(Error::store("opening the node store")(error)),
    };
    let mut garbage = store.attachments().map_err(Error::store(READ))?;
    garbage.retain(|row| is_garbage(row, collection) && !in_flight.contains(&row.hash));
    let mut left = Vec::new();
    for row in &garbage {
        if let Err(error) = remove(kernel, run_dir, &mut store, row, Link::Goes, REMOVE) {
            left.push(Left::new(row, error));
            kernel.reconnect();
        }
    }
    let behind = match leftover::collect(kernel, run_dir, &mut store, REMOVE) {
        Ok(found) => found.failed,
        Err(error) if left.is_empty() => return Err(error),
        // The attachments that are left tell more; what has no row any more the next GC looks for.
        Err(_) => Vec::new(),
    };
    let of = garbage.len() + behind.len();
    left.extend(behind.into_iter().map(|(hash, why)| Left { hash, key: None, pod: None, why }));
    Ok(Collected { of, left })
}
