//! ADD: an address from the node's store, a veth in the kernel.
//!
//! Before the row says `attached` nobody has been promised anything, so a failure at any step undoes all that was done,
//! in reverse order: the link, then the row. An ADD lives for ten seconds at most, and before each step it asks whether
//! a DEL has marked its row.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use twill_conf::network::Route;
use twill_ipam::alias::Proof;
use twill_ipam::store::{Reservation, Role};
use twill_ipam::{Attachment, AttachmentId, BootTime, Extras, KeyHash, Liveness, Store, Unavailable};
use twill_linux::{IfName, MacAddr};

use super::{rebuild, take_out};
use crate::error::{Error, RESERVE, ROUTES};
use crate::kernel::{Beyond, Builder, Kernel, Remains};
use crate::limit;
use crate::plan::{HOST_MAC, Plan, own_sources};
use crate::publish;

/// How long an ADD may live. A DEL waits two seconds longer for its lock.
pub const LIFETIME: Duration = Duration::from_secs(10);
/// How often an ADD tries with other addresses after the kernel refused the first.
const TRIES: usize = 3;
/// How often a link that does not run yet is looked at: a fraction of what the kernel takes.
const POLL: Duration = Duration::from_micros(100);

const SETTLE: &str = "waiting for the veth to carry packets";
const CONFIRM: &str = "confirming the attachment";
const UNDO: &str = "undoing the ADD";

/// What an ADD is asked for.
pub struct Wanted<'a> {
    /// Where store and locks are.
    pub run_dir: &'a Path,
    /// Whose it is, and what it may choose from.
    pub reservation: Reservation<'a>,
    /// The key's digest.
    pub hash: KeyHash,
    /// Ports, limits and exemptions.
    pub extras: &'a Extras,
    /// CNI_IFNAME.
    pub ifname: IfName,
    /// The MAC of the pod's end.
    pub mac: MacAddr,
    /// See [`Plan::answers`].
    pub answers: bool,
    /// Whether the host's end is to have a filter of what the pod sends; one that may send by any address gets none.
    pub filtered: bool,
    /// In bytes; where it is absent the node's own.
    pub mtu: Option<u32>,
    /// The routes of the configuration.
    pub routes: &'a [Route],
    /// When the call began.
    pub began: BootTime,
    /// Tells the daemon that an address is waited for, and whether one heard it.
    pub ring: &'a dyn Fn() -> bool,
}

impl Wanted<'_> {
    /// Whether the node has no say in the addresses: `subnets` has them.
    pub(super) fn is_standalone(&self) -> bool {
        !self.reservation.subnets.is_empty()
    }

    pub(super) fn exists(&self, why: String) -> Error {
        let netns = self.reservation.netns.display().to_string();
        Error::InterfaceExists { ifname: self.ifname.to_string(), netns, why }
    }
}

/// What an ADD made.
#[derive(Debug, Clone)]
pub struct Attached {
    /// What stands.
    pub plan: Plan,
    /// The addresses whose default route another interface of the pod has.
    pub further: Vec<IpAddr>,
}

/// Attaches the container. The attachment's lock is held to the end of the process ([`Kernel::keep`]): the result has to be
/// on its way before anybody else comes.
pub fn add<B: Builder>(builder: &mut B, wanted: &Wanted<'_>) -> Result<Attached, Error> {
    let deadline = BootTime(wanted.began.0 + LIFETIME);
    let patience = deadline.since(builder.kernel().now());
    let lock = Liveness::acquire(wanted.run_dir, wanted.hash, patience)
        .map_err(Error::store("waiting for the attachment's lock"))?;
    if !wanted.extras.ports.is_empty() {
        // By nft, which publishes them, too.
        lock.lend().map_err(Error::store("lending the attachment's lock"))?;
    }
    builder.kernel().keep(lock);
    let store = Store::open(wanted.run_dir, Role::Plugin).map_err(Error::store("opening the node store"))?;
    let mut add = Add { wanted, builder, store, deadline };
    add.rebuild_lost_store()?;
    add.attach()
}

/// An ADD under way.
pub(super) struct Add<'a, B> {
    pub(super) wanted: &'a Wanted<'a>,
    pub(super) builder: &'a mut B,
    pub(super) store: Store,
    pub(super) deadline: BootTime,
}

