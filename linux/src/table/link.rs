//! The table of links: requests that make, change and delete devices, and what a dump shows of them.
//!
//! A request names a device by its number, since that is unique and never reused while the device lives. The plugin
//! attaches pods with these, the reconciler makes the daemon's devices.

mod ifb;
mod peer;
mod removal;
mod seen;
mod vxlan;

use std::fmt;
use std::os::fd::AsRawFd;

use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet, AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InetDevConf, InfoData, InfoVeth, LinkAttribute, LinkMessage,
};
use nix::errno::Errno;
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::source::{self, Sources};
use crate::netlink::Request;
use crate::netlink::frame::malformed;
use crate::{Error, IfName, MacAddr, NetNs, Netlink};

pub use ifb::{IFB, create_ifb};
pub use peer::{FarEnd, far_ends};
pub use removal::remove;
pub(crate) use seen::{Details, SeenVxlan, dump_details};
pub use seen::{SeenLink, SeenTunnel, by_index, by_name, tunnels};
pub(crate) use vxlan::{create as create_vxlan, set_local as set_vxlan_local};

/// IFLA_INET_CONF (include/uapi/linux/if_link.h).
const IFLA_INET_CONF: u16 = 1;

/// A device that exists: its number for the kernel, its name for the texts of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// The kernel's number.
    pub index: u32,
    /// The name.
    pub name: IfName,
}

/// A veth pair that is to be made, with its peer in another namespace.
#[derive(Debug, Clone)]
pub struct Veth {
    /// The end in the namespace of the socket.
    pub host: VethEnd,
    /// The end in the other namespace.
    pub peer: VethEnd,
    /// In bytes, for both ends: an end with a smaller one than its peer's drops silently.
    pub mtu: u32,
    /// IFLA_IFALIAS of the host end, at most 255 bytes.
    pub alias: Option<String>,
    /// IPv4 settings of the host end, as under net/ipv4/conf, set without /proc.
    pub ipv4: Vec<(Ipv4Setting, u32)>,
    /// What the host end takes from its peer, by a filter that stands before it is up; `None` for everything.
    pub sources: Option<Sources>,
}

/// One end of a veth pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VethEnd {
    /// Its name.
    pub name: IfName,
    /// Its MAC.
    pub mac: MacAddr,
    /// Its number, chosen by the caller so that requests about it can follow in the same batch. If it is taken in its
    /// namespace, the host's is refused with EEXIST, the peer's with EBUSY. Zero leaves the choice to the kernel (and
    /// then to it for the peer, too: drivers/net/veth.c).
    pub index: u32,
}

/// A setting of net/ipv4/conf by its number (IPV4_DEVCONF_*, include/uapi/linux/ip.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Ipv4Setting {
    /// `forwarding`
    Forwarding = 1,
    /// `proxy_arp`
    ProxyArp = 3,
    /// `route_localnet`: what has a source or destination in 127.0.0.0/8 may pass.
    RouteLocalnet = 26,
}

/// The numbers of a pair that was made, each in its own namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// Of the end in the namespace of the socket.
    pub host: u32,
    /// Of the end in the other namespace.
    pub peer: u32,
}

/// A pair that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    /// Its numbers.
    pub pair: Pair,
    /// The host end has the filter that was wanted.
    pub filtered: bool,
}

/// Whether the kernel does not know what was to be made: no such qdisc or filter, or no traffic control at all.
fn is_unknown(error: &Error) -> bool {
    matches!(error.errno(), Some(Errno::ENOENT | Errno::EOPNOTSUPP))
}

impl Pair {
    /// The numbers of the pair whose host end has that name.
    pub fn of(host: &mut Netlink, name: IfName) -> Result<Self, Error> {
        match host.one(RouteNetlinkMessage::GetLink(LinkUnspec::new_with_name(name.as_str()).build()))? {
            Some(shown) => Self::shown(&shown).ok_or_else(malformed),
            None => Err(Error::NoDevice { attempt: "read the numbers of a pair".to_owned(), device: name.to_string() }),
        }
    }

    fn shown(message: &RouteNetlinkMessage) -> Option<Self> {
        let RouteNetlinkMessage::NewLink(message) = message else { return None };
        let peer = message.attributes.iter().find_map(|attribute| match attribute {
            // Of a veth it is the peer (veth_get_iflink in drivers/net/veth.c).
            LinkAttribute::Link(peer) => Some(*peer),
            _ => None,
        })?;
        Some(Self { host: message.header.index, peer })
    }
}

