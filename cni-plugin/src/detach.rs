//! Taking an attachment out of the kernel: the one way of DEL, of an ADD that undoes its work or finds a dead attachment
//! in its place, and of GC.
//!
//! The row goes after it, and only if it succeeds: addresses cool from the moment on when nothing in the kernel has them.
//! A further kind of kernel object that an ADD makes for one attachment is removed here, once for all of them; the daemon's
//! sweep has its counterpart in `node-daemon/src/sweep.rs`.

use std::path::Path;

use twill_ipam::KeyHash;
use twill_ipam::alias::Proof;
use twill_linux::Netlink;

use crate::attach::{self, HostEnd, further};
use crate::error::Error;

/// What is to go, and what is known of it.
#[derive(Debug)]
pub(crate) struct Remains<'a> {
    /// The attachment.
    pub(crate) hash: KeyHash,
    /// What makes its host end ours.
    pub(crate) proof: Proof,
    /// Where the pod may be seen yet: CNI_NETNS, the path that was stored.
    pub(crate) namespaces: Vec<&'a Path>,
}

/// Removes all that stands in the kernel for an attachment. Nobody can find any of it when this succeeds; what bears our
/// names and is somebody else's is left alone. The caller holds the attachment's liveness lock.
pub(crate) fn clear(host: &mut Netlink, remains: &Remains<'_>, step: &'static str) -> Result<(), Error> {
    let Remains { hash, proof, namespaces } = remains;
    match attach::host_end(host, *hash, *proof).map_err(Error::kernel(step))? {
        HostEnd::Absent | HostEnd::Foreign(_) => Ok(()),
        HostEnd::Ours(link) => {
            further::forget(&link, *hash, namespaces.iter().copied());
            attach::remove_end(host, &link, step).map(drop)
        }
    }
}
