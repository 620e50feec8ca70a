//! Who the nodes of a simulated network are, and how they are usually configured.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use ipnetwork::IpNetwork;

use super::{Network, NodeId};
use crate::path::{Asn, Attributes, Family, Origin, PeerAs, PerFamily};
use crate::policy::Policy;
use crate::rib::{Hops, Identity, Kind, Multipath, NextHopRule, Own, Patience, Peer, Reach};
use crate::speaker::{Begin, Config, Endpoint, GracefulRestart, Input, Offer, PeerConfig, Place};

impl Network {
    /// A full mesh of internal peers, each with a block of its own. Nothing has happened yet: [`Network::run`].
    #[must_use]
    pub fn mesh(count: usize, seed: u64) -> Self {
        let mut network = Self::new(count, seed);
        for node in 0..count {
            let peers = (0..count).filter(|other| *other != node).map(|other| internal(other, Kind::Internal));
            network.start(node, config(node, peers), Begin::Cold);
            network.step(node, Input::Originate(block(node), Attributes::new(Origin::Igp)));
        }
        network
    }
}

/// All next hops are reached.
pub(super) fn everything() -> Reach {
    let all = ["0.0.0.0/0", "::/0"].map(|prefix| (prefix.parse().expect("a prefix"), Some(0)));
    all.into_iter().collect()
}

fn octets(node: NodeId) -> [u8; 2] {
    u16::try_from(node + 1).expect("fewer nodes than addresses").to_be_bytes()
}

/// A node's address.
#[must_use]
pub fn address(node: NodeId) -> IpAddr {
    let [high, low] = octets(node);
    IpAddr::from([10, 0, high, low])
}

/// A node's block.
#[must_use]
pub fn block(node: NodeId) -> IpNetwork {
    let [high, low] = octets(node);
    IpNetwork::new(IpAddr::from([100, high, low, 0]), 26).expect("a block")
}

/// A node's configuration, in the AS of all, with graceful restart.
///
/// # Panics
/// Where the peers cannot be.
#[must_use]
pub fn config(node: NodeId, peers: impl IntoIterator<Item = PeerConfig>) -> Config {
    config_in(node, Asn(64512), peers)
}

/// The same in an AS of its own.
///
/// # Panics
/// Where the peers cannot be.
#[must_use]
pub fn config_in(node: NodeId, asn: Asn, peers: impl IntoIterator<Item = PeerConfig>) -> Config {
    let [high, low] = octets(node);
    let identity = Identity { asn, router_id: Ipv4Addr::new(10, 0, high, low), cluster: None };
    Config::new(identity, Multipath::default(), Some(GracefulRestart::default()), peers).expect("peers that can be")
}

/// An internal peer.
#[must_use]
pub fn internal(other: NodeId, kind: Kind) -> PeerConfig {
    peer(other, kind, Asn(64512), Asn(64512), None)
}

/// An external peer, with filters that let all through.
#[must_use]
pub fn external(other: NodeId, asn: Asn, local_as: Asn) -> PeerConfig {
    peer(other, Kind::External(Hops::Multiple), asn, local_as, Some(Arc::new(Policy::open())))
}

fn peer(other: NodeId, kind: Kind, asn: Asn, local_as: Asn, policy: Option<Arc<Policy>>) -> PeerConfig {
    let address = address(other);
    PeerConfig {
        peer: Peer {
            kind,
            asn: PeerAs::Is(asn),
            local_as,
            address,
            policy,
            next_hop: NextHopRule::OwnForExternal,
            maximum: BTreeMap::new(),
            patience: Patience::default(),
        },
        offer: Offer { families: Family::ALL.to_vec(), add_path: PerFamily::default(), extended_next_hop: false },
        endpoint: Endpoint { address, port: 179, source: None, ttl: None, least_ttl: None, password: None },
        place: Place { own: Own::default(), links: Vec::new() },
        hold_time: 90,
        connect_retry: Duration::from_secs(5),
        passive: false,
        shutdown: None,
    }
}
