//! Pods for a short while on some nodes: they stand while something is tried, and are taken down whatever comes of it, be it that the
//! operator interrupts. What cannot be taken down, since etcd is away or this program is killed, the nodes take down by themselves.

mod bench;
mod test;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use twill_cluster::EtcdStore;
use twill_cluster::inquiry::client::{Answers, Client, Silence, other_answer};
use twill_cluster::inquiry::trial::{Answer, Opened, Task};
use twill_cluster::inquiry::{Ask, Reply};
use twill_conf::NodeName;

use crate::access::{self, Alive, Picture};
use crate::error::Error;
use crate::report::trial::Failure;

pub(super) use bench::bench;
pub(super) use test::test;

/// How long an answer may be on its way beside what the work takes.
const ON_ITS_WAY: Duration = Duration::from_secs(5);
/// How long is waited until a node has taken its pods down.
const CLOSING: Duration = Duration::from_secs(5);

/// Whoever tries something.
struct Session<'a> {
    store: &'a EtcdStore,
    client: Client,
    name: String,
    /// Where pods may stand.
    opened: Vec<NodeName>,
}

/// What nodes answered, and of those that did not, why.
type Told = BTreeMap<NodeName, Result<Answer, Failure>>;

impl<'a> Session<'a> {
    /// One without pods. Its name is a word that nobody else has.
    fn new(store: &'a EtcdStore) -> Result<Self, Error> {
        let client = access::client(ON_ITS_WAY)?;
        Ok(Self { store, name: client.word.clone(), client, opened: Vec::new() })
    }

    /// Stands up pods on the nodes, which stand for `stand` after each task.
    async fn open(
        &mut self,
        nodes: &[NodeName],
        pods: u8,
        stand: u16,
        patience: Duration,
    ) -> BTreeMap<NodeName, Result<Opened, Failure>> {
        self.opened.extend(nodes.iter().cloned());
        let tasks = nodes.iter().map(|node| (node.clone(), Task::Open { pods, stand })).collect();
        let told = self.ask(tasks, patience).await;
        let opened = |answer| match answer {
            Answer::Opened(opened) => Ok(*opened),
            _ => Err(Failure::silent(&other_answer())),
        };
        let told: BTreeMap<_, _> = told.into_iter().map(|(node, answer)| (node, answer.and_then(opened))).collect();
        let may_stand = |node: &NodeName| !matches!(told.get(node), Some(Err(failure)) if failure.is_certain());
        self.opened.retain(may_stand);
        told
    }

    /// Gives each node a task and waits for all, as long as the work takes.
    async fn ask(&mut self, tasks: Vec<(NodeName, Task)>, work: Duration) -> Told {
        self.client.patience = work + ON_ITS_WAY;
        let ask = |(node, task)| (node, Ask::Trial { trial: self.name.clone(), task });
        let asks = tasks.into_iter().map(ask).collect();
        told(self.client.ask(self.store, asks).await)
    }

    /// Gives one node a task.
    async fn ask_one(&mut self, node: &NodeName, task: Task, work: Duration) -> Result<Answer, Failure> {
        let mut told = self.ask(vec![(node.clone(), task)], work).await;
        told.remove(node).unwrap_or_else(|| Err(Failure::silent(&Silence::Timeout(work))))
    }

    /// Takes all pods down. On which nodes that is not known to be done.
    async fn close(mut self) -> Vec<NodeName> {
        let tasks = std::mem::take(&mut self.opened).into_iter().map(|node| (node, Task::Close {})).collect();
        let told = self.ask(tasks, CLOSING).await;
        told.into_iter().filter(|(_, answer)| !matches!(answer, Ok(Answer::Closed))).map(|(node, _)| node).collect()
    }
}

fn told(answers: Answers<Reply>) -> Told {
    let read = |answer: Result<Reply, Silence>| match answer {
        Ok(Reply::Trial { answer: Answer::Refused(told) }) => Err(Failure::refused(told)),
        Ok(Reply::Trial { answer }) => Ok(answer),
        Ok(_) => Err(Failure::silent(&other_answer())),
        Err(silence) => Err(Failure::silent(&silence)),
    };
    answers.into_iter().map(|(node, answer)| (node, read(answer))).collect()
}

/// Does something with pods, and takes them down; with the nodes where that is not known to be done.
async fn with_pods<T>(
    store: &EtcdStore,
    work: impl AsyncFnOnce(&mut Session<'_>) -> Result<T, Error>,
) -> Result<(T, Vec<NodeName>), Error> {
    let handler = |kind| signal(kind).map_err(|cause| Error::Signals { cause });
    let (mut interrupt, mut terminate) = (handler(SignalKind::interrupt())?, handler(SignalKind::terminate())?);
    let mut session = Session::new(store)?;
    let done = tokio::select! {
        done = work(&mut session) => done,
        _ = interrupt.recv() => Err(Error::Interrupted),
        _ = terminate.recv() => Err(Error::Interrupted),
    };
    if matches!(done, Err(Error::Interrupted)) {
        session.client.withdraw(store, session.opened.iter()).await;
    }
    let left = session.close().await;
    Ok((done?, left))
}

/// The nodes that are named, or the first `most` of those that are alive; and how many of these are left out.
fn choose(picture: &Picture, alive: &Alive, named: &[NodeName], most: usize) -> Result<(Vec<NodeName>, usize), Error> {
    let known = &picture.view.nodes;
    if let Some(nobody) = named.iter().find(|name| !known.contains_key(*name)) {
        return Err(super::ipam::no_node(nobody));
    }
    if !named.is_empty() {
        let mut names = named.to_vec();
        names.sort_unstable();
        names.dedup();
        return Ok((names, 0));
    }
    let mut living: Vec<NodeName> = known.keys().filter(|name| alive.contains_key(*name)).cloned().collect();
    living.sort_unstable();
    let left_out = living.len().saturating_sub(most);
    living.truncate(most);
    Ok((living, left_out))
}

/// Writes a file that the operator has asked for.
fn write(file: &Path, text: &str) -> Result<(), Error> {
    let failed = |cause| Error::File { what: "write", path: file.to_owned(), cause };
    std::fs::write(file, text).map_err(failed)
}
