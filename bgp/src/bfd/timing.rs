//! What is configured of a session: its intervals (RFC 5880, section 6.8.1), checked when they are made.

use std::time::Duration;

/// How often packets go, and how many may be missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    pub(super) transmit: Duration,
    pub(super) receive: Duration,
    pub(super) multiplier: u8,
}

/// A timing that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Too often for software, or too seldom for what this is for.
    #[error("{field} of {value:?} must be from {:?} to {:?}", Timing::LEAST, Timing::MOST)]
    Interval {
        /// `transmit` or `receive`.
        field: &'static str,
        /// As given.
        value: Duration,
    },
    /// The first lost packet, or none, would end it.
    #[error("a detect multiplier of {value} must be from 2 to 255: with less, one lost packet ends a session")]
    Multiplier {
        /// As given.
        value: u8,
    },
}

impl Default for Timing {
    /// 300 ms and three packets, so that a peer is gone after 900 ms.
    fn default() -> Self {
        let interval = Duration::from_millis(300);
        Self { transmit: interval, receive: interval, multiplier: 3 }
    }
}

impl Timing {
    /// The shortest interval.
    pub const LEAST: Duration = Duration::from_millis(10);
    /// The longest interval.
    pub const MOST: Duration = Duration::from_mins(1);

    /// To send once in `transmit`, to be sent to once in `receive` at most, and to be gone for the peer after `multiplier` packets.
    ///
    /// # Errors
    /// [`Invalid`]: which of them, and what it may be.
    pub fn new(transmit: Duration, receive: Duration, multiplier: u8) -> Result<Self, Invalid> {
        for (field, value) in [("transmit", transmit), ("receive", receive)] {
            if !(Self::LEAST..=Self::MOST).contains(&value) {
                return Err(Invalid::Interval { field, value });
            }
        }
        if multiplier < 2 {
            return Err(Invalid::Multiplier { value: multiplier });
        }
        Ok(Self { transmit, receive, multiplier })
    }
}
