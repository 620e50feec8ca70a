//! What shall stand, or what was seen to stand, in one network namespace, as plain ordered values.
//!
//! `fabric` makes a [`KernelState`] from the cluster's view; [`crate::table`] dumps one from the kernel; their difference
//! is what a reconciliation applies. Interfaces are named, not numbered: a number is only known once the device exists.
//! Every value prints as `ip` would show it, for logs and golden files.

mod display;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use imbl::OrdMap;
use ipnetwork::IpNetwork;

use crate::{IfName, MacAddr, nft::Ruleset};

/// The protocol of the cluster's routes (rtm_protocol; 116 is nobody's in /etc/iproute2/rt_protos).
pub const PROTOCOL_CLUSTER: u8 = 116;
/// The protocol of the routes to this node's pods, made by the plugin and repaired by the daemon.
pub const PROTOCOL_POD: u8 = 117;
/// The place of the policy rules in pods: before the main table's, 32766.
pub const PRIORITY_POD: u32 = 7777;
/// The metric of our routes to pods and to other nodes' blocks.
pub const METRIC: u32 = 7777;
/// The metric of the `unreachable` route of a local block, worse than that of a pod's own, which may be as long.
pub const METRIC_BLOCK: u32 = 77_777;
/// The metric of a pool's `unreachable` route, worse than that of any block in it.
pub const METRIC_POOL: u32 = 777_777;

/// Everything of ours in a network namespace.
///
/// What there is of every other node stands in maps that share what they have in common: a copy costs nothing, and two states
/// of which one was made from the other are compared by what differs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KernelState {
    /// Devices that the daemon makes.
    pub links: BTreeMap<IfName, Link>,
    /// Host ends of attached pods, which the plugin makes and removes: kept as they shall be where they stand.
    pub ends: BTreeMap<IfName, HostEnd>,
    /// Whether devices leave the checksums of what they send to the hardware; one that is not named is left as it is.
    pub offloads: BTreeMap<IfName, bool>,
    /// Addresses on those devices: interface, address with prefix length.
    pub addresses: BTreeSet<Address>,
    /// Routes.
    pub routes: OrdMap<RouteKey, Route>,
    /// Permanent neighbours by interface and address.
    pub neighbours: OrdMap<(IfName, IpAddr), Neighbour>,
    /// Static FDB entries by device and MAC.
    pub fdb: OrdMap<(IfName, MacAddr), FdbEntry>,
    /// Sysctls by path below /proc/sys, with '/' between its parts. Of values with '|' between them the first is written where none of them
    /// stands.
    pub sysctls: BTreeMap<String, String>,
    /// Our nftables table; `None` means that none shall stand.
    pub firewall: Option<Ruleset>,
}

/// What of a dump is ours to change and to remove.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ownership {
    /// Devices that we make and unmake whole, whether they shall stand now or not: links, their addresses, neighbours,
    /// FDB entries and sysctls.
    pub devices: BTreeSet<IfName>,
    /// Host ends of attached pods: permanent neighbours and routes of [`PROTOCOL_POD`] on them. Those of an ADD or DEL
    /// in flight are left out, so that nothing of it is touched. A route of that protocol that stands in the place of a
    /// desired one is ours wherever it leads.
    pub pods: BTreeSet<IfName>,
    /// Whose leftover routes of [`PROTOCOL_CLUSTER`] stay.
    pub spared: Spared,
}

/// The families of which it is not known yet whether the routes that stand and are not desired are of use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spared {
    /// IPv4.
    pub ipv4: bool,
    /// IPv6.
    pub ipv6: bool,
}

impl Spared {
    /// Whether a route to this destination is of such a family.
    pub fn has(self, destination: IpNetwork) -> bool {
        if destination.is_ipv4() { self.ipv4 } else { self.ipv6 }
    }

    /// Whether there is any.
    pub fn any(self) -> bool {
        self.ipv4 || self.ipv6
    }
}

/// A device that the daemon makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: IfName,
    /// What it is. A change in it means a new device, but for a VXLAN's `local` within its family.
    pub kind: LinkKind,
    /// Set at creation, and kept.
    pub mac: MacAddr,
    /// In bytes.
    pub mtu: u32,
}

/// Kinds of devices that the daemon makes. All are kept up, with `addrgenmode none`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkKind {
    /// A VXLAN device without learning, DF unset, as drivers/net/vxlan has it.
    Vxlan {
        /// The network identifier.
        vni: u32,
        /// The UDP port, host order.
        port: u16,
        /// The source of what it sends; an address of this machine.
        local: IpAddr,
    },
}

/// The host end of a pod's veth; it is kept up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostEnd {
    /// Its name.
    pub name: IfName,
    /// What the pod takes for its gateway's, by a permanent neighbour.
    pub mac: MacAddr,
    /// In bytes, as the pod's end has it: of two ends the one with the smaller one drops what is longer without a word.
    pub mtu: u32,
}

/// An address on a device of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The device.
    pub device: IfName,
    /// Address with prefix length.
    pub cidr: IpNetwork,
}

/// What the kernel tells routes apart by, as far as ours go: a second route with the same key is refused (NLM_F_EXCL).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteKey {
    /// The destination.
    pub destination: IpNetwork,
    /// The metric.
    pub metric: u32,
}

