//! A pod's attachment in the kernel: one veth, the pod's end with its addresses, the host's end a router port.
//!
//! [`Plan`] says what shall stand, `message` how it is asked for, [`Building`] does it in two namespaces, and [`remove_end`]
//! undoes it. [`observe`] reads back what stands, for CHECK. The daemon repairs routes and neighbours of the host's end by
//! the same constants ([`twill_linux::state`]), so they must not differ from what `fabric` expects.

pub(crate) mod further;
pub(crate) mod message;
pub(crate) mod observe;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use twill_conf::network::Route;
pub(crate) use twill_conf::network::gateway;
use twill_ipam::KeyHash;
use twill_ipam::alias::{self, Alias, Proof};
use twill_linux::netlink::Request;
use twill_linux::table::link::{self, Device, Pair, SeenLink};
use twill_linux::table::route;
use twill_linux::{IfName, MacAddr, NetNs, Netlink};

use crate::error::Error;
use crate::sysctl;

/// The MAC of every host end on every node: the pod's gateway keeps its MAC wherever and whenever a pod is made, so no
/// neighbour entry in a pod ever goes stale. Locally administered.
pub(crate) const HOST_MAC: MacAddr = MacAddr([0x02, 0x74, 0x77, 0x00, 0x00, 0x01]);

const PAIR: &str = "making the veth pair";
const ROUTES: &str = "leading the node to the pod";
const POD: &str = "configuring the pod's interface";
const SETTLE: &str = "waiting for the veth to carry packets";

/// How often a link that does not run yet is looked at: a fraction of what the kernel takes.
const POLL: Duration = Duration::from_micros(100);

/// The name of the host's end.
pub(crate) fn host_ifname(hash: KeyHash) -> IfName {
    IfName::new(&hash.host_ifname()).expect("two letters and 13 hexadecimal digits are a name")
}

/// What shall stand for one attachment.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// By which the host's end is named and marked.
    pub(crate) hash: KeyHash,
    /// CNI_IFNAME.
    pub(crate) ifname: IfName,
    /// The MAC of the pod's end.
    pub(crate) mac: MacAddr,
    /// Whether the host's end answers for the gateway. The pod has permanent neighbours and never asks, but for when its
    /// MAC is set again: with that the kernel takes all neighbours from an interface, and a runtime that asks us for a MAC
    /// may ask a later plugin of the chain too.
    pub(crate) answers: bool,
    /// In bytes, of both ends: a smaller one on one side only would drop silently.
    pub(crate) mtu: u32,
    /// The pod's addresses.
    pub(crate) addresses: Vec<IpAddr>,
    /// The routes of the configuration, of whatever family; those of a family that the pod does not get are left out.
    pub(crate) routes: Vec<Route>,
}

impl Plan {
    /// The host end's alias, from which a lost store is rebuilt.
    pub(crate) fn alias(&self) -> Alias {
        Alias { hash: self.hash, addresses: self.addresses.clone(), ruled: Vec::new() }
    }

    /// The routes of the configuration that the pod gets, with their places in it.
    pub(crate) fn own_routes(&self) -> impl Iterator<Item = (usize, &Route)> {
        let families = |route: &Route| self.addresses.iter().any(|ip| ip.is_ipv6() == route.destination.is_ipv6());
        self.routes.iter().enumerate().filter(move |(_, route)| families(route))
    }

    /// Whether the default route that the configuration asks for may stand beside another one, now or later: it has a
    /// priority of its own, or is among those that were `taken`.
    fn is_beside(&self, ipv6: bool, taken: &[usize]) -> bool {
        let is_taken = |asked: &Route| taken.iter().any(|place| self.routes[*place] == *asked);
        let own = |asked: &Route| asked.priority.is_some_and(|priority| priority > 0);
        self.asked_default(ipv6).is_some_and(|asked| own(asked) || is_taken(asked))
    }

    /// The default route of the main table that the configuration asks for: it stands in the place of ours.
    pub(crate) fn asked_default(&self, ipv6: bool) -> Option<&Route> {
        let asked = |route: &&Route| route.is_default() && route.is_main() && route.destination.is_ipv6() == ipv6;
        self.routes.iter().find(asked)
    }
}

/// An attachment that is to be made: a socket in each namespace.
#[derive(Debug)]
pub(crate) struct Building<'a> {
    plan: &'a Plan,
    namespace: &'a NetNs,
    host: Netlink,
    pod: Netlink,
}

