//! What stands in `node.db`, and which versions of it this program can serve.
//!
//! `user_version` is major × 1000 + minor. A minor change only adds, so that every program of the same major version can
//! go on with the file; a major change may do anything, but every version has a row in `meta` with the boot ID, for that
//! is how a file of another boot is known. For an operator with `sqlite3`, every address also stands there as text, and
//! the view `assignment` says who has what.

use std::path::Path;

use rusqlite::Connection;

use crate::Error;
use crate::error::sqlite;

/// A major version, and the steps that lead to its newest minor version: the first makes a file, each other adds.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// The major version.
    pub major: i64,
    /// SQL, one text a minor version, from 0.
    pub steps: &'static [&'static str],
}

impl Schema {
    /// What this program makes.
    pub const CURRENT: Self = Self { major: 1, steps: &[MAKE, EXTRAS, NODE] };

    /// The version of a file that all steps have made.
    pub fn version(self) -> i64 {
        self.major * 1000 + self.steps.len() as i64 - 1
    }

    /// Refuses the file at `path` if its version is of another major. Newer minor versions are as good as ours.
    pub(super) fn check(self, path: &Path, found: i64) -> Result<(), Error> {
        let (path, known) = (|| path.to_owned(), self.version());
        match (found / 1000).cmp(&self.major) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(Error::NewerSchema { path: path(), found, known }),
            std::cmp::Ordering::Less => Err(Error::OlderSchema { path: path(), found, known }),
        }
    }

    /// Takes the steps that lead from version `found` of this major to ours; 0 is an empty file. Within a transaction.
    pub(super) fn upgrade(self, conn: &Connection, found: i64) -> Result<(), Error> {
        let done = if found == 0 { 0 } else { usize::try_from(found % 1000 + 1).unwrap_or(usize::MAX) };
        if done >= self.steps.len() {
            return Ok(());
        }
        for step in &self.steps[done..] {
            conn.execute_batch(step).map_err(sqlite("making the schema"))?;
        }
        conn.pragma_update(None, "user_version", self.version()).map_err(sqlite("writing the schema's version"))
    }
}

/// The version of an open file.
pub(super) fn version(conn: &Connection) -> Result<i64, Error> {
    let pragma =
        conn.prepare_cached("PRAGMA user_version").and_then(|mut pragma| pragma.query_row([], |row| row.get(0)));
    pragma.map_err(sqlite("reading the schema's version"))
}

/// Addresses are blobs of a byte 4 or 6 and the address in network order, so that they sort, and no IPv6 address lies
/// between two of IPv4. Times are nanoseconds of CLOCK_BOOTTIME.
///
/// An address has a row while it is given, cools, or is the node's own (`tunnel` 1, or 0 where it is not the tunnel's but
/// must not be given); a free one is the absence of a row, so that a
/// block may have any size. `block.taken` counts the rows, so that a full block is known without a walk. (No trigger does
/// that: each plugin reads the schema anew, and that is a third of its time here.)
const MAKE: &str = "
CREATE TABLE meta (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    boot TEXT NOT NULL,
    lost INTEGER NOT NULL,
    rebuilt INTEGER,
    cools_until INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE node (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    name TEXT NOT NULL,
    mtu INTEGER NOT NULL,
    ipv4 INTEGER NOT NULL,
    ipv6 INTEGER NOT NULL,
    exhausted TEXT NOT NULL
) STRICT;
CREATE TABLE block (
    id INTEGER PRIMARY KEY,
    first BLOB NOT NULL UNIQUE,
    length INTEGER NOT NULL,
    cidr TEXT NOT NULL,
    pool TEXT,
    state TEXT NOT NULL CHECK (state IN ('open', 'closing')),
    origin TEXT NOT NULL CHECK (origin IN ('cluster', 'configuration')),
    cursor BLOB NOT NULL,
    taken INTEGER NOT NULL DEFAULT 0,
    cools_until INTEGER NOT NULL
) STRICT;
CREATE TABLE attachment (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    hash TEXT NOT NULL UNIQUE,
    network TEXT,
    container TEXT,
    ifname TEXT,
    netns ANY,
    pod_namespace TEXT,
    pod_name TEXT,
    state TEXT NOT NULL CHECK (state IN ('reserved', 'attached', 'deleting')),
    created INTEGER NOT NULL,
    changed INTEGER NOT NULL
) STRICT;
CREATE TABLE address (
    ip BLOB PRIMARY KEY,
    text TEXT NOT NULL,
    block INTEGER REFERENCES block,
    attachment INTEGER REFERENCES attachment,
    cooling INTEGER,
    owner TEXT,
    tunnel INTEGER,
    CHECK ((attachment IS NOT NULL) + (cooling IS NOT NULL) + (tunnel IS NOT NULL) = 1)
) STRICT, WITHOUT ROWID;
CREATE INDEX address_attachment ON address (attachment) WHERE attachment IS NOT NULL;
CREATE INDEX address_cooling ON address (cooling) WHERE cooling IS NOT NULL;
CREATE INDEX address_owner ON address (owner) WHERE owner IS NOT NULL;
CREATE TABLE attempt (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    verb TEXT NOT NULL,
    network TEXT,
    container TEXT,
    ifname TEXT,
    pod_namespace TEXT,
    pod_name TEXT,
    step TEXT NOT NULL,
    cause TEXT NOT NULL,
    code INTEGER NOT NULL,
    took INTEGER NOT NULL
) STRICT;
CREATE VIEW assignment AS
    SELECT a.text AS address, b.cidr AS block, b.pool,
        CASE WHEN a.tunnel THEN 'tunnel' WHEN a.tunnel = 0 THEN 'withheld' WHEN a.cooling THEN 'cooling' ELSE t.state END AS state,
        'tw' || coalesce(t.hash, a.owner) AS interface, t.pod_namespace, t.pod_name, t.container
    FROM address a LEFT JOIN block b ON b.id = a.block LEFT JOIN attachment t ON t.id = a.attachment ORDER BY a.ip;
";

/// Minor version 1: what an attachment has beyond link and addresses, as JSON; NULL for most.
///
/// A column, and not tables of ports and limits: whoever deletes the row, an older plugin too, takes it along; nobody
/// reads more of the schema than before; and what has none of it costs nothing.
const EXTRAS: &str = "ALTER TABLE attachment ADD COLUMN extras TEXT";

/// Minor version 2: what the plugin must know of the cluster, in the node's row: the word of the drain, where the node is being
/// drained, and the pools as [`crate::pool`] has them, as JSON; and what ADDs want of the daemon. A plugin of an older version
/// goes by blocks alone: it gives nothing of a disabled pool, whose blocks are closing, but knows neither drains nor reserved
/// ranges nor pools that are for others.
const NODE: &str = "
ALTER TABLE node ADD COLUMN drain TEXT;
ALTER TABLE node ADD COLUMN pools TEXT;
CREATE TABLE want (
    hash TEXT PRIMARY KEY,
    pools TEXT NOT NULL,
    address BLOB,
    at INTEGER NOT NULL,
    refusal TEXT
) STRICT, WITHOUT ROWID;
";
