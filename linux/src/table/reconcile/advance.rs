//! From one desired state to the next by their difference, without a look at the kernel: what one more node costs does not
//! grow with the nodes that are there.
//!
//! It is for a caller who knows that the first state stands: a reconciliation brought it about whole, and the monitor has
//! told of nothing since. It makes exclusively and removes just what it names, so nothing of others is hit where that was
//! wrong; and whatever it could only do by a look it leaves to a reconciliation.

use std::fmt;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;

use super::fdb::Fdb;
use super::neighbours::Neighbours;
use super::routes::Routes;
use super::{Devices, Table};
use crate::netlink::Request;
use crate::state::{FdbEntry, KernelState, Neighbour, Route};
use crate::table::change::{Action, Change, Plan, settle};
use crate::table::route::SeenTarget;
use crate::table::{Outcome, SeenLink, fdb, neighbour, route};
use crate::{Error, Netlink};

/// Applies the difference of two desired states. `None`, and nothing is changed, where that takes a look at the kernel: what
/// differs is not only neighbours, FDB entries and routes, or a route leads elsewhere than before, which might be replaced
/// by hitting another's.
///
/// `links` are those of the namespace. Where the outcome has errors, what
/// stands is not what was thought.
pub fn advance(
    netlink: &mut Netlink,
    links: &[SeenLink],
    before: &KernelState,
    after: &KernelState,
) -> Result<Option<Outcome>, Error> {
    let Some(plans) = plan(links, before, after) else { return Ok(None) };
    let mut outcome = Outcome::default();
    // What routes need comes before them, and goes after them.
    for plan in &plans {
        settle(netlink, &plan.put, &mut outcome)?;
    }
    for plan in plans.iter().rev() {
        settle(netlink, &plan.remove, &mut outcome)?;
    }
    outcome.routed = outcome.errors.is_empty();
    Ok(Some(outcome))
}

fn plan(links: &[SeenLink], before: &KernelState, after: &KernelState) -> Option<[Plan; 3]> {
    let rest = |state: &KernelState| {
        let KernelState { links, ends, offloads, addresses, sysctls, routes: _, neighbours: _, fdb: _, firewall: _ } =
            state;
        (links.clone(), ends.clone(), offloads.clone(), addresses.clone(), sysctls.clone())
    };
    if rest(before) != rest(after) {
        return None;
    }
    let devices: Devices = links.iter().map(|link| (link.name, link.index)).collect();
    Some([
        difference::<Neighbours>(&before.neighbours, &after.neighbours, &devices)?,
        difference::<Fdb>(&before.fdb, &after.fdb, &devices)?,
        difference::<Routes>(&before.routes, &after.routes, &devices)?,
    ])
}

/// How to go on from a value that stands as it was wanted.
trait Known: Table<Value: PartialEq> {
    /// In the place of another of the same key; `None` where that is not safe without a look.
    fn replacement(value: &Self::Value, place: &Self::Place) -> Option<Request>;
    fn removal(value: &Self::Value, place: &Self::Place) -> Request;
}

impl Known for Neighbours {
    fn replacement(value: &Neighbour, index: &u32) -> Option<Request> {
        Some(neighbour::set(value, *index))
    }

    fn removal(value: &Neighbour, index: &u32) -> Request {
        neighbour::remove(value, *index)
    }
}

impl Known for Fdb {
    fn replacement(value: &FdbEntry, index: &u32) -> Option<Request> {
        Some(fdb::set(value, *index))
    }

    fn removal(value: &FdbEntry, index: &u32) -> Request {
        fdb::remove(value.mac, Some(value.remote), crate::table::Device { index: *index, name: value.device })
    }
}

impl Known for Routes {
    fn replacement(_: &Route, _: &SeenTarget) -> Option<Request> {
        None
    }

    fn removal(value: &Route, at: &SeenTarget) -> Request {
        route::remove_at(value, at)
    }
}

fn difference<T: Known>(
    before: &OrdMap<T::Key, T::Value>,
    after: &OrdMap<T::Key, T::Value>,
    devices: &Devices,
) -> Option<Plan> {
    let mut plan = Plan::default();
    for difference in before.diff(after) {
        let (DiffItem::Add(_, value) | DiffItem::Update { new: (_, value), .. } | DiffItem::Remove(_, value)) =
            difference;
        let place = T::place(value, |device| devices.index(&device))?;
        let (list, action, request) = match difference {
            DiffItem::Add(..) => (&mut plan.put, Action::Added, T::make(value, &place)),
            DiffItem::Update { .. } => (&mut plan.put, Action::Changed, T::replacement(value, &place)?),
            DiffItem::Remove(..) => (&mut plan.remove, Action::Removed, T::removal(value, &place)),
        };
        list.push(change::<T>(action, value, request));
    }
    Some(plan)
}

fn change<T: Table>(action: Action, object: &impl fmt::Display, request: Request) -> Change {
    Change { table: T::NAME, action, object: object.to_string(), was: None, requests: vec![request] }
}
