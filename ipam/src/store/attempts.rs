//! The last failures, for `twillctl`: why a pod does not start, without a search through logs.

use rusqlite::Connection;

use crate::error::sqlite;
use crate::{BootTime, Error};

use super::{Attempt, rows};

/// How many are kept.
const KEPT: i64 = 256;
/// The most bytes of a text: what a runtime or a kernel says is usually short, and the store is small.
const LONGEST: usize = 2048;

/// Adds one, and drops those that are too many.
pub(super) fn record(conn: &Connection, attempt: &Attempt) -> Result<(), Error> {
    let key = attempt.key.as_ref();
    let pod = attempt.pod.as_ref();
    conn.execute(
        "INSERT INTO attempt (at, verb, network, container, ifname, pod_namespace, pod_name, step, cause, code, took)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        (
            rows::Time(attempt.at),
            cut(&attempt.verb),
            key.map(|key| key.network.as_str()),
            key.map(|key| key.container.as_str()),
            key.map(|key| key.ifname.as_str()),
            pod.map(|pod| cut(&pod.namespace)),
            pod.map(|pod| cut(&pod.name)),
            cut(&attempt.step),
            cut(&attempt.cause),
            attempt.code,
            rows::nanoseconds(BootTime(attempt.took)),
        ),
    )
    .map_err(sqlite("recording an attempt"))?;
    conn.execute("DELETE FROM attempt WHERE id <= ?1", [conn.last_insert_rowid() - KEPT])
        .map_err(sqlite("dropping old attempts"))?;
    Ok(())
}

/// All that are kept, newest first.
pub(super) fn all(conn: &Connection) -> Result<Vec<Attempt>, Error> {
    let read = || {
        let mut select = conn.prepare(
            "SELECT at, verb, network, container, ifname, pod_namespace, pod_name, step, cause, code, took
             FROM attempt ORDER BY id DESC",
        )?;
        let attempts = select.query_map([], |row| {
            let (rows::Time(at), rows::Time(BootTime(took))) = (row.get(0)?, row.get(10)?);
            Ok(Attempt {
                at,
                verb: row.get(1)?,
                key: rows::key(row, 2)?,
                pod: rows::pod(row, 5)?,
                step: row.get(7)?,
                cause: row.get(8)?,
                code: row.get(9)?,
                took,
            })
        })?;
        attempts.collect::<rusqlite::Result<Vec<_>>>()
    };
    read().map_err(sqlite("reading attempts"))
}

/// The beginning of `text`, at most [`LONGEST`] bytes, whole characters.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST)]
}
