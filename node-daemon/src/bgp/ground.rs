//! The ground that BGP stands on: which links the kernel has, with which addresses, and where its own routes lead.
//!
//! Three things are made of it: whether a next hop is reached at all and how far it is ([`Reach`]), by which interface and gateway the
//! kernel would send to it ([`Ground::hop`]), and where we are for a neighbour on a link of ours ([`Ground::place`]). What Twill itself
//! has put into the kernel does not count: a route that was learned must not be the reason for which it is believed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use twill_bgp::prefix::{PrefixMap, host};
use twill_bgp::rib::Reach;
use twill_fabric::backend::devices;
use twill_linux::state::{Hop, PROTOCOL_CLUSTER, PROTOCOL_POD};
use twill_linux::table::route::{self, Filter, SeenRoute, SeenTarget};
use twill_linux::table::{SeenAddress, SeenLink};
use twill_linux::{IfName, Netlink, table};

use crate::underlay::filters_reverse_paths;

/// What stands, as far as BGP needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ground {
    ways: PrefixMap<Way>,
    links: BTreeMap<u32, Link>,
}

/// Where packets to a prefix go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Way {
    metric: u32,
    index: u32,
    /// None: straight out of the interface.
    gateway: Option<IpAddr>,
}

/// An interface that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub device: IfName,
    /// Its addresses of this machine, with their subnets: the global ones, and those of the link.
    pub addresses: Vec<IpNetwork>,
    /// Whether reverse path filtering is in force.
    pub strict: bool,
}

impl Ground {
    /// Looks at the kernel.
    pub fn observe(netlink: &mut Netlink) -> Result<Self, twill_linux::Error> {
        let links = table::links(netlink)?;
        let addresses = table::addresses(netlink)?;
        let mut routes = route::dump(netlink, Filter::default())?;
        routes.extend(route::dump(netlink, Filter { ipv6: true, ..Filter::default() })?);
        Ok(Self::new(&links, &addresses, &routes))
    }

    fn new(links: &[SeenLink], addresses: &[SeenAddress], routes: &[SeenRoute]) -> Self {
        let ours = devices();
        let is_of_use = |link: &&SeenLink| link.up && link.carrier && !ours.contains(&link.name);
        let link = |seen: &SeenLink| {
            let own = addresses.iter().filter(|address| address.index == seen.index && address.usable);
            let addresses = own.map(|address| address.cidr).collect();
            (seen.index, Link { device: seen.name, addresses, strict: filters_reverse_paths(seen.name) })
        };
        // Only what leads somewhere: a node has a link for each of its pods.
        let mut used = BTreeSet::new();
        let mut ways: PrefixMap<Way> = PrefixMap::default();
        let up: BTreeMap<u32, &SeenLink> = links.iter().filter(is_of_use).map(|link| (link.index, link)).collect();
        for route in routes.iter().filter(|route| ![PROTOCOL_CLUSTER, PROTOCOL_POD].contains(&route.protocol)) {
            let Some(way) = way(route).filter(|way| up.contains_key(&way.index)) else { continue };
            used.insert(way.index);
            if ways.get(route.key.destination).is_none_or(|known| way.metric < known.metric) {
                ways.insert(route.key.destination, way);
            }
        }
        let links = used.into_iter().filter_map(|index| up.get(&index).map(|seen| link(seen))).collect();
        Self { ways, links }
    }

    /// What is reached, but for these: neighbours that BFD has lost, on links that still stand.
    pub fn reach(&self, lost: &BTreeSet<IpAddr>) -> Reach {
        let reached = self.ways.iter().map(|(prefix, way)| (prefix, Some(way.metric)));
        reached.chain(lost.iter().map(|address| (host(*address), None))).collect()
    }

    /// How the kernel is to send to a next hop.
    pub fn hop(&self, next_hop: IpAddr) -> Option<Hop> {
        let way = self.way(next_hop)?;
        let device = self.links.get(&way.index)?.device;
        Some(Hop { gateway: way.gateway.unwrap_or(next_hop), device, onlink: false })
    }

    /// The link that we share with a neighbour.
    pub fn shared(&self, neighbour: IpAddr) -> Option<&Link> {
        let way = self.way(neighbour).filter(|way| way.gateway.is_none())?;
        self.links.get(&way.index)
    }

    /// The link that has an address of ours, also where no other address is of its subnet.
    pub fn holding(&self, own: IpAddr) -> Option<&Link> {
        self.links.values().find(|link| link.addresses.iter().any(|address| address.ip() == own))
    }

    /// Whether reverse path filtering is in force on an interface.
    pub fn is_strict(&self, device: IfName) -> bool {
        self.links.values().any(|link| link.device == device && link.strict)
    }

    fn way(&self, address: IpAddr) -> Option<&Way> {
        self.ways.covering(host(address)).next().map(|(_, way)| way)
    }
}

impl Link {
    /// Its global address in the family of `neighbour`: of several the one on the neighbour's subnet.
    pub fn own(&self, neighbour: IpAddr) -> Option<IpAddr> {
        let of_family = || self.global().filter(|own| own.is_ipv4() == neighbour.is_ipv4());
        of_family().find(|own| own.contains(neighbour)).or_else(|| of_family().next()).map(|own| own.ip())
    }