impl Veth {
    /// Makes the pair as [`create`](Self::create) asks for it, with the filter, and gives the numbers that it got: of the kernel's echo,
    /// or, where it gives none, by a look at the host end. A kernel that has no such filters makes the pair without one: see
    /// [`Made::filtered`].
    pub fn make(&self, host: &mut Netlink, peers: &NetNs) -> Result<Made, Error> {
        let [pair, settings] = self.create(peers);
        let pair = match host.make(&pair)? {
            Some(shown) => Pair::shown(&shown).ok_or_else(malformed)?,
            None => Pair::of(host, self.host.name)?,
        };
        let device = Device { index: pair.host, name: self.host.name };
        let filter = self.sources.iter().flat_map(|sources| source::limit(device, sources));
        let requests: Vec<_> = filter.chain([settings]).collect();
        let mut filtered = self.sources.is_some();
        for (place, outcome) in (1..).zip(host.batch(&requests)?) {
            match outcome {
                // Somebody watches for new devices, and has given it hooks already.
                Err(error) if place == 1 && filtered && error.errno() == Some(Errno::EEXIST) => {}
                // Without the hooks the filter is refused by another errno.
                Err(error) if place < requests.len() && (!filtered || is_unknown(&error)) => filtered = false,
                done => done?,
            }
        }
        Ok(Made { pair, filtered })
    }

    /// Makes the pair, then sets alias, IPv4 settings and `addrgenmode none` on the host end and sets it up: creation
    /// takes none of those (rtnl_newlink_create in net/core/rtnetlink.c). For the socket of the host end's namespace;
    /// the peer is set up from inside by [`set_up`].
    ///
    /// Each end has one queue from the start. One that is not told so is made with as many as there are processors, of which all but one are
    /// taken away at once; for that the kernel waits, with the lock of all of its interfaces, until every processor has passed by
    /// (veth_init_queues in drivers/net/veth.c, netif_set_real_num_tx_queues in net/core/dev.c), which takes long on a busy machine.
    ///
    /// Refused with EEXIST if there is a device of that name in either namespace.
    pub fn create(&self, peers: &NetNs) -> [Request; 2] {
        let (host, peer) = (self.host, self.peer);
        let peer_message = LinkMessageBuilder::<LinkUnspec>::new()
            .index(peer.index)
            .name(peer.name.as_str())
            .address(peer.mac.0.to_vec())
            .mtu(self.mtu)
            .append_extra_attribute(LinkAttribute::NumTxQueues(1))
            .append_extra_attribute(LinkAttribute::NumRxQueues(1))
            .setns_by_fd(peers.fd().as_raw_fd())
            .build();
        let pair = LinkVeth::new(host.name.as_str(), peer.name.as_str())
            .index(host.index)
            .address(host.mac.0.to_vec())
            .mtu(self.mtu)
            .append_extra_attribute(LinkAttribute::NumTxQueues(1))
            .append_extra_attribute(LinkAttribute::NumRxQueues(1))
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer_message)))
            .build();
        // The message holds the bare number of the descriptor: the request keeps it open.
        let namespace = peers.clone();
        let attempt = fmt::from_fn(move |f| {
            write!(f, "add link {} type veth peer {} netns {}", host.name, peer.name, namespace.path().display())
        });
        let mut settings = match host.index {
            0 => LinkUnspec::new_with_name(host.name.as_str()),
            index => LinkUnspec::new_with_index(index),
        };
        if let Some(alias) = &self.alias {
            settings = settings.alias(alias);
        }
        let families = [ipv4_settings(&self.ipv4)].into_iter().chain(no_link_local()).collect();
        let spec = LinkAttribute::AfSpecUnspec(families);
        let settings = settings.append_extra_attribute(spec).up().build();
        [
            Request::new(RouteNetlinkMessage::NewLink(pair), NLM_F_CREATE | NLM_F_EXCL, attempt),
            Request::new(
                RouteNetlinkMessage::SetLink(settings),
                0,
                fmt::from_fn(move |f| write!(f, "set link {} up, with its settings", host.name)),
            ),
        ]
    }
}

/// Sets a device up.
pub fn set_up(device: Device) -> Request {
    set(
        LinkUnspec::new_with_index(device.index).up().build(),
        fmt::from_fn(move |f| write!(f, "set link {} up", device.name)),
    )
}

/// Changes a device's MTU, in bytes.
pub fn set_mtu(device: Device, mtu: u32) -> Request {
    let message = LinkUnspec::new_with_index(device.index).mtu(mtu).build();
    set(message, fmt::from_fn(move |f| write!(f, "set link {} mtu {mtu}", device.name)))
}

/// Changes a device's MAC.
pub fn set_mac(device: Device, mac: MacAddr) -> Request {
    let message = LinkUnspec::new_with_index(device.index).address(mac.0.to_vec()).build();
    set(message, fmt::from_fn(move |f| write!(f, "set link {} address {mac}", device.name)))
}

