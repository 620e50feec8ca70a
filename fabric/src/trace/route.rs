//! Which route the kernel goes by, beside the one that shall decide.

use std::net::IpAddr;

use nix::errno::Errno;
use twill_cluster::inquiry::trace::Step;
use twill_conf::cluster::Kind;
use twill_linux::IfName;
use twill_linux::state::{Route, Target};
use twill_linux::table::route::{Decision, Flow, Found, SeenRoute, SeenTarget};

use super::forwarding::is_to_pod;
use super::step::{MAIN, Words as _, decided, differs, foreign, is_ours, refuses, repaired, standing, stands};
use super::{Input, Kernel, Onward, Stop, Walk};
use crate::backend::Way;
use crate::family::Family;

impl<'a, K: Kernel> Walk<'a, K> {
    /// The kernel's choice, which must be the route that shall decide.
    pub(super) fn route(&mut self, input: Option<&Input>) -> Onward<Decision> {
        let destination = self.packet.destination;
        let wanted = self.wanted(destination);
        let input = input.map(|input| input.link.index);
        let flow = Flow { source: self.packet.source, destination, input };
        let found = self.kernel.look_up(flow)?;
        match found {
            Found::Refused(errno) => self.refused(wanted, errno, flow),
            Found::Route(decision) => {
                self.packet.source = self.packet.source.or(decision.source);
                self.judged(wanted, decision)
            }
        }
    }

