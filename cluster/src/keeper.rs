//! The keeper of a node's blocks: the rules of registering and claiming, without I/O, clock or randomness of its own.
//!
//! The daemon feeds it with what it learns ([`Input`]) and performs what comes back ([`Output`]), in order. Every
//! promise rests on the compares of the transactions and on what etcd shows afterwards, never on an answer alone: an
//! answer may be lost, and a request may be done late, or after the process that sent it has died.
//!
//! - One epoch: the create revision of the node's record fences every claim.
//! - A record of another machine is never taken over; one that was changed by somebody else ends all assigning.
//! - A block is opened only when etcd itself told, in this run, that it is this node's. One that etcd does not give
//!   this node any more is closed.
//! - For each family one claim is in flight at most, and none while enough addresses are free: in a steady state there
//!   are no claims.
//!
//! Giving back, the return of a deleted node, disputes and the discontinuity of a restored etcd are further rules over
//! the same inputs; until they are here, each of these cases ends in a [`Problem`] and in no more assigning.

mod claims;
mod flight;
mod holdings;
mod place;
mod problem;
mod registration;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use twill_conf::{NodeName, PoolName};
use twill_ipam::store::BlockUse;
use twill_ipam::{Block, Family};

use crate::View;
use crate::record::{Tunnel, Underlay, VxlanEnd};
use crate::request::{Action, Answer, Request, RequestId};
use claims::{Claims, Terms};
use holdings::Holdings;
use registration::Registration;

pub use problem::Problem;

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
    /// The VXLAN end.
    pub vxlan: Option<VxlanEnd>,
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
    /// What the record is to say. Nothing is written to etcd before this came once.
    Facts(Facts),
    /// What became of a request.
    Answer(RequestId, Answer),
    /// The pause that [`Output::Pause`] asked for is over.
    Resume,
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
    /// The node is registered, with this epoch.
    Registered {
        /// The create revision of its record.
        epoch: i64,
        /// Its record was there already: it is back.
        returned: bool,
    },
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

/// How far the node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// No view from etcd yet, or nothing to publish yet.
    Waiting,
    /// The record is being written for the first time in this run.
    Registering,
    /// Registered: it may claim.
    Registered {
        /// The create revision of its record.
        epoch: i64,
    },
    /// It assigns nothing more, for the reason among [`Keeper::problems`].
    Stopped,
}

/// The keeper's state.
#[derive(Debug, Clone)]
pub struct Keeper {
    identity: Identity,
    /// Requests and nonces so far.
    count: u64,
    view: Option<Arc<View>>,
    /// The revision of a view that is older than one before it, while there is no newer one.
    back: Option<i64>,
    facts: Option<Facts>,
    registration: Registration,
    holdings: Holdings,
    claims: Claims,
    paused: bool,
    exhausted: BTreeSet<PoolName>,
    problems: Vec<Problem>,
}

