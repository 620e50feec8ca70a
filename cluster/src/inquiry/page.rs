//! What is in use on a node, by its store and its kernel, page by page.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use twill_ipam::store::{BlockState, BlockUse, Origin};

use super::LONGEST_ANSWER;
use crate::record::Holder;

/// So many host ends without a row are told at most.
const MOST_STRAYS: usize = 256;
/// So many blocks are told at most; they stand in the first page.
const MOST_BLOCKS: usize = 1024;
/// An address on a page has no more bytes beside its holder.
const AROUND_AN_ADDRESS: usize = 128;

/// A page.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The node's blocks from the cluster, in the first page.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<LiveBlock>,
    /// Addresses that are not free, in order, IPv4 first.
    #[serde(default)]
    pub addresses: Vec<LiveAddress>,
    /// Host ends that have no row, in the first page.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strays: Vec<Stray>,
    /// There are more: ask again for what is behind the last address.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// A block of the node store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveBlock {
    /// The block.
    pub block: IpNetwork,
    /// Whether new pods get addresses of it.
    pub open: bool,
}

/// An address that is not free.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveAddress {
    /// The address.
    pub ip: IpAddr,
    /// What has it.
    #[serde(flatten)]
    pub holder: Holder,
    /// The row of the attachment, where it is one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<i64>,
    /// What is wrong with the attachment, seen while nobody worked on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
}

/// What is wrong with an attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Its link is missing.
    NoLink,
    /// An ADD or a DEL was killed half-way.
    HalfMade,
    /// A word of a newer version.
    #[serde(other)]
    Unknown,
}

/// A host end that has no row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stray {
    /// Its name.
    pub interface: String,
    /// The addresses of its alias and of the routes to it.
    pub addresses: Vec<IpAddr>,
}

impl Page {
    /// The page of `addresses`, which are in order, that begins behind `after`; the first has `blocks` and `strays` too.
    pub fn cut(blocks: &[BlockUse], strays: Vec<Stray>, addresses: Vec<LiveAddress>, after: Option<IpAddr>) -> Self {
        let mut page = Self::default();
        if after.is_none() {
            let cluster = blocks.iter().filter(|block| block.origin == Origin::Cluster).take(MOST_BLOCKS);
            page.blocks = cluster.map(LiveBlock::of).collect();
            page.strays = strays.into_iter().take(MOST_STRAYS).collect();
        }
        let mut length = serde_json::to_vec(&page).map_or(0, |json| json.len()) + 1024;
        for address in addresses.into_iter().filter(|address| after.is_none_or(|after| after < address.ip)) {
            length += serde_json::to_vec(&address.holder).map_or(0, |json| json.len()) + AROUND_AN_ADDRESS;
            if length > LONGEST_ANSWER {
                page.more = true;
                break;
            }
            page.addresses.push(address);
        }
        page
    }
}

impl LiveBlock {
    fn of(block: &BlockUse) -> Self {
        Self { block: block.block.cidr(), open: block.state == BlockState::Open }
    }
}
