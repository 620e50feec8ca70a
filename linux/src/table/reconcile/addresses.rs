//! Addresses on devices of ours.

use std::collections::BTreeMap;

use super::{Devices, Scene, Table, note};
use crate::netlink::Request;
use crate::state::{Address, KernelState, Ownership};
use crate::table::change::{Change, Plan, apply, settle};
use crate::table::{Outcome, SeenAddress, address};
use crate::{Error, IfName, Netlink};

struct Addresses;

impl Table for Addresses {
    const NAME: &'static str = "address";
    type Key = Address;
    type Value = Address;
    /// All of that address and prefix length: more than one only where somebody added some with another end.
    type Seen = Vec<SeenAddress>;
    type Place = u32;

    fn is_own(_: &Address, _: &Ownership) -> bool {
        true
    }

    fn place(value: &Address, mut find: impl FnMut(IfName) -> Option<u32>) -> Option<u32> {
        find(value.device)
    }

    fn same(&self, _: &Address, seen: &Vec<SeenAddress>, index: &u32) -> bool {
        matches!(seen.as_slice(), [single] if single.index == *index && is_of_ours(single) && !single.deprecated)
    }

    fn make(value: &Address, index: &u32) -> Request {
        address::add(value, *index)
    }

    /// A lifetime is changed in place; a scope and another end are not (inet_rtm_newaddr in net/ipv4/devinet.c).
    fn change(&self, value: &Address, seen: &Vec<SeenAddress>, index: &u32) -> Vec<Request> {
        let (good, wrong): (Vec<_>, Vec<_>) = seen.iter().partition(|seen| is_of_ours(seen));
        let put = if good.is_empty() { address::add(value, *index) } else { address::renew(value, *index) };
        wrong.into_iter().map(|seen| remove_seen(value, seen)).chain([put]).collect()
    }

    fn unmake(&self, key: &Address, seen: &Vec<SeenAddress>, scene: &Scene<'_>) -> Option<Vec<Request>> {
        scene.owns(&key.device).then(|| seen.iter().map(|seen| remove_seen(key, seen)).collect())
    }

    fn shown(seen: &Vec<SeenAddress>, devices: &Devices) -> String {
        let shown = seen.iter().map(|seen| {
            let peer = seen.peer.map(|peer| format!(" peer {peer}")).unwrap_or_default();
            let scope = if is_in_scope(seen) { "" } else { " of another scope" };
            let deprecated = if seen.deprecated { " deprecated" } else { "" };
            format!("{}{peer} dev {}{scope}{deprecated}", seen.cidr, devices.called(seen.index))
        });
        shown.collect::<Vec<_>>().join("; ")
    }
}

fn remove_seen(address: &Address, seen: &SeenAddress) -> Request {
    address::remove(address, seen.index, seen.peer)
}

/// As ours are made, whatever its lifetime.
fn is_of_ours(seen: &SeenAddress) -> bool {
    is_in_scope(seen) && seen.peer.is_none()
}

/// Other machines may know it. IPv6 goes by the address itself.
fn is_in_scope(seen: &SeenAddress) -> bool {
    seen.cidr.is_ipv6() || seen.global
}

pub(super) fn plan(netlink: &mut Netlink, desired: &KernelState, scene: &mut Scene<'_>) -> Result<Plan, Error> {
    let wanted: BTreeMap<Address, Address> = desired.addresses.iter().map(|address| (*address, *address)).collect();
    let mut standing: BTreeMap<Address, Vec<SeenAddress>> = BTreeMap::new();
    for (device, index) in scene.standing(wanted.keys().map(|address| address.device), false) {
        for seen in address::of(netlink, index)? {
            note(standing.entry(Address { device, cidr: seen.cidr }).or_default(), seen);
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
