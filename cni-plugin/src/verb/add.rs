//! ADD: an address from the node's store, a veth in the kernel, a result on stdout.
//!
//! Before the row says `attached` nobody has been promised anything, so a failure at any step undoes all that was done,
//! in reverse order: the link, then the row. An ADD lives for ten seconds at most, and before each step it asks whether
//! a DEL has marked its row.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;
use twill_conf::network::Route;
use twill_ipam::alias::Proof;

use twill_ipam::liveness::Liveness;
use twill_ipam::store::{Reservation, Role};
use twill_ipam::{Attachment, AttachmentId, BootTime, Extras, State, Store, Unavailable};
use twill_linux::table::link;
use twill_linux::{IfName, NetNs, Netlink};

use crate::attach::{self, Building, HOST_MAC, HostEnd, Plan, message};
use crate::detach::{self, Beyond, Remains};
use crate::doorbell::{self, Ring};
use crate::environment::Verb;
use crate::error::Error;
use crate::limit;
use crate::publish;
use crate::rebuild::rebuild;
use crate::request::Request;
use crate::result::{Attached, Interface, render};
use crate::sysctl;
use crate::verb::{open_namespace, pod_ifname, pod_mac};

/// How long an ADD may live. A DEL waits two seconds longer for its lock.
const LIFETIME: Duration = Duration::from_secs(10);
/// How long an ADD waits for the daemon to claim a block.
const BLOCK_PATIENCE: Duration = Duration::from_secs(3);
/// How often it looks meanwhile: a claim takes a few milliseconds.
const BLOCK_POLL: Duration = Duration::from_millis(10);

/// How often an ADD tries with other addresses after the kernel refused the first.
const TRIES: usize = 3;

const RESERVE: &str = "reserving an address";
const LEAD: &str = "leading the node to the pod";
const CONFIRM: &str = "confirming the attachment";
const UNDO: &str = "undoing the ADD";

/// Attaches the container and gives the result.
pub(crate) fn add(request: &Request, begin: Instant) -> Result<Value, Error> {
    let deadline = begin + LIFETIME;
    let namespace = open_namespace(request)?;
    let patience = deadline.saturating_duration_since(Instant::now());
    let lock = Liveness::acquire(request.run_dir(), request.hash, patience)
        .map_err(Error::store("waiting for the attachment's lock"))?;
    if !request.conf.requested.ports.is_empty() {
        // By nft, which publishes them, too.
        lock.lend().map_err(Error::store("lending the attachment's lock"))?;
    }
    // Held to the end of the process, which frees it: the result has to be on its way before anybody else comes.
    std::mem::forget(lock);
    let store = Store::open(request.run_dir(), Role::Plugin).map_err(Error::store("opening the node store"))?;
    let mut add = Add { request, namespace, store, begin, deadline };
    add.rebuild_lost_store()?;
    add.attach()
}

struct Add<'a> {
    request: &'a Request,
    namespace: NetNs,
    store: Store,
    begin: Instant,
    deadline: Instant,
}

