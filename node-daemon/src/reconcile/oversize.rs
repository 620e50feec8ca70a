//! Pods whose MTU is greater than what fits now, since the underlay's has shrunk or a node joined that is reached otherwise.
//!
//! A pod keeps the MTU that it was attached with. What is too large for the tunnel the node refuses, by ICMP, with the size
//! that fits; whoever lets that pass loses nothing, and others should know why theirs does not get through.

use std::collections::BTreeSet;

use twill_fabric::Pod;
use twill_ipam::Error;
use twill_linux::IfName;
use twill_linux::table::SeenLink;

use crate::store::NodeStore;

/// The greatest MTU of a pod, in bytes; 0 without pods.
pub(super) fn greatest(pods: &[Pod], links: &[SeenLink]) -> u32 {
    let hosts: BTreeSet<IfName> = pods.iter().map(|pod| pod.host).collect();
    links.iter().filter(|link| hosts.contains(&link.name)).map(|link| link.mtu).max().unwrap_or(0)
}

/// The pods with a greater MTU than `fits`, as a person knows them. Without any, the store is not asked.
pub(super) fn find(pods: &[Pod], links: &[SeenLink], fits: u32, store: &NodeStore) -> Result<Vec<String>, Error> {
    let hosts: BTreeSet<IfName> = pods.iter().map(|pod| pod.host).collect();
    let greater: BTreeSet<&str> = links
        .iter()
        .filter(|link| link.mtu > fits && hosts.contains(&link.name))
        .map(|link| link.name.as_str())
        .collect();
    if greater.is_empty() {
        return Ok(Vec::new());
    }
    let attachments = store.with(|store| store.attachments())?;
    let found = attachments.iter().filter(|attachment| greater.contains(&*attachment.hash.host_ifname()));
    Ok(found.map(|attachment| attachment.title()).collect())
}
