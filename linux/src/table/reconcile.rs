//! The reconciliation over all tables: dump what is ours, compare, apply the difference.
//!
//! Links come first, since a device that is made anew takes with it all that was on it: what is on devices is only
//! dumped when they stand as they shall.

mod addresses;
mod advance;
mod ends;
mod fdb;
mod links;
mod neighbours;
mod routes;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use super::change::{Action, Change, Difference, Plan, diff, settle};
use super::{Outcome, offload, sysctl};
use crate::netlink::Request;
use crate::state::{KernelState, Ownership, RouteKey};
use crate::{Error, IfName, Netlink};

pub use self::advance::advance;

/// Dumps what is ours, compares it with `desired`, applies the difference: devices first, then sysctls, addresses,
/// neighbours and FDB entries, then routes; leftovers go last. It continues after an error. The firewall is not in it:
/// see [`crate::nft`].
///
/// What shall stand is made where it is missing, but for host ends of pods, which are not ours to make. What stands and shall not is
/// removed only if `ours` covers it: devices of ours and all on them, permanent neighbours and routes of
/// [`crate::state::PROTOCOL_POD`] on the pods' devices, and every route of [`crate::state::PROTOCOL_CLUSTER`] in the main table. The
/// outer error means that the kernel could not be read, or that the outcome of requests is unknown; the next reconciliation sees what
/// stands.
pub fn reconcile(netlink: &mut Netlink, desired: &KernelState, ours: &Ownership) -> Result<Outcome, Error> {
    bring(netlink, desired, ours, Extent::All)
}

/// Only makes what is missing, and keeps what is the node's own: the host ends of pods and neighbours on them, and devices with their
/// addresses; what else stands otherwise than `desired` has it, or beyond it, is left as it is. For a desired state that may be older
/// than what stands, but for these routes: they are changed and removed as by [`reconcile`].
pub fn complete(
    netlink: &mut Netlink,
    desired: &KernelState,
    ours: &Ownership,
    fresh: &BTreeSet<RouteKey>,
) -> Result<Outcome, Error> {
    bring(netlink, desired, ours, Extent::Missing { fresh })
}

/// How far a reconciliation goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent<'a> {
    /// It makes, changes and removes.
    All,
    /// It makes what is missing, and does all with these routes.
    Missing { fresh: &'a BTreeSet<RouteKey> },
}

impl Extent<'_> {
    /// The differences that are its business.
    fn of_table<'d, T: Table>(
        self,
        differences: Vec<Difference<'d, T::Key, T::Value, T::Seen>>,
        ours: &Ownership,
    ) -> Vec<Difference<'d, T::Key, T::Value, T::Seen>> {
        let Self::Missing { fresh } = self else { return differences };
        let within = |difference: &Difference<'_, T::Key, T::Value, T::Seen>| match difference {
            Difference::Missing(_) => true,
            Difference::Changed(value, _) => {
                T::is_own(value, ours) || T::route_of(value).is_some_and(|key| fresh.contains(key))
            }
            Difference::Extra(key, _) => T::route(key).is_some_and(|key| fresh.contains(key)),
        };
        differences.into_iter().filter(within).collect()
    }
}

