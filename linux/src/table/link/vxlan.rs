//! Requests about VXLAN devices (drivers/net/vxlan).

use std::fmt;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoVxlan, LinkAttribute};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVxlan};

use super::{Device, no_link_local, set};
use crate::IfName;
use crate::netlink::Request;
use crate::state::{Link, LinkKind};

/// Makes a VXLAN device and sets it up, after `addrgenmode none`, or it would have a link-local address of the kernel's
/// choice. No group, no underlying device: the route to a remote chooses the way.
pub(crate) fn create(link: &Link) -> Vec<Request> {
    let LinkKind::Vxlan { vni, port, local } = link.kind;
    let message = LinkVxlan::new(link.name.as_str(), vni)
        .address(link.mac.0.to_vec())
        .mtu(link.mtu)
        .append_info_data(local_attribute(local))
        .port(port)
        .learning(false)
        .build();
    let (name, link) = (link.name, link.clone());
    let create = Request::new(
        RouteNetlinkMessage::NewLink(message),
        NLM_F_CREATE | NLM_F_EXCL,
        fmt::from_fn(move |f| write!(f, "add link {link}")),
    );
    let mut requests = vec![create];
    if let Some(spec) = no_link_local() {
        requests.push(set_named(name, LinkAttribute::AfSpecUnspec(vec![spec]), "addrgenmode none"));
    }
    let up = LinkUnspec::new_with_name(name.as_str()).up().build();
    requests.push(set(up, fmt::from_fn(move |f| write!(f, "set link {name} up"))));
    requests
}

fn set_named(name: IfName, attribute: LinkAttribute, what: &'static str) -> Request {
    let message = LinkUnspec::new_with_name(name.as_str()).append_extra_attribute(attribute).build();
    set(message, fmt::from_fn(move |f| write!(f, "set link {name} {what}")))
}

/// Changes the source of what a VXLAN device sends, in place; the kernel refuses a change of family.
pub(crate) fn set_local(device: Device, local: IpAddr) -> Request {
    let message = LinkMessageBuilder::<LinkVxlan>::new(device.name.as_str())
        .index(device.index)
        .append_info_data(local_attribute(local))
        .build();
    Request::new(
        RouteNetlinkMessage::NewLink(message),
        0,
        fmt::from_fn(move |f| write!(f, "set link {} type vxlan local {local}", device.name)),
    )
}

fn local_attribute(local: IpAddr) -> InfoVxlan {
    match local {
        IpAddr::V4(local) => InfoVxlan::Local(local),
        IpAddr::V6(local) => InfoVxlan::Local6(local),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::Emitable;

    fn bytes(request: &Request) -> Vec<u8> {
        let mut bytes = vec![0; request.message.buffer_len()];
        request.message.emit(&mut bytes);
        bytes
    }

    #[test]
    fn creation_has_the_port_in_network_order_and_the_vni_in_host_order() {
        let link = Link {
            name: IfName::new("vx").expect("a valid name"),
            kind: LinkKind::Vxlan { vni: 7777, port: 4789, local: [192, 0, 2, 1].into() },
            mac: crate::MacAddr([2, 0, 0, 0, 0, 1]),
            mtu: 1450,
        };
        let requests = create(&link);
        #[rustfmt::skip]
        let mut expected = vec![
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            // IFLA_IFNAME, IFLA_ADDRESS, IFLA_MTU
            7, 0, 3, 0, b'v', b'x', 0, 0,
            10, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 0,
        ];
        expected.extend([8, 0, 4, 0]);
        expected.extend(1450u32.to_ne_bytes());
        // IFLA_LINKINFO: IFLA_INFO_KIND, IFLA_INFO_DATA
        expected.extend([52, 0, 18, 0, 10, 0, 1, 0]);
        expected.extend(b"vxlan\0\0\0");
        expected.extend([36, 0, 2, 0, 8, 0, 1, 0]);
        expected.extend(7777u32.to_ne_bytes());
        // IFLA_VXLAN_LOCAL, IFLA_VXLAN_PORT (0x12b5 is 4789), IFLA_VXLAN_LEARNING
        expected.extend([8, 0, 4, 0, 192, 0, 2, 1, 6, 0, 15, 0, 0x12, 0xb5, 0, 0, 5, 0, 7, 0, 0, 0, 0, 0]);
        assert_eq!(bytes(&requests[0]), expected);
        assert_eq!(requests[0].flags, NLM_F_CREATE | NLM_F_EXCL);
        assert!(matches!(requests.last().map(|r| &r.message), Some(RouteNetlinkMessage::SetLink(_))), "up comes last");
    }
}
