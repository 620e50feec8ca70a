//! The routes that were learned, as packets can go by them: kept from change to change, so that one is as much work as it changes.

use std::collections::{BTreeMap, BTreeSet};

use ipnetwork::IpNetwork;
use twill_bgp::path::NextHop;
use twill_bgp::speaker::Route;
use twill_fabric::Learned;
use twill_fabric::family::Family;
use twill_linux::IfName;
use twill_linux::state::Target;

use super::ground::Ground;

/// The routes, with what they are made of.
#[derive(Debug, Default, PartialEq)]
pub struct Table {
    next_hops: BTreeMap<IpNetwork, Vec<NextHop>>,
    /// How many routes lead out of each interface.
    exits: BTreeMap<IfName, usize>,
    learned: Learned,
}

impl Table {
    /// One that does not know yet what there is.
    pub fn awaiting() -> Self {
        let learned = Learned { awaited: Family::ALL.into(), ..Learned::default() };
        Self { learned, ..Self::default() }
    }

    /// Takes what has changed.
    pub fn take(&mut self, changes: Vec<Route>, ground: &Ground) {
        for Route { prefix, next_hops, .. } in changes {
            self.lead(prefix, target(&next_hops, ground));
            match next_hops.is_empty() {
                true => _ = self.next_hops.remove(&prefix),
                false => _ = self.next_hops.insert(prefix, next_hops),
            }
        }
    }

    /// The kernel's own routes are others: all that was learned may lead elsewhere.
    pub fn resolve(&mut self, ground: &Ground) {
        let targets: Vec<_> =
            self.next_hops.iter().map(|(prefix, next_hops)| (*prefix, target(next_hops, ground))).collect();
        for (prefix, target) in targets {
            self.lead(prefix, target);
        }
    }

    /// Of which families it is not known yet what there is. Gives those of which it was not before, and is now.
    pub fn await_families(&mut self, awaited: BTreeSet<Family>) -> Vec<Family> {
        let before = std::mem::replace(&mut self.learned.awaited, awaited);
        before.difference(&self.learned.awaited).copied().collect()
    }

    /// What the reconciler is to know.
    pub fn learned(&self, ground: &Ground) -> Learned {
        let exits = self.exits.keys().map(|device| (*device, ground.is_filtered(*device))).collect();
        Learned { exits, ..self.learned.clone() }
    }

    fn lead(&mut self, prefix: IpNetwork, target: Option<Target>) {
        if self.learned.routes.get(&prefix) == target.as_ref() {
            return;
        }
        let before = match target.clone() {
            Some(target) => self.learned.routes.insert(prefix, target),
            None => self.learned.routes.remove(&prefix),
        };
        for device in target.iter().flat_map(Target::devices) {
            *self.exits.entry(device).or_default() += 1;
        }
        for device in before.iter().flat_map(Target::devices) {
            if let Some(count) = self.exits.get_mut(&device) {
                *count -= 1;
                if *count == 0 {
                    self.exits.remove(&device);
                }
            }
        }
    }
}

/// Where packets go: by all next hops that are reached, and to each by all ways that the kernel has.
fn target(next_hops: &[NextHop], ground: &Ground) -> Option<Target> {
    Target::by(next_hops.iter().flat_map(|next_hop| ground.hops(next_hop.address)))
}
