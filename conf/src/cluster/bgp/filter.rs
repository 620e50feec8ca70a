//! Filters: which routes are taken of a peer or given to it, and with what changes.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use ipnetwork::IpNetwork;
use serde::{Serialize, Serializer};

use super::{Asn, Community};
use crate::prefix;

/// What a range of prefixes looks like, for errors.
pub(super) const PREFIXES: &str = "a prefix without host bits, alone or with the lengths of those inside of it, as in \"10.0.0.0/8\", \
                                   \"10.0.0.0/8 le 24\" or \"fd00::/8 ge 48 le 64\"";
/// The most copies of an AS number that a rule puts before a path.
pub(super) const MOST_PREPENDED: u8 = 16;
/// Every route that comes is compared with them.
pub(super) const MOST_RULES: usize = 64;

/// Rules in their order. The first that accepts or rejects a route decides; what none decides on is rejected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Filter(Vec<Rule>);

/// One rule. What it asks of a route must all hold; where it asks nothing, it is about every route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// The route's prefix is of one of these. None: of any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<Prefixes>,
    /// It has this community.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub community: Option<Community>,
    /// It came through this AS, or from it.
    #[serde(rename = "through_as", skip_serializing_if = "Option::is_none")]
    pub through: Option<Asn>,
    /// It began in this AS.
    #[serde(rename = "from_as", skip_serializing_if = "Option::is_none")]
    pub from: Option<Asn>,
    /// What then.
    #[serde(flatten)]
    pub then: Then,
}

/// What becomes of a route that a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "lowercase")]
pub enum Then {
    /// It is not taken, or not given.
    Reject,
    /// It is, with these changes.
    Accept(Changes),
    /// It is changed, and the next rule decides.
    Next(Changes),
}

/// What becomes another in a route.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// Its preference inside of the AS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_pref: Option<u32>,
    /// What the neighbouring AS is told of the preference among several ways into this one (MULTI_EXIT_DISC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub med: Option<u32>,
    /// How often the path is made longer: by the own AS on export, by the neighbour's on import. At most 16; 0 is not at all.
    #[serde(skip_serializing_if = "is_zero")]
    pub prepend: u8,
    /// What is not said with it any more. It comes before what is added.
    #[serde(rename = "remove_communities", skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<Community>,
    /// What is said with it.
    #[serde(rename = "communities", skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<Community>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(value: &u8) -> bool {
    *value == 0
}

/// A prefix, and how long those inside of it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefixes {
    prefix: IpNetwork,
    least: u8,
    most: u8,
}

/// Text that is no such range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not valid: {rule}")]
pub struct InvalidPrefixes {
    /// The text.
    pub text: String,
    /// The rule that it breaks: what would be right.
    pub rule: String,
}

/// Rules that make no filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFilter {
    /// Too many of them.
    #[error("at most {MOST_RULES} rules")]
    TooMany {
        /// How many there are.
        rules: usize,
    },
    /// A rule after one that decides on everything. Places count from 0.
    #[error("no rule comes after one that asks for nothing and accepts or rejects everything")]
    Unreachable {
        /// The rule that no route comes to.
        place: usize,
        /// The one before it.
        after: usize,
    },
    /// A rule that does nothing.
    #[error("a rule with the action \"next\" changes something")]
    NoEffect {
        /// Its place, from 0.
        place: usize,
    },
    /// Too many copies of the AS number.
    #[error("an AS number is put before a path at most {MOST_PREPENDED} times")]
    Prepend {
        /// The place of the rule, from 0.
        place: usize,
    },
}

impl Filter {
    /// A filter of these rules; one of none rejects everything.
    pub fn new(rules: Vec<Rule>) -> Result<Self, InvalidFilter> {
        if rules.len() > MOST_RULES {
            return Err(InvalidFilter::TooMany { rules: rules.len() });
        }
        let mut ended = None;
        for (place, rule) in rules.iter().enumerate() {
            if let Some(after) = ended {
                return Err(InvalidFilter::Unreachable { place, after });
            }
            match &rule.then {
                Then::Next(changes) if *changes == Changes::default() => return Err(InvalidFilter::NoEffect { place }),
                Then::Next(changes) | Then::Accept(changes) if changes.prepend > MOST_PREPENDED => {
                    return Err(InvalidFilter::Prepend { place });
                }
                Then::Next(_) => {}
                Then::Accept(_) | Then::Reject => ended = rule.asks_nothing().then_some(place),
            }
        }
        Ok(Self(rules))
    }

