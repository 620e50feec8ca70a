//! The keeper of a node's blocks: the rules of registering and claiming, without I/O, clock or randomness of its own.
//!
//! The daemon feeds it with what it learns ([`Input`]) and performs what comes back ([`Output`]), in order. Every
//! promise rests on the compares of the transactions and on what etcd shows afterwards, never on an answer alone: an
//! answer may be lost, and a request may be done late, or after the process that sent it has died.
//!
//! - One epoch: the create revision of the node's record fences every claim.
//! - A record of another machine is never taken over; one that was changed by somebody else ends all assigning.
//! - A block is opened only when the watch itself told, in this run, that it is this node's. One that etcd does not give
//!   this node any more is closed. One that was closed is opened only after its record was written anew.
//! - For each family one claim is in flight at most, and none while enough addresses are free; a block is given back
//!   only after a while, if much more than that stays free: in a steady state there are neither claims nor returns.
//! - A node whose record was deleted closes its blocks and registers anew. It claims again those of its lost blocks in
//!   which it has pods and that nobody has taken; the others it disputes in its record, and their new owners assign
//!   nothing more in them.
//! - After etcd was restored from a backup all blocks are closed, the node puts its own back, and for a while claims no
//!   others.

mod claims;
mod flight;
mod giving;
mod holdings;
mod place;
mod problem;
mod refusal;
mod registration;
mod renewing;
mod rupture;
mod seen;
mod wants;
mod words;

use std::collections::BTreeSet;
use std::sync::Arc;

use twill_conf::PoolName;
use twill_ipam::guard::{Guard, stands};
use twill_ipam::{Block, BootTime, Family, Want};

use crate::View;
use crate::record::BlockRecord;
use crate::request::{Action, Answer, Request, RequestId};
use claims::{Claim, Claims, Terms};
use giving::{Giving, Plenty};
use holdings::Holdings;
use registration::Registration;
use renewing::Renewing;
use rupture::Rupture;
use wants::Ground;

pub use problem::Problem;
pub use refusal::{Full, Reason, Refusal};
pub use words::{Facts, Identity, Input, Output};

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
    /// The word that the daemon gave to this run.
    run: String,
    now: BootTime,
    /// Requests and nonces so far.
    count: u64,
    view: Option<Arc<View>>,
    /// The revision of a view that is older than one before it, while there is no newer one.
    back: Option<i64>,
    facts: Option<Facts>,
    registration: Registration,
    holdings: Holdings,
    claims: Claims,
    giving: Giving,
    plenty: Plenty,
    renewing: Renewing,
    rupture: Rupture,
    wants: Vec<Want>,
    paused: bool,
    exhausted: BTreeSet<PoolName>,
    problems: Vec<Problem>,
}

impl Keeper {
    /// A keeper that knows nothing yet.
    pub fn new(identity: Identity) -> Self {
        Self {
            run: identity.run.clone(),
            identity,
            now: BootTime::default(),
            count: 0,
            view: None,
            back: None,
            facts: None,
            registration: Registration::default(),
            holdings: Holdings::default(),
            claims: Claims::default(),
            giving: Giving::default(),
            plenty: Plenty::default(),
            renewing: Renewing::default(),
            rupture: Rupture::default(),
            wants: Vec::new(),
            paused: false,
            exhausted: BTreeSet::new(),
            problems: Vec::new(),
        }
    }