    /// The route that shall decide about an address: the narrowest, and of such the one with the lowest metric.
    pub(super) fn wanted(&self, ip: IpAddr) -> Option<&'a Route> {
        let routes = self.known.desired.state.routes.values().filter(|route| route.key.destination.contains(ip));
        routes.max_by_key(|route| (route.key.destination.prefix(), std::cmp::Reverse(route.key.metric)))
    }

    fn judged(&mut self, wanted: Option<&'a Route>, decision: Decision) -> Onward<Decision> {
        let destination = self.packet.destination;
        let text = decided(self.kernel, &decision)?;
        if decision.local {
            return self.at_home(wanted, decision, text);
        }
        let Some(wanted) = wanted else {
            self.push(Step::of("routed as what is not of the cluster").by(foreign("route", text)))?;
            return Ok(decision);
        };
        if wanted.key == decision.key
            && wanted.protocol == decision.protocol
            && self.leads(&wanted.target, &decision.target)?
        {
            self.push(Step::of(self.why(wanted)).by(stands("route", wanted)))?;
            return Ok(decision);
        }
        let step = Step::of(format!("routed to {destination} otherwise than it shall be"));
        let step = step.by(differs("route", wanted, Some(text.clone())));
        if let Some((absent, fix)) = self.device_of(wanted)? {
            return self.lost(step.broken(absent, fix));
        }
        let stands = self.standing(wanted)?;
        let (cause, fix) = if stands.is_none() && is_ours(decision.protocol) && wanted.key == decision.key {
            ("the route leads elsewhere than it shall".to_owned(), repaired("it"))
        } else if stands.is_none() {
            (format!("the route is missing, and what is left leads by {text}"), repaired("it"))
        } else if decision.table != MAIN {
            let fix = format!(
                "'ip rule show' has the rule that leads to table {}: remove it, or let it leave out the pools",
                decision.table
            );
            (format!("a policy rule of somebody else has the kernel look into table {}", decision.table), fix)
        } else {
            (format!("a route of somebody else wins: {text}"), removal(&decision.key.destination.to_string()))
        };
        self.lost(step.broken(cause, fix))
    }

    /// It is delivered to this machine.
    fn at_home(&mut self, wanted: Option<&Route>, decision: Decision, text: String) -> Onward<Decision> {
        let destination = self.packet.destination;
        let others = wanted.filter(|route| is_to_pod(route.protocol) || route.target != Target::Unreachable);
        if let Some(other) = others {
            let step = Step::of("routed to this machine itself").by(differs("route", other, Some(text)));
            let cause = format!("this machine has the address {destination}, which is not its own by the records");
            let fix = format!("'ip address show to {destination}' says where: remove it there");
            return self.lost(step.broken(cause, fix));
        }
        self.push(
            Step::of(format!("routed to this node itself: {destination} is its own")).by(foreign("route", text)),
        )?;
        Ok(decision)
    }

    fn refused(&mut self, wanted: Option<&'a Route>, errno: Errno, flow: Flow) -> Onward<Decision> {
        let destination = self.packet.destination;
        let best = self.best(destination)?;
        let shown = best.as_ref().map(|best| standing(self.kernel, best)).transpose()?;
        // A black hole says EINVAL, too.
        let is_foreign = best.as_ref().is_some_and(|best| refuses(&best.target) && !is_ours(best.protocol));
        let is_doubted = errno == Errno::EXDEV || (errno == Errno::EINVAL && !is_foreign);
        if is_doubted && flow.input.is_some() {
            let source = flow.source.map(|source| source.to_string()).unwrap_or_default();
            let step = Step::of(format!("the kernel looks whether {source} may come in here"));
            let (cause, fix) = match errno {
                Errno::EXDEV => (
                    format!(
                        "it does not believe the source {source} on that interface, and drops the packet ({errno})"
                    ),
                    "rp_filter must be loose (2) or off there: 'sysctl net.ipv4.conf'",
                ),
                // `fib_validate_source` of a kernel that says EINVAL of reverse path filtering, too.
                _ => (
                    format!(
                        "it drops the packet ({errno}): it does not believe the source {source} on that interface, or a policy rule \
                         leads to a black hole"
                    ),
                    "rp_filter must be loose (2) or off there, no address of this machine be the source, and no rule lead elsewhere: \
                     'sysctl net.ipv4.conf', 'ip rule', 'ip route get'",
                ),
            };
            return self.lost(step.broken(cause, fix));
        }
        let step = Step::of(format!("{destination} is routed nowhere"));
        let Some(wanted) = wanted else {
            let step = shown.iter().fold(step, |step, shown| step.by(foreign("route", shown)));
            let (cause, fix) = match shown {
                Some(shown) => (format!("a route refuses it: {shown}"), "remove that route, if it is not meant"),
                None => (
                    format!("no route leads to {destination}, and there is no default route for its family"),
                    "give the node a default route, or a route to that network",
                ),
            };
            return self.lost(step.broken(cause, fix));
        };
        if wanted.target == Target::Unreachable && self.is_or_none(wanted, best.as_ref()) {
            let step = match &shown {
                Some(_) => step.by(stands("route", wanted)),
                None => step.by(differs("route", wanted, None)),
            };
            let (cause, fix) = self.nobody(destination);
            return self.lost(step.broken(cause, fix));
        }
        if let Some((absent, fix)) = self.device_of(wanted)? {
            return self.lost(step.by(differs("route", wanted, shown)).broken(absent, fix));
        }
        let step = step.by(differs("route", wanted, shown.clone()));
        let (cause, fix) = match (&best, shown) {
            (Some(best), Some(shown)) if is_foreign => (
                format!("a route of somebody else wins, and refuses it: {shown}"),
                removal(&best.key.destination.to_string()),
            ),
            _ if self.standing(wanted)?.is_none() => ("the route is missing".to_owned(), repaired("it")),
            _ => (
                format!(
                    "the route stands, and the kernel refuses the packet all the same ({errno}): a policy rule does, or the link"
                ),
                "look at 'ip rule show' and 'ip link show'".to_owned(),
            ),
        };
        self.lost(step.broken(cause, fix))
    }

    /// Why nobody has an address that an unreachable route is for.
    fn nobody(&self, ip: IpAddr) -> (String, String) {
        let whose = self.whose(ip);
        let other = self.block_of(ip).map(|(_, node)| node).filter(|node| **node != self.known.local.name);
        let Some(node) = other else {
            let fix = format!("nothing is to be repaired: no pod has it ('twillctl ipam show --ip {ip}')");
            return (format!("nobody has {ip}: {whose}"), fix);
        };
        let family = Family::of(ip);
        let known = self.roll.peer(node);
        let why = match known.map(|peer| self.site.way(peer, family)) {
            None => "the record of that node is missing, or is not believed".to_owned(),
            Some(None) => "no way leads to that node".to_owned(),
            Some(Some(Way::Learned)) if self.site.conf.backend.kind != Kind::Bgp => {
                // Its word comes when its device stands.
                let own = &self.known.local.name;
                let fix = format!("look at 'twillctl node show {own}': its tunnel must stand before it says so");
                let why = "this node's record does not say that it may send by the tunnel";
                return (format!("no route leads to {ip}: {whose}, and {why}"), fix);
            }
            Some(Some(Way::Learned)) => "BGP has not learned a route to it".to_owned(),
            Some(Some(Way::Tunnel | Way::Native)) => "that node is not reached yet".to_owned(),
        };
        let problems = self.known.desired.problems.iter().filter(|problem| problem.contains(&format!("node {node}")));
        let told: Vec<&str> = problems.map(String::as_str).collect();
        let why = if told.is_empty() { why } else { told.join("; ") };
        let fix = match self.site.conf.backend.kind {
            Kind::Bgp => {
                format!("'twillctl bgp explain {ip} --node {}' says what became of its route", self.known.local.name)
            }
            _ => format!("look at 'twillctl node show {node}'"),
        };
        (format!("no route leads to {ip}: {whose}, and {why}"), fix)
    }

    /// By which way the route leads, and why.
    fn why(&self, route: &Route) -> String {
        let destination = self.packet.destination;
        if is_to_pod(route.protocol) {
            return "routed to the pod that has the address".to_owned();
        }
        let ways = match &route.target {
            Target::Several(hops) => format!("by {} equal ways, one for each flow", hops.len()),
            _ => String::new(),
        };
        let learned = self.known.reckoning.is_learned(route.key);
        let Some(node) = self.node_of(destination) else {
            let by = if learned { "as BGP has learned it" } else { "by a route of the cluster" };
            return [format!("routed {by}"), ways]
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>()
                .join(", ");
        };
        let peer = self.roll.peer(node).and_then(|peer| self.site.way(peer, Family::of(destination)));
        let by = match (learned, peer) {
            (true, _) => "as BGP has learned it",
            (false, Some(Way::Tunnel)) => "through the tunnel",
            _ => "as it is, by that node's underlay address",
        };
        [format!("routed to node {node}"), by.to_owned(), ways]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// The best route of the main table for an address, as it stands.
    fn best(&mut self, ip: IpAddr) -> Onward<Option<SeenRoute>> {
        let routes = self.kernel.routes(ip)?;
        let covering = routes.iter().filter(|route| route.key.destination.contains(ip));
        let best = covering.max_by_key(|route| (route.key.destination.prefix(), std::cmp::Reverse(route.key.metric)));
        Ok(best.cloned())
    }

    /// The route for the packet's destination as it stands, if it does, wherever it leads.
    fn standing(&mut self, wanted: &Route) -> Onward<Option<SeenRoute>> {
        let is_it = |route: &&SeenRoute| route.key == wanted.key && route.protocol == wanted.protocol;
        let routes: Vec<SeenRoute> =
            self.kernel.routes(self.packet.destination)?.iter().filter(is_it).cloned().collect();
        for route in routes {
            if self.leads(&wanted.target, &route.target)? {
                return Ok(Some(route));
            }
        }
        Ok(None)
    }

    fn is_or_none(&self, wanted: &Route, best: Option<&SeenRoute>) -> bool {
        best.is_none_or(|best| best.key == wanted.key && best.protocol == wanted.protocol)
    }

    /// What is wrong with the devices that a route needs; each must be there and up, or the kernel has no such route.
    fn device_of(&mut self, route: &Route) -> Onward<Option<(String, String)>> {
        for device in route.target.devices() {
            let link = self.kernel.link(device)?;
            if link.as_ref().is_some_and(|link| link.up) {
                continue;
            }
            let how = if link.is_some() { "is down" } else { "does not exist" };
            let fix = match self.known.desired.state.links.contains_key(&device) {
                true => repaired("the device and its routes"),
                false => format!(
                    "make {device} stand and be up ('ip link set {device} up'): twilld puts the route back then"
                ),
            };
            return Ok(Some((format!("{device} {how}, so the route does not stand"), fix)));
        }
        Ok(None)
    }

    /// Whether a standing route leads where one shall.
    fn leads(&mut self, wanted: &Target, found: &SeenTarget) -> Onward<bool> {
        let mut index =
            |device: IfName| -> Onward<Option<u32>> { Ok(self.kernel.link(device)?.map(|link| link.index)) };
        Ok(match (wanted, found) {
            (Target::Unreachable, SeenTarget::Unreachable) => true,
            (Target::Device(device), SeenTarget::Device(found)) => index(*device)? == Some(*found),
            (Target::Gateway { gateway, device, .. }, SeenTarget::Gateway { gateway: by, index: found, .. }) => {
                gateway == by && index(*device)? == Some(*found)
            }
            (Target::Several(hops), SeenTarget::Several(found)) => {
                let mut wanted = Vec::new();
                for hop in hops.iter() {
                    wanted.push((hop.gateway, index(hop.device)?));
                }
                wanted.sort_unstable();
                let mut found: Vec<_> = found.iter().map(|hop| (hop.gateway, Some(hop.index))).collect();
                found.sort_unstable();
                wanted == found
            }
            _ => false,
        })
    }

    fn lost<T>(&mut self, step: Step) -> Onward<T> {
        self.push(step)?;
        Err(Stop::Lost)
    }
}

fn removal(destination: &str) -> String {
    format!("'ip route show {destination}' shows it: remove it where it is made, or move the pool out of its way")
}
