//! The frame of the back ends.
//!
//! A back end is two pure functions of one peer and this node's [`Site`]: what must stand to [receive](Backend::receive) from it, and
//! how to [send](Backend::send) to it; and what [stands](Backend::stand) whoever is there. There are two of them,
//! [tunnel](crate::vxlan) and [plain routes](crate::native), and what the configuration calls a back end says which [`Way`] leads to
//! which node. Under `bgp` their routes are for what was not learned ([`crate::learned`]).
//!
//! The functions are apart since nodes are switched one after another: every node must receive whatever any node still
//! sends, and what it sends by is a choice of its own. `receive` gives all that stands whether or not anybody sends
//! (neighbours, FDB entries), `send` gives routes, so that changing how a node sends moves routes and nothing else.
//!
//! What is not the back end's own business is done before it is asked: the [`Roll`] holds only what may be believed of the
//! records. The firewall is made from what `stand` wants ([`crate::firewall`]), the unreachable routes and the pods are
//! the node's ([`crate::node`]), and [`crate::Reckoning`] keeps the sum.

mod claims;
mod peer;
mod ranges;
mod roll;
mod site;
mod way;

use std::collections::{BTreeSet, btree_set};
use std::net::IpAddr;

use twill_cluster::View;
use twill_conf::NodeName;
use twill_conf::cluster::Kind;
use twill_linux::IfName;
use twill_linux::state::{FdbEntry, KernelState, Neighbour, Route};

pub use self::peer::Peer;
pub use self::roll::{Roll, Terms};
pub(crate) use self::site::known_ends;
pub use self::site::{Site, uses};
pub use self::way::{VxlanUse, Way};
use crate::Local;
use crate::family::Family;
use crate::native::Native;
use crate::vxlan;

/// A way for packets to reach other nodes.
pub trait Backend {
    /// What stands whoever is there: devices with their addresses and sysctls. `outer`: the families of the headers around what
    /// comes from peers.
    fn stand(&self, site: &Site, local: &Local, outer: &BTreeSet<Family>, problems: &mut Problems) -> KernelState;

    /// Adds what must stand so that this node understands what a peer sends to it, and can address it.
    fn receive(&self, site: &Site, roll: &Roll, peer: &Peer, part: &mut Part);

    /// Adds the routes to a peer's blocks, of those [`Way`]s that are its own.
    fn send(&self, site: &Site, roll: &Roll, peer: &Peer, part: &mut Part);

    /// Reports what no node believes of `peers`, longest registered first, whoever it is that looks. `families`: those that
    /// pools are of.
    fn judge(&self, peers: &[&Peer], families: &BTreeSet<Family>, problems: &mut Problems);

    /// What it puts around a packet, in bytes, between nodes that reach each other in `family`.
    fn overhead(&self, family: Family) -> u32;
}

/// What stands on this node for one peer. No two peers' parts name the same key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// The routes to its blocks.
    pub routes: Vec<Route>,
    /// Its addresses on devices of ours.
    pub neighbours: Vec<Neighbour>,
    /// Where its MACs are.
    pub fdb: Vec<FdbEntry>,
    /// The family of the header around what it sends by a tunnel.
    pub outer: Option<Family>,
    /// Underlay addresses by which pods reach it without a tunnel, with their own source addresses. They are not
    /// masqueraded; a node behind a tunnel is, since its reply would otherwise come back another way.
    pub native: BTreeSet<IpAddr>,
    /// What an operator should know.
    pub problems: Problems,
}

impl Part {
    /// All that any back end wants for a peer: while nodes are switched, more than one of them stands.
    pub(crate) fn new(site: &Site, roll: &Roll, peer: &Peer) -> Self {
        let mut part = Self::default();
        for backend in backends(site) {
            backend.receive(site, roll, peer, &mut part);
            backend.send(site, roll, peer, &mut part);
        }
        part
    }
}

/// All that this node receives and sends by, whatever the configuration names.
pub(crate) fn backends(site: &Site) -> impl Iterator<Item = &dyn Backend> {
    site.tunnel.iter().map(|vxlan| vxlan as &dyn Backend).chain([&Native as &dyn Backend])
}

/// What the view's records contradict each other in, a sentence each, by the same rules as what is programmed, but as no
/// single node sees it: where two nodes are at odds, the older is right. Without what a record merely lacks.
pub fn judge(view: &View) -> Vec<String> {
    let mut problems = Problems::default();
    if let Some(conf) = &view.config {
        let conf = &conf.value;
        let mut roll = Roll::default();
        roll.follow(view, &Terms::new(conf, None));
        roll.problems().for_each(|problem| problems.report(problem));
        let peers = roll.by_seniority();
        let families = Family::ALL.into_iter().filter(|family| uses(conf, *family)).collect();
        match &conf.backend.kind {
            Kind::Vxlan(vxlan) => vxlan.judge(&peers, &families, &mut problems),
            Kind::HostGw => Native.judge(&peers, &families, &mut problems),
            // Whether a route leads to a node is not to be seen from records.
            Kind::Bgp => {}
        }
    }
    problems.into_iter().collect()
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

    pub(crate) fn iter(&self) -> impl Iterator<Item = &String> {
        self.0.iter()
    }
}

impl IntoIterator for Problems {
    type Item = String;
    type IntoIter = btree_set::IntoIter<String>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
