//! Blocks: those of the cluster, which the daemon brings and takes away, and those of a stand-alone configuration.
//!
//! No two blocks overlap, whatever their length and origin.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use rusqlite::{Connection, OptionalExtension};
use twill_conf::PoolName;
use twill_conf::cluster::Reserved;

use crate::error::sqlite;
use crate::guard::{Guard, stands};
use crate::{Block, BootTime, Error, Family};

use super::choosing::{self, Candidate, Choice};
use super::rebuilding::history;
use super::rows::{self, Ip, Time};
use super::{BlockState, BlockUse, Node, Origin, node};

/// One block as the file has it.
#[derive(Debug, Clone)]
pub(super) struct BlockRow {
    pub(super) id: i64,
    pub(super) block: Block,
    pub(super) pool: Option<PoolName>,
    pub(super) state: BlockState,
    pub(super) origin: Origin,
    pub(super) cursor: IpAddr,
    /// Rows of addresses in it.
    pub(super) taken: u64,
    /// Until then an address without a row cools too: it is not known who had it.
    pub(super) cools_until: BootTime,
}

impl BlockRow {
    /// Whether an address without a row may be given.
    pub(super) fn is_cool(&self, now: BootTime) -> bool {
        self.cools_until <= now
    }
}

/// All blocks, IPv4 first, in order of address.
pub(super) fn all(conn: &Connection) -> Result<Vec<BlockRow>, Error> {
    let read = || {
        let mut select = conn.prepare_cached(
            "SELECT id, first, length, pool, state, origin, cursor, taken, cools_until FROM block ORDER BY first",
        )?;
        let rows = select.query_map([], |row| {
            let pool: Option<rows::Text<_>> = row.get(3)?;
            let (Ip(cursor), Time(cools_until)) = (row.get(6)?, row.get(8)?);
            Ok(BlockRow {
                id: row.get(0)?,
                block: rows::block(row, 1)?,
                pool: pool.map(|pool| pool.0),
                state: row.get(4)?,
                origin: row.get(5)?,
                cursor,
                taken: row.get::<_, u32>(7)?.into(),
                cools_until,
            })
        })?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    read().map_err(sqlite("reading blocks"))
}

/// Adds or changes a block of the cluster.
pub(super) fn put(conn: &Connection, block: Block, pool: &PoolName, state: BlockState) -> Result<(), Error> {
    put_cooling(conn, block, pool, state, BootTime::default())
}

/// Opens a block of the cluster that was the node's before: what the store has forgotten of it cools since the rebuild.
pub(super) fn bring_back(conn: &Connection, block: Block, pool: &PoolName) -> Result<(), Error> {
    put_cooling(conn, block, pool, BlockState::Open, history(conn)?.cools_until)
}

/// A block that is there already goes on cooling as it does.
fn put_cooling(
    conn: &Connection,
    block: Block,
    pool: &PoolName,
    state: BlockState,
    cools_until: BootTime,
) -> Result<(), Error> {
    let others = all(conn)?;
    let Some(other) = others.iter().find(|other| other.block.overlaps(block)) else {
        return insert(conn, &New { block, pool: Some(pool), state, origin: Origin::Cluster, cools_until });
    };
    if other.block != block || other.origin != Origin::Cluster {
        return Err(Error::Overlap { block, other: other.block });
    }
    conn.execute("UPDATE block SET pool = ?2, state = ?3 WHERE id = ?1", (other.id, pool.as_str(), state))
        .map_err(sqlite("changing a block"))
        .map(drop)
}

/// A block to be added.
pub(super) struct New<'a> {
    pub(super) block: Block,
    pub(super) pool: Option<&'a PoolName>,
    pub(super) state: BlockState,
    pub(super) origin: Origin,
    pub(super) cools_until: BootTime,
}

/// Adds a block that overlaps no other. Rows of addresses in it that belonged to no block belong to it from now on.
pub(super) fn insert(conn: &Connection, new: &New<'_>) -> Result<(), Error> {
    let block = new.block;
    let write = || {
        conn.execute(
            "INSERT INTO block (first, length, cidr, pool, state, origin, cursor, cools_until)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?1, ?7)",
            (
                Ip(block.first()),
                block.cidr().prefix(),
                block.to_string(),
                new.pool.map(PoolName::as_str),
                new.state,
                new.origin,
                Time(new.cools_until),
            ),
        )?;
        let id = conn.last_insert_rowid();
        conn.execute(
            "UPDATE address SET block = ?1 WHERE block IS NULL AND ip BETWEEN ?2 AND ?3",
            (id, Ip(block.first()), Ip(block.last())),
        )?;
        recount(conn)
    };
    write().map_err(sqlite("adding a block"))
}

/// Counts the rows of addresses in all blocks anew, where rows came or went in another way than one by one.
pub(super) fn recount(conn: &Connection) -> rusqlite::Result<()> {
    conn.execute("UPDATE block SET taken = (SELECT count(*) FROM address WHERE address.block = block.id)", []).map(drop)
}

