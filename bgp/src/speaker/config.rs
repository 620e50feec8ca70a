//! What is configured of a speaker and its peers, checked when it is made, and what of a change needs a new session.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;

use crate::path::{Asn, Family, PeerAs, PerFamily};
use crate::rib::{Identity, Multipath, Own, Peer};
use crate::wire::AddPath;

/// The longest restart that an OPEN can announce: twelve bits of seconds (RFC 4724, section 3).
const MOST_RESTART: Duration = Duration::from_secs(4095);

/// A speaker's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub(super) identity: Identity,
    pub(super) multipath: Multipath,
    pub(super) restart: Option<GracefulRestart>,
    pub(super) peers: BTreeMap<IpAddr, PeerConfig>,
}

/// Our own restarts (RFC 4724). A speaker that has none does not keep the routes of restarting peers either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GracefulRestart {
    /// How long peers are asked to wait for us, and how long after a restart we wait for their sessions.
    pub time: Duration,
    /// How long we wait after a restart until they have said all (the Selection_Deferral_Timer).
    pub deferral: Duration,
}

impl Default for GracefulRestart {
    /// Two minutes for the return, six for the routes: as other speakers have it.
    fn default() -> Self {
        Self { time: Duration::from_mins(2), deferral: Duration::from_mins(6) }
    }
}

/// What is configured of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerConfig {
    /// What it is to us, and what is taken of it and given to it.
    pub peer: Peer,
    /// What is offered to it.
    pub offer: Offer,
    /// How it is reached.
    pub endpoint: Endpoint,
    /// Our end.
    pub place: Place,
    /// Seconds without a message after which it is gone: 0, for never, or at least 3.
    pub hold_time: u16,
    /// How long a connection is tried, and how long after a failure it is tried again (ConnectRetryTime, RFC 4271, section 8), but for
    /// jitter. More than zero.
    pub connect_retry: Duration,
    /// It makes the connections.
    pub passive: bool,
    /// Somebody wants no session, and perhaps says why (RFC 9003).
    pub shutdown: Option<String>,
}

/// What an OPEN offers, beside what it always does: AS numbers of four bytes, route refresh, graceful restart where configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The families, in the order in which they are named.
    pub families: Vec<Family>,
    /// Path identifiers (RFC 7911).
    pub add_path: PerFamily<AddPath>,
    /// IPv4 routes with IPv6 next hops (RFC 8950).
    pub extended_next_hop: bool,
}

/// How the transport reaches a peer. The speaker only looks whether it has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The peer's address.
    pub address: IpAddr,
    /// Its TCP port.
    pub port: u16,
    /// The own address. None: the kernel chooses.
    pub source: Option<IpAddr>,
    /// The TTL of what is sent. None: the kernel's.
    pub ttl: Option<u8>,
    /// What arrives must have this TTL at least (GTSM, RFC 5082): 255 from a shared link.
    pub least_ttl: Option<u8>,
    /// For TCP-MD5 (RFC 2385).
    pub password: Option<Password>,
}

/// A password, which nothing prints.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Vec<u8>);

impl Password {
    /// The most bytes that the kernel takes.
    pub const MOST: usize = 80;

    /// # Errors
    /// [`Invalid::Password`] for one that TCP-MD5 cannot have.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, Invalid> {
        let bytes = bytes.into();
        match bytes.len() {
            1..=Self::MOST => Ok(Self(bytes)),
            length => Err(Invalid::Password { length }),
        }
    }

    /// For the socket.
    #[must_use]
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// Where we are for a peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Our next hops for it. Of its address's family it is our end of the connection where nothing is said.
    pub own: Own,
    /// The subnets of the link that we share with it. None where it is not on a link of ours.
    pub links: Vec<IpNetwork>,
}

