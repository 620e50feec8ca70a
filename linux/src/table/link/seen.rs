//! What the kernel shows of a link.

use std::fmt;
use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoVxlan, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo,
    LinkMessage, State,
};
use rtnetlink::LinkUnspec;

use crate::netlink::frame::malformed;
use crate::{Error, IfName, MacAddr, Netlink};

/// A link as it stands, of whatever kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenLink {
    /// The kernel's number for it.
    pub index: u32,
    /// Name.
    pub name: IfName,
    /// The kernel's kind: "veth", "vxlan", "bridge"; absent for plain devices.
    pub kind: Option<String>,
    /// MAC, where it has an Ethernet one.
    pub mac: Option<MacAddr>,
    /// In bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Operationally up (RFC 2863, IFLA_OPERSTATE): its queue takes packets. After a carrier comes, that is the work of the
    /// kernel's link watch, a moment later (net/core/link_watch.c); until then packets are dropped without a word.
    pub running: bool,
    /// IFF_LOWER_UP: it has a carrier, or a driver that cannot tell (Documentation/networking/operstates.rst).
    pub carrier: bool,
    /// IFLA_IFALIAS.
    pub alias: Option<String>,
}

/// A link with what only the reconciler looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Details {
    pub(crate) link: SeenLink,
    /// Whether it makes no link-local addresses by itself; absent where IPv6 is off.
    pub(crate) addrgenmode_none: Option<bool>,
    /// Whether IPv4 packets that come in by it go on (`forwarding` of its own); absent where it has no IPv4.
    pub(crate) ipv4_forwarding: Option<bool>,
    /// The number of the bridge, bond or VRF that it is a part of (IFLA_MASTER).
    pub(crate) master: Option<u32>,
    /// Somebody has taken its carrier from it, so that no packet passes (IFLA_PROTO_DOWN).
    pub(crate) protodown: bool,
    /// What it is if it is a VXLAN device.
    pub(crate) vxlan: Option<SeenVxlan>,
}

/// A VXLAN device's parameters, as far as we set them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SeenVxlan {
    pub(crate) vni: u32,
    pub(crate) port: u16,
    pub(crate) local: Option<IpAddr>,
    pub(crate) learning: bool,
    /// Something that ours never has: a group, a remote, an underlying device, DF, a TTL, TOS or flow label of its own, metadata, a group
    /// policy, answers in others' names.
    pub(crate) foreign: bool,
}

/// What a repair may be about, for whoever reads of it.
impl fmt::Display for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { link, addrgenmode_none, ipv4_forwarding, master, protodown, vxlan } = self;
        let mac = link.mac.map_or_else(|| "none".to_owned(), |mac| mac.to_string());
        write!(f, "{} mtu {} address {mac}", link.name, link.mtu)?;
        match (vxlan, &link.kind) {
            (Some(vxlan), _) => write!(f, " {vxlan}")?,
            (None, Some(kind)) => write!(f, " type {kind}")?,
            (None, None) => {}
        }
        master.iter().try_for_each(|master| write!(f, " master #{master}"))?;
        if *addrgenmode_none == Some(false) {
            f.write_str(", makes link-local addresses")?;
        }
        if *ipv4_forwarding == Some(false) {
            f.write_str(", does not forward IPv4")?;
        }
        f.write_str(if *protodown { ", protodown" } else { "" })?;
        f.write_str(if link.up { "" } else { ", down" })
    }
}

impl fmt::Display for SeenVxlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vni, port, local, learning, foreign } = self;
        write!(f, "type vxlan id {vni}")?;
        local.iter().try_for_each(|local| write!(f, " local {local}"))?;
        write!(f, " dstport {port} {}", if *learning { "learning" } else { "nolearning" })?;
        f.write_str(if *foreign { ", with settings that are not Twill's" } else { "" })
    }
}

/// A VXLAN device, whoever's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenTunnel {
    /// Its name.
    pub name: IfName,
    /// Its network identifier.
    pub vni: u32,
    /// Its UDP port, in host order.
    pub port: u16,
    /// The address here that it sends from and is sent to, where it is bound to one.
    pub local: Option<IpAddr>,
    /// Administratively up: it holds the port then.
    pub up: bool,
    /// In bytes.
    pub mtu: u32,
}

/// All VXLAN devices of the namespace.
pub fn tunnels(netlink: &mut Netlink) -> Result<Vec<SeenTunnel>, Error> {
    let tunnel = |Details { link, vxlan, .. }: Details| {
        let SeenVxlan { vni, port, local, .. } = vxlan?;
        Some(SeenTunnel { name: link.name, vni, port, local, up: link.up, mtu: link.mtu })
    };
    Ok(dump_details(netlink)?.into_iter().filter_map(tunnel).collect())
}

/// The link of that name.
pub fn by_name(netlink: &mut Netlink, name: &IfName) -> Result<Option<SeenLink>, Error> {
    one(netlink, LinkUnspec::new_with_name(name.as_str()).build())
}

