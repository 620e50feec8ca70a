//! The side of `twillctl`: sends requests, and waits for the answers. Nodes whose daemons have not been heard of for a minute
//! are not asked: nobody would answer. What comes in pages is put together in `pages`.

mod pages;

pub use pages::Wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, timeout_at};
use twill_conf::NodeName;

use super::trace::MOST_STEPS;
use super::{AnswerRecord, Ask, LONGEST_ANSWER, Reply, RequestRecord, answer_key, answers_of, bgp, request_key};
use crate::key;
use crate::plain;
use crate::store::{Event, Range, Store, StoreError};
use crate::txn::{Op, Txn};
use crate::view::{Change, Entry};

/// So many nodes are asked at once.
const AT_ONCE: usize = 128;
/// So many keys are written or deleted in one transaction.
const IN_ONE: usize = 100;
/// No more is told of a version, in bytes.
const LONGEST_VERSION: usize = 64;
/// A request stands for so long after the time that is waited for.
const LINGERS: Duration = Duration::from_secs(10);
/// After so many failures in a row etcd is away: every further try would cost its deadline, too.
const OUTAGE: usize = 2;

/// Whoever asks.
#[derive(Debug, Clone)]
pub struct Client {
    /// A word that nobody else has, as 16 hexadecimal digits: IDs begin with it.
    pub word: String,
    /// Who asks, for the log of the nodes.
    pub from: String,
    /// How long an answer is waited for.
    pub patience: Duration,
    /// Requests so far.
    rounds: u64,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Silence {
    /// Its daemon renews its lease no more: it was not asked.
    #[error("its daemon has not been heard of for a minute")]
    Dead,
    /// None came in time.
    #[error("no answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    /// What came is none.
    #[error("its answer cannot be read: {0}")]
    Garbage(String),
    /// The node does not know the question.
    #[error("twilld {version} there does not know the question ({cause})")]
    Unsupported {
        /// Of which version it is.
        version: String,
        /// What it does not know.
        cause: String,
    },
    /// The node could not do it.
    #[error("it could not: {0}")]
    Failed(String),
    /// What was asked about is not there.
    #[error("{0}")]
    Absent(String),
    /// etcd failed: it is not known whether the question has reached the node.
    #[error("it could not be asked: {0}")]
    Unasked(String),
}

/// What became of requests, a node each.
pub type Answers<T> = BTreeMap<NodeName, Result<T, Silence>>;

impl Client {
    /// One that has asked nothing yet.
    pub fn new(word: String, from: String, patience: Duration) -> Self {
        Self { word, from, patience, rounds: 0 }
    }

    /// Asks one node.
    pub async fn ask_one<S: Store>(&mut self, store: &S, node: &NodeName, ask: Ask) -> Result<Reply, Silence> {
        let mut answers = self.ask(store, vec![(node.clone(), ask)]).await;
        answers.remove(node).unwrap_or(Err(Silence::Timeout(self.patience)))
    }

    /// Asks each node something, once each, 128 at a time, and waits for all. One answer for each node of `asks`.
    pub async fn ask<S: Store>(&mut self, store: &S, asks: Vec<(NodeName, Ask)>) -> Answers<Reply> {
        let (asks, silent) = living(store, asks).await;
        let mut answers = self.ask_living(store, asks).await;
        answers.extend(silent.into_iter().map(|(node, why)| (node, Err(why))));
        answers
    }

    async fn ask_living<S: Store>(&mut self, store: &S, asks: Vec<(NodeName, Ask)>) -> Answers<Reply> {
        // What other nodes write below their own keys is no matter where one is asked alone.
        let mut events = store.watch(match asks.as_slice() {
            [] => return Answers::new(),
            [(node, _)] => answers_of(node),
            _ => Range::prefix("answers/"),
        });
        let (mut answers, mut rest, mut failures) = (Answers::new(), asks.as_slice(), 0);
        while !rest.is_empty() {
            let some = &rest[..rest.len().min(AT_ONCE)];
            let over = match self.round(store, &mut events, some).await {
                Ok(told) => {
                    answers.extend(told);
                    failures = 0;
                    some
                }
                Err(error) => {
                    failures += 1;
                    let lost = if failures < OUTAGE { some } else { rest };
                    let unasked = || Err(Silence::Unasked(error.to_string()));
                    answers.extend(lost.iter().map(|(node, _)| (node.clone(), unasked())));
                    lost
                }
            };
            rest = &rest[over.len()..];
        }
        answers
    }