/// Takes a device out of its bridge, bond or VRF.
pub fn set_nomaster(device: Device) -> Request {
    let message = LinkUnspec::new_with_index(device.index).nocontroller().build();
    set(message, fmt::from_fn(move |f| write!(f, "set link {} nomaster", device.name)))
}

/// Gives a device its carrier back that somebody has taken from it (IFLA_PROTO_DOWN).
pub fn set_protoup(device: Device) -> Request {
    let message = LinkUnspec::new_with_index(device.index).append_extra_attribute(LinkAttribute::ProtoDown(0)).build();
    set(message, fmt::from_fn(move |f| write!(f, "set link {} protodown off", device.name)))
}

/// Changes a device's alias (IFLA_IFALIAS), at most 255 bytes.
pub fn set_alias(device: Device, alias: &str) -> Request {
    let message = LinkUnspec::new_with_index(device.index).alias(alias).build();
    let alias = alias.to_owned();
    set(message, fmt::from_fn(move |f| write!(f, "set link {} alias {alias}", device.name)))
}

/// Keeps the kernel from giving a device a link-local address by itself.
pub fn set_addrgenmode_none(device: Device) -> Request {
    let spec = LinkAttribute::AfSpecUnspec(no_link_local().into_iter().collect());
    let message = LinkUnspec::new_with_index(device.index).append_extra_attribute(spec).build();
    set(message, fmt::from_fn(move |f| write!(f, "set link {} addrgenmode none", device.name)))
}

/// Changes IPv4 settings of a device, without /proc.
pub fn set_ipv4(device: Device, settings: &[(Ipv4Setting, u32)]) -> Request {
    let spec = LinkAttribute::AfSpecUnspec(vec![ipv4_settings(settings)]);
    let message = LinkUnspec::new_with_index(device.index).append_extra_attribute(spec).build();
    set(message, fmt::from_fn(move |f| write!(f, "set IPv4 settings of link {}", device.name)))
}

/// Whether the device has [`Ipv4Setting::RouteLocalnet`]; `None` where there is no such device, or none for IPv4.
pub fn route_localnet(netlink: &mut Netlink, device: Device) -> Result<Option<bool>, Error> {
    let message = LinkUnspec::new_with_index(device.index).build();
    let Some(RouteNetlinkMessage::NewLink(shown)) = netlink.one(RouteNetlinkMessage::GetLink(message))? else {
        return Ok(None);
    };
    let families = shown.attributes.into_iter().find_map(|attribute| match attribute {
        LinkAttribute::AfSpecUnspec(families) => Some(families),
        _ => None,
    });
    Ok(families.and_then(|families| Some(ipv4_conf(&families)?.route_localnet != 0)))
}

/// The IPv4 settings that a device shows; `None` where it has no IPv4.
fn ipv4_conf(families: &[AfSpecUnspec]) -> Option<&InetDevConf> {
    let mut settings = families.iter().filter_map(|family| match family {
        AfSpecUnspec::Inet(settings) => Some(settings),
        _ => None,
    });
    settings.next()?.iter().find_map(|setting| match setting {
        AfSpecInet::DevConf(conf) => Some(conf),
        _ => None,
    })
}

/// Deletes a device, with all that is on it; a veth's peer goes with it. ENODEV if there is none.
pub fn delete(device: Device) -> Request {
    let message = LinkUnspec::new_with_index(device.index).build();
    let attempt = fmt::from_fn(move |f| write!(f, "delete link {}", device.name));
    Request::new(RouteNetlinkMessage::DelLink(message), 0, attempt)
}

fn set(message: LinkMessage, attempt: impl fmt::Display + Send + Sync + 'static) -> Request {
    Request::new(RouteNetlinkMessage::SetLink(message), 0, attempt)
}

/// IFLA_INET_CONF as inet_set_link_af (net/ipv4/devinet.c) wants it: nested attributes, the setting's number for a type.
/// `AfSpecInet::DevConfRequest` would leave out every setting whose value is zero.
fn ipv4_settings(settings: &[(Ipv4Setting, u32)]) -> AfSpecUnspec {
    let nested: Vec<DefaultNla> = settings
        .iter()
        .map(|(setting, value)| DefaultNla::new(*setting as u16, value.to_ne_bytes().to_vec()))
        .collect();
    let mut bytes = vec![0; nested.as_slice().buffer_len()];
    nested.as_slice().emit(&mut bytes);
    AfSpecUnspec::Inet(vec![AfSpecInet::Other(DefaultNla::new(IFLA_INET_CONF | NLA_F_NESTED, bytes))])
}

/// `None` on a machine without IPv6 (`ipv6.disable=1`), whose kernel refuses the attribute with EAFNOSUPPORT.
fn no_link_local() -> Option<AfSpecUnspec> {
    let ipv6 = std::path::Path::new("/proc/sys/net/ipv6").exists();
    ipv6.then(|| AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]))
}