/// Sees to it that a block of origin configuration covers `subnet`, and says whether blocks were changed.
///
/// A network configuration may be edited, and two may name nested subnets: a narrower subnet is served out of the wider
/// block that is there, a wider one takes the narrower blocks up into its own.
pub(super) fn cover(conn: &Connection, blocks: &[BlockRow], subnet: Block) -> Result<bool, Error> {
    let there = overlapping(blocks, subnet)?;
    if there.iter().any(|other| other.block.covers(subnet)) {
        return Ok(false);
    }
    let forget = || {
        for other in &there {
            conn.execute("UPDATE address SET block = NULL WHERE block = ?1", [other.id])?;
            conn.execute("DELETE FROM block WHERE id = ?1", [other.id])?;
        }
        Ok(())
    };
    forget().map_err(sqlite("widening a block"))?;
    let cools_until = cools_until(conn, &there)?;
    let new = New { block: subnet, pool: None, state: BlockState::Open, origin: Origin::Configuration, cools_until };
    insert(conn, &new).map(|_| true)
}

/// The block that [`cover`] would find or make. One that is not there yet has no number.
pub(super) fn as_if_covered(conn: &Connection, blocks: &[BlockRow], subnet: Block) -> Result<BlockRow, Error> {
    let there = overlapping(blocks, subnet)?;
    if let Some(row) = there.iter().find(|other| other.block.covers(subnet)) {
        return Ok((*row).clone());
    }
    Ok(BlockRow {
        id: 0,
        block: subnet,
        pool: None,
        state: BlockState::Open,
        origin: Origin::Configuration,
        cursor: subnet.first(),
        taken: there.iter().map(|other| other.taken).sum(),
        cools_until: cools_until(conn, &there)?,
    })
}

/// The blocks that share an address with `subnet`: all of them from a configuration.
fn overlapping(blocks: &[BlockRow], subnet: Block) -> Result<Vec<&BlockRow>, Error> {
    let there: Vec<_> = blocks.iter().filter(|other| other.block.overlaps(subnet)).collect();
    match there.iter().find(|other| other.origin != Origin::Configuration) {
        Some(other) => Err(Error::Overlap { block: subnet, other: other.block }),
        None => Ok(there),
    }
}

/// Until when a block cools that takes these up.
fn cools_until(conn: &Connection, there: &[&BlockRow]) -> Result<BootTime, Error> {
    let inherited = there.iter().map(|other| other.cools_until).max().unwrap_or_default();
    Ok(inherited.max(history(conn)?.cools_until))
}

/// The subnets of a configuration as blocks.
pub(super) fn subnets(subnets: &[IpNetwork]) -> Vec<Block> {
    let blocks = subnets.iter().filter_map(|subnet| IpNetwork::new(subnet.network(), subnet.prefix()).ok());
    let mut blocks: Vec<_> = blocks.filter_map(Block::new).collect();
    blocks.sort();
    blocks.dedup();
    blocks
}

/// open → closing, where it is empty.
pub(super) fn close_empty(conn: &Connection, block: Block, now: BootTime, cooling: Duration) -> Result<bool, Error> {
    choosing::purge(conn, now, cooling)?;
    let Some(row) = all(conn)?.into_iter().find(|row| row.block == block) else {
        return Ok(false);
    };
    let cools = || counts(conn, now, cooling).map(|counted| counted.get(&row.id).map_or(0, |counts| counts.cooling));
    let out = if stands(Guard::CoolingCountsAsUse) { 0 } else { cools().map_err(sqlite("counting addresses"))? };
    if row.taken > out || !row.is_cool(now) {
        return Ok(false);
    }
    conn.execute("UPDATE block SET state = ?2 WHERE id = ?1", (row.id, BlockState::Closing))
        .map_err(sqlite("closing a block"))?;
    Ok(true)
}

/// Forgets a block that is empty, or was never there.
pub(super) fn remove(conn: &Connection, block: Block, now: BootTime, cooling: Duration) -> Result<bool, Error> {
    choosing::purge(conn, now, cooling)?;
    let Some(row) = all(conn)?.into_iter().find(|row| row.block == block) else {
        return Ok(true);
    };
    if row.taken > 0 || !row.is_cool(now) {
        return Ok(false);
    }
    conn.execute("DELETE FROM block WHERE id = ?1", [row.id]).map_err(sqlite("removing a block"))?;
    Ok(true)
}

/// The tunnel address of a family, if one was taken.
pub(super) fn tunnel_address(conn: &Connection, family: Family) -> Result<Option<IpAddr>, Error> {
    let read = || {
        conn.prepare_cached(
            "SELECT ip FROM address JOIN block ON block.id = address.block
             WHERE tunnel AND origin = 'cluster' AND substr(ip, 1, 1) = substr(?1, 1, 1) ORDER BY ip LIMIT 1",
        )?
        .query_row([Ip(family.address(0))], |row| row.get(0))
        .optional()
    };
    Ok(read().map_err(sqlite("reading the tunnel address"))?.map(|Ip(ip)| ip))
}

