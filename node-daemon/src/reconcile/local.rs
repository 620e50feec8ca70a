//! This node as `fabric` wants to know it: from the configuration, the underlay and the node store.

use std::path::PathBuf;

use twill_cluster::record::Tunnel;
use twill_conf::NodeName;
use twill_conf::node::UnderlayConf;
use twill_fabric::{Local, Pod, Underlay};
use twill_ipam::{Attachment, AttachmentId, BootTime, State, Store};
use twill_linux::{IfName, MacAddr};

/// What does not change while the daemon runs.
#[derive(Debug, Clone)]
pub struct Me {
    /// The node's name.
    pub name: NodeName,
    /// The MAC of its VTEP.
    pub vtep_mac: MacAddr,
    /// What the operator says of the underlay.
    pub underlay: UnderlayConf,
    /// The run directory.
    pub run_dir: PathBuf,
}

/// Reads the blocks and the pods. Pods that an ADD or DEL is working on are left out: nobody touches what is theirs. The
/// pods are apart, since their MACs are only supposed.
pub(super) fn observe(
    me: &Me,
    underlay: Underlay,
    store: &mut Store,
) -> Result<(Local, Vec<(AttachmentId, Pod)>), twill_ipam::Error> {
    let blocks = store.blocks(BootTime::now())?;
    let mut tunnel = Tunnel::default();
    for ip in blocks.iter().filter_map(|block| block.tunnel) {
        match ip {
            std::net::IpAddr::V4(ip) => tunnel.ipv4 = Some(ip),
            std::net::IpAddr::V6(ip) => tunnel.ipv6 = Some(ip),
        }
    }
    let pods = store.attachments()?.iter().filter_map(pod).collect();
    let blocks = blocks.into_iter().map(|block| block.block).collect();
    let (name, vtep_mac) = (me.name.clone(), me.vtep_mac);
    Ok((Local { name, vtep_mac, underlay, tunnel, blocks, pods: Vec::new() }, pods))
}

/// With the MAC that it has if nobody chose one.
fn pod(attachment: &Attachment) -> Option<(AttachmentId, Pod)> {
    let pod = || Pod {
        host: IfName::new(&attachment.hash.host_ifname()).expect("'tw' and 13 digits are a valid interface name"),
        mac: MacAddr(attachment.hash.pod_mac()),
        addresses: attachment.addresses.iter().map(|(ip, _)| *ip).collect(),
        unchecked: attachment.extras.unchecked,
    };
    (attachment.state == State::Attached).then(|| (attachment.id, pod()))
}