impl Keeper {
    /// A keeper that knows nothing yet.
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            count: 0,
            view: None,
            back: None,
            facts: None,
            registration: Registration::default(),
            holdings: Holdings::default(),
            claims: Claims::default(),
            paused: false,
            exhausted: BTreeSet::new(),
            problems: Vec::new(),
        }
    }

    /// Learns something, and says what is to be done.
    pub fn step(&mut self, input: Input) -> Vec<Output> {
        let mut outputs = Vec::new();
        match input {
            Input::View(view) => self.see(view),
            Input::Local(blocks) => self.holdings.look(blocks),
            Input::Facts(facts) => self.facts = Some(facts),
            Input::Answer(id, answer) => self.answered(id, &answer, &mut outputs),
            Input::Resume => {
                self.paused = false;
                self.registration.resume();
                self.claims.resume();
                self.holdings.repeat();
            }
        }
        self.advance(&mut outputs);
        outputs
    }

    /// How far the node is.
    pub fn standing(&self) -> Standing {
        if self.registration.problem().is_some() {
            Standing::Stopped
        } else if let Some(epoch) = self.registration.epoch() {
            Standing::Registered { epoch }
        } else if self.registration.is_writing() {
            Standing::Registering
        } else {
            Standing::Waiting
        }
    }

    /// All that is wrong now.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    fn see(&mut self, view: Arc<View>) {
        if self.view.as_ref().is_some_and(|seen| view.revision < seen.revision) {
            self.back = Some(view.revision);
            return;
        }
        self.back = None;
        // In a busy cluster views come all the time: a pause ends early only if what writes rest on is not what it was, or
        // if the view shows why they were refused.
        let grounds = |view: &View| {
            let record = view.nodes.get(&self.identity.node).map(|record| record.modified);
            (view.config.as_ref().map(|config| config.modified), record)
        };
        if self.view.as_ref().is_none_or(|seen| grounds(seen) != grounds(&view)) {
            self.paused = false;
            self.claims.resume();
        }
        self.registration.see(&view, &self.identity);
        self.holdings.see(&view, &self.identity);
        if self.claims.see(&view) {
            self.paused = false;
        }
        self.view = Some(view);
    }

    fn answered(&mut self, id: RequestId, answer: &Answer, outputs: &mut Vec<Output>) {
        let later = if let Some(progress) = self.registration.answered(id, answer) {
            if let registration::Progress::Registered { epoch, returned } = progress {
                outputs.push(Output::Registered { epoch, returned });
            }
            progress == registration::Progress::Later
        } else {
            match self.claims.answered(id, answer) {
                Some(claims::Progress::Claimed(claim, revision)) => {
                    let view = self.view.as_deref().expect("claims are made by a view");
                    self.holdings.claimed(claim.block, revision, view);
                    outputs.push(Output::Claimed { block: claim.block, pool: claim.pool });
                    false
                }
                Some(claims::Progress::Later) => true,
                Some(claims::Progress::On) | None => false,
            }
        };
        if later && !self.paused {
            self.paused = true;
            outputs.push(Output::Pause);
        }
    }

    /// All that the present state calls for.
    fn advance(&mut self, outputs: &mut Vec<Output>) {
        let Some(view) = self.view.clone() else { return };
        if self.back.is_none() {
            self.ask(&view, outputs);
            if self.registration.problem().is_some() {
                outputs.extend(self.holdings.close_all());
            } else if self.registration.epoch().is_some() {
                outputs.extend(self.holdings.orders(view.config.as_ref().map(|config| &config.value)));
            }
        }
        self.tell(&view, outputs);
    }

    /// Requests: what is doubtful is read, what is due is written.
    fn ask(&mut self, view: &View, outputs: &mut Vec<Output>) {
        if self.paused {
            return;
        }
        let mut count = self.count;
        let mut id = || {
            count += 1;
            RequestId(count)
        };
        let doubtful = self.registration.flight().filter(|flight| flight.is_doubtful()).and_then(|f| f.read(id()));
        let reads = self.claims.flights().filter(|flight| flight.is_doubtful()).filter_map(|flight| flight.read(id()));
        outputs.extend(doubtful.into_iter().chain(reads).map(Output::Request));
        self.count = count;
        self.publish(outputs);
        self.claim(view, outputs);
    }

    fn publish(&mut self, outputs: &mut Vec<Output>) {
        let Some(facts) = &self.facts else { return };
        let Some(mut record) = self.registration.wanted(facts, &self.identity) else { return };
        self.count += 1;
        let id = RequestId(self.count);
        record.nonce = self.identity.nonce(self.count);
        let txn = self.registration.send(id, record, &self.identity);
        outputs.push(Output::Request(Request { id, action: Action::Publish(txn) }));
    }

    fn claim(&mut self, view: &View, outputs: &mut Vec<Output>) {
        let (Some(epoch), Some(config)) = (self.registration.epoch(), &view.config) else { return };
        if !self.holdings.is_known() {
            return;
        }
        for family in [Family::V4, Family::V6] {
            let need = self.claims.need(family, view, &self.holdings, &self.identity);
            let Some((family, claim)) = need.claim else { continue };
            self.count += 1;
            let id = RequestId(self.count);
            let terms = Terms { me: &self.identity, epoch, config, nonce: self.identity.nonce(self.count) };
            let block = claim.block;
            let txn = self.claims.send(id, family, claim, terms);
            outputs.push(Output::Request(Request { id, action: Action::Claim { block, txn } }));
        }
    }

    /// What is exhausted and what is wrong, if it is not what was told before.
    fn tell(&mut self, view: &View, outputs: &mut Vec<Output>) {
        let mut problems: Vec<Problem> = Vec::new();
        let seen = view.revision;
        problems.extend(self.back.map(|now| Problem::SteppedBack { seen, now }));
        problems.extend(self.registration.problem().cloned());
        problems.extend(self.holdings.problems(view));
        if view.config.is_none() {
            problems.push(Problem::NoConfiguration { cause: view.faults.get(crate::key::CONFIG).cloned() });
        }
        let mut exhausted = BTreeSet::new();
        if self.holdings.is_known() {
            for family in [Family::V4, Family::V6] {
                let need = self.claims.need(family, view, &self.holdings, &self.identity);
                exhausted.extend(need.exhausted);
                problems.extend(need.problems);
            }
        }
        if exhausted != self.exhausted {
            outputs.push(Output::Exhausted(exhausted.iter().cloned().collect()));
            self.exhausted = exhausted;
        }
        if problems != self.problems {
            outputs.push(Output::Problems(problems.clone()));
            self.problems = problems;
        }
    }
}

impl Identity {
    /// The nonce of the run's `count`-th write.
    fn nonce(&self, count: u64) -> String {
        format!("{}-{count}", self.run)
    }
    /// Whether a nonce is one of this run.
    fn wrote(&self, nonce: &str) -> bool {
        nonce.strip_prefix(self.run.as_str()).is_some_and(|rest| rest.starts_with('-'))
    }
}

impl Output {
    fn block(&self) -> Option<Block> {
        match self {
            Self::Open { block, .. } | Self::Close { block, .. } => Some(*block),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
