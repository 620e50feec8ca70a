//! Whom routes come from and go to: what the configuration says of a peer, and what its session has agreed on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use ipnetwork::IpNetwork;

use crate::path::{Asn, Family, NextHop, PeerAs};
use crate::policy::{Invalid, Policy};

/// A peer's number, which the caller gives. It is never used again for another peer while the first has routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u32);

/// Where a route comes from. What is local comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Originated here.
    Local,
    /// Learned of a peer.
    Peer(PeerId),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Peer(PeerId(id)) => write!(f, "peer {id}"),
        }
    }
}

/// What a peer is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Of the same AS. What other internal peers say is not passed on to it.
    Internal,
    /// Of the same AS, and reflected to and from (RFC 4456).
    Client,
    /// Of another AS.
    External(Hops),
}

impl Kind {
    /// Whether it is of another AS.
    #[must_use]
    pub fn is_external(self) -> bool {
        matches!(self, Self::External(_))
    }
}

/// How far an external peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hops {
    /// On a shared link.
    Single,
    /// Behind routers: nothing can be said of the links that its next hops are on.
    Multiple,
}

/// Which next hop an internal peer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextHopRule {
    /// The one that was learned (RFC 4271, section 5.1.3).
    Unchanged,
    /// Our own for what external peers said: internal peers need no route to the links outside.
    OwnForExternal,
    /// Our own for all, for reflected routes too: the traffic then goes through this node.
    Own,
}

/// How many routes of a family a peer may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Maximum {
    routes: u32,
    warn_percent: u8,
}

impl Maximum {
    /// So many routes, with a warning from this share of them on, in percent.
    ///
    /// # Errors
    /// [`Invalid::NoRoutes`] and [`Invalid::Share`].
    pub fn new(routes: u32, warn_percent: u8) -> Result<Self, Invalid> {
        match (routes, warn_percent) {
            (0, _) => Err(Invalid::NoRoutes),
            (_, 1..=100) => Ok(Self { routes, warn_percent }),
            (_, value) => Err(Invalid::Share { value }),
        }
    }

    /// The most that are kept.
    #[must_use]
    pub fn routes(self) -> u32 {
        self.routes
    }

    /// The number from which on there is a warning.
    #[must_use]
    pub fn warning(self) -> u32 {
        let share = u64::from(self.routes) * u64::from(self.warn_percent);
        u32::try_from(share.div_ceil(100)).expect("a share of a number is not above it")
    }
}

/// How long a peer's routes may outlive its session (RFC 4724).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// The most that is waited for its return, whatever it asks for.
    pub restart: Duration,
    /// From its return to the End-of-RIB marker of each family, at most.
    pub stale: Duration,
}

impl Default for Patience {
    /// Two minutes for the return, six for the routes: as other speakers have it.
    fn default() -> Self {
        Self { restart: Duration::from_mins(2), stale: Duration::from_mins(6) }
    }
}

/// What the configuration says of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// What it is to us.
    pub kind: Kind,
    /// Its AS. What counts for its routes is what its session has found ([`Session::asn`]).
    pub asn: PeerAs,
    /// Ours, as it sees it. An external peer finds only this one in paths, not the RIB's.
    pub local_as: Asn,
    /// Its address, the last tie-breaker.
    pub address: IpAddr,
    /// What is taken and given. None: all to internal peers, nothing to external ones (RFC 8212).
    pub policy: Option<Arc<Policy>>,
    /// What internal peers are told.
    pub next_hop: NextHopRule,
    /// The most routes by family; none is no limit.
    pub maximum: BTreeMap<Family, Maximum>,
    /// How long routes outlive the session.
    pub patience: Patience,
}

/// One route for each prefix, or several (RFC 7911).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paths {
    /// The best one.
    One,
    /// As many as are used.
    Several,
}

/// What was agreed on for a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// What it is sent.
    pub send: Paths,
    /// What it sends.
    pub receive: Paths,
    /// Whether IPv4 routes may have an IPv6 next hop (RFC 8950).
    pub extended_next_hop: bool,
}