    /// Learns something at a time, and says what is to be done.
    pub fn step(&mut self, input: Input, now: BootTime) -> Vec<Output> {
        let mut outputs = Vec::new();
        self.now = self.now.max(now);
        match input {
            Input::View(view) => self.see(view, &mut outputs),
            Input::Local(blocks) => {
                self.holdings.look(blocks, self.now);
                self.giving.look(&self.holdings);
            }
            Input::Wants(wants) => self.wants = wants,
            Input::Facts(facts) => self.facts = Some(facts),
            Input::Drain(on) => {
                let (_, word) = self.id();
                self.registration.drain(on, word);
            }
            Input::Answer(id, answer) => self.answered(id, &answer, &mut outputs),
            Input::Resume => {
                self.paused = false;
                self.registration.resume();
                self.claims.resume();
                self.holdings.repeat();
            }
            Input::Tick => self.rupture.tick(self.now),
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

    /// The word of the drain, where the node is being drained, for `Node::drain` in the store; `None` where that is not known,
    /// and what the store says goes on.
    ///
    /// That there is none is known only when this run has written its record and nothing is open that is not its own: the
    /// node may have been deleted for its emptiness, and its blocks be others'; and a write of an earlier run, with the word in
    /// it, may be on its way.
    pub fn drain(&self) -> Option<Option<&str>> {
        let serves = || self.registration.epoch().is_some_and(|epoch| self.holdings.is_in_order(epoch));
        match self.registration.drained_by() {
            Some(word) => Some(Some(word)),
            None if !stands(Guard::DrainUntilWritten) => self.view.as_ref().map(|_| None),
            None => serves().then_some(None),
        }
    }

    /// All that is wrong now.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    fn see(&mut self, view: Arc<View>, outputs: &mut Vec<Output>) {
        let known = self.view.as_ref().map(|seen| (seen.history, seen.revision));
        if known.is_some_and(|(history, revision)| view.history == history && view.revision < revision) {
            self.back = Some(view.revision);
            return;
        }
        self.back = None;
        if view.history > known.map_or(0, |(history, _)| history) {
            self.start_again(&view, outputs);
        }
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
        if self.registration.see(&view, &self.identity) {
            self.leave_epoch(outputs);
        }
        self.holdings.see(&view, &self.identity);
        self.rupture.see(&view, self.now);
        if self.claims.see(&view) {
            self.paused = false;
        }
        self.view = Some(view);
    }

    /// etcd has lost history. What this run wrote proves nothing any more, so it takes another word for its nonces.
    fn start_again(&mut self, view: &View, outputs: &mut Vec<Output>) {
        self.identity.run = format!("{}.{}", self.run, view.history);
        self.rupture.find(self.view.as_deref(), view, &self.identity.node, self.now);
        self.registration.restart();
        self.leave_epoch(outputs);
    }

    /// The epoch is over: nothing is opened or claimed before the node is registered again.
    fn leave_epoch(&mut self, outputs: &mut Vec<Output>) {
        self.giving.leave();
        self.renewing.forget();
        self.claims.forget_flights();
        self.holdings.close_first();
        self.paused = false;
        outputs.push(Output::Unregistered);
    }

    fn answered(&mut self, id: RequestId, answer: &Answer, outputs: &mut Vec<Output>) {
        let later = if let Some(progress) = self.registration.answered(id, answer) {
            if let registration::Progress::Registered { epoch, returned } = progress {
                outputs.push(Output::Registered { epoch, returned });
            }
            progress == registration::Progress::Later
        } else {
            self.answered_of_blocks(id, answer, outputs)
        };
        if later && !self.paused {
            self.paused = true;
            outputs.push(Output::Pause);
        }
    }

    /// `true` where a pause must follow.
    fn answered_of_blocks(&mut self, id: RequestId, answer: &Answer, outputs: &mut Vec<Output>) -> bool {
        let Some(view) = self.view.as_deref() else { return false };
        if let Some(progress) = self.claims.answered(id, answer) {
            if let claims::Progress::Claimed(claim, revision) = &progress {
                self.holdings.written(claim.block, *revision, view, self.now);
                outputs.push(Output::Claimed { block: claim.block, pool: claim.pool.clone() });
            }
            return progress == claims::Progress::Later;
        }
        if let Some(progress) = self.renewing.answered(id, answer) {
            if let renewing::Progress::Written(block, revision) = progress {
                self.holdings.written(block, revision, view, self.now);
            }
            return progress == renewing::Progress::Later;
        }
        let progress = self.giving.answered(id, answer);
        if let Some(giving::Progress::Gave(block, revision)) = progress {
            self.holdings.gave(block, revision, view);
            outputs.push(Output::GaveBack { block });
        }
        progress == Some(giving::Progress::Later)
    }

    /// All that the present state calls for.
    fn advance(&mut self, outputs: &mut Vec<Output>) {
        let Some(view) = self.view.clone() else { return };
        let ground = Ground::new(&view, self.facts.as_ref(), &self.holdings, &self.identity);
        if let Some(ground) = ground.filter(|_| self.holdings.is_known()) {
            self.plenty.look(ground, self.now);
        }
        if self.back.is_none() {
            self.ask(&view, outputs);
            if self.registration.problem().is_some() || self.holdings.is_closing() {
                outputs.extend(self.holdings.close_all());
            } else if let Some(epoch) = self.registration.epoch() {
                let config = view.config.as_ref().map(|config| &config.value);
                outputs.extend(self.holdings.orders(config, epoch, self.giving.block()));
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
        let claims = self.claims.flights().filter(|flight| flight.is_doubtful()).filter_map(|flight| flight.read(id()));
        let reads: Vec<Request> = doubtful.into_iter().chain(claims).collect();
        let blocks = self.renewing.flights().chain(self.giving.flight());
        let more = blocks.filter(|flight| flight.is_doubtful()).filter_map(|flight| flight.read(id()));
        outputs.extend(reads.into_iter().chain(more).map(Output::Request));
        self.count = count;
        self.publish(view, outputs);
        let Some(epoch) = self.registration.epoch() else { return };
        if self.holdings.is_known() && !self.holdings.is_closing() {
            self.renew(view, epoch, outputs);
            self.claim(view, epoch, outputs);
            self.give_back(view, epoch, outputs);
        }
    }

    fn id(&mut self) -> (RequestId, String) {
        self.count += 1;
        (RequestId(self.count), self.identity.nonce(self.count))
    }

    fn publish(&mut self, view: &View, outputs: &mut Vec<Output>) {
        let Some(facts) = &self.facts else { return };
        let disputes = self.holdings.disputes(view);
        let Some(mut record) = self.registration.wanted(facts, &disputes, &self.identity) else { return };
        let (id, nonce) = self.id();
        record.nonce = nonce;
        let txn = self.registration.send(id, record, &self.identity);
        outputs.push(Output::Request(Request { id, action: Action::Publish(txn) }));
    }

    fn renew(&mut self, view: &View, epoch: i64, outputs: &mut Vec<Output>) {
        let Some(config) = &view.config else { return };
        for (block, revision) in self.holdings.stale(&config.value, epoch) {
            if self.renewing.is_busy(block) || self.giving.block() == Some(block) {
                continue;
            }
            let Some(known) = view.blocks.get(&block) else { continue };
            let (id, nonce) = self.id();
            let machine_id = self.identity.machine_id.clone();
            let record = BlockRecord { epoch, nonce, machine_id, ..known.value.clone() };
            self.holdings.renew(block);
            let txn = self.renewing.send(id, block, revision, &record, &self.identity);
            outputs.push(Output::Request(Request { id, action: Action::Renew(txn) }));
        }
    }

    fn claim(&mut self, view: &View, epoch: i64, outputs: &mut Vec<Output>) {
        let Some(config) = &view.config else { return };
        self.claims.withhold(self.rupture.withheld());
        let wanted = self.judge(view, outputs);
        for family in [Family::V4, Family::V6] {
            let Some(claim) = self.next_claim(family, &wanted, view) else { continue };
            let (id, nonce) = self.id();
            let terms = Terms { me: &self.identity, epoch, config, nonce };
            let block = claim.block;
            let txn = self.claims.send(id, family, claim, terms);
            outputs.push(Output::Request(Request { id, action: Action::Claim { block, txn } }));
        }
    }

    /// What ADDs that wait want claimed; those that will wait in vain are told so.
    fn judge(&mut self, view: &View, outputs: &mut Vec<Output>) -> Vec<(Family, Claim)> {
        let ground = Ground::new(view, self.facts.as_ref(), &self.holdings, &self.identity);
        let claims = !self.rupture.holds(self.now) && self.registration.drained_by().is_none();
        let Some(ground) = ground.filter(|_| claims) else { return Vec::new() };
        let verdict = wants::judge(&self.wants, ground, &mut self.claims);
        outputs.extend(verdict.refused.into_iter().map(|(want, why)| Output::Refuse { want, why }));
        verdict.claims
    }

    fn next_claim(&mut self, family: Family, wanted: &[(Family, Claim)], view: &View) -> Option<Claim> {
        let config = &view.config.as_ref()?.value;
        // What was this node's own is put back first, and at once.
        if let Some(claim) = self.claims.again(family, self.holdings.lost(view), config) {
            self.holdings.renew(claim.block);
            return Some(claim);
        }
        if self.rupture.holds(self.now) || self.registration.drained_by().is_some() {
            return None;
        }
        let wanted = wanted.iter().find(|(of, _)| *of == family && self.claims.may_try(family));
        if let Some((_, claim)) = wanted {
            return Some(claim.clone());
        }
        let ground = Ground::new(view, self.facts.as_ref(), &self.holdings, &self.identity)?;
        self.claims.need(family, ground).claim.map(|(_, claim)| claim)
    }

    fn give_back(&mut self, view: &View, epoch: i64, outputs: &mut Vec<Output>) {
        if let Some(block) = self.giving.due() {
            let Some(revision) = self.holdings.revision(block) else { return self.giving.leave() };
            let (id, _) = self.id();
            self.holdings.doubt(block);
            let txn = self.giving.send(id, block, revision, epoch, &self.identity);
            outputs.push(Output::Request(Request { id, action: Action::GiveBack(txn) }));
        } else if self.giving.block().is_none()
            && self.claims.flights().next().is_none()
            && !self.rupture.holds(self.now)
            && let Some(ground) = Ground::new(view, self.facts.as_ref(), &self.holdings, &self.identity)
        {
            if let Some((block, pool)) = self.spare(ground) {
                self.giving.begin(block);
                outputs.push(Output::GiveBack { block, pool });
            } else if let Some((family, give_up)) = giving::tunnel(ground) {
                outputs.push(Output::MoveTunnel { family, give_up });
            }
        }
    }

    /// The block that is to be given back. While the node is drained, that is every one that is empty.
    fn spare(&self, ground: Ground<'_>) -> Option<(Block, PoolName)> {
        match self.registration.drained_by() {
            Some(_) => giving::vacated(ground, self.now),
            None => giving::spare(ground, &self.plenty, self.now),
        }
    }

    /// What is exhausted and what is wrong, if it is not what was told before.
    fn tell(&mut self, view: &View, outputs: &mut Vec<Output>) {
        let mut problems: Vec<Problem> = Vec::new();
        let seen = view.revision;
        problems.extend(self.back.map(|now| Problem::SteppedBack { seen, now }));
        problems.extend(self.rupture.problem(self.now));
        problems.extend(self.registration.problem().cloned());
        problems.extend(self.holdings.problems(view));
        if view.config.is_none() {
            problems.push(Problem::NoConfiguration { cause: view.faults.get(crate::key::CONFIG).cloned() });
        }
        let mut exhausted = BTreeSet::new();
        let ground = Ground::new(view, self.facts.as_ref(), &self.holdings, &self.identity);
        if let Some(ground) = ground.filter(|_| self.holdings.is_known()) {
            for family in [Family::V4, Family::V6] {
                let need = self.claims.need(family, ground);
                exhausted.extend(need.exhausted);
                problems.extend(need.problems);
            }
            if ground.is_for_nobody() {
                problems.push(Problem::NoPool(wants::no_pool(ground.config, ground.labels)));
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
