//! Netlink messages as bytes (include/uapi/linux/netlink.h): pure, without a socket. Used by the transport alone.

use netlink_packet_core::{NLM_F_ACK_TLVS, NLM_F_CAPPED, NetlinkSerializable};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;

use crate::Error;

pub(crate) const NLMSG_ERROR: u16 = 2;
pub(crate) const NLMSG_DONE: u16 = 3;
/// Bytes of a `struct nlmsghdr`.
const HEADER: usize = 16;
/// The attribute of an extended acknowledgement that holds its text.
const NLMSGERR_ATTR_MSG: u16 = 1;

/// Appends a message to a buffer of messages, padded to 4 bytes: the kernel looks for the next one there.
pub(super) fn append(buffer: &mut Vec<u8>, message: &RouteNetlinkMessage, flags: u16, sequence: u32) {
    let kind = NetlinkSerializable::message_type(message);
    message.serialize(place(buffer, kind, flags, sequence, message.buffer_len()));
}

/// As [`append`], for a message that is bytes already.
pub(crate) fn append_bytes(buffer: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, payload: &[u8]) {
    place(buffer, kind, flags, sequence, payload.len()).copy_from_slice(payload);
}

/// Appends a header, and gives the place for what follows it.
fn place(buffer: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, payload: usize) -> &mut [u8] {
    let start = buffer.len();
    let length = HEADER + payload;
    buffer.resize(start + length.next_multiple_of(4), 0);
    let bytes = &mut buffer[start..start + length];
    bytes[..4].copy_from_slice(&u32::try_from(length).expect("a message is far below 4 GiB").to_ne_bytes());
    bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
    bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
    // The port, bytes 12 to 16, stays zero: the kernel fills it in from the socket.
    &mut bytes[HEADER..]
}

/// One received message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    /// nlmsg_type.
    pub(crate) kind: u16,
    /// nlmsg_flags.
    pub(crate) flags: u16,
    /// nlmsg_seq: that of the request.
    pub(crate) sequence: u32,
    /// nlmsg_pid: in an answer, the port of the socket that asked.
    pub(crate) port: u32,
    /// What follows the header.
    pub(crate) payload: &'a [u8],
}

/// The messages of one read.
#[derive(Debug)]
pub(crate) struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Frames<'a> {
    pub(crate) fn over(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let length = read_u32(self.rest, 0).map(|length| length as usize);
        let Some(bytes) = length.filter(|length| *length >= HEADER).and_then(|length| self.rest.get(..length)) else {
            self.rest = &[];
            return Some(Err(malformed()));
        };
        self.rest = self.rest.get(bytes.len().next_multiple_of(4)..).unwrap_or_default();
        Some(Frame::parse(bytes).ok_or_else(malformed))
    }
}

impl<'a> Frame<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        Some(Self {
            kind: read_u16(bytes, 4)?,
            flags: read_u16(bytes, 6)?,
            sequence: read_u32(bytes, 8)?,
            port: read_u32(bytes, 12)?,
            payload: bytes.get(HEADER..)?,
        })
    }

    /// What an NLMSG_ERROR or NLMSG_DONE says: errno and, of an extended acknowledgement, the text.
    pub(crate) fn verdict(&self) -> Result<Verdict, Error> {
        // Linux before 4.x ended some dumps with an empty NLMSG_DONE.
        if self.kind == NLMSG_DONE && self.payload.is_empty() {
            return Ok(Verdict { errno: None, message: None });
        }
        let code = read_u32(self.payload, 0).ok_or_else(malformed)?.cast_signed();
        let errno = (code != 0).then(|| Errno::from_raw(code.saturating_neg()));
        Ok(Verdict { errno, message: self.extended_text() })
    }

    fn extended_text(&self) -> Option<String> {
        if self.flags & NLM_F_ACK_TLVS == 0 {
            return None;
        }
        // An error repeats the request behind the code, or only its header when the socket asked for that
        // (NETLINK_CAP_ACK); the attributes follow.
        let repeated = match self.kind {
            NLMSG_DONE => 0,
            _ if self.flags & NLM_F_CAPPED != 0 => HEADER,
            _ => read_u32(self.payload, 4)? as usize,
        };
        let mut rest = self.payload.get((4 + repeated).next_multiple_of(4)..)?;
        while let (Some(length), Some(kind)) = (read_u16(rest, 0), read_u16(rest, 2)) {
            let value = rest.get(4..usize::from(length))?;
            if kind & libc::NLA_TYPE_MASK as u16 == NLMSGERR_ATTR_MSG {
                let text = String::from_utf8_lossy(value);
                return Some(text.trim_end_matches('\0').to_owned());
            }
            rest = rest.get(usize::from(length).next_multiple_of(4)..)?;
        }
        None
    }
}

/// What the kernel said to a request or at the end of a dump.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// `None`: done.
    pub(crate) errno: Option<Errno>,
    /// The text of the extended acknowledgement; it may come with success, as a warning.
    pub(crate) message: Option<String>,
}

impl Verdict {
    /// The error that it is.
    pub(crate) fn into_error(self, attempt: String) -> Error {
        Error::Refused { attempt, errno: self.errno.unwrap_or(Errno::UnknownErrno), message: self.message }
    }
}

/// What a request asks to see, for errors.
pub(super) fn dump_name(request: &RouteNetlinkMessage) -> &'static str {
    match request {
        RouteNetlinkMessage::GetLink(_) => "read links",
        RouteNetlinkMessage::GetAddress(_) => "read addresses",
        RouteNetlinkMessage::GetRoute(_) => "read routes",
        RouteNetlinkMessage::GetNeighbour(_) => "read neighbours",
        RouteNetlinkMessage::GetRule(_) => "read rules",
        _ => "read a table",
    }
}

