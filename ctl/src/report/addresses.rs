//! What `twillctl ipam show` says of one address, pod or node, and of all blocks or pools.
//!
//! What a node gave out is told by its mirror in etcd; on the node itself by its store, which is newer.

mod free;

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;
use twill_cluster::Census;
use twill_cluster::key::{self, Key};
use twill_cluster::record::{Content, Holder, Use};
use twill_conf::{NodeName, PoolName};
use twill_ipam::Block;
use twill_ipam::store::Inventory;

use super::Verdict;
use super::pools::{PoolUse, pool_at, pool_of};
use super::problems::{self, Problem};
use super::untold::Untold;

/// The answer. What was not asked for is absent.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Addresses {
    /// etcd's revision; absent where there is none to ask, or it did not answer.
    pub(crate) revision: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pools: Option<Vec<PoolUse>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) blocks: Option<Vec<BlockRow>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) addresses: Option<Vec<AddressRow>>,
    /// What could not be looked at, and why.
    pub(crate) unknown: Vec<Untold>,
}

/// A block with its use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct BlockRow {
    pub(crate) block: String,
    /// Absent for a block outside of all pools.
    pub(crate) pool: Option<PoolName>,
    pub(crate) node: NodeName,
    /// Absent, as the rest, where its owner has not told.
    pub(crate) used: Option<u64>,
    pub(crate) cooling: Option<u64>,
    /// What a pod could be given.
    pub(crate) free: Option<u64>,
    pub(crate) total: u64,
    /// The tunnel address, where it is of this block.
    pub(crate) tunnel: Option<IpAddr>,
}

/// An address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct AddressRow {
    pub(crate) ip: IpAddr,
    /// "attached", "reserved", "deleting", "cooling", "tunnel", "withheld", "free", "kept by its pool", "pool disabled",
    /// "node draining", "block closing", "not told", "in no block" or "in no pool".
    pub(crate) state: &'static str,
    /// In seconds since 1970; absent for what nobody has.
    pub(crate) since: Option<u64>,
    /// When one that cools is free, in seconds since 1970.
    pub(crate) until: Option<u64>,
    /// The time that `since` and `until` are compared with.
    #[serde(skip)]
    pub(crate) now: u64,
    /// `namespace/name` where the runtime told.
    pub(crate) pod: Option<String>,
    pub(crate) container: Option<String>,
    pub(crate) network: Option<String>,
    pub(crate) interface: Option<String>,
    pub(crate) host_interface: Option<String>,
    pub(crate) node: Option<NodeName>,
    pub(crate) block: Option<String>,
    pub(crate) pool: Option<PoolName>,
    /// "mirror" or "store"; absent where neither was needed.
    pub(crate) source: Option<&'static str>,
}

/// What is known, and where from.
#[derive(Debug)]
pub(crate) struct Sources {
    /// The cluster, where etcd answered.
    pub(crate) census: Option<Census>,
    /// This node's store, where this machine is one.
    pub(crate) store: Option<Inventory>,
    /// When this machine booted, since 1970.
    pub(crate) boot: Duration,
    /// In seconds since 1970.
    pub(crate) now: u64,
}

impl Addresses {
    /// An address that is in a block or free is good to know; of one that is in no block nothing is.
    pub(crate) fn verdict(&self) -> Verdict {
        let nowhere = |row: &AddressRow| matches!(row.state, "in no block" | "in no pool");
        if !self.unknown.is_empty() {
            Verdict::Unknown
        } else if self.addresses.iter().flatten().any(nowhere) {
            Verdict::Problems
        } else {
            Verdict::Good
        }
    }
}

/// What to do where a node has not told, or what it told cannot be read.
const LOOK: &str = "'twillctl ipam check' asks the nodes themselves, and says what is wrong with that";

/// Who knows what a mirror has not.
fn itself(owner: Option<&NodeName>) -> String {
    format!("ask on {} itself: 'twillctl ipam show' there", name(owner))
}

impl Sources {
    fn revision(&self) -> Option<i64> {
        self.census.as_ref().map(|census| census.view.revision)
    }

