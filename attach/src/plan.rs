//! What shall stand in the kernel for one attachment: one veth, the pod's end with its addresses, the host's end a router
//! port. Pure. The daemon repairs the host's end, its routes and neighbours by the same constants
//! ([`twill_linux::state`]), so they must not differ from what `fabric` expects.

use std::net::IpAddr;

use twill_conf::network::Route;
use twill_ipam::KeyHash;
use twill_ipam::alias::Alias;
use twill_linux::table::source::Sources;
use twill_linux::{IfName, MacAddr};

/// The MAC of every host end.
pub const HOST_MAC: MacAddr = MacAddr(twill_ipam::HOST_MAC);

/// The name of the host's end.
pub fn host_ifname(hash: KeyHash) -> IfName {
    IfName::new(&hash.host_ifname()).expect("two letters and 13 hexadecimal digits are a name")
}

/// The sources of a pod with these addresses.
pub fn own_sources(addresses: &[IpAddr]) -> Sources {
    Sources(addresses.iter().copied().collect())
}

/// What shall stand for one attachment.
#[derive(Debug, Clone)]
pub struct Plan {
    /// By which the host's end is named and marked.
    pub hash: KeyHash,
    /// CNI_IFNAME.
    pub ifname: IfName,
    /// The MAC of the pod's end.
    pub mac: MacAddr,
    /// Whether the host's end answers for the gateway. The pod has permanent neighbours and never asks, but for when its
    /// MAC is set again: with that the kernel takes all neighbours from an interface, and a runtime that asks us for a MAC
    /// may ask a later plugin of the chain too.
    pub answers: bool,
    /// In bytes, of both ends: a smaller one on one side only would drop silently.
    pub mtu: u32,
    /// The pod's addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether the pod may send by addresses that are not its own: the alias tells that to a daemon that lost its store.
    pub unchecked: bool,
    /// By which addresses the host's end lets the pod send; `None` where it has no filter of them.
    pub sources: Option<Sources>,
    /// The routes of the configuration, of whatever family; those of a family that the pod does not get are left out.
    pub routes: Vec<Route>,
}

impl Plan {
    /// The host end's alias, from which a lost store is rebuilt.
    pub fn alias(&self) -> Alias {
        let (addresses, filtered) = (self.addresses.clone(), self.sources.is_some());
        Alias { hash: self.hash, addresses, ruled: Vec::new(), unchecked: self.unchecked, filtered }
    }

    /// The routes of the configuration that the pod gets, with their places in it.
    pub fn own_routes(&self) -> impl Iterator<Item = (usize, &Route)> {
        let families = |route: &Route| self.addresses.iter().any(|ip| ip.is_ipv6() == route.destination.is_ipv6());
        self.routes.iter().enumerate().filter(move |(_, route)| families(route))
    }

    /// Whether the default route that the configuration asks for may stand beside another one, now or later: it has a
    /// priority of its own, or is among those that were `taken`.
    pub(crate) fn is_beside(&self, ipv6: bool, taken: &[usize]) -> bool {
        let is_taken = |asked: &Route| taken.iter().any(|place| self.routes[*place] == *asked);
        let own = |asked: &Route| asked.priority.is_some_and(|priority| priority > 0);
        self.asked_default(ipv6).is_some_and(|asked| own(asked) || is_taken(asked))
    }

    /// The default route of the main table that the configuration asks for: it stands in the place of ours.
    pub fn asked_default(&self, ipv6: bool) -> Option<&Route> {
        let asked = |route: &&Route| route.is_default() && route.is_main() && route.destination.is_ipv6() == ipv6;
        self.routes.iter().find(asked)
    }
}
