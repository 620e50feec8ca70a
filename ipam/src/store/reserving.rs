//! The transaction of an ADD: one address of each family, and the row that has them.

use std::time::Duration;

use ipnetwork::IpNetwork;
use rusqlite::Connection;
use twill_conf::PoolName;

use crate::attachment::{Step, step};
use crate::error::sqlite;
use crate::{Attachment, AttachmentId, Block, BootTime, Error, Extras, Family, KeyHash, State, Unavailable};

use super::blocks::{self, BlockRow};
use super::choosing::{self, Candidate, Choice, Found};
use super::rows::{OsPath, Time};
use super::{Reservation, attachments, cluster, rebuilding, requesting};

/// free → reserved.
pub(super) fn reserve(
    conn: &Connection,
    wanted: &Reservation<'_>,
    extras: &Extras,
    now: BootTime,
    cooling: Duration,
) -> Result<Attachment, Error> {
    let hash = wanted.key.hash();
    let there = attachments::by_hash(conn, hash)?;
    if let Some(Attachment { key: Some(key), state, .. }) = &there
        && key != wanted.key
    {
        // Two keys of one hash would share a host interface too.
        return Err(Error::Exists { state: *state });
    }
    step(there.as_ref().map(|row| row.state), Step::Reserve)?;
    if let Some(Attachment { state, extras, .. }) = &there
        && !extras.is_empty()
    {
        // What a killed ADD published has to be withdrawn before its row goes.
        return Err(Error::Exists { state: *state });
    }
    refuse_taken(conn, hash, extras)?;
    let history = rebuilding::history(conn)?;
    if history.lost && history.rebuilt.is_none() {
        return Err(Error::NotRebuilt);
    }
    if let Some(row) = there {
        // Its addresses cool in its own name, so the new row finds them first, if their blocks are still open.
        attachments::free(conn, row.id, hash, now)?;
    }
    choosing::purge(conn, now, cooling)?;
    let supply = if wanted.subnets.is_empty() {
        cluster::supplies(conn, wanted.pools)?
    } else {
        of_configuration(conn, wanted.subnets)?
    };
    let mut found = Vec::with_capacity(supply.len());
    if let Some(ip) = wanted.requested.iter().find(|ip| supply.iter().all(|supply| supply.family != Family::of(**ip))) {
        return Err(Error::Requested { address: *ip, why: Unavailable::Elsewhere(Vec::new()) });
    }
    for supply in &supply {
        if let Some(ip) = wanted.requested.iter().find(|ip| Family::of(**ip) == supply.family) {
            found.push(requesting::ask(conn, &supply.candidates, *ip, hash, now, cooling)?);
            continue;
        }
        match choosing::choose(conn, &supply.candidates, Some(hash), now)? {
            Choice::Found(address) => found.push(address),
            Choice::None { used, total } => {
                let family = supply.family.name();
                return Err(Error::NoFreeAddress { family, used, total, exhausted: supply.exhausted.clone() });
            }
        }
    }
    let mut row = write(conn, wanted, &found, now).map_err(sqlite("writing a reservation"))?;
    if !extras.is_empty() {
        attachments::set_extras(conn, row.id, extras)?;
        row.extras = extras.clone();
    }
    Ok(row)
}

/// That no port of the node is published for anybody else.
fn refuse_taken(conn: &Connection, hash: KeyHash, extras: &Extras) -> Result<(), Error> {
    if extras.ports.is_empty() {
        return Ok(());
    }
    for other in attachments::with_extras(conn)?.iter().filter(|row| row.hash != hash) {
        for port in &extras.ports {
            if other.extras.ports.iter().any(|theirs| theirs.overlaps(port)) {
                return Err(Error::PortTaken { port: *port, holder: other.title() });
            }
        }
    }
    Ok(())
}

/// What there is to choose from for one family.
pub(super) struct Supply {
    pub(super) family: Family,
    pub(super) candidates: Vec<Candidate>,
    /// The pools that could help, where none of them has a further block.
    pub(super) exhausted: Vec<PoolName>,
    /// Whether a block is claimed only when an ADD needs it.
    pub(super) on_demand: bool,
}

/// The subnets of the configuration, as blocks that are made where they are missing.
fn of_configuration(conn: &Connection, subnets: &[IpNetwork]) -> Result<Vec<Supply>, Error> {
    let subnets = blocks::subnets(subnets);
    let mut there = blocks::all(conn)?;
    for subnet in &subnets {
        if blocks::cover(conn, &there, *subnet)? {
            there = blocks::all(conn)?;
        }
    }
    Ok(of_subnets(&subnets, |subnet| there.iter().find(|row| row.block.covers(subnet)).cloned()))
}

/// The same, where nothing is made: a block that is missing is told as it would be.
pub(super) fn as_if_made(conn: &Connection, subnets: &[IpNetwork]) -> Result<Vec<Supply>, Error> {
    let subnets = blocks::subnets(subnets);
    let there = blocks::all(conn)?;
    let rows = subnets.iter().map(|subnet| blocks::as_if_covered(conn, &there, *subnet));
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    Ok(of_subnets(&subnets, |subnet| rows.iter().find(|row| row.block.covers(subnet)).cloned()))
}

fn of_subnets(subnets: &[Block], block_of: impl Fn(Block) -> Option<BlockRow>) -> Vec<Supply> {
    let supply = |family| {
        let of_family = subnets.iter().filter(|subnet| subnet.family() == family);
        let candidates: Vec<_> =
            of_family.filter_map(|subnet| Some(Candidate::part(block_of(*subnet)?, *subnet))).collect();
        // No block is to be had beyond the subnets, but an address may be given back: never final.
        (!candidates.is_empty()).then_some(Supply { family, candidates, exhausted: Vec::new(), on_demand: false })
    };
    [Family::V4, Family::V6].into_iter().filter_map(supply).collect()
}

fn write(
    conn: &Connection,
    wanted: &Reservation<'_>,
    found: &[Found<'_>],
    now: BootTime,
) -> rusqlite::Result<Attachment> {
    let (key, hash) = (wanted.key, wanted.key.hash());
    conn.prepare_cached(
        "INSERT INTO attachment
             (hash, network, container, ifname, netns, pod_namespace, pod_name, state, created, changed)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9)",
    )?
    .execute((
        hash,
        key.network.as_str(),
        key.container.as_str(),
        key.ifname.as_str(),
        OsPath(wanted.netns),
        wanted.pod.map(|pod| &pod.namespace),
        wanted.pod.map(|pod| &pod.name),
        State::Reserved,
        Time(now),
    ))?;
    let id = AttachmentId(conn.last_insert_rowid());
    for found in found {
        found.give(conn, id)?;
    }
    Ok(Attachment {
        id,
        hash,
        key: Some(key.clone()),
        netns: Some(wanted.netns.to_owned()),
        pod: wanted.pod.cloned(),
        state: State::Reserved,
        created: now,
        changed: now,
        addresses: found.iter().map(|found| (found.ip, found.candidate.row.block)).collect(),
        extras: Extras::default(),
    })
}