    /// All blocks with their owners; `None` for one that a configuration gave this node.
    fn blocks(&self) -> Vec<(Block, Option<NodeName>)> {
        let cluster = self.census.iter().flat_map(|census| &census.view.blocks);
        let mut blocks: Vec<_> = cluster.map(|(block, record)| (*block, Some(record.value.node.clone()))).collect();
        let local = self.store.iter().flat_map(|store| &store.blocks).map(|has| has.block);
        let more: Vec<Block> = local.filter(|block| blocks.iter().all(|(there, _)| there != block)).collect();
        blocks.extend(more.into_iter().map(|block| (block, self.me())));
        blocks.sort();
        blocks
    }

    /// This node's name.
    fn me(&self) -> Option<NodeName> {
        self.store.as_ref()?.node.as_ref()?.name.parse().ok()
    }

    /// What is in use of a block, by the better source.
    fn content(&self, block: Block, owner: Option<&NodeName>) -> Option<(Content, &'static str)> {
        if let Some(store) = &self.store
            && owner == self.me().as_ref()
            && store.blocks.iter().any(|has| has.block == block)
        {
            return Some((Content::of(store, block, self.boot), "store"));
        }
        self.census.as_ref()?.content(block).map(|content| (content.clone(), "mirror"))
    }

    fn pool_of(&self, block: Block) -> Option<PoolName> {
        self.census.as_ref().and_then(|census| pool_of(&census.view, block)).cloned()
    }

