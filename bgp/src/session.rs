//! The session with a peer: the finite state machine of RFC 4271, section 8, without I/O and without a clock.
//!
//! [`Session::step`] takes what happened and when, and gives what is to be done; [`Session::deadline`] says until when nothing
//! happens unless something comes. Nothing else goes in or out, so that the same inputs always give the same outputs. It
//! promises that no input makes it panic, that at most one connection is Established, and that [`Output::Up`] and
//! [`Output::Down`] alternate.
//!
//! A reader of the RFC finds a file for each state. What is one FSM per connection there is one session here, which has up to two
//! connections: the one it dialled and the one it accepted (`collision`). Those have the states OpenSent, OpenConfirm and
//! Established; the session is in the furthest of them, and without any in Idle, Connect or Active.
//!
//! Beside the RFC's timers it has the SendHoldTimer of RFC 9687: a peer that talks, but takes nothing of what is sent to it, is gone too.
//!
//! Of the optional attributes it has AllowAutomaticStart, DampPeerOscillations, IdleHoldTimer, PassiveTcpEstablishment and
//! TrackTcpState. It has no DelayOpen, and no CollisionDetectEstablishedState: the established connection wins.
//!
//! It departs from the RFC where all speakers do:
//!
//! - A connection that cannot be made leads from Connect to Active, and not to Idle, which would refuse the peer's own.
//! - No NOTIFICATION answers a NOTIFICATION, also not in OpenSent.
//! - Any message restarts the HoldTimer, ROUTE-REFRESH too.
//! - A session that has only just come up is not given up for a new connection as for a restarted peer's (RFC 4724, section 5): where
//!   both have dialled, the second connection may be heard of that late.
//! - A connection that loses against another one is not confirmed while that one's OPEN is awaited (`collision`).
//!
//! The transport in the daemon calls it, and above it stands the RIB.

mod active;
mod collision;
mod connect;
mod ending;
mod established;
mod event;
mod idle;
mod negotiation;
mod open_confirm;
mod open_sent;
mod timer;

pub use ending::Reason;
pub use event::{ConnectionId, Input, Output, State};
pub use negotiation::Negotiated;

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::path::{Asn, PeerAs};
use crate::random::Random;
use crate::wire::frame::Kind;
use crate::wire::{self, Capabilities, Cease, Dialect, Framer, Message, Notification, Open};

/// What is configured of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The own system, as this peer sees it.
    pub local_as: Asn,
    /// The peer's. Another one is refused; where any other than ours may come, that of `local_as` is too.
    pub peer_as: PeerAs,
    /// The own BGP identifier.
    pub identifier: Ipv4Addr,
    /// What is offered. The AS number of four bytes is always, whatever stands there.
    pub capabilities: Capabilities,
    /// Seconds without a message after which the peer is gone: 0, for never, or at least 3.
    pub hold_time: u16,
    /// It waits for the peer to connect.
    pub passive: bool,
    /// AS_PATHs of an external peer must begin with it: not so behind a route server.
    pub first_as: bool,
    /// How long a connection is tried, and how long after a failure it is tried again (ConnectRetryTime).
    pub connect_retry: Duration,
    /// How long the session stays in Idle after its first failure (IdleHoldTime). It doubles with each.
    pub idle_hold: Duration,
    /// How long it stays there at most. A session that was up for so long has the first one again.
    pub idle_hold_most: Duration,
}

/// A session with one peer.
#[derive(Debug, Clone)]
pub struct Session {
    config: Config,
    random: Random,
    /// The time of the latest input.
    now: Duration,
    attempt: Attempt,
    /// One of each direction at most.
    connections: Vec<Connection>,
    /// ConnectRetryCounter.
    retries: u32,
    /// Failures in a row, for the IdleHoldTime.
    failures: u32,
    /// Dialled so far: the number of the next one.
    dialled: u32,
    outputs: Vec<Output>,
}

/// How the session comes to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    /// Not at all. It starts again when the IdleHoldTimer expires, if that runs.
    Idle {
        /// IdleHoldTimer.
        again: Option<Duration>,
    },
    /// Connect where it dials, Active where it waits.
    Trying {
        /// The connection that is being made.
        dial: Option<ConnectionId>,
        /// ConnectRetryTimer.
        retry: Option<Duration>,
    },
}

/// A connection that stands.
#[derive(Debug, Clone)]
struct Connection {
    id: ConnectionId,
    phase: Phase,
    framer: Framer,
    /// HoldTimer.
    hold: Option<Duration>,
    /// KeepaliveTimer.
    keepalive: Option<Duration>,
    /// SendHoldTimer: runs while something waits to be sent.
    send_hold: Option<Duration>,
    /// In OpenConfirm: the own KEEPALIVE is not sent yet.
    deferred: Option<Deferred>,
}

/// What a connection waits for that would lose against another one.
#[derive(Debug, Clone, Copy)]
struct Deferred {
    /// The other's OPEN is awaited until then.
    until: Option<Duration>,
    /// The peer's KEEPALIVE has come.
    is_confirmed: bool,
}

/// How far a connection is.
#[derive(Debug, Clone)]
enum Phase {
    OpenSent,
    OpenConfirm(Box<Negotiated>),
    Established {
        negotiated: Box<Negotiated>,
        /// When it became so.
        since: Duration,
    },
}

impl Phase {
    fn state(&self) -> State {
        match self {
            Self::OpenSent => State::OpenSent,
            Self::OpenConfirm(_) => State::OpenConfirm,
            Self::Established { .. } => State::Established,
        }
    }

