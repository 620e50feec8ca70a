//! The nodes around the real one: their records and blocks in etcd, as their daemons write them, and how these change.
//!
//! Each node has a block of each family, out of which it takes its tunnel addresses. Three kinds of change take turns: a
//! node's underlay address is another one; a further block comes or goes; a node joins or leaves. Those that come and go
//! have slots that are switched to and fro, half of them filled at first, so that the cluster keeps its size and as many
//! changes as were planned meet each slot once.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use twill_cluster::record::{BlockRecord, NodeRecord, Tunnel, Underlay};
use twill_cluster::store::{Range, Store as _};
use twill_cluster::txn::Op;
use twill_cluster::view::Snapshot;
use twill_cluster::{EtcdStore, key};
use twill_ipam::Block;

use super::super::ipam::node::facts;
use super::super::store::{commit, put_record};
use super::kernel::{Event, Object, Standing};
use crate::lab::PoolSpec;
use crate::{LabError, Result};

/// Operations in a transaction at most: etcd's own limit.
const OPERATIONS: usize = 128;
/// A prefix length of blocks.
const LENGTHS: [u8; 2] = [26, 122];
/// The numbers of the further blocks begin here, after those that are a node's first.
const FURTHER: usize = 24_000;
/// The nodes' numbers are below: there are as many addresses in the ranges.
const MOST: usize = 16_000;

/// The pools: the real node claims from the first of each family, the others are of those around it, so that nothing that
/// is written here is ever a block that it has.
pub fn pools() -> [PoolSpec; 4] {
    [("own4", "10.96.0.0/16", 0), ("v4", "10.0.0.0/11", 0), ("own6", "fd43::/104", 1), ("v6", "fd42::/104", 1)]
        .map(|(name, cidr, family)| PoolSpec::new(name, cidr, Some(LENGTHS[family])))
}

/// The nodes around the real one, as they stand in etcd.
#[derive(Debug)]
pub struct Cluster {
    runtime: Handle,
    /// While it is there, the runtime goes on.
    _end: oneshot::Sender<()>,
    store: EtcdStore,
    nodes: usize,
    /// So many slots for blocks, and as many for nodes. Half of them were filled at first: those with an even number.
    slots: usize,
    blocks: Vec<bool>,
    lives: Vec<bool>,
    /// How often each node has got another address.
    moves: BTreeMap<usize, u8>,
    /// The revisions at which the records came to be: of a node that joins, when it does.
    epochs: BTreeMap<usize, i64>,
    next: usize,
}

/// A change that is to be made.
#[derive(Debug)]
pub struct Change {
    /// What it is made to: another change of the same comes after it, and may hide it.
    pub place: (Kind, usize),
    /// What the kernel then shows.
    pub shows: Vec<Event>,
    operations: Vec<Op>,
    /// The node that joins by it, and the blocks that it claims once its first record stands.
    joins: Option<(usize, [Block; 2])>,
}

/// A kind of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A node has another underlay address.
    Address,
    /// A block comes or goes.
    Block,
    /// A node joins or leaves.
    Life,
}

