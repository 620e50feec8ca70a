//! Interfaces, addresses and routes, as far as they matter to Twill, in the network namespace of the calling thread.

use std::collections::BTreeSet;

use ipnetwork::IpNetwork;
use twill_linux::state::{PROTOCOL_CLUSTER, PROTOCOL_POD};
use twill_linux::table::link::{self, SeenTunnel};
use twill_linux::table::{self, SeenLink, route};
use twill_linux::{Error, Netlink};

use super::{Seen, Unseen};
use crate::names::{HOST_END, OUR_TUNNELS};
use crate::scope::Tunnel;

/// An interface by which Twill's packets go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// In bytes.
    pub mtu: u32,
    /// Its kind, as the kernel calls it; absent for plain devices.
    pub kind: Option<String>,
}

/// An address of the machine's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// With the prefix of its subnet.
    pub cidr: IpNetwork,
    /// The interface that has it.
    pub device: String,
}

/// A route that somebody else made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub destination: IpNetwork,
    /// By which interface; absent where it leads to none, or to several.
    pub device: Option<String>,
}

/// What there is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Links {
    /// The interfaces between nodes.
    pub underlay: Vec<Interface>,
    /// The host ends of pods.
    pub pods: Vec<Interface>,
    /// All VXLAN devices.
    pub tunnels: Vec<SeenTunnel>,
    /// Global addresses on interfaces that are not Twill's.
    pub own: Vec<Own>,
    /// Routes into the pools that are not Twill's, and that the machine does not have for an address of its own.
    pub routes: Vec<Route>,
}

/// No more routes of a family than this are kept: each leads into a pool and belongs to no address of the machine's, and is a problem.
const MOST_ROUTES: usize = 1000;

impl Links {
    /// Whether other nodes send by the tunnel over IPv4 (`false`), or IPv6, or both: the families of our devices that stand, and that of
    /// the first one, which is IPv4 where the underlay has it. Each node sends by one of them alone: none stands in for another.
    pub fn families(&self, wanted: Tunnel) -> BTreeSet<bool> {
        let of_underlay = |own: &&Own| self.underlay.iter().any(|interface| interface.name == own.device);
        let of_addresses = || self.own.iter().filter(of_underlay).map(|own| own.cidr.is_ipv6()).min();
        let stand = self.our_tunnels().filter_map(|tunnel| tunnel.local).map(|local| local.is_ipv6());
        stand.chain(wanted.ipv6.or_else(of_addresses)).collect()
    }

    fn our_tunnels(&self) -> impl Iterator<Item = &SeenTunnel> {
        self.tunnels.iter().filter(|tunnel| OUR_TUNNELS.contains(&tunnel.name.as_str()))
    }

    /// The interfaces that forward for pods.
    pub fn concerned(&self) -> impl Iterator<Item = Interface> {
        let ours = self.our_tunnels().map(|tunnel| Interface {
            name: tunnel.name.to_string(),
            mtu: tunnel.mtu,
            kind: Some("vxlan".to_owned()),
        });
        self.underlay.iter().chain(&self.pods).cloned().chain(ours)
    }
}

/// `underlay`: the names of the interfaces between nodes; those of the default routes where none is named.
pub(super) fn look(underlay: &[String], pools: &[(String, IpNetwork)]) -> Seen<Links> {
    find(underlay, pools).map_err(Unseen::from)
}

fn find(underlay: &[String], pools: &[(String, IpNetwork)]) -> Result<Links, Error> {
    let mut netlink = Netlink::open()?;
    let links = table::links(&mut netlink)?;
    let mut names = underlay.to_vec();
    if names.is_empty() {
        for ipv6 in [false, true] {
            let device = table::default_route(&mut netlink, ipv6)?.map(|(index, _)| index);
            names.extend(links.iter().find(|link| Some(link.index) == device).map(|link| link.name.to_string()));
        }
        names.sort();
        names.dedup();
    }
    let name = |index: u32| links.iter().find(|link| link.index == index).map(|link| link.name.to_string());
    let own = table::addresses(&mut netlink)?.into_iter().filter(|address| address.global);
    let own = own.filter_map(|address| Some(Own { cidr: address.cidr, device: name(address.index)? }));
    let mut found = Links {
        underlay: links
            .iter()
            .filter(|link| names.iter().any(|name| name == link.name.as_str()))
            .map(interface)
            .collect(),
        pods: links.iter().filter(|link| is_host_end(link)).map(interface).collect(),
        tunnels: link::tunnels(&mut netlink)?,
        own: own.filter(|own| !is_ours(&own.device)).collect(),
        routes: Vec::new(),
    };
    // A machine may have all routes of the Internet: what leads into no pool is not even kept, nor what it has for its own addresses
    // there, each of which is a problem by itself.
    let kept = |route: route::SeenRoute| {
        let destination = route.key.destination;
        let is_inside = pools.iter().any(|(_, pool)| is_inside(destination, *pool));
        let is_of_address = || found.own.iter().any(|own| overlaps(own.cidr, destination));
        if !is_inside || [PROTOCOL_CLUSTER, PROTOCOL_POD].contains(&route.protocol) || is_of_address() {
            return None;
        }
        let device = route.target.index().and_then(name);
        (!device.as_deref().is_some_and(is_ours)).then_some(Route { destination, device })
    };
    let mut routes = Vec::new();
    // Without pools none would be kept of what may be many.
    for ipv6 in [false, true].into_iter().filter(|_| !pools.is_empty()) {
        let filter = route::Filter { ipv6, ..route::Filter::default() };
        routes.extend(route::dump_of(&mut netlink, filter, MOST_ROUTES, kept)?);
    }
    found.routes = routes;
    Ok(found)
}

