//! The places of values in etcd, without the prefix.
//!
//! A block's key is its family, its first address in fixed-width hexadecimal and its length: `blocks/4/0a2a0000-26`. So
//! keys are ordered as addresses are, and "no block lies inside this range" is one range compare; the blocks that contain
//! a block are its [`ancestors`], each with a key that can be computed.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use twill_conf::NodeName;
use twill_ipam::{Block, Family};

use crate::store::Range;

/// The cluster configuration.
pub const CONFIG: &str = "config";

/// What a key of the watched range stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// `blocks/…`: the owner of a block.
    Block(Block),
    /// `config`: the cluster configuration.
    Config,
    /// `nodes/<name>`: a node's record.
    Node(NodeName),
}

/// A key under `blocks/` or `nodes/` that nothing can stand under.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key:?} is not a key: {expected}")]
pub struct InvalidKey {
    /// The key.
    pub key: String,
    /// What would be right.
    pub expected: &'static str,
}

impl Key {
    /// Reads a key; `None` where it is in none of the places that this version knows.
    pub fn parse(key: &str) -> Result<Option<Self>, InvalidKey> {
        let invalid = |expected| InvalidKey { key: key.chars().take(256).collect(), expected };
        if key == CONFIG {
            Ok(Some(Self::Config))
        } else if let Some(name) = key.strip_prefix("nodes/") {
            let name = name.parse().map_err(|_| invalid("nodes/ and a node name"))?;
            Ok(Some(Self::Node(name)))
        } else if let Some(tail) = key.strip_prefix("blocks/") {
            let block = parse_tail(tail)
                .ok_or_else(|| invalid("blocks/, 4 or 6, and a block as in blocks/4/0a2a0040-26, without host bits"))?;
            Ok(Some(Self::Block(block)))
        } else {
            Ok(None)
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block(of) => f.write_str(&block(*of)),
            Self::Config => f.write_str(CONFIG),
            Self::Node(name) => f.write_str(&node(name)),
        }
    }
}

/// `nodes/<name>`.
pub fn node(name: &NodeName) -> String {
    format!("nodes/{name}")
}

/// `alive/<name>`.
pub fn alive(name: &NodeName) -> String {
    format!("alive/{name}")
}

/// `blocks/<4|6>/<first address>-<length>`.
pub fn block(block: Block) -> String {
    format!("blocks/{}", tail(block))
}

/// `addresses/<node>/<4|6>/<first address>-<length>`: the mirror of what the node gave out of a block.
pub fn addresses(node: &NodeName, block: Block) -> String {
    format!("addresses/{node}/{}", tail(block))
}

/// All of a node's mirror.
pub fn mirror(node: &NodeName) -> Range {
    Range::prefix(&format!("addresses/{node}/"))
}

/// Whose mirror of which block stands under a key; `None` where it is none that [`addresses`] gives.
pub fn parse_addresses(key: &str) -> Option<(NodeName, Block)> {
    let (node, tail) = key.strip_prefix("addresses/")?.split_once('/')?;
    Some((node.parse().ok()?, parse_tail(tail)?))
}

/// The range of keys under which every block lies whose first address is in `block`: `block` itself, all inside it, and
/// those larger ones that begin at the same address.
pub fn inside(block: Block) -> Range {
    let cidr = block.cidr();
    let place = |ip| format!("blocks/{}/{}", digit(block.family()), hex(ip));
    // '-' follows the address in a key; '.' is the next character.
    Range { start: place(cidr.network()), end: format!("{}.", place(cidr.broadcast())) }
}

/// The keys of all blocks that contain `block` and do not lie in the range [`inside`] it, widest first.
///
/// Nothing shorter than the shortest pool (/8, /16 for IPv6) can be a block. So there are at most 112, and a claim stays
/// within etcd's 128 compares.
pub fn ancestors(block: Block) -> Vec<String> {
    let cidr = block.cidr();
    (shortest_pool(block.family())..cidr.prefix())
        .filter_map(|length| {
            let wider = IpNetwork::new(cidr.ip(), length).expect("shorter than a valid prefix");
            (wider.network() != cidr.network())
                .then(|| IpNetwork::new(wider.network(), length).expect("shorter than a valid prefix"))
        })
        .map(|wider| crate::key::block(Block::new(wider).expect("a network address has no host bits")))
        .collect()
}

/// No pool, and so no block, has a shorter prefix.
pub(crate) fn shortest_pool(family: Family) -> u8 {
    match family {
        Family::V4 => 8,
        Family::V6 => 16,
    }
}

fn tail(block: Block) -> String {
    let cidr = block.cidr();
    format!("{}/{}-{}", digit(block.family()), hex(block.first()), cidr.prefix())
}

fn digit(family: Family) -> char {
    match family {
        Family::V4 => '4',
        Family::V6 => '6',
    }
}

fn hex(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => format!("{:08x}", u32::from(ip)),
        IpAddr::V6(ip) => format!("{:032x}", u128::from(ip)),
    }
}

/// Accepts exactly what [`tail`] prints: one block has one key.
fn parse_tail(text: &str) -> Option<Block> {
    let (family, rest) = text.split_once('/')?;
    let (first, length) = rest.split_once('-')?;
    let first = match (family, first.len()) {
        ("4", 8) => IpAddr::V4(Ipv4Addr::from(u32::from_str_radix(first, 16).ok()?)),
        ("6", 32) => IpAddr::V6(Ipv6Addr::from(u128::from_str_radix(first, 16).ok()?)),
        _ => return None,
    };
    let block = Block::new(IpNetwork::new(first, length.parse().ok()?).ok()?)?;
    (tail(block) == text).then_some(block)
}

#[cfg(test)]
mod tests;
