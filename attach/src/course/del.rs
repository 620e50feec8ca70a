//! DEL: the link goes, then the row, and the addresses cool.
//!
//! It succeeds whenever the link is gone, for that is what the pod's end means to others. The store may be lost, full,
//! read-only or of a newer schema: the kernel alone is enough, since the host end's name follows from the request, and
//! the daemon's sweep frees the row later.

use std::path::Path;
use std::time::Duration;

use twill_ipam::alias::Proof;
use twill_ipam::store::Role;
use twill_ipam::{KeyHash, Liveness, Store};

use super::take_out;
use crate::error::Error;
use crate::kernel::{Beyond, Kernel, Remains};

/// How long a DEL waits for an ADD or DEL of the same attachment: an ADD lives for ten seconds at most.
const PATIENCE: Duration = Duration::from_secs(12);

const REMOVE: &str = "removing the veth pair";

/// What a DEL is called for.
#[derive(Debug, Clone, Copy)]
pub struct Unwanted<'a> {
    /// Where store and locks are.
    pub run_dir: &'a Path,
    /// Which attachment.
    pub hash: KeyHash,
    /// CNI_NETNS, where there is one.
    pub netns: Option<&'a Path>,
}

/// Detaches the container. The attachment's lock is held to the end of the process ([`Kernel::keep`]).
pub fn del(kernel: &mut impl Kernel, unwanted: &Unwanted<'_>) -> Result<(), Error> {
    let Unwanted { run_dir, hash, netns } = *unwanted;
    let mut store = Store::open(run_dir, Role::Guest).ok();
    // The mark first, then the lock: an ADD that runs sees it at its next step and gives up.
    if let Some(store) = &mut store {
        ignore(store.mark_deleting(hash, kernel.now()));
    }
    let lock = lock(run_dir, hash)?;
    // Asked for after the lock: an ADD that held it before us may have taken the row over as a new one.
    let row = store.as_ref().map(|store| store.attachment(hash));
    let (proof, beyond) = match &row {
        Some(Ok(Some(row))) => (Proof::Name, Beyond::Known(row)),
        // The store knows all links that stand, and not this one: an alias that is not ours is somebody's.
        Some(Ok(None)) if is_whole(store.as_ref()) => (Proof::Alias, Beyond::Unknown),
        Some(Ok(None) | Err(_)) | None => (Proof::Name, Beyond::Unknown),
    };
    if let Some(lock) = lock {
        if beyond.ports() {
            // By nft, which withdraws them, too.
            ignore(lock.lend());
        }
        kernel.keep(lock);
    }
    let stored = match &row {
        Some(Ok(Some(row))) => row.netns.as_deref(),
        _ => None,
    };
    let namespaces = netns.into_iter().chain(stored).collect();
    take_out(kernel, &Remains { hash, proof, namespaces, beyond }).map_err(Error::kernel(REMOVE))?;
    // Asked for once more: a rebuild that saw the link before it went may have added a row.
    if let Some(store) = &mut store
        && let Ok(Some(row)) = store.attachment(hash)
    {
        ignore(store.release(row.id, kernel.now()));
    }
    Ok(())
}

/// Whether the store has seen all that stood when it was made: one that was lost has not, until it is rebuilt.
fn is_whole(store: Option<&Store>) -> bool {
    store.is_some_and(|store| matches!(store.needs_rebuild(), Ok(false)))
}

/// Waits for whoever works on the attachment, and keeps others out. `None` where nobody can have a lock.
fn lock(run_dir: &Path, hash: KeyHash) -> Result<Option<Liveness>, Error> {
    if matches!(run_dir.try_exists(), Ok(false)) {
        return Ok(None);
    }
    match Liveness::acquire(run_dir, hash, PATIENCE) {
        Ok(lock) => Ok(Some(lock)),
        Err(error) if keeps_out_everybody(&error) => Ok(None),
        Err(error) => Err(Error::store("waiting for another call on this attachment")(error)),
    }
}

/// Whether an ADD cannot have its lock either: the run directory is no place for one. What else fails (no descriptor, no memory,
/// no lock of the kernel's to be had) fails for this process, and an ADD may be under way.
fn keeps_out_everybody(error: &twill_ipam::Error) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem, StorageFull};
    let twill_ipam::Error::Io { cause, .. } = error else { return false };
    matches!(cause.kind(), NotFound | NotADirectory | PermissionDenied | ReadOnlyFilesystem | StorageFull)
}

/// A failure of the store: the row is left to the sweep, which asks the kernel.
fn ignore<T, E>(outcome: Result<T, E>) {
    drop(outcome);
}

#[cfg(test)]
mod tests {
    use std::io;

    use nix::errno::Errno;

    use super::*;

    #[test]
    fn a_del_goes_on_without_a_lock_only_where_nobody_can_have_one() {
        let keeps_out = |errno: Errno| {
            let (what, path, cause) = ("opening", "ops.lock".into(), io::Error::from(errno));
            keeps_out_everybody(&twill_ipam::Error::Io { what, path, cause })
        };
        for errno in [Errno::ENOENT, Errno::ENOTDIR, Errno::EACCES, Errno::EROFS, Errno::ENOSPC] {
            assert!(keeps_out(errno), "{errno}");
        }
        for errno in [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ENOLCK, Errno::EIO] {
            assert!(!keeps_out(errno), "{errno}");
        }
        assert!(!keeps_out_everybody(&twill_ipam::Error::Busy));
    }
}
