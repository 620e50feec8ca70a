//! What goes into a session and what comes out of it.

use super::{Diagnostic, Packet, State, Timing};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input<'a> {
    /// A packet came that is for this session.
    Received(&'a Packet),
    /// The deadline may have passed. Nothing else makes a timer expire.
    Tick,
    /// The configuration has another timing.
    Configure(Timing),
    /// Somebody wants no session: the peer is told so, and takes it for no failure.
    Disable,
    /// Somebody wants it again.
    Enable,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Send a packet to the peer.
    Send(Packet),
    /// The session is in another state.
    Changed(Change),
}

/// A change of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The state before.
    pub from: State,
    /// The state now.
    pub to: State,
    /// Why.
    pub why: Why,
    /// Whether BFD of the other side outlives its control plane, as its last packet said (the C bit). If not, it is no wonder that BFD
    /// fails while that restarts, and says nothing of the forwarding (RFC 5882, section 4.3.2).
    pub independent: bool,
}

/// Why a state changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The other side is heard, or hears.
    Heard,
    /// The other side was not heard within the detection time.
    Expired,
    /// The other side is down, for this reason.
    Signalled(Diagnostic),
    /// Somebody on the other side wants no session.
    DisabledThere,
    /// Somebody here wants none.
    DisabledHere,
    /// Somebody here wants one again.
    Enabled,
}

impl Change {
    /// Whether packets no longer get through in one of the directions. A peer that wants no session, and one that has just begun, are
    /// heard: their control plane says itself what is the matter (RFC 5882, sections 3.2 and 4.3.2).
    #[must_use]
    pub fn is_failure(&self) -> bool {
        self.from == State::Up
            && match self.why {
                Why::Expired => true,
                Why::Signalled(diagnostic) => diagnostic != Diagnostic::NONE,
                Why::Heard | Why::DisabledThere | Why::DisabledHere | Why::Enabled => false,
            }
    }
}
