//! What an ADD would find if it came now, without giving anything: for STATUS.

use std::time::Duration;

use ipnetwork::IpNetwork;
use rusqlite::Connection;
use twill_conf::PoolName;

use crate::error::sqlite;
use crate::{BootTime, Error};

use super::choosing::Candidate;
use super::reserving::Supply;
use super::rows::{self, Ip};
use super::{Outlook, cluster, rebuilding, reserving};

/// Looks at what an ADD would choose from.
pub(super) fn outlook(
    conn: &Connection,
    subnets: &[IpNetwork],
    pools: &[PoolName],
    now: BootTime,
    cooling: Duration,
) -> Result<Vec<Outlook>, Error> {
    let history = rebuilding::history(conn)?;
    if history.lost && history.rebuilt.is_none() {
        return Err(Error::NotRebuilt);
    }
    let supplies =
        if subnets.is_empty() { cluster::supplies(conn, pools)? } else { reserving::as_if_made(conn, subnets)? };
    supplies
        .into_iter()
        .map(|supply| {
            let Supply { family, candidates, exhausted, on_demand } = supply;
            let mut outlook = Outlook { family, total: 0, assigned: 0, cooling: 0, free: 0, exhausted, on_demand };
            for candidate in &candidates {
                count(conn, candidate, now, cooling, &mut outlook).map_err(sqlite("counting addresses"))?;
            }
            Ok(outlook)
        })
        .collect()
}

/// Adds the addresses of one candidate. Rows that have cooled by now count as free: an ADD drops them first.
fn count(
    conn: &Connection,
    candidate: &Candidate,
    now: BootTime,
    cooling: Duration,
    sum: &mut Outlook,
) -> rusqlite::Result<()> {
    let ends = candidate.ends();
    let cool_since = rows::cool_since(now, cooling).map_or(-1, rows::nanoseconds);
    let (assigned, cools, own): (u32, u32, u32) = conn
        .prepare_cached(
            "SELECT count(attachment), count(nullif(cooling > ?3, 0)), count(tunnel)
             FROM address WHERE ip BETWEEN ?1 AND ?2",
        )?
        .query_row((Ip(ends.0), Ip(ends.1), cool_since), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let (assigned, cools, own) = (u64::from(assigned), u64::from(cools), u64::from(own));
    let (total, reserved) = (candidate.size(), candidate.reserved(conn, cool_since)?);
    let unreserved = total.saturating_sub(reserved);
    let without_row = unreserved.saturating_sub(assigned).saturating_sub(cools).saturating_sub(own);
    let (free, cools) = if candidate.row.is_cool(now) { (without_row, cools) } else { (0, cools + without_row) };
    sum.total = sum.total.saturating_add(total);
    sum.assigned = sum.assigned.saturating_add(assigned);
    sum.cooling = sum.cooling.saturating_add(cools);
    sum.free = sum.free.saturating_add(free);
    Ok(())
}
