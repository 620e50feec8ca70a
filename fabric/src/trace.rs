//! The way of a packet on this node, step by step: what shall happen to it by what [`desired`](crate::desired) made of the view, and what the
//! kernel does with it as it stands.
//!
//! Nothing is reckoned anew here. Which way leads to a node says the [`Site`], which routes, neighbours and entries shall stand the
//! [`Desired`] state, what the firewall does (`firewall::verdict`), beside its rules. The kernel is asked through
//! [`Kernel`] for its own lookup of the packet and for the objects that it goes by, so that all of this is a function of what it says. The
//! first step that is broken is the last one.
//!
//! `route` compares the kernel's choice with the desired route, `exits` follows it out of the node: to a pod, into the tunnel, as it is;
//! `entry` is how the packet comes in; `forwarding` has the rules that it meets; `step` the words.

mod entry;
mod exits;
mod forwarding;
mod route;
mod step;

use std::net::IpAddr;

use twill_cluster::View;
use twill_cluster::inquiry::trace::{Answer, End, Half, Outer, Packet, Question, State, Step};
use twill_conf::NodeName;
use twill_ipam::Block;
use twill_linux::arrival::{Arrival, Shut};
use twill_linux::forward::{Barrier, Passage};
use twill_linux::ports::Port;
use twill_linux::table::SeenLink;
use twill_linux::table::fdb::SeenFdbEntry;
use twill_linux::table::neighbour::SeenNeighbour;
use twill_linux::table::route::{Flow, Found, SeenRoute};
use twill_linux::{Error, IfName};

use crate::backend::{Roll, Site};
use crate::family::Family;
use crate::firewall::Verdicts;
use crate::{Desired, Local, Pod, Reckoning};
use step::Words as _;

/// What the kernel has, as it stands in this moment. Errors are those of a kernel that could not be read.
pub trait Kernel {
    /// What it would do with a packet.
    fn look_up(&mut self, flow: Flow) -> Result<Found, Error>;
    /// The link of that name.
    fn link(&mut self, name: IfName) -> Result<Option<SeenLink>, Error>;
    /// The link of that number.
    fn link_at(&mut self, index: u32) -> Result<Option<SeenLink>, Error>;
    /// The neighbours of a link.
    fn neighbours(&mut self, index: u32) -> Result<Vec<SeenNeighbour>, Error>;
    /// The FDB entries of a VXLAN device.
    fn fdb(&mut self, index: u32) -> Result<Vec<SeenFdbEntry>, Error>;
    /// The routes of the main table that an address lies in; others may be among them. Asked of nothing else than the packet's
    /// destination: that of the question, or the pod that a published port turns it to.
    fn routes(&mut self, destination: IpAddr) -> Result<&[SeenRoute], Error>;
    /// Whether the firewall's table is there.
    fn has_firewall(&mut self) -> Result<bool, Error>;
    /// The chains of others that drop what is to be let through.
    fn barriers(&mut self, passage: &Passage) -> Result<Vec<Barrier>, Error>;
    /// The chains of others that are sure to drop what arrives: asked of nothing else than the [`arrival`] of the question.
    fn shut(&mut self, arrival: Arrival) -> Result<Vec<Shut>, Error>;
    /// The published ports.
    fn ports(&mut self) -> Result<Vec<Port>, Error>;
}

/// How the tunnel's packet comes to this node, where the packet of a question comes in one: what [`Kernel::shut`] is asked about.
pub fn arrival(question: &Question) -> Option<Arrival> {
    match &question.half {
        Half::Receives { outer: Some(outer), .. } => Some(arrival_of(outer)),
        _ => None,
    }
}

fn arrival_of(outer: &Outer) -> Arrival {
    Arrival { ipv6: outer.destination.is_ipv6(), port: outer.port }
}

/// What this node knows.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The cluster.
    pub view: &'a View,
    /// This node.
    pub local: &'a Local,
    /// What shall stand on it by that.
    pub desired: &'a Desired,
    /// What that was made of.
    pub reckoning: &'a Reckoning,
}

