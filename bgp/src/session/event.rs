//! What goes into a session and what comes out of it (RFC 4271, section 8.1).

use std::fmt;

use super::{Negotiated, Reason};
use crate::path::Family;
use crate::wire::{Cease, ErrorCode, GracefulRestart, Message, Update};

/// A connection, by who made it. Numbers are not used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnectionId {
    /// This side: numbered by the session.
    Dialled(u32),
    /// The peer: numbered by the transport.
    Accepted(u32),
}

/// The states (RFC 4271, section 8.2.2), the furthest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// No connection is wanted, or none yet.
    Idle,
    /// One is being made.
    Connect,
    /// It waits for one, or to try again.
    Active,
    /// The own OPEN is sent.
    OpenSent,
    /// Both OPENs are good.
    OpenConfirm,
    /// Routes are exchanged.
    Established,
}

impl State {
    /// What a message that does not belong there is answered with (RFC 6608).
    pub(super) fn unexpected(self) -> ErrorCode {
        match self {
            Self::OpenSent => ErrorCode::FSM_OPEN_SENT,
            Self::OpenConfirm => ErrorCode::FSM_OPEN_CONFIRM,
            Self::Established => ErrorCode::FSM_ESTABLISHED,
            Self::Idle | Self::Connect | Self::Active => ErrorCode::FSM_UNSPECIFIC,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// What happened. Numbers are those of the RFC's events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input<'a> {
    /// 1, or 4 where the session is passive: somebody wants it up.
    ManualStart,
    /// 2: somebody wants it down. It stays so.
    ManualStop(Cease),
    /// 8: something above must end it, and it may come again: after the IdleHoldTime.
    AutomaticStop(Cease),
    /// BFD says that the peer is gone (RFC 5882, section 3.2). Only an established session minds.
    BfdDown,
    /// 16: a connection that the session asked for stands.
    Connected(ConnectionId),
    /// 17: the peer has made one.
    Accepted(ConnectionId),
    /// 18: one could not be made, or is gone.
    Failed(ConnectionId),
    /// 19 to 28: one brought these bytes.
    Received(ConnectionId, &'a [u8]),
    /// All that was to be sent on it has been taken by the connection, the last of it just now: that keeps it alive (RFC 4271,
    /// section 8.2.2; RFC 9687).
    Sent(ConnectionId),
    /// The peer's routes of a family are wanted again (RFC 2918). Nothing happens where they cannot be asked for.
    Refresh(Family),
    /// 9, 10, 11, 13, 29: the deadline may have passed. Nothing else makes a timer expire.
    Tick,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Make a connection to the peer. The transport gives up by itself as well, and reports that.
    Connect(ConnectionId),
    /// Close one, after all has been sent. Nothing more of it needs to be reported.
    Close(ConnectionId),
    /// Send a message.
    Send(ConnectionId, Message),
    /// The session is established: routes may be sent on this connection.
    Up(ConnectionId, Box<Negotiated>),
    /// It no longer is.
    Down {
        /// Why not.
        reason: Reason,
        /// The peer may be back with its routes, which are to be kept until then (RFC 4724, section 4.2): what it said of that.
        graceful: Option<GracefulRestart>,
    },
    /// A connection ended before the session was established by it.
    Failed(ConnectionId, Reason),
    /// The peer's routes.
    Update(Update),
    /// The peer wants all routes of a family again.
    Refresh(Family),
}
