//! The BGP task: the speaker of `twill-bgp` with what it needs of the world.
//!
//! A thread of its own with its own runtime: a peer that announces a hundred thousand routes must not keep this node from renewing its
//! lease, nor etcd a peer from its KEEPALIVE. What is said and to whom follows from the cluster's view ([`translate`]) and from the
//! kernel's links and routes ([`ground`]); the connections are [`lines`], BFD is [`detect`]. What is learned goes to the reconciler as a
//! value ([`table`]), which alone writes to the kernel.
//!
//! When the daemon ends, peers that know of graceful restart are left without a word, so that they keep our routes; the next
//! run finds a [`mark`], and the kernel's routes stay ([`spare`]) until it has heard again what there is.

mod detect;
mod ground;
mod lines;
mod mark;
mod perform;
mod report;
mod review;
mod spare;
mod table;
mod translate;
mod words;

pub use report::Asked;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;
use twill_bgp::path::{self, Attributes};
use twill_bgp::policy::Guard;
use twill_bgp::speaker::{Config, Input, Output, Speaker};
use twill_cluster::record::Told;
use twill_conf::NodeName;
use twill_fabric::Learned;
use twill_fabric::family::Family;
use twill_fabric::peering::{LeftAlone, Peerings, Who};
use twill_linux::{MacAddr, Netlink};

use crate::bell::{Bell, Causes};
use crate::identity;
use crate::metrics::Peers;
use crate::picture::{Pictures, Underlays};
use crate::troubles::Troubles;
use detect::Detector;
use ground::Ground;
use lines::{Lines, News};
use mark::Mark;
use spare::Spare;
use table::Table;
use translate::{Secrets, Watched};
use words::Words;

/// How long what is told of the cluster and of the kernel is gathered before it is looked at.
const CALM: Duration = Duration::from_millis(30);
/// Looking takes a tenth of the time at most: it is not done again before so many times as long as it took have passed.
const SHARE: u32 = 9;
/// How often everything is looked at although nothing was told: files with passwords, a port that was taken.
const TURN: Duration = Duration::from_secs(10);
/// What peers are told when this daemon ends for good.
const GOODBYE: &str = "twilld ends";

/// What the task knows and whom it tells.
#[derive(Debug)]
pub struct Bgp {
    /// This node.
    pub name: NodeName,
    /// The MAC of its VTEP.
    pub vtep_mac: MacAddr,
    /// The cluster.
    pub pictures: Pictures,
    /// This node's underlay.
    pub underlays: Underlays,
    /// Whether the kernel's links, addresses or routes have changed.
    pub stirred: watch::Receiver<()>,
    /// The daemon ends.
    pub stop: watch::Receiver<bool>,
    /// The run directory.
    pub run_dir: PathBuf,
    /// Where what is learned is told.
    pub learned: watch::Sender<Learned>,
    /// Whom that wakes.
    pub bell: Arc<Bell>,
    /// Where what is wrong is told.
    pub troubles: Troubles,
    /// Where it is told how the sessions stand.
    pub metrics: Peers,
}

/// What nobody knows yet, before the task has begun.
pub fn unknown() -> Learned {
    Table::awaiting().learned(&Ground::default())
}

impl Bgp {
    /// Speaks until the daemon ends, and answers questions.
    pub fn run(self, questions: mpsc::Receiver<Asked>) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.speak(questions))
    }

    async fn speak(self, mut questions: mpsc::Receiver<Asked>) -> std::io::Result<()> {
        let (lines, mut news) = Lines::new();
        let seed = seed();
        let (detector, mut changes) = Detector::start(seed)?;
        let mut task = Task {
            begin: Instant::now(),
            seed,
            lines,
            detector,
            mark: Mark::new(&self.run_dir),
            spare: Spare::default(),
            peerings: Peerings::default(),
            netlink: None,
            ground: Ground::default(),
            looked: None,
            secrets: Secrets::default(),
            words: Words::default(),
            lost: BTreeSet::new(),
            table: Table::awaiting(),
            speaking: None,
            dirty: false,
            bgp: &self,
        };
        let (mut pictures, mut underlays) = (self.pictures.clone(), self.underlays.clone());
        let (mut stirred, mut stop) = (self.stirred.clone(), self.stop.clone());
        let (mut due, mut rested) = (Some(Instant::now()), Instant::now());
        loop {
            let deadline = task.deadline();
            let review = due.map_or(rested + TURN, |due| due.max(rested));
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                () = sleep_until(review.into()) => {
                    let begin = Instant::now();
                    task.review();
                    self.metrics.stand(task.speaking.as_ref().map(|speaking| speaking.speaker.peers()));
                    due = None;
                    rested = Instant::now() + begin.elapsed() * SHARE;
                }
                Ok(()) = pictures.changed() => due = due.or_else(|| Some(Instant::now())),
                Ok(()) = underlays.changed() => due = due.or_else(|| Some(Instant::now())),
                Ok(()) = stirred.changed() => {
                    task.looked = None;
                    due = due.or_else(|| Some(Instant::now() + CALM));
                }
                Some(news) = news.recv() => task.hear(news),
                Some(changed) = changes.recv() => task.detected(changed),
                Some(asked) = questions.recv() => task.answer(asked),
                () = sleep_until(deadline.unwrap_or_else(Instant::now).into()), if deadline.is_some() => {
                    task.input(Input::Tick);
                }
            }
            task.settle();
            task.publish();
        }
        task.finish(&mut news).await;
        Ok(())
    }
}

