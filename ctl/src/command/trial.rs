//! Pods for a short while on some nodes: they stand while something is tried, and are taken down whatever comes of it, be it that the
//! operator interrupts. What cannot be taken down, since etcd is away or this program is killed, the nodes take down by themselves.

mod bench;
mod file;
mod test;

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use twill_cluster::EtcdStore;
use twill_cluster::inquiry::client::{Answers, Client, Silence, other_answer};
use twill_cluster::inquiry::trial::{Answer, LONGEST_OPENING, Opened, Task};
use twill_cluster::inquiry::{Ask, Reply};
use twill_conf::NodeName;

use crate::access::{self, Alive, Picture};
use crate::error::Error;
use crate::place::Place;
use crate::report::trial::{Failure, strange};

pub(super) use bench::bench;
pub(super) use test::test;

/// How long is waited for the pods of a node, where nothing else is said.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long an answer may be on its way beside what the work takes.
const ON_ITS_WAY: Duration = Duration::from_secs(5);
/// How long pods stand after a request beside what is waited for then, in seconds.
const STAND: u16 = 30;
/// How long is waited until a node has taken its pods down.
const CLOSING: Duration = Duration::from_secs(5);

/// Whoever tries something.
struct Session<'a> {
    store: &'a EtcdStore,
    client: Client,
    name: String,
    /// Where pods may stand.
    opened: Vec<NodeName>,
    /// How long is waited for the pods of a node, in seconds.
    patience: u16,
}

/// What nodes answered, and of those that did not, why.
type Told = BTreeMap<NodeName, Result<Answer, Failure>>;

impl<'a> Session<'a> {
    /// One without pods. Its name is a word that nobody else has.
    fn new(store: &'a EtcdStore, place: &Place) -> Result<Self, Error> {
        let patience = patience(place)?;
        let client = access::client(ON_ITS_WAY)?;
        Ok(Self { store, name: client.word.clone(), client, opened: Vec::new(), patience })
    }