    /// The rules, in their order.
    pub fn rules(&self) -> &[Rule] {
        &self.0
    }

    /// Whether a rule that does not reject names the default route of a family by itself, as in "0.0.0.0/0". Only where one does may the
    /// filter take a default route: "0.0.0.0/0 le 32" and a rule that asks for nothing are about all others.
    pub fn names_default(&self, ipv6: bool) -> bool {
        let names = |range: &Prefixes| range.prefix.is_ipv6() == ipv6 && range.most == 0;
        self.0.iter().any(|rule| rule.then != Then::Reject && rule.prefixes.iter().any(names))
    }
}

impl Rule {
    fn asks_nothing(&self) -> bool {
        self.prefixes.is_empty() && self.community.is_none() && self.through.is_none() && self.from.is_none()
    }
}

impl Prefixes {
    /// Those inside of `prefix`, or it itself, that have one of these lengths. `None` where the prefix has host bits, or where there
    /// are none of such a length.
    pub fn new(prefix: IpNetwork, lengths: RangeInclusive<u8>) -> Option<Self> {
        let (least, most) = (*lengths.start(), *lengths.end());
        let good =
            prefix.ip() == prefix.network() && prefix.prefix() <= least && least <= most && most <= longest(prefix);
        good.then_some(Self { prefix, least, most })
    }

    /// Inside of which they lie.
    pub fn prefix(&self) -> IpNetwork {
        self.prefix
    }

    /// How long they may be: from the prefix's own length on, up to 32 or 128.
    pub fn lengths(&self) -> RangeInclusive<u8> {
        self.least..=self.most
    }
}

fn longest(prefix: IpNetwork) -> u8 {
    if prefix.is_ipv4() { 32 } else { 128 }
}

impl FromStr for Prefixes {
    type Err = InvalidPrefixes;
    fn from_str(text: &str) -> Result<Self, InvalidPrefixes> {
        let invalid = |rule: String| InvalidPrefixes { text: text.to_owned(), rule };
        let mut words = text.split_whitespace();
        let prefix = prefix::parse("", words.next().unwrap_or_default()).map_err(|_| invalid(PREFIXES.to_owned()))?;
        if prefix.ip() != prefix.network() {
            return Err(invalid(prefix::no_host_bits(prefix)));
        }
        let (own, longest) = (prefix.prefix(), longest(prefix));
        let (mut ge, mut le) = (None, None);
        while let Some(word) = words.next() {
            let bound = match word {
                "ge" if ge.is_none() && le.is_none() => &mut ge,
                "le" if le.is_none() => &mut le,
                _ => return Err(invalid(PREFIXES.to_owned())),
            };
            let length = words.next().and_then(|length| length.parse::<u8>().ok());
            *bound = Some(length.ok_or_else(|| invalid(PREFIXES.to_owned()))?);
        }
        let least = ge.unwrap_or(own);
        let most = le.unwrap_or(if ge.is_some() { longest } else { own });
        let right =
            || invalid(format!("lengths from {own} to {longest}, \"ge\" not above \"le\": PREFIX ge LEAST le MOST"));
        Self::new(prefix, least..=most).ok_or_else(right)
    }
}

impl fmt::Display for Prefixes {
    /// The shortest way to write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (own, longest) = (self.prefix.prefix(), longest(self.prefix));
        self.prefix.fmt(f)?;
        if self.least > own {
            write!(f, " ge {}", self.least)?;
        }
        let implied = if self.least > own { longest } else { own };
        if self.most == implied { Ok(()) } else { write!(f, " le {}", self.most) }
    }
}

impl Serialize for Prefixes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
