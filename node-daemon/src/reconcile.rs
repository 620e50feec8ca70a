//! The reconciler: the only one that writes the cluster's routes, tunnels and firewall to the kernel.
//!
//! A thread of its own, since netlink and `nft` block. Each pass observes the underlay, reads the node store, lets `fabric`
//! say what shall stand, and lets `linux` bring it about. A pass is due when the [`Bell`] rings, and every
//! [`RESYNC`] without a ring; where it rings all the time, they keep a [`Pace`]. Where nothing but the cluster's view has
//! changed since a pass after which everything stood, the [`Scene`] is as it was, and only the difference of what shall stand is
//! sent; every other pass looks at what does stand.
//!
//! Nothing is written before there is a view, and nothing is ever flushed: a restart finds
//! what stands and changes what differs. A view from the disk may be older than the kernel's state, so by it what is
//! missing is made, and what is the node's own is put right; what else stands is changed and removed by what etcd itself has told, and by
//! what BGP has (`fabric::Spoken`), which is as new as can be whether or not etcd is there. Without an underlay what pods have on their own node is kept, and what leads to others
//! waits.

mod feud;
mod forward;
mod local;
mod oversize;
mod pace;
mod ports;
mod report;
mod veths;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use twill_cluster::View;
use twill_fabric::backend::VxlanUse;
use twill_fabric::ends::Standing;
use twill_fabric::mtu::Mtus;
use twill_fabric::{Desired, Learned, Local, Reckoning, Spoken, Underlay, vxlan};
use twill_linux::monitor::{Echoes, Touched};
use twill_linux::nft::Firewall;
use twill_linux::state::{KernelState, PROTOCOL_POD};
use twill_linux::table::{Outcome, Repair, SeenLink};
use twill_linux::{Netlink, table};

use crate::bell::{Bell, Causes};
use crate::metrics::health::Pulse;
use crate::metrics::{Convergence, FILTERS, Pass, Passes};
use crate::picture::{Picture, Pictures};
use crate::store::NodeStore;
use crate::troubles::Troubles;
use crate::underlay::{Announcer, NoUnderlay, Observed, Observer};
use forward::Forward;
pub use local::Me;
use local::Stored;
use pace::Pace;
use ports::Ports;
use report::Report;
use veths::{Look, Veths};

/// How long drift can last that no event told of.
const RESYNC: Duration = Duration::from_secs(9);
/// How long after a pass that could not be made the next one is tried.
const RETRY: Duration = Duration::from_secs(1);
/// How long events of the kernel are gathered before a pass.
const CALM: Duration = Duration::from_millis(40);

