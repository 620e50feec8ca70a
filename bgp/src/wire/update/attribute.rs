//! Path attributes, one at a time: how each must look, and what its value says (RFC 4271, section 5; RFC 7606, section 7).
//!
//! The values but for paths are read by `netgauze-bgp-pkt`, each from the bytes of its own attribute, after its flags and length are found good.

use netgauze_bgp_pkt::community::{Community as WireCommunity, LargeCommunity as WireLarge};
use netgauze_bgp_pkt::path_attribute as wire;
use netgauze_parse_utils::error::ParseError;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::{ParseFromWithOneInput, ParseFromWithTwoInputs};

use super::as_path::{self, Width};
use super::four_octet::{self, Old};
use super::{Action, Malformed, Why};
use crate::path::{AsPath, Asn, Attributes, Community, LargeCommunity, NextHop, Origin, Segment, Unknown};
use crate::wire::Dialect;
use crate::wire::nlri::is_host;

pub(super) const ORIGIN: u8 = 1;
pub(super) const AS_PATH: u8 = 2;
pub(super) const NEXT_HOP: u8 = 3;
const MED: u8 = 4;
const LOCAL_PREF: u8 = 5;
const ATOMIC_AGGREGATE: u8 = 6;
const AGGREGATOR: u8 = 7;
const COMMUNITIES: u8 = 8;
const ORIGINATOR: u8 = 9;
const CLUSTERS: u8 = 10;
pub(super) const MP_REACH: u8 = 14;
pub(super) const MP_UNREACH: u8 = 15;
pub(super) const AS4_PATH: u8 = 17;
pub(super) const AS4_AGGREGATOR: u8 = 18;
const LARGE_COMMUNITIES: u8 = 32;

pub(super) const OPTIONAL: u8 = 0x80;
pub(super) const TRANSITIVE: u8 = 0x40;
pub(super) const PARTIAL: u8 = 0x20;
pub(super) const EXTENDED_LENGTH: u8 = 0x10;

/// What is done where the value of an attribute is malformed: those that do not steer a decision go alone (RFC 7606, section
/// 7; RFC 6793, section 6).
pub(super) fn action(code: u8) -> Action {
    match code {
        ATOMIC_AGGREGATE | AGGREGATOR | AS4_PATH | AS4_AGGREGATOR => Action::AttributeDiscard,
        _ => Action::TreatAsWithdraw,
    }
}

/// An attribute as it came.
pub(super) struct Raw<'a> {
    flags: u8,
    pub code: u8,
    /// The length's field and the value.
    tail: &'a [u8],
    pub value: &'a [u8],
    /// Header and value.
    pub whole: &'a [u8],
}

impl<'a> Raw<'a> {
    /// # Errors
    /// When it ends behind the list.
    pub fn read(list: &mut SliceReader<'a>) -> Result<Self, ParseError> {
        let all = list.as_slice();
        let flags = list.read_u8()?;
        let code = list.read_u8()?;
        let length = if flags & EXTENDED_LENGTH == 0 { u16::from(list.read_u8()?) } else { list.read_u16_be()? };
        let value = list.read_bytes(usize::from(length))?;
        let whole = &all[..all.len() - list.remaining()];
        Ok(Self { flags, code, tail: &whole[2..], value, whole })
    }

