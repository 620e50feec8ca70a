//! The values that stand in etcd, as JSON. Fields of newer versions are kept when a record is rewritten.

mod alive;
mod mirror;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use twill_conf::NodeName;

use crate::ability::{Ability, Can};

pub use alive::{AliveRecord, Told};
pub use mirror::{Content, Holder, LONGEST_MIRROR, MirrorRecord, Use};

/// A value with its place in etcd's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versioned<T> {
    /// The value.
    pub value: T,
    /// The revision at which the key came to be (create_revision). For a node's record: its epoch.
    pub created: i64,
    /// The revision of its last change (mod_revision).
    pub modified: i64,
}

/// `nodes/<name>`: what others must know of a node. Written by that node alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// The machine's identity; a record of another machine is never taken over.
    pub machine_id: String,
    /// Fresh at every write, so that a write whose answer was lost can be recognised.
    pub nonce: String,
    /// The underlay address of each family that the node has.
    #[serde(default)]
    pub underlay: Underlay,
    /// The tunnel address of each family, once the node has a block to take it from.
    #[serde(default)]
    pub tunnel: Tunnel,
    /// What the VXLAN back end needs, where the node can receive by it. It stands for as long as any other node may send by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vxlan: Option<VxlanEnd>,
    /// How the node sends. Absent from records of older versions, which know nothing but VXLAN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Path>,
    /// Free words of the operator.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The daemon's version.
    #[serde(default)]
    pub version: String,
    /// What the daemon can that not every version can. Absent from records of versions that can nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub can: Option<Can>,
    /// Blocks in which this node has pods although they are another node's now: that one assigns nothing more in them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disputes: Vec<IpNetwork>,
    /// The node is being drained: it gives no new pod an address, claims nothing, and gives back what gets empty. A word
    /// that is fresh for each drain, so that what was mirrored during an earlier one proves nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<String>,
    /// What a newer version wrote.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

/// Underlay addresses with the prefix of their subnet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Underlay {
    /// IPv4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<IpNetwork>,
    /// IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<IpNetwork>,
}

/// Tunnel addresses, out of the node's own first blocks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnel {
    /// IPv4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<Ipv4Addr>,
    /// IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6Addr>,
}

/// A node's end of the VXLAN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VxlanEnd {
    /// The VTEP's MAC, as in 02:00:5e:10:00:01.
    pub mac: String,
    /// The network identifier. Absent from records of older versions: the configuration's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vni: Option<u32>,
    /// The UDP port, as with the identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// A node's side of the ways to others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Path {
    /// Whether it may send by VXLAN. It says so before it does, and takes it back after it has ceased: the others keep a device
    /// for it in between.
    #[serde(default)]
    pub tunnels: bool,
    /// The underlay's MTU, in bytes.
    #[serde(default)]
    pub mtu: u32,
    /// The greatest MTU of its pods, in bytes; 0 without pods.
    #[serde(default)]
    pub pods: u32,
}

/// `blocks/…`: who owns a block. No lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockRecord {
    /// The owner.
    pub node: NodeName,
    /// The owner's machine.
    pub machine_id: String,
    /// The create revision of the owner's record when it claimed.
    pub epoch: i64,
    /// Fresh at every write.
    pub nonce: String,
    /// What a newer version wrote.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

impl NodeRecord {
    /// Whether the node's daemon can this.
    pub fn can(&self, ability: Ability) -> bool {
        self.can.as_ref().is_some_and(|can| can.holds(&self.version, ability))
    }

    /// Whether the node may send by VXLAN.
    pub fn tunnels(&self) -> bool {
        self.path.is_none_or(|path| path.tunnels)
    }
}

/// Reads a record, or says in words why that cannot be.
pub(crate) fn from_json<T: serde::de::DeserializeOwned>(value: &[u8]) -> Result<T, String> {
    serde_json::from_slice(value).map_err(|error| match error.classify() {
        _ if value.trim_ascii().is_empty() => "it is empty".to_owned(),
        serde_json::error::Category::Data => format!("it is JSON of another kind ({error})"),
        _ => format!("it is not JSON ({error})"),
    })
}

impl Underlay {
    /// The address that a VXLAN to or from this node uses, of the given family.
    pub fn address(&self, ipv6: bool) -> Option<IpAddr> {
        if ipv6 { self.ipv6.map(|n| n.ip()) } else { self.ipv4.map(|n| n.ip()) }
    }
}
