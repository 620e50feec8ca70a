//! Choosing an address: out of which blocks, and which one. Within the caller's transaction.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use rusqlite::Connection;
use twill_conf::cluster::Reserved;

use crate::address::{Range, first_gap};
use crate::error::sqlite;
use crate::family::number;
use crate::pool::reserved_in;
use crate::{AttachmentId, Block, BootTime, Error, Family, KeyHash};

use super::blocks::BlockRow;
use super::rows::{self, Ip};

/// A part of a block that may be chosen from: all of it, or the subnet that a configuration names.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) row: BlockRow,
    part: Block,
    range: Range,
    /// What of the block is never given.
    reserved: Vec<Range>,
}

impl Candidate {
    /// All of a block, but for what its pool reserves.
    pub(super) fn whole(row: BlockRow, reserved: &[Reserved]) -> Self {
        let reserved = reserved_in(row.block, reserved);
        Self { range: row.block.into(), part: row.block, row, reserved }
    }

    /// The part of a block that `subnet` covers, which lies in it.
    pub(super) fn part(row: BlockRow, subnet: Block) -> Self {
        Self { row, range: subnet.into(), part: subnet, reserved: Vec::new() }
    }

    /// What may be chosen from, as a range.
    pub(super) fn part_of_block(&self) -> Block {
        self.part
    }

    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        self.family() == Family::of(ip) && self.range.contains(number(ip))
    }

    /// Whether `ip`, which it contains, is never given.
    pub(super) fn reserves(&self, ip: IpAddr) -> bool {
        self.reserved.iter().any(|range| range.contains(number(ip)))
    }

    /// How many reserved addresses are nobody's now.
    pub(super) fn reserved(&self, conn: &Connection, cool_since: i64) -> rusqlite::Result<u64> {
        let mut sum: u64 = 0;
        for range in &self.reserved {
            let ends = [range.first, range.last].map(|end| Ip(self.family().address(end)));
            let rows: u32 = conn
                .prepare_cached("SELECT count(*) FROM address WHERE ip BETWEEN ?1 AND ?2 AND ifnull(cooling > ?3, 1)")?
                .query_row((ends[0], ends[1], cool_since), |row| row.get(0))?;
            sum = sum.saturating_add(range.size().saturating_sub(rows.into()));
        }
        Ok(sum)
    }

    /// How many addresses there are, given, free or reserved; `u64::MAX` where there are more.
    pub(super) fn size(&self) -> u64 {
        self.range.size()
    }

    /// The first and the last of them.
    pub(super) fn ends(&self) -> (IpAddr, IpAddr) {
        (self.family().address(self.range.first), self.family().address(self.range.last))
    }

    fn family(&self) -> Family {
        self.row.block.family()
    }
}

/// What was found.
pub(super) enum Choice<'a> {
    /// An address.
    Found(Found<'a>),
    /// None; so many of so many addresses are in use or cooling.
    None {
        /// In use or cooling.
        used: u64,
        /// All.
        total: u64,
    },
}

/// An address that may be given.
pub(super) struct Found<'a> {
    pub(super) ip: IpAddr,
    pub(super) candidate: &'a Candidate,
    pub(super) how: How,
}

/// How an address was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// It has a row, for it cools in the name of who gets it back.
    Back,
    /// It is the next one of its block's round.
    Next,
    /// It was asked for, out of turn: the round goes on where it was.
    Asked,
}

impl Found<'_> {
    /// Gives the address to an attachment.
    pub(super) fn give(&self, conn: &Connection, id: AttachmentId) -> rusqlite::Result<()> {
        if self.how == How::Back {
            conn.prepare_cached("UPDATE address SET attachment = ?2, cooling = NULL, owner = NULL WHERE ip = ?1")?
                .execute((Ip(self.ip), id.0))?;
            return Ok(());
        }
        self.insert(conn, Some(id))
    }

    /// Gives the address to the node itself.
    pub(super) fn give_to_node(&self, conn: &Connection) -> rusqlite::Result<()> {
        self.insert(conn, None)
    }

    /// Writes the row of an address that has none. The next search in its block begins behind it, if it was its turn.
    fn insert(&self, conn: &Connection, id: Option<AttachmentId>) -> rusqlite::Result<()> {
        let block = self.candidate.row.id;
        conn.prepare_cached("INSERT INTO address (ip, text, block, attachment, tunnel) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute((Ip(self.ip), self.ip.to_string(), block, id.map(|id| id.0), id.is_none().then_some(1)))?;
        if self.how == How::Asked {
            conn.prepare_cached("UPDATE block SET taken = taken + 1 WHERE id = ?1")?.execute([block])?;
            return Ok(());
        }
        let next = self.candidate.family().address(self.candidate.range.after(number(self.ip)));
        conn.prepare_cached("UPDATE block SET taken = taken + 1, cursor = ?2 WHERE id = ?1")?
            .execute((block, Ip(next)))?;
        Ok(())
    }
}

