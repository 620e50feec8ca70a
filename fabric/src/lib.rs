//! From the cluster's view to kernel state: pure functions, without I/O, clock or randomness.
//!
//! A back end is two of them: what this node must be able to receive, and how it sends. [`desired`] joins theirs with what
//! every node needs whatever the back end ([`node`]: pods, unreachable routes, sysctls; [`firewall`]), and `twilld` hands the
//! sum to `linux`, whose reconciler is the only one to write. So every back end repairs drift, restarts and is switched
//! alike.

pub mod backend;
pub mod ends;
pub mod family;
pub mod firewall;
pub mod native;
pub mod node;
pub mod path;
pub mod peering;
mod reckoning;
pub mod switch;
mod tally;
pub mod underlay;
pub mod vxlan;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;

use twill_cluster::View;
use twill_cluster::record::{self, Tunnel};
use twill_conf::NodeName;
use twill_conf::cluster::{ClusterConf, Vxlan};
use twill_ipam::Block;
use twill_linux::forward::Passage;
use twill_linux::state::{KernelState, Ownership};
use twill_linux::{IfName, MacAddr};

use crate::backend::{Backend as _, Problems, Site, VxlanUse};
use crate::family::Family;
use crate::native::Native;

pub use crate::backend::judge;
pub use crate::reckoning::Reckoning;
pub use crate::underlay::{Side, Underlay};

/// What holds of this node, observed or stored, beside the view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// Its name.
    pub name: NodeName,
    /// The MAC of its VTEP, derived from its identity.
    pub vtep_mac: MacAddr,
    /// What carries traffic between nodes.
    pub underlay: Underlay,
    /// Its tunnel addresses, once it has blocks.
    pub tunnel: Tunnel,
    /// The blocks in its store, open or closing.
    pub blocks: Vec<Block>,
    /// Its attached pods.
    pub pods: Vec<Pod>,
}

/// An attached pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// The host end of its veth.
    pub host: IfName,
    /// The MAC of the pod's end.
    pub mac: MacAddr,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// It may send by addresses that are not its own, since its network says so.
    pub unchecked: bool,
}

/// What shall stand, what of the rest is ours to remove, and what could not be made of the view.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// What shall stand.
    pub state: KernelState,
    /// What is ours.
    pub ours: Ownership,
    /// What the tables of others are to let through.
    pub passage: Option<Passage>,
    /// What is to be published of VXLAN once it stands.
    pub vxlan: VxlanUse,
    /// What an operator should know, a sentence each: a peer without an address of our family, a garbage record.
    pub problems: Vec<String>,
}

/// Everything that shall stand on this node.
///
/// A view without a configuration names neither pools nor a back end: what leads to the pods stands, the back ends' devices
/// are not ours, and the problem is reported. The caller does not apply that where routes to other nodes may
/// stand already, since their absence from the result would remove them.
pub fn desired(view: &View, local: &Local) -> Desired {
    Reckoning::default().follow(view, local)
}

/// The MTU for new pods' interfaces, in bytes: the underlay's less what the back end puts around a packet, and no more than
/// the configuration allows.
///
/// It is the least over all nodes, as each pair of nodes has its own outer header. It is never less than what IP
/// asks for ([`desired`] reports that); without a configuration it is one that fits every back end.
pub fn pod_mtu(view: &View, local: &NodeName, underlay: &Underlay) -> u32 {
    let Some(conf) = &view.config else {
        let mtu = underlay.sides().map(|side| side.mtu).min().unwrap_or(0);
        return mtu.saturating_sub(UNKNOWN_OVERHEAD).max(IPV6_MIN_MTU);
    };
    let own = view.nodes.get(local).map(|record| &record.value);
    let tunnelled = conf.value.backend.kind.vxlan().is_some() || own.is_some_and(|own| own.vxlan.is_some());
    let families = families(ends(view), &underlay.ends());
    let (mtu, overhead) =
        narrowest(tunnelled, families, underlay).map_or((0, 0), |(side, overhead)| (side.mtu, overhead));
    let most = conf.value.backend.mtu.unwrap_or(u32::MAX);
    mtu_within(&conf.value, mtu, overhead).min(most)
}

