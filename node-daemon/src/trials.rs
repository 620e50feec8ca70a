//! Trials: pods for a short while, by which an operator tries the network. What can be asked of them is in `cluster::inquiry::trial`.
//!
//! A trial has a thread, its [`keeper`], that stands its pods up, waits, and takes them down: when it is told to, when nothing was heard
//! of the trial for as long as was agreed, and when the daemon ends. Each task works on a thread of its own and answers when it is done,
//! so that no request waits for another. What a task waits for has a limit, and ends early when the trial does.
//! A daemon that is killed leaves nothing but a row of the store, which the sweep frees: the namespaces are held by its
//! descriptors alone, and its programs die with it.

mod answers;
mod check;
mod conditions;
mod iperf;
mod keeper;
mod leftovers;
mod plugin;
mod probing;
mod standing;
mod usage;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use twill_cluster::inquiry::desk::Letter;
use twill_cluster::inquiry::trial::{Answer, Load, Place, Service, Task};
use twill_cluster::record::Told;
use twill_conf::NodeName;

use crate::picture::{Pictures, Underlays};
use keeper::{Keeper, Trial};
pub use leftovers::{FINDER, Leftovers};
pub use standing::Standing;

/// At the most so many trials at a time on a node.
const MOST: usize = 3;
/// At the most so many tasks of a trial at a time.
const MOST_TASKS: usize = 4;
/// What an ended trial has left is told for so long to who asks for its end.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Of so many ended trials at the most.
const MOST_REMEMBERED: usize = 16;

/// What trials need of this node.
#[derive(Debug, Clone)]
pub struct Means {
    /// What it is called.
    pub name: NodeName,
    /// The installed plugin.
    pub plugin: PathBuf,
    /// Where plugin and daemon meet.
    pub run_dir: PathBuf,
    /// The cluster: traffic goes to its addresses only.
    pub pictures: Pictures,
    /// By which devices packets leave.
    pub underlays: Underlays,
    /// Which trials stand.
    pub standing: Standing,
    /// Pods that could not be taken down.
    pub leftovers: Leftovers,
}

#[cfg(test)]
impl Means {
    /// With pods that nobody has to take down.
    pub(crate) fn for_tests(plugin: PathBuf, pictures: Pictures, underlays: Underlays) -> Self {
        let leftovers = Leftovers::new(crate::troubles::Troubles::default());
        let name = "n1".parse().expect("a letter and a digit are a name");
        Self { name, plugin, run_dir: "/x".into(), pictures, underlays, standing: Standing::default(), leftovers }
    }
}

/// Answers, with the letters that they are to.
pub type Answers = UnboundedSender<(Letter, Answer)>;

/// The trials of this node. They begin to end with this value; [`Means::standing`] tells when they have ended.
#[derive(Debug)]
pub struct Trials {
    means: Arc<Means>,
    answers: Answers,
    keepers: BTreeMap<String, Keeper>,
}

/// A refusal.
fn refused(what: impl Into<String>, fix: impl Into<String>) -> Answer {
    Answer::Refused(Told { what: what.into(), fix: fix.into() })
}

impl Trials {
    /// None yet. What is done is told to `answers`.
    pub fn new(means: Means, answers: Answers) -> Self {
        Self { means: Arc::new(means), answers, keepers: BTreeMap::new() }
    }

    /// Sets about a task. Its answer comes by and by.
    pub fn set_about(&mut self, letter: Letter, name: String, task: Task) {
        self.forget();
        if let Err(refusal) = self.begin(&letter, name, task) {
            self.tell(letter, refusal);
        }
    }

    /// Forgets trials that have ended, but for a while those that have left something: whoever comes to end them is told of it.
    fn forget(&mut self) {
        self.keepers.retain(|_, keeper| !keeper.is_over() || keeper.left_within(REMEMBERED).is_some());
        while self.keepers.values().filter(|keeper| keeper.is_over()).count() > MOST_REMEMBERED {
            let since = |keeper: &Keeper| keeper.left_within(REMEMBERED);
            let oldest = self.keepers.iter().filter_map(|(name, keeper)| Some((since(keeper)?, name))).max();
            let Some(name) = oldest.map(|(_, name)| name.clone()) else { break };
            self.keepers.remove(&name);
        }
    }

