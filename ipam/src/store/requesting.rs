//! An address that was asked for: whether it may be given, and if not, who or what stands in the way.

use std::net::IpAddr;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};
use twill_conf::PoolName;
use twill_conf::cluster::Given;

use crate::error::{Unavailable, sqlite};
use crate::{BootTime, Error, KeyHash};

use super::choosing::{Candidate, Found, How};
use super::rows::{Ip, Time};
use super::{BlockState, blocks, node};

/// What the file has of one address.
struct Row {
    holder: Option<Holder>,
    /// Since when it cools.
    cooling: Option<BootTime>,
    /// In whose name it does.
    owner: Option<KeyHash>,
}

/// The attachment that has it.
struct Holder {
    hash: KeyHash,
    pod: Option<String>,
    container: Option<String>,
}

/// The address `ip` for `owner`, out of `candidates`. The caller has purged.
///
/// [`Error::Requested`] where it lies in none of them, somebody has it, or it cools in another's name.
pub(super) fn ask<'a>(
    conn: &Connection,
    candidates: &'a [Candidate],
    ip: IpAddr,
    owner: KeyHash,
    now: BootTime,
    cooling: Duration,
) -> Result<Found<'a>, Error> {
    let refuse = |why| Err(Error::Requested { address: ip, why });
    let Some(candidate) = candidates.iter().find(|candidate| candidate.contains(ip)) else {
        return refuse(elsewhere(conn, candidates, ip)?);
    };
    if candidate.reserves(ip) {
        let pool = candidate.row.pool.clone();
        return refuse(pool.map_or(Unavailable::Node, Unavailable::Reserved));
    }
    let cools = |since: BootTime| cooling.saturating_sub(now.since(since));
    match row(conn, ip)? {
        None if !candidate.row.is_cool(now) => refuse(Unavailable::Cooling(candidate.row.cools_until.since(now))),
        None => Ok(Found { ip, candidate, how: How::Asked }),
        Some(Row { holder: Some(holder), .. }) => refuse(Unavailable::InUse(holder.to_string())),
        Some(Row { owner: Some(of), .. }) if of == owner => Ok(Found { ip, candidate, how: How::Back }),
        Some(Row { cooling: Some(since), .. }) => refuse(Unavailable::Cooling(cools(since))),
        Some(_) => refuse(Unavailable::Node),
    }
}

/// Why an address that is in no candidate is not.
fn elsewhere(conn: &Connection, candidates: &[Candidate], ip: IpAddr) -> Result<Unavailable, Error> {
    let (there, node) = (blocks::all(conn)?, node::node(conn)?);
    let given = |pool: &PoolName| node.as_ref().and_then(|node| node.pool(pool)).map(|pool| pool.given);
    Ok(match there.iter().find(|row| row.block.contains(ip)) {
        Some(blocks::BlockRow { pool: Some(pool), .. }) if given(pool) == Some(Given::Nobody) => {
            Unavailable::Disabled(pool.clone())
        }
        Some(row) if row.state == BlockState::Closing => Unavailable::Closing(row.block),
        Some(blocks::BlockRow { pool: Some(pool), .. }) if given(pool) == Some(Given::Named) => {
            Unavailable::OtherNodes(pool.clone())
        }
        Some(blocks::BlockRow { pool: Some(pool), .. }) => Unavailable::Pool(pool.clone()),
        _ => Unavailable::Elsewhere(candidates.iter().map(Candidate::part_of_block).collect()),
    })
}

fn row(conn: &Connection, ip: IpAddr) -> Result<Option<Row>, Error> {
    let read = || {
        let mut select = conn.prepare_cached(
            "SELECT a.cooling, a.owner, t.hash, t.pod_namespace || '/' || t.pod_name, t.container
             FROM address a LEFT JOIN attachment t ON t.id = a.attachment WHERE a.ip = ?1",
        )?;
        let row = select.query_row([Ip(ip)], |row| {
            let cooling: Option<Time> = row.get(0)?;
            let hash: Option<KeyHash> = row.get(2)?;
            let (pod, container) = (row.get(3)?, row.get(4)?);
            let holder = hash.map(|hash| Holder { hash, pod, container });
            Ok(Row { holder, cooling: cooling.map(|time| time.0), owner: row.get(1)? })
        });
        row.optional()
    };
    read().map_err(sqlite("looking for a requested address"))
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.pod, &self.container) {
            (Some(pod), _) => write!(f, "the pod {pod}"),
            (None, Some(container)) => write!(f, "the container {container}"),
            (None, None) => write!(f, "the pod behind {}", self.hash.host_ifname()),
        }
    }
}
