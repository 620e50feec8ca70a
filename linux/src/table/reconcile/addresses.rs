//! Addresses on devices of ours.

use std::collections::BTreeMap;

use super::{Scene, Table};
use crate::netlink::Request;
use crate::state::{Address, KernelState};
use crate::table::change::{Change, Plan, apply, settle};
use crate::table::{Outcome, address};
use crate::{Error, IfName, Netlink};

struct Addresses;

impl Table for Addresses {
    const NAME: &'static str = "address";
    type Key = Address;
    type Value = Address;
    /// The number of its device.
    type Seen = u32;
    type Place = u32;

    fn place(value: &Address, mut find: impl FnMut(IfName) -> Option<u32>) -> Option<u32> {
        find(value.device)
    }

    fn same(&self, _: &Address, seen: &u32, index: &u32) -> bool {
        seen == index
    }

    fn make(value: &Address, index: &u32) -> Request {
        address::add(value, *index)
    }

    fn change(&self, value: &Address, _: &u32, index: &u32) -> Vec<Request> {
        vec![address::add(value, *index)]
    }

    fn unmake(&self, key: &Address, seen: &u32, scene: &Scene<'_>) -> Option<(String, Vec<Request>)> {
        scene.owns(&key.device).then(|| (key.to_string(), vec![address::remove(key, *seen)]))
    }
}

pub(super) fn plan(netlink: &mut Netlink, desired: &KernelState, scene: &mut Scene<'_>) -> Result<Plan, Error> {
    let wanted: BTreeMap<Address, Address> = desired.addresses.iter().map(|address| (*address, *address)).collect();
    let mut standing = BTreeMap::new();
    for (device, index) in scene.standing(wanted.keys().map(|address| address.device), false) {
        for seen in address::of(netlink, index)? {
            standing.insert(Address { device, cidr: seen.cidr }, index);
        }
    }
    Ok(super::plan(&Addresses, &wanted, &standing, scene))
}

/// Removes leftovers. With an IPv4 address the kernel removes those of the same subnet that were added after it
/// (`promote_secondaries` is off by default): such as shall stand are put back.
pub(super) fn settle_removals(
    netlink: &mut Netlink,
    removals: &[Change],
    desired: &KernelState,
    scene: &mut Scene<'_>,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    if removals.is_empty() {
        return Ok(());
    }
    settle(netlink, removals, outcome)?;
    let lost = plan(netlink, desired, scene)?;
    let failures = apply(netlink, &lost.put, &mut Outcome::default())?;
    outcome.errors.extend(failures.into_iter().map(|failure| failure.error));
    Ok(())
}
