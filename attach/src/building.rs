//! The hands of an ADD: a veth between the node and a pod's namespace, configured at both ends.
//!
//! [`Plan`] says what shall stand, `message` how it is asked for, and here it is asked for, a step a call.

use std::net::IpAddr;

use nix::errno::Errno;
use twill_conf::network::Bandwidth;
use twill_ipam::KeyHash;
use twill_ipam::alias::{Alias, Proof};
use twill_linux::netlink::Request;
use twill_linux::ports::Port;
use twill_linux::table::link::{self, Device, Made};
use twill_linux::table::route;
use twill_linux::{IfName, NetNs, Netlink};

use crate::error::{Error, PAIR, POD, ROUTES};
use crate::kernel::Builder;
use crate::linux::{HostEnd, Linux};
use crate::plan::{Plan, host_ifname};
use crate::{limit, message, publish, sysctl};

const SETTLE: &str = "waiting for the veth to carry packets";

/// The node, and the namespace of a pod that is being attached. Connections are made when they are first needed.
#[derive(Debug)]
pub struct Building {
    linux: Linux,
    namespace: NetNs,
    ifname: IfName,
    pod: Option<Netlink>,
}

/// The two ends of a pair, each in its namespace.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    pub(crate) host: Device,
    pub(crate) pod: Device,
    /// The host's end has the filter that was planned.
    pub(crate) filtered: bool,
}

impl Building {
    /// For an interface of that name in a namespace.
    pub fn new(linux: Linux, namespace: NetNs, ifname: IfName) -> Self {
        Self { linux, namespace, ifname, pod: None }
    }

    fn pod(&mut self) -> Result<&mut Netlink, Error> {
        match &mut self.pod {
            Some(pod) => Ok(pod),
            none => Ok(none.insert(Netlink::open_in(&self.namespace).map_err(Error::Namespace)?)),
        }
    }

    /// `None` where a device has one of the two names.
    fn try_make_pair(&mut self, plan: &Plan) -> Result<Option<Made>, Error> {
        let host = self.linux.host().map_err(Error::kernel(PAIR))?;
        match message::pair(plan).make(host, &self.namespace) {
            Ok(made) => {
                if plan.sources.is_some() && !made.filtered {
                    // The kernel has no such filters: the alias must not promise one.
                    let alias = Alias { filtered: false, ..plan.alias() };
                    let device = Device { index: made.pair.host, name: host_ifname(plan.hash) };
                    host.apply(&[link::set_alias(device, &alias.to_string())]).map_err(Error::kernel(PAIR))?;
                }
                Ok(Some(made))
            }
            Err(error) if error.errno() == Some(Errno::EEXIST) => Ok(None),
            Err(error) => Err(Error::kernel(PAIR)(error)),
        }
    }

    /// Sends requests about the host's end.
    pub(crate) fn ask_host(&mut self, requests: &[Request], device: Device, step: &'static str) -> Outcomes {
        send(self.linux.host().map_err(Error::kernel(step))?, requests, device.name, step)
    }

    /// Sends requests about the pod's end.
    pub(crate) fn ask_pod(&mut self, requests: &[Request], device: Device) -> Outcomes {
        send(self.pod()?, requests, device.name, POD)
    }
}

impl Builder for Building {
    type Kernel = Linux;
    type Pair = Ends;

    fn kernel(&mut self) -> &mut Linux {
        &mut self.linux
    }

    fn pod_has_interface(&mut self) -> Result<bool, Error> {
        let namespace = NetNs::open(self.namespace.path()).map_err(Error::Namespace)?;
        let mut pod = Netlink::open_in(&namespace).map_err(Error::Namespace)?;
        Ok(link::by_name(&mut pod, &self.ifname).map_err(Error::kernel(PAIR))?.is_some())
    }

    fn forward(&mut self, addresses: &[IpAddr]) -> Result<(), twill_linux::Error> {
        sysctl::forward(addresses.iter().any(IpAddr::is_ipv4), addresses.iter().any(IpAddr::is_ipv6))
    }

    fn make_pair(&mut self, plan: &Plan) -> Result<Option<Ends>, Error> {
        // Both connections stand before anything is changed.
        self.pod()?;
        let mut pair = self.try_make_pair(plan)?;
        if pair.is_none() {
            let name = host_ifname(plan.hash);
            match self.linux.host_end(plan.hash, Proof::Alias).map_err(Error::kernel(PAIR))? {
                // The pod has the name; or the node had it, and that device has gone since.
                HostEnd::Absent => pair = self.try_make_pair(plan)?,
                HostEnd::Foreign(why) => return Err(Error::ForeignDevice { step: PAIR, name, why }),
                HostEnd::Ours(end) => {
                    let namespaces = [self.namespace.path()];
                    self.linux.remove_end(plan.hash, &end, namespaces).map_err(Error::kernel(PAIR))?;
                    pair = self.try_make_pair(plan)?;
                }
            }
        }
        Ok(pair.map(|Made { pair, filtered }| Ends {
            host: Device { index: pair.host, name: host_ifname(plan.hash) },
            pod: Device { index: pair.peer, name: plan.ifname },
            filtered,
        }))
    }