fn bring(netlink: &mut Netlink, desired: &KernelState, ours: &Ownership, extent: Extent<'_>) -> Result<Outcome, Error> {
    let mut outcome = Outcome::default();
    let links = links::settle(netlink, desired, &ours.devices, extent, &mut outcome)?;
    if extent == Extent::All {
        offload::settle(netlink, &desired.offloads, &mut outcome)?;
    }
    sysctl::settle(netlink, &desired.sysctls, &mut outcome)?;

    let (absent, stood) = (BTreeMap::new(), BTreeMap::from([("link", links.stood)]));
    let mut scene = Scene { devices: links.devices, doomed: links.doomed, ours, extent, absent, stood };
    let addresses = addresses::plan(netlink, desired, &mut scene)?;
    settle(netlink, &addresses.put, &mut outcome)?;
    let neighbours = neighbours::plan(netlink, desired, &mut scene)?;
    settle(netlink, &neighbours.put, &mut outcome)?;
    let fdb = fdb::plan(netlink, desired, &mut scene)?;
    settle(netlink, &fdb.put, &mut outcome)?;
    let refused = outcome.errors.len();
    let routes = routes::plan(netlink, desired, &mut scene)?;
    routes::settle_put(netlink, &routes.put, &scene, &mut outcome)?;
    settle(netlink, &routes.remove, &mut outcome)?;
    outcome.routed = outcome.errors.len() == refused && scene.absent.is_empty();

    for plan in [&fdb, &neighbours] {
        settle(netlink, &plan.remove, &mut outcome)?;
    }
    addresses::settle_removals(netlink, &addresses.remove, desired, &mut scene, &mut outcome)?;
    settle(netlink, &links.remove, &mut outcome)?;
    outcome.stood = std::mem::take(&mut scene.stood);
    outcome.errors.extend(scene.absences());
    Ok(outcome)
}

/// The devices as they stand, by name and by number.
#[derive(Debug, Default)]
struct Devices {
    by_name: BTreeMap<IfName, u32>,
    by_index: HashMap<u32, IfName>,
}

impl Devices {
    fn index(&self, name: &IfName) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    fn name(&self, index: u32) -> Option<IfName> {
        self.by_index.get(&index).copied()
    }

    /// The name, or the number of one that has gone since.
    fn called(&self, index: u32) -> String {
        self.name(index).map_or_else(|| format!("#{index}"), |name| name.to_string())
    }

    /// Whether what stands is what shall stand.
    fn have<T: Table>(&self, table: &T, value: &T::Value, seen: &T::Seen) -> bool {
        T::place(value, |device| self.index(&device)).is_some_and(|place| table.same(value, seen, &place))
    }
}

impl FromIterator<(IfName, u32)> for Devices {
    fn from_iter<I: IntoIterator<Item = (IfName, u32)>>(entries: I) -> Self {
        let by_name: BTreeMap<IfName, u32> = entries.into_iter().collect();
        let by_index = by_name.iter().map(|(name, index)| (*index, *name)).collect();
        Self { by_name, by_index }
    }
}

/// What the tables on top of devices need to know.
#[derive(Debug)]
struct Scene<'a> {
    devices: Devices,
    /// Devices that will be deleted at the end: what is on them goes with them.
    doomed: BTreeSet<IfName>,
    ours: &'a Ownership,
    extent: Extent<'a>,
    /// Devices that are wanted and not there, how often, and the first object that wants them.
    absent: BTreeMap<IfName, (usize, String)>,
    /// How many objects each table had when it was first looked at.
    stood: BTreeMap<&'static str, usize>,
}

impl Scene<'_> {
    /// Where an object belongs; `None`, and a note of each, if devices of it are not there.
    fn place<T: Table>(&mut self, value: &T::Value) -> Option<T::Place> {
        let mut absent = BTreeSet::new();
        let place = T::place(value, |device| {
            let index = self.devices.index(&device);
            absent.extend(index.is_none().then_some(device));
            index
        });
        for device in absent {
            self.absent.entry(device).or_insert_with(|| (0, value.to_string())).0 += 1;
        }
        place
    }

    /// Devices to dump: those of ours that stand and stay, and those that are wanted.
    fn standing(&self, wanted: impl Iterator<Item = IfName>, with_pods: bool) -> BTreeMap<IfName, u32> {
        let pods = self.ours.pods.iter().filter(|_| with_pods);
        let names = self.ours.devices.iter().chain(pods).copied().chain(wanted);
        names
            .filter(|name| !self.doomed.contains(name))
            .filter_map(|name| Some((name, self.devices.index(&name)?)))
            .collect()
    }

    /// Whether leftovers on a device are ours to remove.
    fn owns(&self, device: &IfName) -> bool {
        self.ours.devices.contains(device) || self.ours.pods.contains(device)
    }

    /// One error a device, not one for each of its ten thousand routes.
    fn absences(self) -> impl Iterator<Item = Error> {
        self.absent.into_iter().map(|(device, (count, first))| {
            let attempt = match count {
                1 => format!("add {first}"),
                _ => format!("add {first} and {} other objects", count - 1),
            };
            Error::NoDevice { attempt, device: device.to_string() }
        })
    }
}

