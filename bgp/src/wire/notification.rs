//! NOTIFICATION: the last message of a connection (RFC 4271, section 4.5).
//!
//! Codes are kept as they came, also those that nobody here knows; the known ones have names.

use std::fmt;

use netgauze_parse_utils::reader::SliceReader;

/// Code and subcode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrorCode {
    /// The kind of error.
    pub code: u8,
    /// Which of them. 0: unspecific.
    pub subcode: u8,
}

macro_rules! codes {
    ($($name:ident = ($code:literal, $subcode:literal) $text:literal, $rfc:literal;)*) => {
        impl ErrorCode {
            $(#[doc = concat!($text, " (", $rfc, ").")]
            pub const $name: Self = Self { code: $code, subcode: $subcode };)*

            /// All that have a name.
            pub const KNOWN: &[(Self, &'static str)] = &[$((Self::$name, $text)),*];
        }
    };
}

codes! {
    NOT_SYNCHRONIZED = (1, 1) "connection not synchronized", "RFC 4271, section 6.1";
    BAD_MESSAGE_LENGTH = (1, 2) "bad message length", "RFC 4271, section 6.1";
    BAD_MESSAGE_TYPE = (1, 3) "bad message type", "RFC 4271, section 6.1";
    OPEN_UNSPECIFIC = (2, 0) "malformed OPEN", "RFC 4271, section 6.2";
    UNSUPPORTED_VERSION = (2, 1) "unsupported version number", "RFC 4271, section 6.2";
    BAD_PEER_AS = (2, 2) "bad peer AS", "RFC 4271, section 6.2";
    BAD_IDENTIFIER = (2, 3) "bad BGP identifier", "RFC 4271, section 6.2; RFC 6286";
    UNSUPPORTED_PARAMETER = (2, 4) "unsupported optional parameter", "RFC 4271, section 6.2";
    UNACCEPTABLE_HOLD_TIME = (2, 6) "unacceptable hold time", "RFC 4271, section 6.2";
    UNSUPPORTED_CAPABILITY = (2, 7) "unsupported capability", "RFC 5492, section 5";
    MALFORMED_ATTRIBUTES = (3, 1) "malformed attribute list", "RFC 4271, section 6.3";
    UNRECOGNIZED_WELL_KNOWN = (3, 2) "unrecognized well-known attribute", "RFC 4271, section 6.3";
    MISSING_WELL_KNOWN = (3, 3) "missing well-known attribute", "RFC 4271, section 6.3";
    ATTRIBUTE_FLAGS = (3, 4) "attribute flags error", "RFC 4271, section 6.3";
    ATTRIBUTE_LENGTH = (3, 5) "attribute length error", "RFC 4271, section 6.3";
    INVALID_ORIGIN = (3, 6) "invalid ORIGIN", "RFC 4271, section 6.3";
    INVALID_NEXT_HOP = (3, 8) "invalid NEXT_HOP", "RFC 4271, section 6.3";
    OPTIONAL_ATTRIBUTE = (3, 9) "optional attribute error", "RFC 4271, section 6.3";
    INVALID_NETWORK_FIELD = (3, 10) "invalid network field", "RFC 4271, section 6.3";
    MALFORMED_AS_PATH = (3, 11) "malformed AS_PATH", "RFC 4271, section 6.3";
    HOLD_TIMER_EXPIRED = (4, 0) "hold timer expired", "RFC 4271, section 6.5";
    FSM_UNSPECIFIC = (5, 0) "finite state machine error", "RFC 4271, section 6.6";
    FSM_OPEN_SENT = (5, 1) "unexpected message in OpenSent", "RFC 6608";
    FSM_OPEN_CONFIRM = (5, 2) "unexpected message in OpenConfirm", "RFC 6608";
    FSM_ESTABLISHED = (5, 3) "unexpected message in Established", "RFC 6608";
    MAXIMUM_PREFIXES = (6, 1) "maximum number of prefixes reached", "RFC 4486";
    ADMINISTRATIVE_SHUTDOWN = (6, 2) "administrative shutdown", "RFC 4486; RFC 9003";
    PEER_DECONFIGURED = (6, 3) "peer de-configured", "RFC 4486";
    ADMINISTRATIVE_RESET = (6, 4) "administrative reset", "RFC 4486; RFC 9003";
    CONNECTION_REJECTED = (6, 5) "connection rejected", "RFC 4486";
    OTHER_CONFIGURATION_CHANGE = (6, 6) "other configuration change", "RFC 4486";
    CONNECTION_COLLISION = (6, 7) "connection collision resolution", "RFC 4486";
    OUT_OF_RESOURCES = (6, 8) "out of resources", "RFC 4486";
    HARD_RESET = (6, 9) "hard reset", "RFC 8538";
    BFD_DOWN = (6, 10) "BFD down", "RFC 9384";
    SEND_HOLD_TIMER_EXPIRED = (8, 0) "send hold timer expired", "RFC 9687";
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::KNOWN.iter().find(|(known, _)| known == self) {
            Some((_, text)) => write!(f, "{text} ({}/{})", self.code, self.subcode),
            None => write!(f, "error {}/{}", self.code, self.subcode),
        }
    }
}

/// Why the sender ends the connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Notification {
    /// What it says.
    pub error: ErrorCode,
    /// What more it has for a diagnosis: what that is depends on the error.
    pub data: Vec<u8>,
}

