//! The row that tells plugins about their node.

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row};
use serde_json::Value;
use twill_conf::PoolName;

use crate::error::sqlite;
use crate::pool::NodePool;
use crate::{Error, Family};

use super::{Node, schema};

/// The minor version that added the columns `drain` and `pools`.
const CLUSTER: i64 = 2;

/// What the daemon last wrote. A file of an older minor version lacks some columns.
pub(super) fn node(conn: &Connection) -> Result<Option<Node>, Error> {
    let read = || conn.prepare_cached("SELECT * FROM node")?.query_row([], decode).optional();
    read().map_err(sqlite("reading the node"))
}

fn decode(row: &Row<'_>) -> rusqlite::Result<Node> {
    let newer = |column: &str| match row.as_ref().column_index(column) {
        Ok(place) => row.get::<_, Option<String>>(place),
        Err(_) => Ok(None),
    };
    let exhausted: String = row.get("exhausted")?;
    let pools: Option<Vec<Value>> = newer("pools")?.map(|text| json(&text)).transpose()?;
    Ok(Node {
        name: row.get("name")?,
        mtu: row.get("mtu")?,
        ipv4: row.get("ipv4")?,
        ipv6: row.get("ipv6")?,
        exhausted: json(&exhausted)?,
        drain: newer("drain")?,
        // One of a kind that only a newer daemon knows is nobody's to take from. That none can be read says no less: only a
        // daemon that tells of none at all lets every open block serve.
        pools: pools.map(|pools| pools.iter().filter_map(NodePool::from_json).collect()),
    })
}

fn json<T: serde::de::DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|cause| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, cause.into()))
}

/// Writes the row.
pub(super) fn set(conn: &Connection, node: &Node) -> Result<(), Error> {
    let exhausted: Vec<_> = node.exhausted.iter().map(PoolName::as_str).collect();
    let list = |pools: &Vec<NodePool>| Value::from_iter(pools.iter().map(NodePool::to_json)).to_string();
    let pools = node.pools.as_ref().map(list);
    conn.execute(
        "INSERT OR REPLACE INTO node (id, name, mtu, ipv4, ipv6, exhausted) VALUES (1, ?1, ?2, ?3, ?4, ?5)",
        (&node.name, node.mtu, node.ipv4, node.ipv6, Value::from(exhausted).to_string()),
    )
    .map_err(sqlite("writing the node"))?;
    if schema::version(conn)? % 1000 >= CLUSTER {
        conn.execute("UPDATE node SET drain = ?1, pools = ?2", (&node.drain, pools))
            .map_err(sqlite("writing the node"))?;
    }
    Ok(())
}

impl Node {
    /// The pools that the daemon has told of, as far as they can be read.
    pub(super) fn told(&self) -> &[NodePool] {
        self.pools.as_deref().unwrap_or_default()
    }

    /// A pool as the daemon has told of it.
    pub(super) fn pool(&self, name: &PoolName) -> Option<&NodePool> {
        self.told().iter().find(|pool| pool.name == *name)
    }

    /// Whether an ADD that names `wanted` (or none) may have addresses of a block of `pool`. A daemon of an older version
    /// does not tell of pools: then all that are not named apart serve everybody.
    pub(super) fn serves(&self, pool: Option<&PoolName>, wanted: &[PoolName]) -> bool {
        let Some(name) = pool else { return false };
        match self.pools {
            None => wanted.is_empty() || wanted.contains(name),
            Some(_) => self.pool(name).is_some_and(|pool| pool.serves(wanted)),
        }
    }

    /// The families of an ADD that names `wanted`, or none. Who names pools gets the families that they have.
    pub(super) fn families(&self, wanted: &[PoolName]) -> Vec<Family> {
        let named =
            |family: &Family| self.told().iter().any(|pool| pool.family == *family && wanted.contains(&pool.name));
        let has = |family: &Family| if *family == Family::V4 { self.ipv4 } else { self.ipv6 };
        let of_pools: Vec<_> = [Family::V4, Family::V6].into_iter().filter(named).collect();
        if of_pools.is_empty() { [Family::V4, Family::V6].into_iter().filter(has).collect() } else { of_pools }
    }
}