/// Takes one where none was taken.
pub(super) fn take_tunnel(
    conn: &Connection,
    family: Family,
    now: BootTime,
    cooling: Duration,
) -> Result<Option<IpAddr>, Error> {
    if let Some(taken) = tunnel_address(conn, family)? {
        return Ok(Some(taken));
    }
    choosing::purge(conn, now, cooling)?;
    let node = node::node(conn)?;
    let open = all(conn)?.into_iter().filter(|row| row.state == BlockState::Open && row.origin == Origin::Cluster);
    let of_family = open.filter(|row| row.block.family() == family);
    let mut candidates: Vec<_> =
        of_family.map(|row| Candidate::whole(row.clone(), reserved(node.as_ref(), &row))).collect();
    // One that is only for pods that ask for it is taken where there is no other: it is the first to go again.
    candidates
        .sort_by_key(|candidate| node.as_ref().is_some_and(|node| !node.serves(candidate.row.pool.as_ref(), &[])));
    if candidates.is_empty() {
        return Ok(None);
    }
    match choosing::choose(conn, &candidates, None, now)? {
        Choice::Found(found) => {
            found.give_to_node(conn).map_err(sqlite("taking the tunnel address"))?;
            Ok(Some(found.ip))
        }
        Choice::None { used, total } => {
            Err(Error::NoFreeAddress { family: family.name(), used, total, exhausted: Vec::new() })
        }
    }
}

/// Takes another tunnel address of the family in the place of the one that was taken, out of an open block. Where there is
/// none to be had the old one stays, unless `give_up`.
pub(super) fn move_tunnel(
    conn: &Connection,
    family: Family,
    give_up: bool,
    now: BootTime,
    cooling: Duration,
) -> Result<Option<IpAddr>, Error> {
    let Some(old) = tunnel_address(conn, family)? else { return Ok(None) };
    release_tunnel(conn, old, now)?;
    match take_tunnel(conn, family, now, cooling)? {
        None if !give_up => Err(Error::NotReady),
        taken => Ok(taken),
    }
}

/// Lets a tunnel address cool.
pub(super) fn release_tunnel(conn: &Connection, ip: IpAddr, now: BootTime) -> Result<(), Error> {
    conn.execute("UPDATE address SET tunnel = NULL, cooling = ?2 WHERE ip = ?1 AND tunnel", (Ip(ip), Time(now)))
        .map_err(sqlite("giving back the tunnel address"))
        .map(drop)
}

/// All blocks with what is in use.
pub(super) fn usage(conn: &Connection, now: BootTime, cooling: Duration) -> Result<Vec<BlockUse>, Error> {
    let counted = counts(conn, now, cooling).map_err(sqlite("counting addresses"))?;
    let node = node::node(conn)?;
    let cool_since = rows::cool_since(now, cooling).map_or(-1, rows::nanoseconds);
    let uses = all(conn)?.into_iter().map(|row| {
        let candidate = Candidate::whole(row.clone(), reserved(node.as_ref(), &row));
        let reserved = candidate.reserved(conn, cool_since).map_err(sqlite("counting reserved addresses"))?;
        let Counts { assigned, cooling, own, tunnel } = counted.get(&row.id).cloned().unwrap_or_default();
        let total = row.block.size();
        // Further local addresses of the node are not free either, though nobody's.
        let others = cooling + own - tunnel.iter().len() as u64;
        let rest = total.saturating_sub(assigned).saturating_sub(tunnel.iter().len() as u64).saturating_sub(reserved);
        let cooling = if row.is_cool(now) { others } else { rest };
        Ok(BlockUse {
            block: row.block,
            pool: row.pool,
            state: row.state,
            origin: row.origin,
            tunnel,
            total,
            assigned,
            cooling,
            reserved,
        })
    });
    uses.collect()
}

/// What the pool of a block reserves.
pub(super) fn reserved<'a>(node: Option<&'a Node>, row: &BlockRow) -> &'a [Reserved] {
    let pool = row.pool.as_ref().and_then(|pool| node?.pool(pool));
    pool.map_or(&[], |pool| &pool.reserved)
}

/// The rows of addresses in one block by kind.
#[derive(Debug, Clone, Default)]
struct Counts {
    assigned: u64,
    cooling: u64,
    own: u64,
    tunnel: Option<IpAddr>,
}

fn counts(conn: &Connection, now: BootTime, cooling: Duration) -> rusqlite::Result<HashMap<i64, Counts>> {
    let cool_since = rows::cool_since(now, cooling).map_or(-1, rows::nanoseconds);
    let mut select = conn.prepare(
        "SELECT block, count(attachment), count(nullif(cooling > ?1, 0)), count(tunnel), min(iif(tunnel, ip, NULL))
         FROM address WHERE block IS NOT NULL GROUP BY block",
    )?;
    let counts = select.query_map([cool_since], |row| {
        let tunnel: Option<Ip> = row.get(4)?;
        let count = |at| row.get::<_, u32>(at).map(u64::from);
        let counts = Counts { assigned: count(1)?, cooling: count(2)?, own: count(3)?, tunnel: tunnel.map(|ip| ip.0) };
        Ok((row.get(0)?, counts))
    })?;
    counts.collect()
}
