//! Addresses on devices of ours.

use std::collections::BTreeMap;

use super::{Devices, Scene, Table};
use crate::netlink::Request;
use crate::state::{Address, KernelState};
use crate::table::change::{Change, Plan, apply, settle};
use crate::table::{Outcome, SeenAddress, address};
use crate::{Error, IfName, Netlink};

struct Addresses;

impl Table for Addresses {
    const NAME: &'static str = "address";
    type Key = Address;
    type Value = Address;
    type Seen = SeenAddress;
    type Place = u32;

    fn place(value: &Address, mut find: impl FnMut(IfName) -> Option<u32>) -> Option<u32> {
        find(value.device)
    }

    fn same(&self, _: &Address, seen: &SeenAddress, index: &u32) -> bool {
        seen.index == *index && is_in_scope(seen) && !seen.deprecated
    }

    fn make(value: &Address, index: &u32) -> Request {
        address::add(value, *index)
    }

    /// A lifetime is changed in place; a scope is not (inet_rtm_newaddr in net/ipv4/devinet.c).
    fn change(&self, value: &Address, seen: &SeenAddress, index: &u32) -> Vec<Request> {
        match is_in_scope(seen) {
            true => vec![address::renew(value, *index)],
            false => vec![address::remove(value, seen.index), address::add(value, *index)],
        }
    }

    fn unmake(&self, key: &Address, seen: &SeenAddress, scene: &Scene<'_>) -> Option<Vec<Request>> {
        scene.owns(&key.device).then(|| vec![address::remove(key, seen.index)])
    }

    fn shown(seen: &SeenAddress, devices: &Devices) -> String {
        let scope = if is_in_scope(seen) { "" } else { " of another scope" };
        let deprecated = if seen.deprecated { " deprecated" } else { "" };
        format!("{} dev {}{scope}{deprecated}", seen.cidr, devices.called(seen.index))
    }
}

/// Other machines may know it. IPv6 goes by the address itself.
fn is_in_scope(seen: &SeenAddress) -> bool {
    seen.cidr.is_ipv6() || seen.global
}

pub(super) fn plan(netlink: &mut Netlink, desired: &KernelState, scene: &mut Scene<'_>) -> Result<Plan, Error> {
    let wanted: BTreeMap<Address, Address> = desired.addresses.iter().map(|address| (*address, *address)).collect();
    let mut standing = BTreeMap::new();
    for (device, index) in scene.standing(wanted.keys().map(|address| address.device), false) {
        for seen in address::of(netlink, index)? {
            standing.insert(Address { device, cidr: seen.cidr }, seen);
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