impl<B: Builder> Add<'_, B> {
    /// Reserves and builds. Where the kernel leads an address elsewhere, the store does not know all that goes on here:
    /// with other addresses it may go well.
    fn attach(&mut self) -> Result<Attached, Error> {
        let mut refused = None;
        for _ in 0..TRIES {
            let row = match self.reserve() {
                Ok(row) => row,
                Err(error) => return Err(refused.unwrap_or(error)),
            };
            match self.build(&row).map_err(|error| self.undo(&row, error)) {
                Err(error @ Error::AddressTaken { .. }) => refused = Some(error),
                done => return done,
            }
        }
        Err(refused.expect("it was tried at least once"))
    }

    /// A new store may be one that was lost. Where a daemon runs, it is the one that looks.
    fn rebuild_lost_store(&mut self) -> Result<(), Error> {
        let new = self.wanted.is_standalone() && self.store.needs_rebuild().map_err(Error::store(RESERVE))?;
        if new && !(self.wanted.ring)() {
            rebuild::rebuild(self.builder.kernel(), &mut self.store)?;
        }
        Ok(())
    }

    /// Everything after the reservation.
    fn build(&mut self, row: &Attachment) -> Result<Attached, Error> {
        let plan = self.plan(row)?;
        if self.wanted.is_standalone() {
            self.builder.forward(&plan.addresses).map_err(Error::kernel("letting the node forward"))?;
        }
        self.still_ours(row.id)?;
        let Some(pair) = self.builder.make_pair(&plan)? else {
            return Err(self.wanted.exists("a device of that name is there that is not this attachment's".to_owned()));
        };
        self.still_ours(row.id)?;
        self.builder.lead_to_pod(&plan, &pair).map_err(|error| self.refused(error))?;
        self.still_ours(row.id)?;
        let further = self.builder.configure_pod(&plan, &pair)?;
        if !row.extras.is_empty() {
            self.still_ours(row.id)?;
            if let Some(bandwidth) = row.extras.bandwidth {
                self.builder.limit(&plan, &pair, bandwidth)?;
            }
            self.publish(row, &pair)?;
        }
        self.settle(&plan, &pair)?;
        self.in_time(CONFIRM)?;
        let now = self.builder.kernel().now();
        self.store.confirm(row.id, now).map_err(Error::store(CONFIRM))?;
        Ok(Attached { plan, further })
    }

    fn plan(&self, row: &Attachment) -> Result<Plan, Error> {
        let wanted = self.wanted;
        let mtu = match wanted.mtu {
            Some(mtu) => mtu,
            None => {
                self.store.node().map_err(Error::store("reading the node's settings"))?.map_or(1500, |node| node.mtu)
            }
        };
        let addresses: Vec<_> = row.addresses.iter().map(|(ip, _)| *ip).collect();
        if mtu < 1280 && addresses.iter().any(IpAddr::is_ipv6) {
            let expected = "at least 1280, since the pod gets an IPv6 address (RFC 8200, section 5)";
            return Err(Error::Configuration(twill_conf::Error::value("mtu", mtu, expected)));
        }
        publish::verify(&row.extras, &addresses)?;
        limit::verify(row.extras.bandwidth, mtu)?;
        if wanted.mac == HOST_MAC {
            let expected = "another one: this is the MAC of the pod's gateway";
            return Err(Error::Configuration(twill_conf::Error::value("mac", wanted.mac, expected)));
        }
        let Wanted { hash, ifname, mac, answers, filtered, .. } = *wanted;
        let unchecked = row.extras.unchecked;
        let sources = (filtered && !unchecked).then(|| own_sources(&addresses));
        let routes = wanted.routes.to_vec();
        Ok(Plan { hash, ifname, mac, answers, mtu, addresses, unchecked, sources, routes })
    }

    /// The kernel's refusal of an address. One that was asked for cannot be replaced by another.
    fn refused(&self, error: Error) -> Error {
        match error {
            Error::AddressTaken { address, .. } if self.wanted.reservation.requested.contains(&address) => {
                Error::store(ROUTES)(twill_ipam::Error::Requested { address, why: Unavailable::Led })
            }
            error => error,
        }
    }

    /// Waits until the interface can be used.
    fn settle(&mut self, plan: &Plan, pair: &B::Pair) -> Result<(), Error> {
        while !self.builder.is_ready(plan, pair)? {
            self.in_time(SETTLE)?;
            self.builder.kernel().sleep(POLL);
        }
        Ok(())
    }

    /// Whether to go on: a DEL may have marked the row.
    fn still_ours(&mut self, id: AttachmentId) -> Result<(), Error> {
        let step = "asking whether a DEL came in between";
        self.in_time(step)?;
        match self.store.still_reserved(id) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::store(step)(twill_ipam::Error::Overtaken)),
            Err(error) => Err(Error::store(step)(error)),
        }
    }

    /// Whether the ADD may go on.
    pub(super) fn in_time(&mut self, step: &'static str) -> Result<(), Error> {
        if self.builder.kernel().now() < self.deadline { Ok(()) } else { Err(Error::TooLate(step)) }
    }

    /// Undoes link and row, and gives the error for the runtime. The address cools only when the link is known to be
    /// gone; else the row stays for the DEL that follows, or for the sweep.
    fn undo(&mut self, row: &Attachment, error: Error) -> Error {
        let kernel = self.builder.kernel();
        kernel.reconnect();
        let namespaces = vec![self.wanted.reservation.netns];
        let remains = Remains { hash: self.wanted.hash, proof: Proof::Alias, namespaces, beyond: Beyond::Known(row) };
        let released = take_out(kernel, &remains).map_err(Error::kernel(UNDO)).and_then(|()| {
            let now = kernel.now();
            match &error {
                Error::AddressTaken { address, .. } => self.store.abandon(row.id, *address, now),
                _ => self.store.release(row.id, now).map(|()| true),
            }
            .map_err(Error::store(UNDO))
        });
        match released {
            Ok(true) => error,
            // With the row went the mark of a DEL: another try would bring up what that has promised to be gone.
            Ok(false) => Error::store(UNDO)(twill_ipam::Error::Overtaken),
            Err(left) => Error::NotUndone { source: Box::new(error), left: Box::new(left) },
        }
    }
}
