//! The ground that BGP stands on: which links the kernel has, with which addresses, and where its own routes lead.
//!
//! Three things are made of it: whether a next hop is reached at all and how far it is ([`Reach`]), by which interface and gateway the
//! kernel would send to it ([`Ground::hops`]), and which link we share with a neighbour ([`Ground::shared`]). What Twill itself
//! has put into the kernel does not count: a route that was learned must not be the reason for which it is believed.
//!
//! No next hop leads to an address that is good on one link alone: which link is meant, a next hop does not say. Nor to an address of
//! this machine, or of a subnet as a whole: the kernel refuses such a gateway.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv6Network};
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
    /// What the kernel takes for no gateway: addresses of this machine, and those of the IPv4 subnets that it is on.
    refused: BTreeSet<IpAddr>,
}

/// Where packets to a prefix go.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Way {
    metric: u32,
    /// None: they are refused or dropped.
    exits: Vec<Exit>,
}

/// One of the ways of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Exit {
    index: u32,
    /// None: straight out of the interface.
    gateway: Option<IpAddr>,
    /// RTNH_F_ONLINK of the gateway.
    onlink: bool,
}

/// An interface that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub device: IfName,
    /// Its addresses of this machine, with their subnets: the global ones, and those of the link. First those that last, which a
    /// temporary one (IFA_F_SECONDARY) does not, nor perhaps one without a subnet, which may move to another machine.
    pub addresses: Vec<IpNetwork>,
    /// Whether reverse path filtering is in force, strictly or loosely.
    pub filters: bool,
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
        let up: BTreeMap<u32, &SeenLink> = links.iter().filter(is_of_use).map(|link| (link.index, link)).collect();
        let mut ways: PrefixMap<Way> = PrefixMap::default();
        for route in routes.iter().filter(|route| is_foreign(route)) {
            let Some(way) = way(route, |index| up.contains_key(&index)) else { continue };
            if ways.get(route.key.destination).is_none_or(|known| way.metric < known.metric) {
                ways.insert(route.key.destination, way);
            }
        }
        // Only what leads somewhere or says who we are: a node has a link for each of its pods.
        let mut used: BTreeSet<u32> = ways.iter().flat_map(|(_, way)| &way.exits).map(|exit| exit.index).collect();
        let is_named = |address: &&SeenAddress| address.global && !is_link_local(address.cidr.ip());
        used.extend(addresses.iter().filter(is_named).map(|address| address.index));
        let links = used.into_iter().filter_map(|index| Some((index, link(up.get(&index)?, addresses)))).collect();
        let refused = addresses.iter().flat_map(|address| no_gateways(address.cidr)).collect();
        Self { ways, links, refused }
    }

    /// What is reached, but for these: neighbours that BFD has lost, on links that still stand.
    pub fn reach(&self, lost: &BTreeSet<IpAddr>) -> Reach {
        let ways = self.ways.iter().map(|(prefix, way)| (prefix, (!way.exits.is_empty()).then_some(way.metric)));
        let none = self.refused.iter().chain(lost).map(|address| host(*address));
        ways.chain(none.chain([LINK_LOCAL]).map(|prefix| (prefix, None))).collect()
    }

    /// How the kernel is to send to a next hop: by each of these. Nothing where it is not reached.
    pub fn hops(&self, next_hop: IpAddr) -> impl Iterator<Item = Hop> {
        let way = self.way(next_hop).filter(|_| !is_link_local(next_hop) && !self.refused.contains(&next_hop));
        way.map_or(&[][..], |way| &way.exits).iter().filter_map(move |exit| {
            let device = self.links.get(&exit.index)?.device;
            Some(Hop { gateway: exit.gateway.unwrap_or(next_hop), device, onlink: exit.onlink })
        })
    }

    /// The link that we share with a neighbour.
    pub fn shared(&self, neighbour: IpAddr) -> Option<&Link> {
        let exit = self.way(neighbour)?.exits.iter().find(|exit| exit.gateway.is_none())?;
        self.links.get(&exit.index)
    }

    /// The link that has an address of ours, also where no other address is of its subnet.
    pub fn holding(&self, own: IpAddr) -> Option<&Link> {
        self.links.values().find(|link| link.addresses.iter().any(|address| address.ip() == own))
    }

    /// Whether reverse path filtering is in force on an interface.
    pub fn is_filtered(&self, device: IfName) -> bool {
        self.links.values().any(|link| link.device == device && link.filters)
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

    /// Its global address of a family: `preferred` where it has that one, else the one that lasts.
    pub fn address(&self, ipv6: bool, preferred: Option<IpAddr>) -> Option<IpAddr> {
        let of_family = || self.global().map(|own| own.ip()).filter(|own| own.is_ipv6() == ipv6);
        of_family().find(|own| Some(*own) == preferred).or_else(|| of_family().next())
    }

    /// Its global addresses with their subnets.
    pub fn global(&self) -> impl Iterator<Item = IpNetwork> {
        self.addresses.iter().copied().filter(|own| !is_link_local(own.ip()))
    }

    /// Its IPv6 address that is good on the link alone.
    pub fn link_local(&self) -> Option<Ipv6Addr> {
        self.addresses.iter().find_map(|own| match own.ip() {
            IpAddr::V6(address) if address.is_unicast_link_local() => Some(address),
            _ => None,
        })
    }
}

