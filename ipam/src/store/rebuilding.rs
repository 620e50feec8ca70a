//! A new store in a boot whose kernel already has pods: it learns from them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use rusqlite::Connection;

use crate::error::sqlite;
use crate::guard::{Guard, stands};
use crate::{AttachmentId, BootTime, Error, KeyHash, State};

use super::attachments;
use super::blocks::{self, BlockRow};
use super::rows::{Ip, Time};
use super::{Observed, Rebuilt};

/// What the file knows of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct History {
    /// Another store of this boot was there before it.
    pub(super) lost: bool,
    /// When it was compared with the kernel.
    pub(super) rebuilt: Option<BootTime>,
    /// Until then addresses of which nothing is known cool.
    pub(super) cools_until: BootTime,
}

/// Reads it.
pub(super) fn history(conn: &Connection) -> Result<History, Error> {
    let read = || {
        conn.prepare_cached("SELECT lost, rebuilt, cools_until FROM meta")?.query_row([], |row| {
            let (rebuilt, Time(cools_until)): (Option<Time>, _) = (row.get(1)?, row.get(2)?);
            Ok(History { lost: row.get(0)?, rebuilt: rebuilt.map(|time| time.0), cools_until })
        })
    };
    read().map_err(sqlite("reading the store's history"))
}

/// Adds what was observed.
pub(super) fn rebuild(
    conn: &Connection,
    observed: &Observed,
    now: BootTime,
    cooling: Duration,
) -> Result<Rebuilt, Error> {
    let there = blocks::all(conn)?;
    let (owners, mut disputed) = owners(observed);
    let mut added = Vec::new();
    for (hash, addresses) in owners {
        if let Some(id) = add_attachment(conn, hash, now)? {
            added.push(hash);
            if let Some(extras) = observed.extras.get(&hash) {
                attachments::set_extras(conn, id, extras)?;
            }
            disputed.extend(add_addresses(conn, &there, Use::Attachment(id), &addresses)?);
        }
    }
    let tunnel = if stands(Guard::TunnelInRebuild) { &observed.tunnel[..] } else { &[] };
    for (kind, addresses) in [(Use::Tunnel, tunnel), (Use::Withheld, &observed.local)] {
        disputed.extend(add_addresses(conn, &there, kind, addresses)?);
    }
    // Of those that somebody in the store has it is known who: the others must not be given as long as this file lives.
    let withheld: Vec<_> = disputed.iter().copied().collect();
    add_addresses(conn, &there, Use::Withheld, &withheld)?;
    // Pods die with the boot, so if there are some that the store does not have, there was one that knew them. Of the
    // node's own addresses some may be there from the start.
    let lost = history(conn)?.lost || !added.is_empty();
    let cools_until =
        if lost && stands(Guard::CoolingAfterRebuild) { BootTime(now.0 + cooling) } else { BootTime::default() };
    let write = || {
        conn.execute(
            "UPDATE meta SET lost = ?1, rebuilt = ?2, cools_until = ?3",
            (lost, Time(now), Time(cools_until)),
        )?;
        conn.execute("UPDATE block SET cools_until = max(cools_until, ?1)", [Time(cools_until)])?;
        blocks::recount(conn)
    };
    write().map_err(sqlite("writing the store's history"))?;
    Ok(Rebuilt { added, disputed: disputed.into_iter().collect() })
}

