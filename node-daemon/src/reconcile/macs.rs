//! The MACs of pods, as the kernel shows them from the node's side.
//!
//! A runtime may have chosen a pod's MAC, and a plugin in the chain may have changed it: the store does not know. Each
//! attachment is asked for once, and again a while later, since nothing tells the node of a change in a pod.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use twill_fabric::Pod;
use twill_ipam::AttachmentId;
use twill_linux::table::link;
use twill_linux::{MacAddr, Netlink};

/// What was seen.
#[derive(Debug)]
pub(super) struct Macs {
    /// By the row, which is never another attachment's; the name of a host end may be.
    seen: BTreeMap<AttachmentId, MacAddr>,
    since: Instant,
    lifetime: Duration,
}

impl Macs {
    /// Knows none. What it sees it believes for `lifetime`.
    pub(super) fn new(lifetime: Duration) -> Self {
        Self { seen: BTreeMap::new(), since: Instant::now(), lifetime }
    }

    /// Gives the pods their MACs. One whose end cannot be seen is left out: nobody may guess what its neighbour is.
    pub(super) fn complete(
        &mut self,
        pods: Vec<(AttachmentId, Pod)>,
        netlink: &mut Netlink,
    ) -> Result<Vec<Pod>, twill_linux::Error> {
        if self.since.elapsed() >= self.lifetime {
            (self.seen, self.since) = (BTreeMap::new(), Instant::now());
        }
        let new: Vec<_> = pods.iter().filter(|(id, _)| !self.seen.contains_key(id)).map(|(_, pod)| pod.host).collect();
        let macs = link::peer_macs(netlink, &new)?;
        let mut seen = BTreeMap::new();
        let mut complete = Vec::with_capacity(pods.len());
        for (id, pod) in pods {
            let Some(mac) = self.seen.get(&id).or_else(|| macs.get(&pod.host)).copied() else { continue };
            seen.insert(id, mac);
            complete.push(Pod { mac, ..pod });
        }
        self.seen = seen;
        Ok(complete)
    }
}
