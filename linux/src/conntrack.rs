//! The connection table, as far as published ports need it: flows that were decided before a port was published, or
//! before it was withdrawn, keep their decision as long as packets come. A TCP connection ends with its pod; a UDP client
//! that never pauses would speak to a pod that is gone for ever. So their entries are deleted (NFNL_SUBSYS_CTNETLINK,
//! include/uapi/linux/netfilter/nfnetlink_conntrack.h), in the calling thread's namespace.
//!
//! The kernel picks by protocol and destination port of the original direction; which of those go is decided here, since
//! the node also carries flows to the same port elsewhere, whose masquerading must not be forgotten.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use netlink_packet_core::{DefaultNla, NlasIterator};
use nix::errno::Errno;

use crate::netfilter::{HEADER, IPV4, IPV6, Netfilter, attribute, message, nested};
use crate::ports::{Port, Protocol};
use crate::table::route;
use crate::{Error, Netlink};

/// NFNL_SUBSYS_CTNETLINK with IPCTNL_MSG_CT_GET and IPCTNL_MSG_CT_DELETE.
const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
/// CTA_FILTER_F_CTA_PROTO_NUM and CTA_FILTER_F_CTA_PROTO_DST_PORT (net/netfilter/nf_conntrack_netlink.c).
const BY_PROTOCOL: u32 = 1 << 3;
const BY_DESTINATION_PORT: u32 = 1 << 5;

const LIST: &str = "list tracked connections";

/// A flow as the kernel tracks it.
#[derive(Debug, Clone)]
struct Flow {
    /// The number of its protocol.
    protocol: u8,
    /// Where its first packet went, before any translation.
    destination: SocketAddr,
    /// Where its answers come from: its destination after translation.
    answers: SocketAddr,
    /// What names it to the kernel, as it came.
    name: Vec<DefaultNla>,
}

/// Whether flows of a protocol outlive what was decided for them.
pub fn lingers(protocol: Protocol) -> bool {
    protocol != Protocol::Tcp
}

/// After `ports` were published: forgets the flows to them that lead elsewhere, since they are older. Says how many.
pub fn turn_to(ports: &[Port]) -> Result<usize, Error> {
    let mut netlink = None;
    let mut known = BTreeMap::new();
    let mut is_local = |ip: IpAddr| -> Result<bool, Error> {
        if let Some(local) = known.get(&ip) {
            return Ok(*local);
        }
        let netlink = match &mut netlink {
            Some(netlink) => netlink,
            none => none.insert(Netlink::open()?),
        };
        let local = route::is_local(netlink, ip)?;
        known.insert(ip, local);
        Ok(local)
    };
    forget(ports, |port, flow| match port.host {
        _ if flow.answers == port.pod => Ok(false),
        Some(host) => Ok(flow.destination.ip() == host),
        None => is_local(flow.destination.ip()),
    })
}

/// After `ports` were withdrawn: forgets the flows that still lead to their pods. Says how many.
pub fn turn_from(ports: &[Port]) -> Result<usize, Error> {
    forget(ports, |port, flow| Ok(flow.answers == port.pod))
}

fn forget(ports: &[Port], mut is_stale: impl FnMut(&Port, &Flow) -> Result<bool, Error>) -> Result<usize, Error> {
    // The kernel walks its whole table for each question, which takes 5 ms and more: one a protocol and family.
    let mut questions: BTreeMap<(Protocol, bool), Vec<&Port>> = BTreeMap::new();
    for port in ports.iter().filter(|port| lingers(port.protocol)) {
        questions.entry((port.protocol, port.pod.is_ipv6())).or_default().push(port);
    }
    if questions.is_empty() {
        return Ok(0);
    }
    let mut socket = Netfilter::open()?;
    let mut forgotten = 0;
    for ((protocol, ipv6), ports) in questions {
        let family = if ipv6 { IPV6 } else { IPV4 };
        let one = ports.iter().all(|port| port.host_port == ports[0].host_port).then_some(ports[0].host_port);
        let mut stale = Vec::new();
        for flow in socket.dump(LIST, GET, &request(family, protocol, one))?.iter().filter_map(|payload| read(payload))
        {
            // A kernel before 5.8 passes the filter over, and shows all flows of the family.
            if flow.protocol != protocol.number() {
                continue;
            }
            for port in ports.iter().filter(|port| port.host_port == flow.destination.port()) {
                if is_stale(port, &flow)? {
                    stale.push(message(family, &flow.name));
                    break;
                }
            }
        }
        for outcome in socket.change("forget a tracked connection", DELETE, &stale)? {
            match outcome {
                // It ended meanwhile.
                Err(error) if error.errno() == Some(Errno::ENOENT) => {}
                done => done.map(|()| forgotten += 1)?,
            }
        }
    }
    Ok(forgotten)
}

