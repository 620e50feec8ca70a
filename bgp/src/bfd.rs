//! Whether a peer is reached, asked several times a second: BFD in asynchronous mode (RFC 5880 and 5881), without I/O and without a clock.
//!
//! A [`Session`] is asked with what happened, when, and a random number for the jitter; it gives packets to send and changes of its state,
//! and says by [`Session::deadline`] until when nothing happens unless something comes. [`Sessions`] holds those of a node and finds the one
//! that a packet is for. The daemon's thread for BFD has the sockets: it sends with a TTL of 255 and takes only packets that have it
//! (RFC 5881, section 5).
//!
//! What it promises: a peer that is silent is noticed within the detection time, which follows from what both sides last agreed on; while a
//! session is not up it sends once a second at most; changed intervals are made known by a Poll Sequence, and those that would make the
//! other side too early count from its end on (section 6.8.3).
//!
//! It has neither authentication nor the echo function. It never asks for demand mode, and obeys a peer that does. It takes the active role.
//! It shares the fate of the control plane, so its C bit is never set: a daemon that restarts says AdminDown before.

mod event;
mod packet;
mod sessions;
mod timing;

pub use event::{Change, Input, Output, Why};
pub use packet::{Diagnostic, LENGTH, Packet, Refused, State};
pub use sessions::Sessions;
pub use timing::{Invalid, Timing};

use std::num::NonZeroU32;
use std::time::Duration;

/// While a session is not up it sends once in this time at most (RFC 5880, section 6.8.3).
const SLOW: Duration = Duration::from_secs(1);
/// What the other side takes until it has said more (RFC 5880, section 6.8.1).
const UNKNOWN_MIN_RX: Duration = Duration::from_micros(1);

/// What is known of the other side (RFC 5880, section 6.8.1).
#[derive(Debug, Clone, Copy)]
struct Remote {
    discriminator: NonZeroU32,
    state: State,
    demand: bool,
    multiplier: u8,
    desired_min_tx: Duration,
    min_rx: Duration,
    /// When it is gone, unless it is heard before.
    gone: Duration,
}

/// A Poll Sequence (RFC 5880, section 6.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Poll {
    Idle,
    /// Until a packet with F comes.
    Running,
    /// What it tells has changed since: another one follows.
    Twice,
}

/// A session with one peer.
#[derive(Debug, Clone)]
pub struct Session {
    timing: Timing,
    discriminator: NonZeroU32,
    state: State,
    diagnostic: Diagnostic,
    remote: Option<Remote>,
    /// The C bit of the last packet.
    independent: bool,
    poll: Poll,
    /// The Desired Min TX Interval that is kept to: the announced one, but for an increase that the other side has not confirmed.
    pace: Duration,
    /// The Required Min RX Interval that counts for the detection time: the announced one, but for a decrease as above.
    tolerance: Duration,
    /// When the last packet went. None: the first one is due.
    sent: Option<Duration>,
    /// How much of the jitter the next one waits.
    chance: u32,
    now: Duration,
    outputs: Vec<Output>,
}

impl Session {
    /// One that is Down and begins to send. No other session of this node has the discriminator.
    #[must_use]
    pub fn new(timing: Timing, discriminator: NonZeroU32, now: Duration) -> Self {
        Self {
            timing,
            discriminator,
            state: State::Down,
            diagnostic: Diagnostic::NONE,
            remote: None,
            independent: false,
            poll: Poll::Idle,
            pace: timing.transmit.max(SLOW),
            tolerance: timing.receive,
            sent: None,
            chance: 0,
            now,
            outputs: Vec::new(),
        }
    }

    /// Takes what happened at `now`, a time since any moment that is always the same, and gives what is to be done, in order. All values
    /// of `chance` should be equally likely.
    #[must_use]
    pub fn step(&mut self, now: Duration, chance: u32, input: Input<'_>) -> Vec<Output> {
        self.now = self.now.max(now);
        match input {
            Input::Received(packet) => self.received(packet, chance),
            Input::Tick => self.tick(chance),
            Input::Configure(timing) => self.configure(timing),
            Input::Disable => self.disable(chance),
            Input::Enable => self.enable(chance),
        }
        std::mem::take(&mut self.outputs)
    }

    /// The state that it is in.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Why it last went down.
    #[must_use]
    pub fn diagnostic(&self) -> Diagnostic {
        self.diagnostic
    }

    /// Its own discriminator.
    #[must_use]
    pub fn discriminator(&self) -> NonZeroU32 {
        self.discriminator
    }

    /// How long a peer that falls silent now is not missed. None where none is heard.
    #[must_use]
    pub fn detection_time(&self) -> Option<Duration> {
        self.remote.as_ref().map(|remote| self.detection_of(remote))
    }