/// An attachment that is being made: its pair stands.
#[derive(Debug)]
pub(crate) struct Standing<'a> {
    plan: &'a Plan,
    namespace: &'a NetNs,
    host: (Netlink, Device),
    pod: (Netlink, Device),
}

impl<'a> Building<'a> {
    /// Opens both sockets; changes nothing.
    pub(crate) fn open(plan: &'a Plan, namespace: &'a NetNs) -> Result<Self, Error> {
        let host = Netlink::open().map_err(Error::kernel(PAIR))?;
        let pod = Netlink::open_in(namespace).map_err(Error::Namespace)?;
        Ok(Self { plan, namespace, host, pod })
    }

    /// Makes the pair, and sets the host's end up.
    ///
    /// What an ADD that was killed left under the name of our host end goes first: the caller holds the liveness lock,
    /// so nobody works with it. `None` where the pod has an interface of the name that is wanted: nothing was made then.
    pub(crate) fn make_pair(mut self) -> Result<Option<Standing<'a>>, Error> {
        let mut pair = self.try_make_pair()?;
        if pair.is_none() {
            let name = host_ifname(self.plan.hash);
            match host_end(&mut self.host, self.plan.hash, Proof::Alias).map_err(Error::kernel(PAIR))? {
                // The pod has the name; or the node had it, and that device has gone since.
                HostEnd::Absent => pair = self.try_make_pair()?,
                HostEnd::Foreign(why) => return Err(Error::ForeignDevice { step: PAIR, name, why }),
                HostEnd::Ours(end) => {
                    further::forget(&end, self.plan.hash, [self.namespace.path()]);
                    remove_end(&mut self.host, &end, PAIR)?;
                    pair = self.try_make_pair()?;
                }
            }
        }
        Ok(pair.map(|pair| Standing {
            plan: self.plan,
            namespace: self.namespace,
            host: (self.host, Device { index: pair.host, name: host_ifname(self.plan.hash) }),
            pod: (self.pod, Device { index: pair.peer, name: self.plan.ifname }),
        }))
    }

    /// `None` where a device has one of the two names.
    fn try_make_pair(&mut self) -> Result<Option<Pair>, Error> {
        match message::pair(self.plan).make(&mut self.host, self.namespace) {
            Ok(pair) => Ok(Some(pair)),
            Err(error) if error.errno() == Some(Errno::EEXIST) => Ok(None),
            Err(error) => Err(Error::kernel(PAIR)(error)),
        }
    }
}

