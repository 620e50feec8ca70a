//! The frame of the back ends.
//!
//! A back end is two pure functions of the cluster: what this node must be able to [receive](Backend::receive), and how it
//! [sends](Backend::send). There are two of them, [tunnel](crate::vxlan) and [plain routes](crate::native), and what the
//! configuration calls a back end says which [`Way`] leads to which node.
//!
//! The functions are apart since nodes are switched one after another: every node must receive whatever any node still
//! sends, and what it sends by is a choice of its own. `receive` gives all that stands whether or not anybody sends
//! (devices, their addresses, neighbours, FDB entries), `send` gives routes, so that changing how a node sends moves routes
//! and nothing else.
//!
//! What is not the back end's own business is done before it is asked: [`Cluster`] holds only what may be believed of the
//! records. The firewall is made from what `receive` wants ([`crate::firewall`]), the unreachable routes and the pods are
//! the node's ([`crate::node`]).

pub mod cluster;
mod ranges;
mod way;

use std::collections::{BTreeSet, btree_set};
use std::net::IpAddr;

use twill_conf::NodeName;
use twill_conf::cluster::{ClusterConf, Kind};
use twill_linux::IfName;
use twill_linux::state::KernelState;

pub use self::cluster::{Cluster, Peer};
pub use self::way::{VxlanUse, Way};
use crate::family::Family;
use crate::native::Native;
use crate::vxlan;

/// A way for packets to reach other nodes.
pub trait Backend {
    /// What must stand so that this node understands what others send to it, and can address them.
    fn receive(&self, cluster: &Cluster<'_>, problems: &mut Problems) -> KernelState;

    /// The routes to other nodes' blocks, of those [`Way`]s that are its own.
    fn send(&self, cluster: &Cluster<'_>, problems: &mut Problems) -> Sending;

    /// Reports what no node believes of `peers`, longest registered first, whoever it is that looks. `families`: those that
    /// pools are of.
    fn judge(&self, peers: &[Peer<'_>], families: &BTreeSet<Family>, problems: &mut Problems);

    /// What it puts around a packet, in bytes, between nodes that reach each other in `family`.
    fn overhead(&self, family: Family) -> u32;
}

/// How this node sends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sending {
    /// The routes.
    pub state: KernelState,
    /// Underlay addresses of nodes that pods reach without a tunnel, by their own source addresses. They are not
    /// masqueraded; a node behind a tunnel is, since its reply would otherwise come back another way.
    pub native: BTreeSet<IpAddr>,
}

/// All that this node receives and sends by, whatever the configuration names: while nodes are switched, more than one back end
/// stands.
pub fn sum(cluster: &Cluster<'_>, problems: &mut Problems) -> (KernelState, Sending) {
    let (mut receive, mut sending) = (KernelState::default(), Sending::default());
    let tunnel = cluster.tunnel();
    let backends = tunnel.iter().map(|vxlan| vxlan as &dyn Backend).chain([&Native as &dyn Backend]);
    for backend in backends {
        receive.merge(backend.receive(cluster, problems));
        let Sending { state, native } = backend.send(cluster, problems);
        sending.state.merge(state);
        sending.native.extend(native);
    }
    (receive, sending)
}

/// Reports what no node believes of `peers`, longest registered first.
fn judge(conf: &ClusterConf, peers: &[Peer<'_>], problems: &mut Problems) {
    let families = Family::ALL.into_iter().filter(|family| cluster::uses(conf, *family)).collect();
    match &conf.backend.kind {
        Kind::Vxlan(vxlan) => vxlan.judge(peers, &families, problems),
        Kind::HostGw => Native.judge(peers, &families, problems),
    }
}

/// The devices that any back end makes: those of the back ends that are not in use are ours to remove.
pub fn devices() -> BTreeSet<IfName> {
    vxlan::devices().into()
}

/// How many nodes are named in a sentence.
const NAMED: usize = 5;

/// The first of some nodes by name, and how many more there are.
pub(crate) fn some_of<'n>(nodes: impl ExactSizeIterator<Item = &'n NodeName>) -> String {
    let more = nodes.len().saturating_sub(NAMED);
    let named = nodes.take(NAMED).map(NodeName::as_str).collect::<Vec<_>>().join(", ");
    if more == 0 { named } else { format!("{named} and {more} more") }
}

/// What an operator should know, a sentence each, said once, and in an order that depends on nothing but the sentences.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(BTreeSet<String>);

impl Problems {
    /// Adds a sentence.
    pub fn report(&mut self, sentence: String) {
        self.0.insert(sentence);
    }
}

impl IntoIterator for Problems {
    type Item = String;
    type IntoIter = btree_set::IntoIter<String>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