    async fn round<S: Store>(
        &mut self,
        store: &S,
        events: &mut Receiver<Event>,
        asks: &[(NodeName, Ask)],
    ) -> Result<Answers<Reply>, StoreError> {
        self.rounds += 1;
        let id = format!("{}-{}", self.word, self.rounds);
        let lease = Some(store.grant(self.patience + LINGERS).await?);
        let put = |(node, ask): &(NodeName, Ask)| {
            let record = RequestRecord { from: self.from.clone(), ask: ask.clone() };
            let value = serde_json::to_vec(&record).expect("a record has string keys and finite numbers");
            Op::Put { key: request_key(node, &id), value, lease }
        };
        let deadline = Instant::now() + self.patience;
        for some in asks.chunks(IN_ONE) {
            store.commit(&Txn { when: Vec::new(), then: some.iter().map(put).collect() }).await?;
        }
        let mut silent: BTreeMap<String, NodeName> =
            asks.iter().map(|(node, _)| (answer_key(node, &id), node.clone())).collect();
        let mut answers = BTreeMap::new();
        while !silent.is_empty() {
            let Ok(Some(event)) = timeout_at(deadline, events.recv()).await else { break };
            for entry in written(event) {
                if let Some(node) = silent.remove(&entry.key) {
                    answers.insert(node, read(&entry));
                }
            }
        }
        let timeout = || Err(Silence::Timeout(self.patience));
        answers.extend(silent.into_values().map(|node| (node, timeout())));
        self.tidy(store, &id, answers.keys()).await;
        Ok(answers)
    }

    /// Takes back what these nodes were asked last, where nobody waits for the answers any more: who has not begun with it will not.
    pub async fn withdraw<S: Store>(&self, store: &S, nodes: impl Iterator<Item = &NodeName>) {
        self.tidy(store, &format!("{}-{}", self.word, self.rounds), nodes).await;
    }

    /// Takes questions and answers away. Where that fails, their leases end them.
    async fn tidy<S: Store>(&self, store: &S, id: &str, nodes: impl Iterator<Item = &NodeName>) {
        let keys = nodes.flat_map(|node| [request_key(node, id), answer_key(node, id)]);
        let keys: Vec<Op> = keys.map(|key| Op::Delete { key }).collect();
        for some in keys.chunks(IN_ONE) {
            if let Err(error) = store.commit(&Txn { when: Vec::new(), then: some.to_vec() }).await {
                tracing::debug!(%error, "requests are left to their lease");
            }
        }
    }
}

/// Parts those that can be asked from those that cannot, with the reason.
async fn living<S: Store>(store: &S, asks: Vec<(NodeName, Ask)>) -> (Vec<(NodeName, Ask)>, Vec<(NodeName, Silence)>) {
    let range = match asks.as_slice() {
        [] => return (asks, Vec::new()),
        [(node, _)] => Range::key(&key::alive(node)),
        _ => Range::prefix("alive/"),
    };
    let alive: BTreeSet<String> = match store.read(&range).await {
        Ok(snapshot) => snapshot.entries.into_iter().map(|entry| entry.key).collect(),
        Err(error) => {
            let unasked = |(node, _)| (node, Silence::Unasked(error.to_string()));
            return (Vec::new(), asks.into_iter().map(unasked).collect());
        }
    };
    let (living, dead): (Vec<_>, Vec<_>) = asks.into_iter().partition(|(node, _)| alive.contains(&key::alive(node)));
    (living, dead.into_iter().map(|(node, _)| (node, Silence::Dead)).collect())
}

fn written(event: Event) -> Vec<Entry> {
    match event {
        Event::Snapshot(snapshot) | Event::Restored(snapshot) => snapshot.entries,
        Event::Delta(delta) => {
            let put = |change| if let Change::Put(entry) = change { Some(entry) } else { None };
            delta.changes.into_iter().filter_map(put).collect()
        }
        Event::Lost(_) => Vec::new(),
    }
}

/// What was answered, whoever wrote it: every text on one line, and no more of anything than a daemon tells.
fn read(entry: &Entry) -> Result<Reply, Silence> {
    if entry.value.len() > LONGEST_ANSWER {
        return Err(Silence::Garbage(format!("it has {} bytes", entry.value.len())));
    }
    let garbage = |error| Silence::Garbage(super::unread(&error));
    let mut value = serde_json::from_slice(&entry.value).map_err(garbage)?;
    plain::flatten(&mut value);
    let record: AnswerRecord = serde_json::from_value(value).map_err(garbage)?;
    match record.reply.within_bounds() {
        Reply::Unsupported { cause } => {
            Err(Silence::Unsupported { version: plain::line(&record.version, LONGEST_VERSION), cause })
        }
        Reply::Failed { cause } => Err(Silence::Failed(cause)),
        Reply::Trace { answer } if answer.steps.len() > MOST_STEPS => Err(Silence::Garbage(format!(
            "it has {} steps, and a node tells {MOST_STEPS} at the most",
            answer.steps.len()
        ))),
        Reply::Bgp { answer: bgp::Answer::Absent { cause } } => Err(Silence::Absent(cause)),
        reply => Ok(reply),
    }
}

/// What is said of an answer to another question.
pub fn other_answer() -> Silence {
    Silence::Garbage("it answers another question".into())
}

#[cfg(test)]
mod tests;