/// The task's state.
struct Task<'a> {
    bgp: &'a Bgp,
    begin: Instant,
    seed: u64,
    lines: Lines,
    detector: Detector,
    mark: Mark,
    spare: Spare,
    peerings: Peerings,
    netlink: Option<Netlink>,
    ground: Ground,
    /// When the ground was looked at; `None` where the kernel has told of changes since.
    looked: Option<Instant>,
    secrets: Secrets,
    words: Words,
    /// Neighbours that BFD has lost.
    lost: BTreeSet<IpAddr>,
    table: Table,
    speaking: Option<Speaking>,
    /// The reconciler does not know yet what is in the table.
    dirty: bool,
}

/// While there is something to say.
struct Speaking {
    speaker: Speaker,
    config: Config,
    announced: BTreeMap<IpNetwork, Attributes>,
    guard: Guard,
    names: BTreeMap<IpAddr, Who>,
    watched: BTreeMap<IpAddr, Watched>,
    /// What keeps some peers from being spoken with at all.
    troubles: Vec<Told>,
    /// Peers that there is no session with, and why.
    left_alone: Vec<LeftAlone>,
    /// Why peers could last not be connected to.
    unreached: BTreeMap<IpAddr, String>,
    /// Since when sessions are not up.
    down: BTreeMap<IpAddr, Instant>,
}

impl Task<'_> {
    fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    fn deadline(&self) -> Option<Instant> {
        let of_speaker = self.speaking.as_ref()?.speaker.deadline();
        of_speaker.into_iter().chain(self.spare.deadline()).min().map(|due| self.begin + due)
    }

    /// What became of the kernel's routes, and of BFD's neighbours, matters to what was learned.
    fn reach(&mut self) {
        let reach = self.ground.reach(&self.lost);
        self.input(Input::Reach(reach));
    }

    fn input(&mut self, input: Input<'_>) {
        let now = self.now();
        let Some(speaking) = &mut self.speaking else { return };
        let outputs = speaking.speaker.step(now, input);
        self.perform(outputs);
    }

    /// Of which families it is not known yet what there is.
    fn awaited(&self) -> BTreeSet<Family> {
        let is_awaited = |family: &Family| {
            let family = spoken(*family);
            let is_deferring = self.speaking.as_ref().is_some_and(|speaking| speaking.speaker.is_deferring(family));
            is_deferring || self.spare.holds(family)
        };
        Family::ALL.into_iter().filter(is_awaited).collect()
    }

    /// Notes of which families it is known by now what there is.
    fn settle(&mut self) {
        if self.speaking.is_none() {
            return;
        }
        self.spare.advance(self.now());
        let awaited = self.awaited();
        if awaited.is_empty() {
            self.mark.settle();
        }
        for known in self.table.await_families(awaited) {
            tracing::info!("BGP: the {} routes of before the restart are known again", spoken(known));
            self.dirty = true;
        }
    }

    /// Tells what has changed in this turn, once.
    fn publish(&mut self) {
        self.mark.keep();
        if std::mem::take(&mut self.dirty) {
            self.bgp.learned.send_replace(self.table.learned(&self.ground));
            self.bgp.bell.ring(Causes { view: true, ..Causes::default() });
        }
    }

    /// Ends: without a word where the peers keep our routes over a restart, else by saying so.
    async fn finish(mut self, news: &mut mpsc::Receiver<News>) {
        self.detector.stop();
        match self.speaking {
            Some(speaking) if speaking.config.graceful_restart().is_none() => {
                let Speaking { mut speaker, config, .. } = speaking;
                for output in speaker.configure(self.begin.elapsed(), config.shut_down(GOODBYE)) {
                    if let Output::Close(connection, last) = output {
                        self.lines.close(connection, last);
                    }
                }
                // Nobody's last words wait behind what is told of other lines.
                tokio::select! {
                    () = self.lines.finish() => {}
                    () = async { while news.recv().await.is_some() {} } => {}
                }
            }
            _ => self.lines.drop_all(),
        }
    }
}

/// BGP's word for a family.
fn spoken(family: Family) -> path::Family {
    match family {
        Family::V4 => path::Family::Ipv4,
        Family::V6 => path::Family::Ipv6,
    }
}

/// Another one at each start: for jitter, and for numbers that peers take for those of a new run.
fn seed() -> u64 {
    let word = identity::run_word().ok().and_then(|word| u64::from_str_radix(&word, 16).ok());
    word.unwrap_or_else(|| twill_ipam::BootTime::now().0.subsec_nanos().into())
}
