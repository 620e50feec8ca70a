//! Taking an attachment out of the kernel: the one way of DEL, of an ADD that undoes its work or finds a dead attachment
//! in its place, and of GC.
//!
//! The row goes after it, and only if it succeeds: addresses cool from the moment on when nothing in the kernel has them.
//! A further kind of kernel object that an ADD makes for one attachment is removed here, once for all of them; the daemon's
//! sweep has its counterpart in `node-daemon/src/sweep.rs`.

use std::path::Path;

use twill_ipam::alias::Proof;
use twill_ipam::{Attachment, KeyHash};
use twill_linux::Netlink;

use crate::attach::{self, HostEnd, further};
use crate::error::Error;
use crate::{limit, publish};

/// What is to go, and what is known of it.
#[derive(Debug)]
pub(crate) struct Remains<'a> {
    /// The attachment.
    pub(crate) hash: KeyHash,
    /// What makes its devices ours.
    pub(crate) proof: Proof,
    /// Where the pod may be seen yet: CNI_NETNS, the path that was stored.
    pub(crate) namespaces: Vec<&'a Path>,
    /// What it has beyond its link.
    pub(crate) beyond: Beyond<'a>,
}

/// What an attachment has beyond its link.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Beyond<'a> {
    /// What its row says. Nothing is looked for that it does not have.
    Known(&'a Attachment),
    /// Nobody can say: the kernel is asked. That no row is there says nothing: a store that was lost may not know of it,
    /// and an older program takes a row away with what it does not read in it.
    Unknown,
}

impl Beyond<'_> {
    /// Whether there may be published ports.
    pub(crate) fn ports(self) -> bool {
        match self {
            Self::Known(row) => !row.extras.ports.is_empty(),
            Self::Unknown => true,
        }
    }

    fn ifb(self) -> bool {
        match self {
            Self::Known(row) => row.extras.has_egress(),
            Self::Unknown => true,
        }
    }
}

/// Removes all that stands in the kernel for an attachment, in reverse order of its making: published ports first, so that
/// nobody is led to an interface that goes. Nobody can find any of it when this succeeds; what bears our names and is
/// somebody else's is left alone. What fails does not keep the rest from being removed; the first error is given. The caller
/// holds the attachment's liveness lock.
pub(crate) fn clear(host: &mut Netlink, remains: &Remains<'_>, step: &'static str) -> Result<(), Error> {
    let Remains { hash, proof, beyond, .. } = *remains;
    let withdrawn = match beyond {
        Beyond::Known(row) if row.extras.ports.is_empty() => Ok(()),
        Beyond::Known(row) => publish::withdraw(hash, &publish::of_row(row), step),
        Beyond::Unknown => publish::withdraw_any(hash, step),
    };
    let unlimited = if beyond.ifb() { limit::remove(host, hash, proof, step).map(drop) } else { Ok(()) };
    let removed = clear_link(host, remains, step);
    withdrawn.and(unlimited).and(removed)
}

fn clear_link(host: &mut Netlink, remains: &Remains<'_>, step: &'static str) -> Result<(), Error> {
    let Remains { hash, proof, namespaces, .. } = remains;
    match attach::host_end(host, *hash, *proof).map_err(Error::kernel(step))? {
        HostEnd::Absent | HostEnd::Foreign(_) => Ok(()),
        HostEnd::Ours(link) => {
            further::forget(&link, *hash, namespaces.iter().copied());
            attach::remove_end(host, &link, step)
        }
    }
}