/// A link as it is known of.
fn link(seen: &SeenLink, addresses: &[SeenAddress]) -> Link {
    let own = addresses.iter().filter(|address| address.index == seen.index && address.usable);
    let mut own: Vec<&SeenAddress> = own.collect();
    // The kernel lists IPv6 addresses with the newest first.
    own.sort_by_key(|address| (address.secondary, is_host(address.cidr)));
    let addresses = own.into_iter().map(|address| address.cidr).collect();
    Link { device: seen.name, addresses, filters: filters_reverse_paths(seen.name) }
}

/// What counts on its link only (RFC 4291, section 2.4).
const LINK_LOCAL: IpNetwork =
    IpNetwork::V6(Ipv6Network::new_checked(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10).expect("no more than 128"));

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

fn is_host(cidr: IpNetwork) -> bool {
    cidr.prefix() == if cidr.is_ipv4() { 32 } else { 128 }
}

/// Whether a route is one to go by: not one of ours, and not the one of each link to what is on it alone.
fn is_foreign(route: &SeenRoute) -> bool {
    ![PROTOCOL_CLUSTER, PROTOCOL_POD].contains(&route.protocol) && !is_link_local(route.key.destination.ip())
}

/// Where a route leads by links of which this says that they are up. Nothing where none of its links is.
fn way(route: &SeenRoute, is_up: impl Fn(u32) -> bool) -> Option<Way> {
    let exits = exits(&route.target);
    let refuses = exits.is_empty();
    let exits: Vec<_> = exits.into_iter().filter(|exit| is_up(exit.index)).collect();
    (refuses || !exits.is_empty()).then_some(Way { metric: route.key.metric, exits })
}

/// The ways of a route: none of one that refuses or drops, and of several that are not alike the first.
fn exits(target: &SeenTarget) -> Vec<Exit> {
    match target {
        SeenTarget::Unreachable => Vec::new(),
        SeenTarget::Device(index) => vec![Exit { index: *index, gateway: None, onlink: false }],
        SeenTarget::Gateway { gateway, index, onlink } => {
            vec![Exit { index: *index, gateway: Some(*gateway), onlink: *onlink }]
        }
        SeenTarget::Several(hops) => {
            hops.iter().map(|hop| Exit { index: hop.index, gateway: Some(hop.gateway), onlink: hop.onlink }).collect()
        }
        SeenTarget::Other { gateway, index, onlink } => {
            index.iter().map(|index| Exit { index: *index, gateway: *gateway, onlink: *onlink }).collect()
        }
    }
}