    /// What can be seen without reading the value. The Partial bit is not looked at (RFC 7606, section 3 c).
    pub fn check(&self, dialect: &Dialect) -> Option<Malformed> {
        let malformed = |action, why| Some(Malformed { attribute: self.code, action, why });
        let is_unwanted = match self.code {
            LOCAL_PREF | ORIGINATOR | CLUSTERS => !dialect.internal,
            AS4_PATH | AS4_AGGREGATOR => dialect.four_octet,
            _ => false,
        };
        if is_unwanted {
            return malformed(Action::AttributeDiscard, Why::Unwanted);
        }
        let kind = self.flags & (OPTIONAL | TRANSITIVE);
        let (expected, fits) = match self.code {
            ORIGIN => (TRANSITIVE, self.value.len() == 1),
            AS_PATH => (TRANSITIVE, true),
            NEXT_HOP | LOCAL_PREF => (TRANSITIVE, self.value.len() == 4),
            ATOMIC_AGGREGATE => (TRANSITIVE, self.value.is_empty()),
            MED | ORIGINATOR => (OPTIONAL, self.value.len() == 4),
            AGGREGATOR => (OPTIONAL | TRANSITIVE, self.value.len() == if dialect.four_octet { 8 } else { 6 }),
            COMMUNITIES => (OPTIONAL | TRANSITIVE, self.is_list_of(4)),
            CLUSTERS => (OPTIONAL, self.is_list_of(4)),
            MP_REACH | MP_UNREACH => (OPTIONAL, true),
            AS4_PATH => (OPTIONAL | TRANSITIVE, !self.value.is_empty()),
            AS4_AGGREGATOR => (OPTIONAL | TRANSITIVE, self.value.len() == 8),
            LARGE_COMMUNITIES => (OPTIONAL | TRANSITIVE, self.is_list_of(12)),
            // Nothing of RFC 7606 changes what RFC 4271, section 6.3, says of these.
            _ if kind & OPTIONAL == 0 => return malformed(Action::SessionReset, Why::Unrecognized),
            _ => return None,
        };
        if kind != expected {
            return malformed(Action::TreatAsWithdraw, Why::Flags);
        }
        if !fits { malformed(action(self.code), Why::Length) } else { None }
    }

    /// Whether its value is some of these, at least one.
    fn is_list_of(&self, size: usize) -> bool {
        !self.value.is_empty() && self.value.len().is_multiple_of(size)
    }

    fn parse<T: ParseFromWithOneInput<'a, bool>>(&self) -> Result<T, Why> {
        T::parse(&mut SliceReader::new(self.tail), self.flags & EXTENDED_LENGTH != 0).map_err(|_| Why::Value)
    }

    fn parse_systems<T: ParseFromWithTwoInputs<'a, bool, bool>>(&self, four_octet: bool) -> Result<T, Why> {
        T::parse(&mut SliceReader::new(self.tail), self.flags & EXTENDED_LENGTH != 0, four_octet)
            .map_err(|_| Why::Value)
    }
}

/// What the attributes of a message say.
#[derive(Default)]
pub(super) struct Values {
    origin: Option<Origin>,
    as_path: Option<AsPath>,
    next_hop: Option<NextHop>,
    old: Old,
    rest: Option<Attributes>,
}

impl Values {
    /// Takes one that has passed [`Raw::check`].
    ///
    /// # Errors
    /// What is wrong with its value.
    pub fn take(&mut self, raw: &Raw<'_>, dialect: &Dialect) -> Result<(), Why> {
        // The origin there is never read: it is set when all is known.
        let rest = self.rest.get_or_insert_with(|| Attributes::new(Origin::Incomplete));
        match raw.code {
            ORIGIN => {
                self.origin = Some(match raw.parse()? {
                    wire::Origin::IGP => Origin::Igp,
                    wire::Origin::EGP => Origin::Egp,
                    wire::Origin::Incomplete => Origin::Incomplete,
                });
            }
            AS_PATH => {
                let path = as_path::read(raw.value, Width::of(dialect.four_octet))?;
                self.as_path = Some(checked(path, dialect)?);
            }
            NEXT_HOP => {
                let address = raw.parse::<wire::NextHop>()?.next_hop();
                if !is_host(address) {
                    return Err(Why::Value);
                }
                self.next_hop = Some(NextHop { address: address.into(), link_local: None });
            }
            MED => rest.med = Some(raw.parse::<wire::MultiExitDiscriminator>()?.metric()),
            LOCAL_PREF => rest.local_pref = Some(raw.parse::<wire::LocalPreference>()?.metric()),
            ATOMIC_AGGREGATE => rest.atomic_aggregate = true,
            AGGREGATOR => {
                let (system, address) = match raw.parse_systems(dialect.four_octet)? {
                    wire::Aggregator::As2Aggregator(by) => (u32::from(*by.asn()), by.origin()),
                    wire::Aggregator::As4Aggregator(by) => (*by.asn(), by.origin()),
                };
                rest.aggregator = Some((system_number(system)?, address));
            }
            COMMUNITIES => {
                let all: wire::Communities = raw.parse()?;
                rest.communities = in_order(all.communities().iter().map(|each| Community(WireCommunity::value(each))));
            }
            ORIGINATOR => rest.originator = Some(raw.parse::<wire::Originator>()?.id()),
            CLUSTERS => {
                let all: wire::ClusterList = raw.parse()?;
                rest.clusters = all.cluster_list().iter().map(wire::ClusterId::id).collect();
            }
            AS4_PATH => self.old.path = Some(four_octet_path(raw.value)?),
            AS4_AGGREGATOR => {
                let by: wire::As4Aggregator = raw.parse()?;
                self.old.aggregator = Some((system_number(*by.asn())?, by.origin()));
            }
            LARGE_COMMUNITIES => {
                let all: wire::LargeCommunities = raw.parse()?;
                rest.large_communities = in_order(all.communities().iter().map(large_community));
            }
            code if raw.flags & TRANSITIVE != 0 => {
                let partial = raw.flags & PARTIAL != 0;
                rest.unknown.push(Unknown { code, partial, value: raw.value.to_vec() });
            }
            // Optional ones that do not go on, and that nobody here knows (RFC 4271, section 5).
            _ => {}
        }
        Ok(())
    }

