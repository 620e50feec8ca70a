//! From the bytes of an answer to an object: pure, without a socket. Used by the transport and the monitor.
//!
//! A link is read attribute by attribute, for anybody may write into one (an alias need not be text) and no device may
//! become invisible by that: what cannot be read of it is missing, or, in an alias, replaced by U+FFFD.

use netlink_packet_core::{NlasIterator, ParseableParametrized};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkHeader, LinkMessage};

use super::frame::Frame;

const RTM_NEWLINK: u16 = libc::RTM_NEWLINK;
/// include/uapi/linux/if_link.h.
const IFLA_IFALIAS: u16 = 20;
/// Bytes of a `struct ifinfomsg`.
const LINK_HEADER: usize = 16;

/// The object that a frame shows; `None` where it cannot be read.
pub(crate) fn decode(frame: &Frame<'_>) -> Option<RouteNetlinkMessage> {
    if frame.kind == RTM_NEWLINK {
        return link(frame.payload).map(RouteNetlinkMessage::NewLink);
    }
    RouteNetlinkMessage::parse_with_param(frame.payload, frame.kind).ok()
}

fn link(bytes: &[u8]) -> Option<LinkMessage> {
    let header = LinkHeader::parse(bytes.get(..LINK_HEADER)?).ok()?;
    let mut message = LinkMessage::default();
    for attribute in NlasIterator::new(&bytes[LINK_HEADER..]) {
        let attribute = attribute.ok()?;
        let read = match attribute.kind() {
            IFLA_IFALIAS => Some(LinkAttribute::IfAlias(text(attribute.value()))),
            _ => LinkAttribute::parse_with_param(&attribute, header.interface_family).ok(),
        };
        message.attributes.extend(read);
    }
    message.header = header;
    Some(message)
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn read(attributes: &[Vec<u8>]) -> Option<RouteNetlinkMessage> {
        let payload = [vec![0; LINK_HEADER], attributes.concat()].concat();
        decode(&Frame { kind: RTM_NEWLINK, flags: 0, sequence: 1, port: 1, payload: &payload })
    }

    #[test]
    fn an_attribute_that_cannot_be_read_hides_no_other() {
        let name = attribute(3, b"tw0\0");
        let odd = [attribute(IFLA_IFALIAS, b"\xff\xfe\0"), attribute(4, b"\x01"), name];
        let Some(RouteNetlinkMessage::NewLink(link)) = read(&odd) else { panic!("no link") };
        let alias = LinkAttribute::IfAlias("\u{fffd}\u{fffd}".to_owned());
        assert_eq!(link.attributes, [alias, LinkAttribute::IfName("tw0".to_owned())]);
    }

    #[test]
    fn half_an_attribute_is_no_link() {
        assert!(read(&[vec![0xff, 0xff, 3, 0]]).is_none());
        let short = Frame { kind: RTM_NEWLINK, flags: 0, sequence: 1, port: 1, payload: &[0; 3] };
        assert!(decode(&short).is_none());
    }
}
