//! Where a standing route leads, and where one shall, by the numbers of devices.

use std::fmt;
use std::net::IpAddr;

use netlink_packet_route::route::{RouteAttribute, RouteNextHop, RouteNextHopFlags};

use super::seen::{Parts, gateway};
use crate::IfName;
use crate::state::{Hop, Target};

/// Where a standing route leads: as [`Target`], with the device's number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeenTarget {
    /// Refused with ICMP "unreachable".
    Unreachable,
    /// Straight out of a device.
    Device(u32),
    /// By a gateway behind a device.
    Gateway {
        /// The gateway.
        gateway: IpAddr,
        /// The device's number.
        index: u32,
        /// RTNH_F_ONLINK.
        onlink: bool,
    },
    /// By several gateways of equal weight, in order: that in which the kernel has them means nothing.
    Several(Vec<SeenHop>),
    /// Something that this crate never makes: several ways that differ in weight or do without a gateway, blackhole,
    /// prohibit, throw, a next-hop object, an encapsulation, metrics of its own, a type of service.
    Other {
        /// The gateway, of several the first.
        gateway: Option<IpAddr>,
        /// The device's number, of several the first.
        index: Option<u32>,
        /// RTNH_F_ONLINK, of several that of the first.
        onlink: bool,
    },
}

/// One of a standing route's several ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeenHop {
    /// The gateway.
    pub gateway: IpAddr,
    /// The device's number.
    pub index: u32,
    /// RTNH_F_ONLINK.
    pub onlink: bool,
}

impl SeenTarget {
    /// As what a target will be seen, by the numbers that `find` has for devices. `None` where it has none; it is asked for
    /// all of them.
    pub(crate) fn of(target: &Target, mut find: impl FnMut(IfName) -> Option<u32>) -> Option<Self> {
        match target {
            Target::Unreachable => Some(Self::Unreachable),
            Target::Device(device) => find(*device).map(Self::Device),
            Target::Gateway { gateway, device, onlink } => {
                find(*device).map(|index| Self::Gateway { gateway: *gateway, index, onlink: *onlink })
            }
            Target::Several(hops) => {
                let found: Vec<_> = hops.iter().map(|hop| (hop, find(hop.device))).collect();
                let seen = |(hop, index): (&Hop, Option<u32>)| {
                    Some(SeenHop { gateway: hop.gateway, index: index?, onlink: hop.onlink })
                };
                found.into_iter().map(seen).collect::<Option<_>>().map(Self::several)
            }
        }
    }

    fn several(mut hops: Vec<SeenHop>) -> Self {
        hops.sort_unstable();
        Self::Several(hops)
    }

    /// The number of the device that it leads to, if it is one; of several the first.
    pub fn index(&self) -> Option<u32> {
        self.indices().next()
    }

    /// The numbers of all devices that it is known to lead to.
    pub fn indices(&self) -> impl Iterator<Item = u32> {
        let (one, several) = match self {
            Self::Device(index) | Self::Gateway { index, .. } => (Some(*index), &[][..]),
            Self::Other { index, .. } => (*index, &[][..]),
            Self::Several(hops) => (None, hops.as_slice()),
            Self::Unreachable => (None, &[][..]),
        };
        one.into_iter().chain(several.iter().map(|hop| hop.index))
    }

    /// The number of its device where it has just this one. Of several ways all go with a request that names none.
    pub(super) fn only_index(&self) -> Option<u32> {
        match self {
            Self::Device(index) | Self::Gateway { index, .. } => Some(*index),
            Self::Unreachable | Self::Several(_) | Self::Other { .. } => None,
        }
    }

    /// The gateway, if there is one; of several the first.
    pub fn gateway(&self) -> Option<IpAddr> {
        match self {
            Self::Gateway { gateway, .. } => Some(*gateway),
            Self::Several(hops) => hops.first().map(|hop| hop.gateway),
            Self::Other { gateway, .. } => *gateway,
            Self::Unreachable | Self::Device(_) => None,
        }
    }
}

/// What a unicast route leads to.
pub(super) fn unicast(parts: &Parts, onlink: bool, unusual: bool) -> SeenTarget {
    let (gateway, index, onlink) = match parts.hops.as_slice() {
        [] => (parts.gateway, parts.index, onlink),
        // One way in the shape of several is the same as one way.
        [hop] => (hop.attributes.iter().find_map(gateway), Some(hop.interface_index), is_onlink(hop)),
        [first, ..] => {
            let hops: Option<Vec<_>> = parts.hops.iter().map(seen_hop).collect();
            if let Some(hops) = hops.filter(|_| !unusual) {
                return SeenTarget::several(hops);
            }
            let (gateway, index) = (first.attributes.iter().find_map(gateway), Some(first.interface_index));
            return SeenTarget::Other { gateway, index, onlink: is_onlink(first) };
        }
    };
    match (gateway, index) {
        _ if unusual || parts.hops.iter().any(is_encapsulated) => SeenTarget::Other { gateway, index, onlink },
        (Some(gateway), Some(index)) => SeenTarget::Gateway { gateway, index, onlink },
        (None, Some(index)) => SeenTarget::Device(index),
        (gateway, None) => SeenTarget::Other { gateway, index, onlink },
    }
}

/// A way as this crate makes them. Whether it is dead or its link is down is the link's state and no difference in the route;
/// `hops` is its weight less one.
fn seen_hop(hop: &RouteNextHop) -> Option<SeenHop> {
    let gateway = hop.attributes.iter().find_map(gateway)?;
    let alike = hop.hops == 0 && !is_encapsulated(hop);
    alike.then_some(SeenHop { gateway, index: hop.interface_index, onlink: is_onlink(hop) })
}

fn is_onlink(hop: &RouteNextHop) -> bool {
    hop.flags.contains(RouteNextHopFlags::Onlink)
}

fn is_encapsulated(hop: &RouteNextHop) -> bool {
    hop.attributes.iter().any(|attribute| matches!(attribute, RouteAttribute::Encap(_)))
}

impl fmt::Display for SeenHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nexthop via {} dev #{}", self.gateway, self.index)
    }
}
