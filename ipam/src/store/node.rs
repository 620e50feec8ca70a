//! The row that tells plugins about their node.

use rusqlite::{Connection, OptionalExtension};
use twill_conf::PoolName;

use crate::Error;
use crate::error::sqlite;

use super::Node;

/// What the daemon last wrote.
pub(super) fn node(conn: &Connection) -> Result<Option<Node>, Error> {
    let read = || {
        conn.prepare_cached("SELECT name, mtu, ipv4, ipv6, exhausted FROM node")?
            .query_row([], |row| {
                let exhausted: String = row.get(4)?;
                let exhausted: Vec<PoolName> = serde_json::from_str(&exhausted).map_err(|cause| {
                    rusqlite::Error::FromSqlConversionFailure(4, rusqlite::types::Type::Text, cause.into())
                })?;
                Ok(Node { name: row.get(0)?, mtu: row.get(1)?, ipv4: row.get(2)?, ipv6: row.get(3)?, exhausted })
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
    Ok(())
}