/// What a configuration cannot say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Two sessions between the same ends.
    #[error("peer {0} is there twice")]
    Twice(IpAddr),
    /// The two places for the address differ.
    #[error("peer {peer} would be reached at {endpoint}: the address of peer and endpoint must be one")]
    Address {
        /// The peer's.
        peer: IpAddr,
        /// Where it would be reached.
        endpoint: IpAddr,
    },
    /// RFC 4271, section 4.2.
    #[error("hold time {value} of peer {peer} must be 0 or at least 3")]
    HoldTime {
        /// Whose.
        peer: IpAddr,
        /// As given.
        value: u16,
    },
    /// It would be called without a pause.
    #[error("connect retry time {value:?} of peer {peer} must be more than zero: a second or more")]
    ConnectRetry {
        /// Whose.
        peer: IpAddr,
        /// As given.
        value: Duration,
    },
    /// The kind says the one, the numbers the other.
    #[error("peer {peer} of {asn} is configured as {kind}, and our AS is {local_as}")]
    Kind {
        /// Whose.
        peer: IpAddr,
        /// Its AS.
        asn: PeerAs,
        /// Ours, as it sees it.
        local_as: Asn,
        /// `internal` or `external`.
        kind: &'static str,
    },
    /// Nothing to speak of.
    #[error("peer {0} has no address family: name ipv4, ipv6 or both")]
    NoFamily(IpAddr),
    /// RFC 4724, section 3.
    #[error("a restart time of {0:?} must be at most {MOST_RESTART:?}")]
    Restart(Duration),
    /// Of no length that TCP-MD5 has.
    #[error("a password of {length} bytes must have from 1 to {}", Password::MOST)]
    Password {
        /// As given.
        length: usize,
    },
}

impl Config {
    /// A speaker's configuration.
    ///
    /// # Errors
    /// [`Invalid`]: what of it cannot be.
    pub fn new(
        identity: Identity,
        multipath: Multipath,
        restart: Option<GracefulRestart>,
        peers: impl IntoIterator<Item = PeerConfig>,
    ) -> Result<Self, Invalid> {
        if let Some(GracefulRestart { time, .. }) = restart.filter(|restart| restart.time > MOST_RESTART) {
            return Err(Invalid::Restart(time));
        }
        let mut map = BTreeMap::new();
        for config in peers {
            config.check()?;
            let address = config.peer.address;
            if map.insert(address, config).is_some() {
                return Err(Invalid::Twice(address));
            }
        }
        Ok(Self { identity, multipath, restart, peers: map })
    }

    /// Whether peers are asked to keep our routes over our restart, and how long this waits for them after one.
    #[must_use]
    pub fn graceful_restart(&self) -> Option<GracefulRestart> {
        self.restart
    }

    /// The same speaker, alone.
    #[must_use]
    pub fn without_peers(&self) -> Self {
        Self { peers: BTreeMap::new(), ..self.clone() }
    }

    /// The same, with all sessions stopped, and this to be told as the reason (RFC 9003).
    #[must_use]
    pub fn shut_down(mut self, why: &str) -> Self {
        self.peers.values_mut().for_each(|peer| peer.shutdown = Some(why.to_owned()));
        self
    }

    /// The peers, by address.
    #[must_use]
    pub fn peers(&self) -> &BTreeMap<IpAddr, PeerConfig> {
        &self.peers
    }
}

impl PeerConfig {
    fn check(&self) -> Result<(), Invalid> {
        let Peer { address: peer, asn, local_as, kind, .. } = self.peer;
        if self.endpoint.address != peer {
            return Err(Invalid::Address { peer, endpoint: self.endpoint.address });
        }
        if matches!(self.hold_time, 1 | 2) {
            return Err(Invalid::HoldTime { peer, value: self.hold_time });
        }
        if self.connect_retry.is_zero() {
            return Err(Invalid::ConnectRetry { peer, value: self.connect_retry });
        }
        if kind.is_external() == (asn == PeerAs::Is(local_as)) {
            let kind = if kind.is_external() { "external" } else { "internal" };
            return Err(Invalid::Kind { peer, asn, local_as, kind });
        }
        if self.offer.families.is_empty() { Err(Invalid::NoFamily(peer)) } else { Ok(()) }
    }

    /// Whether a session by the former configuration cannot go on with this one.
    pub(super) fn needs_new_session(&self, former: &Self) -> bool {
        let agreed = |config: &Self| {
            let Peer { kind, asn, local_as, .. } = config.peer;
            (kind, asn, local_as, config.hold_time, config.passive)
        };
        agreed(self) != agreed(former) || self.offer != former.offer || self.endpoint != former.endpoint
    }
}
