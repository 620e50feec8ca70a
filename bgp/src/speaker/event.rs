//! What goes into a speaker and what comes out of it.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::Endpoint;
use crate::bfd;
use crate::path::{Attributes, Family, NextHop};
use crate::policy::Guard;
use crate::rib::{Expired, Limit, PeerId, Reach};
use crate::session::{self, ConnectionId, Negotiated, Reason};
use crate::wire::{Malformed, WriteError};

/// A connection. It is never used again for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Connection {
    pub(super) peer: PeerId,
    pub(super) id: ConnectionId,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input<'a> {
    /// A connection that [`Output::Dial`] asked for stands.
    Connected {
        /// Which.
        connection: Connection,
        /// Our end of it.
        local: IpAddr,
    },
    /// A connection could not be made, or is gone.
    Failed(Connection),
    /// A connection brought these bytes.
    Received(Connection, &'a [u8]),
    /// The deadline may have passed. Nothing else makes a timer expire.
    Tick,
    /// BFD's session with a peer has changed.
    Bfd(IpAddr, bfd::Change),
    /// We have a route of our own, or say something else of it.
    Originate(IpNetwork, Attributes),
    /// We no longer have it.
    Retract(IpNetwork),
    /// What no peer may announce has changed.
    Guard(Guard),
    /// Which next hops are reached has changed.
    Reach(Reach),
    /// Somebody wants a new session with a peer, and perhaps says why (RFC 9003).
    Reset(IpAddr, String),
    /// Somebody wants a peer's routes again (RFC 2918).
    Refresh(IpAddr),
    /// A peer had no session before our own restart: selection does not wait for one.
    Absent(IpAddr),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Make a connection to a peer, and tell of it by [`Input::Connected`] or [`Input::Failed`]. The transport gives up by itself too.
    Dial(Connection, Box<Endpoint>),
    /// There is something to write: [`Speaker::write`](super::Speaker::write) gives it, as soon as the connection takes more.
    Write(Connection),
    /// Write these last bytes behind what is under way, without waiting long, and close. Nothing more of it needs to be told.
    Close(Connection, Vec<u8>),
    /// [`Speaker::changes`](super::Speaker::changes) has something for the kernel.
    RoutesChanged,
    /// After our own restart: routes of this family are selected now. What the kernel has of before, and is not used, is to go, but for
    /// what peers may still be about to say: those that were not waited for.
    Selected(Family),
    /// For the log: something about a peer.
    Told(IpAddr, Event),
}

/// Something about a peer that an operator may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Its session is in another state.
    State {
        /// The state before.
        from: session::State,
        /// The state now.
        to: session::State,
    },
    /// Its session is established, with what was agreed on.
    Up(Box<Negotiated>),
    /// Its session has ended.
    Down {
        /// Why.
        reason: Reason,
        /// Whether it may be restarting, so that its routes are kept for a while.
        is_graceful: bool,
    },
    /// It has said all that it had to say of a family at the start of its session.
    EndOfRib(Family),
    /// A connection ended before the session was established by it.
    Failed(Reason),
    /// An UPDATE was not as it should be, and what was done about it.
    Malformed(Vec<Malformed>),
    /// Its routes come near to their maximum, or are beyond.
    Limit(Limit),
    /// A wait for it ended by its time.
    Expired(Expired),
    /// Routes could not be written to it. It is told that they are gone.
    Unwritten(WriteError),
}

/// Why a connection that came in is refused: to be closed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nobody of that address is configured.
    #[error("no peer with the address {0} is configured")]
    Stranger(IpAddr),
    /// Its session is in Idle: stopped, or held there after a failure (RFC 4271, section 8.2.2).
    #[error("the session with {0} is idle")]
    Idle(IpAddr),
    /// It came to another address than the one that is configured.
    #[error("{peer} came to {local}, and is configured to come to {source_address}")]
    OtherAddress {
        /// Who.
        peer: IpAddr,
        /// Where it came to.
        local: IpAddr,
        /// The configured one.
        source_address: IpAddr,
    },
}

/// What the kernel needs of a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Which.
    pub prefix: IpNetwork,
    /// Where packets go, the best one first. Empty: nowhere by BGP, since the prefix is gone, or is our own.
    pub next_hops: Vec<NextHop>,
    /// Whether one of them is of a session that is gone, and is kept until the peer is back.
    pub stale: bool,
}