/// Why a speaker ends a session that has no error (RFC 4486).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cease {
    /// The peer announced more than it may.
    MaximumPrefixes {
        /// Of which family.
        family: crate::path::Family,
        /// How many it may.
        limit: u32,
    },
    /// Somebody stops the session, and may say why: 255 bytes at most, longer text is cut (RFC 9003).
    AdministrativeShutdown(String),
    /// The peer is no longer configured.
    PeerDeconfigured,
    /// Somebody restarts the session, and may say why, as above.
    AdministrativeReset(String),
    /// The connection is not wanted.
    ConnectionRejected,
    /// The configuration changed in a way that needs a new session.
    OtherConfigurationChange,
    /// Memory or other means are exhausted.
    OutOfResources,
    /// BFD says that the peer is gone (RFC 9384).
    BfdDown,
}

impl From<Cease> for Notification {
    fn from(cease: Cease) -> Self {
        match cease {
            Cease::MaximumPrefixes { family, limit } => {
                let mut data = family.afi().to_be_bytes().to_vec();
                data.push(crate::path::Family::SAFI);
                data.extend_from_slice(&limit.to_be_bytes());
                Self::new(ErrorCode::MAXIMUM_PREFIXES, data)
            }
            Cease::AdministrativeShutdown(text) => Self::new(ErrorCode::ADMINISTRATIVE_SHUTDOWN, said(&text)),
            Cease::PeerDeconfigured => ErrorCode::PEER_DECONFIGURED.into(),
            Cease::AdministrativeReset(text) => Self::new(ErrorCode::ADMINISTRATIVE_RESET, said(&text)),
            Cease::ConnectionRejected => ErrorCode::CONNECTION_REJECTED.into(),
            Cease::OtherConfigurationChange => ErrorCode::OTHER_CONFIGURATION_CHANGE.into(),
            Cease::OutOfResources => ErrorCode::OUT_OF_RESOURCES.into(),
            Cease::BfdDown => ErrorCode::BFD_DOWN.into(),
        }
    }
}

/// A text as RFC 9003 writes it: cut between characters where it is too long. Nothing for none.
fn said(text: &str) -> Vec<u8> {
    let end = (0..=text.len().min(255)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    match u8::try_from(end) {
        Ok(length) if length > 0 => [&[length], &text.as_bytes()[..end]].concat(),
        _ => Vec::new(),
    }
}

impl From<ErrorCode> for Notification {
    fn from(error: ErrorCode) -> Self {
        Self::new(error, Vec::new())
    }
}

impl Notification {
    /// The longest data that leave room for the rest of the message.
    const MAX_DATA: usize = super::MAX_MESSAGE - super::frame::HEADER - 2;

    /// One with these data, cut to what a message holds.
    #[must_use]
    pub fn new(error: ErrorCode, mut data: Vec<u8>) -> Self {
        data.truncate(Self::MAX_DATA);
        Self { error, data }
    }

    /// What the sender says of a shutdown or reset (RFC 9003). None where it says nothing, or nothing that is UTF-8.
    #[must_use]
    pub fn shutdown_text(&self) -> Option<&str> {
        if ![ErrorCode::ADMINISTRATIVE_SHUTDOWN, ErrorCode::ADMINISTRATIVE_RESET].contains(&self.error) {
            return None;
        }
        let (length, text) = self.data.split_first()?;
        let text = std::str::from_utf8(text.get(..usize::from(*length))?).ok()?;
        (!text.is_empty()).then_some(text)
    }

    pub(super) fn read(body: &mut SliceReader<'_>) -> Result<Self, Self> {
        let (Ok(code), Ok(subcode)) = (body.read_u8(), body.read_u8()) else {
            return Err(ErrorCode::BAD_MESSAGE_LENGTH.into());
        };
        Ok(Self::new(ErrorCode { code, subcode }, body.as_slice().to_vec()))
    }

    pub(super) fn body(&self) -> Vec<u8> {
        let data = &self.data[..self.data.len().min(Self::MAX_DATA)];
        [&[self.error.code, self.error.subcode], data].concat()
    }
}

/// With what the data say, where a standard says what they are: the text of a shutdown, control characters escaped (RFC 9003), the
/// limit of prefixes (RFC 4486, section 4), what a hard reset stands for (RFC 8538, section 3), the version that the sender speaks (RFC 4271,
/// section 6.2). Other data as hexadecimal digits, at most 32 bytes of them.
impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)?;
        if let Some(text) = self.shutdown_text() {
            return write!(f, ": {}", text.escape_debug());
        }
        match (self.error, self.data.as_slice()) {
            (ErrorCode::MAXIMUM_PREFIXES, [afi @ .., crate::path::Family::SAFI, a, b, c, d])
                if family(afi).is_some() =>
            {
                let limit = u32::from_be_bytes([*a, *b, *c, *d]);
                return write!(f, ": at most {limit} of {}", family(afi).map_or("", |name| name));
            }
            (ErrorCode::UNSUPPORTED_VERSION, [high, low]) => {
                return write!(f, ": version {} is spoken", u16::from_be_bytes([*high, *low]));
            }
            // It does not stand for another one.
            (ErrorCode::HARD_RESET, [code, subcode, data @ ..]) => {
                let error = ErrorCode { code: *code, subcode: *subcode };
                if error != ErrorCode::HARD_RESET {
                    return write!(f, " for {}", Self { error, data: data.to_vec() });
                }
            }
            _ => {}
        }
        if !self.data.is_empty() {
            write!(f, ", data ")?;
            self.data.iter().take(32).try_for_each(|byte| write!(f, "{byte:02x}"))?;
        }
        Ok(())
    }
}