/// The MTU of the interface that decides what a tunnel leaves for pods, in bytes: for the node's record.
pub fn underlay_mtu(view: &View, underlay: &Underlay) -> u32 {
    narrowest(true, families(ends(view), &underlay.ends()), underlay).map_or(0, |(side, _)| side.mtu)
}

/// The greatest overhead of any back end.
const UNKNOWN_OVERHEAD: u32 = 70;
/// What every link of IPv6 carries (RFC 8200, section 5).
const IPV6_MIN_MTU: u32 = 1280;
/// What every link of IPv4 carries (RFC 791, section 3.2).
const IPV4_MIN_MTU: u32 = 68;

/// What is left of the underlay's MTU, but no less than the pools' families need: the outer packets are then sent in
/// fragments, which is slow, where the kernel would otherwise turn IPv6 off on the device.
fn mtu_within(conf: &ClusterConf, underlay: u32, overhead: u32) -> u32 {
    let least = if backend::uses(conf, Family::V6) { IPV6_MIN_MTU } else { IPV4_MIN_MTU };
    underlay.saturating_sub(overhead).max(least)
}

/// The side that leaves least for a packet towards nodes that are reached in these families, and the overhead there.
fn narrowest(tunnelled: bool, families: BTreeSet<Family>, underlay: &Underlay) -> Option<(&Side, u32)> {
    let overhead = |family| if tunnelled { Vxlan::default().overhead(family) } else { Native.overhead(family) };
    let common = families.into_iter().filter_map(|family| Some((underlay.side(family)?, overhead(family))));
    // A plain packet goes by the interface of its own family, whatever the nodes have in common.
    let plain = underlay.sides().filter(|_| !tunnelled).map(|side| (side, 0));
    let sides = common.chain(plain);
    sides.min_by_key(|(side, overhead)| side.mtu.saturating_sub(*overhead))
}

/// What a tunnel puts around a packet, at most, towards the nodes that can be reached from these addresses.
fn overhead(view: &View, from: &record::Underlay) -> u32 {
    let families = families(ends(view), from).into_iter();
    families.map(|family| Vxlan::default().overhead(family)).max().unwrap_or(UNKNOWN_OVERHEAD)
}

/// Every node's underlay addresses.
fn ends(view: &View) -> impl Iterator<Item = &record::Underlay> {
    view.nodes.values().map(|node| &node.value.underlay)
}

/// The families in which nodes with these addresses are reached from ours, and the one that is preferred.
fn families<'n>(nodes: impl Iterator<Item = &'n record::Underlay>, ours: &record::Underlay) -> BTreeSet<Family> {
    let peers = nodes.filter_map(|ends| Family::common(ours, ends));
    Family::common(ours, ours).into_iter().chain(peers).collect()
}

/// What an operator should know of packets' sizes on this node.
fn report_mtu(site: &Site, reached: impl Iterator<Item = Family>, problems: &mut Problems) {
    let ours = site.underlay.ends();
    let families = Family::common(&ours, &ours).into_iter().chain(reached).collect();
    let narrowest = narrowest(site.tunnel.is_some(), families, &site.underlay);
    let Some((Side { device, mtu, .. }, overhead)) = narrowest else { return };
    let left = mtu.saturating_sub(overhead);
    if left < IPV6_MIN_MTU && site.uses(Family::V6) {
        problems.report(format!(
            "the MTU of {device} is {mtu}, which leaves {left} bytes for pods: IPv6 needs {IPV6_MIN_MTU}, so full-size \
             packets travel in fragments"
        ));
    }
    if let Some(wanted) = site.conf.backend.mtu.filter(|wanted| *wanted > left) {
        problems.report(format!(
            "the configuration's mtu is {wanted}, and {device} with its MTU of {mtu} leaves {left} bytes for pods: they get \
             these"
        ));
    }
}
