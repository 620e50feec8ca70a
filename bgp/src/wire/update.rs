//! UPDATE: routes, and what becomes of those that are not written as they should be (RFC 4271, section 4.3; RFC 7606).
//!
//! [`decode`](super::decode) never loses track of which routes a message names: either all of its prefixes could be read, and each is in the
//! [`Update`], or the session ends. Of what is malformed, RFC 7606 leaves three ways; which one was taken, and why, is in
//! [`Update::malformed`] for the log.

mod as_path;
mod attribute;
mod decode;
mod encode;
mod four_octet;

use std::fmt;

pub(super) use decode::decode;
pub(super) use encode::encode;

use super::{ErrorCode, Nlri};
use crate::path::{Attributes, Family, NextHop};

/// Routes that go and routes that come. Those that go are first: a prefix in both is announced (RFC 4271, section 4.3).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Update {
    /// What is withdrawn, and what must be treated so.
    pub withdrawn: Vec<Nlri>,
    /// What is announced.
    pub announced: Option<Announced>,
    /// All routes of this family have been sent (RFC 4724, section 2).
    pub end_of_rib: Option<Family>,
    /// What was wrong, and what has been done about it. Never written.
    pub malformed: Vec<Malformed>,
    /// Prefixes that no router may have a route to, or of a family that is not spoken: left out. Never written.
    pub ignored: Vec<Nlri>,
}

/// Routes with the attributes that they share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    /// All but the next hop.
    pub attributes: Attributes,
    /// By next hop: the classic form and MP_REACH_NLRI may each have one.
    pub reach: Vec<Reach>,
}

/// Routes through one next hop. They are of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// Where packets go.
    pub next_hop: NextHop,
    /// To what.
    pub routes: Vec<Nlri>,
}

/// What has been done about something malformed (RFC 7606, section 2), the strongest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// The message is taken as if the attribute were not there.
    AttributeDiscard,
    /// What the message announces is withdrawn.
    TreatAsWithdraw,
    /// The session ends with a NOTIFICATION.
    SessionReset,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Malformed {
    /// The type code of the attribute. 0: the message as a whole.
    pub attribute: u8,
    /// What is done about it.
    pub action: Action,
    /// What is wrong.
    pub why: Why,
}

/// What can be wrong with an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// It is optional or transitive where it must not be, or the other way round.
    Flags,
    /// Its length is none that it may have.
    Length,
    /// Its value cannot be read, or means nothing.
    Value,
    /// It must be there, and is not.
    Missing,
    /// It is there more than once.
    Repeated,
    /// It ends behind the field that it stands in.
    Overrun,
    /// It claims to be well-known, and is not.
    Unrecognized,
    /// A prefix in it cannot be read.
    Network,
    /// This peer may not send it: LOCAL_PREF from another AS, AS4_PATH from one that writes four bytes.
    Unwanted,
}

impl Malformed {
    /// The subcode of a NOTIFICATION about it (RFC 4271, section 6.3).
    #[must_use]
    pub fn error(&self) -> ErrorCode {
        match (self.why, self.attribute) {
            (Why::Flags, _) => ErrorCode::ATTRIBUTE_FLAGS,
            (Why::Length, _) => ErrorCode::ATTRIBUTE_LENGTH,
            (Why::Missing, _) => ErrorCode::MISSING_WELL_KNOWN,
            (Why::Repeated | Why::Overrun, _) => ErrorCode::MALFORMED_ATTRIBUTES,
            (Why::Unrecognized, _) => ErrorCode::UNRECOGNIZED_WELL_KNOWN,
            (Why::Network, 0) => ErrorCode::INVALID_NETWORK_FIELD,
            (_, attribute::ORIGIN) => ErrorCode::INVALID_ORIGIN,
            (_, attribute::AS_PATH) => ErrorCode::MALFORMED_AS_PATH,
            (_, attribute::NEXT_HOP) => ErrorCode::INVALID_NEXT_HOP,
            (Why::Network | Why::Value | Why::Unwanted, _) => ErrorCode::OPTIONAL_ATTRIBUTE,
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = match self.action {
            Action::AttributeDiscard => "it is discarded",
            Action::TreatAsWithdraw => "the routes are withdrawn",
            Action::SessionReset => "the session ends",
        };
        match self.attribute {
            0 => write!(f, "{}: {done}", self.error()),
            code => write!(f, "attribute {code}: {}: {done}", self.error()),
        }
    }
}

#[cfg(test)]
mod tests;