/// Our own addresses, as this peer can use them for next hops.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Own {
    /// For IPv4 routes.
    pub v4: Option<Ipv4Addr>,
    /// For IPv6 routes, and for IPv4 where RFC 8950 was agreed on and there is no other.
    pub v6: Option<Ipv6Addr>,
    /// Only where the peer is on the same link, and only beside a global one (RFC 2545, section 3).
    pub link_local: Option<Ipv6Addr>,
}

impl Own {
    /// The next hop that says "through me" for a family.
    pub(super) fn next_hop(self, family: Family, extended: bool) -> Option<NextHop> {
        let v6 = self.v6.map(|address| NextHop { address: address.into(), link_local: self.link_local });
        match family {
            Family::Ipv4 => {
                let v4 = self.v4.map(|address| NextHop { address: address.into(), link_local: None });
                v4.or(v6.filter(|_| extended))
            }
            Family::Ipv6 => v6,
        }
    }

    pub(super) fn has(self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.v4 == Some(address),
            IpAddr::V6(address) => self.v6 == Some(address) || self.link_local == Some(address),
        }
    }
}

/// What the peer said of graceful restart in its OPEN (RFC 4724, section 3), where both sides have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    /// How long it asks to be waited for.
    pub time: Duration,
    /// Whether it is just restarting itself (the R bit): its End-of-RIB marker is not waited for before routes are selected.
    pub restarting: bool,
    /// Its families, each with whether its forwarding state has survived (the F bit).
    pub families: BTreeMap<Family, Forwarding>,
}

/// The F bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarding {
    /// Kept: its old routes still lead somewhere.
    Preserved,
    /// Lost.
    Lost,
}

/// What an established session has agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The peer's AS, as its OPEN named it.
    pub asn: Asn,
    /// The peer's BGP identifier.
    pub router_id: Ipv4Addr,
    /// The families that both speak. Routes of others are ignored.
    pub families: BTreeMap<Family, Terms>,
    /// Our end.
    pub own: Own,
    /// The subnets that we share with it. None where it is not on a link of ours.
    pub links: Vec<IpNetwork>,
    /// What it said of graceful restart.
    pub restart: Option<Restart>,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Down {
    /// The connection was lost: the peer may be restarting (RFC 4724, section 4.2).
    Lost,
    /// By a NOTIFICATION of either side, or by the configuration: nothing is kept.
    Closed,
}

/// How the peer's session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// There was none yet since the start.
    Awaited,
    /// Gone, and its routes with it.
    Down,
    /// Gone, its routes kept until then.
    Restarting {
        until: Duration,
    },
    Up,
}

/// What the RIB knows of a peer beside its routes.
#[derive(Debug)]
pub(super) struct Known {
    pub peer: Peer,
    pub state: State,
    /// After our own restart it is waited for, while it has no session.
    pub awaited: bool,
    /// The present session, or the last one while its routes are kept.
    pub session: Option<Session>,
    /// Families with routes of an earlier session, and until when.
    pub stale: BTreeMap<Family, Duration>,
    /// Families whose End-of-RIB marker came in this session.
    pub complete: BTreeSet<Family>,
    pub counts: BTreeMap<Family, Counts>,
    pub out: super::out::Out,
}

/// A peer's routes of one family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub received: u32,
    pub accepted: u32,
    /// Whether the warning has been given since the number last was below.
    pub warned: bool,
}

impl Known {
    pub fn new(peer: Peer) -> Self {
        Self {
            peer,
            state: State::Awaited,
            awaited: true,
            session: None,
            stale: BTreeMap::new(),
            complete: BTreeSet::new(),
            counts: BTreeMap::new(),
            out: super::out::Out::default(),
        }
    }

    /// Its AS: the configured one, or that of its session, or of its last one while its routes are kept. None where that is open.
    pub fn asn(&self) -> Option<Asn> {
        match (self.peer.asn, self.state) {
            (PeerAs::Is(asn), _) => Some(asn),
            (PeerAs::AnyBut(_), State::Up | State::Restarting { .. }) => {
                self.session.as_ref().map(|session| session.asn)
            }
            (PeerAs::AnyBut(_), State::Awaited | State::Down) => None,
        }
    }

    /// What was agreed on for this family in a session that stands.
    pub fn terms(&self, family: Family) -> Option<Terms> {
        let session = self.session.as_ref().filter(|_| self.state == State::Up)?;
        session.families.get(&family).copied()
    }
}
