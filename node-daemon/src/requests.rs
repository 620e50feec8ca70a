//! The request task: answers what an operator asks this node through etcd.
//!
//! What can be asked, and how, is in `cluster::inquiry`; which requests are taken up, in its `desk`. What changes something is
//! done only after the request was read once more: it may have been withdrawn, or its time be over. [`looks`] are those that only look: no other request waits for them. [`sight`] is what is
//! seen here, [`mend`] what is put right, [`state`] how the daemon is, [`past`] what failed, [`trace`] what becomes of a packet, and
//! [`machine`] a look at what all of it stands on.

mod looks;
mod machine;
mod mend;
mod past;
mod sight;
mod state;
mod trace;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use twill_cluster::inquiry::desk::{Desk, Letter};
use twill_cluster::inquiry::trial::Answer;
use twill_cluster::inquiry::{self, AnswerRecord, Ask, LONGEST_ANSWER, Reply};
use twill_cluster::store::{Event, Range, Store, StoreError};
use twill_cluster::txn::{Compare, Op, Txn};
use twill_conf::NodeName;
use twill_ipam::BootTime;

use crate::bgp::Asked;
use crate::picture::Pictures;
use crate::reconcile::Wanted;
use crate::rival::Bearer;
use crate::store::NodeStore;
use crate::trials::{Means, Trials};
use looks::{Look, Looker, Looks, Place};
pub use machine::Machine;

pub use state::Sources;

/// An answer stands for so long.
const TTL: Duration = Duration::from_secs(60);
/// How long it may take until the record says what was asked for.
const DRAIN_PATIENCE: Duration = Duration::from_secs(4);
/// How often it is looked whether a waiting request may be taken up.
const TURN: Duration = Duration::from_millis(50);

/// The task's state.
#[derive(Debug)]
pub struct Requests {
    me: NodeName,
    bearer: Bearer,
    store: NodeStore,
    pictures: Pictures,
    /// To the block task: drain the node, or end that.
    drain: mpsc::Sender<bool>,
    /// To the mirror: compare with etcd.
    audit: mpsc::Sender<()>,
    sources: Arc<Sources>,
    looker: Looker,
    looks: Looks,
    /// What was seen.
    looked: mpsc::UnboundedReceiver<(Letter, Reply)>,
    /// Pods by which the network is tried.
    trials: Trials,
    /// What became of their tasks.
    tried: mpsc::UnboundedReceiver<(Letter, Answer)>,
}

/// The tasks that know or do what is asked for.
#[derive(Debug)]
pub struct Helpers {
    /// The block task drains the node, or ends that.
    pub drain: mpsc::Sender<bool>,
    /// The mirror compares with etcd.
    pub audit: mpsc::Sender<()>,
    /// The BGP task says what it knows.
    pub speaker: mpsc::Sender<Asked>,
    /// What the reconciler wants.
    pub wanted: watch::Receiver<Option<Wanted>>,
    /// All of them say how the daemon is.
    pub sources: Sources,
    /// Looks at the machine.
    pub machine: Machine,
    /// What trials are made with.
    pub means: Means,
}

impl Requests {
    /// A task that has not begun.
    pub fn new(bearer: Bearer, store: NodeStore, pictures: Pictures, helpers: Helpers) -> Self {
        let Helpers { drain, audit, speaker, wanted, sources, machine, means } = helpers;
        let tracer = trace::Tracer { wanted, reckoning: Arc::clone(&sources.reckoning), turn: Arc::default() };
        // No more come than there are tasks, of which there are few.
        let (answers, tried) = mpsc::unbounded_channel();
        let trials = Trials::new(means, answers);
        let looker = Looker { store: store.clone(), speaker, tracer, machine };
        // Nor more than are asked for within the time that one waits for its place.
        let (replies, looked) = mpsc::unbounded_channel();
        let (me, looks, sources) = (bearer.node.clone(), Looks::new(replies), Arc::new(sources));
        Self { me, bearer, store, pictures, drain, audit, sources, looker, looks, looked, trials, tried }
    }

