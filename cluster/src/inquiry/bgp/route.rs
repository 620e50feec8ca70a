//! Routes: what is said of them, what is used, and what became of each.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::{Neighbour, is_default};

/// What is said of a route (RFC 4271, section 5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// The systems that it came through, as routers print them. Empty inside of an AS.
    pub as_path: String,
    /// "igp", "egp" or "incomplete".
    pub origin: String,
    /// LOCAL_PREF.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub med: Option<u32>,
    /// COMMUNITIES and LARGE_COMMUNITY, as routers print them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub communities: Vec<String>,
    /// ORIGINATOR_ID, where it was reflected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub originator: Option<Ipv4Addr>,
    /// CLUSTER_LIST, the latest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<Ipv4Addr>,
}

/// What is used for a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Which.
    pub prefix: IpNetwork,
    /// The best one first.
    pub used: Vec<Used>,
}

/// A route that is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Whose. Absent: the node's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Neighbour>,
    /// Where packets go. Absent: the node's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<IpAddr>,
    /// What is said of it, after the import.
    #[serde(flatten)]
    pub attributes: Attributes,
    /// Whether it is of a session that is gone, and kept until the peer is back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

/// Why a prefix is as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The most specific prefix with any route that covers what was asked for. Absent: no route does.
    pub prefix: Option<IpNetwork>,
    /// The most specific one with a route that is used: by that packets go. Absent: by none.
    pub used: Option<IpNetwork>,
    /// All routes to it, and what became of each.
    pub routes: Vec<Candidate>,
    /// What each peer is told of those that are used, or why not.
    pub told: Vec<Telling>,
    /// So many routes and tellings had no room.
    #[serde(default, skip_serializing_if = "is_default")]
    pub left_out: usize,
}

/// A route that was learned, or is the node's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Whose. Absent: the node's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Neighbour>,
    /// Which of that peer's (RFC 7911); 0 where it has but one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub path_id: u32,
    /// Where it leads. Absent: the node's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<IpAddr>,
    /// What is said of it: after the import, or as it came where that refused it.
    #[serde(flatten)]
    pub attributes: Attributes,
    /// Whether it is of a session that is gone, and kept until the peer is back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What became of a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// It is the best one: announced and used.
    Best,
    /// It is used beside the best one.
    AlsoUsed,
    /// Another one was preferred.
    Lost {
        /// Why, in words.
        why: String,
        /// Whose that is. Absent: the node's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<Neighbour>,
    },
    /// Its next hop is out of reach.
    OutOfReach,
    /// It takes no part.
    Refused {
        /// Why not, in words.
        why: String,
    },
    /// Nothing is selected yet, after a restart.
    Deferred,
    /// A word of a newer version.
    #[serde(other)]
    Unknown,
}

/// What a peer is told of a route that is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Telling {
    /// The peer.
    pub to: Neighbour,
    /// Whose the route is. Absent: the node's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Neighbour>,
    /// As what it goes out; absent where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<Attributes>,
    /// Why it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withheld: Option<String>,
}
