//! All that is in use on the node at one moment, for the mirror in etcd, for requests of other machines and for reports.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use rusqlite::Connection;

use crate::error::sqlite;
use crate::{Attachment, AttachmentId, Block, BootTime, Error, KeyHash};

use super::rows::{self, Ip, Time};
use super::{BlockUse, Node, attachments, blocks, node};

/// What the store holds, read in one transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// What the daemon told of the node; `None` where none did since the boot.
    pub node: Option<Node>,
    /// All blocks with their use, IPv4 first, in order of address.
    pub blocks: Vec<BlockUse>,
    /// Blocks of which nothing is known since the store was lost: until then each address without a row cools.
    pub cooling: Vec<(Block, BootTime)>,
    /// All attachments, oldest first.
    pub attachments: Vec<Attachment>,
    /// The addresses that are not free, IPv4 first, in order.
    pub addresses: Vec<Occupied>,
}

/// An address that is not free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occupied {
    /// The address.
    pub ip: IpAddr,
    /// The block that it lies in; `None` where the node has none around it.
    pub block: Option<Block>,
    /// Why it is not free.
    pub by: Occupant,
}

/// Why an address is not free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occupant {
    /// It is an attachment's: the one at this place of [`Inventory::attachments`].
    Attachment(usize),
    /// It was given back.
    Cooling {
        /// When.
        since: BootTime,
        /// From then on anybody may have it.
        until: BootTime,
        /// Whose it was, and who may have it back; `None` where nobody may.
        owner: Option<KeyHash>,
    },
    /// It is the tunnel's.
    Tunnel,
    /// It is the node's own in another way, or two attachments claim it: nobody gets it.
    Withheld,
}

/// Reads all of it. An address whose time of cooling is over is free.
pub(super) fn take(conn: &Connection, now: BootTime, cooling: Duration) -> Result<Inventory, Error> {
    let attachments = attachments::all(conn)?;
    let places = attachments.iter().enumerate().map(|(place, row)| (row.id, place)).collect();
    let rows = blocks::all(conn)?;
    let cooling_blocks = rows.iter().filter(|row| !row.is_cool(now)).map(|row| (row.block, row.cools_until));
    Ok(Inventory {
        node: node::node(conn)?,
        blocks: blocks::usage(conn, now, cooling)?,
        cooling: cooling_blocks.collect(),
        addresses: occupied(conn, &places, now, cooling).map_err(sqlite("reading addresses"))?,
        attachments,
    })
}

fn occupied(
    conn: &Connection,
    places: &HashMap<AttachmentId, usize>,
    now: BootTime,
    cooling: Duration,
) -> rusqlite::Result<Vec<Occupied>> {
    let mut select = conn.prepare(
        "SELECT ip, first, length, attachment, cooling, owner, tunnel
         FROM address LEFT JOIN block ON block.id = address.block ORDER BY ip",
    )?;
    let read = |row: &rusqlite::Row<'_>| {
        let (Ip(ip), first): (_, Option<Ip>) = (row.get(0)?, row.get(1)?);
        let block = first.map(|_| rows::block(row, 1)).transpose()?;
        let attachment: Option<i64> = row.get(3)?;
        let since: Option<Time> = row.get(4)?;
        let by = match (attachment.and_then(|id| places.get(&AttachmentId(id))), since) {
            (Some(place), _) => Occupant::Attachment(*place),
            (None, Some(Time(since))) => {
                Occupant::Cooling { since, until: BootTime(since.0 + cooling), owner: row.get(5)? }
            }
            (None, None) if row.get::<_, Option<bool>>(6)? == Some(true) => Occupant::Tunnel,
            (None, None) => Occupant::Withheld,
        };
        Ok(Occupied { ip, block, by })
    };
    let found = select.query_map([], read)?.collect::<rusqlite::Result<Vec<_>>>()?;
    let is_used = |found: &Occupied| !matches!(found.by, Occupant::Cooling { until, .. } if until <= now);
    Ok(found.into_iter().filter(is_used).collect())
}