fn interface(link: &SeenLink) -> Interface {
    Interface { name: link.name.to_string(), mtu: link.mtu, kind: link.kind.clone() }
}

fn is_host_end(link: &SeenLink) -> bool {
    link.kind.as_deref() == Some("veth") && is_name_of_host_end(link.name.as_str())
}

fn is_name_of_host_end(name: &str) -> bool {
    let digits = name.strip_prefix(HOST_END).unwrap_or_default();
    digits.len() == 13 && digits.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
}

/// Whether all of `one` lies in `other`.
pub(crate) fn is_inside(one: IpNetwork, other: IpNetwork) -> bool {
    one.is_ipv4() == other.is_ipv4() && one.prefix() >= other.prefix() && other.contains(one.ip())
}

/// Whether they have an address in common.
pub(crate) fn overlaps(one: IpNetwork, other: IpNetwork) -> bool {
    is_inside(one, other) || is_inside(other, one)
}

fn is_ours(name: &str) -> bool {
    is_name_of_host_end(name) || OUR_TUNNELS.contains(&name)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use twill_linux::NetNs;
    use twill_testkit::Namespaces;

    use super::*;

    /// A network namespace in which `ip` has done these commands, with what removes it.
    fn node(commands: &str) -> Option<(NetNs, Namespaces)> {
        let namespaces = Namespaces::claim()?;
        namespaces.add("node");
        let batch = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&batch, commands).unwrap();
        let mut ip = Command::new("ip");
        let status = ip.args(["-n", &namespaces.name("node"), "-batch"]).arg(batch.path()).status().unwrap();
        assert!(status.success());
        Some((NetNs::open(&namespaces.path("node")).unwrap(), namespaces))
    }

    #[test]
    fn of_many_routes_those_into_the_pools_are_kept_and_no_more_than_may_be() {
        let outside =
            (0..300).map(|number| format!("route add unreachable 172.16.{}.{}\n", number / 256, number % 256));
        let inside = (0..1200).map(|number| format!("route add unreachable 10.42.{}.{}\n", number / 256, number % 256));
        let Some((inside, _namespaces)) = node(&outside.chain(inside).collect::<String>()) else { return };
        let look = |pool: &str| {
            let pools = [("p".to_owned(), pool.parse().unwrap())];
            inside.run(|| look(&[], &pools).unwrap().routes).unwrap()
        };
        let few = look("172.16.1.0/24");
        assert_eq!(few.len(), 300 - 256, "{few:?}");
        assert_eq!(few[0], Route { destination: "172.16.1.0/32".parse().unwrap(), device: None });
        assert_eq!(look("10.42.0.0/16").len(), MOST_ROUTES);
        assert_eq!(look("10.43.0.0/16"), []);
    }

    #[test]
    fn routes_for_own_addresses_are_not_kept_however_many_and_hide_no_other() {
        let mut commands = "link add eth0 type veth peer name eth9\naddr add 10.42.0.1/20 dev eth0\n".to_owned();
        commands.extend((2..1202).map(|n| format!("route add unreachable 10.42.{}.{}\n", n / 256, n % 256)));
        commands += "route add unreachable 10.42.200.0/24\n";
        let Some((inside, _namespaces)) = node(&commands) else { return };
        let pools = [("p".to_owned(), "10.42.0.0/16".parse().unwrap())];
        let routes = inside.run(|| look(&[], &pools).unwrap().routes).unwrap();
        assert_eq!(routes, [Route { destination: "10.42.200.0/24".parse().unwrap(), device: None }]);
    }

    #[test]
    fn each_family_in_which_a_tunnel_stands_or_is_wanted_is_one_and_a_mere_address_is_none() {
        let wanted = |ipv6| Tunnel { vni: 7777, port: 4789, ipv6 };
        let links = |tunnels: &[(&str, &str)], own: &[&str]| Links {
            underlay: vec![Interface { name: "eth0".to_owned(), mtu: 1500, kind: None }],
            tunnels: tunnels
                .iter()
                .map(|(name, local)| SeenTunnel {
                    name: twill_linux::IfName::new(name).unwrap(),
                    vni: 7777,
                    port: 4789,
                    local: Some(local.parse().unwrap()),
                    up: true,
                    mtu: 1450,
                })
                .collect(),
            own: own.iter().map(|cidr| Own { cidr: cidr.parse().unwrap(), device: "eth0".to_owned() }).collect(),
            ..Links::default()
        };
        let families = |links: Links, ipv6| links.families(wanted(ipv6)).into_iter().collect::<Vec<_>>();
        let both = ["192.0.2.5/24", "2001:db8::5/64"];
        let first = ("vxlan.twill", "192.0.2.5");
        assert_eq!(families(links(&[first], &both), Some(false)), [false]);
        assert_eq!(families(links(&[first, ("vxlan6.twill", "2001:db8::5")], &both), Some(false)), [false, true]);
        assert_eq!(families(links(&[("vxlan.twill", "2001:db8::5")], &both), Some(true)), [true]);
        assert_eq!(families(links(&[("flannel.1", "2001:db8::5")], &both), Some(false)), [false], "somebody else's");
        // Where nothing stands.
        assert_eq!(families(links(&[], &both), Some(true)), [true]);
        assert_eq!(families(links(&[], &both), None), [false]);
        assert_eq!(families(links(&[], &both[1..]), None), [true]);
        assert_eq!(families(links(&[], &[]), None), [] as [bool; 0]);
    }
}