/// Forgets the addresses that have cooled. Each passes here once for each time that it was given back.
pub(super) fn purge(conn: &Connection, now: BootTime, cooling: Duration) -> Result<(), Error> {
    let Some(since) = rows::cool_since(now, cooling).map(rows::Time) else {
        return Ok(());
    };
    let write = || {
        let mut select = conn.prepare_cached("SELECT block FROM address WHERE cooling <= ?1")?;
        let mut counts: HashMap<Option<i64>, i64> = HashMap::new();
        for block in select.query_map([since], |row| row.get(0))? {
            *counts.entry(block?).or_default() += 1;
        }
        if counts.is_empty() {
            return Ok(());
        }
        for count in counts {
            conn.prepare_cached("UPDATE block SET taken = taken - ?2 WHERE id = ?1")?.execute(count)?;
        }
        conn.execute("DELETE FROM address WHERE cooling <= ?1", [since]).map(drop)
    };
    write().map_err(sqlite("forgetting cooled addresses"))
}

/// Chooses an address of one family: the one that `owner` gave back last and that still cools, or else, in the first
/// candidate with room, the next free one from the cursor on. The caller has purged.
pub(super) fn choose<'a>(
    conn: &Connection,
    candidates: &'a [Candidate],
    owner: Option<KeyHash>,
    now: BootTime,
) -> Result<Choice<'a>, Error> {
    if let Some(owner) = owner
        && let Some(found) = own(conn, candidates, owner)?
    {
        return Ok(Choice::Found(found));
    }
    for candidate in candidates.iter().filter(|candidate| candidate.row.is_cool(now)) {
        if candidate.row.taken < candidate.row.block.size()
            && let Some(ip) = next_free(conn, candidate)?
        {
            return Ok(Choice::Found(Found { ip, candidate, how: How::Next }));
        }
    }
    let total = candidates.iter().fold(0, |sum: u64, candidate| sum.saturating_add(candidate.range.size()));
    // That none was found is the proof that all are in use.
    Ok(Choice::None { used: total, total })
}

/// The address that cools in the name of `owner`, if it lies in a candidate.
fn own<'a>(conn: &Connection, candidates: &'a [Candidate], owner: KeyHash) -> Result<Option<Found<'a>>, Error> {
    let read = || {
        let mut select = conn.prepare_cached("SELECT ip FROM address WHERE owner = ?1 ORDER BY ip")?;
        let ips = select.query_map([owner], |row| row.get(0))?;
        ips.collect::<rusqlite::Result<Vec<Ip>>>()
    };
    let ips = read().map_err(sqlite("looking for a cooling address"))?;
    Ok(ips.into_iter().find_map(|Ip(ip)| {
        candidates.iter().find(|c| c.contains(ip) && !c.reserves(ip)).map(|candidate| Found {
            ip,
            candidate,
            how: How::Back,
        })
    }))
}

/// The first address without a row, from the cursor on and round. Rows are walked only up to it: all in all each is
/// passed once a round.
fn next_free(conn: &Connection, candidate: &Candidate) -> Result<Option<IpAddr>, Error> {
    let family = candidate.family();
    let (rest, before) = candidate.range.round_from(number(candidate.row.cursor));
    let read = || {
        let mut select = conn.prepare_cached("SELECT ip FROM address WHERE ip BETWEEN ?1 AND ?2 ORDER BY ip")?;
        let ranges = [Some(rest), before].into_iter().flatten();
        for range in ranges.flat_map(|range| range.without(&candidate.reserved)) {
            let ends = [Ip(family.address(range.first)), Ip(family.address(range.last))];
            let taken = select.query_map(ends, |row| row.get(0))?;
            if let Some(found) = first_gap(range, taken.map(|ip| ip.map(|Ip(ip)| number(ip))))? {
                return Ok(Some(family.address(found)));
            }
        }
        Ok(None)
    };
    read().map_err(sqlite("looking for a free address"))
}
