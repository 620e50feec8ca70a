//! The pods' ends of their veths, as the kernel shows them from the node's side.
//!
//! A runtime may have chosen a pod's MAC, and a plugin in the chain may have changed it, or the MTU: the store does not know. Each
//! attachment is asked for once, and again a while later, since nothing tells the node of a change in a pod.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use twill_fabric::Pod;
use twill_ipam::AttachmentId;
use twill_linux::table::SeenLink;
use twill_linux::table::link::{self, FarEnd};
use twill_linux::{IfName, Netlink};

use super::local::Attached;

/// What was seen.
#[derive(Debug)]
pub(super) struct FarEnds {
    /// By the row, which is never another attachment's; the name of a host end may be.
    seen: BTreeMap<AttachmentId, FarEnd>,
    since: Instant,
    lifetime: Duration,
}

impl FarEnds {
    /// Knows none. What it sees it believes for `lifetime`.
    pub(super) fn new(lifetime: Duration) -> Self {
        Self { seen: BTreeMap::new(), since: Instant::now(), lifetime }
    }

    /// The pods of those attachments. One whose end cannot be seen is left out: nobody may guess what its neighbour is. Of an end in `links`
    /// that has another MTU than its pod's was seen to have, the pod's is looked at again: who changes both changes one first.
    pub(super) fn complete(
        &mut self,
        attached: Vec<Attached>,
        links: &[SeenLink],
        netlink: &mut Netlink,
    ) -> Result<Vec<Pod>, twill_linux::Error> {
        if self.since.elapsed() >= self.lifetime {
            (self.seen, self.since) = (BTreeMap::new(), Instant::now());
        }
        let near: BTreeMap<IfName, u32> = links.iter().map(|link| (link.name, link.mtu)).collect();
        let is_known =
            |one: &&Attached| self.seen.get(&one.id).is_some_and(|end| near.get(&one.host) == Some(&end.mtu));
        let open: Vec<_> = attached.iter().filter(|one| !is_known(one)).map(|one| one.host).collect();
        let ends = link::far_ends(netlink, &open)?;
        let mut seen = BTreeMap::new();
        let mut pods = Vec::with_capacity(attached.len());
        for Attached { id, host, addresses, unchecked } in attached {
            let Some(end) = ends.get(&host).or_else(|| self.seen.get(&id)).copied() else { continue };
            seen.insert(id, end);
            pods.push(Pod { host, mac: end.mac, mtu: end.mtu, addresses, unchecked });
        }
        self.seen = seen;
        Ok(pods)
    }
}
