//! What the keeper is told, and what it says.

use std::collections::BTreeMap;
use std::sync::Arc;

use twill_conf::{NodeName, PoolName};
use twill_ipam::store::BlockUse;
use twill_ipam::{Block, Family, Want};

use super::{Problem, Refusal};
use crate::View;
use crate::record::{Path, Tunnel, Underlay, VxlanEnd};
use crate::request::{Answer, Request, RequestId};

/// Who keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The node.
    pub node: NodeName,
    /// The machine.
    pub machine_id: String,
    /// A random word, fresh at every start of the daemon (16 hexadecimal digits, say). All nonces of the run begin with
    /// it, so that the run knows its own writes again.
    pub run: String,
}

/// What this node publishes of itself in its record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Underlay addresses.
    pub underlay: Underlay,
    /// Tunnel addresses, taken from blocks that are open.
    pub tunnel: Tunnel,
    /// The VXLAN end, where one stands.
    pub vxlan: Option<VxlanEnd>,
    /// How it sends.
    pub path: Option<Path>,
    /// Free words of the operator.
    pub labels: BTreeMap<String, String>,
    /// The daemon's version.
    pub version: String,
}

/// What the keeper learns.
#[derive(Debug, Clone)]
pub enum Input {
    /// The cluster, as etcd itself told it in this run (from the watch). Never a view that was read from the disk.
    View(Arc<View>),
    /// The node store's blocks, at the start and whenever they or their use changed.
    Local(Vec<BlockUse>),
    /// What ADDs that wait now want, whenever that has changed.
    Wants(Vec<Want>),
    /// What the record is to say. Nothing is written to etcd before this came once.
    Facts(Facts),
    /// The node is to be drained, or not any more. Until this comes, what its record says goes on.
    Drain(bool),
    /// What became of a request.
    Answer(RequestId, Answer),
    /// The pause that [`Output::Pause`] asked for is over.
    Resume,
    /// Nothing but that time has passed. Feed it every few seconds.
    Tick,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this to etcd, and give the answer back as [`Input::Answer`]; [`Request::perform`] does both. Requests of one
    /// step may be sent at once. Where [`Request::claims`] names a block, packets to it must not be able to leave by
    /// the default gateway from the moment on that the request is sent, since its success publishes the block: either
    /// the pool's `unreachable` route stands, or the block's own is installed first.
    Request(Request),
    /// The node owns this block: open it in the store, and feed [`Input::Local`] afterwards, also where that failed. May be
    /// repeated.
    Open {
        /// The block.
        block: Block,
        /// The pool that it is a part of.
        pool: PoolName,
        /// It was claimed in this run, and this is the first order to open it: nobody can have used an address of it. Where
        /// it is not fresh and the node store does not know the block, its addresses have to cool first.
        fresh: bool,
    },
    /// The node does not own this block, or must not assign from it: set it to closing. May be repeated.
    Close {
        /// The block.
        block: Block,
        /// Its pool as the store has it.
        pool: PoolName,
    },
    /// Set this block to closing if nobody has an address of it and none cools, in one transaction of the node store
    /// (`Store::close_empty_block`), and feed [`Input::Local`] afterwards, also where it was not done.
    GiveBack {
        /// The block.
        block: Block,
        /// Its pool.
        pool: PoolName,
    },
    /// Take the tunnel address from another open block (`Store::move_tunnel`), and feed [`Input::Local`] and
    /// [`Input::Facts`] afterwards: the block that it is of is to go, and has nothing else.
    MoveTunnel {
        /// Of which family.
        family: Family,
        /// Whether it goes also where no other block has room: the family is given up on this node.
        give_up: bool,
    },
    /// Tell an ADD that waits why it gets no block (`Store::refuse_want`).
    Refuse {
        /// What it wanted when it was judged: it may want something else by now.
        want: Want,
        /// Why.
        why: Refusal,
    },
    /// A block was given back: worth a line in the log.
    GaveBack {
        /// The block.
        block: Block,
    },
    /// The node is registered, with this epoch.
    Registered {
        /// The create revision of its record.
        epoch: i64,
        /// Its record was there already: it is back.
        returned: bool,
    },
    /// The node's record is gone from etcd, or must be proved again: it is registered no more, and will register anew.
    Unregistered,
    /// A claim succeeded: worth a line in the log.
    Claimed {
        /// The block.
        block: Block,
        /// Its pool.
        pool: PoolName,
    },
    /// These pools have neither a free address here nor a block to be had: for `Node::exhausted` in the store. Comes at
    /// every change.
    Exhausted(Vec<PoolName>),
    /// All that is wrong now, for the log and for reports. Comes at every change; empty when all is well again.
    Problems(Vec<Problem>),
    /// Feed [`Input::Resume`] after a pause: a second or so, longer each time in a row, with jitter.
    Pause,
}