    /// Answers requests until the daemon ends.
    pub async fn answer<S: Store + Clone>(mut self, etcd: &S) {
        let mut desk = Desk::new(&self.me);
        let mut events = etcd.watch(inquiry::requests_to(&self.me));
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => {
                        tell(&event);
                        desk.hear(event);
                    }
                    None => return,
                },
                Some((letter, answer)) = self.tried.recv() => {
                    self.reply_late(etcd, &letter, Reply::Trial { answer }).await;
                }
                Some((letter, reply)) = self.looked.recv() => self.reply_late(etcd, &letter, reply).await,
                () = sleep(TURN), if desk.is_waiting() => {}
            }
            let now = BootTime::now();
            if let Some(complaint) = desk.complaint(now) {
                tracing::warn!("{complaint}");
            }
            // What is asked of the node is not for a second machine of its name; it is told soon whether this is one.
            let is_me = self.bearer.is_rival(self.pictures.borrow().as_ref()) == Some(false);
            while let Some(letter) = is_me.then(|| desk.next(now)).flatten() {
                if let Err(error) = self.handle(etcd, &letter).await {
                    tracing::debug!(%error, "request {} is not answered", letter.id);
                }
            }
        }
    }

    async fn handle<S: Store + Clone>(&mut self, etcd: &S, letter: &Letter) -> Result<(), StoreError> {
        let reply = match inquiry::read_ask(&letter.value) {
            Ok(request) => {
                if !request.ask.only_looks() && !self.stands(etcd, letter).await? {
                    return Ok(());
                }
                let from: String = request.from.chars().take(128).collect();
                self.act(etcd, letter, request.ask, &from).await
            }
            Err(reply) => {
                tracing::warn!("request {} to this node is not understood", letter.id);
                Some(reply)
            }
        };
        match reply {
            Some(reply) => self.reply(etcd, letter, reply).await,
            None => Ok(()),
        }
    }

    /// Whether the request stands as it was told, and nobody answered it (an earlier run of this daemon, say).
    async fn stands<S: Store>(&self, etcd: &S, letter: &Letter) -> Result<bool, StoreError> {
        let request = etcd.read(&Range::key(&inquiry::request_key(&self.me, &letter.id))).await?;
        let answer = etcd.read(&Range::key(&inquiry::answer_key(&self.me, &letter.id))).await?;
        let is_same = request.entries.first().is_some_and(|entry| entry.modified == letter.revision);
        Ok(is_same && answer.entries.is_empty())
    }

    /// Does what is asked; `None` where the answer comes later.
    async fn act<S: Store + Clone>(&mut self, etcd: &S, letter: &Letter, ask: Ask, from: &str) -> Option<Reply> {
        Some(match ask {
            Ask::Drain { on } => {
                let what = if on { "to be drained" } else { "to serve again" };
                tracing::info!("this node is {what}, as {from:?} asks");
                self.drain(on).await
            }
            Ask::Mend { rows, links } => {
                tracing::info!("{} attachments are looked at, as {from:?} asks", rows.len() + links.len());
                let store = self.store.clone();
                let mended = tokio::task::spawn_blocking(move || mend::mend(&store, &rows, &links)).await;
                // One that waits already will do.
                self.audit.try_send(()).ok();
                mended.expect("mending does not panic")
            }
            Ask::Trial { trial, task } => {
                tracing::debug!("a task of trial {trial}, as {from:?} asks");
                self.trials.set_about(letter.clone(), trial, task);
                return None;
            }
            Ask::State {} => return self.state(etcd, letter),
            Ask::Addresses { after } => return self.look(letter, Look::Addresses(after)),
            Ask::Attempts(sought) => return self.look(letter, Look::Past(sought)),
            Ask::Bgp { question } => return self.look(letter, Look::Bgp(question)),
            Ask::Trace { question } => return self.look(letter, Look::Trace(question)),
            Ask::Checkup {} => return self.look(letter, Look::Machine),
        })
    }

    /// Has it looked at; the reply comes later.
    fn look(&self, letter: &Letter, look: Look) -> Option<Reply> {
        let looker = self.looker.clone();
        self.looks.begin(letter.clone(), move |place| looker.look(look, place));
        None
    }

    /// A look like the others: it asks etcd, of which a member may be slow.
    fn state<S: Store + Clone>(&self, etcd: &S, letter: &Letter) -> Option<Reply> {
        let (sources, etcd, bearer) = (Arc::clone(&self.sources), etcd.clone(), self.bearer.clone());
        let (pictures, store) = (self.pictures.clone(), self.store.clone());
        self.looks.begin(letter.clone(), async move |place: Place| {
            Reply::State(Box::new(sources.look(&etcd, &bearer, &pictures, &store, &place).await))
        });
        None
    }

    /// Done when etcd shows the node's record to say so, and the plugin knows.
    async fn drain(&mut self, on: bool) -> Reply {
        if self.drain.send(on).await.is_err() {
            return Reply::Failed { cause: "twilld is ending".to_owned() };
        }
        let me = self.me.clone();
        let says = |picture: &Option<crate::picture::Picture>| {
            let record = picture.as_ref().and_then(|picture| picture.view.nodes.get(&me));
            record.is_some_and(|record| record.value.drain.is_some() == on)
        };
        let done = async {
            self.pictures.wait_for(says).await.ok()?;
            while !self.is_told(on).await {
                sleep(TURN).await;
            }
            Some(())
        };
        match timeout(DRAIN_PATIENCE, done).await {
            Ok(Some(())) => Reply::Drain { on },
            _ => {
                let cause = "its record in etcd, or its node store, does not say so yet: look at its log".to_owned();
                Reply::Failed { cause }
            }
        }
    }

    /// Whether the plugin knows.
    async fn is_told(&self, on: bool) -> bool {
        let node = self.store.run(|store| store.node()).await;
        matches!(node, Ok(Some(node)) if node.drain.is_some() == on)
    }

    /// The reply of what took its time.
    async fn reply_late<S: Store>(&self, etcd: &S, letter: &Letter, reply: Reply) {
        if let Err(error) = self.reply(etcd, letter, reply).await {
            tracing::debug!(%error, "request {} is not answered", letter.id);
        }
    }

    /// Writes the answer, if the request stands and has none.
    async fn reply<S: Store>(&self, etcd: &S, letter: &Letter, reply: Reply) -> Result<(), StoreError> {
        let record = AnswerRecord { version: env!("CARGO_PKG_VERSION").to_owned(), reply };
        let json = "a record has string keys and finite numbers";
        let mut value = serde_json::to_vec(&record).expect(json);
        if value.len() > LONGEST_ANSWER {
            let cause = format!("the answer has {} bytes, and may have {LONGEST_ANSWER}", value.len());
            value = serde_json::to_vec(&AnswerRecord { reply: Reply::Failed { cause }, ..record }).expect(json);
        }
        let lease = Some(etcd.grant(TTL).await?);
        let key = inquiry::answer_key(&self.me, &letter.id);
        let request = inquiry::request_key(&self.me, &letter.id);
        let when = vec![
            Compare::Modified { key: request, revision: letter.revision },
            Compare::Created { key: key.clone(), revision: 0 },
        ];
        etcd.commit(&Txn { when, then: vec![Op::Put { key, value, lease }] }).await.map(drop)
    }
}

/// That etcd is away the watch of the cluster says. That it does not let this node hear requests nobody else does.
fn tell(event: &Event) {
    if let Event::Lost(cause) = event
        && cause.contains("permission denied")
    {
        tracing::warn!("no request of an operator reaches this node: {cause}");
    }
}

#[cfg(test)]
mod tests;