    /// Stands up pods on the nodes, and waits for them. Between two tasks may be `between` seconds more than for that.
    async fn open(
        &mut self,
        nodes: &[NodeName],
        pods: u8,
        between: u16,
    ) -> BTreeMap<NodeName, Result<Opened, Failure>> {
        self.opened.extend(nodes.iter().cloned());
        let patience = self.patience;
        let task = Task::Open { pods, stand: stand(patience, between) };
        let tasks = nodes.iter().map(|node| (node.clone(), task.clone())).collect();
        let told = self.ask(tasks, Duration::from_secs(patience.into())).await;
        let opened = |answer| match answer {
            Answer::Opened(opened) => match strange(&opened, pods) {
                None => Ok(*opened),
                Some(what) => Err(Failure::strange(what)),
            },
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

    /// Takes all pods down. On which nodes that is not known to be done, and why.
    async fn close(mut self) -> Vec<(NodeName, Failure)> {
        let tasks = std::mem::take(&mut self.opened).into_iter().map(|node| (node, Task::Close {})).collect();
        let told = self.ask(tasks, CLOSING).await;
        let failure = |answer| match answer {
            Ok(Answer::Closed) => None,
            Ok(_) => Some(Failure::silent(&other_answer())),
            Err(failure) => Some(failure),
        };
        told.into_iter().filter_map(|(node, answer)| Some((node, failure(answer)?))).collect()
    }
}

/// How long is waited for the pods of a node, in seconds.
fn patience(place: &Place) -> Result<u16, Error> {
    let seconds = place.patience(PATIENCE).as_secs();
    let right = || format!("a number of seconds from 1 to {LONGEST_OPENING}: no node keeps pods for longer");
    let few = u16::try_from(seconds).ok().filter(|seconds| *seconds <= LONGEST_OPENING);
    few.ok_or_else(|| Error::Usage(twill_conf::Error::value("--timeout", seconds, right())))
}

/// How long pods stand without a request: those of the first node until the last has answered, or was waited for, and some more.
fn stand(patience: u16, between: u16) -> u16 {
    let on_its_way = u16::try_from(ON_ITS_WAY.as_secs()).unwrap_or(u16::MAX);
    [patience, on_its_way, between].into_iter().fold(STAND, u16::saturating_add)
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
    place: &Place,
    work: impl AsyncFnOnce(&mut Session<'_>) -> Result<T, Error>,
) -> Result<(T, Vec<(NodeName, Failure)>), Error> {
    let handler = |kind| signal(kind).map_err(|cause| Error::Signals { cause });
    let (mut interrupt, mut terminate) = (handler(SignalKind::interrupt())?, handler(SignalKind::terminate())?);
    let mut session = Session::new(store, place)?;
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

/// The nodes that take part, and those that do not.
#[derive(Debug, PartialEq, Eq)]
struct Chosen {
    /// Those of them that are alive.
    living: Vec<NodeName>,
    /// Those whose daemons have not been heard of. Each is a problem, whether it was named or not.
    dead: Vec<NodeName>,
    /// How many that are alive are left out.
    left_out: usize,
}

impl Chosen {
    /// Why those that are dead take no part.
    fn failures(&self) -> Vec<(NodeName, Failure)> {
        self.dead.iter().map(|node| (node.clone(), Failure::Dead)).collect()
    }
}

/// The nodes that are named, in their order, or the first `most` of those that are alive, and all that are not.
fn choose(picture: &Picture, alive: &Alive, named: &[NodeName], most: usize) -> Result<Chosen, Error> {
    let known = &picture.view.nodes;
    if let Some(nobody) = named.iter().find(|name| !known.contains_key(*name)) {
        return Err(super::ipam::no_node(nobody));
    }
    let candidates = match named.is_empty() {
        true => {
            let mut all: Vec<NodeName> = known.keys().cloned().collect();
            all.sort_unstable();
            all
        }
        false => once(named),
    };
    let (mut living, dead): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|name| alive.contains_key(name));
    let left_out = if named.is_empty() { living.len().saturating_sub(most) } else { 0 };
    living.truncate(living.len() - left_out);
    Ok(Chosen { living, dead, left_out })
}

/// Each once, in their order.
fn once(names: &[NodeName]) -> Vec<NodeName> {
    let mut known: Vec<NodeName> = Vec::new();
    for name in names {
        if !known.contains(name) {
            known.push(name.clone());
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use twill_cluster::inquiry::trial::{LONGEST_RUN, LONGEST_STAND};

    use super::*;

    #[test]
    fn pods_outlast_the_wait_for_those_of_a_silent_node() {
        for patience in [1, 30, LONGEST_OPENING] {
            let waited = Duration::from_secs(patience.into()) + ON_ITS_WAY;
            assert!(Duration::from_secs(stand(patience, 0).into()) >= waited + Duration::from_secs(20), "{patience}");
        }
        assert!(stand(LONGEST_OPENING, LONGEST_RUN) <= LONGEST_STAND, "a node would refuse it");
    }

    fn names(names: &[&str]) -> Vec<NodeName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn nobody_waits_for_pods_longer_than_a_node_keeps_them() {
        let place = |seconds: Option<u64>| Place {
            etcd: None,
            prefix: "/twill/".to_owned(),
            run_dir: "/run/twill".into(),
            timeout: seconds.map(Duration::from_secs),
        };
        let told = |seconds| patience(&place(seconds)).map_err(|error| error.to_string());
        assert_eq!((told(None), told(Some(1)), told(Some(200))), (Ok(30), Ok(1), Ok(200)));
        let refused = told(Some(201)).unwrap_err();
        assert!(refused.starts_with("--timeout: \"201\" is not valid: a number of seconds from 1 to 200"), "{refused}");
    }

    #[test]
    fn named_nodes_keep_their_order() {
        let named = names(&["n2", "n1", "n2"]);
        assert_eq!(once(&named), named[..2]);
    }

    #[test]
    fn who_is_registered_and_not_alive_is_named_whether_he_was_asked_for_or_not() {
        let record = |number| access::node_record(number, serde_json::json!({})).to_string();
        let records = [1, 2, 3, 4].map(record);
        let keys = ["nodes/n1", "nodes/n2", "nodes/n3", "nodes/n4"];
        let entries: Vec<_> = keys.into_iter().zip(records.iter().map(String::as_str)).collect();
        let picture = Picture::of(&entries);
        let alive: Alive = names(&["n1", "n3", "n4"]).into_iter().map(|name| (name, Vec::new())).collect();
        let chosen = |named: &[&str], most| choose(&picture, &alive, &names(named), most).unwrap();
        let wanted =
            |living: &[&str], dead: &[&str], left_out| Chosen { living: names(living), dead: names(dead), left_out };
        assert_eq!(chosen(&[], 2), wanted(&["n1", "n3"], &["n2"], 1));
        assert_eq!(chosen(&[], usize::MAX), wanted(&["n1", "n3", "n4"], &["n2"], 0));
        assert_eq!(chosen(&["n3", "n2", "n1"], 1), wanted(&["n3", "n1"], &["n2"], 0), "named are all that are named");
        assert_eq!(chosen(&["n1"], 8), wanted(&["n1"], &[], 0), "of others nothing was asked");
        assert!(choose(&picture, &alive, &names(&["n9"]), 8).is_err());
    }
}