/// Adds one attachment, if it was seen, is not there, and all its addresses are nobody's.
pub(super) fn adopt(conn: &Connection, hash: KeyHash, seen: &Observed, now: BootTime) -> Result<bool, Error> {
    let (owners, disputed) = owners(seen);
    let Some(addresses) = owners.get(&hash) else { return Ok(false) };
    let is_its = |(other, addresses): &(KeyHash, Vec<IpAddr>)| {
        *other == hash && addresses.iter().any(|ip| disputed.contains(ip))
    };
    if seen.attachments.iter().any(is_its) {
        return Ok(false);
    }
    let is_somebodys = |ip: &IpAddr| {
        conn.query_row("SELECT EXISTS (SELECT 1 FROM address WHERE ip = ?1 AND cooling IS NULL)", [Ip(*ip)], |row| {
            row.get(0)
        })
    };
    for ip in addresses {
        if is_somebodys(ip).map_err(sqlite("looking for an address"))? {
            return Ok(false);
        }
    }
    let Some(id) = add_attachment(conn, hash, now)? else { return Ok(false) };
    if let Some(extras) = seen.extras.get(&hash) {
        attachments::set_extras(conn, id, extras)?;
    }
    add_addresses(conn, &blocks::all(conn)?, Use::Attachment(id), addresses)?;
    blocks::recount(conn).map_err(sqlite("counting addresses"))?;
    Ok(true)
}

/// The addresses that each attachment alone has, and those that are claimed by two.
fn owners(observed: &Observed) -> (BTreeMap<KeyHash, Vec<IpAddr>>, BTreeSet<IpAddr>) {
    let mut claims: BTreeMap<IpAddr, BTreeSet<KeyHash>> = BTreeMap::new();
    let mut owners: BTreeMap<_, Vec<_>> = observed.attachments.iter().map(|(hash, _)| (*hash, Vec::new())).collect();
    for (hash, addresses) in &observed.attachments {
        for ip in addresses {
            claims.entry(*ip).or_default().insert(*hash);
        }
    }
    let mut disputed = BTreeSet::new();
    for (ip, hashes) in claims {
        match hashes.first() {
            Some(hash) if hashes.len() == 1 => owners.entry(*hash).or_default().push(ip),
            _ => disputed.extend([ip]),
        }
    }
    (owners, disputed)
}

/// Adds an attachment of which only the hash is known; `None` where the store has it, and knows better.
fn add_attachment(conn: &Connection, hash: KeyHash, now: BootTime) -> Result<Option<AttachmentId>, Error> {
    let added = conn
        .execute(
            "INSERT INTO attachment (hash, state, created, changed) VALUES (?1, ?2, ?3, ?3) ON CONFLICT DO NOTHING",
            (hash, State::Attached, Time(now)),
        )
        .map_err(sqlite("adding an attachment"))?;
    Ok((added == 1).then(|| AttachmentId(conn.last_insert_rowid())))
}

/// Whose an address becomes.
#[derive(Debug, Clone, Copy)]
enum Use {
    Attachment(AttachmentId),
    Tunnel,
    /// Nobody's to give: an address of the node itself, or one of two owners.
    Withheld,
}

/// Writes whose some addresses are, and gives those that the store has as somebody else's. One that cools was given back
/// too early, then.
fn add_addresses(conn: &Connection, there: &[BlockRow], kind: Use, addresses: &[IpAddr]) -> Result<Vec<IpAddr>, Error> {
    let (attachment, tunnel) = match kind {
        Use::Attachment(id) => (Some(id.0), None),
        Use::Tunnel => (None, Some(true)),
        Use::Withheld => (None, Some(false)),
    };
    let write = |ip: IpAddr| {
        let block = there.iter().find(|row| row.block.contains(ip)).map(|row| row.id);
        conn.execute(
            "INSERT INTO address (ip, text, block, attachment, tunnel) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (ip) DO UPDATE SET attachment = ?4, tunnel = ?5, cooling = NULL, owner = NULL
             WHERE cooling IS NOT NULL",
            (Ip(ip), ip.to_string(), block, attachment, tunnel),
        )?;
        conn.query_row(
            // The node may well have an address on two interfaces.
            "SELECT attachment IS ?2 FROM address WHERE ip = ?1",
            (Ip(ip), attachment),
            |row| row.get(0),
        )
    };
    let mut others = Vec::new();
    for ip in addresses {
        if !write(*ip).map_err(sqlite("adding an address"))? {
            others.push(*ip);
        }
    }
    Ok(others)
}