impl Cluster {
    /// So many nodes, for so many changes at once; nothing is written yet. The calling thread is in a namespace that reaches
    /// etcd.
    pub fn new(store: EtcdStore, nodes: usize, changes: usize) -> Result<Self> {
        let slots = changes.div_ceil(3).next_multiple_of(2);
        if nodes <= slots || nodes + slots > MOST {
            return Err(LabError::wrong(format!(
                "{nodes} nodes are not enough, or too many, for {changes} changes: a third of those is at most {nodes}"
            )));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(LabError::io("starting a runtime"))?;
        // A thread of its own keeps the connections alive between the writes. It inherits the namespace.
        let (end, ended) = oneshot::channel::<()>();
        let handle = runtime.handle().clone();
        std::thread::spawn(move || runtime.block_on(ended));
        let filled = |slots: usize| (0..slots).map(|slot| slot.is_multiple_of(2)).collect::<Vec<_>>();
        let (blocks, lives, moves, epochs) = (filled(slots), filled(slots), BTreeMap::new(), BTreeMap::new());
        Ok(Self { runtime: handle, _end: end, store, nodes, slots, blocks, lives, moves, epochs, next: 0 })
    }

    /// Writes all of them. Nothing may be in the kernel yet; what it shall show.
    pub fn fill(&mut self) -> Result<HashSet<Event>> {
        let numbers: Vec<usize> = (1..=self.nodes).collect();
        for some in numbers.chunks(OPERATIONS) {
            let records = some.iter().map(|number| registration(*number)).collect();
            let revision = self.runtime.block_on(commit(&self.store, records))?;
            self.epochs.extend(some.iter().map(|number| (*number, revision)));
        }
        for some in numbers.chunks(OPERATIONS / 2) {
            let blocks = some.iter().flat_map(|number| first_blocks(*number).map(|block| (block, *number)));
            let records = blocks.map(|(block, number)| block_record(block, number, self.epochs[&number])).collect();
            self.runtime.block_on(commit(&self.store, records))?;
        }
        for some in numbers.chunks(OPERATIONS) {
            let records = some.iter().map(|number| node_record(*number, 0)).collect();
            self.runtime.block_on(commit(&self.store, records))?;
        }
        let further = (0..self.slots).filter(|slot| self.blocks[*slot]).map(|slot| self.further(slot));
        let further: Vec<_> = further.collect();
        for some in further.chunks(OPERATIONS) {
            let records = some.iter().map(|(block, number)| block_record(*block, *number, self.epochs[number]));
            self.runtime.block_on(commit(&self.store, records.collect()))?;
        }
        let routes = further.into_iter().map(|(block, _)| route(block, true));
        Ok(numbers.iter().flat_map(|number| whole_node(*number, true)).chain(routes).collect())
    }

    /// How much of it shall stand in the kernel.
    pub fn standing(&self) -> Standing {
        let filled = |slots: &[bool]| slots.iter().filter(|filled| **filled).count();
        let nodes = self.nodes - self.slots / 2 + filled(&self.lives);
        let routes = 2 * nodes + filled(&self.blocks);
        Standing { routes, neighbours: 2 * nodes, fdb: nodes }
    }

    /// What the daemons watch of it, as it stands in etcd.
    pub fn read(&self) -> Result<Snapshot> {
        let read = self.runtime.block_on(self.store.read(&Range::watched()));
        read.map_err(|error| LabError::wrong(error.to_string()))
    }

    /// The next change; it counts as made.
    pub fn plan(&mut self) -> Change {
        let (turn, half) = (self.next / 3, self.slots / 2);
        let kind = [Kind::Address, Kind::Block, Kind::Life][self.next % 3];
        self.next += 1;
        // Those that leave come first, then those whose blocks come and go; the rest get other addresses.
        let slot = turn % self.slots.max(1);
        match kind {
            Kind::Address => {
                let number = 2 * half + 1 + turn % (self.nodes - 2 * half);
                let moves = self.moves.entry(number).or_default();
                *moves = (*moves + 1) % 16;
                let fdb = Object::Fdb(mac(number), underlay(number, *moves).address(false).expect("it has IPv4"));
                let shows = vec![Event { made: true, object: fdb }];
                let operations = vec![node_record(number, *moves)];
                Change { place: (kind, number), shows, operations, joins: None }
            }
            Kind::Block => {
                let (block, number) = self.further(slot);
                let filled = &mut self.blocks[slot];
                *filled = !*filled;
                let operations = if *filled {
                    vec![block_record(block, number, self.epochs[&number])]
                } else {
                    vec![Op::Delete { key: key::block(block) }]
                };
                let shows = vec![route(block, *filled)];
                Change { place: (kind, slot), shows, operations, joins: None }
            }
            Kind::Life => {
                let filled = &mut self.lives[slot];
                *filled = !*filled;
                let number = slot / 2 + 1 + if slot.is_multiple_of(2) { 0 } else { self.nodes };
                let shows = whole_node(number, *filled).collect();
                let blocks = first_blocks(number);
                let (operations, joins) = if *filled {
                    (vec![registration(number)], Some((number, blocks)))
                } else {
                    let keys = [key::node(&facts(number).0), key::block(blocks[0]), key::block(blocks[1])];
                    (keys.map(|key| Op::Delete { key }).to_vec(), None)
                };
                Change { place: (kind, slot), shows, operations, joins }
            }
        }
    }

    /// The block of a slot, and whose it is.
    fn further(&self, slot: usize) -> (Block, usize) {
        (nth_block(false, FURTHER + slot), self.slots / 2 + 1 + slot / 2)
    }

    /// Makes a change, and waits until etcd has it.
    pub fn make(&self, change: Change) -> Result<()> {
        self.runtime.block_on(perform(self.store.clone(), change))
    }

    /// Makes all of them, some at once. Nothing is said of their order.
    pub fn make_all(&self, changes: Vec<Change>) -> Result<()> {
        const AT_ONCE: usize = 32;
        let mut changes = changes.into_iter();
        self.runtime.block_on(async {
            let mut writers = tokio::task::JoinSet::new();
            loop {
                while writers.len() < AT_ONCE
                    && let Some(change) = changes.next()
                {
                    writers.spawn(perform(self.store.clone(), change));
                }
                let Some(written) = writers.join_next().await else { return Ok(()) };
                written.map_err(|error| LabError::wrong(error.to_string()))??;
            }
        })
    }
}

impl Change {
    /// What is written for it, a transaction each. `epoch`: the revision of the first.
    pub fn writes(self, epoch: i64) -> Vec<Vec<Op>> {
        let after = self.joins.map(|joins| joining(joins, epoch));
        std::iter::once(self.operations).chain(after.into_iter().flatten()).collect()
    }
}

/// What a node writes after its first record.
fn joining((number, blocks): (usize, [Block; 2]), epoch: i64) -> [Vec<Op>; 2] {
    [blocks.map(|block| block_record(block, number, epoch)).to_vec(), vec![node_record(number, 0)]]
}

async fn perform(store: EtcdStore, change: Change) -> Result<()> {
    let revision = commit(&store, change.operations).await?;
    for operations in change.joins.into_iter().flat_map(|joins| joining(joins, revision)) {
        commit(&store, operations).await?;
    }
    Ok(())
}

fn route(block: Block, made: bool) -> Event {
    Event { made, object: Object::Route(block.cidr()) }
}

/// Everything that the kernel shows of a node that comes or goes with its first blocks and its first address.
fn whole_node(number: usize, made: bool) -> impl Iterator<Item = Event> {
    let blocks = first_blocks(number);
    let [_, b, c, d, e, f] = mac(number);
    // The link-local address that a MAC makes, which begins with 02 (RFC 4291, appendix A).
    let gateway = Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, b, c, 0xff, 0xfe, d, e, f]);
    let remote = underlay(number, 0).address(false).expect("it has IPv4");
    [
        Object::Neighbour(blocks[0].first()),
        Object::Neighbour(gateway.into()),
        Object::Fdb(mac(number), remote),
        Object::Route(blocks[0].cidr()),
        Object::Route(blocks[1].cidr()),
    ]
    .map(|object| Event { made, object })
    .into_iter()
}