/// What stands in the way of a whole pass. The next one tries again.
#[derive(Debug, thiserror::Error)]
enum Obstacle {
    #[error(transparent)]
    Underlay(#[from] NoUnderlay),
    #[error(transparent)]
    Store(#[from] twill_ipam::Error),
    #[error(transparent)]
    Kernel(#[from] twill_linux::Error),
}

/// The reconciler's parts.
#[derive(Debug)]
pub struct Reconciler {
    me: Me,
    news: News,
    findings: Findings,
    observer: Observer,
    announcer: Announcer,
    store: NodeStore,
    netlink: Netlink,
    firewall: Firewall,
    ports: Ports,
    forward: Forward,
    veths: Veths,
    mtus: Mtus,
    /// As it was last looked at, where nothing can have changed since.
    scene: Option<Scene>,
    last: Option<Last>,
    /// A pod is being attached for which rules may have to come back. The kernel has told of it by now, and nobody tells when it is done.
    awaited: bool,
    /// While the view is one from the disk.
    spoken: Spoken,
    report: Report,
}

/// What a pass finds: to look for it costs the more the larger the cluster is, since the default route stands among all others.
#[derive(Debug)]
struct Scene {
    links: Vec<SeenLink>,
    /// As it is, or was last.
    underlay: Underlay,
    /// Why there is none now.
    absent: Option<NoUnderlay>,
    /// The node's record was known by then.
    registered: bool,
}

/// By what it hears of the world.
#[derive(Debug)]
pub struct News {
    /// That a pass is due.
    pub bell: Arc<Bell>,
    /// What it changes itself and is told of all the same: those of its monitor.
    pub echoes: Arc<Echoes>,
    /// Whose filters it hears of.
    pub touched: Arc<Touched>,
    /// The cluster.
    pub pictures: Pictures,
    /// What BGP has learned.
    pub learned: watch::Receiver<Learned>,
}

/// Where it tells what it found.
#[derive(Debug)]
pub struct Findings {
    /// The underlay; `None` while there is none.
    pub underlays: watch::Sender<Option<Underlay>>,
    /// What shall stand, and whom this node reaches.
    pub reckoning: Arc<Mutex<Reckoning>>,
    /// What stands.
    pub standings: watch::Sender<Option<Standing>>,
    /// What was wanted last: by what the reckoning has come to, whoever holds its lock.
    pub wanted: watch::Sender<Option<Wanted>>,
    /// What is wrong.
    pub troubles: Troubles,
    /// What is counted.
    pub passes: Passes,
    /// How long it takes until the kernel follows the cluster.
    pub convergence: Convergence,
    /// That it lives.
    pub pulse: Pulse,
}

/// What a pass wants, of which node, by which view; shared, since it is large.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The cluster.
    pub view: Arc<View>,
    /// The node as it was observed.
    pub local: Arc<Local>,
    /// What shall stand.
    pub desired: Arc<Desired>,
    /// The pass is over that is to bring it about, whatever became of it.
    pub tried: Arc<AtomicBool>,
}

/// What the last pass wanted.
#[derive(Debug)]
struct Last {
    desired: Arc<Desired>,
    local: Arc<Local>,
    /// All of it stood when the pass was over.
    settled: bool,
}

impl Reconciler {
    /// Opens a netlink socket in the daemon's namespace.
    pub fn new(me: Me, news: News, findings: Findings, store: NodeStore) -> Result<Self, twill_linux::Error> {
        let netlink = Netlink::open()?.expecting(&news.echoes);
        let firewall = Firewall::new(&me.run_dir.join("firewall.json"), Arc::clone(&news.echoes));
        let report = Report::default();
        Ok(Self {
            observer: Observer::new(me.underlay.clone()),
            announcer: Announcer::default(),
            me,
            news,
            forward: Forward::new(findings.troubles.clone()),
            findings,
            store,
            netlink,
            firewall,
            ports: Ports::default(),
            // A little less, so that each look at everything asks anew.
            veths: Veths::new(RESYNC.saturating_sub(RETRY)),
            mtus: Mtus::default(),
            scene: None,
            last: None,
            awaited: false,
            spoken: Spoken::default(),
            report,
        })
    }

    /// Reconciles until the bell says stop. The data path is left as it is.
    pub fn run(mut self) {
        let mut causes = Causes { view: true, network: true, firewall: true, stop: false };
        let mut pace = Pace::new(Instant::now());
        let mut looked = Instant::now();
        while !causes.stop {
            let (begin, before) = (Instant::now(), pace::processor_time());
            self.findings.pulse.beat();
            let since = self.findings.convergence.begun();
            let passed = self.pass(causes);
            self.findings.tried();
            let how = self.how(&passed);
            self.findings.passes.made(how, begin.elapsed());
            self.findings.convergence.over(since, how);
            let failed = passed.is_err();
            let (respite, patience) = match passed {
                Ok(respite) => {
                    self.report.clear();
                    if causes.firewall {
                        looked = begin;
                    }
                    let resync = RESYNC.saturating_sub(looked.elapsed());
                    (respite, if self.awaited { resync.min(RETRY) } else { resync })
                }
                Err(obstacle) => {
                    self.findings.passes.obstructed(obstacle.to_string());
                    self.report.obstacle(&obstacle.to_string());
                    self.renew_socket(&obstacle);
                    self.last.iter_mut().for_each(|last| last.settled = false);
                    (Duration::ZERO, RETRY)
                }
            };
            if causes.firewall || causes.network && self.ports.is_behind() {
                // They depend on the node's store alone, so an obstacle in the way of the rest is none to them.
                let kept = self.ports.keep(&self.store);
                if let Ok((ports, rules)) = &kept {
                    self.findings.passes.published_again(ports.len(), *rules);
                }
                self.report.ports(kept);
            }
            // Where many nodes join, all of them look at each other's news, which can wait while others work; a repair cannot.
            let news_alone = causes.view && !causes.network && !causes.firewall;
            let took = if news_alone { begin.elapsed() } else { pace::processor_time().saturating_sub(before) };
            self.news.bell.rest(pace.rest(took, Instant::now()).max(respite));
            // Counted from the beginning of the last look at everything: neither rests nor rings for something else put it off.
            causes = self.news.bell.wait(patience, CALM);
            if failed || looked.elapsed() >= RESYNC || causes.is_empty() {
                causes = Causes { network: true, firewall: true, ..causes };
            }
        }
    }

    /// How a pass ended.
    fn how(&self, passed: &Result<Duration, Obstacle>) -> Pass {
        match (passed, &self.last) {
            (Err(_), _) => Pass::Obstructed,
            (Ok(_), None) => Pass::Idle,
            (Ok(_), Some(last)) if last.settled => Pass::Settled,
            (Ok(_), Some(_)) => Pass::Incomplete,
        }
    }

    /// Brings the kernel to what shall stand. How long the next pass is to wait, since somebody undoes what this one did.
    fn pass(&mut self, causes: Causes) -> Result<Duration, Obstacle> {
        let mut scene = self.scene(causes)?;
        let absent = scene.absent.take();
        let Scene { links, underlay, .. } = &scene;
        // Without any configuration nothing says what shall stand. Where it was deleted nothing is removed: see `is_whole`.
        let known = self.news.pictures.borrow().clone().filter(|picture| picture.reach.config.is_some());
        self.findings.passes.about(known.as_ref().and_then(Picture::config_revision));
        let Some(picture) = known else { return over(absent, Duration::ZERO) };
        let fits = self.mtus.follow(&picture.reach, &self.me.name, underlay).pods;
        let observed = self.store.with(|store| local::observe(&self.me, underlay.clone(), store))?;
        let Stored { mut local, attached, attaching } = observed;
        let look = self.veths.look(attached, links, &self.news.touched.take(), &mut self.netlink);
        let Look { pods, unfiltered, lost, wanted, stood, repairs } = look.inspect_err(|_| self.news.touched.all())?;
        self.report.unfiltered(&lost);
        (local.pods, local.unfiltered) = (pods, unfiltered);
        self.awaited = attaching && !unfiltered;
        let learned = self.news.learned.borrow().clone();
        let Wanted { local, desired, .. } = self.findings.reckon(&picture.reach, local, &learned);
        self.report.problems(&desired.problems);
        self.findings.passes.wanted(&desired.state, wanted);
        // What is only told stops no repair.
        if let Ok(pods) = oversize::find(&local.pods, links, fits, &self.store) {
            self.report.oversize(fits, pods);
        }

        let is_as_before = |last: &Last| match absent {
            None => last.desired.state == desired.state && last.desired.ours == desired.ours,
            Some(_) => last.desired.of_node() == desired.of_node(),
        };
        let drifted = self.last.as_ref().is_some_and(is_as_before);
        let whole = picture.is_whole() && absent.is_none();
        let mut outcome = if absent.is_some() {
            self.hold(picture.is_whole(), &desired)?
        } else if whole {
            self.spoken = Spoken::default();
            self.bring(causes, links, &local, &desired)?
        } else {
            self.spoken.follow(&picture.reach, &learned);
            self.look(causes.firewall || !drifted, false, &desired)?
        };
        if whole {
            let [device, _] = vxlan::devices();
            let receives = desired.vxlan.receives.filter(|_| !outcome.lacking.contains(&device));
            let of_vxlan = VxlanUse { receives, ..desired.vxlan };
            // What BGP has not spoken of yet may be left from before.
            let routed = outcome.routed && !desired.ours.spared.any();
            let standing = Standing { vxlan: of_vxlan, routed, pods: oversize::greatest(&local.pods, links) };
            self.findings.standings.send_if_modified(|known| known.replace(standing) != Some(standing));
        }
        outcome.repairs.extend(repairs);
        let settled = whole && outcome.errors.is_empty() && outcome.lacking.is_empty();
        if let Some(passage) = desired.passage.as_ref().filter(|_| picture.is_whole()) {
            outcome.repairs.extend(self.forward.keep(passage, causes.firewall));
        }
        if !outcome.stood.is_empty() {
            outcome.stood.insert(FILTERS, stood);
        }
        // What the reconciler makes of links and addresses itself, no event tells of.
        let is_scenery = |repair: &Repair| ["link", "address"].contains(&repair.table);
        self.scene = (settled && !outcome.repairs.iter().any(is_scenery)).then_some(scene);
        // What leads to other nodes waits for an underlay, and when it comes then, it was not lost.
        if absent.is_none() {
            self.last = Some(Last { desired, local, settled });
        }
        self.findings.passes.did(&outcome, drifted);
        let respite = self.report.outcome(outcome, drifted);
        self.findings.passes.contested(self.report.contested());
        over(absent, respite)
    }

    /// The links and the underlay: as they were, where no event has told otherwise since.
    fn scene(&mut self, causes: Causes) -> Result<Scene, Obstacle> {
        let published = self
            .news
            .pictures
            .borrow()
            .as_ref()
            .and_then(|picture| picture.view.nodes.get(&self.me.name).map(|record| record.value.underlay.clone()));
        let heard = causes.network || causes.firewall;
        // What the record says is looked at once, as soon as it is known.
        let is_good = |scene: &Scene| !heard && (scene.registered || published.is_none());
        if let Some(scene) = self.scene.take().filter(is_good) {
            return Ok(scene);
        }
        let links = table::links(&mut self.netlink)?;
        let Observed { underlay, problems } = match self.observer.observe(&mut self.netlink, &links, published.as_ref())
        {
            Ok(observed) => observed,
            Err(NoUnderlay::Kernel(error)) => return Err(error.into()),
            Err(none) => {
                self.findings.underlays.send_if_modified(|known| known.take().is_some());
                let Some(underlay) = self.observer.last() else { return Err(none.into()) };
                return Ok(Scene { links, underlay, absent: Some(none), registered: published.is_some() });
            }
        };
        if self.findings.underlays.send_if_modified(|known| known.replace(underlay.clone()).as_ref() != Some(&underlay))
        {
            tracing::info!("the underlay is {underlay}");
        }
        self.announcer.follow(&links, &underlay);
        self.report.underlay(&problems);
        Ok(Scene { links, underlay, absent: None, registered: published.is_some() })
    }

    /// Brings the kernel to what etcd itself has told: without a look where that is enough.
    fn bring(
        &mut self,
        causes: Causes,
        links: &[SeenLink],
        local: &Local,
        desired: &Desired,
    ) -> Result<Outcome, Obstacle> {
        let mut repairs = Vec::new();
        if let Some(outcome) = self.advance(causes, links, local, desired, &mut repairs)? {
            return Ok(Outcome { repairs, ..outcome });
        }
        // What was flushed while a pass failed, or before this daemon began, must not wait for the timer.
        let last = self.last.as_ref().filter(|last| last.settled && last.desired.state == desired.state);
        let mut outcome = self.look(causes.firewall || last.is_none(), true, desired)?;
        outcome.repairs.splice(0..0, repairs);
        Ok(outcome)
    }

    /// Goes on from what the last pass brought about, where nothing else can have changed since; `None` where it must look.
    /// What was changed is in `repairs`, also then.
    fn advance(
        &mut self,
        causes: Causes,
        links: &[SeenLink],
        local: &Local,
        desired: &Desired,
        repairs: &mut Vec<Repair>,
    ) -> Result<Option<Outcome>, Obstacle> {
        let heard = causes.network || causes.firewall;
        let goes_on = |last: &&Last| last.settled && *last.local == *local && last.desired.ours == desired.ours;
        let Some(last) = self.last.as_ref().filter(|_| !heard).filter(goes_on) else { return Ok(None) };
        let (before, after) = (&last.desired.state, &desired.state);
        if before.firewall != after.firewall {
            let Some(ruleset) = &after.firewall else { return Ok(None) };
            // Somebody may have flushed it a moment ago.
            let Ok(changed) = self.firewall.advance(ruleset) else { return Ok(None) };
            repairs.extend(changed.then(|| of_guard(&ruleset.table)));
        }
        let Some(mut outcome) = table::advance(&mut self.netlink, links, before, after)? else { return Ok(None) };
        repairs.append(&mut outcome.repairs);
        Ok(Some(outcome).filter(|outcome| outcome.errors.is_empty()))
    }

    /// Looks at what stands, and brings it to what shall stand.
    fn look(&mut self, guard: bool, whole: bool, desired: &Desired) -> Result<Outcome, Obstacle> {
        self.news.echoes.forget();
        // The guard first: it must know a node before a route makes that node answer.
        let of_guard = if guard { self.guard(&desired.state, whole)? } else { None };
        let (netlink, state, ours) = (&mut self.netlink, &desired.state, &desired.ours);
        let mut outcome = match whole {
            true => table::reconcile(netlink, state, ours)?,
            false => {
                // Of its own pods the node knows without etcd.
                let to_pods =
                    state.routes.values().filter(|route| route.protocol == PROTOCOL_POD).map(|route| route.key);
                let fresh = self.spoken.keys().iter().copied().chain(to_pods).collect();
                table::complete(netlink, state, ours, &fresh)?
            }
        };
        outcome.repairs.extend(of_guard);
        Ok(outcome)
    }

    /// Where there is no underlay: keeps what the pods of this node have on it. What leads to other nodes waits.
    fn hold(&mut self, whole: bool, desired: &Desired) -> Result<Outcome, Obstacle> {
        self.news.echoes.forget();
        let state = desired.of_node();
        let of_guard = self.guard(&state, whole)?;
        let own: BTreeSet<_> = state.routes.keys().copied().collect();
        let mut outcome = table::complete(&mut self.netlink, &state, &desired.ours, &own)?;
        outcome.repairs.extend(of_guard);
        Ok(outcome)
    }

    /// Puts our table in the place of one that is another, or that someone had changed or flushed; where the view is not
    /// `whole`, only of one that is gone.
    fn guard(&mut self, desired: &KernelState, whole: bool) -> Result<Option<Repair>, Obstacle> {
        let Some(ruleset) = &desired.firewall else { return Ok(None) };
        let changed = (whole || !self.firewall.stands(&ruleset.table)?) && self.firewall.reconcile(ruleset)?;
        Ok(changed.then(|| of_guard(&ruleset.table)))
    }

    /// A socket that failed may hold answers to requests of long ago, or a dump that was never read to its end: begin
    /// with a new one.
    fn renew_socket(&mut self, obstacle: &Obstacle) {
        if let Obstacle::Kernel(_) = obstacle
            && let Ok(netlink) = Netlink::open()
        {
            self.netlink = netlink.expecting(&self.news.echoes);
        }
    }
}

impl Findings {
    /// What shall stand by this. It is told under the lock of what it was reckoned by: whoever has that lock finds the one with the
    /// other, however the pass goes on.
    fn reckon(&self, view: &Arc<View>, local: Local, learned: &Learned) -> Wanted {
        let mut reckoning = self.reckoning.lock().expect("nobody panics while asking it");
        let desired = reckoning.follow(view, &local, learned);
        let (view, tried) = (Arc::clone(view), Arc::default());
        let wanted = Wanted { view, local: Arc::new(local), desired: Arc::new(desired), tried };
        self.wanted.send_replace(Some(wanted.clone()));
        wanted
    }

    /// The pass is over.
    fn tried(&self) {
        self.wanted.borrow().iter().for_each(|wanted| wanted.tried.store(true, Ordering::Relaxed));
    }
}

/// A pass is over. One without an underlay was not whole, whatever it has done.
fn over(absent: Option<NoUnderlay>, respite: Duration) -> Result<Duration, Obstacle> {
    absent.map_or(Ok(respite), |none| Err(none.into()))
}

fn of_guard(table: &str) -> Repair {
    Repair { table: "firewall", action: "changed", object: format!("table inet {table}"), was: None }
}

#[cfg(test)]
mod tests;
