//! Capabilities: what a speaker offers in its OPEN (RFC 5492).

use netgauze_parse_utils::error::ParseError;
use netgauze_parse_utils::reader::SliceReader;

use crate::path::{Asn, Family, PerFamily};

const MULTIPROTOCOL: u8 = 1;
const ROUTE_REFRESH: u8 = 2;
const EXTENDED_NEXT_HOP: u8 = 5;
const GRACEFUL_RESTART: u8 = 64;
const FOUR_OCTET_AS: u8 = 65;
const ADD_PATH: u8 = 69;

/// What a speaker can.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// The families that it names (RFC 4760, section 8), in its order. None where it names none at all, also none that is not
    /// spoken here: IPv4 then.
    pub families: Option<Vec<Family>>,
    /// Its AS number, where it writes those in four bytes (RFC 6793).
    pub four_octet: Option<Asn>,
    /// It understands ROUTE-REFRESH (RFC 2918).
    pub route_refresh: bool,
    /// It keeps routes over a restart, or helps others that do (RFC 4724).
    pub graceful_restart: Option<GracefulRestart>,
    /// What it sends and receives with path identifiers (RFC 7911).
    pub add_path: PerFamily<AddPath>,
    /// It takes IPv6 next hops for IPv4 routes (RFC 8950).
    pub extended_next_hop: bool,
    /// Codes of those that nobody here knows, in its order: they are ignored.
    pub unknown: Vec<u8>,
}

/// The directions in which a speaker uses path identifiers, as seen from itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddPath {
    /// It can send several routes to a prefix.
    pub send: bool,
    /// It can take them.
    pub receive: bool,
}

/// What RFC 4724, section 3, has for a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GracefulRestart {
    /// The R bit: it has just restarted, and waits for no End-of-RIB of one that has too.
    pub restarting: bool,
    /// The N bit of RFC 8538, which is not used here.
    pub notification: bool,
    /// Seconds until a new session is expected, below 4096.
    pub time: u16,
    /// The families, with their F bits: whether routes were kept in the forwarding plane. May be empty: it helps only.
    pub families: Vec<(Family, bool)>,
}

impl Capabilities {
    /// The families that may be used with it: IPv4 where it names none (RFC 4760, section 8).
    #[must_use]
    pub fn spoken(&self) -> &[Family] {
        self.families.as_deref().unwrap_or(&[Family::Ipv4])
    }

    /// Reads what one optional parameter has.
    ///
    /// # Errors
    /// When a known capability has a wrong length, or one ends behind the parameter.
    pub(super) fn read(&mut self, parameter: &mut SliceReader<'_>) -> Result<(), ParseError> {
        while !parameter.is_empty() {
            let code = parameter.read_u8()?;
            let length = parameter.read_u8()?;
            let mut value = parameter.take_slice(usize::from(length))?;
            self.read_one(code, &mut value)?;
            if !value.is_empty() {
                return Err(ParseError::eof(value.offset(), 0, value.remaining()));
            }
        }
        Ok(())
    }

    fn read_one(&mut self, code: u8, value: &mut SliceReader<'_>) -> Result<(), ParseError> {
        match code {
            MULTIPROTOCOL => {
                let [high, low, _, safi] = value.read_array()?;
                let named = self.families.get_or_insert_default();
                if let Some(family) = Family::from_wire(u16::from_be_bytes([high, low]), safi)
                    && !named.contains(&family)
                {
                    named.push(family);
                }
            }
            ROUTE_REFRESH => self.route_refresh = true,
            EXTENDED_NEXT_HOP => {
                while !value.is_empty() {
                    let (afi, safi, hop) = (value.read_u16_be()?, value.read_u16_be()?, value.read_u16_be()?);
                    self.extended_next_hop |= (afi, safi, hop) == (1, 1, 2);
                }
            }
            GRACEFUL_RESTART => self.graceful_restart = Some(GracefulRestart::read(value)?),
            FOUR_OCTET_AS => self.four_octet = Some(Asn(value.read_u32_be()?)),
            ADD_PATH => {
                while !value.is_empty() {
                    let (afi, safi, directions) = (value.read_u16_be()?, value.read_u8()?, value.read_u8()?);
                    // Other values are ignored, with their family (RFC 7911, section 4).
                    if let (Some(family), 1..=3) = (Family::from_wire(afi, safi), directions) {
                        self.add_path[family] = AddPath { receive: directions & 1 != 0, send: directions & 2 != 0 };
                    }
                }
            }
            code => {
                self.unknown.push(code);
                value.read_bytes(value.remaining())?;
            }
        }
        Ok(())
    }

    /// As TLVs. The unknown ones are not written: nobody offers what it does not know.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut out = self.multiprotocol();
        if self.route_refresh {
            put(&mut out, ROUTE_REFRESH, &[]);
        }
        if self.extended_next_hop {
            put(&mut out, EXTENDED_NEXT_HOP, &[0, 1, 0, 1, 0, 2]);
        }
        if let Some(restart) = &self.graceful_restart {
            put(&mut out, GRACEFUL_RESTART, &restart.bytes());
        }
        if let Some(system) = self.four_octet {
            put(&mut out, FOUR_OCTET_AS, &system.0.to_be_bytes());
        }
        let directions = |family| u8::from(self.add_path[family].receive) | u8::from(self.add_path[family].send) << 1;
        let add_path: Vec<u8> = Family::ALL
            .into_iter()
            .filter(|family| directions(*family) != 0)
            .flat_map(|family| tuple(family, directions(family)))
            .collect();
        if !add_path.is_empty() {
            put(&mut out, ADD_PATH, &add_path);
        }
        out
    }

    /// Those that name families, as TLVs: also what an Unsupported Capability says it misses (RFC 5492, section 5).
    #[must_use]
    pub fn multiprotocol(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for family in self.families.iter().flatten() {
            let [high, low] = family.afi().to_be_bytes();
            put(&mut out, MULTIPROTOCOL, &[high, low, 0, Family::SAFI]);
        }
        out
    }
}

impl GracefulRestart {
    fn read(value: &mut SliceReader<'_>) -> Result<Self, ParseError> {
        let head = value.read_u16_be()?;
        let mut families = Vec::new();
        while !value.is_empty() {
            let (afi, safi, flags) = (value.read_u16_be()?, value.read_u8()?, value.read_u8()?);
            if let Some(family) = Family::from_wire(afi, safi)
                && families.iter().all(|(known, _)| *known != family)
            {
                families.push((family, flags & 0x80 != 0));
            }
        }
        Ok(Self { restarting: head & 0x8000 != 0, notification: head & 0x4000 != 0, time: head & 0x0FFF, families })
    }

    fn bytes(&self) -> Vec<u8> {
        let flags = u16::from(self.restarting) << 15 | u16::from(self.notification) << 14;
        let mut out = (flags | self.time.min(0x0FFF)).to_be_bytes().to_vec();
        out.extend(self.families.iter().flat_map(|(family, kept)| tuple(*family, u8::from(*kept) << 7)));
        out
    }
}

/// AFI, SAFI and a byte for both.
fn tuple(family: Family, byte: u8) -> [u8; 4] {
    let [high, low] = family.afi().to_be_bytes();
    [high, low, Family::SAFI, byte]
}

/// Appends a TLV. The values here have two families at most, and thus a few bytes.
fn put(out: &mut Vec<u8>, code: u8, value: &[u8]) {
    out.push(code);
    out.push(u8::try_from(value.len()).expect("a capability of two families is short"));
    out.extend_from_slice(value);
}
