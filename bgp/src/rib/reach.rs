//! What the underlay reaches: whether a next hop can be resolved, and how far it is (RFC 4271, section 9.1.2.1).

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::prefix::{PrefixMap, host};

/// Prefixes of the underlay with their metrics, the longest one counting. The caller makes it of the kernel's links and routes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach(PrefixMap<Option<u32>>);

impl Reach {
    /// The metric of the way to a next hop, or none where there is no way.
    #[must_use]
    pub fn metric(&self, next_hop: IpAddr) -> Option<u32> {
        self.0.covering(host(next_hop)).next().and_then(|(_, metric)| *metric)
    }
}

/// A prefix without a metric is out of reach, also where a shorter one is not: a neighbour that BFD has lost, on a link that still stands.
impl FromIterator<(IpNetwork, Option<u32>)> for Reach {
    fn from_iter<I: IntoIterator<Item = (IpNetwork, Option<u32>)>>(prefixes: I) -> Self {
        Self(prefixes.into_iter().collect())
    }
}
