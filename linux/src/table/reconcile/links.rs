//! Links: devices of ours are made, kept as they shall be, or made anew where they cannot be changed.

use std::collections::{BTreeMap, BTreeSet};

use nix::errno::Errno;

use super::{Devices, Extent, ends};
use crate::netlink::Request;
use crate::state::{KernelState, Link, LinkKind};
use crate::table::Outcome;
use crate::table::change::{Action, Change, Difference, apply, diff, settle as settle_changes};
use crate::table::link::{self, Details, Device, SeenVxlan};
use crate::{Error, IfName, MacAddr, Netlink};

/// The links when they stand as they shall.
#[derive(Debug)]
pub(super) struct Settled {
    /// All devices of the namespace.
    pub(super) devices: Devices,
    /// Devices of ours that shall not stand.
    pub(super) doomed: BTreeSet<IfName>,
    /// How many devices of ours, and host ends of pods, there were before.
    pub(super) stood: usize,
    /// Their removal, for the end.
    pub(super) remove: Vec<Change>,
}

pub(super) fn settle(
    netlink: &mut Netlink,
    KernelState { links: desired, ends, .. }: &KernelState,
    ours: &BTreeSet<IfName>,
    extent: Extent<'_>,
    outcome: &mut Outcome,
) -> Result<Settled, Error> {
    let mut all = link::dump_details(netlink)?;
    let standing = owned(&all, ours);
    let (ends_stood, kept) = ends::plan(ends, &all);
    let stood = standing.len() + ends_stood;
    settle_changes(netlink, &kept, outcome)?;
    let mut put = Vec::new();
    let mut remade = Vec::new();
    let (mut first, mut remove) = (Vec::new(), Vec::new());
    let mut doomed = BTreeSet::new();
    for difference in diff(desired, &standing, is_as_wanted) {
        match difference {
            Difference::Missing(wanted) => put.push(change(wanted, None, link::create_vxlan(wanted))),
            Difference::Changed(wanted, seen) if extent != Extent::All => {
                // The MTU follows from the family too, of which more may be known by now; what else it is, is the node's own.
                let kept = Link { mtu: wanted.mtu.min(seen.link.mtu), ..wanted.clone() };
                let requests = adjust(&kept, seen).filter(|requests| !requests.is_empty());
                put.extend(requests.map(|requests| change(&kept, Some(seen), requests)));
            }
            Difference::Extra(..) if extent != Extent::All => {}
            Difference::Changed(wanted, seen) => {
                remade.push((put.len(), remake(wanted, seen)));
                let requests = adjust(wanted, seen).unwrap_or_else(|| remake(wanted, seen));
                put.push(change(wanted, Some(seen), requests));
            }
            Difference::Extra(name, seen) => {
                doomed.insert(*name);
                let requests = vec![link::delete(device(seen))];
                let object = name.to_string();
                let removal = Change { table: "link", action: Action::Removed, object, was: None, requests };
                // What is on a device goes with it, so one that is in nobody's way goes last.
                let is_in_the_way = desired.values().any(|wanted| has_place_of(seen, wanted));
                if is_in_the_way { &mut first } else { &mut remove }.push(removal);
            }
        }
    }
    // Made otherwise than by us, such a one may stand beside ours.
    if put.is_empty() {
        remove.append(&mut first);
    } else {
        settle_changes(netlink, &first, outcome)?;
        put_links(netlink, put, remade, outcome)?;
        all = link::dump_details(netlink)?;
        report_rewritten(desired, &owned(&all, ours), outcome);
    }
    let standing = owned(&all, ours);
    let works = |seen: &Details| seen.link.up && !seen.protodown;
    let stands =
        |wanted: &Link| standing.get(&wanted.name).is_some_and(|seen| works(seen) && adjust(wanted, seen).is_some());
    outcome.lacking.extend(desired.values().filter(|wanted| !stands(wanted)).map(|wanted| wanted.name));
    let devices: Devices = all.into_iter().map(|details| (details.link.name, details.link.index)).collect();
    Ok(Settled { devices, doomed, stood, remove })
}

fn owned(all: &[Details], ours: &BTreeSet<IfName>) -> BTreeMap<IfName, Details> {
    let mine = all.iter().filter(|details| ours.contains(&details.link.name));
    mine.map(|details| (details.link.name, details.clone())).collect()
}

pub(super) fn device(seen: &Details) -> Device {
    Device { index: seen.link.index, name: seen.link.name }
}

fn change(wanted: &Link, seen: Option<&Details>, requests: Vec<Request>) -> Change {
    let action = if seen.is_some() { Action::Changed } else { Action::Added };
    Change { table: "link", action, object: wanted.to_string(), was: seen.map(Details::to_string), requests }
}

