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
pub mod learned;
pub mod mtu;
pub mod native;
pub mod node;
pub mod path;
pub mod peering;
pub mod reach;
mod reckoning;
pub mod switch;
mod tally;
pub mod trace;
pub mod underlay;
pub mod vxlan;

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use twill_cluster::View;
use twill_cluster::record::Tunnel;
use twill_conf::NodeName;
use twill_conf::cluster::ClusterConf;
use twill_ipam::Block;
use twill_linux::forward::Passage;
use twill_linux::state::{KernelState, Ownership};
use twill_linux::{IfName, MacAddr};

use crate::backend::{VxlanUse, uses};
use crate::family::Family;

pub use crate::backend::judge;
pub use crate::learned::{Learned, Spoken};
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
    /// Some host end has no filter of what its pod sends by the addresses of others, or may have none: rules have to look at it.
    pub unfiltered: bool,
    /// The kernel has IPv6: without (`ipv6.disable=1`) it refuses whatever is of that family.
    pub ipv6: bool,
}

impl Local {
    /// A node without blocks and pods.
    pub fn bare(name: NodeName, vtep_mac: MacAddr, underlay: Underlay) -> Self {
        let (tunnel, blocks, pods) = (Tunnel::default(), Vec::new(), Vec::new());
        Self { name, vtep_mac, underlay, tunnel, blocks, pods, unfiltered: true, ipv6: true }
    }

    /// Whether any pool has addresses of this family, and the kernel knows it.
    pub fn uses(&self, conf: &ClusterConf, family: Family) -> bool {
        self.knows(family) && uses(conf, family)
    }

    /// Whether the kernel knows this family.
    pub fn knows(&self, family: Family) -> bool {
        self.ipv6 || family == Family::V4
    }
}

/// An attached pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// The host end of its veth.
    pub host: IfName,
    /// The MAC of the pod's end.
    pub mac: MacAddr,
    /// The MTU of the pod's end, in bytes.
    pub mtu: u32,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// It may send by addresses that are not its own, since its network says so.
    pub unchecked: bool,
    /// Its host end drops what it may not send ([`twill_linux::table::source`]), so that no rule has to.
    pub filtered: bool,
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

impl Desired {
    /// The part of what shall stand that needs neither an underlay nor another node: what leads to the pods of this one and refuses
    /// what leads nowhere, the machine's own settings, and the rules.
    pub fn of_node(&self) -> KernelState {
        let KernelState { ends, routes, neighbours, sysctls, firewall, .. } = &self.state;
        let is_pods = |device: &IfName| self.ours.pods.contains(device);
        let routes = routes.iter().filter(|(_, route)| route.target.devices().all(|device| is_pods(&device)));
        let neighbours = neighbours.iter().filter(|((device, _), _)| is_pods(device));
        // An interface's own settings go and come with it.
        let of_machine = |path: &str| match path.split('/').collect::<Vec<_>>()[..] {
            ["net", _, "conf", device, _] => device == "all" || IfName::new(device).is_some_and(|name| is_pods(&name)),
            _ => true,
        };
        let sysctls = sysctls.iter().filter(|(path, _)| of_machine(path));
        KernelState {
            ends: ends.clone(),
            routes: routes.map(|(key, route)| (*key, route.clone())).collect(),
            neighbours: neighbours.map(|(key, neighbour)| (*key, *neighbour)).collect(),
            sysctls: sysctls.map(|(path, value)| (path.clone(), value.clone())).collect(),
            firewall: firewall.clone(),
            ..KernelState::default()
        }
    }
}

/// Everything that shall stand on this node, where BGP has learned nothing.
///
/// A view without a configuration names neither pools nor a back end: what leads to the pods stands, the back ends' devices
/// are not ours, and the problem is reported. The caller does not apply that where routes to other nodes may
/// stand already, since their absence from the result would remove them.
pub fn desired(view: &View, local: &Local) -> Desired {
    Reckoning::default().follow(view, local, &Learned::default())
}