/// A route in the main table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Destination and metric.
    pub key: RouteKey,
    /// [`PROTOCOL_CLUSTER`] or [`PROTOCOL_POD`].
    pub protocol: u8,
    /// Where to.
    pub target: Target,
    /// The source of the node's own packets along it, where it is not the kernel's choice.
    pub source: Option<IpAddr>,
}

/// Where a route leads. A copy costs nothing, of several ways either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Refused with ICMP "unreachable".
    Unreachable,
    /// Straight out of a device (scope link).
    Device(IfName),
    /// By a gateway behind a device.
    Gateway {
        /// The gateway; one of IPv6 may lead to IPv4 too (RFC 8950).
        gateway: IpAddr,
        /// The device.
        device: IfName,
        /// Whether the kernel shall believe that the gateway is on the link (RTNH_F_ONLINK).
        onlink: bool,
    },
    /// By several gateways of equal weight (ECMP): at least two, no two alike, in order. See [`Target::by`].
    Several(Arc<[Hop]>),
}

/// One of several ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hop {
    /// The gateway, as in [`Target::Gateway`].
    pub gateway: IpAddr,
    /// The device.
    pub device: IfName,
    /// RTNH_F_ONLINK.
    pub onlink: bool,
}

/// A permanent neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// The device.
    pub device: IfName,
    /// Its address.
    pub ip: IpAddr,
    /// Its MAC.
    pub mac: MacAddr,
}

/// A static FDB entry of a VXLAN device: frames to `mac` are sent to `remote`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FdbEntry {
    /// The VXLAN device.
    pub device: IfName,
    /// The other side's VTEP.
    pub mac: MacAddr,
    /// The other side's underlay address.
    pub remote: IpAddr,
}

impl Target {
    /// The devices that it leads out of, perhaps one several times.
    pub fn devices(&self) -> impl Iterator<Item = IfName> {
        let (one, several) = match self {
            Self::Unreachable => (None, &[][..]),
            Self::Device(device) | Self::Gateway { device, .. } => (Some(*device), &[][..]),
            Self::Several(hops) => (None, &**hops),
        };
        one.into_iter().chain(several.iter().map(|hop| hop.device))
    }

    /// By these gateways, in whatever order and however often each is named: none leads nowhere, one is a
    /// [`Target::Gateway`]. A gateway of one device that is named both ways is one on the link.
    pub fn by(hops: impl IntoIterator<Item = Hop>) -> Option<Self> {
        let mut hops: Vec<Hop> = hops.into_iter().collect();
        hops.sort_unstable();
        hops.dedup_by(|next, kept| {
            let same = (next.gateway, next.device) == (kept.gateway, kept.device);
            kept.onlink |= same && next.onlink;
            same
        });
        match hops.as_slice() {
            [] => None,
            [Hop { gateway, device, onlink }] => {
                Some(Self::Gateway { gateway: *gateway, device: *device, onlink: *onlink })
            }
            _ => Some(Self::Several(hops.into())),
        }
    }
}

impl Neighbour {
    /// What it stands under.
    pub fn key(&self) -> (IfName, IpAddr) {
        (self.device, self.ip)
    }
}

impl FdbEntry {
    /// What it stands under.
    pub fn key(&self) -> (IfName, MacAddr) {
        (self.device, self.mac)
    }
}

impl Route {
    /// A state of these routes alone; of those with one key, the last.
    pub fn all(routes: impl IntoIterator<Item = Self>) -> KernelState {
        let routes = routes.into_iter().map(|route| (route.key, route)).collect();
        KernelState { routes, ..KernelState::default() }
    }

    /// Adds itself to `routes` under its key.
    pub fn insert_into(self, routes: &mut OrdMap<RouteKey, Route>) {
        routes.insert(self.key, self);
    }
}

impl KernelState {
    /// Takes in all that `other` wants too. Where both name the same key, `other` wins.
    pub fn merge(&mut self, other: KernelState) {
        self.links.extend(other.links);
        self.ends.extend(other.ends);
        self.offloads.extend(other.offloads);
        self.addresses.extend(other.addresses);
        take_in(&mut self.routes, other.routes);
        take_in(&mut self.neighbours, other.neighbours);
        take_in(&mut self.fdb, other.fdb);
        self.sysctls.extend(other.sysctls);
        self.firewall = other.firewall.or(self.firewall.take());
    }
}

/// As `extend`, but at no cost where there was nothing: one part of a state has thousands of objects of a kind, the others a few.
fn take_in<K: Ord + Clone, V: Clone>(into: &mut OrdMap<K, V>, other: OrdMap<K, V>) {
    if into.is_empty() {
        *into = other;
    } else {
        into.extend(other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_by_gateways_is_the_same_in_any_order_and_one_alone_is_no_several() {
        let hop = |gateway: [u8; 4], onlink| Hop { gateway: gateway.into(), device: name(), onlink };
        let (first, second) = (hop([192, 0, 2, 1], false), hop([192, 0, 2, 2], false));
        assert_eq!(Target::by([]), None);
        let one = Target::Gateway { gateway: first.gateway, device: first.device, onlink: false };
        assert_eq!(Target::by([first, first]), Some(one));
        assert_eq!(Target::by([second, first, second]), Some(Target::Several([first, second].into())));
        let told = Hop { onlink: true, ..first };
        assert_eq!(Target::by([first, second, told]), Some(Target::Several([told, second].into())));
    }

    fn name() -> IfName {
        IfName::new("eth0").unwrap()
    }
}
