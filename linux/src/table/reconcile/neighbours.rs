//! Permanent neighbours on devices of ours and on those of pods.

use std::net::IpAddr;

use super::{Devices, Scene, Table};
use crate::netlink::Request;
use crate::state::{KernelState, Neighbour, Ownership};
use crate::table::change::Plan;
use crate::table::neighbour::{self, SeenNeighbour};
use crate::{Error, IfName, MacAddr, Netlink};

/// Up to so many devices are dumped one by one: the kernel walks its whole table for each.
const SINGLE_DUMPS: usize = 4;

pub(super) struct Neighbours;

impl Table for Neighbours {
    const NAME: &'static str = "neighbour";
    type Key = (IfName, IpAddr);
    type Value = Neighbour;
    type Seen = SeenNeighbour;
    type Place = u32;

    fn is_own(value: &Neighbour, ours: &Ownership) -> bool {
        ours.pods.contains(&value.device)
    }

    fn place(value: &Neighbour, mut find: impl FnMut(IfName) -> Option<u32>) -> Option<u32> {
        find(value.device)
    }

    fn same(&self, value: &Neighbour, seen: &SeenNeighbour, index: &u32) -> bool {
        (seen.index, seen.mac) == (*index, Some(value.mac))
    }

    fn make(value: &Neighbour, index: &u32) -> Request {
        neighbour::set(value, *index)
    }

    fn change(&self, value: &Neighbour, _: &SeenNeighbour, index: &u32) -> Vec<Request> {
        vec![neighbour::set(value, *index)]
    }

    fn unmake(&self, key: &Self::Key, seen: &SeenNeighbour, scene: &Scene<'_>) -> Option<Vec<Request>> {
        let (device, ip) = *key;
        let leftover = Neighbour { device, ip, mac: seen.mac.unwrap_or(MacAddr([0; 6])) };
        scene.owns(&device).then(|| vec![neighbour::remove(&leftover, seen.index)])
    }

    fn shown(seen: &SeenNeighbour, devices: &Devices) -> String {
        let mac = seen.mac.map(|mac| format!(" lladdr {mac}")).unwrap_or_default();
        format!("{} dev {}{mac} nud permanent", seen.ip, devices.called(seen.index))
    }
}

pub(super) fn plan(netlink: &mut Netlink, desired: &KernelState, scene: &mut Scene<'_>) -> Result<Plan, Error> {
    let devices = scene.standing(desired.neighbours.keys().map(|(device, _)| *device), true);
    let seen = if devices.len() > SINGLE_DUMPS {
        neighbour::dump(netlink, 0)?
    } else {
        let mut seen = Vec::new();
        for index in devices.values() {
            seen.extend(neighbour::of(netlink, *index)?);
        }
        seen
    };
    let standing = seen
        .into_iter()
        .filter(|neighbour| neighbour.permanent)
        .filter_map(|neighbour| Some(((scene.devices.name(neighbour.index)?, neighbour.ip), neighbour)))
        .filter(|((device, _), _)| devices.contains_key(device))
        .collect();
    Ok(super::plan(&Neighbours, &desired.neighbours, &standing, scene))
}
