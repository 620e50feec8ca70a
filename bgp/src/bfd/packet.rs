//! Control packets as bytes, and back (RFC 5880, section 4.1), without authentication.
//!
//! What section 6.8.6 refuses of a packet by itself is refused here; what depends on the session is `bfd`'s.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// The length of a packet without authentication.
pub const LENGTH: usize = 24;

const VERSION: u8 = 1;
const POLL: u8 = 0x20;
const FINAL: u8 = 0x10;
const INDEPENDENT: u8 = 0x08;
const AUTHENTICATION: u8 = 0x04;
const DEMAND: u8 = 0x02;
const MULTIPOINT: u8 = 0x01;

/// The states (RFC 5880, section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Somebody wants no session.
    AdminDown,
    /// The other side is not heard, or does not hear.
    Down,
    /// The other side is heard.
    Init,
    /// Both hear each other.
    Up,
}

impl State {
    const ALL: [Self; 4] = [Self::AdminDown, Self::Down, Self::Init, Self::Up];

    fn from_bits(bits: u8) -> Self {
        Self::ALL[usize::from(bits & 3)]
    }

    fn bits(self) -> u8 {
        match self {
            Self::AdminDown => 0,
            Self::Down => 1,
            Self::Init => 2,
            Self::Up => 3,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Why the sender's session last went down (RFC 5880, section 4.1). Five bits; those that nobody here knows are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Diagnostic(pub u8);

impl Diagnostic {
    /// Nothing to say: it has just begun, for example.
    pub const NONE: Self = Self(0);
    /// The other side was not heard within the detection time.
    pub const EXPIRED: Self = Self(1);
    /// The other side said that it is down.
    pub const NEIGHBOUR_DOWN: Self = Self(3);
    /// Somebody wants no session.
    pub const ADMINISTRATIVE: Self = Self(7);
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            0 => "no diagnostic",
            1 => "control detection time expired",
            2 => "echo function failed",
            3 => "neighbor signaled session down",
            4 => "forwarding plane reset",
            5 => "path down",
            6 => "concatenated path down",
            7 => "administratively down",
            8 => "reverse concatenated path down",
            other => return write!(f, "diagnostic {other}"),
        };
        f.write_str(text)
    }
}

/// A control packet. Intervals have a resolution of a microsecond and less than 72 minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Of the last change of the sender's state.
    pub diagnostic: Diagnostic,
    /// The sender's.
    pub state: State,
    /// P: it wants an answer at once.
    pub poll: bool,
    /// F: this is that answer.
    pub is_final: bool,
    /// C: it does not share the fate of the sender's control plane.
    pub independent: bool,
    /// D: it wants no periodic packets while both are up.
    pub demand: bool,
    /// How many packets may be missed.
    pub multiplier: u8,
    /// The sender's discriminator.
    pub mine: NonZeroU32,
    /// The receiver's, where the sender knows it.
    pub yours: Option<NonZeroU32>,
    /// Desired Min TX Interval.
    pub desired_min_tx: Duration,
    /// Required Min RX Interval. Zero: no periodic packets are wanted.
    pub required_min_rx: Duration,
    /// Required Min Echo RX Interval. Zero: no echo packets are wanted.
    pub required_min_echo_rx: Duration,
}

/// Why a packet is not taken (RFC 5880, section 6.8.6). Nothing but that follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Less than a packet.
    #[error("{there} bytes are no BFD packet: it has {LENGTH} at least")]
    Short {
        /// So many came.
        there: usize,
    },
    /// Not version 1.
    #[error("BFD version {0} is not 1")]
    Version(u8),
    /// Its length field cannot be true.
    #[error("the length {claimed} must be from {LENGTH} to the {there} bytes that came")]
    Length {
        /// What it says.
        claimed: u8,
        /// So many came.
        there: usize,
    },
    /// A session that no lost packet could end would never end.
    #[error("the detect multiplier is 0")]
    Multiplier,
    /// Reserved.
    #[error("the multipoint bit is set")]
    Multipoint,
    /// Nobody can answer it.
    #[error("the sender's discriminator is 0")]
    Discriminator,
    /// It knows no session, and is in one.
    #[error("the receiver's discriminator is 0, and the state {0} is not Down")]
    Unaddressed(State),
    /// None is agreed on.
    #[error("it is authenticated, and no authentication is configured")]
    Authentication,
    /// It is for a session that is not here.
    #[error("no session has the discriminator {0}")]
    NoSession(NonZeroU32),
    /// It begins a session that nobody wants.
    #[error("no session is configured with its sender")]
    Stranger,
}

impl Packet {
    /// # Errors
    /// What is wrong with it, in the order of RFC 5880, section 6.8.6.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refused> {
        let there = bytes.len();
        let packet: &[u8; LENGTH] = bytes.first_chunk().ok_or(Refused::Short { there })?;
        let [head, flags, multiplier, claimed, ..] = *packet;
        if head >> 5 != VERSION {
            return Err(Refused::Version(head >> 5));
        }
        if !(LENGTH..=there).contains(&usize::from(claimed)) {
            return Err(Refused::Length { claimed, there });
        }
        if multiplier == 0 {
            return Err(Refused::Multiplier);
        }
        if flags & MULTIPOINT != 0 {
            return Err(Refused::Multipoint);
        }
        let word = |at: usize| u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]]);
        let interval = |at: usize| Duration::from_micros(word(at).into());
        let mine = NonZeroU32::new(word(4)).ok_or(Refused::Discriminator)?;
        let yours = NonZeroU32::new(word(8));
        let state = State::from_bits(flags >> 6);
        if yours.is_none() && state > State::Down {
            return Err(Refused::Unaddressed(state));
        }
        if flags & AUTHENTICATION != 0 {
            return Err(Refused::Authentication);
        }
        Ok(Self {
            diagnostic: Diagnostic(head & 0x1F),
            state,
            poll: flags & POLL != 0,
            is_final: flags & FINAL != 0,
            independent: flags & INDEPENDENT != 0,
            demand: flags & DEMAND != 0,
            multiplier,
            mine,
            yours,
            desired_min_tx: interval(12),
            required_min_rx: interval(16),
            required_min_echo_rx: interval(20),
        })
    }

    /// As it goes on the wire. An interval that does not fit is the longest one.
    #[must_use]
    pub fn encode(&self) -> [u8; LENGTH] {
        let bit = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        let flags = self.state.bits() << 6
            | bit(self.poll, POLL)
            | bit(self.is_final, FINAL)
            | bit(self.independent, INDEPENDENT)
            | bit(self.demand, DEMAND);
        let micros = |interval: Duration| u32::try_from(interval.as_micros()).unwrap_or(u32::MAX);
        let words = [
            self.mine.get(),
            self.yours.map_or(0, NonZeroU32::get),
            micros(self.desired_min_tx),
            micros(self.required_min_rx),
            micros(self.required_min_echo_rx),
        ];
        let mut out = [0; LENGTH];
        out[..4].copy_from_slice(&[VERSION << 5 | self.diagnostic.0 & 0x1F, flags, self.multiplier, LENGTH as u8]);
        for (at, word) in words.into_iter().enumerate() {
            out[4 + 4 * at..8 + 4 * at].copy_from_slice(&word.to_be_bytes());
        }
        out
    }
}
