//! FDB entries of VXLAN devices of ours: one destination a MAC.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Devices, Scene, Table, note};
use crate::netlink::Request;
use crate::state::{FdbEntry, KernelState};
use crate::table::Device;
use crate::table::change::Plan;
use crate::table::fdb::{self, SeenFdbEntry};
use crate::{Error, IfName, MacAddr, Netlink};

pub(super) struct Fdb;

/// The destinations of one MAC; one whose address is absent is no VXLAN destination.
pub(super) struct Seen {
    index: u32,
    entries: Vec<SeenFdbEntry>,
}

impl Seen {
    /// Whether each can be told by its address.
    fn is_plain(&self) -> bool {
        self.entries.iter().all(|entry| entry.plain && entry.remote.is_some())
    }

    fn remotes(&self) -> impl Iterator<Item = Option<IpAddr>> {
        self.entries.iter().map(|entry| entry.remote)
    }
}

impl Table for Fdb {
    const NAME: &'static str = "fdb";
    type Key = (IfName, MacAddr);
    type Value = FdbEntry;
    type Seen = Seen;
    type Place = u32;

    fn place(value: &FdbEntry, mut find: impl FnMut(IfName) -> Option<u32>) -> Option<u32> {
        find(value.device)
    }

    fn same(&self, value: &FdbEntry, seen: &Seen, index: &u32) -> bool {
        seen.index == *index && seen.is_plain() && seen.remotes().eq([Some(value.remote)])
    }

    fn make(value: &FdbEntry, index: &u32) -> Request {
        fdb::set(value, *index)
    }

    /// One other destination is replaced in place. Of several, the kernel would replace only the first: the others go
    /// before; or all, where one cannot be told by its address alone.
    fn change(&self, value: &FdbEntry, seen: &Seen, index: &u32) -> Vec<Request> {
        let device = Device { index: *index, name: value.device };
        let others = seen.remotes().filter(|remote| *remote != Some(value.remote));
        let mut requests = match seen.entries[..] {
            // One of a group of next hops has none, and is not replaced (vxlan_fdb_replace in drivers/net/vxlan/vxlan_core.c).
            [single] if single.remote.is_some() => Vec::new(),
            _ if !seen.is_plain() => vec![fdb::remove(value.mac, None, device)],
            _ => others.map(|remote| fdb::remove(value.mac, remote, device)).collect(),
        };
        requests.push(fdb::set(value, *index));
        requests
    }

    fn unmake(&self, key: &Self::Key, seen: &Seen, scene: &Scene<'_>) -> Option<Vec<Request>> {
        let (name, mac) = *key;
        let device = Device { index: seen.index, name };
        let requests = match seen.is_plain() {
            true => seen.remotes().map(|remote| fdb::remove(mac, remote, device)).collect(),
            false => vec![fdb::remove(mac, None, device)],
        };
        scene.owns(&name).then_some(requests)
    }

    fn shown(seen: &Seen, devices: &Devices) -> String {
        let mac = seen.entries.first().map(|entry| entry.mac.to_string()).unwrap_or_default();
        let remotes: String = seen.remotes().flatten().map(|remote| format!(" dst {remote}")).collect();
        let otherwise = if seen.is_plain() { "" } else { ", of another port or identifier, or not permanent" };
        format!("{mac} dev {}{remotes}{otherwise}", devices.called(seen.index))
    }
}

pub(super) fn plan(netlink: &mut Netlink, desired: &KernelState, scene: &mut Scene<'_>) -> Result<Plan, Error> {
    let mut standing: BTreeMap<(IfName, MacAddr), Seen> = BTreeMap::new();
    for (device, index) in scene.standing(desired.fdb.keys().map(|(device, _)| *device), false) {
        for entry in fdb::of(netlink, index)? {
            let seen = standing.entry((device, entry.mac)).or_insert_with(|| Seen { index, entries: Vec::new() });
            note(&mut seen.entries, entry);
        }
    }
    Ok(super::plan(&Fdb, &desired.fdb, &standing, scene))
}
