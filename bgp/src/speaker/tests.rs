//! Speakers in a simulated network: what they tell each other, and what is left in the kernels.

mod alone;
mod changes;
mod collision;
mod faults;
mod mesh;
mod orders;
mod restarts;
mod systems;

use std::sync::Arc;

use super::*;
use crate::path::{Asn, Attributes, Origin, PeerAs};
use crate::rib::{Hops, Kind, Maximum};
use crate::session::Reason;
use crate::simulation::{Network, address, block, config, config_in, external, internal};
use crate::wire::ErrorCode;

/// Longer than any first connection takes.
pub(super) const SOON: Duration = Duration::from_secs(30);

pub(super) fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

pub(super) fn igp() -> Attributes {
    Attributes::new(Origin::Igp)
}

pub(super) fn originate(network: &mut Network, node: usize, prefix: &str) {
    network.step(node, Input::Originate(net(prefix), igp()));
}

/// Lets all come to rest for a while.
pub(super) fn pass(network: &mut Network, time: Duration) {
    network.run(time, |_| false);
}

/// A mesh that is up and at rest.
pub(super) fn mesh(count: usize) -> Network {
    let mut network = Network::mesh(count, 1);
    assert!(network.run(SOON, |network| network.established() == count * (count - 1)));
    network
}

/// Two systems, 65000 and 65001, with a session that is up.
pub(super) fn systems() -> Network {
    let mut network = Network::new(2, 1);
    for node in [0, 1] {
        network.start(node, system(node), Begin::Cold);
    }
    assert!(network.run(SOON, |network| network.established() == 2));
    network
}

pub(super) fn asn(node: usize) -> Asn {
    Asn(65000 + u32::try_from(node).unwrap())
}

/// The configuration of one of [`systems`].
pub(super) fn system(node: usize) -> Config {
    config_in(node, asn(node), [external(1 - node, asn(1 - node), asn(node))])
}

pub(super) fn speaker(network: &Network, node: usize) -> &Speaker {
    network.nodes[node].speaker.as_ref().expect("it runs")
}

/// How a peer of a node stands.
pub(super) fn peer(network: &Network, node: usize, other: usize) -> PeerReport {
    let peers = speaker(network, node).peers();
    peers.into_iter().find(|peer| peer.address == address(other)).expect("it is configured")
}

/// The next hops that a node's kernel has for a prefix.
pub(super) fn hops(network: &Network, node: usize, prefix: IpNetwork) -> Vec<IpAddr> {
    let route = network.nodes[node].kernel.get(&prefix);
    route.map(|route| route.next_hops.iter().map(|hop| hop.address).collect()).unwrap_or_default()
}

/// How often sessions of a node went down.
pub(super) fn downs(network: &Network, node: usize) -> usize {
    network.nodes[node].log.iter().filter(|(_, _, event)| matches!(event, Event::Down { .. })).count()
}

/// Why a node's session with another last ended.
pub(super) fn last_error(network: &Network, node: usize, other: usize) -> String {
    peer(network, node, other).last_error.map(|(_, reason)| reason.to_string()).unwrap_or_default()
}