    /// When [`Input::Tick`] is due. None: only something that comes changes anything.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        [self.remote.map(|remote| remote.gone), self.next_sending()].into_iter().flatten().min()
    }

    /// Whether the peer knows that this session is no longer wanted, or is not there to know it.
    fn is_let_go(&self) -> bool {
        self.state == State::AdminDown && self.remote.is_none_or(|remote| remote.state <= State::Down)
    }

    /// RFC 5880, section 6.8.4.
    fn detection_of(&self, remote: &Remote) -> Duration {
        self.tolerance.max(remote.desired_min_tx) * u32::from(remote.multiplier)
    }

    /// Desired Min TX Interval, as announced.
    fn desired_min_tx(&self) -> Duration {
        if self.state == State::Up { self.timing.transmit } else { self.timing.transmit.max(SLOW) }
    }

    /// When the next periodic packet goes, with its jitter (RFC 5880, section 6.8.7). None where the peer wants none.
    fn next_sending(&self) -> Option<Duration> {
        let min_rx = self.remote.map_or(UNKNOWN_MIN_RX, |remote| remote.min_rx);
        let is_asked_not_to = self.poll == Poll::Idle
            && self.state == State::Up
            && self.remote.is_some_and(|remote| remote.demand && remote.state == State::Up);
        if min_rx.is_zero() || is_asked_not_to {
            return None;
        }
        let Some(sent) = self.sent else { return Some(self.now) };
        // 75 to 100 percent of the interval; 90 is the most where one packet counts, which [`Timing`] does not allow.
        let quarter = self.pace.max(min_rx) / 4;
        sent.checked_add(quarter * 3 + quarter.mul_f64(f64::from(self.chance) / f64::from(u32::MAX)))
    }

    fn send(&mut self, chance: u32, is_final: bool) {
        self.sent = Some(self.now);
        self.chance = chance;
        self.outputs.push(Output::Send(Packet {
            diagnostic: self.diagnostic,
            state: self.state,
            // Never with F (RFC 5880, section 6.5).
            poll: self.poll != Poll::Idle && !is_final,
            is_final,
            independent: false,
            demand: false,
            multiplier: self.timing.multiplier,
            mine: self.discriminator,
            yours: self.remote.map(|remote| remote.discriminator),
            desired_min_tx: self.desired_min_tx(),
            required_min_rx: self.timing.receive,
            required_min_echo_rx: Duration::ZERO,
        }));
    }

    fn tick(&mut self, chance: u32) {
        if self.remote.is_some_and(|remote| remote.gone <= self.now) {
            self.remote = None;
            self.poll = Poll::Idle;
            if self.state > State::Down {
                self.diagnostic = Diagnostic::EXPIRED;
                self.go(State::Down, Why::Expired, chance);
            }
        }
        if self.next_sending().is_some_and(|due| due <= self.now) {
            self.send(chance, false);
        }
    }

    /// Takes another state, and says so at once (RFC 5880, section 6.8.7).
    fn go(&mut self, to: State, why: Why, chance: u32) {
        let from = std::mem::replace(&mut self.state, to);
        self.outputs.push(Output::Changed(Change { from, to, why, independent: self.independent }));
        self.retime();
        self.send(chance, false);
    }

    /// What is announced has changed: to what can be kept to at once, and a Poll Sequence says it (RFC 5880, section 6.8.3).
    fn retime(&mut self) {
        let (desired, required) = (self.desired_min_tx(), self.timing.receive);
        if self.state == State::Up {
            self.pace = self.pace.min(desired);
            self.tolerance = self.tolerance.max(required);
        } else {
            (self.pace, self.tolerance) = (desired, required);
        }
        self.poll = match (self.state, self.poll) {
            (State::AdminDown, _) => Poll::Idle,
            // Without a peer there is nobody to answer, and nobody who knows another value.
            _ if self.remote.is_none() => Poll::Idle,
            (_, Poll::Idle) => Poll::Running,
            (_, Poll::Running | Poll::Twice) => Poll::Twice,
        };
    }

    fn configure(&mut self, timing: Timing) {
        if timing != self.timing {
            self.timing = timing;
            self.retime();
        }
    }

    fn disable(&mut self, chance: u32) {
        if self.state != State::AdminDown {
            self.diagnostic = Diagnostic::ADMINISTRATIVE;
            self.go(State::AdminDown, Why::DisabledHere, chance);
        }
    }

    fn enable(&mut self, chance: u32) {
        if self.state == State::AdminDown {
            self.diagnostic = Diagnostic::NONE;
            self.go(State::Down, Why::Enabled, chance);
        }
    }

    /// RFC 5880, section 6.8.6, from where the session is found.
    fn received(&mut self, packet: &Packet, chance: u32) {
        if packet.yours.is_some_and(|yours| yours != self.discriminator) {
            return;
        }
        if packet.is_final {
            self.finish_poll();
        }
        let mut remote = Remote {
            discriminator: packet.mine,
            state: packet.state,
            demand: packet.demand,
            multiplier: packet.multiplier,
            desired_min_tx: packet.desired_min_tx,
            min_rx: packet.required_min_rx,
            gone: Duration::MAX,
        };
        remote.gone = self.now.saturating_add(self.detection_of(&remote));
        (self.remote, self.independent) = (Some(remote), packet.independent);
        if self.state == State::AdminDown {
            // It is heard, and makes no difference.
            return;
        }
        if let Some((to, why)) = self.transition(packet) {
            if to == State::Down {
                self.diagnostic = Diagnostic::NEIGHBOUR_DOWN;
            }
            self.go(to, why, chance);
        }
        if packet.poll {
            self.send(chance, true);
        }
    }

    fn finish_poll(&mut self) {
        match self.poll {
            Poll::Idle => {}
            Poll::Running => {
                self.poll = Poll::Idle;
                (self.pace, self.tolerance) = (self.desired_min_tx(), self.timing.receive);
            }
            // The answer may be to what was said before.
            Poll::Twice => self.poll = Poll::Running,
        }
    }

    /// The state machine (RFC 5880, section 6.2).
    fn transition(&self, packet: &Packet) -> Option<(State, Why)> {
        match (self.state, packet.state) {
            (State::Init | State::Up, State::AdminDown) => Some((State::Down, Why::DisabledThere)),
            (State::Down, State::Down) => Some((State::Init, Why::Heard)),
            (State::Down, State::Init) | (State::Init, State::Init | State::Up) => Some((State::Up, Why::Heard)),
            (State::Up, State::Down) => Some((State::Down, Why::Signalled(packet.diagnostic))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