/// Asks for the flows of a protocol, those whose first packet went to `port` where there is one.
fn request(family: u8, protocol: Protocol, port: Option<u16>) -> Vec<u8> {
    let mut parts = vec![attribute(CTA_PROTO_NUM, &[protocol.number()])];
    parts.extend(port.map(|port| attribute(CTA_PROTO_DST_PORT, &port.to_be_bytes())));
    let by = if port.is_some() { BY_PROTOCOL | BY_DESTINATION_PORT } else { BY_PROTOCOL };
    let filter = nested(
        CTA_FILTER,
        &[attribute(CTA_FILTER_ORIG_FLAGS, &by.to_ne_bytes()), attribute(CTA_FILTER_REPLY_FLAGS, &0u32.to_ne_bytes())],
    );
    message(family, &[nested(CTA_TUPLE_ORIG, &[nested(CTA_TUPLE_PROTO, &parts)]), filter])
}

/// `None` for what has no ports, or cannot be read.
fn read(payload: &[u8]) -> Option<Flow> {
    let (mut original, mut reply, mut name) = (None, None, Vec::new());
    for nla in NlasIterator::new(payload.get(HEADER..)?) {
        let nla = nla.ok()?;
        match nla.kind() {
            CTA_TUPLE_ORIG => original = tuple(nla.value()),
            CTA_TUPLE_REPLY => reply = tuple(nla.value()),
            CTA_ID | CTA_ZONE => {}
            _ => continue,
        }
        if nla.kind() != CTA_TUPLE_REPLY {
            name.push(DefaultNla::new(nla.kind() | u16::from(nla.nested_flag()) << 15, nla.value().to_vec()));
        }
    }
    let ((protocol, _, destination), (_, answers, _)) = (original?, reply?);
    Some(Flow { protocol, destination, answers, name })
}

/// Protocol, source and destination of one direction.
fn tuple(bytes: &[u8]) -> Option<(u8, SocketAddr, SocketAddr)> {
    let (mut protocol, mut source, mut destination, mut ports) = (None, None, None, (None, None));
    for part in NlasIterator::new(bytes) {
        let part = part.ok()?;
        for nla in NlasIterator::new(part.value()) {
            let nla = nla.ok()?;
            match (part.kind(), nla.kind()) {
                (CTA_TUPLE_IP, CTA_IP_V4_SRC | CTA_IP_V6_SRC) => source = ip(nla.value()),
                (CTA_TUPLE_IP, CTA_IP_V4_DST | CTA_IP_V6_DST) => destination = ip(nla.value()),
                (CTA_TUPLE_PROTO, CTA_PROTO_NUM) => protocol = nla.value().first().copied(),
                (CTA_TUPLE_PROTO, CTA_PROTO_SRC_PORT) => ports.0 = port(nla.value()),
                (CTA_TUPLE_PROTO, CTA_PROTO_DST_PORT) => ports.1 = port(nla.value()),
                _ => {}
            }
        }
    }
    Some((protocol?, SocketAddr::new(source?, ports.0?), SocketAddr::new(destination?, ports.1?)))
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

fn port(bytes: &[u8]) -> Option<u16> {
    bytes.try_into().ok().map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_read_with_its_protocol() {
        let tuple = |kind, protocol: &[u8]| {
            let ip = [attribute(CTA_IP_V4_SRC, &[10, 0, 0, 1]), attribute(CTA_IP_V4_DST, &[10, 0, 0, 2])];
            let port = |kind| attribute(kind, &53u16.to_be_bytes());
            let mut ports = vec![port(CTA_PROTO_SRC_PORT), port(CTA_PROTO_DST_PORT)];
            ports.extend((!protocol.is_empty()).then(|| attribute(CTA_PROTO_NUM, protocol)));
            nested(kind, &[nested(CTA_TUPLE_IP, &ip), nested(CTA_TUPLE_PROTO, &ports)])
        };
        let flow = |protocol: &[u8]| {
            read(&message(IPV4, &[tuple(CTA_TUPLE_ORIG, protocol), tuple(CTA_TUPLE_REPLY, protocol)]))
        };
        let read = flow(&[6]).unwrap();
        assert_eq!((read.protocol, read.destination), (6, "10.0.0.2:53".parse().unwrap()));
        assert!(flow(&[]).is_none(), "what it is of cannot be told");
    }
}