fn mac(number: usize) -> [u8; 6] {
    let [high, low] = two_bytes(number);
    [0x02, 0x00, 0x5e, 0x10, high, low]
}

fn two_bytes(number: usize) -> [u8; 2] {
    u16::try_from(number).expect("numbers are below MOST").to_be_bytes()
}

/// The addresses of a node that was given others so often.
fn underlay(number: usize, moves: u8) -> Underlay {
    let [high, low] = two_bytes(number);
    Underlay {
        ipv4: format!("172.{}.{high}.{low}/12", 16 + moves % 16).parse().ok(),
        ipv6: format!("fd00:78::{moves:x}:{high:x}:{low:x}/64").parse().ok(),
    }
}

/// A node's first block of each family.
fn first_blocks(number: usize) -> [Block; 2] {
    [nth_block(false, number), nth_block(true, number)]
}

fn nth_block(ipv6: bool, number: usize) -> Block {
    let first: IpAddr = if ipv6 {
        Ipv6Addr::from((0xfd42_u128 << 112) + (number as u128) * 64).into()
    } else {
        let offset = u32::try_from(number * 64).expect("there are fewer blocks");
        Ipv4Addr::from((10 << 24) + offset).into()
    };
    let length = LENGTHS[usize::from(ipv6)];
    ipnetwork::IpNetwork::new(first, length).ok().and_then(Block::new).expect("its first address has no host bits")
}

/// Fresh for each write of each node, as long as a daemon's.
fn nonce(number: usize, write: u8) -> String {
    format!("{number:016x}{write:x}")
}

/// The first record of a node, which has no block yet.
fn registration(number: usize) -> Op {
    record(number, 0, Tunnel::default())
}

/// The record of a node that has its blocks, and was given other addresses so often.
fn node_record(number: usize, moves: u8) -> Op {
    let [IpAddr::V4(ipv4), IpAddr::V6(ipv6)] = first_blocks(number).map(|block| block.first()) else {
        unreachable!("a block of each family, IPv4 first")
    };
    record(number, moves + 1, Tunnel { ipv4: Some(ipv4), ipv6: Some(ipv6) })
}

/// The record by its number among those of the node.
fn record(number: usize, write: u8, tunnel: Tunnel) -> Op {
    let (name, facts) = facts(number);
    let record = NodeRecord {
        machine_id: machine_id(number),
        nonce: nonce(number, write),
        underlay: underlay(number, write.saturating_sub(1)),
        tunnel,
        vxlan: facts.vxlan,
        path: facts.path,
        labels: facts.labels,
        version: facts.version,
        can: None,
        disputes: Vec::new(),
        drain: None,
        other: serde_json::Map::new(),
    };
    put_record(key::node(&name), &record)
}

fn block_record(block: Block, number: usize, epoch: i64) -> Op {
    let (node, _) = facts(number);
    let (machine_id, nonce) = (machine_id(number), nonce(number, 0));
    let record = BlockRecord { node, machine_id, epoch, nonce, other: serde_json::Map::new() };
    put_record(key::block(block), &record)
}

fn machine_id(number: usize) -> String {
    format!("{number:032x}")
}
