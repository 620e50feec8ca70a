//! This node as `fabric` wants to know it: from the configuration, the underlay and the node store.

use std::path::PathBuf;

use twill_cluster::record::Tunnel;
use twill_conf::NodeName;
use twill_fabric::{Local, Pod, Underlay};
use twill_ipam::{Attachment, BootTime, State, Store};
use twill_linux::table::link;
use twill_linux::{IfName, MacAddr, Netlink};

/// What does not change while the daemon runs.
#[derive(Debug, Clone)]
pub struct Me {
    /// The node's name.
    pub name: NodeName,
    /// The MAC of its VTEP.
    pub vtep_mac: MacAddr,
    /// The underlay interface, where the operator named it.
    pub underlay: Option<String>,
    /// The run directory.
    pub run_dir: PathBuf,
}

/// Reads the blocks and the pods. Pods that an ADD or DEL is working on are left out: nobody touches what is theirs.
pub(super) fn observe(me: &Me, underlay: Underlay, store: &mut Store) -> Result<Local, twill_ipam::Error> {
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
    Ok(Local { name: me.name.clone(), vtep_mac: me.vtep_mac, underlay, tunnel, blocks, pods })
}

/// Asks the kernel for the MACs of the pods' ends, which a runtime may have chosen and a plugin in the chain may have
/// changed. A pod whose end cannot be seen is left out: nobody may guess what its neighbour is.
pub(super) fn observe_macs(local: &mut Local, netlink: &mut Netlink) -> Result<(), twill_linux::Error> {
    let hosts: Vec<_> = local.pods.iter().map(|pod| pod.host).collect();
    let macs = link::peer_macs(netlink, &hosts)?;
    local.pods.retain_mut(|pod| match macs.get(&pod.host) {
        Some(mac) => {
            pod.mac = *mac;
            true
        }
        None => false,
    });
    Ok(())
}

/// With the MAC that it has if nobody chose one.
fn pod(attachment: &Attachment) -> Option<Pod> {
    (attachment.state == State::Attached).then(|| Pod {
        host: IfName::new(&attachment.hash.host_ifname()).expect("'tw' and 13 digits are a valid interface name"),
        mac: MacAddr(attachment.hash.pod_mac()),
        addresses: attachment.addresses.iter().map(|(ip, _)| *ip).collect(),
    })
}
