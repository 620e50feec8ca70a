//! The reconciler: the only one that writes the cluster's routes, tunnels and firewall to the kernel.
//!
//! A thread of its own, since netlink and `nft` block. Each pass observes the underlay, reads the node store, lets `fabric`
//! say what shall stand, and lets `linux` apply the difference. A pass is due when the [`Bell`] rings, and every
//! [`RESYNC`] without a ring; where it rings all the time, they keep a [`Pace`]. Nothing is written before there is a view, and nothing is ever flushed: a restart finds
//! what stands and changes what differs. A view from the disk may be older than the kernel's state, so by it only what is
//! missing is made; what stands is changed and removed by what etcd itself has told.

mod local;
mod macs;
mod oversize;
mod pace;
mod ports;
mod report;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use twill_fabric::backend::VxlanUse;
use twill_fabric::ends::Standing;
use twill_fabric::{Underlay, desired, pod_mtu};
use twill_linux::nft::Firewall;
use twill_linux::state::KernelState;
use twill_linux::{Netlink, table};

use crate::bell::{Bell, Causes};
use crate::picture::Pictures;
use crate::store::NodeStore;
use crate::underlay::{NoUnderlay, Observed, Observer};
pub use local::Me;
use macs::Macs;
use pace::Pace;
use ports::Ports;
use report::Report;

/// How long drift can last that no event told of.
const RESYNC: Duration = Duration::from_secs(9);
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
    bell: Arc<Bell>,
    pictures: Pictures,
    underlays: watch::Sender<Option<Underlay>>,
    standings: watch::Sender<Option<Standing>>,
    observer: Observer,
    store: NodeStore,
    netlink: Netlink,
    firewall: Firewall,
    ports: Ports,
    macs: Macs,
    last: Option<KernelState>,
    report: Report,
}

impl Reconciler {
    /// Opens a netlink socket in the daemon's namespace.
    pub fn new(
        me: Me,
        bell: Arc<Bell>,
        pictures: Pictures,
        underlays: watch::Sender<Option<Underlay>>,
        standings: watch::Sender<Option<Standing>>,
        store: NodeStore,
    ) -> Result<Self, twill_linux::Error> {
        let netlink = Netlink::open()?;
        let firewall = Firewall::new(&me.run_dir.join("firewall.json"));
        let report = Report::default();
        Ok(Self {
            observer: Observer::new(me.underlay.clone()),
            me,
            bell,
            pictures,
            underlays,
            standings,
            store,
            netlink,
            firewall,
            ports: Ports::default(),
            macs: Macs::new(RESYNC),
            last: None,
            report,
        })
    }

    /// Reconciles until the bell says stop. The data path is left as it is.
    pub fn run(mut self) {
        let mut causes = Causes { view: true, network: true, firewall: true, stop: false };
        let mut pace = Pace::new(Instant::now());
        let mut whole = Instant::now();
        while !causes.stop {
            let (begin, before) = (Instant::now(), pace::processor_time());
            if causes.firewall {
                whole = begin;
            }
            match self.pass(causes) {
                Ok(()) => self.report.clear(),
                Err(obstacle) => {
                    self.report.obstacle(&obstacle.to_string());
                    self.renew_socket(&obstacle);
                }
            }
            if causes.firewall {
                // They depend on the node's store alone, so an obstacle in the way of the rest is none to them.
                self.report.ports(self.ports.keep(&self.store));
            }
            self.bell.rest(pace.rest(pace::processor_time().saturating_sub(before), Instant::now()));
            // Counted from the beginning of the last whole pass: neither rests nor rings for something else put it off.
            causes = self.bell.wait(RESYNC.saturating_sub(whole.elapsed()), CALM);
            if whole.elapsed() >= RESYNC {
                causes = Causes { network: true, firewall: true, ..causes };
            }
        }
    }

    fn pass(&mut self, causes: Causes) -> Result<(), Obstacle> {
        let links = table::links(&mut self.netlink)?;
        let Observed { underlay, problems } = match self.observer.observe(&mut self.netlink, &links) {
            Ok(observed) => observed,
            Err(NoUnderlay::Kernel(error)) => return Err(error.into()),
            Err(none) => {
                self.underlays.send_if_modified(|known| known.take().is_some());
                return Err(none.into());
            }
        };
        if self.underlays.send_if_modified(|known| known.replace(underlay.clone()).as_ref() != Some(&underlay)) {
            tracing::info!("the underlay is {underlay}");
        }
        self.report.underlay(&problems);
        // Without a configuration nothing says what shall stand; what stands is left alone, also if somebody deleted it.
        let known = self.pictures.borrow().clone().filter(|picture| picture.reach.config.is_some());
        let Some(picture) = known else { return Ok(()) };
        let fits = pod_mtu(&picture.reach, &self.me.name, &underlay);
        let (mut local, pods) = self.store.with(|store| local::observe(&self.me, underlay, store))?;
        local.pods = self.macs.complete(pods, &mut self.netlink)?;
        let desired = desired(&picture.reach, &local);
        self.report.problems(&desired.problems);
        self.report.oversize(fits, oversize::find(&local.pods, &links, fits, &self.store)?);

        let drifted = self.last.as_ref() == Some(&desired.state);
        // The guard first: it must know a node before a route makes that node answer.
        if causes.firewall || !drifted {
            self.guard(&desired.state, picture.proven, drifted)?;
        }
        let bring = if picture.proven { table::reconcile } else { table::complete };
        let outcome = bring(&mut self.netlink, &desired.state, &desired.ours)?;
        if picture.proven {
            let receives = desired.vxlan.receives.filter(|_| outcome.lacking.is_empty());
            let vxlan = VxlanUse { receives, ..desired.vxlan };
            let standing =
                Standing { vxlan, whole: outcome.errors.is_empty(), pods: oversize::greatest(&local.pods, &links) };
            self.standings.send_if_modified(|known| known.replace(standing) != Some(standing));
        }
        self.report.outcome(outcome, drifted);
        self.last = Some(desired.state);
        Ok(())
    }

    fn guard(&mut self, desired: &KernelState, proven: bool, drifted: bool) -> Result<(), Obstacle> {
        let Some(ruleset) = &desired.firewall else { return Ok(()) };
        if proven || !self.firewall.stands(&ruleset.table)? {
            let changed = self.firewall.reconcile(ruleset)?;
            self.report.firewall(changed && drifted);
        }
        Ok(())
    }

    /// A socket that failed may hold answers to requests of long ago, or a dump that was never read to its end: begin
    /// with a new one.
    fn renew_socket(&mut self, obstacle: &Obstacle) {
        if let Obstacle::Kernel(_) = obstacle
            && let Ok(netlink) = Netlink::open()
        {
            self.netlink = netlink;
        }
    }
}