/// The error of a message that is not of its kind's form.
pub(crate) fn malformed() -> Error {
    let cause = std::io::Error::new(std::io::ErrorKind::InvalidData, "it is not of the form that its kind has");
    Error::Transport { what: "understand a message of the kernel", cause }
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_route::link::{LinkAttribute, LinkMessage};

    fn frame(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        let length = HEADER + payload.len();
        let mut bytes = u32::try_from(length).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(7u32.to_ne_bytes());
        bytes.extend(99u32.to_ne_bytes());
        bytes.extend(payload);
        bytes.resize(length.next_multiple_of(4), 0);
        bytes
    }

    fn only(bytes: &[u8]) -> Frame<'_> {
        let mut frames = Frames::over(bytes);
        let frame = frames.next().unwrap().unwrap();
        assert!(frames.next().is_none());
        frame
    }

    /// An errno, then a request's header, then attributes.
    fn refusal(errno: i32, repeated: usize, attributes: &[u8]) -> Vec<u8> {
        let mut payload = (-errno).to_ne_bytes().to_vec();
        let mut request = u32::try_from(repeated).unwrap().to_ne_bytes().to_vec();
        request.resize(repeated.next_multiple_of(4), 0);
        payload.extend(request);
        payload.extend(attributes);
        payload
    }

    /// NLMSGERR_ATTR_OFFS = 4, then NLMSGERR_ATTR_MSG = "no way".
    const ATTRIBUTES: [u8; 20] = [8, 0, 2, 0, 4, 0, 0, 0, 11, 0, 1, 0, b'n', b'o', b' ', b'w', b'a', b'y', 0, 0];

    #[test]
    fn a_message_is_padded_to_four_bytes_and_its_length_is_not() {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName("abcde".to_owned()));
        let mut bytes = Vec::new();
        append(&mut bytes, &RouteNetlinkMessage::GetLink(message.clone()), 5, 7);
        append(&mut bytes, &RouteNetlinkMessage::DelLink(message), 1, 8);
        #[rustfmt::skip]
        let expected = [
            44, 0, 0, 0, 18, 0, 5, 0, 7, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            10, 0, 3, 0, b'a', b'b', b'c', b'd', b'e', 0, 0, 0,
            44, 0, 0, 0, 17, 0, 1, 0, 8, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            10, 0, 3, 0, b'a', b'b', b'c', b'd', b'e', 0, 0, 0,
        ];
        assert_eq!(bytes, expected);
        assert_eq!(Frames::over(&bytes).map(|frame| frame.unwrap().sequence).collect::<Vec<_>>(), [7, 8]);
    }

    #[test]
    fn an_acknowledgement_is_no_error() {
        let bytes = frame(NLMSG_ERROR, NLM_F_CAPPED, &refusal(0, 16, &[]));
        assert_eq!(only(&bytes).verdict().unwrap(), Verdict { errno: None, message: None });
        assert_eq!((only(&bytes).sequence, only(&bytes).port), (7, 99));
    }

    #[test]
    fn a_refusal_has_the_text_of_its_extended_acknowledgement() {
        let expected = Verdict { errno: Some(Errno::EPERM), message: Some("no way".to_owned()) };
        let capped = frame(NLMSG_ERROR, NLM_F_CAPPED | NLM_F_ACK_TLVS, &refusal(1, 16, &ATTRIBUTES));
        assert_eq!(only(&capped).verdict().unwrap(), expected);
        let whole = frame(NLMSG_ERROR, NLM_F_ACK_TLVS, &refusal(1, 38, &ATTRIBUTES));
        assert_eq!(only(&whole).verdict().unwrap(), expected, "the whole request is repeated");
        let silent = frame(NLMSG_ERROR, NLM_F_CAPPED, &refusal(1, 16, &ATTRIBUTES));
        assert_eq!(only(&silent).verdict().unwrap().message, None, "the flag is not set");
    }

    #[test]
    fn the_end_of_a_dump_may_be_an_error() {
        let mut payload = (-libc::EPERM).to_ne_bytes().to_vec();
        payload.extend(ATTRIBUTES);
        let bytes = frame(NLMSG_DONE, NLM_F_ACK_TLVS, &payload);
        let expected = Verdict { errno: Some(Errno::EPERM), message: Some("no way".to_owned()) };
        assert_eq!(only(&bytes).verdict().unwrap(), expected);
        assert_eq!(only(&frame(NLMSG_DONE, 0, &[0; 4])).verdict().unwrap().errno, None);
        assert_eq!(only(&frame(NLMSG_DONE, 0, &[])).verdict().unwrap().errno, None);
    }

    #[test]
    fn a_message_that_is_longer_or_shorter_than_it_can_be_is_an_error_and_the_last() {
        for length in [0u32, 15, 17, u32::MAX] {
            let mut bytes = frame(NLMSG_ERROR, 0, &[]);
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            let mut frames = Frames::over(&bytes);
            assert!(frames.next().unwrap().is_err(), "{length}");
            assert!(frames.next().is_none());
        }
        assert!(only(&frame(NLMSG_ERROR, 0, &[1])).verdict().is_err(), "no room for a code");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_loop(bytes: Vec<u8>) {
            for frame in Frames::over(&bytes).flatten() {
                drop(Frame { kind: NLMSG_ERROR, flags: NLM_F_ACK_TLVS, ..frame }.verdict());
            }
        }

        #[test]
        fn no_attributes_make_it_panic_or_loop(payload: Vec<u8>, flags: u16) {
            for kind in [NLMSG_ERROR, NLMSG_DONE] {
                let bytes = frame(kind, flags | NLM_F_ACK_TLVS, &payload);
                drop(only(&bytes).verdict());
            }
        }
    }
}
