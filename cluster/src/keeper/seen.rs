//! What of a view concerns this node's blocks, found by what has changed since the last one.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;
use twill_conf::NodeName;
use twill_ipam::Block;
use twill_ipam::guard::{Guard, stands};

use super::Identity;
use crate::View;
use crate::record::{BlockRecord, NodeRecord, Versioned};
use crate::view::differences;

/// The view as it was seen last.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// The run that has seen it: what one has written is not another's.
    run: String,
    blocks: OrdMap<Block, Arc<Versioned<BlockRecord>>>,
    nodes: OrdMap<NodeName, Arc<Versioned<NodeRecord>>>,
    /// What other nodes say that they have pods in, of those that say so.
    disputes: BTreeMap<NodeName, Vec<Block>>,
}

impl Seen {
    /// Takes a view. `turn` is told each block that is written or gone, with its record if that gives it to this node.
    pub(super) fn follow(
        &mut self,
        view: &View,
        me: &Identity,
        mut turn: impl FnMut(Block, Option<&Versioned<BlockRecord>>),
    ) {
        if self.run != me.run || !stands(Guard::Adoption) {
            // All are judged again, those that are gone among them.
            let gone = std::mem::take(&mut self.blocks);
            gone.keys().filter(|block| !view.blocks.contains_key(*block)).for_each(|block| turn(*block, None));
            self.run.clone_from(&me.run);
        }
        for (block, _, record) in differences(&self.blocks, &view.blocks) {
            turn(*block, record.map(Arc::as_ref).filter(|record| is_ours(&record.value, me)));
        }
        self.blocks = view.blocks.clone();
        for (name, _, record) in differences(&self.nodes, &view.nodes) {
            let disputes = record.filter(|_| *name != me.node).into_iter().flat_map(|record| &record.value.disputes);
            let disputes: Vec<Block> = disputes.filter_map(|cidr| Block::new(*cidr)).collect();
            match disputes.is_empty() {
                true => drop(self.disputes.remove(name)),
                false => drop(self.disputes.insert(name.clone(), disputes)),
            }
        }
        self.nodes = view.nodes.clone();
    }

    /// Another node that says that it has pods in a block of ours.
    pub(super) fn disputer(&self, block: Block) -> Option<&NodeName> {
        let disputes = |disputed: &Vec<Block>| disputed.iter().any(|disputed| disputed.overlaps(block));
        self.disputes.iter().find(|(_, disputed)| disputes(disputed)).map(|(name, _)| name)
    }
}

/// The machine is compared too: a second machine with this name has no right to these blocks.
fn is_ours(record: &BlockRecord, me: &Identity) -> bool {
    let machine = record.machine_id == me.machine_id || !stands(Guard::MachineId);
    record.node == me.node && machine
}
