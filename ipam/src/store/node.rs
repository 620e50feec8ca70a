//! The row that tells plugins about their node.

use rusqlite::{Connection, OptionalExtension};
use twill_conf::PoolName;

use crate::Error;
use crate::error::sqlite;

use super::{Node, schema};

/// The minor version that added the column `drain`.
const DRAIN: i64 = 2;

/// What the daemon last wrote. A file of an older minor version lacks some columns.
pub(super) fn node(conn: &Connection) -> Result<Option<Node>, Error> {
    let read = || {
        conn.prepare_cached("SELECT * FROM node")?
            .query_row([], |row| {
                let exhausted: String = row.get("exhausted")?;
                let exhausted: Vec<PoolName> = serde_json::from_str(&exhausted).map_err(|cause| {
                    rusqlite::Error::FromSqlConversionFailure(5, rusqlite::types::Type::Text, cause.into())
                })?;
                let drain = match row.as_ref().column_index("drain") {
                    Ok(place) => row.get(place)?,
                    Err(_) => None,
                };
                Ok(Node {
                    name: row.get("name")?,
                    mtu: row.get("mtu")?,
                    ipv4: row.get("ipv4")?,
                    ipv6: row.get("ipv6")?,
                    exhausted,
                    drain,
                })
            })
            .optional()
    };
    read().map_err(sqlite("reading the node"))
}

/// Writes the row.
pub(super) fn set(conn: &Connection, node: &Node) -> Result<(), Error> {
    let pools: Vec<_> = node.exhausted.iter().map(PoolName::as_str).collect();
    let exhausted = serde_json::Value::from(pools).to_string();
    conn.execute(
        "INSERT OR REPLACE INTO node (id, name, mtu, ipv4, ipv6, exhausted) VALUES (1, ?1, ?2, ?3, ?4, ?5)",
        (&node.name, node.mtu, node.ipv4, node.ipv6, exhausted),
    )
    .map_err(sqlite("writing the node"))?;
    if schema::version(conn)? % 1000 >= DRAIN {
        conn.execute("UPDATE node SET drain = ?1", [&node.drain]).map_err(sqlite("writing the node"))?;
    }
    Ok(())
}