/// What differs from table to table.
trait Table {
    /// As in [`super::Repair::table`].
    const NAME: &'static str;
    type Key: Ord;
    type Value: fmt::Display;
    type Seen;
    /// The number of the device that an object needs; of a route, where it leads, by the numbers of all of its devices.
    type Place;

    /// The key of a route; `None` of anything else.
    fn route(_key: &Self::Key) -> Option<&RouteKey> {
        None
    }

    /// The same, of one that shall stand.
    fn route_of(_value: &Self::Value) -> Option<&RouteKey> {
        None
    }

    /// Whether what shall stand is the node's own, and hangs on nothing that others know better.
    fn is_own(_value: &Self::Value, _ours: &Ownership) -> bool {
        false
    }

    /// Where an object belongs, by the numbers that `find` has for devices; `None` where it lacks one.
    fn place(value: &Self::Value, find: impl FnMut(IfName) -> Option<u32>) -> Option<Self::Place>;
    /// Whether what stands is what shall stand, at the value's place.
    fn same(&self, value: &Self::Value, seen: &Self::Seen, place: &Self::Place) -> bool;
    fn make(value: &Self::Value, place: &Self::Place) -> Request;
    fn change(&self, value: &Self::Value, seen: &Self::Seen, place: &Self::Place) -> Vec<Request>;
    /// How to remove what stands; `None` if it is not ours to remove.
    fn unmake(&self, key: &Self::Key, seen: &Self::Seen, scene: &Scene<'_>) -> Option<Vec<Request>>;
    /// What stands, as `ip` prints it.
    fn shown(seen: &Self::Seen, devices: &Devices) -> String;
}

/// Adds what a dump shows to the others of its key: one of a table that is being changed may show an object twice.
fn note<T: PartialEq>(of_key: &mut Vec<T>, seen: T) {
    if !of_key.contains(&seen) {
        of_key.push(seen);
    }
}

/// The changes that bring one table to what is desired.
fn plan<'a, T: Table<Key: 'a, Value: 'a>>(
    table: &T,
    desired: impl IntoIterator<Item = (&'a T::Key, &'a T::Value)>,
    standing: &'a BTreeMap<T::Key, T::Seen>,
    scene: &mut Scene<'_>,
) -> Plan {
    let mut plan = Plan::default();
    scene.stood.entry(T::NAME).or_insert(standing.len());
    let same = |value: &T::Value, seen: &T::Seen| scene.devices.have(table, value, seen);
    for difference in scene.extent.of_table::<T>(diff(desired, standing, same), scene.ours) {
        let (action, value) = match &difference {
            Difference::Missing(value) => (Action::Added, *value),
            Difference::Changed(value, _) => (Action::Changed, *value),
            Difference::Extra(key, seen) => {
                if let Some(requests) = table.unmake(key, seen, scene) {
                    let object = T::shown(seen, &scene.devices);
                    plan.remove.push(Change { table: T::NAME, action: Action::Removed, object, was: None, requests });
                }
                continue;
            }
        };
        let Some(place) = scene.place::<T>(value) else { continue };
        let (was, requests) = match difference {
            Difference::Changed(_, seen) => (Some(T::shown(seen, &scene.devices)), table.change(value, seen, &place)),
            _ => (None, vec![T::make(value, &place)]),
        };
        plan.put.push(Change { table: T::NAME, action, object: value.to_string(), was, requests });
    }
    plan
}
