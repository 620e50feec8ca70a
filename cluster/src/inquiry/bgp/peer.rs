//! How a peer stands.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::Neighbour;

/// How a peer stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Who it is.
    #[serde(flatten)]
    pub neighbour: Neighbour,
    /// Its AS. Absent where any but ours may come, and none has.
    pub asn: Option<u32>,
    /// What it is to this node.
    pub relation: Relation,
    /// The state of its session.
    pub state: State,
    /// It is in this state for so long, in seconds.
    pub age_seconds: u64,
    /// It is not established for so long, in seconds. Absent while it is, and in the first seconds without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_seconds: Option<u64>,
    /// How often the session was established.
    pub ups: u32,
    /// Its TCP port.
    pub port: u16,
    /// Whether it is waited for, and not called.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub passive: bool,
    /// Why it could last not be connected to, by the words of the node's system; absent once a connection stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreached: Option<String>,
    /// Why a connection last ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
    /// Why somebody has stopped it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shutdown: Option<String>,
    /// It announced more than it may, and is left alone for so long, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barred_seconds: Option<u64>,
    /// The state of BFD's session, where BFD watches it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bfd: Option<Bfd>,
    /// What both ends have agreed on, while the session is established.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreed: Option<Agreed>,
    /// Its IPv4 prefixes.
    pub ipv4: Counts,
    /// Its IPv6 prefixes.
    pub ipv6: Counts,
    /// Whether something waits to be written to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub behind: bool,
}

/// What a peer is to the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relation {
    /// Of the same AS.
    Internal,
    /// Of the same AS, and the node reflects to it.
    Client,
    /// Of another AS.
    External,
    /// A word of a newer version.
    #[serde(other)]
    Unknown,
}

/// The states of a session, by the words of RFC 4271, section 8.2.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "they are the RFC's words")]
pub enum State {
    Idle,
    Connect,
    Active,
    OpenSent,
    OpenConfirm,
    Established,
    /// A word of a newer version.
    #[serde(other)]
    Unknown,
}

/// The states of BFD's session, by the words of RFC 5880, section 4.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "they are the RFC's words")]
pub enum Bfd {
    AdminDown,
    Down,
    Init,
    Up,
    /// A word of a newer version.
    #[serde(other)]
    Unknown,
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    /// How long ago, in seconds.
    pub age_seconds: u64,
    /// By whom.
    pub by: EndedBy,
    /// Code and subcode of the NOTIFICATION (RFC 4271, section 4.5), where it ended by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<(u8, u8)>,
    /// In words.
    pub text: String,
}

/// Who ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndedBy {
    /// The node, by a NOTIFICATION.
    Node,
    /// The peer, by a NOTIFICATION.
    Peer,
    /// Nobody that said so: it broke, or was closed without a word.
    Nobody,
    /// A word of a newer version.
    #[serde(other)]
    Unknown,
}

/// What both ends of a session have agreed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreed {
    /// The peer's BGP identifier.
    pub router_id: Ipv4Addr,
    /// After so many seconds without a message the session ends; 0: never.
    pub hold_seconds: u64,
    /// Whether IPv4 routes are exchanged.
    pub ipv4: bool,
    /// Whether IPv6 routes are exchanged.
    pub ipv6: bool,
    /// Whether routes are kept over a restart (RFC 4724).
    pub graceful_restart: bool,
}

/// The prefixes of one family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Routes that it has announced.
    pub received: u64,
    /// Those of them that the import accepted.
    pub accepted: u64,
    /// Routes that it was told.
    pub sent: u64,
}