    fn negotiated(&self) -> Option<&Negotiated> {
        match self {
            Self::OpenSent => None,
            Self::OpenConfirm(negotiated) | Self::Established { negotiated, .. } => Some(negotiated),
        }
    }
}

impl Session {
    /// One in Idle, which [`Input::ManualStart`] starts. The seed is for the jitter of its timers (RFC 4271, section 10): all
    /// peers of a speaker have different ones.
    #[must_use]
    pub fn new(config: Config, seed: u64) -> Self {
        Self {
            config,
            random: Random::new(seed),
            now: Duration::ZERO,
            attempt: Attempt::Idle { again: None },
            connections: Vec::new(),
            retries: 0,
            failures: 0,
            dialled: 0,
            outputs: Vec::new(),
        }
    }

    /// Takes what happened at `now`, a time since any moment that is always the same, and gives what is to be done, in order.
    /// Time does not run backwards: an earlier one than before is taken for that.
    #[must_use]
    pub fn step(&mut self, now: Duration, input: Input<'_>) -> Vec<Output> {
        self.now = self.now.max(now);
        match input {
            Input::ManualStart => self.manual_start(),
            Input::ManualStop(cease) => self.manual_stop(&cease),
            Input::AutomaticStop(cease) => self.automatic_stop(&cease),
            Input::BfdDown => self.bfd_down(),
            Input::Connected(id) => self.connected(id),
            Input::Accepted(id) => self.accepted(id),
            Input::Failed(id) => self.failed(id),
            Input::Received(id, bytes) => self.received(id, bytes),
            Input::Sent(id) => self.sent(id),
            Input::Refresh(family) => self.request_refresh(family),
            Input::Tick => self.tick(),
        }
        self.resume_deferred();
        std::mem::take(&mut self.outputs)
    }

    /// What the session offers from its next connection on: the R and F bits of a restart that is over, for example.
    pub fn offer(&mut self, capabilities: Capabilities) {
        self.config.capabilities = capabilities;
    }

    /// Another ConnectRetryTime, from the next attempt on. A timer that runs for longer ends as if it had been started with it.
    pub fn set_connect_retry(&mut self, time: Duration) {
        self.config.connect_retry = time;
        if let Attempt::Trying { dial, retry: Some(due) } = self.attempt {
            let retry = self.connect_retry().map(|new| new.min(due));
            self.attempt = Attempt::Trying { dial, retry };
        }
    }

    /// The state that it is in (RFC 4271, section 8.2.2).
    #[must_use]
    pub fn state(&self) -> State {
        let attempt = match self.attempt {
            Attempt::Idle { .. } => State::Idle,
            Attempt::Trying { dial: Some(_), .. } => State::Connect,
            Attempt::Trying { dial: None, .. } => State::Active,
        };
        self.connections.iter().map(|connection| connection.phase.state()).max().unwrap_or(attempt)
    }

    /// Whether this connection is being made.
    #[must_use]
    pub fn is_making(&self, id: ConnectionId) -> bool {
        matches!(self.attempt, Attempt::Trying { dial: Some(dial), .. } if dial == id)
    }

    /// ConnectRetryCounter: how often it failed since it was started.
    #[must_use]
    pub fn connect_retry_counter(&self) -> u32 {
        self.retries
    }

    /// What was agreed, while it is Established.
    #[must_use]
    pub fn negotiated(&self) -> Option<&Negotiated> {
        self.established().and_then(|connection| connection.phase.negotiated())
    }

    fn established(&self) -> Option<&Connection> {
        self.connections.iter().find(|connection| connection.phase.state() == State::Established)
    }

    fn connection(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|connection| connection.id == id)
    }

    fn send(&mut self, id: ConnectionId, message: Message) {
        self.start_send_hold(id);
        self.outputs.push(Output::Send(id, message));
    }

    /// Takes bytes of a connection, message by message, until one of them ends it.
    fn received(&mut self, id: ConnectionId, bytes: &[u8]) {
        if let Some(connection) = self.connection(id) {
            connection.framer.feed(bytes);
        }
        while let Some(connection) = self.connection(id) {
            match connection.next_message() {
                Ok(Some(message)) => self.message(id, message),
                Ok(None) => break,
                // Events 21, 22 and 28: BGPHeaderErr, BGPOpenMsgErr and UpdateMsgErr.
                Err(notification) => self.end_with(id, notification),
            }
        }
    }

    fn message(&mut self, id: ConnectionId, message: Message) {
        let Some(connection) = self.connection(id) else { return };
        match connection.phase.state() {
            State::OpenConfirm => self.in_open_confirm(id, message),
            State::Established => self.in_established(id, message),
            _ => self.in_open_sent(id, message),
        }
    }
}

impl Connection {
    /// The next message, or what to say of bytes that are none. An UPDATE before its time is not even read.
    fn next_message(&mut self) -> Result<Option<Message>, Notification> {
        let state = self.phase.state();
        let Some(frame) = self.framer.next_frame()? else { return Ok(None) };
        if frame.kind == Kind::Update && state != State::Established {
            return Err(state.unexpected().into());
        }
        let unknown = Dialect::default();
        let dialect = self.phase.negotiated().map_or(&unknown, |negotiated| &negotiated.dialect);
        wire::decode(&frame, dialect).map(Some)
    }
}

#[cfg(test)]
mod tests;
