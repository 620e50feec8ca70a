//! The intermediate functional block, by which what a pod sends is shaped (`crate::table::traffic`).

use std::fmt;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::no_link_local;
use crate::IfName;
use crate::netlink::Request;

/// The kernel's name for this kind.
pub const IFB: &str = "ifb";

/// Makes one, then gives it its alias (255 bytes at most) and sets it up. Refused with EEXIST if there is a device of that
/// name. Of the MTU, in bytes, of the device that redirects to it: a larger packet would be dropped.
pub fn create_ifb(name: IfName, mtu: u32, alias: &str) -> [Request; 2] {
    let device =
        LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Ifb).name(name.as_str().to_owned()).mtu(mtu);
    let families = no_link_local().into_iter().collect();
    let settings = LinkUnspec::new_with_name(name.as_str())
        .alias(alias)
        .append_extra_attribute(LinkAttribute::AfSpecUnspec(families))
        .up();
    [
        Request::new(
            RouteNetlinkMessage::NewLink(device.build()),
            NLM_F_CREATE | NLM_F_EXCL,
            fmt::from_fn(move |f| write!(f, "add link {name} type ifb")),
        ),
        Request::new(
            RouteNetlinkMessage::SetLink(settings.build()),
            0,
            fmt::from_fn(move |f| write!(f, "set link {name} up, with its alias")),
        ),
    ]
}
