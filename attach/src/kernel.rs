//! The kernel, as far as the course of an attachment needs it: the seam between the order of the steps ([`course`](crate::course))
//! and the hands that do them.
//!
//! The programs have the hands of [`linux`](crate::linux) and [`building`](crate::building); the model test has a map. Time
//! comes from the kernel too: no course reads a clock by itself.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use twill_conf::network::Bandwidth;
use twill_ipam::alias::Proof;
use twill_ipam::store::Observed;
use twill_ipam::{Attachment, BootTime, KeyHash, Liveness};
use twill_linux::ports::Port;

use crate::error::Error;
use crate::plan::Plan;

/// What is to go, and what is known of it.
#[derive(Debug, Clone)]
pub struct Remains<'a> {
    /// The attachment.
    pub hash: KeyHash,
    /// What makes its devices ours.
    pub proof: Proof,
    /// Where the pod may be seen yet: CNI_NETNS, the path that was stored.
    pub namespaces: Vec<&'a Path>,
    /// What it has beyond its link.
    pub beyond: Beyond<'a>,
}

impl<'a> Remains<'a> {
    /// What stands of an attachment that has a row.
    pub fn of(row: &'a Attachment) -> Self {
        let namespaces = row.netns.as_deref().into_iter().collect();
        Self { hash: row.hash, proof: Proof::Name, namespaces, beyond: Beyond::Known(row) }
    }
}

/// What an attachment has beyond its link.
#[derive(Debug, Clone, Copy)]
pub enum Beyond<'a> {
    /// What its row says. Nothing is looked for that it does not have.
    Known(&'a Attachment),
    /// Nobody can say: the kernel is asked. That no row is there says nothing: a store that was lost may not know of it,
    /// and an older program takes a row away with what it does not read in it.
    Unknown,
}

impl Beyond<'_> {
    /// Whether there may be published ports.
    pub fn ports(self) -> bool {
        match self {
            Self::Known(row) => !row.extras.ports.is_empty(),
            Self::Unknown => true,
        }
    }

    /// Whether there may be a device that limits what the pod sends.
    pub fn ifb(self) -> bool {
        match self {
            Self::Known(row) => row.extras.has_egress(),
            Self::Unknown => true,
        }
    }
}

/// What every course needs: time, looks, and the taking away.
pub trait Kernel {
    /// The time.
    fn now(&self) -> BootTime;
    /// Lets time pass.
    fn sleep(&self, time: Duration);
    /// Holds the lock to the end of the process, with which the kernel frees it.
    fn keep(&mut self, held: Liveness);
    /// What failed may have been the connection to the kernel: the next call makes a new one.
    fn reconnect(&mut self);
    /// Whether the host end of `hash` stands.
    fn stands(&mut self, hash: KeyHash, proof: Proof) -> Result<bool, twill_linux::Error>;
    /// The attachments whose host ends stand.
    fn standing(&mut self) -> Result<BTreeSet<KeyHash>, twill_linux::Error>;
    /// Whether a pod route to one of these addresses stands, whatever the name of the device is that it leads to.
    fn leads_to_any(&mut self, addresses: &[IpAddr]) -> Result<bool, twill_linux::Error>;
    /// Who has published ports or limiting devices.
    fn owners(&mut self) -> Result<BTreeSet<KeyHash>, twill_linux::Error>;
    /// What stands that a store should know of.
    fn observe(&mut self) -> Result<Observed, twill_linux::Error>;
    /// Removes all that stands for an attachment, in reverse order of its making: published ports first, so that nobody is
    /// led to an interface that goes. Nobody can find any of it when this succeeds; what bears our names and is somebody
    /// else's is left alone. What fails does not keep the rest from being removed; the first error is given. The caller
    /// holds the attachment's liveness lock.
    fn clear(&mut self, remains: &Remains<'_>) -> Result<(), twill_linux::Error>;
}

/// What an ADD does in the kernel, a step each. Between them it asks whether its row is still its own.
pub trait Builder {
    /// The node that it is done on.
    type Kernel: Kernel;
    /// A pair that stands.
    type Pair;
    /// The node's kernel.
    fn kernel(&mut self) -> &mut Self::Kernel;
    /// Whether an interface of the name that is wanted is in the namespace that the pod's path leads to now: an ADD may have
    /// waited since it opened the one that it has.
    fn pod_has_interface(&mut self) -> Result<bool, Error>;
    /// Lets the node route for pods with these addresses: where a daemon runs, it sees to that.
    fn forward(&mut self, addresses: &[IpAddr]) -> Result<(), twill_linux::Error>;
    /// Makes the pair, and sets the host's end up.
    ///
    /// What an ADD that was killed left under the name of our host end goes first: the caller holds the liveness lock,
    /// so nobody works with it. `None` where the pod has an interface of the name that is wanted: nothing was made then.
    fn make_pair(&mut self, plan: &Plan) -> Result<Option<Self::Pair>, Error>;
    /// Leads the pod's addresses to the host's end: permanent neighbours, and routes, made exclusively.
    /// [`Error::AddressTaken`] where a route to one of them stands.
    fn lead_to_pod(&mut self, plan: &Plan, pair: &Self::Pair) -> Result<(), Error>;
    /// Configures the pod's end. Gives the addresses whose default route another interface has.
    fn configure_pod(&mut self, plan: &Plan, pair: &Self::Pair) -> Result<Vec<IpAddr>, Error>;
    /// Makes what limits the pod's bandwidth.
    fn limit(&mut self, plan: &Plan, pair: &Self::Pair, bandwidth: Bandwidth) -> Result<(), Error>;
    /// Publishes ports, and turns to them what flows elsewhere. [`twill_linux::Error::PortTaken`] where nothing was done.
    fn publish(&mut self, pair: &Self::Pair, ports: &[Port]) -> Result<(), twill_linux::Error>;
    /// Withdraws what somebody published who is no more.
    fn withdraw(&mut self, owner: KeyHash) -> Result<(), twill_linux::Error>;
    /// Whether both ends carry packets and the pod takes what is sent to its addresses, which the kernel sees to a moment
    /// after it was asked: a pod that sends, or is pinged, right after its ADD is not to lose its first packet.
    fn is_ready(&mut self, plan: &Plan, pair: &Self::Pair) -> Result<bool, Error>;
}
