//! AS_PATH and AS4_PATH (RFC 4271, section 4.3; RFC 5065; RFC 6793).
//!
//! Read and written here, since `netgauze-bgp-pkt` knows no segments of confederations.

use netgauze_parse_utils::error::ParseError;
use netgauze_parse_utils::reader::SliceReader;

use super::Why;
use crate::path::{AS_TRANS, AsPath, Asn, Segment};

/// How many bytes a number has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    Two,
    Four,
}

impl Width {
    /// That of a peer.
    pub fn of(four_octet: bool) -> Self {
        if four_octet { Self::Four } else { Self::Two }
    }

    /// A number as it is seen in this width.
    pub fn seen(self, system: Asn) -> Asn {
        match self {
            Self::Two if u16::try_from(system.0).is_err() => AS_TRANS,
            _ => system,
        }
    }

    fn read(self, value: &mut SliceReader<'_>) -> Result<Asn, ParseError> {
        Ok(Asn(match self {
            Self::Two => u32::from(value.read_u16_be()?),
            Self::Four => value.read_u32_be()?,
        }))
    }

    fn write(self, system: Asn, out: &mut Vec<u8>) {
        let bytes = self.seen(system).0.to_be_bytes();
        match self {
            Self::Two => out.extend_from_slice(&bytes[2..]),
            Self::Four => out.extend_from_slice(&bytes),
        }
    }
}

/// Reads a path.
///
/// # Errors
/// When a segment is of an unknown type, empty, or ends behind the attribute (RFC 7606, section 7.2), or a system is 0 (RFC
/// 7607).
pub(super) fn read(value: &[u8], width: Width) -> Result<AsPath, Why> {
    let mut value = SliceReader::new(value);
    let mut path = AsPath::default();
    while !value.is_empty() {
        let mut segment = || -> Result<_, ParseError> {
            let (kind, count) = (value.read_u8()?, value.read_u8()?);
            let systems: Vec<_> = (0..count).map(|_| width.read(&mut value)).collect::<Result<_, _>>()?;
            Ok((kind, systems))
        };
        let (kind, systems) = segment().map_err(|_| Why::Value)?;
        if systems.is_empty() || systems.contains(&Asn(0)) {
            return Err(Why::Value);
        }
        path.0.push(match kind {
            1 => Segment::Set(systems),
            2 => Segment::Sequence(systems),
            3 => Segment::ConfederationSequence(systems),
            4 => Segment::ConfederationSet(systems),
            _ => return Err(Why::Value),
        });
    }
    Ok(path)
}

/// The path as a value. No segment there is empty, and none has more than 255 systems.
pub(super) fn write(path: &AsPath, width: Width) -> Vec<u8> {
    let mut out = Vec::new();
    for segment in &path.0 {
        let (kind, systems) = match segment {
            Segment::Set(systems) => (1, systems),
            Segment::Sequence(systems) => (2, systems),
            Segment::ConfederationSequence(systems) => (3, systems),
            Segment::ConfederationSet(systems) => (4, systems),
        };
        for systems in systems.chunks(255) {
            out.extend_from_slice(&[kind, u8::try_from(systems.len()).expect("a chunk of 255")]);
            systems.iter().for_each(|system| width.write(*system, &mut out));
        }
    }
    out
}
