//! Numbers of autonomous systems.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// An AS number of four bytes (RFC 6793) that a system may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Asn(u32);

/// What an AS number looks like, for errors.
pub(super) const ASN: &str = "an AS number, an integer from 1 to 4294967294";

/// A number that no system has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not valid: {rule}")]
pub struct InvalidAsn {
    /// As it was written.
    pub text: String,
    /// What would be right.
    pub rule: String,
}

/// The AS of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerAs {
    /// This one.
    Number(Asn),
    /// The node's own.
    Internal,
    /// Any but the node's own.
    External,
}

impl Asn {
    /// The first of those for private use (RFC 6996).
    pub const DEFAULT: Self = Self(64_512);

    /// From its number. Refuses what is reserved: 0 (RFC 7607), 23456, which stands in for others (RFC 6793), 65535 and
    /// 4294967295 (RFC 7300).
    pub fn new(number: u32) -> Result<Self, InvalidAsn> {
        let rule = match number {
            0 | u32::MAX => ASN.to_owned(),
            23_456 => format!("{ASN}; 23456 stands in for numbers of four bytes (RFC 6793)"),
            65_535 => format!("{ASN}; 65535 is reserved (RFC 7300)"),
            _ => return Ok(Self(number)),
        };
        Err(InvalidAsn { text: number.to_string(), rule })
    }

    /// The number.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl FromStr for Asn {
    type Err = InvalidAsn;
    /// Reads digits. What is written in two halves (asdot, RFC 5396) is refused with the number that it means.
    fn from_str(text: &str) -> Result<Self, InvalidAsn> {
        if let Ok(number) = text.parse::<u32>() {
            return Self::new(number);
        }
        let halves =
            text.split_once('.').and_then(|(high, low)| Some((high.parse::<u16>().ok()?, low.parse::<u16>().ok()?)));
        let rule = match halves {
            Some((high, low)) => format!("{ASN}; {text} is {}", u32::from(high) << 16 | u32::from(low)),
            None => ASN.to_owned(),
        };
        Err(InvalidAsn { text: text.to_owned(), rule })
    }
}

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl PeerAs {
    /// The words of the configuration.
    pub(crate) const WORDS: [(&str, Self); 2] = [("internal", Self::Internal), ("external", Self::External)];

    /// Whether such a peer is of another AS than `own`, the AS of the node.
    pub fn is_external(self, own: Asn) -> bool {
        match self {
            Self::Number(number) => number != own,
            Self::Internal => false,
            Self::External => true,
        }
    }
}

impl Serialize for PeerAs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => number.serialize(serializer),
            Self::Internal => serializer.serialize_str("internal"),
            Self::External => serializer.serialize_str("external"),
        }
    }
}
