//! The netfilter family of netlink (include/uapi/linux/netfilter/nfnetlink.h): a socket, messages as bytes, attributes.
//!
//! No crate of the netlink family that this one stands on speaks it. What is needed is little: whether a table of nftables
//! is there, which spares a run of nft, which tables are dormant, which nft 1.0.6 does not say, and the connection table
//! (`crate::conntrack`).

use std::io;

use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NlasIterator};
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;

use crate::Error;
use crate::netlink::frame::{self, Frames, NLMSG_DONE, NLMSG_ERROR};
use crate::netlink::socket::Socket;

/// NFPROTO_UNSPEC, NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6 (include/uapi/linux/netfilter.h).
const ANY: u8 = 0;
const INET: u8 = 1;
pub(crate) const IPV4: u8 = 2;
pub(crate) const IPV6: u8 = 10;

/// NFNL_SUBSYS_NFTABLES and NFT_MSG_GETTABLE (include/uapi/linux/netfilter/nf_tables.h).
const GET_TABLE: u16 = 10 << 8 | 1;
const NFTA_TABLE_NAME: u16 = 1;
/// Big-endian, as all numbers of nftables.
const NFTA_TABLE_FLAGS: u16 = 2;
const NFT_TABLE_F_DORMANT: u32 = 1;

/// NFT_MSG_GETSETELEM, NFTA_SET_ELEM_LIST_TABLE, NFTA_SET_ELEM_LIST_SET.
const GET_ELEMENTS: u16 = 10 << 8 | 13;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;

/// Bytes of a `struct nfgenmsg`.
pub(crate) const HEADER: usize = 4;
/// The kernel fills at most 32 KiB a read of a dump.
const READ: usize = 64 * 1024;
/// How often a dump is tried that the kernel calls interrupted.
const TRIES: usize = 16;
/// Deletions in one send: their acknowledgements fit into the receive buffer.
const WINDOW: usize = 128;

/// Whether the nftables table of family inet and that name is there, in the calling thread's namespace.
pub(crate) fn has_table(name: &str) -> Result<bool, Error> {
    let mut socket = match Netfilter::open() {
        // A kernel without netfilter's family of netlink.
        Err(Error::Transport { cause, .. }) if is_unknown(cause.raw_os_error().map(Errno::from_raw)) => {
            return Ok(false);
        }
        opened => opened?,
    };
    let name = attribute(NFTA_TABLE_NAME, &[name.as_bytes(), &[0]].concat());
    socket.exists("look for a table of nftables", GET_TABLE, &message(INET, &[name]))
}

/// The tables of IP that are dormant, by nft's word for the family and the name, in the calling thread's namespace: the kernel asks
/// none of their chains.
pub(crate) fn dormant_tables() -> Result<Vec<(&'static str, String)>, Error> {
    let found = Netfilter::open()?.dump("list the tables of nftables", GET_TABLE, &message(ANY, &[]))?;
    Ok(found.iter().filter_map(|payload| dormant(payload)).collect())
}

fn dormant(payload: &[u8]) -> Option<(&'static str, String)> {
    let family = match *payload.first()? {
        INET => "inet",
        IPV4 => "ip",
        IPV6 => "ip6",
        _ => return None,
    };
    let (mut name, mut flags) = (None, 0);
    for nla in NlasIterator::new(payload.get(HEADER..)?) {
        let nla = nla.ok()?;
        match nla.kind() {
            NFTA_TABLE_NAME => name = Some(String::from_utf8_lossy(nla.value().strip_suffix(&[0])?).into_owned()),
            NFTA_TABLE_FLAGS => flags = u32::from_be_bytes(nla.value().try_into().ok()?),
            _ => {}
        }
    }
    name.filter(|_| flags & NFT_TABLE_F_DORMANT != 0).map(|name| (family, name))
}

/// Whether one of `sets` of that table, of family inet, has an element that bears `text`: nft keeps comments as they are
/// written, in data that the kernel does not read.
pub(crate) fn has_element_with(table: &str, sets: impl Iterator<Item = String>, text: &str) -> Result<bool, Error> {
    let mut socket = Netfilter::open()?;
    let name = |kind, name: &str| attribute(kind, &[name.as_bytes(), &[0]].concat());
    for set in sets {
        let names = [name(NFTA_SET_ELEM_LIST_TABLE, table), name(NFTA_SET_ELEM_LIST_SET, &set)];
        match socket.dump("look for elements of nftables", GET_ELEMENTS, &message(INET, &names)) {
            Ok(found) if found.iter().any(|bytes| bytes.windows(text.len()).any(|part| part == text.as_bytes())) => {
                return Ok(true);
            }
            // There is no such set, or none any more.
            Err(error) if error.errno() != Some(Errno::ENOENT) => return Err(error),
            _ => {}
        }
    }
    Ok(false)
}

/// A socket in the calling thread's namespace.
#[derive(Debug)]
pub(crate) struct Netfilter {
    socket: Socket,
    sequence: u32,
    incoming: Vec<u8>,
}