/// Tells this node's half of the way of a packet; `None` where the cluster has no configuration.
pub fn explain<K: Kernel>(known: &Known<'_>, kernel: &mut K, question: &Question) -> Option<Answer> {
    let (site, roll) = known.reckoning.known()?;
    let Question { packet, half, reply } = question.clone();
    let mut walk = Walk { known: *known, site, roll, kernel, steps: Vec::new(), packet, reply };
    let end = match walk.go(&half) {
        Ok(end) => end,
        Err(Stop::Lost) => End::Lost,
        Err(Stop::Unseen(error)) => {
            let fix = "look whether 'ip' and 'nft' work on this machine";
            let step = Step::of("the kernel could not be asked").odd(error.to_string(), fix);
            walk.steps.push(Step { state: State::Unknown, ..step });
            End::Unknown
        }
    };
    Some(Answer { steps: walk.steps, end, packet: walk.packet, revision: known.view.revision })
}

/// Why a walk is over before its end.
#[derive(Debug)]
enum Stop {
    /// The last step is broken.
    Lost,
    /// The kernel could not be read.
    Unseen(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Unseen(error)
    }
}

type Onward<T> = Result<T, Stop>;

/// How a packet came in.
#[derive(Debug, Clone)]
struct Input {
    link: SeenLink,
    /// It is a pod's host end.
    pod: bool,
}

/// A packet on its way through the node.
struct Walk<'a, K> {
    known: Known<'a>,
    site: &'a Site,
    roll: &'a Roll,
    kernel: &'a mut K,
    steps: Vec<Step>,
    packet: Packet,
    reply: bool,
}

impl<'a, K: Kernel> Walk<'a, K> {
    fn go(&mut self, half: &Half) -> Onward<End> {
        let input = match half {
            Half::Sends => self.begin()?,
            Half::Receives { from, outer } => Some(self.arrive(from, outer.as_ref())?),
        };
        self.translate(input.as_ref())?;
        let decision = self.route(input.as_ref())?;
        self.leave(input.as_ref(), &decision)
    }

    fn family(&self) -> Family {
        Family::of(self.packet.destination)
    }

    fn verdicts(&self) -> Verdicts<'a> {
        Verdicts { site: self.site, state: &self.known.desired.state }
    }

    /// The attached pod that has an address.
    fn pod_of(&self, ip: IpAddr) -> Option<&'a Pod> {
        self.known.local.pods.iter().find(|pod| pod.addresses.contains(&ip))
    }

    fn pod_behind(&self, host: IfName) -> Option<&'a Pod> {
        self.known.local.pods.iter().find(|pod| pod.host == host)
    }

    /// The block that an address lies in, and whose it is.
    fn block_of(&self, ip: IpAddr) -> Option<(Block, &'a NodeName)> {
        let view: &'a View = self.known.view;
        let found = view.blocks.iter().filter(|(block, _)| block.contains(ip));
        let narrowest = found.max_by_key(|(block, _)| block.cidr().prefix())?;
        Some((*narrowest.0, &narrowest.1.value.node))
    }

    /// The other node that an address is of: that of its block, or the one whose underlay it is.
    fn node_of(&self, ip: IpAddr) -> Option<&'a NodeName> {
        let of_block = self.block_of(ip).map(|(_, node)| node);
        let view: &'a View = self.known.view;
        let has = |ends: &twill_cluster::record::Underlay| {
            Family::ALL.into_iter().any(|family| family.underlay(ends) == Some(ip))
        };
        let of_underlay = || view.nodes.iter().find(|(_, record)| has(&record.value.underlay)).map(|(name, _)| name);
        of_block.or_else(of_underlay).filter(|name| **name != self.known.local.name)
    }

    /// Whether it is delivered to this machine.
    fn is_own(&mut self, ip: IpAddr) -> Onward<bool> {
        let flow = Flow { source: None, destination: ip, input: None };
        Ok(matches!(self.kernel.look_up(flow)?, Found::Route(decision) if decision.local))
    }

    fn push(&mut self, step: Step) -> Onward<()> {
        let lost = step.state == State::Broken;
        self.steps.push(step);
        if lost { Err(Stop::Lost) } else { Ok(()) }
    }
}
