//! The row that tells plugins about their node.

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row};
use serde_json::Value;
use twill_conf::PoolName;

use crate::error::sqlite;
use crate::pool::NodePool;
use crate::{Error, Family};

use super::Node;

/// The places of the columns that minor version 2 added. A file of an older version lacks them.
const POOLS: usize = 6;
const DRAIN: usize = 7;

/// What the daemon last wrote.
pub(super) fn node(conn: &Connection) -> Result<Option<Node>, Error> {
    let read = || conn.prepare_cached("SELECT * FROM node")?.query_row([], decode).optional();
    read().map_err(sqlite("reading the node"))
}

fn decode(row: &Row<'_>) -> rusqlite::Result<Node> {
    let exhausted: Vec<PoolName> = json(row, 5)?;
    let is_upgraded = matches!(row.as_ref().column_name(POOLS), Ok("pools"));
    let pools: Option<String> = if is_upgraded { row.get(POOLS)? } else { None };
    let pools: Vec<Value> = if pools.is_some() { json(row, POOLS)? } else { Vec::new() };
    let drain = if is_upgraded { row.get(DRAIN)? } else { None };
    // One of a kind that only a newer daemon knows is nobody's to take from.
    let pools = pools.iter().filter_map(NodePool::from_json).collect();
    Ok(Node { name: row.get(1)?, mtu: row.get(2)?, ipv4: row.get(3)?, ipv6: row.get(4)?, exhausted, pools, drain })
}

fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, at: usize) -> rusqlite::Result<T> {
    let text: String = row.get(at)?;
    serde_json::from_str(&text).map_err(|cause| rusqlite::Error::FromSqlConversionFailure(at, Type::Text, cause.into()))
}

/// Writes the row.
pub(super) fn set(conn: &Connection, node: &Node) -> Result<(), Error> {
    let exhausted: Vec<_> = node.exhausted.iter().map(PoolName::as_str).collect();
    let pools: Vec<_> = node.pools.iter().map(NodePool::to_json).collect();
    let write = || {
        conn.execute(
            "INSERT OR REPLACE INTO node (id, name, mtu, ipv4, ipv6, exhausted) VALUES (1, ?1, ?2, ?3, ?4, ?5)",
            (&node.name, node.mtu, node.ipv4, node.ipv6, Value::from(exhausted).to_string()),
        )?;
        if !pools.is_empty() || node.drain.is_some() {
            conn.execute("UPDATE node SET pools = ?1, drain = ?2", (Value::from(pools).to_string(), &node.drain))?;
        }
        Ok(())
    };
    write().map_err(sqlite("writing the node"))
}

impl Node {
    /// A pool as the daemon has told of it.
    pub(super) fn pool(&self, name: &PoolName) -> Option<&NodePool> {
        self.pools.iter().find(|pool| pool.name == *name)
    }

    /// Whether an ADD that names `wanted` (or none) may have addresses of a block of `pool`. A daemon of an older version
    /// does not tell of pools: then all that are not named apart serve everybody.
    pub(super) fn serves(&self, pool: Option<&PoolName>, wanted: &[PoolName]) -> bool {
        let Some(name) = pool else { return false };
        if self.pools.is_empty() {
            return wanted.is_empty() || wanted.contains(name);
        }
        self.pool(name).is_some_and(|pool| pool.serves(wanted))
    }

    /// The families of an ADD that names `wanted`, or none. Who names pools gets the families that they have.
    pub(super) fn families(&self, wanted: &[PoolName]) -> Vec<Family> {
        let named =
            |family: &Family| self.pools.iter().any(|pool| pool.family == *family && wanted.contains(&pool.name));
        let has = |family: &Family| if *family == Family::V4 { self.ipv4 } else { self.ipv6 };
        let of_pools: Vec<_> = [Family::V4, Family::V6].into_iter().filter(named).collect();
        if of_pools.is_empty() { [Family::V4, Family::V6].into_iter().filter(has).collect() } else { of_pools }
    }
}
