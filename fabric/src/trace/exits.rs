//! How a packet leaves: to a pod, to the node itself, through the tunnel, or as it is.

use std::net::IpAddr;

use twill_cluster::inquiry::trace::{End, Outer, State, Step};
use twill_linux::IfName;
use twill_linux::state::{FdbEntry, LinkKind, Neighbour};
use twill_linux::table::SeenLink;
use twill_linux::table::route::{Decision, Flow, Found, SeenTarget};

use super::step::{Words as _, decided, differs, foreign, repaired, stands};
use super::{Input, Kernel, Onward, Stop, Walk};
use crate::family::Family;
use crate::{Pod, vxlan};

impl<K: Kernel> Walk<'_, K> {
    /// Follows the kernel's choice.
    pub(super) fn leave(&mut self, input: Option<&Input>, decision: &Decision) -> Onward<End> {
        if decision.local {
            let to = format!("the node itself, {}", self.packet.destination);
            let back = "; what connection tracking had translated it turns back";
            self.push(Step::of(format!("delivered to {to}{}", if self.reply { back } else { "" })))?;
            return Ok(End::Delivered { to });
        }
        let exits = self.exits(&decision.target)?;
        let Some((_, first)) = exits.first().cloned() else {
            self.push(Step::of("it leaves").broken("the route leads to no interface", "look at 'ip route get'"))?;
            return Err(Stop::Lost);
        };
        if let Some(pod) = self.pod_behind(first.name) {
            return self.deliver(input, pod);
        }
        self.forwarded(input, first.name)?;
        if vxlan::devices().contains(&first.name) {
            return self.encapsulate(input, decision, first.name);
        }
        self.as_it_is(input, decision, &exits)
    }

    /// Gateways and links of a target, where the links are there.
    fn exits(&mut self, target: &SeenTarget) -> Onward<Vec<(Option<IpAddr>, SeenLink)>> {
        let hops: Vec<(Option<IpAddr>, u32)> = match target {
            SeenTarget::Several(hops) => hops.iter().map(|hop| (Some(hop.gateway), hop.index)).collect(),
            target => target.index().map(|index| (target.gateway(), index)).into_iter().collect(),
        };
        let mut exits = Vec::new();
        for (gateway, index) in hops {
            exits.extend(self.kernel.link_at(index)?.map(|link| (gateway, link)));
        }
        Ok(exits)
    }

    fn deliver(&mut self, input: Option<&Input>, pod: &Pod) -> Onward<End> {
        self.forwarded(input, pod.host)?;
        let ip = self.packet.destination;
        let link = self.up(Step::of("delivered to the pod"), pod.host, None, "the pod")?;
        let wanted = Neighbour { device: pod.host, ip, mac: pod.mac };
        self.fits(pod.host, link.mtu)?;
        let step = Step::of("delivered to the pod").at(pod.host).carries(link.mtu);
        self.neighbour(step, &wanted, link.index)?;
        Ok(End::Delivered { to: format!("the pod behind {}", pod.host) })
    }

    /// A permanent neighbour that shall stand.
    fn neighbour(&mut self, step: Step, wanted: &Neighbour, index: u32) -> Onward<()> {
        let found = self.kernel.neighbours(index)?.into_iter().find(|found| found.ip == wanted.ip);
        match found {
            Some(found) if found.mac == Some(wanted.mac) => self.push(step.by(stands("neighbour", wanted))),
            found => {
                let (ip, device) = (wanted.ip, wanted.device);
                let text = found.and_then(|found| found.mac).map(|mac| format!("{ip} dev {device} lladdr {mac}"));
                let cause = match &text {
                    Some(_) => format!("the neighbour {ip} has another MAC than it shall"),
                    None => format!("the neighbour {ip} is missing, and nobody answers for it on {device}"),
                };
                self.push(step.by(differs("neighbour", wanted, text)).broken(cause, repaired("it")))
            }
        }
    }

    fn encapsulate(&mut self, input: Option<&Input>, decision: &Decision, device: IfName) -> Onward<End> {
        self.masqueraded(input, device)?;
        let link = self.sound(Step::of("it goes into the tunnel"), device, "the tunnel")?;
        self.path_mtu(decision, device)?;
        let state = &self.known.desired.state;
        let gateway = decision.target.gateway().unwrap_or(self.packet.destination);
        let Some(wanted) = state.neighbours.get(&(device, gateway)) else {
            let cause =
                format!("no node has the address {gateway} in the tunnel, by the records that this one believes");
            let fix = "look at the problems of 'twillctl status': a record may be left out";
            self.push(Step::of("its next hop is looked up").at(device).broken(cause, fix))?;
            return Err(Stop::Lost);
        };
        self.neighbour(
            Step::of(format!("its next hop is the tunnel's end with the MAC {}", wanted.mac)).at(device),
            wanted,
            link.index,
        )?;
        let Some(entry) = state.fdb.get(&(device, wanted.mac)) else {
            let cause = format!("no node is known to have the MAC {}", wanted.mac);
            self.push(
                Step::of("its node is looked up").at(device).broken(cause, "look at the problems of 'twillctl status'"),
            )?;
            return Err(Stop::Lost);
        };
        self.entry(entry, link.index)?;
        let Some(outer) = self.outer(entry) else {
            let cause = format!("{device} is not to be: the back end has changed");
            self.push(Step::of("it is put into UDP").at(device).broken(cause, repaired("its routes")))?;
            return Err(Stop::Lost);
        };
        self.wrap(device, &outer)?;
        let node = self.node_of(self.packet.destination).or_else(|| self.node_of(outer.destination)).cloned();
        Ok(node.map_or(End::Outside, |node| End::Leaves { node, outer: Some(outer) }))
    }

    fn entry(&mut self, wanted: &FdbEntry, index: u32) -> Onward<()> {
        let FdbEntry { device, mac, remote } = *wanted;
        let step = Step::of(format!("that MAC is at {remote}")).at(device);
        let found: Vec<_> = self.kernel.fdb(index)?.into_iter().filter(|found| found.mac == mac).collect();
        if found.iter().any(|found| found.remote == Some(remote) && found.plain) {
            return self.push(step.by(stands("fdb", wanted)));
        }
        let text = found.first().map(|found| {
            let to = found.remote.map(|remote| format!(" dst {remote}")).unwrap_or_default();
            format!("{mac} dev {device}{to}")
        });
        let cause = match text {
            Some(_) => format!("frames for {mac} are sent elsewhere than to {remote}"),
            None => format!("where {mac} is the device does not know, so it drops the packet without a word"),
        };
        self.push(step.by(differs("fdb", wanted, text)).broken(cause, repaired("the entry")))
    }

    fn outer(&self, entry: &FdbEntry) -> Option<Outer> {
        let LinkKind::Vxlan { vni, port, local } = self.known.desired.state.links.get(&entry.device)?.kind;
        Some(Outer { source: local, destination: entry.remote, vni, port })
    }

    /// The packet of UDP around it leaves by the underlay.
    fn wrap(&mut self, tunnel: IfName, outer: &Outer) -> Onward<()> {
        let Outer { source, destination, vni, port } = outer;
        let what = format!("put into UDP to {destination} port {port}, identifier {vni}");
        let step = Step::of(&what);
        let flow = Flow { source: Some(*source), destination: *destination, input: None };
        let decision = match self.kernel.look_up(flow)? {
            Found::Route(decision) => decision,
            Found::Refused(errno) => {
                let cause = format!(
                    "no route leads from {source} to the other node's underlay address {destination} ({errno})"
                );
                let fix =
                    "look at 'ip route get' and 'ip address show': the underlay's subnet or its router must be known";
                self.push(step.broken(cause, fix))?;
                return Err(Stop::Lost);
            }
        };
        let text = decided(self.kernel, &decision)?;
        let step = step.by(foreign("route", &text));
        let exits = self.exits(&decision.target)?;
        let first = exits.first().map(|(_, link)| link.clone()).filter(|link| link.name != tunnel && !decision.local);
        let Some(link) = first else {
            let cause = format!("the way to the other node's underlay address leads back here: {text}");
            self.push(step.broken(cause, "remove that route: a node's underlay must lie outside of the pools"))?;
            return Err(Stop::Lost);
        };
        let link = self.up(step.clone(), link.name, None, "the underlay")?;
        let overhead = self.overhead(Family::of(*destination));
        let room = decision.mtu.unwrap_or(link.mtu).min(link.mtu);
        let step = step.at(link.name).carries(room.saturating_sub(overhead));
        match self.packet.size.map(|size| size + overhead).filter(|length| *length > room) {
            Some(length) => {
                let cause = format!(
                    "with its header it has {length} bytes, and {} carries {room}: it leaves in fragments",
                    link.name
                );
                let fix = "let pods have an MTU that fits: 'mtu' in [backend], and new pods; or give the underlay a greater one";
                self.push(step.odd(cause, fix))
            }
            None => self.push(step),
        }
    }

    fn as_it_is(
        &mut self,
        input: Option<&Input>,
        decision: &Decision,
        exits: &[(Option<IpAddr>, SeenLink)],
    ) -> Onward<End> {
        let destination = self.packet.destination;
        let node = self.node_of(destination).cloned();
        let first = &exits[0].1;
        self.masqueraded(input, first.name)?;
        let hop = |(gateway, link): &(Option<IpAddr>, SeenLink)| match gateway {
            Some(gateway) => format!("{gateway} on {}", link.name),
            None => format!("{destination} on {}", link.name),
        };
        let what = match exits {
            [one] => format!("it leaves as it is, to {}", hop(one)),
            several => {
                let all: Vec<String> = several.iter().map(hop).collect();
                format!("it leaves as it is, by one of {}: {}", several.len(), all.join(", "))
            }
        };
        let room = exits.iter().map(|(_, link)| link.mtu).min().unwrap_or(first.mtu);
        let mut step = Step::of(&what).at(first.name).carries(decision.mtu.unwrap_or(room).min(room));
        for (_, link) in exits {
            if exits.len() > 1 && (!link.up || !link.carrier) {
                let cause = format!(
                    "{} is down or has no carrier: flows of this way are lost until the route is another",
                    link.name
                );
                step = step.odd(cause, format!("look at what {} is plugged into", link.name));
            } else {
                self.up(Step::of(&what), link.name, None, "the underlay")?;
            }
        }
        let odd = step.state == State::Odd;
        self.push(step)?;
        if !odd {
            self.path_mtu(decision, first.name)?;
        }
        self.fits(first.name, room)?;
        Ok(node.map_or(End::Outside, |node| End::Leaves { node, outer: None }))
    }

    /// What routers on the path have told of their MTU counts as the device's own.
    fn path_mtu(&mut self, decision: &Decision, device: IfName) -> Onward<()> {
        let Some(mtu) = decision.mtu else { return Ok(()) };
        let Some(size) = self.packet.size.filter(|size| *size > mtu) else { return Ok(()) };
        let node = &self.known.local.name;
        let cause = format!(
            "the packet has {size} bytes, and the way behind {device} carries {mtu}, by its route or as a router there has told: \
             node {node} drops it, and answers with {}",
            self.refusal()
        );
        let fix = "give the network between the nodes the MTU of their interfaces, or let pods have one that fits ('mtu' in [backend])";
        self.push(Step::of("it is too large").at(device).carries(mtu).broken(cause, fix))
    }

    /// What whoever drops a packet that is too large says to its sender (RFC 1191, RFC 8201).
    fn refusal(&self) -> &'static str {
        match self.family() {
            Family::V4 => "ICMP \"fragmentation needed\"",
            Family::V6 => "ICMPv6 \"packet too big\"",
        }
    }

    /// The packet is no larger than what a device, or the path behind it, takes.
    pub(super) fn fits(&mut self, device: IfName, mtu: u32) -> Onward<()> {
        let Some(size) = self.packet.size.filter(|size| *size > mtu) else { return Ok(()) };
        let node = &self.known.local.name;
        let cause = format!(
            "the packet has {size} bytes, and the MTU of {device} is {mtu}: node {node} drops it, and answers with {}",
            self.refusal()
        );
        let fix = "send smaller packets, or give the interfaces between nodes and pods a greater MTU ('mtu' in [backend], new pods)";
        self.push(Step::of("it is too large").at(device).carries(mtu).broken(cause, fix))
    }
}
