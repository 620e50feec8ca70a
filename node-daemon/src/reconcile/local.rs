//! This node as `fabric` wants to know it: from the configuration, the underlay and the node store.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use twill_cluster::record::Tunnel;
use twill_conf::NodeName;
use twill_conf::node::UnderlayConf;
use twill_fabric::{Local, Underlay};
use twill_ipam::{Attachment, AttachmentId, BootTime, KeyHash, State, Store};
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

/// What the store knows of an attached pod; not the other end of its veth.
#[derive(Debug)]
pub(super) struct Attached {
    /// The row.
    pub(super) id: AttachmentId,
    /// What it goes by.
    pub(super) hash: KeyHash,
    /// As in [`Pod`](twill_fabric::Pod).
    pub(super) host: IfName,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) unchecked: bool,
}

/// What the store says of this node.
#[derive(Debug)]
pub(super) struct Stored {
    /// The node without its pods.
    pub(super) local: Local,
    /// What they are made of, without those that an ADD or DEL is working on: nobody touches what is theirs.
    pub(super) attached: Vec<Attached>,
    /// An ADD is working on one.
    pub(super) attaching: bool,
}

/// Reads the blocks and the attachments.
pub(super) fn observe(me: &Me, underlay: Underlay, store: &mut Store) -> Result<Stored, twill_ipam::Error> {
    let blocks = store.blocks(BootTime::now())?;
    let mut tunnel = Tunnel::default();
    for ip in blocks.iter().filter_map(|block| block.tunnel) {
        match ip {
            IpAddr::V4(ip) => tunnel.ipv4 = Some(ip),
            IpAddr::V6(ip) => tunnel.ipv6 = Some(ip),
        }
    }
    let rows = store.attachments()?;
    let blocks = blocks.into_iter().map(|block| block.block).collect();
    let bare = Local::bare(me.name.clone(), me.vtep_mac, underlay);
    Ok(Stored {
        local: Local { tunnel, blocks, ipv6: Path::new("/proc/sys/net/ipv6").exists(), ..bare },
        attached: rows.iter().filter_map(attached).collect(),
        attaching: rows.iter().any(|row| row.state == State::Reserved),
    })
}

fn attached(attachment: &Attachment) -> Option<Attached> {
    let attached = || Attached {
        id: attachment.id,
        hash: attachment.hash,
        host: IfName::new(&attachment.hash.host_ifname()).expect("'tw' and 13 digits are a valid interface name"),
        addresses: attachment.addresses.iter().map(|(ip, _)| *ip).collect(),
        unchecked: attachment.extras.unchecked,
    };
    (attachment.state == State::Attached).then(attached)
}