impl Standing<'_> {
    /// The node's socket and the host's end, for what else is to stand there.
    pub(crate) fn host(&mut self) -> (&mut Netlink, Device) {
        (&mut self.host.0, self.host.1)
    }

    /// Leads the pod's addresses to the host's end: permanent neighbours, and routes, made exclusively.
    pub(crate) fn lead_to_pod(&mut self) -> Result<(), Error> {
        let (host, device) = &mut self.host;
        for ip in &self.plan.addresses {
            let requests = message::lead_to_pod(*ip, self.plan.mac, *device);
            for outcome in send(host, &requests, None, device.name, ROUTES)? {
                outcome.map_err(|source| match source.errno() {
                    // The neighbour is set whether it was there or not: what exists is the route.
                    Some(Errno::EEXIST) => Error::AddressTaken { address: *ip, source },
                    _ => Error::Kernel { step: ROUTES, source },
                })?;
            }
        }
        if self.plan.answers && self.plan.addresses.iter().any(IpAddr::is_ipv6) {
            let outcomes = send(host, &[message::answer(*device)], None, device.name, ROUTES)?;
            outcomes.into_iter().try_for_each(|outcome| outcome.map_err(Error::kernel(ROUTES)))?;
        }
        Ok(())
    }

    /// Configures the pod's end: up, addresses, neighbours, routes. The default routes are made exclusively: the kernel's
    /// refusal tells that the pod has one by another interface, and that this one is a further one ([`further`]). Gives
    /// the addresses of which that is so.
    pub(crate) fn configure_pod(&mut self) -> Result<Vec<IpAddr>, Error> {
        let (pod, device) = &mut self.pod;
        let (parts, requests): (Vec<_>, Vec<_>) = message::configure_pod(self.plan, *device).into_iter().unzip();
        let outcomes = send(pod, &requests, Some(self.namespace), device.name, POD)?;
        let taken = message::taken(self.plan, &parts, outcomes)?;
        if !taken.routes.is_empty() {
            self.make_worse_routes(&taken.routes)?;
        }
        let further =
            |ip: &&IpAddr| taken.families.contains(&ip.is_ipv6()) || self.plan.is_beside(ip.is_ipv6(), &taken.routes);
        let addresses: Vec<_> = self.plan.addresses.iter().filter(further).copied().collect();
        if !addresses.is_empty() {
            self.make_own_table(&addresses)?;
        }
        Ok(addresses)
    }

    /// Waits until both ends carry packets and the pod takes what is sent to its addresses, which the kernel sees to a
    /// moment after it was asked: a pod that sends, or is pinged, right after its ADD is not to lose its first packet.
    /// `false` where `deadline` came first.
    pub(crate) fn settle(&mut self, deadline: Instant) -> Result<bool, Error> {
        while !self.is_ready()? {
            if Instant::now() >= deadline {
                return Ok(false);
            }
            std::thread::sleep(POLL);
        }
        Ok(true)
    }

    fn is_ready(&mut self) -> Result<bool, Error> {
        for (netlink, device) in [&mut self.host, &mut self.pod] {
            let link = link::by_index(netlink, device.index).map_err(Error::kernel(SETTLE))?;
            if !link.ok_or(Error::LinkVanished { step: SETTLE, name: device.name })?.running {
                return Ok(false);
            }
        }
        for ip in self.plan.addresses.iter().filter(|ip| ip.is_ipv6()) {
            if !route::is_local(&mut self.pod.0, *ip).map_err(Error::kernel(SETTLE))? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Sends `requests` about `device` and gives their outcomes. Where the kernel says that IPv6 is off on it (some runtimes
/// make namespaces so), turns it on and sends what was refused again.
fn send(
    netlink: &mut Netlink,
    requests: &[Request],
    namespace: Option<&NetNs>,
    device: IfName,
    step: &'static str,
) -> Result<Vec<Result<(), twill_linux::Error>>, Error> {
    let mut outcomes = netlink.batch(requests).map_err(Error::kernel(step))?;
    let ipv6_off = |error: &twill_linux::Error| error.errno() == Some(Errno::EACCES);
    if !outcomes.iter().any(|outcome| outcome.as_ref().is_err_and(ipv6_off)) {
        return Ok(outcomes);
    }
    sysctl::enable_ipv6(namespace, device).map_err(Error::kernel(step))?;
    let refused: Vec<usize> = (0..requests.len()).filter(|place| outcomes[*place].is_err()).collect();
    let again: Vec<&Request> = refused.iter().map(|place| &requests[*place]).collect();
    for (place, outcome) in refused.iter().zip(netlink.batch(&again).map_err(Error::kernel(step))?) {
        outcomes[*place] = outcome;
    }
    Ok(outcomes)
}

/// What stands under the name of a host end.
#[derive(Debug)]
pub(crate) enum HostEnd {
    /// Nothing.
    Absent,
    /// A veth with our alias, or with none: an ADD may have been killed before it set it.
    Ours(SeenLink),
    /// Something else, and why it is.
    Foreign(String),
}

/// Looks for the host end of `hash`.
pub(crate) fn host_end(host: &mut Netlink, hash: KeyHash, proof: Proof) -> Result<HostEnd, twill_linux::Error> {
    Ok(match link::by_name(host, &host_ifname(hash))? {
        None => HostEnd::Absent,
        Some(link) => match foreign(&link, hash, proof) {
            Some(why) => HostEnd::Foreign(why),
            None => HostEnd::Ours(link),
        },
    })
}

/// Why a link that has the name of the host end of `hash` is not it.
fn foreign(link: &SeenLink, hash: KeyHash, proof: Proof) -> Option<String> {
    let (ifname, kind, alias) = (link.name.as_str(), link.kind.as_deref(), link.alias.as_deref());
    alias::HostEnd { ifname, kind, alias, routes: Vec::new() }.foreign(hash, proof)
}

/// Removes a host end, looked up a moment ago, and with it everything: the pod's end, addresses, routes, neighbours. By
/// number: nobody else's device of that name can be hit. Nobody can find any of it when this returns.
pub(crate) fn remove_end(host: &mut Netlink, end: &SeenLink, step: &'static str) -> Result<(), Error> {
    // That it went away meanwhile, with the pod's namespace, is as good.
    link::remove(host, Device { index: end.index, name: end.name }).map(drop).map_err(Error::kernel(step))
}
