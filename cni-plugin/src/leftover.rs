//! What stands of published ports and limits without a row and without a link: an older program, which knows nothing of
//! them, has deleted the attachment, or a DEL did while the store was away. A GC removes it, as the daemon's sweep does.

use std::collections::BTreeSet;
use std::path::Path;

use twill_ipam::alias::Proof;
use twill_ipam::removal::{Failure, leftover};
use twill_ipam::{KeyHash, Store};
use twill_linux::table::{self, link};
use twill_linux::{Netlink, ports};

use crate::attach::{self, HostEnd};
use crate::error::Error;
use crate::{limit, publish};

/// Removes it, and gives what could not be removed.
pub(crate) fn collect(
    run_dir: &Path,
    store: &mut Store,
    host: &mut Netlink,
    step: &'static str,
) -> Result<Vec<(KeyHash, Error)>, Error> {
    let mut seen = owners(host).map_err(Error::kernel(step))?;
    if seen.is_empty() {
        return Ok(Vec::new());
    }
    for row in store.attachments().map_err(Error::store(step))? {
        seen.remove(&row.hash);
    }
    let mut failed = Vec::new();
    for hash in seen {
        let clear = || match attach::host_end(host, hash, Proof::Name).map_err(Error::kernel(step))? {
            HostEnd::Ours(_) => Ok(false),
            HostEnd::Absent | HostEnd::Foreign(_) => {
                publish::withdraw(hash, &[], step)?;
                limit::remove(host, hash, Proof::Alias, step).map(|_| true)
            }
        };
        match leftover(run_dir, store, hash, clear) {
            Ok(_) => {}
            Err(Failure::Kernel(error)) => failed.push((hash, error)),
            Err(Failure::Store(error)) => failed.push((hash, Error::store(step)(error))),
        }
    }
    Ok(failed)
}

/// Who has published ports or limiting devices.
fn owners(host: &mut Netlink) -> Result<BTreeSet<KeyHash>, twill_linux::Error> {
    let links = table::links(host)?;
    let ifbs = links.iter().filter(|link| link.kind.as_deref() == Some(link::IFB));
    let mut owners: BTreeSet<KeyHash> = ifbs.filter_map(|link| KeyHash::of_ifb_name(link.name.as_str())).collect();
    let standing = ports::standing()?.unwrap_or_default();
    owners.extend(standing.owners().into_iter().filter_map(KeyHash::parse));
    Ok(owners)
}
