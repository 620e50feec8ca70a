//! Sets of prefixes by range of length, as routers have them: `10.0.0.0/8 ge 24 le 26`.

use std::ops::RangeInclusive;

use ipnetwork::IpNetwork;

use super::Invalid;
use crate::prefix::{PrefixMap, host, masked};

/// A prefix, and how long those inside of it may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    prefix: IpNetwork,
    lengths: RangeInclusive<u8>,
}

impl Range {
    /// Those inside of the prefix that are at least (`ge`) and at most (`le`) so long. With neither it is the prefix alone; with `le` only, also the
    /// prefix itself; with `ge` only, up to single addresses.
    ///
    /// # Errors
    /// [`Invalid::HostBits`], and [`Invalid::Length`] where no such length exists.
    pub fn new(prefix: IpNetwork, ge: Option<u8>, le: Option<u8>) -> Result<Self, Invalid> {
        if prefix != masked(prefix) {
            return Err(Invalid::HostBits { prefix, right: masked(prefix) });
        }
        let (own, longest) = (prefix.prefix(), host(prefix.ip()).prefix());
        let from = ge.unwrap_or(own);
        let to = le.unwrap_or(if ge.is_some() { longest } else { own });
        if !(own..=longest).contains(&from) {
            return Err(Invalid::Length { field: "ge", value: from, prefix, least: own, most: longest });
        }
        if !(from..=longest).contains(&to) {
            return Err(Invalid::Length { field: "le", value: to, prefix, least: from, most: longest });
        }
        Ok(Self { prefix, lengths: from..=to })
    }

    /// The prefix and all that lies inside of it.
    ///
    /// # Errors
    /// [`Invalid::HostBits`].
    pub fn all_inside(prefix: IpNetwork) -> Result<Self, Invalid> {
        Self::new(prefix, None, Some(host(prefix.ip()).prefix()))
    }
}

/// Any of several ranges. Asking costs the same for a thousand of them as for one of each length.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prefixes(PrefixMap<Vec<RangeInclusive<u8>>>);

impl Prefixes {
    /// Whether one of the ranges has this prefix.
    #[must_use]
    pub fn contains(&self, prefix: IpNetwork) -> bool {
        let length = prefix.prefix();
        self.0.covering(prefix).any(|(_, ranges)| ranges.iter().any(|lengths| lengths.contains(&length)))
    }

    /// Whether there is no range at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Range> for Prefixes {
    fn from_iter<I: IntoIterator<Item = Range>>(ranges: I) -> Self {
        let mut map: PrefixMap<Vec<_>> = PrefixMap::default();
        for Range { prefix, lengths } in ranges {
            match map.get_mut(prefix) {
                Some(there) => there.push(lengths),
                None => drop(map.insert(prefix, vec![lengths])),
            }
        }
        Self(map)
    }
}
