//! What an operator must know of, in words to act on.

use std::fmt;

use twill_conf::NodeName;
use twill_ipam::Block;

use super::refusal::{Full, Refusal};

/// Something that the keeper cannot mend by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The record of this name belongs to another machine.
    NameTaken {
        /// The name.
        node: NodeName,
        /// The machine that has it.
        owner: String,
        /// This machine.
        machine_id: String,
    },
    /// The record was changed by somebody else while this node ran.
    RecordChanged {
        /// The node.
        node: NodeName,
    },
    /// What stands under the node's key is no record.
    RecordUnreadable {
        /// The node.
        node: NodeName,
        /// Why not.
        cause: String,
    },
    /// The view is older than one that was seen before: etcd has lost history.
    SteppedBack {
        /// The revision that was seen.
        seen: i64,
        /// The revision of the view now.
        now: i64,
    },
    /// etcd was restored from a backup while this node, or its last run, knew better: nothing is claimed for a while.
    Restored {
        /// How long yet, in seconds, when that was found.
        hold: u64,
        /// Blocks of other nodes that etcd has lost, and that are left to them.
        vanished: usize,
    },
    /// There is no configuration to claim by.
    NoConfiguration {
        /// Why it cannot be read, where it is there.
        cause: Option<String>,
    },
    /// All blocks of a pool are owned, and this node needs one.
    PoolExhausted(Full),
    /// No pool gives to every pod on this node.
    NoPool(Refusal),
    /// A block that this node assigned from is not its own any more.
    BlockLost {
        /// The block.
        block: Block,
        /// Who has it now, if anybody.
        owner: Option<NodeName>,
    },
    /// Another node has pods in a block of this node, which it had before.
    BlockDisputed {
        /// The block.
        block: Block,
        /// That node.
        by: NodeName,
    },
    /// A block of this node lies in no pool.
    BlockOutsidePools {
        /// The block.
        block: Block,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NameTaken { node, owner, machine_id } => write!(
                f,
                "the node name {node} belongs to another machine (machine ID {owner}, this one is {machine_id}): nothing is \
                 assigned here; give this machine another name with --node-name, or, if it replaces the other, delete that \
                 node first"
            ),
            Self::RecordChanged { node } => write!(
                f,
                "the record of {node} in etcd was changed by somebody else: nothing more is assigned here; look for a \
                 second machine with this node's name and machine ID, then restart twilld"
            ),
            Self::RecordUnreadable { node, cause } => write!(
                f,
                "what stands in etcd as the record of {node} is not one ({cause}): nothing is assigned here; delete the key \
                 nodes/{node} if nobody else uses it, then restart twilld"
            ),
            Self::SteppedBack { seen, now } => write!(
                f,
                "etcd is at revision {now}, but was at {seen} before: it seems to have been restored from a backup; no \
                 blocks are claimed or opened"
            ),
            Self::Restored { hold, vanished } => write!(
                f,
                "etcd has lost history: it was restored from a backup; this node puts its own blocks back, claims no \
                 others for {hold} s, and leaves {vanished} blocks that etcd has lost to their nodes; if it was not \
                 restored on purpose, look at etcd"
            ),
            Self::NoConfiguration { cause: None } => {
                f.write_str("there is no cluster configuration: 'twillctl config apply FILE' writes one")
            }
            Self::NoConfiguration { cause: Some(cause) } => {
                write!(
                    f,
                    "the cluster configuration cannot be read ({cause}): 'twillctl config apply FILE' writes a new one"
                )
            }
            Self::PoolExhausted(full) => full.fmt(f),
            Self::NoPool(why) => why.fmt(f),
            Self::BlockLost { block, owner: Some(owner) } => write!(
                f,
                "block {block} was this node's and now belongs to {owner}: nothing more is assigned from it; pods that \
                 have addresses in it may be unreachable, restart them"
            ),
            Self::BlockLost { block, owner: None } => write!(
                f,
                "block {block} was this node's and is gone from etcd: nothing more is assigned from it until it is \
                 claimed again"
            ),
            Self::BlockDisputed { block, by } => write!(
                f,
                "block {block} of this node was {by}'s before, which still has pods in it: nothing more is assigned from \
                 it; restart those pods of {by}, or, if {by} is gone for good, delete it"
            ),
            Self::BlockOutsidePools { block } => write!(
                f,
                "block {block} of this node lies in no pool of the cluster configuration: nothing more is assigned from it"
            ),
        }
    }
}