    /// What cannot be read of the keys that begin so.
    fn unread<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = Untold> + 'a {
        let views = self.census.iter().map(|census| &census.view);
        views.flat_map(move |view| problems::unreadable_below(view, prefix)).map(Untold::from)
    }

    /// Why it is not known what is in use of a block.
    fn silence(&self, block: Block, owner: Option<&NodeName>) -> String {
        let key = owner.map(|owner| key::addresses(owner, block));
        let cause =
            self.census.as_ref().zip(key).and_then(|(census, key)| Some((census.faults.get(&key)?.clone(), key)));
        match cause {
            Some((cause, key)) => format!("the mirror of {}, the key {key}, cannot be read: {cause}", name(owner)),
            None => format!("{} has not told", name(owner)),
        }
    }

    /// `--pools`.
    pub(crate) fn pools(&self, mut unknown: Vec<Untold>) -> Addresses {
        unknown.extend(self.unread(key::CONFIG).chain(self.unread("blocks/")));
        let pools = self.census.as_ref().map(|census| PoolUse::all(&census.view));
        Addresses { revision: self.revision(), pools, unknown, ..Addresses::default() }
    }

    /// `--blocks`.
    pub(crate) fn all_blocks(&self, mut unknown: Vec<Untold>) -> Addresses {
        let own = self.blocks().into_iter().filter_map(|(block, owner)| Some((block, owner?)));
        let rows: Vec<_> = own.map(|(block, owner)| (block, self.block_row(block, owner))).collect();
        unknown.extend(self.unread(key::CONFIG).chain(self.unread("blocks/")));
        let silent = rows.iter().filter(|(_, row)| row.used.is_none());
        unknown.extend(
            silent.map(|(block, row)| self.untold(format!("what is in use of {block}"), *block, Some(&row.node))),
        );
        let blocks = Some(rows.into_iter().map(|(_, row)| row).collect());
        Addresses { revision: self.revision(), blocks, unknown, ..Addresses::default() }
    }

    fn untold(&self, about: String, block: Block, owner: Option<&NodeName>) -> Untold {
        Untold::new(format!("{about}: {}", self.silence(block, owner)), LOOK)
    }

    /// Blocks of a node that its use leaves out, since it has not told what is in use of them.
    pub(crate) fn left_out(&self, node: &NodeName, rows: &[BlockRow]) -> Option<Problem> {
        let silent: Vec<String> = rows.iter().filter(|row| row.used.is_none()).map(|row| row.block.clone()).collect();
        let first: Block = silent.first()?.parse().ok()?;
        let what = format!("its use leaves out {}: {}", problems::shortened(&silent), self.silence(first, Some(node)));
        Some(Problem::new(format!("node {node}"), what, "'twillctl ipam check' says what is wrong with that"))
    }

    /// The block of a node, with its use.
    pub(crate) fn block_row(&self, block: Block, node: NodeName) -> BlockRow {
        let content = self.content(block, Some(&node)).map(|(content, _)| content);
        let count = |content: &Content, wanted: fn(&Holder) -> bool| {
            content.addresses.values().filter(|holder| holder.holds(self.now) && wanted(holder)).count() as u64
        };
        let used =
            content.as_ref().map(|content| count(content, |holder| holder.state.is_attachments()) + content.left_out);
        let all = content.as_ref().map(|content| count(content, |_| true) + content.left_out);
        let cools = content.as_ref().and_then(|content| content.cools_until).is_some_and(|until| self.now < until);
        let rest = all.map(|all| block.size().saturating_sub(all));
        let free = content.as_ref().map(|content| {
            let held = content.addresses.iter().filter(|(_, holder)| holder.holds(self.now)).map(|(ip, _)| ip);
            self.free(block, &node, held, content.left_out)
        });
        let cooling = content.as_ref().map(|content| count(content, |holder| holder.state == Use::Cooling));
        let mut holders = content.iter().flat_map(|content| &content.addresses);
        BlockRow {
            block: block.to_string(),
            pool: self.pool_of(block),
            node,
            used,
            cooling: if cools { cooling.zip(rest).map(|(cooling, rest)| cooling + rest) } else { cooling },
            free: if cools { Some(0) } else { free },
            total: block.size(),
            tunnel: holders.find(|(_, holder)| holder.state == Use::Tunnel).map(|(ip, _)| *ip),
        }
    }

    /// `--node`; `None` where there is no such node.
    pub(crate) fn of_node(&self, name: &NodeName, unknown: Vec<Untold>) -> Option<Addresses> {
        let own: Vec<Block> = self
            .blocks()
            .into_iter()
            .filter(|(_, owner)| owner.as_ref() == Some(name))
            .map(|(block, _)| block)
            .collect();
        let is_known = self.census.as_ref().is_some_and(|census| census.view.nodes.contains_key(name));
        let record = key::node(name);
        let cause = self.census.as_ref().and_then(|census| census.view.faults.get(&record));
        let unread = cause.map(|cause| Untold::from(problems::fault(&record, cause)));
        if own.is_empty() && !is_known && unread.is_none() {
            return None;
        }
        let mut found = Addresses { revision: self.revision(), unknown, ..Addresses::default() };
        found.unknown.extend(unread);
        let rows = own.iter().flat_map(|block| self.rows(*block, Some(name), &mut found.unknown)).collect();
        found.blocks = Some(own.iter().map(|block| self.block_row(*block, name.clone())).collect());
        found.addresses = Some(rows);
        Some(found)
    }

    /// `--pod`, by its name or by its container's ID. Where the pod is not found, the addresses are empty.
    pub(crate) fn of_pod(&self, pod: &str, mut unknown: Vec<Untold>) -> Addresses {
        unknown.extend(self.unread("blocks/"));
        let mut found = Addresses { revision: self.revision(), unknown, ..Addresses::default() };
        let blocks = self.blocks();
        let rows = blocks.iter().flat_map(|(block, owner)| self.rows(*block, owner.as_ref(), &mut found.unknown));
        let is_its = |row: &AddressRow| [&row.pod, &row.container].into_iter().any(|name| name.as_deref() == Some(pod));
        found.addresses = Some(rows.filter(is_its).collect());
        found
    }

    /// What is in use of a block; what its mirror does not tell is unknown.
    fn rows(&self, block: Block, owner: Option<&NodeName>, unknown: &mut Vec<Untold>) -> Vec<AddressRow> {
        let Some((content, source)) = self.content(block, owner) else {
            unknown.push(self.untold(format!("what is in use of {block}"), block, owner));
            return Vec::new();
        };
        if content.left_out > 0 {
            let what = format!("{} more addresses of {block}: they do not fit into its mirror", content.left_out);
            unknown.push(Untold::new(what, itself(owner)));
        }
        let in_use = content.addresses.iter().filter(|(_, holder)| holder.holds(self.now));
        in_use.map(|(ip, holder)| self.row(*ip, block, owner, Some((holder, source)))).collect()
    }

    fn row(
        &self,
        ip: IpAddr,
        block: Block,
        owner: Option<&NodeName>,
        held: Option<(&Holder, &'static str)>,
    ) -> AddressRow {
        let bare = AddressRow {
            node: owner.cloned(),
            block: Some(block.to_string()),
            pool: self.pool_of(block),
            ..AddressRow::bare(ip, self.word_of_nobodys(ip, block, owner), self.now)
        };
        let Some((holder, source)) = held else { return bare };
        AddressRow {
            state: holder.state.word(),
            since: (holder.since > 0).then_some(holder.since),
            until: holder.until,
            pod: holder.pod.clone(),
            container: holder.container.clone(),
            network: holder.network.clone(),
            interface: holder.ifname.clone(),
            host_interface: holder.interface.clone(),
            source: Some(source),
            ..bare
        }
    }

    /// The block that this address lies in, where nobody knows whose it is.
    fn unread_block(&self, ip: IpAddr) -> Option<(Block, Problem)> {
        let mut faults = self.census.as_ref()?.view.faults.iter();
        faults.find_map(|(key, cause)| match Key::parse(key) {
            Ok(Some(Key::Block(block))) if block.contains(ip) => Some((block, problems::fault(key, cause))),
            _ => None,
        })
    }

    /// `--ip`.
    pub(crate) fn of_ip(&self, ip: IpAddr, mut unknown: Vec<Untold>) -> Addresses {
        let blocks = self.blocks();
        let row = match narrowest(blocks.iter().map(|(block, owner)| (block, owner)), ip) {
            Some((block, owner)) => self.one(ip, *block, owner.as_ref(), &mut unknown),
            None => match self.unread_block(ip) {
                Some((block, problem)) => {
                    let Problem { subject, what, fix, .. } = problem;
                    unknown.push(Untold::new(format!("who has {ip}: {subject}: {what}"), fix));
                    let block = Some(block.to_string());
                    AddressRow { block, ..AddressRow::bare(ip, "not told", self.now) }
                }
                None => self.nowhere(ip),
            },
        };
        Addresses { revision: self.revision(), addresses: Some(vec![row]), unknown, ..Addresses::default() }
    }

    /// An address that is in no block.
    fn nowhere(&self, ip: IpAddr) -> AddressRow {
        let pool = self.census.as_ref().and_then(|census| pool_at(&census.view, ip));
        let state = match (&self.census, pool) {
            (None, _) => "not told",
            (Some(_), Some(_)) => "in no block",
            (Some(_), None) => "in no pool",
        };
        AddressRow { pool: pool.cloned(), ..AddressRow::bare(ip, state, self.now) }
    }

    fn one(&self, ip: IpAddr, block: Block, owner: Option<&NodeName>, unknown: &mut Vec<Untold>) -> AddressRow {
        let Some((content, source)) = self.content(block, owner) else {
            unknown.push(self.untold(format!("who has {ip}"), block, owner));
            return AddressRow { state: "not told", ..self.row(ip, block, owner, None) };
        };
        let held = content.addresses.get(&ip).filter(|holder| holder.holds(self.now));
        if held.is_none() && content.left_out > 0 {
            unknown.push(Untold::new(format!("who has {ip}: the mirror of {block} is cut"), itself(owner)));
            return AddressRow { state: "not told", ..self.row(ip, block, owner, None) };
        }
        let row = self.row(ip, block, owner, held.map(|holder| (holder, source)));
        match content.cools_until.filter(|until| held.is_none() && self.now < *until) {
            Some(until) => AddressRow { state: "cooling", until: Some(until), ..row },
            None => AddressRow { source: Some(source), ..row },
        }
    }
}

impl AddressRow {
    fn bare(ip: IpAddr, state: &'static str, now: u64) -> Self {
        Self {
            ip,
            state,
            since: None,
            until: None,
            now,
            pod: None,
            container: None,
            network: None,
            interface: None,
            host_interface: None,
            node: None,
            block: None,
            pool: None,
            source: None,
        }
    }
}

/// The block that an address lies in: of those that overlap, the narrowest.
pub(crate) fn narrowest<'a, T: 'a>(
    blocks: impl IntoIterator<Item = (&'a Block, &'a T)>,
    ip: IpAddr,
) -> Option<(&'a Block, &'a T)> {
    blocks.into_iter().filter(|(block, _)| block.contains(ip)).max_by_key(|(block, _)| block.cidr().prefix())
}

fn name(owner: Option<&NodeName>) -> &str {
    owner.map_or("this node", NodeName::as_str)
}

#[cfg(test)]
mod tests;