impl Add<'_> {
    /// Reserves and builds. Where the kernel leads an address elsewhere, the store does not know all that goes on here:
    /// with other addresses it may go well.
    fn attach(&mut self) -> Result<Value, Error> {
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
        let request = self.request;
        let new = request.is_standalone() && self.store.needs_rebuild().map_err(Error::store(RESERVE))?;
        if new && doorbell::ring(request.run_dir(), Verb::Add, 11, self.begin.elapsed()) == Ring::Refused {
            rebuild(&mut self.store)?;
        }
        Ok(())
    }

    /// free → reserved. Waits for a block where the daemon may bring one.
    fn reserve(&mut self) -> Result<Attachment, Error> {
        let request = self.request;
        let netns = request.target.netns_path().unwrap_or_default();
        let requested = &request.conf.requested;
        let extras = Extras { ports: requested.ports.clone(), bandwidth: requested.bandwidth };
        let wanted = Reservation {
            key: &request.key,
            netns: &netns,
            pod: request.target.arguments.pod.as_ref(),
            subnets: &request.conf.subnets,
            pools: &request.conf.pools,
            requested: &request.conf.requested.addresses,
        };
        let mut patience = None;
        loop {
            match self.store.reserve_with(&wanted, &extras, BootTime::now()) {
                Ok(row) => return Ok(row),
                Err(twill_ipam::Error::Exists { .. }) => self.make_way()?,
                Err(error @ twill_ipam::Error::PortTaken { .. }) => {
                    if !publish::free_dead(request.run_dir(), &mut self.store, request.hash, &extras)? {
                        return Err(Error::store(RESERVE)(error));
                    }
                }
                Err(error) => self.wait_for_block(error, &mut patience)?,
            }
        }
    }

    /// After `error`: returns when it is worth while to try again, fails when it is not.
    fn wait_for_block(&self, error: twill_ipam::Error, patience: &mut Option<Instant>) -> Result<(), Error> {
        use twill_ipam::Error::{NoFreeAddress, NotReady, NotRebuilt};
        let standalone = self.request.is_standalone();
        match &error {
            NoFreeAddress { family, .. } if standalone => {
                let remedy = "add a prefix to \"subnets\", or remove pods";
                return Err(match self.is_cooling(family)? {
                    true => Error::store(RESERVE)(error),
                    false => Error::Exhausted { source: error, remedy },
                });
            }
            NoFreeAddress { exhausted: true, .. } => {
                let remedy = "the pools have no further block for this node: add a pool, or remove pods";
                return Err(Error::Exhausted { source: error, remedy });
            }
            NoFreeAddress { .. } | NotReady | NotRebuilt => {}
            _ => return Err(Error::store(RESERVE)(error)),
        }
        let now = Instant::now();
        let until = *patience.get_or_insert_with(|| {
            // The first time: a daemon that hears this may have a block a moment later, and without one there is none.
            match doorbell::ring(self.request.run_dir(), Verb::Add, 11, self.begin.elapsed()) {
                Ring::Heard => self.deadline.min(now + BLOCK_PATIENCE),
                Ring::Refused => now,
            }
        });
        if now >= until {
            return Err(Error::store(RESERVE)(error));
        }
        std::thread::sleep(BLOCK_POLL);
        Ok(())
    }

    /// Whether some address of `subnets` of the family will be free without anybody's doing. STATUS asks the same.
    fn is_cooling(&self, family: &str) -> Result<bool, Error> {
        let conf = &self.request.conf;
        let outlooks =
            self.store.outlook(&conf.subnets, &conf.pools, BootTime::now()).map_err(Error::store(RESERVE))?;
        Ok(outlooks.iter().any(|outlook| outlook.family.name() == family && outlook.cooling + outlook.free > 0))
    }

    /// The kernel's refusal of an address. One that was asked for cannot be replaced by another.
    fn refused(&self, error: Error) -> Error {
        match error {
            Error::AddressTaken { address, .. } if self.request.conf.requested.addresses.contains(&address) => {
                Error::store(LEAD)(twill_ipam::Error::Requested { address, why: Unavailable::Led })
            }
            error => error,
        }
    }

    /// The key has a row. A living attachment is an error; one whose link is gone, or whose DEL was never finished, is
    /// brought to its end, so that the way is free.
    fn make_way(&mut self) -> Result<(), Error> {
        let request = self.request;
        let step = "finishing an earlier DEL";
        let Some(row) = self.store.attachment(request.hash).map_err(Error::store(step))? else { return Ok(()) };
        let mut host = Netlink::open().map_err(Error::kernel(step))?;
        // A reserved row is a killed ADD's: we have the lock.
        if row.state == State::Attached
            && let HostEnd::Ours(_) =
                attach::host_end(&mut host, request.hash, Proof::Name).map_err(Error::kernel(step))?
        {
            self.refuse_living(&row)?;
        }
        let namespaces = row.netns.iter().map(PathBuf::as_path).chain([self.namespace.path()]).collect();
        let beyond = Beyond::Known(&row);
        let remains = Remains { hash: request.hash, proof: Proof::Name, namespaces, beyond };
        detach::clear(&mut host, &remains, step)?;
        self.store.release(row.id, BootTime::now()).map_err(Error::store(step))
    }

    /// The host end of `row` stands. It is dead all the same where the namespace that it led to was replaced by another
    /// of the same path, and the kernel has not cleaned up yet.
    fn refuse_living(&self, row: &Attachment) -> Result<(), Error> {
        let request = self.request;
        let why = match &row.netns {
            Some(path) if path.as_os_str() != request.netns() => {
                format!("the attachment stands already, in {}; DEL it first", path.display())
            }
            _ => {
                let mut pod = Netlink::open_in(&self.namespace).map_err(Error::Namespace)?;
                let link = link::by_name(&mut pod, &pod_ifname(request)).map_err(Error::kernel(RESERVE))?;
                if link.is_none() {
                    return Ok(());
                }
                "the attachment stands already; DEL it first".to_owned()
            }
        };
        Err(self.exists(why))
    }

    fn exists(&self, why: String) -> Error {
        let request = self.request;
        Error::InterfaceExists { ifname: request.target.ifname.to_string(), netns: request.netns().to_owned(), why }
    }

    /// Everything after the reservation.
    fn build(&mut self, row: &Attachment) -> Result<Value, Error> {
        let plan = self.plan(row)?;
        let has = |ipv6| plan.addresses.iter().any(|ip| ip.is_ipv6() == ipv6);
        if self.request.is_standalone() {
            sysctl::forward(has(false), has(true)).map_err(Error::kernel("letting the node forward"))?;
        }
        let namespace = &self.namespace;
        let building = Building::open(&plan, namespace)?;
        self.still_ours(row.id)?;
        let Some(mut standing) = building.make_pair()? else {
            return Err(self.exists("a device of that name is there that is not this attachment's".to_owned()));
        };
        self.still_ours(row.id)?;
        standing.lead_to_pod().map_err(|error| self.refused(error))?;
        self.still_ours(row.id)?;
        let further = standing.configure_pod()?;
        if !row.extras.is_empty() {
            self.still_ours(row.id)?;
            let (host, device) = standing.host();
            if let Some(bandwidth) = row.extras.bandwidth {
                limit::limit(host, device, &plan, bandwidth)?;
            }
            let ports = publish::of(plan.hash, &row.extras, &plan.addresses);
            publish::publish(self.request, &self.store, host, device, &ports)?;
        }
        if !standing.settle(self.deadline)? {
            return Err(Error::TooLate("waiting for the veth to carry packets"));
        }
        self.in_time(CONFIRM)?;
        self.store.confirm(row.id, BootTime::now()).map_err(Error::store(CONFIRM))?;
        Ok(self.result(&plan, &further))
    }

    fn plan(&self, row: &Attachment) -> Result<Plan, Error> {
        let mtu = match self.request.conf.mtu {
            Some(mtu) => mtu,
            None => {
                self.store.node().map_err(Error::store("reading the node's settings"))?.map_or(1500, |node| node.mtu)
            }
        };
        let addresses: Vec<_> = row.addresses.iter().map(|(ip, _)| *ip).collect();
        if mtu < 1280 && addresses.iter().any(|ip| ip.is_ipv6()) {
            let expected = "at least 1280, since the pod gets an IPv6 address (RFC 8200, section 5)";
            return Err(Error::Configuration(twill_conf::Error::value("mtu", mtu, expected)));
        }
        publish::verify(&row.extras, &addresses)?;
        limit::verify(row.extras.bandwidth, mtu)?;
        let mac = pod_mac(self.request);
        if mac == HOST_MAC {
            let expected = "another one: this is the MAC of the pod's gateway";
            return Err(Error::Configuration(twill_conf::Error::value("mac", mac, expected)));
        }
        let routes = self.request.conf.routes.clone();
        let answers = self.request.conf.requested.mac.is_some();
        Ok(Plan { hash: self.request.hash, ifname: pod_ifname(self.request), mac, answers, mtu, addresses, routes })
    }

    /// Whether to go on: a DEL may have marked the row.
    fn still_ours(&self, id: AttachmentId) -> Result<(), Error> {
        let step = "asking whether a DEL came in between";
        self.in_time(step)?;
        match self.store.still_reserved(id) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::store(step)(twill_ipam::Error::Overtaken)),
            Err(error) => Err(Error::store(step)(error)),
        }
    }

    fn in_time(&self, step: &'static str) -> Result<(), Error> {
        if Instant::now() < self.deadline { Ok(()) } else { Err(Error::TooLate(step)) }
    }

    /// `further` are the addresses whose default route another interface has.
    fn result(&self, plan: &Plan, further: &[IpAddr]) -> Value {
        let ours = |ip: &&IpAddr| !further.contains(ip) && plan.asked_default(ip.is_ipv6()).is_none();
        let defaults = plan.addresses.iter().filter(ours).map(|ip| Route::to(message::everything(ip.is_ipv6())));
        let interface = |name: IfName, mac| Interface { name: name.to_string(), mac };
        let attached = Attached {
            host: interface(attach::host_ifname(plan.hash), HOST_MAC),
            pod: interface(plan.ifname, plan.mac),
            sandbox: self.request.netns().to_owned(),
            mtu: plan.mtu,
            addresses: plan.addresses.iter().map(|ip| (*ip, attach::gateway(*ip))).collect(),
            routes: defaults.chain(plan.own_routes().map(|(_, route)| *route)).collect(),
            dns: self.request.conf.requested.dns.clone().or_else(|| self.request.conf.dns.clone()),
        };
        render(self.request.version, &attached, self.request.conf.prev_result.as_ref())
    }

    /// Undoes link and row, and gives the error for the runtime. The address cools only when the link is known to be
    /// gone; else the row stays for the DEL that follows, or for the sweep.
    fn undo(&mut self, row: &Attachment, error: Error) -> Error {
        // A socket of its own: the error may have been that of the one before.
        let namespaces = vec![self.namespace.path()];
        let beyond = Beyond::Known(row);
        let remains = Remains { hash: self.request.hash, proof: Proof::Alias, namespaces, beyond };
        let removed =
            Netlink::open().map_err(Error::kernel(UNDO)).and_then(|mut host| detach::clear(&mut host, &remains, UNDO));
        let released = removed.and_then(|()| {
            let now = BootTime::now();
            match &error {
                Error::AddressTaken { address, .. } => self.store.abandon(row.id, *address, now),
                _ => self.store.release(row.id, now),
            }
            .map_err(Error::store(UNDO))
        });
        match released {
            Ok(()) => error,
            Err(failed) => Error::NotUndone { source: Box::new(error), left: vec![failed] },
        }
    }
}
