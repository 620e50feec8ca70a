//! What is said of a route: the words that the wire, the RIB and the policy share.
//!
//! Nothing here decides anything, and nothing here is bytes: `wire` makes these of messages and messages of these, `rib` compares
//! them, `policy` changes them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::{Index, IndexMut};

/// An AS number of four bytes (RFC 6793). Those below 65,536 are the old ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Asn(pub u32);

/// What a speaker of two bytes sees in the place of a number that it cannot write (RFC 6793, section 9).
pub const AS_TRANS: Asn = Asn(23456);

impl Asn {
    /// Whether no system has it: 0 (RFC 7607), [`AS_TRANS`], the last of two bytes and the last of four (RFC 7300).
    #[must_use]
    pub fn is_reserved(self) -> bool {
        matches!(self.0, 0 | 65_535 | u32::MAX) || self == AS_TRANS
    }
}

/// Which AS a peer is of, as far as that is known before it says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerAs {
    /// This one.
    Is(Asn),
    /// Any that may be but this one, which is ours.
    AnyBut(Asn),
}

impl PeerAs {
    /// Whether a peer may name this AS in its OPEN.
    #[must_use]
    pub fn admits(self, named: Asn) -> bool {
        match self {
            Self::Is(asn) => named == asn,
            Self::AnyBut(own) => named != own && !named.is_reserved(),
        }
    }
}

/// The address families that are spoken, unicast each (RFC 4760).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// AFI 1, SAFI 1.
    Ipv4,
    /// AFI 2, SAFI 1.
    Ipv6,
}

/// Something that each family has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PerFamily<T> {
    ipv4: T,
    ipv6: T,
}

impl<T> PerFamily<T> {
    /// What `of` gives for each.
    pub fn new(mut of: impl FnMut(Family) -> T) -> Self {
        Self { ipv4: of(Family::Ipv4), ipv6: of(Family::Ipv6) }
    }

    /// The same for both.
    pub const fn both(of: T) -> Self
    where
        T: Copy,
    {
        Self { ipv4: of, ipv6: of }
    }
}

impl<T> Index<Family> for PerFamily<T> {
    type Output = T;

    fn index(&self, family: Family) -> &T {
        match family {
            Family::Ipv4 => &self.ipv4,
            Family::Ipv6 => &self.ipv6,
        }
    }
}

impl<T> IndexMut<Family> for PerFamily<T> {
    fn index_mut(&mut self, family: Family) -> &mut T {
        match family {
            Family::Ipv4 => &mut self.ipv4,
            Family::Ipv6 => &mut self.ipv6,
        }
    }
}

/// Tells several routes of one peer to one prefix apart (RFC 7911). 0 where the session has no such identifiers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId(pub u32);

/// What all routes of an UPDATE have in common (RFC 4271, section 5), but for the next hop, which goes by family.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attributes {
    /// ORIGIN.
    pub origin: Origin,
    /// AS_PATH, with AS4_PATH merged into it (RFC 6793, section 4.2.3).
    pub as_path: AsPath,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF: inside of an AS only.
    pub local_pref: Option<u32>,
    /// ATOMIC_AGGREGATE.
    pub atomic_aggregate: bool,
    /// AGGREGATOR.
    pub aggregator: Option<(Asn, Ipv4Addr)>,
    /// COMMUNITIES (RFC 1997), in order, each once.
    pub communities: Vec<Community>,
    /// LARGE_COMMUNITY (RFC 8092), in order, each once.
    pub large_communities: Vec<LargeCommunity>,
    /// ORIGINATOR_ID (RFC 4456).
    pub originator: Option<Ipv4Addr>,
    /// CLUSTER_LIST (RFC 4456), the latest first.
    pub clusters: Vec<Ipv4Addr>,
    /// Transitive ones that nobody here knows: they are passed on, with the Partial bit set (RFC 4271, section 9).
    pub unknown: Vec<Unknown>,
}

impl Attributes {
    /// As a route begins: of this origin, through no AS, and nothing else said of it.
    #[must_use]
    pub fn new(origin: Origin) -> Self {
        Self {
            origin,
            as_path: AsPath::default(),
            med: None,
            local_pref: None,
            atomic_aggregate: false,
            aggregator: None,
            communities: Vec::new(),
            large_communities: Vec::new(),
            originator: None,
            clusters: Vec::new(),
            unknown: Vec::new(),
        }
    }
}

/// ORIGIN, the preferred first (RFC 4271, section 9.1.2.2 c).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// Of the AS itself.
    Igp,
    /// Learned by EGP (RFC 904).
    Egp,
    /// By other means.
    Incomplete,
}

/// The systems that a route came through, the latest first (RFC 4271, section 4.3; confederations by RFC 5065).
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AsPath(pub Vec<Segment>);

/// A part of an AS_PATH.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// In this order.
    Sequence(Vec<Asn>),
    /// In no order, from an aggregation.
    Set(Vec<Asn>),
    /// In this order, inside of a confederation.
    ConfederationSequence(Vec<Asn>),
    /// In no order, inside of a confederation.
    ConfederationSet(Vec<Asn>),
}