    fn lead_to_pod(&mut self, plan: &Plan, ends: &Ends) -> Result<(), Error> {
        for ip in &plan.addresses {
            let requests = message::lead_to_pod(*ip, plan.mac, ends.host);
            for outcome in self.ask_host(&requests, ends.host, ROUTES)? {
                outcome.map_err(|source| match source.errno() {
                    // The neighbour is set whether it was there or not: what exists is the route.
                    Some(Errno::EEXIST) => Error::AddressTaken { address: *ip, source },
                    _ => Error::Kernel { step: ROUTES, source },
                })?;
            }
        }
        if plan.answers && plan.addresses.iter().any(IpAddr::is_ipv6) {
            let outcomes = self.ask_host(&[message::answer(ends.host)], ends.host, ROUTES)?;
            outcomes.into_iter().try_for_each(|outcome| outcome.map_err(Error::kernel(ROUTES)))?;
        }
        Ok(())
    }

    /// Up, addresses, neighbours, routes. The default routes are made exclusively: the kernel's refusal tells that the pod
    /// has one by another interface, and that this one is a further one.
    fn configure_pod(&mut self, plan: &Plan, ends: &Ends) -> Result<Vec<IpAddr>, Error> {
        let (parts, requests): (Vec<_>, Vec<_>) = message::configure_pod(plan, ends.pod).into_iter().unzip();
        let outcomes = self.ask_pod(&requests, ends.pod)?;
        let taken = message::taken(plan, &parts, outcomes)?;
        if !taken.routes.is_empty() {
            self.make_worse_routes(plan, ends, &taken.routes)?;
        }
        let further =
            |ip: &&IpAddr| taken.families.contains(&ip.is_ipv6()) || plan.is_beside(ip.is_ipv6(), &taken.routes);
        let addresses: Vec<_> = plan.addresses.iter().filter(further).copied().collect();
        if !addresses.is_empty() {
            self.make_own_table(plan, ends, &addresses)?;
        }
        Ok(addresses)
    }

    fn limit(&mut self, plan: &Plan, ends: &Ends, bandwidth: Bandwidth) -> Result<(), Error> {
        limit::limit(&mut self.linux, ends.host, plan, bandwidth)
    }

    fn publish(&mut self, ends: &Ends, ports: &[Port]) -> Result<(), twill_linux::Error> {
        publish::publish(self.linux.host()?, ends.host, ports)
    }

    fn withdraw(&mut self, owner: KeyHash) -> Result<(), twill_linux::Error> {
        publish::withdraw(owner, &[])
    }

    fn is_ready(&mut self, plan: &Plan, ends: &Ends) -> Result<bool, Error> {
        let runs = |netlink: &mut Netlink, device: Device| {
            let link = link::by_index(netlink, device.index).map_err(Error::kernel(SETTLE))?;
            Ok::<_, Error>(link.ok_or(Error::LinkVanished { step: SETTLE, name: device.name })?.running)
        };
        if !runs(self.linux.host().map_err(Error::kernel(SETTLE))?, ends.host)? || !runs(self.pod()?, ends.pod)? {
            return Ok(false);
        }
        for ip in plan.addresses.iter().filter(|ip| ip.is_ipv6()) {
            if !route::is_local(self.pod()?, *ip).map_err(Error::kernel(SETTLE))? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// What became of each of several requests.
type Outcomes = Result<Vec<Result<(), twill_linux::Error>>, Error>;

/// Sends `requests` about `device` and gives their outcomes. Where the kernel says that IPv6 is off on it (some runtimes
/// make namespaces so), turns it on and sends what was refused again.
fn send(netlink: &mut Netlink, requests: &[Request], device: IfName, step: &'static str) -> Outcomes {
    let mut outcomes = netlink.batch(requests).map_err(Error::kernel(step))?;
    let ipv6_off = |error: &twill_linux::Error| error.errno() == Some(Errno::EACCES);
    if !outcomes.iter().any(|outcome| outcome.as_ref().is_err_and(ipv6_off)) {
        return Ok(outcomes);
    }
    sysctl::enable_ipv6(netlink.namespace(), device).map_err(Error::kernel(step))?;
    let refused: Vec<usize> = (0..requests.len()).filter(|place| outcomes[*place].is_err()).collect();
    let again: Vec<&Request> = refused.iter().map(|place| &requests[*place]).collect();
    for (place, outcome) in refused.iter().zip(netlink.batch(&again).map_err(Error::kernel(step))?) {
        outcomes[*place] = outcome;
    }
    Ok(outcomes)
}
