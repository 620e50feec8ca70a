//! After etcd was restored from a backup: what is left alone, and for how long.
//!
//! Blocks that were claimed after the backup are gone from etcd, and pods have addresses in them. Their nodes put them
//! back when they notice; until then nobody may take them. So for a while nothing is claimed, and a block that this node
//! has seen as another's is not free before that node was seen to have written its record in the new history, and
//! has had as much time again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use twill_conf::NodeName;
use twill_ipam::{Block, BootTime};

use super::Problem;
use crate::View;
use twill_ipam::guard::{Guard, stands};

/// So long nothing is claimed.
pub(super) const HOLD: Duration = Duration::from_secs(600);

/// What is known of the last rupture.
#[derive(Debug, Clone, Default)]
pub(super) struct Rupture {
    /// When it was found, and at which revision of the new history.
    found: Option<(BootTime, i64)>,
    /// Blocks of others that are gone since, with their owners, and since when these are back.
    vanished: BTreeMap<Block, (NodeName, Option<BootTime>)>,
}

impl Rupture {
    /// A rupture lies between two views; the first is `None` where the rupture was found at the start.
    pub(super) fn find(&mut self, before: Option<&View>, after: &View, me: &NodeName, now: BootTime) {
        self.found = Some((now, after.revision));
        let others = before.into_iter().flat_map(|view| &view.blocks).filter(|(_, record)| record.value.node != *me);
        self.vanished.values_mut().for_each(|(_, back)| *back = None);
        self.vanished.extend(others.map(|(block, record)| (*block, (record.value.node.clone(), None))));
        self.see(after, now);
    }

    /// A view of the history that goes on.
    pub(super) fn see(&mut self, view: &View, now: BootTime) {
        let Some((_, found)) = self.found else { return };
        self.vanished.retain(|block, _| !view.blocks.contains_key(block));
        for (owner, back) in self.vanished.values_mut() {
            let is_back = || view.nodes.get(owner).is_some_and(|record| record.modified > found);
            if back.is_none() && is_back() {
                *back = Some(now);
            }
        }
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: BootTime) {
        self.vanished.retain(|_, (_, back)| back.is_none_or(|back| now.since(back) < HOLD));
    }

    /// Whether nothing may be claimed but what was this node's own.
    pub(super) fn holds(&self, now: BootTime) -> bool {
        stands(Guard::ClaimHold) && self.found.is_some_and(|(since, _)| now.since(since) < HOLD)
    }

    /// The blocks that are left to others.
    pub(super) fn withheld(&self) -> BTreeSet<Block> {
        let vanished = self.vanished.keys().filter(|_| stands(Guard::VanishedIsNotFree));
        vanished.copied().collect()
    }

    /// What an operator is told, as long as something is held back.
    pub(super) fn problem(&self, now: BootTime) -> Option<Problem> {
        let held = self.found.is_some_and(|(since, _)| now.since(since) < HOLD);
        let vanished = self.vanished.len();
        (held || vanished > 0).then_some(Problem::Restored { hold: if held { HOLD.as_secs() } else { 0 }, vanished })
    }
}
