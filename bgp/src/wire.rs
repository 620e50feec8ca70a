//! The messages of BGP as bytes, and back (RFC 4271, section 4).
//!
//! [`Framer`] cuts a stream into frames, [`decode`] makes a [`Message`] of one, [`encode`] bytes of a message. What is wrong with
//! what came is either a [`Notification`] to send before the connection ends, or, in an UPDATE, what RFC 7606 asks: routes
//! treated as withdrawn, an attribute discarded, each recorded as [`Malformed`]. Nothing here panics, and nothing takes more
//! memory than a message of 4096 bytes has room for.
//!
//! `session` calls the decoder, the daemon's transport the encoder.
//!
//! # What `netgauze-bgp-pkt` does here, and what not
//!
//! It reads and writes the values of path attributes ([`update`]) but for paths, one at a time, of a length that has been checked
//! before. The rest is done here, since version 0.13 cannot be guarded from outside:
//!
//! - after a malformed attribute it continues at a wrong place: behind a NEXT_HOP of a wrong length it skips four bytes, behind
//!   an attribute with wrong flags it takes the next one's header for a length;
//! - one multicast prefix makes the whole NLRI, or the whole MP_REACH_NLRI, an error, where RFC 4271, section 6.3, ignores the
//!   prefix; an AFI that it does not know does the same to the whole capability, with the families beside it;
//! - it knows no segments of confederations (RFC 5065), and makes an error of them;
//! - a set Partial bit is an error, and bytes behind an ORIGINATOR_ID are none, the other way round than RFC 7606 has it;
//! - a subcode that it does not know makes a NOTIFICATION unreadable;
//! - a length is cut to what its field holds: over 255 bytes without the Extended Length bit, over 65,535 for a message.

pub mod capability;
pub mod frame;
pub mod nlri;
pub mod notification;
pub mod open;
pub mod update;

pub use capability::{AddPath, Capabilities, GracefulRestart};
pub use frame::{Frame, Framer, MAX_MESSAGE};
pub use nlri::Nlri;
pub use notification::{Cease, ErrorCode, Notification};
pub use open::Open;
pub use update::{Action, Announced, Malformed, Reach, Update};

use netgauze_parse_utils::reader::SliceReader;

use crate::path::{Asn, Family, PerFamily};
use frame::Kind;

/// A message (RFC 4271, section 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The first one of a connection.
    Open(Open),
    /// Routes, or the end of the first ones.
    Update(Update),
    /// The last one of a connection.
    Notification(Notification),
    /// Nothing but that the peer lives.
    Keepalive,
    /// Asks for all routes of a family again (RFC 2918). None: of a family that is not spoken, to be ignored.
    Refresh(Option<Family>),
}

/// How the two ends of a connection write UPDATEs to each other, from what both offered in their OPEN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialect {
    /// The families that both have. Routes of others are ignored (RFC 4760, section 7).
    pub families: PerFamily<bool>,
    /// AS numbers have four bytes (RFC 6793).
    pub four_octet: bool,
    /// What carries path identifiers, as seen from here (RFC 7911).
    pub add_path: PerFamily<AddPath>,
    /// IPv4 routes may have an IPv6 next hop (RFC 8950).
    pub extended_next_hop: bool,
    /// The peer is in the same AS. LOCAL_PREF, ORIGINATOR_ID and CLUSTER_LIST of others are discarded (RFC 7606, section 7).
    pub internal: bool,
    /// The system that an AS_PATH must begin with (RFC 4271, section 6.3). None for internal peers and route servers.
    pub first_as: Option<Asn>,
}

impl Default for Dialect {
    /// As two external speakers that offer nothing: IPv4 in the classic form, AS numbers of two bytes.
    fn default() -> Self {
        Self {
            families: PerFamily::new(|family| family == Family::Ipv4),
            four_octet: false,
            add_path: PerFamily::default(),
            extended_next_hop: false,
            internal: false,
            first_as: None,
        }
    }
}

/// Why a message cannot be written. The session is not harmed: the route stays unannounced (RFC 4271, section 9.2).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// There is no room for a prefix beside its attributes.
    #[error("the path attributes take {length} bytes, which leaves no room for a route in a message of {MAX_MESSAGE}")]
    TooLong {
        /// Theirs, headers included.
        length: usize,
    },
    /// The next hop is of the other family, and the peer does not read that.
    #[error("the next hop {next_hop} of {family} routes is of a family that the peer does not take (RFC 8950)")]
    NextHop {
        /// The one to write.
        next_hop: std::net::IpAddr,
        /// Of the routes.
        family: Family,
    },
    /// The family has not been negotiated.
    #[error("the peer does not take {family} routes")]
    Family {
        /// Of the routes.
        family: Family,
    },
    /// The prefixes of one next hop are of several families.
    #[error("{prefix} stands among {family} routes")]
    Mixed {
        /// The one that does not belong there.
        prefix: ipnetwork::IpNetwork,
        /// Of the first.
        family: Family,
    },
}

/// Makes a message of a frame.
///
/// # Errors
/// A [`Notification`] that ends the session. What an UPDATE can be forgiven is in [`Update::malformed`].
pub fn decode(frame: &Frame<'_>, dialect: &Dialect) -> Result<Message, Notification> {
    let mut body = SliceReader::new(frame.body);
    match frame.kind {
        Kind::Open => Open::read(&mut body).map(Message::Open),
        Kind::Update => update::decode(frame.body, dialect).map(Message::Update),
        Kind::Notification => Notification::read(&mut body).map(Message::Notification),
        Kind::Keepalive => Ok(Message::Keepalive),
        Kind::Refresh => Ok(Message::Refresh(refreshed(frame.body))),
    }
}

/// The family that a ROUTE-REFRESH asks for. Its third byte is the subtype of RFC 7313, which is not offered here.
fn refreshed(body: &[u8]) -> Option<Family> {
    match *body {
        [high, low, 0, safi] => Family::from_wire(u16::from_be_bytes([high, low]), safi),
        _ => None,
    }
}

/// Appends a message to `out`; an UPDATE becomes as many as its routes need.
///
/// # Errors
/// When an UPDATE cannot be written to this peer: nothing is appended then. Other messages can always be.
pub fn encode(message: &Message, dialect: &Dialect, out: &mut Vec<u8>) -> Result<(), WriteError> {
    match message {
        Message::Open(open) => frame::write(Kind::Open, &open.body(), out),
        Message::Update(update) => update::encode(update, dialect, out)?,
        Message::Notification(notification) => frame::write(Kind::Notification, &notification.body(), out),
        Message::Keepalive => frame::write(Kind::Keepalive, &[], out),
        Message::Refresh(Some(family)) => {
            let [high, low] = family.afi().to_be_bytes();
            frame::write(Kind::Refresh, &[high, low, 0, Family::SAFI], out);
        }
        Message::Refresh(None) => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests;