impl AsPath {
    /// As the decision process counts it: a set is one, a confederation's segments are none (RFC 4271, section 9.1.2.2 a; RFC
    /// 5065, section 5.3).
    #[must_use]
    pub fn length(&self) -> usize {
        let count = |segment: &Segment| match segment {
            Segment::Sequence(systems) => systems.len(),
            Segment::Set(_) => 1,
            Segment::ConfederationSequence(_) | Segment::ConfederationSet(_) => 0,
        };
        self.0.iter().map(count).sum()
    }

    /// All systems that it names, in the order of the wire.
    pub fn systems(&self) -> impl Iterator<Item = Asn> + '_ {
        self.0.iter().flat_map(|segment| match segment {
            Segment::Sequence(systems)
            | Segment::Set(systems)
            | Segment::ConfederationSequence(systems)
            | Segment::ConfederationSet(systems) => systems.iter().copied(),
        })
    }

    /// The neighbour that it came from: the first of a leading sequence (RFC 4271, section 6.3).
    #[must_use]
    pub fn first(&self) -> Option<Asn> {
        match self.0.first()? {
            Segment::Sequence(systems) => systems.first().copied(),
            _ => None,
        }
    }

    /// Puts a system before all others, so many times (RFC 4271, section 5.1.2). A segment takes 255 at most.
    pub fn prepend(&mut self, system: Asn, times: u8) {
        for _ in 0..times {
            match self.0.first_mut() {
                Some(Segment::Sequence(systems)) if systems.len() < 255 => systems.insert(0, system),
                _ => self.0.insert(0, Segment::Sequence(vec![system])),
            }
        }
    }
}

/// COMMUNITIES' four bytes (RFC 1997): a system's number and what it means there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Community(pub u32);

impl Community {
    /// The AS does not export it.
    pub const NO_EXPORT: Self = Self(0xFFFF_FF01);
    /// To no other peer.
    pub const NO_ADVERTISE: Self = Self(0xFFFF_FF02);
    /// To no peer outside, those of the own confederation among them.
    pub const NO_EXPORT_SUBCONFED: Self = Self(0xFFFF_FF03);
    /// The least preferred one: the neighbour is about to go (RFC 8326).
    pub const GRACEFUL_SHUTDOWN: Self = Self(0xFFFF_0000);
}

/// LARGE_COMMUNITY's three words (RFC 8092).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LargeCommunity {
    /// Who gives it a meaning.
    pub global: u32,
    /// Its two words.
    pub local: [u32; 2],
}

/// A transitive attribute that is passed on as it came.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unknown {
    /// Its type code.
    pub code: u8,
    /// Whether a speaker before has not known it either. What is sent on has it always.
    pub partial: bool,
    /// As on the wire.
    pub value: Vec<u8>,
}

/// Where packets go next. IPv4 routes may have an IPv6 one (RFC 8950).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextHop {
    /// Its address, global but where a neighbour has none.
    pub address: IpAddr,
    /// Beside an IPv6 address: its link-local one, on a shared link (RFC 2545, section 3).
    pub link_local: Option<Ipv6Addr>,
}

impl Family {
    /// All that are spoken.
    pub const ALL: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    /// SAFI 1: unicast.
    pub const SAFI: u8 = 1;

    /// The family of this AFI and SAFI. None where it is not spoken.
    #[must_use]
    pub fn from_wire(afi: u16, safi: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.afi() == afi && safi == Self::SAFI)
    }

    /// AFI, as IANA gives it.
    #[must_use]
    pub fn afi(self) -> u16 {
        match self {
            Self::Ipv4 => 1,
            Self::Ipv6 => 2,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        })
    }
}

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for PeerAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(asn) => write!(f, "AS {asn}"),
            Self::AnyBut(own) => write!(f, "any AS but {own}"),
        }
    }
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0 >> 16, self.0 & 0xFFFF)
    }
}

impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.global, self.local[0], self.local[1])
    }
}

/// As routers print it: sets in braces, a confederation's segments in parentheses.
impl fmt::Display for AsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, segment) in self.0.iter().enumerate() {
            let (before, systems, after) = match segment {
                Segment::Sequence(systems) => ("", systems, ""),
                Segment::Set(systems) => ("{", systems, "}"),
                Segment::ConfederationSequence(systems) => ("(", systems, ")"),
                Segment::ConfederationSet(systems) => ("({", systems, "})"),
            };
            let words: Vec<_> = systems.iter().map(Asn::to_string).collect();
            write!(f, "{}{before}{}{after}", if at == 0 { "" } else { " " }, words.join(" "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(segments: &[Segment]) -> AsPath {
        AsPath(segments.to_vec())
    }

    #[test]
    fn a_set_counts_once_and_a_confederation_not_at_all() {
        let path = path(&[
            Segment::ConfederationSequence(vec![Asn(65001)]),
            Segment::Sequence(vec![Asn(1), Asn(2)]),
            Segment::Set(vec![Asn(3), Asn(4)]),
        ]);
        assert_eq!((path.length(), path.systems().count(), path.first()), (3, 5, None));
        assert_eq!(path.to_string(), "(65001) 1 2 {3 4}");
    }

    #[test]
    fn a_sequence_of_255_is_full() {
        let mut path = path(&[Segment::Sequence(vec![Asn(7); 254])]);
        path.prepend(Asn(9), 3);
        let lengths: Vec<_> = path.0.iter().map(|segment| AsPath(vec![segment.clone()]).length()).collect();
        assert_eq!((lengths, path.first()), (vec![2, 255], Some(Asn(9))));
    }
}