impl Netfilter {
    pub(crate) fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::of(NETLINK_NETFILTER)?, sequence: 0, incoming: Vec::with_capacity(READ) })
    }

    /// Whether the kernel has the one object that a request asks for.
    fn exists(&mut self, what: &'static str, kind: u16, payload: &[u8]) -> Result<bool, Error> {
        match self.change(what, kind, &[payload.to_vec()])?.pop() {
            // What the kernel does not know at all it has none of: it may have been built without nftables.
            Some(Err(error)) if error.errno() == Some(Errno::ENOENT) || is_unknown(error.errno()) => Ok(false),
            Some(Err(error)) => Err(error),
            _ => Ok(true),
        }
    }

    /// The payloads of all answers to a dump request.
    pub(crate) fn dump(&mut self, what: &'static str, kind: u16, payload: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
        for _ in 0..TRIES {
            if let Some(found) = self.dump_once(what, kind, payload)? {
                return Ok(found);
            }
        }
        let cause = io::Error::new(io::ErrorKind::Interrupted, "the table changed during every attempt");
        Err(Error::Transport { what, cause })
    }

    fn dump_once(&mut self, what: &'static str, kind: u16, payload: &[u8]) -> Result<Option<Vec<Vec<u8>>>, Error> {
        self.send(kind, NLM_F_DUMP, &[payload.to_vec()])?;
        let (mut found, mut whole) = (Vec::new(), true);
        loop {
            whole &= !self.socket.receive(&mut self.incoming, what)?;
            for frame in Frames::over(&self.incoming) {
                let frame = match frame {
                    Err(_) if !whole => break,
                    other => other?,
                };
                if frame.port != self.socket.port() || frame.sequence != self.sequence {
                    continue;
                }
                whole &= frame.flags & netlink_packet_core::NLM_F_DUMP_INTR == 0;
                match frame.kind {
                    NLMSG_DONE | NLMSG_ERROR => {
                        let verdict = frame.verdict()?;
                        return match verdict.errno {
                            None => Ok(whole.then_some(found)),
                            Some(_) => Err(verdict.into_error(what.to_owned())),
                        };
                    }
                    _ => found.push(frame.payload.to_vec()),
                }
            }
        }
    }

    /// Sends requests of one kind, and gives the outcome of each.
    pub(crate) fn change(
        &mut self,
        what: &'static str,
        kind: u16,
        payloads: &[Vec<u8>],
    ) -> Result<Vec<Result<(), Error>>, Error> {
        let mut outcomes = Vec::with_capacity(payloads.len());
        for window in payloads.chunks(WINDOW) {
            let first = self.sequence.wrapping_add(1);
            self.send(kind, NLM_F_ACK, window)?;
            let end = outcomes.len() + window.len();
            while outcomes.len() < end {
                self.socket.receive(&mut self.incoming, what)?;
                for frame in Frames::over(&self.incoming) {
                    let frame = frame?;
                    let ours = frame.sequence.wrapping_sub(first) < window.len() as u32;
                    if frame.port != self.socket.port() || frame.kind != NLMSG_ERROR || !ours {
                        continue;
                    }
                    let verdict = frame.verdict()?;
                    outcomes.push(match verdict.errno {
                        None => Ok(()),
                        Some(_) => Err(verdict.into_error(what.to_owned())),
                    });
                }
            }
        }
        Ok(outcomes)
    }

    fn send(&mut self, kind: u16, flags: u16, payloads: &[Vec<u8>]) -> Result<(), Error> {
        let mut outgoing = Vec::new();
        for payload in payloads {
            self.sequence = self.sequence.wrapping_add(1);
            frame::append_bytes(&mut outgoing, kind, flags | NLM_F_REQUEST, self.sequence, payload);
        }
        self.socket.send(&outgoing)
    }
}

/// Whether an error says that the kernel lacks a whole kind of things. (EINVAL of nfnetlink: no such subsystem.)
fn is_unknown(errno: Option<Errno>) -> bool {
    matches!(errno, Some(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT))
}

/// A message's payload: `struct nfgenmsg` and attributes.
pub(crate) fn message(family: u8, attributes: &[DefaultNla]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER + attributes.buffer_len()];
    bytes[0] = family;
    attributes.emit(&mut bytes[HEADER..]);
    bytes
}

pub(crate) fn attribute(kind: u16, value: &[u8]) -> DefaultNla {
    DefaultNla::new(kind, value.to_vec())
}

pub(crate) fn nested(kind: u16, attributes: &[DefaultNla]) -> DefaultNla {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    DefaultNla::new(kind | NLA_F_NESTED, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_lacks_a_subsystem_has_none_of_its_objects() {
        // Greater than all there are (NFNL_SUBSYS_COUNT).
        let mut socket = Netfilter::open().unwrap();
        assert!(!socket.exists("look for what nobody knows", 100 << 8 | 1, &message(INET, &[])).unwrap());
    }
}
