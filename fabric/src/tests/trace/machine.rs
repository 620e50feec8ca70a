//! A kernel of plain values: what stands is what shall, but for what a test changes.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

use nix::errno::Errno;
use twill_linux::arrival::{Arrival, Shut};
use twill_linux::forward::{Barrier, Passage};
use twill_linux::ports::Port;
use twill_linux::state::{KernelState, Route, RouteKey, Target};
use twill_linux::table::SeenLink;
use twill_linux::table::fdb::SeenFdbEntry;
use twill_linux::table::neighbour::SeenNeighbour;
use twill_linux::table::route::{Decision, Flow, Found, SeenHop, SeenRoute, SeenTarget};
use twill_linux::{Error, IfName};

use crate::trace::Kernel;
use crate::{Desired, Local};

/// The machine.
pub(super) struct Machine {
    pub(super) state: KernelState,
    pub(super) links: BTreeMap<IfName, SeenLink>,
    pub(super) own: Vec<IpAddr>,
    /// Of others; one that leads nowhere refuses.
    pub(super) foreign: Vec<Route>,
    pub(super) barriers: Vec<Barrier>,
    pub(super) shut: Vec<Shut>,
    pub(super) ports: Vec<Port>,
    pub(super) firewall: bool,
    /// The kernel believes no source that comes in.
    pub(super) strict: bool,
    /// What was learned of the path.
    pub(super) path_mtu: Option<u32>,
    /// The table that a rule leads to.
    pub(super) table: u32,
    /// The routes as they were asked for last.
    shown: Vec<SeenRoute>,
}

pub(super) fn device(name: &str) -> IfName {
    IfName::new(name).unwrap()
}

/// A route of somebody else.
pub(super) fn foreign(destination: &str, metric: u32, target: Target) -> Route {
    let key = RouteKey { destination: destination.parse().unwrap(), metric };
    Route { key, protocol: 4, target, source: None }
}

pub(super) fn via(gateway: &str, by: &str) -> Target {
    Target::Gateway { gateway: gateway.parse().unwrap(), device: device(by), onlink: false }
}

impl Machine {
    pub(super) fn new(local: &Local, desired: &Desired) -> Self {
        let mut machine = Self {
            state: desired.state.clone(),
            links: BTreeMap::new(),
            own: desired.state.addresses.iter().map(|address| address.cidr.ip()).collect(),
            foreign: Vec::new(),
            barriers: Vec::new(),
            shut: Vec::new(),
            ports: Vec::new(),
            firewall: true,
            strict: false,
            path_mtu: None,
            table: 254,
            shown: Vec::new(),
        };
        machine.link("eth0", 1500);
        machine.link("eth1", 1500);
        for link in desired.state.links.values() {
            machine.link(link.name.as_str(), link.mtu);
        }
        for pod in &local.pods {
            machine.link(pod.host.as_str(), 1450);
        }
        for side in local.underlay.sides() {
            machine.own.push(side.cidr.ip());
            let key = RouteKey {
                destination: ipnetwork::IpNetwork::new(side.cidr.network(), side.cidr.prefix()).unwrap(),
                metric: 0,
            };
            let target = Target::Device(side.device);
            machine.foreign.push(Route { key, protocol: 2, target, source: Some(side.cidr.ip()) });
            let (default, router) = match side.cidr.is_ipv6() {
                false => ("0.0.0.0/0", "192.168.9.254"),
                true => ("::/0", "fd09::254"),
            };
            let target = via(router, side.device.as_str());
            machine.foreign.push(Route { source: Some(side.cidr.ip()), ..foreign(default, 0, target) });
        }
        machine
    }

    fn link(&mut self, name: &str, mtu: u32) {
        let index = u32::try_from(self.links.len()).unwrap() + 2;
        let (name, up) = (device(name), true);
        let link = SeenLink { index, name, kind: None, mac: None, mtu, up, running: up, carrier: up, alias: None };
        self.links.insert(name, link);
    }

    pub(super) fn change_link(&mut self, name: &str, change: impl FnOnce(&mut SeenLink)) {
        change(self.links.get_mut(&device(name)).unwrap());
    }

