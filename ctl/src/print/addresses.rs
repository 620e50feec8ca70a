//! What `twillctl ipam show` prints of one address, pod or node, and of all blocks or pools.

use super::table::{age, or_dash, parts, pools, table};
use crate::report::addresses::{AddressRow, Addresses, BlockRow};
use crate::report::pools::PoolUse;

pub(super) fn addresses(found: &Addresses) -> String {
    let unknown = super::table::unknown(&found.unknown);
    let rows = |rows: &Vec<AddressRow>| match rows.as_slice() {
        [] => "no address is in use\n".to_owned(),
        rows => list(rows),
    };
    let all_pools = |all: &Vec<PoolUse>| if all.is_empty() { "no pools\n".to_owned() } else { pools(all) };
    parts([
        found.pools.as_ref().map(all_pools).unwrap_or_default(),
        found.blocks.as_deref().map(blocks).unwrap_or_default(),
        found.addresses.as_ref().map(rows).unwrap_or_default(),
        unknown,
    ])
}

/// Addresses, a line each.
pub(super) fn list(rows: &[AddressRow]) -> String {
    let row = |row: &AddressRow| {
        [
            row.ip.to_string(),
            state(row),
            or_dash(row.since.map(|since| age(row.now.saturating_sub(since)))),
            or_dash(row.pod.as_ref()),
            or_dash(row.container.as_ref()),
            or_dash(row.network.as_ref()),
            or_dash(row.interface.as_ref()),
            or_dash(row.host_interface.as_ref()),
            or_dash(row.node.as_ref()),
            or_dash(row.block.as_ref()),
            or_dash(row.pool.as_ref()),
        ]
    };
    let heading = [
        "ADDRESS",
        "STATE",
        "SINCE",
        "POD",
        "CONTAINER",
        "NETWORK",
        "INTERFACE",
        "HOST INTERFACE",
        "NODE",
        "BLOCK",
        "POOL",
    ];
    table(heading, rows.iter().map(row))
}

fn state(row: &AddressRow) -> String {
    match row.until {
        Some(until) if row.state == "cooling" => format!("cooling, free in {}", age(until.saturating_sub(row.now))),
        _ => row.state.to_owned(),
    }
}

/// Blocks with their use; what their owners have not told is a question mark.
pub(super) fn blocks(rows: &[BlockRow]) -> String {
    if rows.is_empty() {
        return "no blocks\n".to_owned();
    }
    let told = |number: Option<u64>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
    let row = |row: &BlockRow| {
        [
            row.block.clone(),
            or_dash(row.pool.as_ref()),
            row.node.to_string(),
            told(row.used),
            told(row.cooling),
            told(row.free),
            row.total.to_string(),
            or_dash(row.tunnel),
        ]
    };
    table(["BLOCK", "POOL", "NODE", "USED", "COOLING", "FREE", "OF", "TUNNEL"], rows.iter().map(row))
}