/// What cannot be a gateway because of an address of ours: itself, and of its IPv4 subnet the first and the last address
/// (`fib_add_ifaddr` in net/ipv4/fib_frontend.c). Those of one link alone are none in any case.
fn no_gateways(own: IpNetwork) -> impl Iterator<Item = IpAddr> {
    let ends = match own {
        IpNetwork::V4(own) if own.prefix() < 31 => vec![own.network().into(), own.broadcast().into()],
        _ => Vec::new(),
    };
    let all = ends.into_iter().chain([own.ip()]);
    all.filter(|address| !is_link_local(*address))
}

#[cfg(test)]
mod tests {
    use twill_linux::state::RouteKey;
    use twill_linux::table::route::SeenHop;

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
        SeenAddress::plain(index, cidr.parse().unwrap())
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
        ground.hops(ip(next_hop)).map(|hop| (hop.gateway, hop.device.to_string())).next()
    }

    /// Both links with their carriers, with these addresses of the first one and these routes.
    fn other_ground(addresses: &[SeenAddress], routes: &[SeenRoute]) -> Ground {
        Ground::new(&[link(ETH0, "eth0", true), link(ETH1, "eth1", true)], addresses, routes)
    }

    fn metric(ground: &Ground, next_hop: &str) -> Option<u32> {
        ground.reach(&BTreeSet::new()).metric(ip(next_hop))
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

    #[test]
    fn an_address_of_one_link_is_nowhere_since_a_next_hop_does_not_say_on_which() {
        let routes = [
            route("::/0", 1024, 9, via("fe80::9", ETH0)),
            route("fe80::/64", 256, 2, SeenTarget::Device(ETH0)),
            route("fe80::/64", 256, 2, SeenTarget::Device(ETH1)),
        ];
        let ground = other_ground(&[address(ETH0, "fe80::1/64")], &routes);
        assert_eq!((hop(&ground, "fe80::7"), metric(&ground, "fe80::7")), (None, None));
        assert!(ground.shared(ip("fe80::7")).is_none());
        assert_eq!(
            hop(&ground, "2001:db8::7"),
            Some((ip("fe80::9"), "eth0".to_owned())),
            "a gateway of the kernel's may"
        );
    }

    #[test]
    fn a_gateway_that_the_kernel_is_to_believe_in_is_one_of_ours_too() {
        let onlink = SeenTarget::Gateway { gateway: ip("10.0.0.1"), index: ETH0, onlink: true };
        let metrics = SeenTarget::Other { gateway: Some(ip("10.0.0.1")), index: Some(ETH0), onlink: true };
        for target in [onlink, metrics] {
            let routes = [route("0.0.0.0/0", 0, 4, target), route("192.0.2.0/24", 0, 2, SeenTarget::Device(ETH0))];
            let ground = other_ground(&[address(ETH0, "192.0.2.1/32")], &routes);
            let onlink = |next_hop| ground.hops(ip(next_hop)).map(|hop| hop.onlink).collect::<Vec<_>>();
            assert_eq!((onlink("203.0.113.7"), onlink("192.0.2.7")), (vec![true], vec![false]));
        }
    }

    #[test]
    fn a_next_hop_behind_several_ways_is_sent_to_by_all_that_are_up() {
        let by = |gateway: &str, index| SeenHop { gateway: ip(gateway), index, onlink: false };
        let target = SeenTarget::Several(vec![by("192.0.2.9", ETH0), by("198.51.100.9", ETH1)]);
        let routes = [route("0.0.0.0/0", 0, 4, target), route("0.0.0.0/0", 9, 4, via("192.0.2.8", ETH0))];
        let gateways = |second, first| {
            let links = [link(ETH0, "eth0", first), link(ETH1, "eth1", second)];
            let ground = Ground::new(&links, &[], &routes);
            ground.hops(ip("203.0.113.7")).map(|hop| hop.gateway).collect::<Vec<_>>()
        };
        assert_eq!(gateways(true, true), [ip("192.0.2.9"), ip("198.51.100.9")]);
        assert_eq!(gateways(false, true), [ip("192.0.2.9")]);
        assert_eq!(gateways(false, false), [] as [IpAddr; 0]);
    }

    #[test]
    fn what_the_kernel_takes_for_no_gateway_is_no_next_hop() {
        let ground = ground(false);
        for refused in ["192.0.2.1", "192.0.2.0", "192.0.2.255", "2001:db8::1", "198.51.100.1"] {
            assert_eq!((hop(&ground, refused), metric(&ground, refused)), (None, None), "{refused}");
        }
        assert!(hop(&ground, "2001:db8::").is_some(), "IPv6 has no broadcasts");
        let pair = [route("192.0.2.0/31", 0, 2, SeenTarget::Device(ETH0))];
        let pair = other_ground(&[address(ETH0, "192.0.2.0/31")], &pair);
        assert_eq!((hop(&pair, "192.0.2.1").is_some(), hop(&pair, "192.0.2.0")), (true, None), "RFC 3021");
    }

    #[test]
    fn a_link_with_metrics_of_its_own_is_a_link_and_what_is_refused_is_not_reached_by_a_shorter_prefix() {
        let mtu = SeenTarget::Other { gateway: None, index: Some(ETH0), onlink: false };
        let blackhole = SeenTarget::Other { gateway: None, index: None, onlink: false };
        let routes = [
            route("0.0.0.0/0", 5, 4, via("192.0.2.9", ETH0)),
            route("192.0.2.0/24", 0, 2, mtu),
            route("203.0.113.0/25", 0, 4, SeenTarget::Unreachable),
            route("203.0.113.128/25", 0, 4, blackhole),
            route("198.51.100.0/24", 0, PROTOCOL_CLUSTER, SeenTarget::Unreachable),
        ];
        let ground = other_ground(&[address(ETH0, "192.0.2.1/24")], &routes);
        assert_eq!(hop(&ground, "192.0.2.7"), Some((ip("192.0.2.7"), "eth0".to_owned())));
        assert!(ground.shared(ip("192.0.2.7")).is_some());
        for refused in ["203.0.113.7", "203.0.113.200"] {
            assert_eq!((hop(&ground, refused), metric(&ground, refused)), (None, None), "{refused}");
        }
        assert_eq!(metric(&ground, "198.51.100.7"), Some(5), "ours say nothing");
    }

    #[test]
    fn of_several_addresses_of_a_link_the_one_that_lasts_is_ours() {
        let temporary = SeenAddress { secondary: true, ..address(ETH0, "2001:db8::aaaa/64") };
        let addresses = [address(ETH0, "2001:db8::ffff/128"), temporary, address(ETH0, "2001:db8::1/64")];
        let routes = [route("2001:db8::/64", 0, 2, SeenTarget::Device(ETH0))];
        let ground = other_ground(&addresses, &routes);
        let link = ground.shared(ip("2001:db8::7")).unwrap();
        assert_eq!(link.own(ip("2001:db8::7")), Some(ip("2001:db8::1")));
        assert_eq!(link.address(true, None), Some(ip("2001:db8::1")));
        assert_eq!(
            link.address(true, Some(ip("2001:db8::ffff"))),
            Some(ip("2001:db8::ffff")),
            "the one of the underlay"
        );
        assert_eq!(
            (link.address(true, Some(ip("2001:db8::2"))), link.address(false, None)),
            (link.address(true, None), None)
        );
    }

    #[test]
    fn a_link_without_a_way_is_known_by_its_address() {
        let ground = other_ground(&[address(ETH1, "192.0.2.1/32")], &[]);
        assert_eq!(ground.holding(ip("192.0.2.1")).map(|link| link.device.to_string()), Some("eth1".to_owned()));
    }
}