    /// Its global addresses with their subnets.
    pub fn global(&self) -> impl Iterator<Item = IpNetwork> {
        self.addresses.iter().copied().filter(|own| !is_link_local(own.ip()))
    }

    /// Its IPv6 address that is good on the link alone.
    pub fn link_local(&self) -> Option<std::net::Ipv6Addr> {
        self.addresses.iter().find_map(|own| match own.ip() {
            IpAddr::V6(address) if address.is_unicast_link_local() => Some(address),
            _ => None,
        })
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// The first way of a route that leads to a machine; of several ways the kernel's first, since it says no more.
fn way(route: &SeenRoute) -> Option<Way> {
    let metric = route.key.metric;
    match &route.target {
        SeenTarget::Unreachable => None,
        SeenTarget::Device(index) => Some(Way { metric, index: *index, gateway: None }),
        target => Some(Way { metric, index: target.index()?, gateway: Some(target.gateway()?) }),
    }
}

#[cfg(test)]
mod tests {
    use twill_linux::state::RouteKey;

    use super::*;

    const ETH0: u32 = 2;
    const ETH1: u32 = 3;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn link(index: u32, name: &str, carrier: bool) -> SeenLink {
        let name = IfName::new(name).unwrap();
        SeenLink { index, name, kind: None, mac: None, mtu: 1500, up: true, running: carrier, carrier, alias: None }
    }

    fn address(index: u32, cidr: &str) -> SeenAddress {
        SeenAddress { index, cidr: cidr.parse().unwrap(), secondary: false, global: true, usable: true }
    }

    fn route(to: &str, metric: u32, protocol: u8, target: SeenTarget) -> SeenRoute {
        let key = RouteKey { destination: to.parse().unwrap(), metric };
        SeenRoute { key, tos: 0, protocol, target, source: None }
    }

    fn via(gateway: &str, index: u32) -> SeenTarget {
        SeenTarget::Gateway { gateway: ip(gateway), index, onlink: false }
    }

    /// Two links, the second one with or without a carrier, and routes of the machine's own and of ours.
    fn ground(second: bool) -> Ground {
        let links = [link(ETH0, "eth0", true), link(ETH1, "eth1", second), link(9, "tw0000000000001", true)];
        let addresses = ["192.0.2.1/24", "2001:db8::1/64", "fe80::1/64"].map(|cidr| address(ETH0, cidr));
        let far = address(ETH1, "198.51.100.1/24");
        let kernel = 2;
        let routes = [
            route("192.0.2.0/24", 0, kernel, SeenTarget::Device(ETH0)),
            route("2001:db8::/64", 256, kernel, SeenTarget::Device(ETH0)),
            route("198.51.100.0/24", 0, kernel, SeenTarget::Device(ETH1)),
            route("203.0.113.0/24", 20, 4, via("198.51.100.9", ETH1)),
            route("203.0.113.0/24", 30, 4, via("192.0.2.9", ETH0)),
            route("203.0.113.7/32", 5, PROTOCOL_CLUSTER, via("192.0.2.66", ETH0)),
            route("10.42.0.5/32", 5, PROTOCOL_POD, SeenTarget::Device(9)),
        ];
        let addresses: Vec<_> = addresses.into_iter().chain([far]).collect();
        Ground::new(&links, &addresses, &routes)
    }

    fn hop(ground: &Ground, next_hop: &str) -> Option<(IpAddr, String)> {
        ground.hop(ip(next_hop)).map(|hop| (hop.gateway, hop.device.to_string()))
    }

    #[test]
    fn a_next_hop_is_a_neighbour_or_behind_the_gateway_of_the_best_route_and_never_behind_one_of_ours() {
        let ground = ground(true);
        assert_eq!(hop(&ground, "192.0.2.7"), Some((ip("192.0.2.7"), "eth0".to_owned())));
        assert_eq!(hop(&ground, "203.0.113.7"), Some((ip("198.51.100.9"), "eth1".to_owned())));
        assert_eq!((hop(&ground, "10.42.0.5"), hop(&ground, "8.8.8.8")), (None, None));
        let reach = ground.reach(&BTreeSet::new());
        assert_eq!((reach.metric(ip("192.0.2.7")), reach.metric(ip("203.0.113.7"))), (Some(0), Some(20)));
    }

    #[test]
    fn what_has_no_carrier_and_whom_bfd_has_lost_is_not_reached() {
        let ground = ground(false);
        assert_eq!(hop(&ground, "198.51.100.7"), None);
        assert_eq!(hop(&ground, "203.0.113.7"), Some((ip("192.0.2.9"), "eth0".to_owned())), "the other way");
        let reach = ground.reach(&[ip("192.0.2.7")].into());
        assert_eq!((reach.metric(ip("192.0.2.7")), reach.metric(ip("192.0.2.8"))), (None, Some(0)));
    }

    #[test]
    fn where_we_are_for_a_neighbour_is_the_link_that_is_shared() {
        let ground = ground(true);
        let link = ground.shared(ip("192.0.2.7")).unwrap();
        assert_eq!((link.device.to_string(), link.own(ip("192.0.2.7"))), ("eth0".to_owned(), Some(ip("192.0.2.1"))));
        assert_eq!((link.own(ip("2001:db8::7")), link.link_local()), (Some(ip("2001:db8::1")), "fe80::1".parse().ok()));
        assert!(ground.shared(ip("203.0.113.7")).is_none(), "behind a router");
    }
}
