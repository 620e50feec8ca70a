//! Rows of attachments: reading them, and the steps after the reservation.

use std::collections::HashMap;
use std::net::IpAddr;

use rusqlite::{Connection, OptionalExtension, Row};

use crate::attachment::{Next, Step, step};
use crate::error::sqlite;
use crate::guard::{Guard, stands};
use crate::{Attachment, AttachmentId, Block, BootTime, Error, Extras, KeyHash, State};

use super::rows::{self, Ip, Time};

/// All columns, in the order in which the schema's steps made them. Not by name: a file of an older minor version lacks some.
const COLUMNS: &str = "SELECT * FROM attachment";
/// The place of the column that minor version 1 added, `extras`.
const EXTRAS: usize = 11;
const ADDRESSES: &str = "SELECT attachment, ip, first, length FROM address LEFT JOIN block ON block.id = address.block";

/// reserved → attached.
pub(super) fn confirm(conn: &Connection, id: AttachmentId, now: BootTime) -> Result<(), Error> {
    let state = state_of(conn, id)?.map(|(_, state)| state);
    if !stands(Guard::RowIsOurs) {
        return set_state(conn, id, State::Attached, now);
    }
    if let Next::Row(state) = step(state, Step::Confirm)? {
        set_state(conn, id, state, now)?;
    }
    Ok(())
}

/// Whether the row is there and reserved.
pub(super) fn still_reserved(conn: &Connection, id: AttachmentId) -> Result<bool, Error> {
    Ok(matches!(state_of(conn, id)?, Some((_, State::Reserved))))
}

/// any → deleting.
pub(super) fn mark_deleting(conn: &Connection, hash: KeyHash, now: BootTime) -> Result<Option<Attachment>, Error> {
    let Some(mut row) = by_hash(conn, hash)? else {
        return Ok(None);
    };
    if let Next::Row(state) = step(Some(row.state), Step::Delete)?
        && state != row.state
    {
        set_state(conn, row.id, state, now)?;
        (row.state, row.changed) = (state, now);
    }
    Ok(Some(row))
}

/// any → cooling.
pub(super) fn release(conn: &Connection, id: AttachmentId, now: BootTime) -> Result<(), Error> {
    match state_of(conn, id)? {
        Some((hash, state)) if step(Some(state), Step::Free)? == Next::Gone => free(conn, id, hash, now),
        _ => Ok(()),
    }
}

/// any → cooling, `ip` in nobody's name.
///
/// Says whether the row was still reserved: a DEL that marked it is not forgotten with it.
pub(super) fn abandon(conn: &Connection, id: AttachmentId, ip: IpAddr, now: BootTime) -> Result<bool, Error> {
    let reserved = still_reserved(conn, id)?;
    conn.prepare_cached("UPDATE address SET attachment = NULL, cooling = ?3 WHERE attachment = ?1 AND ip = ?2")
        .and_then(|mut update| update.execute((id.0, Ip(ip), Time(now))))
        .map_err(sqlite("abandoning an address"))?;
    release(conn, id, now).map(|()| reserved)
}

/// As [`release`], only where nothing happened to the row since `seen`.
pub(super) fn sweep(conn: &Connection, seen: &Attachment, now: BootTime) -> Result<bool, Error> {
    match by_hash(conn, seen.hash)? {
        Some(row) if row.is_still(seen) => release(conn, row.id, now).map(|()| true),
        _ => Ok(false),
    }
}

/// Takes the row away and lets its addresses cool in its name.
pub(super) fn free(conn: &Connection, id: AttachmentId, hash: KeyHash, now: BootTime) -> Result<(), Error> {
    let write = || {
        conn.prepare_cached("UPDATE address SET attachment = NULL, cooling = ?2, owner = ?3 WHERE attachment = ?1")?
            .execute((id.0, Time(now), hash))?;
        conn.prepare_cached("DELETE FROM attachment WHERE id = ?1")?.execute([id.0])
    };
    write().map_err(sqlite("releasing")).map(drop)
}