    fn routes_there(&self) -> impl Iterator<Item = &Route> {
        let stands = |route: &&Route| route.target.devices().all(|by| self.links.get(&by).is_some_and(|link| link.up));
        self.state.routes.values().chain(&self.foreign).filter(stands)
    }

    fn target(&self, target: &Target) -> SeenTarget {
        let index = |by: &IfName| self.links[by].index;
        match target {
            Target::Unreachable => SeenTarget::Unreachable,
            Target::Device(by) => SeenTarget::Device(index(by)),
            Target::Gateway { gateway, device, onlink } => {
                SeenTarget::Gateway { gateway: *gateway, index: index(device), onlink: *onlink }
            }
            Target::Several(hops) => {
                let hop = |hop: &twill_linux::state::Hop| SeenHop {
                    gateway: hop.gateway,
                    index: index(&hop.device),
                    onlink: hop.onlink,
                };
                SeenTarget::Several(hops.iter().map(hop).collect())
            }
        }
    }
}

impl Kernel for Machine {
    fn look_up(&mut self, flow: Flow) -> Result<Found, Error> {
        if self.own.contains(&flow.destination) {
            let key = RouteKey { destination: flow.destination.into(), metric: 0 };
            let target = SeenTarget::Device(1);
            let source = Some(flow.destination);
            return Ok(Found::Route(Decision { key, protocol: 2, target, table: 255, local: true, source, mtu: None }));
        }
        if self.strict && flow.input.is_some() {
            return Ok(Found::Refused(Errno::EXDEV));
        }
        let best = self.routes_there().filter(|route| route.key.destination.contains(flow.destination));
        let best = best.max_by_key(|route| (route.key.destination.prefix(), Reverse(route.key.metric)));
        Ok(match best {
            None => Found::Refused(Errno::ENETUNREACH),
            Some(route) if route.target == Target::Unreachable => Found::Refused(Errno::EHOSTUNREACH),
            Some(route) => Found::Route(Decision {
                key: route.key,
                protocol: route.protocol,
                target: self.target(&route.target),
                table: self.table,
                local: false,
                source: route.source,
                mtu: self.path_mtu,
            }),
        })
    }

    fn link(&mut self, name: IfName) -> Result<Option<SeenLink>, Error> {
        Ok(self.links.get(&name).cloned())
    }

    fn link_at(&mut self, index: u32) -> Result<Option<SeenLink>, Error> {
        Ok(self.links.values().find(|link| link.index == index).cloned())
    }

    fn neighbours(&mut self, index: u32) -> Result<Vec<SeenNeighbour>, Error> {
        let there = self.state.neighbours.values().filter(|known| self.links[&known.device].index == index);
        Ok(there.map(|known| SeenNeighbour { index, ip: known.ip, mac: Some(known.mac), permanent: true }).collect())
    }

    fn fdb(&mut self, index: u32) -> Result<Vec<SeenFdbEntry>, Error> {
        let there = self.state.fdb.values().filter(|known| self.links[&known.device].index == index);
        Ok(there.map(|known| SeenFdbEntry { index, mac: known.mac, remote: Some(known.remote), plain: true }).collect())
    }

    fn routes(&mut self, destination: IpAddr) -> Result<&[SeenRoute], Error> {
        let there = self.routes_there().filter(|route| route.key.destination.contains(destination));
        let seen = |route: &Route| SeenRoute {
            key: route.key,
            tos: 0,
            protocol: route.protocol,
            target: self.target(&route.target),
            source: route.source,
        };
        self.shown = there.map(seen).collect();
        Ok(&self.shown)
    }

    fn has_firewall(&mut self) -> Result<bool, Error> {
        Ok(self.firewall)
    }

    fn barriers(&mut self, _: &Passage) -> Result<Vec<Barrier>, Error> {
        Ok(self.barriers.clone())
    }

    fn shut(&mut self, arrival: Arrival) -> Result<Vec<Shut>, Error> {
        let family = if arrival.ipv6 { "ip6" } else { "ip" };
        Ok(self.shut.iter().filter(|shut| shut.place.family == family).cloned().collect())
    }

    fn ports(&mut self) -> Result<Vec<Port>, Error> {
        Ok(self.ports.clone())
    }
}