fn is_as_wanted(wanted: &Link, seen: &Details) -> bool {
    adjust(wanted, seen).is_some_and(|requests| requests.is_empty())
}

/// Whether no VXLAN device like `wanted` can be made while `seen` stands: the kernel has one of an identifier, a port and a family,
/// IPv4 where it is told no address (vxlan_config_validate in drivers/net/vxlan/vxlan_core.c). Devices that receive otherwise, by
/// `VXLAN_F_RCV_FLAGS`, may be beside them.
fn has_place_of(seen: &Details, wanted: &Link) -> bool {
    let LinkKind::Vxlan { vni, port, local } = wanted.kind;
    let is_of_ipv4 = |seen: &SeenVxlan| seen.local.is_none_or(|of_seen| of_seen.is_ipv4());
    seen.vxlan.as_ref().is_some_and(|seen| (seen.vni, seen.port, is_of_ipv4(seen)) == (vni, port, local.is_ipv4()))
}

fn remake(wanted: &Link, seen: &Details) -> Vec<Request> {
    let mut requests = vec![link::delete(device(seen))];
    requests.extend(link::create_vxlan(wanted));
    requests
}

/// What brings a standing device to what it shall be; `None` if only a new one will do. `up` comes last, when it will
/// not get a link-local address any more.
fn adjust(wanted: &Link, seen: &Details) -> Option<Vec<Request>> {
    let LinkKind::Vxlan { vni, port, local } = wanted.kind;
    let vxlan = seen.vxlan.as_ref()?;
    let standing_local = vxlan.local?;
    let fixed = (vxlan.vni, vxlan.port, vxlan.learning, vxlan.foreign) == (vni, port, false, false);
    if !fixed || standing_local.is_ipv4() != local.is_ipv4() {
        return None;
    }
    let device = device(seen);
    let mut requests = Vec::new();
    if standing_local != local {
        requests.push(link::set_vxlan_local(device, local));
    }
    requests.extend(settings(seen, wanted.mac, wanted.mtu));
    if seen.addrgenmode_none == Some(false) {
        requests.push(link::set_addrgenmode_none(device));
    }
    if seen.protodown {
        requests.push(link::set_protoup(device));
    }
    if !seen.link.up {
        requests.push(link::set_up(device));
    }
    Some(requests)
}

/// What gives a device of any kind its MAC and its MTU, and takes it out of a bridge, bond or VRF, which would have its packets.
pub(super) fn settings(seen: &Details, mac: MacAddr, mtu: u32) -> impl Iterator<Item = Request> {
    let leave = seen.master.is_some().then(|| link::set_nomaster(device(seen)));
    let set_mac = (seen.link.mac != Some(mac)).then(|| link::set_mac(device(seen), mac));
    let set_mtu = (seen.link.mtu != mtu).then(|| link::set_mtu(device(seen), mtu));
    leave.into_iter().chain(set_mac).chain(set_mtu)
}

/// Sends the changes; a device that this kernel cannot change in place is made anew.
fn put_links(
    netlink: &mut Netlink,
    mut put: Vec<Change>,
    remade: Vec<(usize, Vec<Request>)>,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    let mut again = Vec::new();
    let mut remade: BTreeMap<usize, Vec<Request>> = remade.into_iter().collect();
    for failure in apply(netlink, &put, outcome)? {
        match remade.remove(&failure.change) {
            Some(requests) if failure.error.errno() == Some(Errno::EOPNOTSUPP) => {
                let change = &mut put[failure.change];
                let (object, was) = (std::mem::take(&mut change.object), change.was.take());
                again.push(Change { table: "link", action: Action::Changed, object, was, requests });
            }
            _ => outcome.errors.push(failure.error),
        }
    }
    settle_changes(netlink, &again, outcome)
}

/// udev and NetworkManager may give a new device another MAC, and then nobody reaches it: the next reconciliation sets it
/// back, and this one says so.
fn report_rewritten(desired: &BTreeMap<IfName, Link>, standing: &BTreeMap<IfName, Details>, outcome: &mut Outcome) {
    for (name, wanted) in desired {
        let Some(seen) = standing.get(name).filter(|seen| seen.link.mac != Some(wanted.mac)) else { continue };
        let mac = seen.link.mac.map_or_else(|| "none".to_owned(), |mac| mac.to_string());
        outcome.errors.push(Error::Refused {
            attempt: format!("set link {name} address {}", wanted.mac),
            errno: Errno::EAGAIN,
            message: Some(format!("somebody gave it {mac} at once; look at udev and NetworkManager")),
        });
    }
}
