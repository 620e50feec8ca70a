//! What the kernel shows of the attached pods' veths: the MACs of the pods' ends, and the MTUs.
//!
//! A runtime may have chosen a pod's MAC, and a plugin in the chain may have changed it: the store does not know. Each
//! attachment is asked for once, and again a while later, since nothing tells the node of a change in a pod.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use twill_fabric::Pod;
use twill_ipam::AttachmentId;
use twill_linux::Netlink;
use twill_linux::table::link::{self, SeenVeth};

/// What was seen.
#[derive(Debug)]
pub(super) struct Veths {
    /// By the row, which is never another attachment's; the name of a host end may be.
    seen: BTreeMap<AttachmentId, SeenVeth>,
    since: Instant,
    lifetime: Duration,
}

impl Veths {
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
        let veths = link::veths(netlink, &new)?;
        let mut seen = BTreeMap::new();
        let mut complete = Vec::with_capacity(pods.len());
        for (id, pod) in pods {
            let Some(veth) = self.seen.get(&id).or_else(|| veths.get(&pod.host)).copied() else { continue };
            seen.insert(id, veth);
            complete.push(Pod { mac: veth.peer_mac, ..pod });
        }
        self.seen = seen;
        Ok(complete)
    }

    /// The greatest MTU among those that were completed last, in bytes; 0 without any.
    pub(super) fn greatest_mtu(&self) -> u32 {
        self.seen.values().map(|veth| veth.mtu).max().unwrap_or(0)
    }
}
