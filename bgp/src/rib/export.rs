//! What a peer is told of a route that is used (RFC 4271, sections 5.1 and 9.2; RFC 4456, section 8).
//!
//! A pure function of the route, whom it is from, and whom it is for. What was sent before plays no part: that is `out`'s.

use std::borrow::Cow;

use ipnetwork::IpNetwork;

use super::decision::DEFAULT_LOCAL_PREF;
use super::import::{Candidate, is_link_local};
use super::peer::{Hops, Kind, Known, NextHopRule, Session, Terms};
use super::{Identity, Source};
use crate::path::{Attributes, Community, Family, NextHop, Segment};
use crate::policy::Rejected;
use crate::prefix::family;

/// Why a route that is used is not told to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Withheld {
    /// No session, or one without this family.
    #[error("there is no session that speaks this family")]
    NoSession,
    /// It came from there.
    #[error("the peer itself announced it")]
    Origin,
    /// RFC 4271, section 9.2, and RFC 4456, section 6.
    #[error("what an internal peer said is not passed on to another, unless one of them is a client")]
    SplitHorizon,
    /// RFC 1997.
    #[error("its community {0} keeps it here")]
    Community(Community),
    /// RFC 8212.
    #[error("an external peer without a policy: nothing is sent to it")]
    NoPolicy,
    /// By the export filter.
    #[error("the export filter rejects it {0}")]
    Filter(Rejected),
    /// RFC 4271, section 5.1.3.
    #[error("its next hop is the peer itself")]
    NextHopIsPeer,
    /// We have no address that the peer could use.
    #[error("there is no next hop for it: this node has no global address there of a family that the peer understands")]
    NoNextHop,
}

/// A way from a route to a peer.
pub(super) struct Export<'a> {
    pub identity: &'a Identity,
    pub to: &'a Known,
    /// Who announced it. None: it is local.
    pub from: Option<&'a Known>,
}

impl Export<'_> {
    /// What the peer is told.
    pub fn tell(&self, prefix: IpNetwork, route: &Candidate) -> Result<(Attributes, NextHop), Withheld> {
        let Ok(attributes) = &route.accepted else { return Err(Withheld::Origin) };
        let terms = self.to.terms(family(prefix)).ok_or(Withheld::NoSession)?;
        let session = self.to.session.as_ref().ok_or(Withheld::NoSession)?;
        self.check_spread(attributes, session)?;
        let next_hop = self.next_hop(family(prefix), terms, session, route.next_hop)?;
        let external = self.to.peer.kind.is_external();
        let told = Cow::Owned(if external { self.outside(attributes) } else { self.inside(attributes) });
        let mut told = match &self.to.peer.policy {
            None if external => return Err(Withheld::NoPolicy),
            None => told,
            Some(policy) => {
                let prepended = external.then_some(self.to.peer.local_as);
                policy.export.apply(prefix, told, prepended).map_err(Withheld::Filter)?
            }
        }
        .into_owned();
        if external {
            told.as_path.prepend(self.to.peer.local_as, 1);
            told.local_pref = None;
        }
        if route.source != Source::Local {
            told.unknown.iter_mut().for_each(|attribute| attribute.partial = true);
        }
        Ok((told, next_hop))
    }

    fn check_spread(&self, attributes: &Attributes, session: &Session) -> Result<(), Withheld> {
        let to = self.to.peer.kind;
        if let Some(from) = self.from {
            // Neither to whom it came from, nor to who began it: both would take it for a loop.
            if std::ptr::eq(from, self.to) || !to.is_external() && attributes.originator == Some(session.router_id) {
                return Err(Withheld::Origin);
            }
            if from.peer.kind == Kind::Internal && to == Kind::Internal {
                return Err(Withheld::SplitHorizon);
            }
        }
        let outside: &[Community] = &[Community::NO_EXPORT, Community::NO_EXPORT_SUBCONFED];
        let kept = attributes.communities.iter().find(|community| {
            **community == Community::NO_ADVERTISE || to.is_external() && outside.contains(community)
        });
        kept.map_or(Ok(()), |community| Err(Withheld::Community(*community)))
    }

    /// To an external peer: what is said inside the AS only stays there, and no MED of a system is passed to another.
    fn outside(&self, attributes: &Attributes) -> Attributes {
        let mut told = attributes.clone();
        (told.local_pref, told.originator) = (None, None);
        told.clusters.clear();
        told.as_path.0.retain(|segment| matches!(segment, Segment::Sequence(_) | Segment::Set(_)));
        if told.as_path.length() > 0 {
            told.med = None;
        }
        told
    }

    /// To an internal peer: with a preference always, and with the traces of reflection where the route is an internal peer's.
    fn inside(&self, attributes: &Attributes) -> Attributes {
        let mut told = attributes.clone();
        told.local_pref = Some(told.local_pref.unwrap_or(DEFAULT_LOCAL_PREF));
        if let Some(from) = self.from.filter(|from| !from.peer.kind.is_external()) {
            told.originator = told.originator.or(from.session.as_ref().map(|session| session.router_id));
            told.clusters.insert(0, self.identity.cluster());
        }
        told
    }

    fn next_hop(
        &self,
        family: Family,
        terms: Terms,
        session: &Session,
        learned: Option<NextHop>,
    ) -> Result<NextHop, Withheld> {
        let peer = &self.to.peer;
        let own = session.own.next_hop(family, terms.extended_next_hop).ok_or(Withheld::NoNextHop);
        let Some(learned) = learned else { return own };
        let from_outside = self.from.is_some_and(|from| from.peer.kind.is_external());
        let on_link = session.links.iter().any(|link| link.contains(learned.address));
        let keep = match peer.kind {
            // A third party on the link that we share: packets need no detour through us (RFC 4271, section 5.1.3).
            Kind::External(Hops::Single) => on_link && learned.address != peer.address,
            Kind::External(Hops::Multiple) => false,
            Kind::Internal | Kind::Client => match peer.next_hop {
                NextHopRule::Unchanged => true,
                NextHopRule::OwnForExternal => !from_outside,
                NextHopRule::Own => false,
            },
        };
        let understood = family == Family::Ipv6 || learned.address.is_ipv4() || terms.extended_next_hop;
        if !keep || !understood || is_link_local(learned.address) {
            return own;
        }
        if learned.address == peer.address {
            return Err(Withheld::NextHopIsPeer);
        }
        Ok(NextHop { link_local: learned.link_local.filter(|_| on_link), ..learned })
    }
}
