//! The header of each message, and how a stream is cut into messages (RFC 4271, section 4.1).
//!
//! A frame has the length that its type allows (section 6.1): what is behind this file need not ask again. The longest is 4096
//! bytes, and a [`Framer`] holds no more than that of a message that is not complete.

use super::{ErrorCode, Notification};

/// The longest message (RFC 4271, section 4); that of RFC 8654 is not offered.
pub const MAX_MESSAGE: usize = 4096;

/// Marker, length and type.
pub const HEADER: usize = 19;

/// The type of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 1.
    Open,
    /// 2.
    Update,
    /// 3.
    Notification,
    /// 4.
    Keepalive,
    /// 5 (RFC 2918).
    Refresh,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Open, Self::Update, Self::Notification, Self::Keepalive, Self::Refresh];

    fn code(self) -> u8 {
        match self {
            Self::Open => 1,
            Self::Update => 2,
            Self::Notification => 3,
            Self::Keepalive => 4,
            Self::Refresh => 5,
        }
    }

    /// The lengths that it may have, header included (RFC 4271, section 6.1; RFC 2918, section 3).
    fn lengths(self) -> std::ops::RangeInclusive<usize> {
        match self {
            Self::Open => 29..=MAX_MESSAGE,
            Self::Update => 23..=MAX_MESSAGE,
            Self::Notification => 21..=MAX_MESSAGE,
            Self::Keepalive => HEADER..=HEADER,
            Self::Refresh => 23..=23,
        }
    }
}

/// A message without its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its type.
    pub kind: Kind,
    /// What is behind the header.
    pub body: &'a [u8],
}

/// Cuts what a connection brings into frames. One per connection.
#[derive(Debug, Clone, Default)]
pub struct Framer {
    buffer: Vec<u8>,
    /// What of the buffer has been taken.
    taken: usize,
}

impl Framer {
    /// Appends what has come. It may end anywhere.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame. None until more has come.
    ///
    /// # Errors
    /// When the header is not one: the stream cannot be read on (RFC 4271, section 6.1).
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, Notification> {
        let rest = &self.buffer[self.taken..];
        let Some((kind, length)) = header(rest)? else { return Ok(None) };
        if rest.len() < length {
            return Ok(None);
        }
        self.taken += length;
        Ok(Some(Frame { kind, body: &rest[HEADER..length] }))
    }
}

/// Type and length of the message that begins here. What is wrong is said as soon as it has come.
fn header(bytes: &[u8]) -> Result<Option<(Kind, usize)>, Notification> {
    if bytes.iter().take(16).any(|byte| *byte != 0xFF) {
        return Err(ErrorCode::NOT_SYNCHRONIZED.into());
    }
    let Some(&[high, low, code]) = bytes.get(16..HEADER) else { return Ok(None) };
    let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.code() == code) else {
        return Err(Notification::new(ErrorCode::BAD_MESSAGE_TYPE, vec![code]));
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if !kind.lengths().contains(&length) {
        return Err(Notification::new(ErrorCode::BAD_MESSAGE_LENGTH, vec![high, low]));
    }
    Ok(Some((kind, length)))
}

/// Appends a message of this body, which has at most `MAX_MESSAGE - HEADER` bytes.
pub(super) fn write(kind: Kind, body: &[u8], out: &mut Vec<u8>) {
    let length = HEADER + body.len();
    assert!(kind.lengths().contains(&length), "a {kind:?} of {length} bytes is never built");
    out.extend_from_slice(&[0xFF; 16]);
    out.extend_from_slice(&u16::try_from(length).expect("at most 4096").to_be_bytes());
    out.push(kind.code());
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEPALIVE: [u8; 19] =
        [255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 19, 4];

    fn refused(at: usize, value: &[u8]) -> Notification {
        let mut bytes = KEEPALIVE.to_vec();
        bytes[at..at + value.len()].copy_from_slice(value);
        let mut framer = Framer::default();
        framer.feed(&bytes);
        framer.next_frame().unwrap_err()
    }

    #[test]
    fn a_stream_may_be_cut_anywhere() {
        let stream = [KEEPALIVE, KEEPALIVE].concat();
        for cut in 0..=stream.len() {
            let mut framer = Framer::default();
            let mut frames = 0;
            for part in [&stream[..cut], &stream[cut..]] {
                framer.feed(part);
                while let Some(frame) = framer.next_frame().unwrap() {
                    assert_eq!((frame.kind, frame.body), (Kind::Keepalive, &[][..]));
                    frames += 1;
                }
            }
            assert_eq!(frames, 2, "cut at {cut}");
        }
    }

    #[test]
    fn each_error_of_the_header_has_its_subcode_and_data() {
        assert_eq!(refused(3, &[0]), ErrorCode::NOT_SYNCHRONIZED.into());
        assert_eq!(refused(18, &[9]), Notification::new(ErrorCode::BAD_MESSAGE_TYPE, vec![9]));
        for (length, kind) in
            [(18, 4), (20, 4), (28, 1), (22, 2), (20, 3), (22, 5), (24, 5), (4097, 2), (65535, 2), (0, 2)]
        {
            let [high, low] = u16::to_be_bytes(length);
            let expected = Notification::new(ErrorCode::BAD_MESSAGE_LENGTH, vec![high, low]);
            assert_eq!(refused(16, &[high, low, kind]), expected, "{length} bytes of type {kind}");
        }
    }

    #[test]
    fn a_message_that_is_not_complete_is_no_error() {
        let mut framer = Framer::default();
        framer.feed(&[255; 16]);
        framer.feed(&[16, 0, 2]);
        framer.feed(&[0; 4076]);
        assert_eq!(framer.next_frame(), Ok(None));
        framer.feed(&[0]);
        assert_eq!(framer.next_frame().unwrap().unwrap().body.len(), 4077);
        framer.feed(&[]);
        assert_eq!(framer.buffer.len(), 0);
    }
}
