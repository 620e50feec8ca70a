//! Interfaces, addresses and routes, as far as they matter to Twill, in the network namespace of the calling thread.

use ipnetwork::IpNetwork;
use twill_linux::state::{PROTOCOL_CLUSTER, PROTOCOL_POD};
use twill_linux::table::link::{self, SeenTunnel};
use twill_linux::table::{self, SeenLink, route};
use twill_linux::{Error, Netlink};

use super::{HOST_END, Seen};

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
    /// Routes that are neither Twill's nor default routes.
    pub routes: Vec<Route>,
}

/// Of the daemon's devices: the tunnels of both families.
pub(crate) const OUR_TUNNELS: [&str; 2] = ["vxlan.twill", "vxlan6.twill"];
/// No more routes than this are looked at: a machine may have all of the Internet's.
const MOST_ROUTES: usize = 100_000;

impl Links {
    /// The interfaces that forward for pods.
    pub fn concerned(&self) -> impl Iterator<Item = Interface> {
        let ours = self.tunnels.iter().filter(|tunnel| OUR_TUNNELS.contains(&tunnel.name.as_str()));
        let ours = ours.map(|tunnel| Interface {
            name: tunnel.name.to_string(),
            mtu: tunnel.mtu,
            kind: Some("vxlan".to_owned()),
        });
        self.underlay.iter().chain(&self.pods).cloned().chain(ours)
    }
}

/// `underlay`: the names of the interfaces between nodes; those of the default routes where none is named.
pub(super) fn look(underlay: &[String]) -> Seen<Links> {
    find(underlay).map_err(|error| error.to_string())
}

fn find(underlay: &[String]) -> Result<Links, Error> {
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
    for ipv6 in [false, true] {
        let routes = route::dump(&mut netlink, route::Filter { ipv6, ..route::Filter::default() })?;
        let others = routes.into_iter().take(MOST_ROUTES).filter(|route| {
            route.key.destination.prefix() > 0 && ![PROTOCOL_CLUSTER, PROTOCOL_POD].contains(&route.protocol)
        });
        let others = others
            .map(|route| Route { destination: route.key.destination, device: route.target.index().and_then(name) });
        found.routes.extend(others.filter(|route| !route.device.as_deref().is_some_and(is_ours)));
    }
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

fn is_ours(name: &str) -> bool {
    is_name_of_host_end(name) || OUR_TUNNELS.contains(&name)
}