    /// The NEXT_HOP of the routes in the classic form.
    pub fn next_hop(&self) -> Option<NextHop> {
        self.next_hop
    }

    /// The well-known mandatory ones that are not there (RFC 4271, section 6.3), where the message announces in the classic
    /// form or at all. LOCAL_PREF is none of them: whoever decides has a value for its absence.
    pub fn missing(&self, classic: bool, any: bool) -> impl Iterator<Item = u8> + use<> {
        let missing = [
            (ORIGIN, any && self.origin.is_none()),
            (AS_PATH, any && self.as_path.is_none()),
            (NEXT_HOP, classic && self.next_hop.is_none()),
        ];
        missing.into_iter().filter_map(|(code, missing)| missing.then_some(code))
    }

    /// All of them, with what a peer of two bytes says of four put in its place. None where a mandatory one is missing.
    pub fn take_attributes(&mut self, dialect: &Dialect, malformed: &mut Vec<Malformed>) -> Option<Attributes> {
        let mut attributes = self.rest.take()?;
        attributes.origin = self.origin?;
        attributes.as_path = self.as_path.take()?;
        if !dialect.four_octet && four_octet::merge(&mut attributes, std::mem::take(&mut self.old)).is_err() {
            malformed.push(Malformed { attribute: AS4_PATH, action: Action::AttributeDiscard, why: Why::Value });
        }
        Some(attributes)
    }
}

/// Each once, in order.
fn in_order<T: Ord>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut all: Vec<T> = all.collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn large_community(each: &WireLarge) -> LargeCommunity {
    LargeCommunity { global: each.global_admin(), local: [each.local_data1(), each.local_data2()] }
}

/// A number that a system can have (RFC 7607).
fn system_number(system: u32) -> Result<Asn, Why> {
    if system == 0 { Err(Why::Value) } else { Ok(Asn(system)) }
}

/// AS4_PATH. Segments of a confederation in it are dropped (RFC 6793, section 6).
fn four_octet_path(value: &[u8]) -> Result<AsPath, Why> {
    let mut path = as_path::read(value, Width::Four)?;
    path.0.retain(|each| !is_confederation(each));
    Ok(path)
}

fn is_confederation(segment: &Segment) -> bool {
    matches!(segment, Segment::ConfederationSequence(_) | Segment::ConfederationSet(_))
}

/// A path that this peer may send: its first system is the peer where it must be, and a confederation's segments are for
/// members (RFC 5065, section 5).
fn checked(path: AsPath, dialect: &Dialect) -> Result<AsPath, Why> {
    let first = dialect.first_as.map(|system| Width::of(dialect.four_octet).seen(system));
    let is_good =
        (dialect.internal || !path.0.iter().any(is_confederation)) && (first.is_none() || path.first() == first);
    if is_good { Ok(path) } else { Err(Why::Value) }
}