/// The row of one key.
pub(super) fn by_hash(conn: &Connection, hash: KeyHash) -> Result<Option<Attachment>, Error> {
    let read = || {
        let row =
            conn.prepare_cached(&format!("{COLUMNS} WHERE hash = ?1"))?.query_row([hash], attachment).optional()?;
        let Some(mut row) = row else {
            return Ok(None);
        };
        let mut select = conn.prepare_cached(&format!("{ADDRESSES} WHERE attachment = ?1 ORDER BY ip"))?;
        row.addresses =
            select.query_map([row.id.0], address)?.map(|row| row.map(|(_, at)| at)).collect::<Result<_, _>>()?;
        Ok(Some(row))
    };
    read().map_err(sqlite("reading an attachment"))
}

/// All rows, oldest first.
pub(super) fn all(conn: &Connection) -> Result<Vec<Attachment>, Error> {
    let read = || {
        let mut of: HashMap<AttachmentId, Vec<_>> = HashMap::new();
        let mut select = conn.prepare(&format!("{ADDRESSES} WHERE attachment IS NOT NULL ORDER BY ip"))?;
        for row in select.query_map([], address)? {
            let (id, at) = row?;
            of.entry(id).or_default().push(at);
        }
        let mut select = conn.prepare(&format!("{COLUMNS} ORDER BY id"))?;
        let rows = select.query_map([], |row| {
            let mut row = attachment(row)?;
            row.addresses = of.remove(&row.id).unwrap_or_default();
            Ok(row)
        })?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    read().map_err(sqlite("reading attachments"))
}

/// The rows that have extras, oldest first, without their addresses. The file is of minor version 1 at least.
pub(super) fn with_extras(conn: &Connection) -> Result<Vec<Attachment>, Error> {
    let read = || {
        let mut select = conn.prepare(&format!("{COLUMNS} WHERE extras IS NOT NULL ORDER BY id"))?;
        let rows = select.query_map([], attachment)?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    read().map_err(sqlite("reading attachments"))
}

/// Writes what an attachment has beyond link and addresses. The file is of minor version 1 at least.
pub(super) fn set_extras(conn: &Connection, id: AttachmentId, extras: &Extras) -> Result<(), Error> {
    let write = || conn.execute("UPDATE attachment SET extras = ?2 WHERE id = ?1", (id.0, extras));
    write().map_err(sqlite("writing an attachment's ports and limits")).map(drop)
}

fn state_of(conn: &Connection, id: AttachmentId) -> Result<Option<(KeyHash, State)>, Error> {
    let read = || {
        conn.prepare_cached("SELECT hash, state FROM attachment WHERE id = ?1")?
            .query_row([id.0], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
    };
    read().map_err(sqlite("reading a state"))
}

fn set_state(conn: &Connection, id: AttachmentId, state: State, now: BootTime) -> Result<(), Error> {
    let write = || {
        conn.prepare_cached("UPDATE attachment SET state = ?2, changed = ?3 WHERE id = ?1")?.execute((
            id.0,
            state,
            Time(now),
        ))
    };
    match write().map_err(sqlite("writing a state"))? {
        1 => Ok(()),
        // The row was read in this transaction, so this cannot be; were it so, the ADD would not own what it built.
        _ => Err(Error::Overtaken),
    }
}

fn attachment(row: &Row<'_>) -> rusqlite::Result<Attachment> {
    let netns: Option<rows::OwnedPath> = row.get(5)?;
    let (Time(created), Time(changed)) = (row.get(9)?, row.get(10)?);
    let has_extras = matches!(row.as_ref().column_name(EXTRAS), Ok("extras"));
    let extras: Option<Extras> = if has_extras { row.get(EXTRAS)? } else { None };
    Ok(Attachment {
        id: AttachmentId(row.get(0)?),
        hash: row.get(1)?,
        key: rows::key(row, 2)?,
        netns: netns.map(|netns| netns.0),
        pod: rows::pod(row, 6)?,
        state: row.get(8)?,
        created,
        changed,
        addresses: Vec::new(),
        extras: extras.unwrap_or_default(),
    })
}

/// An address of an attachment. One outside of all blocks is told with a block of its own.
fn address(row: &Row<'_>) -> rusqlite::Result<(AttachmentId, (IpAddr, Block))> {
    let Ip(ip) = row.get(1)?;
    let first: Option<Ip> = row.get(2)?;
    let block = if first.is_some() { rows::block(row, 2)? } else { Block::host(ip) };
    Ok((AttachmentId(row.get(0)?), (ip, block)))
}