/// The link of that number.
pub fn by_index(netlink: &mut Netlink, index: u32) -> Result<Option<SeenLink>, Error> {
    one(netlink, LinkUnspec::new_with_index(index).build())
}

fn one(netlink: &mut Netlink, mut message: LinkMessage) -> Result<Option<SeenLink>, Error> {
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    match netlink.one(RouteNetlinkMessage::GetLink(message))? {
        Some(RouteNetlinkMessage::NewLink(message)) => match details(message) {
            Some(details) => Ok(Some(details.link)),
            None => Err(malformed()),
        },
        Some(_) => Err(malformed()),
        None => Ok(None),
    }
}

/// All links of the namespace.
pub(crate) fn dump_details(netlink: &mut Netlink) -> Result<Vec<Details>, Error> {
    let mut request = LinkMessage::default();
    request.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let found = netlink.dump(RouteNetlinkMessage::GetLink(request))?;
    Ok(found
        .into_iter()
        .filter_map(|message| match message {
            RouteNetlinkMessage::NewLink(message) => details(message),
            _ => None,
        })
        .collect())
}

/// `None` for a message without a name, or with one that no device of ours could have.
pub(super) fn details(message: LinkMessage) -> Option<Details> {
    let name = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => IfName::new(name),
        _ => None,
    })?;
    let up = message.header.flags.contains(LinkFlags::Up);
    let carrier = message.header.flags.contains(LinkFlags::LowerUp);
    let index = message.header.index;
    let link = SeenLink { index, name, kind: None, mac: None, mtu: 0, up, running: false, carrier, alias: None };
    let (addrgenmode_none, ipv4_forwarding, master, vxlan) = (None, None, None, None);
    let mut found = Details { link, addrgenmode_none, ipv4_forwarding, master, protodown: false, vxlan };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::Mtu(mtu) => found.link.mtu = mtu,
            LinkAttribute::Address(bytes) => found.link.mac = bytes.try_into().ok().map(MacAddr),
            LinkAttribute::OperState(state) => found.link.running = state == State::Up,
            LinkAttribute::IfAlias(alias) => found.link.alias = Some(alias),
            LinkAttribute::Controller(index) => found.master = Some(index).filter(|index| *index != 0),
            LinkAttribute::ProtoDown(down) => found.protodown = down != 0,
            LinkAttribute::AfSpecUnspec(families) => {
                found.addrgenmode_none = makes_no_link_local(&families);
                found.ipv4_forwarding = super::ipv4_conf(&families).map(|conf| conf.forwarding != 0);
            }
            LinkAttribute::LinkInfo(infos) => read_info(&mut found, infos),
            _ => {}
        }
    }
    Some(found)
}

fn makes_no_link_local(families: &[AfSpecUnspec]) -> Option<bool> {
    let mut settings = families.iter().filter_map(|family| match family {
        AfSpecUnspec::Inet6(settings) => Some(settings),
        _ => None,
    });
    settings.next()?.iter().find_map(|setting| match setting {
        AfSpecInet6::AddrGenMode(mode) => Some(*mode == In6AddrGenMode::None),
        _ => None,
    })
}

fn read_info(found: &mut Details, infos: Vec<LinkInfo>) {
    for info in infos {
        match info {
            LinkInfo::Kind(kind) => found.link.kind = Some(kind.to_string()),
            LinkInfo::Data(InfoData::Vxlan(data)) => found.vxlan = Some(vxlan(&data)),
            _ => {}
        }
    }
}

fn vxlan(data: &[InfoVxlan]) -> SeenVxlan {
    let mut seen = SeenVxlan::default();
    for attribute in data {
        match attribute {
            InfoVxlan::Id(vni) => seen.vni = *vni,
            InfoVxlan::Port(port) => seen.port = *port,
            InfoVxlan::Local(local) => seen.local = Some(IpAddr::V4(*local)),
            InfoVxlan::Local6(local) => seen.local = Some(IpAddr::V6(*local)),
            InfoVxlan::Learning(learning) => seen.learning = *learning,
            InfoVxlan::Df(df) => seen.foreign |= u8::from(*df) != 0,
            InfoVxlan::CollectMetadata(on) | InfoVxlan::Proxy(on) | InfoVxlan::Rsc(on) => seen.foreign |= *on,
            InfoVxlan::Ttl(number) | InfoVxlan::Tos(number) | InfoVxlan::TtlInherit(number) => {
                seen.foreign |= *number != 0;
            }
            InfoVxlan::Link(number) | InfoVxlan::Label(number) => seen.foreign |= *number != 0,
            InfoVxlan::Group(_) | InfoVxlan::Group6(_) | InfoVxlan::Gbp | InfoVxlan::Gpe => seen.foreign = true,
            _ => {}
        }
    }
    seen
}
