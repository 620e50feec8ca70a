//! OPEN: who a speaker is and what it can (RFC 4271, section 4.2).
//!
//! What is checked here needs no configuration: version and syntax. The rest of RFC 4271, section 6.2, is `session`'s.

use std::net::Ipv4Addr;

use netgauze_parse_utils::error::ParseError;
use netgauze_parse_utils::reader::SliceReader;

use super::{Capabilities, ErrorCode, Notification};
use crate::path::{AS_TRANS, Asn};

const VERSION: u8 = 4;
const CAPABILITIES: u8 = 2;
/// In the place of a length, and of the first type: lengths of two bytes follow (RFC 9072).
const EXTENDED: u8 = 255;

/// Who a speaker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// Its system: from the capability where it has that (RFC 6793, section 3).
    pub system: Asn,
    /// Seconds within which it wants to hear something. 0: never.
    pub hold_time: u16,
    /// Its BGP identifier.
    pub identifier: Ipv4Addr,
    /// What it offers.
    pub capabilities: Capabilities,
}

impl Open {
    /// # Errors
    /// With what RFC 4271, section 6.2, says to answer.
    pub(super) fn read(body: &mut SliceReader<'_>) -> Result<Self, Notification> {
        let mut fixed = || -> Result<_, ParseError> {
            Ok((body.read_u8()?, body.read_u16_be()?, body.read_u16_be()?, body.read_u32_be()?, body.read_u8()?))
        };
        let (version, system, hold_time, identifier, length) = fixed().map_err(unspecific)?;
        if version != VERSION {
            return Err(Notification::new(ErrorCode::UNSUPPORTED_VERSION, vec![0, VERSION]));
        }
        let capabilities = parameters(body, length)?;
        Ok(Self {
            system: capabilities.four_octet.unwrap_or(Asn(u32::from(system))),
            hold_time,
            identifier: Ipv4Addr::from(identifier),
            capabilities,
        })
    }

    pub(super) fn body(&self) -> Vec<u8> {
        let system = u16::try_from(self.system.0).unwrap_or(AS_TRANS.0 as u16);
        let mut out = vec![VERSION];
        out.extend_from_slice(&system.to_be_bytes());
        out.extend_from_slice(&self.hold_time.to_be_bytes());
        out.extend_from_slice(&self.identifier.octets());
        let capabilities = self.capabilities.bytes();
        match u8::try_from(capabilities.len()).expect("capabilities of two families are short") {
            0 => out.push(0),
            length => out.extend_from_slice(&[length + 2, CAPABILITIES, length]),
        }
        out.extend_from_slice(&capabilities);
        out
    }
}

/// The capabilities of all optional parameters. Any other parameter is refused.
fn parameters(body: &mut SliceReader<'_>, length: u8) -> Result<Capabilities, Notification> {
    let extended = length == EXTENDED && body.as_slice().first() == Some(&EXTENDED);
    let mut read = || -> Result<_, ParseError> {
        let length = if extended {
            body.read_u8()?;
            usize::from(body.read_u16_be()?)
        } else {
            usize::from(length)
        };
        body.take_slice(length)
    };
    let mut list = read().map_err(unspecific)?;
    if !body.is_empty() {
        return Err(ErrorCode::OPEN_UNSPECIFIC.into());
    }
    let mut capabilities = Capabilities::default();
    while !list.is_empty() {
        let mut next = || -> Result<_, ParseError> {
            let kind = list.read_u8()?;
            let length = if extended { usize::from(list.read_u16_be()?) } else { usize::from(list.read_u8()?) };
            Ok((kind, list.take_slice(length)?))
        };
        let (kind, mut value) = next().map_err(unspecific)?;
        if kind != CAPABILITIES {
            return Err(Notification::new(ErrorCode::UNSUPPORTED_PARAMETER, vec![kind]));
        }
        capabilities.read(&mut value).map_err(unspecific)?;
    }
    Ok(capabilities)
}

