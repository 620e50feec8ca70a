//! The rules that a packet meets on its way through the node: of our table, of published ports, and of others at the forward hook.

use std::net::IpAddr;

use twill_cluster::inquiry::trace::{Port, Step, Transport};
use twill_linux::forward::{Barrier, Passage};
use twill_linux::ports::Protocol;
use twill_linux::state::PROTOCOL_POD;
use twill_linux::table::route::{Flow, Found};
use twill_linux::{IfName, ports};

use super::step::{Words as _, differs, foreign, repaired, stands};
use super::{Input, Kernel, Onward, Walk};
use crate::family::Family;
use crate::firewall::TABLE;

impl<K: Kernel> Walk<'_, K> {
    /// A step that is done by our table, where it stands.
    pub(super) fn guarded(&mut self, step: Step) -> Onward<()> {
        if self.kernel.has_firewall()? {
            return self.push(step);
        }
        let table = format!("table inet {TABLE}");
        let cause = format!("{table} is missing: the packet passes, and so would a forged one");
        self.push(step.by(differs("firewall", table, None)).odd(cause, repaired("it")))
    }

    /// What no pod may send, whatever its source.
    pub(super) fn unforbidden(&mut self) -> Onward<()> {
        let Some(port) = self.packet.port else { return Ok(()) };
        let destination = self.packet.destination;
        let local = self.is_own(destination)?;
        let Some(cause) = self.verdicts().forbidden(destination, local, port) else { return Ok(()) };
        let fix = "nothing is wrong: no workload needs that port of a node";
        let cause = format!("the firewall drops it: {cause}");
        self.push(
            Step::of("the firewall looks at its port")
                .by(stands("firewall", format!("table inet {TABLE}")))
                .broken(cause, fix),
        )
    }

    /// A port of this node that is published leads to a pod.
    pub(super) fn translate(&mut self, input: Option<&Input>) -> Onward<()> {
        let (Some(port), false) = (self.packet.port, self.reply) else { return Ok(()) };
        let destination = self.packet.destination;
        if !self.is_own(destination)? {
            return Ok(());
        }
        let same = |published: &ports::Port| {
            let host =
                published.host.map_or(published.pod.is_ipv6() == destination.is_ipv6(), |host| host == destination);
            host && (transport(published.protocol), published.host_port) == (port.protocol, port.number)
        };
        let Some(published) = self.kernel.ports()?.into_iter().find(same) else { return Ok(()) };
        let (pod, number) = (published.pod.ip(), published.pod.port());
        let step = Step::of(format!("the node's {port} is published: it is turned to {}", published.pod));
        let step = input.map_or(step.clone(), |input| step.at(input.link.name));
        self.packet.destination = pod;
        self.packet.port = Some(Port { number, ..port });
        self.push(step.by(foreign("port", published)))
    }

    /// Chains of others that drop what is forwarded to or from pods.
    pub(super) fn forwarded(&mut self, input: Option<&Input>, exit: IfName) -> Onward<()> {
        let (Some(input), Some(passage)) = (input, self.known.desired.passage.clone()) else { return Ok(()) };
        let to_pod = self.pod_behind(exit).is_some();
        if !input.pod && !to_pod {
            return Ok(());
        }
        let family = if self.family() == Family::V4 { "ip" } else { "ip6" };
        let shut = |barrier: &Barrier| {
            let passes = |is: bool, direction: &str| is && !barrier.closed.contains(&direction);
            let of_family = barrier.place.family == family || barrier.place.family == "inet";
            of_family && !passes(input.pod, "iifname") && !passes(to_pod, "oifname")
        };
        let barriers = self.kernel.barriers(&passage)?;
        let step = Step::of("it is forwarded").at(exit);
        let Some(barrier) = barriers.iter().find(|barrier| shut(barrier)) else { return self.push(step) };
        let place = &barrier.place;
        let cause = format!("{place} drops it: {}, and no rule of it accepts pods' interfaces", barrier.how);
        let step = step.by(foreign("firewall", place));
        match self.reply {
            // Such chains nearly always accept what belongs to a connection, which only their rules in full would tell.
            true => self.push(step.odd(
                format!("{cause}, unless one accepts what belongs to a known connection"),
                opening(barrier, &passage),
            )),
            false => self.push(step.broken(cause, opening(barrier, &passage))),
        }
    }

    /// On its way out a pod's packet may take the node's address.
    pub(super) fn masqueraded(&mut self, input: Option<&Input>, exit: IfName) -> Onward<()> {
        let (Some(source), destination) = (self.packet.source, self.packet.destination) else { return Ok(()) };
        let by_pods = input.is_some_and(|input| input.pod) || self.pod_of(source).is_some();
        if self.reply || !by_pods || self.pod_behind(exit).is_some() {
            return Ok(());
        }
        if let Some(why) = self.verdicts().unmasqueraded(source, destination) {
            return self.push(Step::of(format!("it keeps its source {source}: {why}")).at(exit));
        }
        let flow = Flow { source: None, destination, input: None };
        let own = match self.kernel.look_up(flow)? {
            Found::Route(decision) => decision.source,
            Found::Refused(_) => None,
        };
        let own_name = own.map_or_else(|| format!("an address of {exit}"), |own: IpAddr| own.to_string());
        let table = format!("table inet {TABLE}");
        let step = Step::of(format!("it takes the node's address: {source} becomes {own_name}")).at(exit);
        if !self.kernel.has_firewall()? {
            let cause = format!("{table} is missing, so it leaves as {source}, to which nobody outside knows a way");
            let what = "it is to take the node's address";
            let step = Step::of(what).at(exit).by(differs("firewall", table, None));
            return self.push(step.broken(cause, repaired("the table")));
        }
        self.packet.source = own.or(self.packet.source);
        self.push(step.by(stands("firewall", table)))
    }

    /// Who has an address, in words.
    pub(super) fn whose(&self, ip: IpAddr) -> String {
        let me = &self.known.local.name;
        match self.block_of(ip) {
            Some((block, node)) if node == me => {
                format!("it lies in the block {block} of this node, and no pod has it")
            }
            Some((block, node)) => format!("it lies in the block {block} of node {node}"),
            None => match self.site.conf.pools.iter().find(|pool| pool.cidr.contains(ip)) {
                Some(pool) => format!("it lies in pool {}, and in nobody's block", pool.name),
                None => "it lies in no pool".to_owned(),
            },
        }
    }
}

/// Whether a route leads to a pod.
pub(super) fn is_to_pod(protocol: u8) -> bool {
    protocol == PROTOCOL_POD
}

fn transport(protocol: Protocol) -> Transport {
    match protocol {
        Protocol::Tcp => Transport::Tcp,
        Protocol::Udp => Transport::Udp,
        Protocol::Sctp => Transport::Sctp,
    }
}

fn opening(barrier: &Barrier, passage: &Passage) -> String {
    let (place, interfaces) = (&barrier.place, passage.interfaces);
    match &barrier.entrance {
        Some(_) if !passage.open => "set open_forward = true in [firewall] of the cluster configuration".to_owned(),
        _ => {
            let rule = |by: &&str| format!("'nft insert rule {place} {by} \"{interfaces}\" accept'");
            barrier.closed.iter().map(rule).collect::<Vec<_>>().join(" and ")
        }
    }
}