/// The name of an address family, by its number.
fn family(afi: &[u8]) -> Option<&'static str> {
    let number = u16::from_be_bytes(afi.try_into().ok()?);
    let family = crate::path::Family::ALL.into_iter().find(|family| family.afi() == number)?;
    Some(match family {
        crate::path::Family::Ipv4 => "IPv4",
        crate::path::Family::Ipv6 => "IPv6",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_that_a_standard_explains_are_told_in_words() {
        let told =
            |code, subcode, data: &[u8]| Notification::new(ErrorCode { code, subcode }, data.to_vec()).to_string();
        let limit = Notification::from(Cease::MaximumPrefixes { family: crate::path::Family::Ipv6, limit: 70_000 });
        assert_eq!(limit.to_string(), "maximum number of prefixes reached (6/1): at most 70000 of IPv6");
        assert_eq!(told(6, 1, &[0, 9, 1, 0, 0, 0, 4]), "maximum number of prefixes reached (6/1), data 00090100000004");
        assert_eq!(told(6, 1, &[0, 1, 1, 0]), "maximum number of prefixes reached (6/1), data 00010100");
        assert_eq!(told(2, 1, &[0, 4]), "unsupported version number (2/1): version 4 is spoken");
        let reset = [&[6, 2, 5][..], b"by\x1b!x"].concat();
        assert_eq!(told(6, 9, &reset), "hard reset (6/9) for administrative shutdown (6/2): by\\u{1b}!x");
        assert_eq!(told(6, 9, &[4, 0]), "hard reset (6/9) for hold timer expired (4/0)");
        assert_eq!(told(6, 9, &[6, 9, 6, 9]), "hard reset (6/9), data 06090609");
        assert_eq!(told(6, 9, &[6]), "hard reset (6/9), data 06");
    }

    #[test]
    fn the_text_of_a_shutdown_is_cut_between_characters() {
        let long = "ä".repeat(200);
        let notification = Notification::from(Cease::AdministrativeShutdown(long));
        assert_eq!((notification.data[0], notification.data.len()), (254, 255));
        assert_eq!(notification.shutdown_text(), Some("ä".repeat(127).as_str()));
        let short = Notification::from(Cease::AdministrativeReset("new\nkernel".into()));
        assert_eq!(short.to_string(), "administrative reset (6/4): new\\nkernel");
        assert_eq!(Notification::from(Cease::AdministrativeShutdown(String::new())).data, Vec::<u8>::new());
    }

    #[test]
    fn a_text_that_is_none_is_shown_as_bytes() {
        for data in [vec![5, b'a'], vec![2, 0xFF, 0xFE], vec![0]] {
            let notification = Notification::new(ErrorCode::ADMINISTRATIVE_SHUTDOWN, data);
            assert_eq!(notification.shutdown_text(), None);
            assert!(notification.to_string().contains("data 0"), "{notification}");
        }
    }

    #[test]
    fn codes_that_nobody_knows_are_kept() {
        let unknown = Notification::read(&mut SliceReader::new(&[77, 3, 1, 2])).unwrap();
        assert_eq!((unknown.to_string().as_str(), unknown.body()), ("error 77/3, data 0102", vec![77, 3, 1, 2]));
    }
}
