//! The speaker of BGP: who it is, whom it speaks with, and what is taken and given.
//!
//! The section says what is so for all nodes, and for some of them by their names or labels. Which peers one node has
//! follows from it and from the other nodes; that is found elsewhere. Nothing here is of the speaker's own making, but a
//! value that can be written here is one that the speaker takes: it need not refuse what a reader has accepted.

mod asn;
mod community;
#[cfg(feature = "schema")]
pub mod document;
mod filter;
mod peer;
mod read;
mod rules;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnetwork::IpNetwork;
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use super::Selector;
use crate::NodeName;

pub use asn::{Asn, InvalidAsn, PeerAs};
pub use community::{Community, InvalidCommunity};
pub use filter::{Changes, Filter, InvalidFilter, InvalidPrefixes, Prefixes, Rule, Then};
pub use peer::{Bfd, Distance, Link, Peer};
pub(super) use read::bgp as read;
pub(super) use rules::validate;

/// The section `[bgp]`. Where there is none, nothing speaks BGP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bgp {
    /// The AS of the nodes. Default 64512.
    #[serde(rename = "as")]
    pub asn: Asn,
    /// Whether nodes of one AS speak with each other: all with all, or by way of reflectors where there are some. Default true.
    pub mesh: bool,
    /// The TCP port on which nodes listen, and speak to each other. Default 179.
    #[serde(skip_serializing_if = "is_default_port")]
    pub port: u16,
    /// The sessions between nodes.
    #[serde(flatten)]
    pub link: Link,
    /// Whether routes outlive a restart, on both sides (RFC 4724).
    #[serde(skip_serializing_if = "GracefulRestart::is_default")]
    pub graceful_restart: GracefulRestart,
    /// The nodes that pass on to the others what each of them says (RFC 4456).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reflectors: Option<Reflectors>,
    /// What is otherwise on some nodes.
    #[serde(rename = "node", skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeRule>,
    /// Routers outside of the cluster. Each has a name of its own.
    #[serde(rename = "peer", skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<Peer>,
    /// What is announced beside the pools.
    #[serde(rename = "announce", skip_serializing_if = "Vec::is_empty")]
    pub announcements: Vec<Announcement>,
}

/// The TCP port of BGP (RFC 4271, section 8.2.1).
pub const PORT: u16 = 179;

/// Which nodes something is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Nodes {
    /// All.
    #[default]
    All,
    /// The one of this name, whether or not it is there.
    One(NodeName),
    /// Those with such labels.
    Labelled(Selector),
}

/// What becomes of routes when a speaker restarts (RFC 4724).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GracefulRestart {
    /// They go.
    Off,
    /// They stay for so many seconds, 1 to 4095, until the speaker is back. Default 120.
    Within(u16),
}

/// The nodes that are reflectors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reflectors {
    /// Those of the nodes; the others are their clients.
    #[serde(flatten)]
    pub nodes: Nodes,
    /// What they call themselves in a route, by which each knows what it or another of them has reflected. Absent: each its own
    /// router ID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<Ipv4Addr>,
}

/// What is otherwise on some nodes. Of several entries that match a node, the first that says a thing counts for that thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeRule {
    /// Which nodes.
    #[serde(flatten)]
    pub nodes: Nodes,
    /// Their AS.
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    pub asn: Option<Asn>,
    /// The router ID of the one node. Absent: its underlay's IPv4 address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub router_id: Option<Ipv4Addr>,
    /// Whether peers are asked to prefer other ways, since the node is about to go (RFC 8326).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shutdown: Option<bool>,
}

/// A prefix that nodes announce to the peers of the configuration, whatever stands behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Announcement {
    /// Without host bits; not the default route, and not inside of a pool.
    pub prefix: IpNetwork,
    /// By whom.
    #[serde(flatten)]
    pub nodes: Nodes,
    /// What is said with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub communities: Vec<Community>,
}

impl Default for Bgp {
    fn default() -> Self {
        Self {
            asn: Asn::DEFAULT,
            mesh: true,
            port: PORT,
            link: Link::default(),
            graceful_restart: GracefulRestart::default(),
            reflectors: None,
            nodes: Vec::new(),
            peers: Vec::new(),
            announcements: Vec::new(),
        }
    }
}

impl Default for GracefulRestart {
    fn default() -> Self {
        Self::Within(120)
    }
}

impl Bgp {
    /// The AS of a node of this name, with these labels.
    pub fn asn_of(&self, name: &NodeName, labels: &BTreeMap<String, String>) -> Asn {
        self.said_of(name, labels, |rule| rule.asn).unwrap_or(self.asn)
    }

    /// The router ID that is written for a node; `None` where it follows from the underlay.
    pub fn router_id_of(&self, name: &NodeName, labels: &BTreeMap<String, String>) -> Option<Ipv4Addr> {
        self.said_of(name, labels, |rule| rule.router_id)
    }

    /// Whether a node is about to go.
    pub fn is_shut_down(&self, name: &NodeName, labels: &BTreeMap<String, String>) -> bool {
        self.said_of(name, labels, |rule| rule.shutdown).unwrap_or(false)
    }

    fn said_of<T>(
        &self,
        name: &NodeName,
        labels: &BTreeMap<String, String>,
        what: impl Fn(&NodeRule) -> Option<T>,
    ) -> Option<T> {
        self.nodes.iter().filter(|rule| rule.nodes.are(name, labels)).find_map(what)
    }

    /// Whether by this section nodes can learn of each other's blocks at all.
    pub fn joins_nodes(&self) -> bool {
        self.mesh || self.reflectors.is_some() || !self.peers.is_empty()
    }
}

impl Nodes {
    /// Whether the node of this name, with these labels, is among them.
    pub fn are(&self, name: &NodeName, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::All => true,
            Self::One(one) => one == name,
            Self::Labelled(selector) => selector.matches(labels),
        }
    }
}

impl GracefulRestart {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_default_port(port: &u16) -> bool {
    *port == PORT
}

impl Serialize for Nodes {
    /// As the keys of the table that it is a part of.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut keys = serializer.serialize_map(None)?;
        match self {
            Self::All => {}
            Self::One(name) => keys.serialize_entry("node", name)?,
            Self::Labelled(selector) => keys.serialize_entry("nodes", selector)?,
        }
        keys.end()
    }
}

impl Serialize for GracefulRestart {
    /// `false`, or a table.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_bool(false),
            Self::Within(time) => {
                let mut keys = serializer.serialize_map(Some(1))?;
                keys.serialize_entry("time", time)?;
                keys.end()
            }
        }
    }
}