    fn begin(&mut self, letter: &Letter, name: String, task: Task) -> Result<(), Answer> {
        check::task(&name, &task, &self.means)?;
        let letter = letter.clone();
        match task {
            Task::Usage {} => {
                let usage = usage::now().map(Answer::Usage);
                let failed =
                    |cause| refused(format!("its kernel does not tell how much it works: {cause}"), "try again");
                self.tell(letter, usage.unwrap_or_else(failed));
                Ok(())
            }
            Task::Open { pods, stand } => {
                if self.keepers.contains_key(&name) {
                    return Err(refused("a trial of that name stands already", "run the command again"));
                }
                if self.keepers.values().filter(|keeper| !keeper.is_over()).count() >= MOST {
                    let fix =
                        "wait until they have ended: one that nobody goes on with ends by itself within five minutes";
                    return Err(refused(format!("{MOST} trials are going on there already"), fix));
                }
                let keeper = Keeper::start(Arc::clone(&self.means), &name, pods, stand, letter, self.answers.clone())?;
                self.keepers.insert(name, keeper);
                Ok(())
            }
            Task::Close {} => match self.keepers.get(&name) {
                Some(keeper) => keeper.close(letter),
                // It is gone, and has left nothing, or never was.
                None => {
                    self.tell(letter, Answer::Closed);
                    Ok(())
                }
            },
            task => {
                let gone = || refused("the trial is not there any more", "run the command again");
                let trial = self.keepers.get(&name).ok_or_else(gone)?.trial();
                self.work(trial, letter, task)
            }
        }
    }

    /// Works on a thread of the task's own.
    fn work(&self, trial: Arc<Trial>, letter: Letter, task: Task) -> Result<(), Answer> {
        let busy = || refused("the trial is busy, or has just ended", "run the command again");
        let working = trial.begin(MOST_TASKS).ok_or_else(busy)?;
        let (answers, means) = (self.answers.clone(), Arc::clone(&self.means));
        let spawned = std::thread::Builder::new().name("trial".to_owned()).spawn(move || {
            let tell = |answer| answers.send((letter.clone(), answer)).unwrap_or_default();
            perform(&working, task, &means, tell);
        });
        spawned.map(drop).map_err(|cause| refused(format!("no thread can be started: {cause}"), "try again"))
    }

    fn tell(&self, letter: Letter, answer: Answer) {
        // Nobody is left to hear it when the daemon ends.
        self.answers.send((letter, answer)).unwrap_or_default();
    }
}

impl Drop for Trials {
    fn drop(&mut self) {
        self.keepers.values().for_each(Keeper::end);
    }
}

/// Does it, and tells the answer as soon as there is one: a server goes on after it.
fn perform(trial: &Trial, task: Task, means: &Means, tell: impl Fn(Answer) + Sync) {
    let goes_on = || trial.goes_on();
    let serving = |port| tell(Answer::Serving { port });
    let done = match task {
        Task::Probe { from, shots, rounds } => trial.inside(from, || probing::probe(&shots, rounds, goes_on)),
        // What goes wrong after the answer, the other end tells.
        Task::Serve { at, address, peer, service } => {
            if !trial.has(at, address) {
                let what = format!("{address} is not its pod's, and it serves at no others");
                return tell(refused(what, "run the command again"));
            }
            let may = |from| peer.map_or_else(|| check::is_of_the_cluster(means, from), |peer| peer == from);
            let served = trial.inside(at, || match service {
                Service::Iperf => iperf::serve(address, goes_on, serving),
                Service::Answers => answers::serve(address, may, goes_on, serving),
            });
            return served.flatten().unwrap_or_else(&tell);
        }
        Task::Run { from, to, port, load, seconds } => trial.inside(from, || match load {
            Load::Questions { bytes } => answers::ask((to, port).into(), bytes, seconds, goes_on),
            _ => iperf::run((to, port).into(), load, seconds, goes_on),
        }),
        Task::Open { .. } | Task::Usage {} | Task::Close {} => unreachable!("these have no thread of their own"),
    };
    tell(done.flatten().unwrap_or_else(|refusal| refusal));
}

/// What is said of a place that there is not.
fn no_such_place(place: Place) -> Answer {
    refused(format!("the trial has no {place:?} there"), "run the command again")
}

#[cfg(test)]
mod tests;
