//! What is taken of what a peer sends, before the decision process sees it (RFC 4271, section 9.1.1): loops, next hops that cannot be, the
//! guard, the import filter. What is refused stays in the adjacency, with the reason.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use super::peer::{Hops, Kind, Peer, Session};
use super::{Identity, PeerId};
use crate::path::{Asn, Attributes, Community, NextHop};
use crate::policy::{Breach, Guard, Rejected};

/// Why a route does not take part in the decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Loopback, multicast, link-local and reserved destinations.
    #[error("nothing is routed to such a prefix: it is loopback, link-local, multicast or reserved")]
    NotUnicast,
    /// RFC 4271, section 6.3.
    #[error("the AS path of a route of AS {expected} must begin with it")]
    FirstAs {
        /// The peer's.
        expected: Asn,
    },
    /// RFC 4271, section 9.1.2.
    #[error("the AS path has our own AS {0} in it: a loop")]
    AsLoop(Asn),
    /// RFC 4456, section 8: it began here.
    #[error("the originator is this speaker: a loop of reflectors")]
    OriginatorLoop,
    /// RFC 4456, section 8: it was here.
    #[error("the cluster list has our own cluster in it: a loop of reflectors")]
    ClusterLoop,
    /// RFC 4271, section 6.3.
    #[error("the next hop {0} is our own address")]
    OwnNextHop(IpAddr),
    /// RFC 4271, section 6.3.
    #[error("the next hop {0} is not on a link that is shared with the peer")]
    NextHopElsewhere(IpAddr),
    /// RFC 8212.
    #[error("an external peer without a policy: nothing is taken of it")]
    NoPolicy,
    /// See [`Guard`].
    #[error(transparent)]
    Guard(#[from] Breach),
    /// By the import filter.
    #[error("the import filter rejects it {0}")]
    Filter(Rejected),
}

/// What it takes to judge the routes of a peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Import<'a> {
    pub identity: &'a Identity,
    pub guard: &'a Guard,
    pub peer: &'a Peer,
    pub session: &'a Session,
}

impl Import<'_> {
    /// What the decision process gets, the attributes borrowed where they are as they came.
    pub fn judge<'r>(
        self,
        prefix: IpNetwork,
        received: &'r Attributes,
        next_hop: NextHop,
    ) -> Result<Cow<'r, Attributes>, Refused> {
        if !is_unicast(prefix) {
            return Err(Refused::NotUnicast);
        }
        self.check_loops(received)?;
        self.check_next_hop(next_hop.address)?;
        if let Some(breach) = self.guard.breach(prefix, [next_hop.address, self.peer.address]) {
            return Err(breach.into());
        }
        let external = self.peer.kind.is_external();
        let mut attributes = Cow::Borrowed(received);
        if external && (received.local_pref.is_some() || received.originator.is_some() || !received.clusters.is_empty())
        {
            let attributes = attributes.to_mut();
            (attributes.local_pref, attributes.originator) = (None, None);
            attributes.clusters.clear();
        }
        let mut attributes = match &self.peer.policy {
            None if external => return Err(Refused::NoPolicy),
            None => attributes,
            Some(policy) => {
                let prepended = external.then_some(self.session.asn);
                policy.import.apply(prefix, attributes, prepended).map_err(Refused::Filter)?
            }
        };
        // After the filter: whoever wants otherwise takes the community away (RFC 8326, section 4).
        if external && attributes.communities.contains(&Community::GRACEFUL_SHUTDOWN) {
            attributes.to_mut().local_pref = Some(0);
        }
        Ok(attributes)
    }

    fn check_loops(self, received: &Attributes) -> Result<(), Refused> {
        if self.peer.kind.is_external() {
            let expected = self.session.asn;
            if received.as_path.first() != Some(expected) {
                return Err(Refused::FirstAs { expected });
            }
        } else if received.originator == Some(self.identity.router_id) {
            return Err(Refused::OriginatorLoop);
        } else if received.clusters.contains(&self.identity.cluster()) {
            return Err(Refused::ClusterLoop);
        }
        let own = [self.identity.asn, self.peer.local_as];
        match received.as_path.systems().find(|system| own.contains(system)) {
            Some(system) => Err(Refused::AsLoop(system)),
            None => Ok(()),
        }
    }

    fn check_next_hop(self, address: IpAddr) -> Result<(), Refused> {
        let Session { own, links, .. } = self.session;
        if own.has(address) {
            return Err(Refused::OwnNextHop(address));
        }
        let near = links.is_empty()
            || self.peer.kind != Kind::External(Hops::Single)
            || address == self.peer.address
            || is_link_local(address)
            || links.iter().any(|link| link.contains(address));
        if near { Ok(()) } else { Err(Refused::NextHopElsewhere(address)) }
    }
}

/// Whether an address counts on its link only.
pub(super) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// Whether packets are routed there. A default route and other short prefixes are, although they cover what is not.
fn is_unicast(prefix: IpNetwork) -> bool {
    match prefix {
        IpNetwork::V4(prefix) if prefix.prefix() >= 4 => {
            let first = prefix.network().octets()[0];
            !(first == 0 && prefix.prefix() >= 8 || first == 127 || first >= 224 || prefix.network().is_link_local())
        }
        IpNetwork::V6(prefix) if prefix.prefix() >= 8 => {
            let address = prefix.network();
            !(address.is_multicast()
                || address.is_unicast_link_local()
                || prefix.prefix() == 128 && (address.is_loopback() || address.is_unspecified()))
        }
        _ => true,
    }
}

/// A route as a peer sent it, and what was made of it.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub source: super::Source,
    pub path: crate::path::PathId,
    /// What peers that take several paths know it by. It stays the same as long as the route is there.
    pub id: u32,
    pub received: Arc<Attributes>,
    /// None for what is originated here.
    pub next_hop: Option<NextHop>,
    pub accepted: Result<Arc<Attributes>, Refused>,
    /// Of a session that is gone.
    pub stale: bool,
    /// 1 for the best one, more for those beside it, 0 for others.
    pub rank: u8,
}

impl Candidate {
    pub fn is_of(&self, id: PeerId) -> bool {
        self.source == super::Source::Peer(id)
    }
}
