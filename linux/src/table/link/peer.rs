//! The other ends of veths, asked for from here: the kernel shows a device of another namespace to whoever may
//! administer that (IFLA_TARGET_NETNSID), without a path to it.

use std::collections::BTreeMap;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use nix::errno::Errno;

use super::seen::details;
use crate::{Error, IfName, MacAddr, Netlink};

/// Where a veth's other end is.
struct Peer {
    index: u32,
    /// The number of its namespace, as this one knows it; absent where it is this one.
    namespace: Option<i32>,
}

/// The other end of a veth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FarEnd {
    /// Its MAC.
    pub mac: MacAddr,
    /// In bytes.
    pub mtu: u32,
}

/// The other ends of those devices of `names` that are veths. What cannot be seen is left out.
pub fn far_ends(netlink: &mut Netlink, names: &[IfName]) -> Result<BTreeMap<IfName, FarEnd>, Error> {
    let mut ends = BTreeMap::new();
    for name in names {
        let mut request = LinkMessage::default();
        request.attributes.push(LinkAttribute::IfName(name.as_str().to_owned()));
        let Some(RouteNetlinkMessage::NewLink(link)) = one(netlink, request)? else { continue };
        let Some(Peer { index, namespace }) = peer(&link) else { continue };
        let mut request = LinkMessage::default();
        request.header.index = index;
        request.attributes.extend(namespace.map(LinkAttribute::IfNetnsId));
        let end = match one(netlink, request) {
            // The namespace is going away, or its owner is not ours to look at.
            Err(error) if matches!(error.errno(), Some(Errno::EINVAL | Errno::EPERM | Errno::EACCES)) => continue,
            found => found?,
        };
        let Some(RouteNetlinkMessage::NewLink(end)) = end else { continue };
        let seen = details(end).and_then(|end| Some(FarEnd { mac: end.link.mac?, mtu: end.link.mtu }));
        ends.extend(seen.map(|seen| (*name, seen)));
    }
    Ok(ends)
}

fn one(netlink: &mut Netlink, mut request: LinkMessage) -> Result<Option<RouteNetlinkMessage>, Error> {
    request.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    netlink.one(RouteNetlinkMessage::GetLink(request))
}

fn peer(link: &LinkMessage) -> Option<Peer> {
    let index = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Link(index) => Some(*index),
        _ => None,
    });
    let namespace = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkNetNsId(id) => Some(*id),
        _ => None,
    });
    // A negative number is no namespace (NETNSA_NSID_NOT_ASSIGNED).
    (namespace.is_none_or(|id| id >= 0)).then_some(Peer { index: index?, namespace })
}
