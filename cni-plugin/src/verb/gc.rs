//! GC: removes what the runtime does not know any more, of this network and on this node.
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

use twill_ipam::alias::Proof;
use twill_ipam::removal::{Failure, remove};
use twill_ipam::store::Role;
use twill_ipam::sweep::{Collection, is_garbage};
use twill_ipam::{Attachment, BootTime, Liveness, Store};
use twill_linux::Netlink;

use crate::detach::{self, Beyond, Remains};
use crate::error::{Error, Left};
use crate::leftover;
use crate::request::network::Gc;

const READ: &str = "reading what is attached";
const REMOVE: &str = "removing what is not valid any more";

/// Removes what is not valid. [`Error::Incomplete`] names all that is left.
pub(crate) fn gc(request: &Gc, began: BootTime) -> Result<(), Error> {
    // Before anything that may wait: an ADD that is about to give its result has written its row already, and may have
    // ended when the row is read, but the runtime's list does not know it yet.
    let in_flight = Liveness::held(request.run_dir()).map_err(Error::store(READ))?;
    let mut store = match Store::open(request.run_dir(), Role::Guest) {
        Ok(store) => store,
        // Of what was attached in this boot there is no trace, so there is nothing that a list could be compared with.
        Err(error) if error.is_absence() => return Ok(()),
        Err(error) => return Err(Error::store("opening the node store")(error)),
    };
    let rows = store.attachments().map_err(Error::store(READ))?;
    let collection = Collection { network: &request.conf.name, valid: &request.valid, began };
    let garbage: Vec<_> =
        rows.into_iter().filter(|row| is_garbage(row, &collection) && !in_flight.contains(&row.hash)).collect();
    let mut host = Netlink::open().map_err(Error::kernel(REMOVE))?;
    let mut left = Vec::new();
    for row in &garbage {
        if let Err(error) = collect(request, &mut store, &mut host, row) {
            left.push(Left::new(row, error));
            // The error may have been the socket's own.
            host = Netlink::open().map_err(Error::kernel(REMOVE))?;
        }
    }
    let behind = match leftover::collect(request.run_dir(), &mut store, &mut host, REMOVE) {
        Ok(behind) => behind,
        Err(error) if left.is_empty() => return Err(error),
        // The attachments that are left tell more; what has no row any more the next GC looks for.
        Err(_) => Vec::new(),
    };
    let of = garbage.len() + behind.len();
    left.extend(behind.into_iter().map(|(hash, error)| Left::behind(hash, error)));
    if left.is_empty() {
        return Ok(());
    }
    Err(Error::Incomplete { network: request.conf.name.clone(), of, left })
}

/// Removes one attachment; one that is in use after all is spared.
fn collect(request: &Gc, store: &mut Store, host: &mut Netlink, row: &Attachment) -> Result<(), Error> {
    let namespaces = row.netns.as_deref().into_iter().collect();
    let beyond = Beyond::Known(row);
    let remains = Remains { hash: row.hash, proof: Proof::Name, namespaces, beyond };
    let clear = || detach::clear(host, &remains, REMOVE).map(|()| true);
    match remove(request.run_dir(), store, row, clear) {
        Ok(_) => Ok(()),
        Err(Failure::Kernel(error)) => Err(error),
        Err(Failure::Store(error)) => Err(Error::store(REMOVE)(error)),
    }
}
