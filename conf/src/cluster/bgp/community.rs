//! Communities: what is said with a route.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// What a community looks like, for errors.
pub(super) const COMMUNITY: &str = "a community: two numbers up to 65535 as in \"64512:100\", three up to 4294967295 as in \"64512:1:2\", or a well-known name: ";

/// A community of four bytes (RFC 1997), or a large one (RFC 8092).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Community {
    /// Of four bytes: the first two before the colon.
    Standard(u32),
    /// Of three words of four bytes: who gives it a meaning, and two of its own.
    Large(u32, u32, u32),
}

/// Text that is no community.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {COMMUNITY}{}", names())]
pub struct InvalidCommunity {
    /// The text.
    pub text: String,
}

/// Those that mean the same everywhere (IANA, "BGP Well-known Communities").
const WELL_KNOWN: [(&str, u32); 5] = [
    ("graceful-shutdown", 0xFFFF_0000),
    ("blackhole", 0xFFFF_029A),
    ("no-export", 0xFFFF_FF01),
    ("no-advertise", 0xFFFF_FF02),
    ("no-export-subconfed", 0xFFFF_FF03),
];

pub(super) fn names() -> String {
    WELL_KNOWN.map(|(name, _)| name).join(", ")
}

impl FromStr for Community {
    type Err = InvalidCommunity;
    fn from_str(text: &str) -> Result<Self, InvalidCommunity> {
        if let Some((_, number)) = WELL_KNOWN.iter().find(|(name, _)| *name == text) {
            return Ok(Self::Standard(*number));
        }
        let number = |part: &str| part.parse::<u32>().ok().filter(|_| part.bytes().all(|b| b.is_ascii_digit()));
        let numbers: Option<Vec<u32>> = text.split(':').map(number).collect();
        match numbers.as_deref() {
            Some([high @ 0..=0xFFFF, low @ 0..=0xFFFF]) => Ok(Self::Standard(high << 16 | low)),
            Some([global, one, two]) => Ok(Self::Large(*global, *one, *two)),
            _ => Err(InvalidCommunity { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Large(global, one, two) => write!(f, "{global}:{one}:{two}"),
            Self::Standard(number) => match WELL_KNOWN.iter().find(|(_, known)| known == number) {
                Some((name, _)) => f.write_str(name),
                None => write!(f, "{}:{}", number >> 16, number & 0xFFFF),
            },
        }
    }
}

impl Serialize for Community {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