/// A parameter that is recognised but malformed (RFC 4271, section 6.2).
fn unspecific(_: ParseError) -> Notification {
    ErrorCode::OPEN_UNSPECIFIC.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::{Family, PerFamily};
    use crate::wire::{AddPath, GracefulRestart};

    fn read(parameters: &[u8]) -> Result<Open, Notification> {
        let mut body = vec![4, 0xFB, 0xF0, 0, 90, 10, 0, 0, 1, parameters.len() as u8];
        body.extend_from_slice(parameters);
        Open::read(&mut SliceReader::new(&body))
    }

    #[test]
    fn all_that_can_be_offered_comes_back() {
        let open = Open {
            system: Asn(4_200_000_000),
            hold_time: 9,
            identifier: Ipv4Addr::new(10, 0, 0, 1),
            capabilities: Capabilities {
                families: Some(vec![Family::Ipv6, Family::Ipv4]),
                four_octet: Some(Asn(4_200_000_000)),
                route_refresh: true,
                graceful_restart: Some(GracefulRestart {
                    restarting: true,
                    notification: true,
                    time: 120,
                    families: vec![(Family::Ipv4, true), (Family::Ipv6, false)],
                }),
                add_path: PerFamily::new(|family| AddPath { send: family == Family::Ipv4, receive: true }),
                extended_next_hop: true,
                unknown: vec![],
            },
        };
        assert_eq!(Open::read(&mut SliceReader::new(&open.body())), Ok(open.clone()));
        assert_eq!(open.body()[1..3], [0x5B, 0xA0], "AS_TRANS stands where two bytes do not suffice");
    }

    #[test]
    fn what_nobody_knows_is_ignored_and_a_family_beside_it_is_not() {
        let open = read(&[2, 6, 1, 4, 0, 25, 0, 70, 2, 9, 70, 0, 1, 4, 0, 2, 0, 1, 71, 2, 2, 64, 0]);
        assert_eq!(open.unwrap_err().error, ErrorCode::OPEN_UNSPECIFIC, "a graceful restart of no bytes is malformed");
        let open = read(&[
            2, 6, 1, 4, 0, 25, 0, 70, 2, 8, 70, 0, 1, 4, 0, 2, 0, 1, 2, 12, 64, 10, 0, 120, 0, 25, 70, 128, 0, 1, 1,
            128,
        ])
        .unwrap()
        .capabilities;
        assert_eq!(open.families, Some(vec![Family::Ipv6]));
        assert_eq!(open.unknown, [70]);
        assert_eq!(open.graceful_restart.unwrap().families, [(Family::Ipv4, true)]);
        let others = read(&[2, 6, 1, 4, 0, 25, 0, 70]).unwrap().capabilities;
        assert_eq!(others.spoken(), [], "one that names only others does not speak IPv4");
        assert_eq!(read(&[]).unwrap().capabilities.spoken(), [Family::Ipv4]);
    }

    #[test]
    fn each_malformed_parameter_has_its_subcode() {
        assert_eq!(read(&[1, 2, 0, 0]).unwrap_err(), Notification::new(ErrorCode::UNSUPPORTED_PARAMETER, vec![1]));
        for parameters in [
            &[2u8][..],
            &[2, 9, 1, 4, 0, 1, 0, 1],
            &[2, 6, 1, 5, 0, 1, 0, 1],
            &[2, 5, 1, 3, 0, 1, 0],
            &[2, 3, 2, 1, 0],
            &[2, 5, 65, 3, 0, 0, 1],
            &[2, 5, 69, 3, 0, 1, 1],
            &[2, 7, 5, 5, 0, 1, 0, 1, 0],
        ] {
            assert_eq!(read(parameters).unwrap_err(), ErrorCode::OPEN_UNSPECIFIC.into(), "{parameters:?}");
        }
        let version = Open::read(&mut SliceReader::new(&[3, 0, 1, 0, 90, 10, 0, 0, 1, 0])).unwrap_err();
        assert_eq!(version, Notification::new(ErrorCode::UNSUPPORTED_VERSION, vec![0, 4]));
        let long = Open::read(&mut SliceReader::new(&[4, 0, 1, 0, 90, 10, 0, 0, 1, 0, 7])).unwrap_err();
        assert_eq!(long.error, ErrorCode::OPEN_UNSPECIFIC);
    }

    #[test]
    fn lengths_of_two_bytes_are_read() {
        let body = [4, 0, 1, 0, 90, 10, 0, 0, 1, 255, 255, 0, 9, 2, 0, 6, 65, 4, 0, 1, 0, 0];
        assert_eq!(Open::read(&mut SliceReader::new(&body)).unwrap().system, Asn(65536));
    }
}
