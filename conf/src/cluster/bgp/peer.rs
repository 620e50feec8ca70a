//! A router that nodes speak with, and what all sessions have in common.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use super::{Asn, Filter, Nodes, PORT, PeerAs};
use crate::PeerName;

/// A router outside of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Peer {
    /// Unique among the peers.
    pub name: PeerName,
    /// Its address: of one machine, and not of a link alone.
    pub address: IpAddr,
    /// Its AS.
    #[serde(rename = "as")]
    pub asn: PeerAs,
    /// The nodes that speak with it. Absent: all.
    #[serde(flatten)]
    pub nodes: Nodes,
    /// Its TCP port. Default 179.
    #[serde(skip_serializing_if = "super::is_default_port")]
    pub port: u16,
    /// The address of the node from which it is spoken to, of the same family. Absent: as the route to it has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// The AS that the nodes give for their own to this peer. Absent: the node's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_as: Option<Asn>,
    /// Whether it is waited for, and not called. Default false.
    #[serde(skip_serializing_if = "crate::cluster::is_false")]
    pub passive: bool,
    /// How far it is.
    #[serde(flatten)]
    pub distance: Distance,
    /// Its session.
    #[serde(flatten)]
    pub link: Link,
    /// Whether it is told this node as the next hop for all routes, those of other internal peers too. Default false: for those of
    /// external peers only.
    #[serde(skip_serializing_if = "crate::cluster::is_false")]
    pub next_hop_self: bool,
    /// Whether an external one is also offered what this node has learned: blocks of other nodes, routes of other peers. Default
    /// false: what the node announces itself.
    #[serde(skip_serializing_if = "crate::cluster::is_false")]
    pub transit: bool,
    /// So many prefixes of each family may it announce. Absent: any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_prefixes: Option<u32>,
    /// What is taken. Absent: of an internal peer what lies in the pools, of an external one nothing (RFC 8212).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub import: Option<Filter>,
    /// What is given. Absent: to an internal peer all, to an external one nothing (RFC 8212).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export: Option<Filter>,
}

/// What a session goes by, be it with a peer or between nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Link {
    /// After so many seconds of silence the peer is dead: 3 to 65535, or 0 for never. Default 90; the lesser of both sides counts.
    #[serde(skip_serializing_if = "is_default_hold")]
    pub hold_time: u16,
    /// After so many seconds a peer that did not answer is called again, from 1. Default 10.
    #[serde(skip_serializing_if = "is_default_retry")]
    pub connect_retry: u16,
    /// The file, on every node that has such a session, with the password that signs it (RFC 2385). The password itself stands nowhere
    /// else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Whether packets tell in between that the way stands (RFC 5880).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bfd: Option<Bfd>,
}

/// Bidirectional forwarding detection, over one hop (RFC 5881).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bfd {
    /// So often is a packet sent and expected, in milliseconds: 50 to 10000. Default 300.
    pub interval: u32,
    /// After so many that did not come the way is down: 2 to 255. Default 3.
    pub multiplier: u8,
}

/// How far a peer is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Distance {
    /// As is usual: an external peer is on a link of ours, and packets that came by a router are dropped (RFC 5082); of an internal one
    /// nothing is asked.
    #[default]
    Usual,
    /// On a link of ours, and that is held to.
    Guarded,
    /// On a link of ours, but it sends with a hop limit that proves nothing.
    Unguarded,
    /// Behind routers: packets to it have this hop limit, from 2.
    Routed(u8),
}

/// In seconds, as RFC 4271, section 10, suggests.
const HOLD_TIME: u16 = 90;
/// In seconds. Less than RFC 4271 suggests: who restarts is awaited.
const CONNECT_RETRY: u16 = 10;

impl Peer {
    /// A peer of all nodes, with the defaults.
    pub fn new(name: PeerName, address: IpAddr, asn: PeerAs) -> Self {
        Self {
            name,
            address,
            asn,
            nodes: Nodes::All,
            port: PORT,
            source: None,
            local_as: None,
            passive: false,
            distance: Distance::Usual,
            link: Link::default(),
            next_hop_self: false,
            transit: false,
            max_prefixes: None,
            import: None,
            export: None,
        }
    }
}

impl Default for Link {
    fn default() -> Self {
        Self { hold_time: HOLD_TIME, connect_retry: CONNECT_RETRY, password_file: None, bfd: None }
    }
}

impl Default for Bfd {
    fn default() -> Self {
        Self { interval: 300, multiplier: 3 }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_default_hold(time: &u16) -> bool {
    *time == HOLD_TIME
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_default_retry(time: &u16) -> bool {
    *time == CONNECT_RETRY
}

impl Serialize for Distance {
    /// As the keys of the table that it is a part of.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut keys = serializer.serialize_map(None)?;
        match self {
            Self::Usual => {}
            Self::Guarded => keys.serialize_entry("gtsm", &true)?,
            Self::Unguarded => keys.serialize_entry("gtsm", &false)?,
            Self::Routed(limit) => keys.serialize_entry("multihop", limit)?,
        }
        keys.end()
    }
}
