//! The rows of [`Want`]s, and why the daemon will not do what they say.

use rusqlite::{Connection, OptionalExtension, Row};
use twill_conf::PoolName;

use crate::error::sqlite;
use crate::want::{LIFETIME, Want};
use crate::{BootTime, Error, KeyHash};

use super::rows::{self, Ip, Time};

/// Writes a want in the place of the attachment's last one. The file is of minor version 2 at least.
pub(super) fn leave(conn: &Connection, want: &Want) -> Result<(), Error> {
    let pools: Vec<_> = want.pools.iter().map(PoolName::as_str).collect();
    conn.execute(
        "INSERT OR REPLACE INTO want (hash, pools, address, at) VALUES (?1, ?2, ?3, ?4)",
        (want.key, serde_json::Value::from(pools).to_string(), want.address.map(Ip), Time(want.at)),
    )
    .map_err(sqlite("leaving a want"))
    .map(drop)
}

/// Takes a want back.
pub(super) fn take_back(conn: &Connection, key: KeyHash) -> Result<(), Error> {
    conn.execute("DELETE FROM want WHERE hash = ?1", [key]).map_err(sqlite("taking a want back")).map(drop)
}

/// Those that wait yet, oldest first.
pub(super) fn waiting(conn: &Connection, now: BootTime) -> Result<Vec<Want>, Error> {
    let read = || {
        let mut select = conn.prepare_cached(
            "SELECT hash, pools, address, at FROM want WHERE refusal IS NULL AND at > ?1 ORDER BY at, hash",
        )?;
        let wants = select.query_map([forgotten(now)], want)?;
        wants.collect::<rusqlite::Result<Vec<_>>>()
    };
    read().map_err(sqlite("reading wants"))
}

/// Writes down why a want is not done. Nothing happens where it was taken back, or another stands in its place.
pub(super) fn refuse(conn: &Connection, want: &Want, why: &str) -> Result<(), Error> {
    conn.execute("UPDATE want SET refusal = ?3 WHERE hash = ?1 AND at = ?2", (want.key, Time(want.at), why))
        .map_err(sqlite("refusing a want"))
        .map(drop)
}

/// Why a want is not done, if that was written down.
pub(super) fn refusal(conn: &Connection, key: KeyHash) -> Result<Option<String>, Error> {
    let read = || {
        conn.prepare_cached("SELECT refusal FROM want WHERE hash = ?1")?.query_row([key], |row| row.get(0)).optional()
    };
    Ok(read().map_err(sqlite("reading a want"))?.flatten())
}

/// Whether some have outlived every ADD.
pub(super) fn has_forgotten(conn: &Connection, now: BootTime) -> Result<bool, Error> {
    let read = || {
        let mut select = conn.prepare_cached("SELECT EXISTS (SELECT 1 FROM want WHERE at <= ?1)")?;
        select.query_row([forgotten(now)], |row| row.get(0))
    };
    read().map_err(sqlite("reading wants"))
}

/// Removes those.
pub(super) fn forget(conn: &Connection, now: BootTime) -> Result<(), Error> {
    conn.execute("DELETE FROM want WHERE at <= ?1", [forgotten(now)]).map_err(sqlite("forgetting wants")).map(drop)
}

/// What was left then, or before, is nobody's any more.
fn forgotten(now: BootTime) -> i64 {
    rows::cool_since(now, LIFETIME).map_or(-1, rows::nanoseconds)
}

fn want(row: &Row<'_>) -> rusqlite::Result<Want> {
    let pools: String = row.get(1)?;
    let pools = serde_json::from_str(&pools)
        .map_err(|cause| rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, cause.into()))?;
    let address: Option<Ip> = row.get(2)?;
    let Time(at) = row.get(3)?;
    Ok(Want { key: row.get(0)?, pools, address: address.map(|ip| ip.0), at })
}
