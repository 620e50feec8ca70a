//! What `twillctl trace` reports: the way of a packet as the nodes on it tell it, and of a node that does not answer what is expected of it.

use std::net::IpAddr;

use serde::Serialize;
use twill_cluster::View;
use twill_cluster::inquiry::client::Silence;
use twill_cluster::inquiry::trace::{Answer, End, Outer, Packet, State, Step};
use twill_conf::NodeName;
use twill_conf::cluster::Kind;

use super::Verdict;
use super::problems::{Problem, unheard};
use super::silences::remedy;
use super::untold::Untold;

/// All that was asked for: a path for each family that both ends have.
#[derive(Debug, Serialize)]
pub(crate) struct Trace {
    /// As it was named.
    pub(crate) source: String,
    /// As it was named, without its port.
    pub(crate) destination: String,
    pub(crate) paths: Vec<Path>,
    pub(crate) problems: Vec<Problem>,
    /// What is odd and stops no packet.
    pub(crate) notes: Vec<Problem>,
    /// What could not be told, and why.
    pub(crate) unknown: Vec<Untold>,
}

/// One end, in one family.
#[derive(Debug, Clone)]
pub(crate) struct Spot {
    /// As in "pod shop/till-0 (10.42.0.7)".
    pub(crate) title: String,
    /// Its address.
    pub(crate) ip: Option<IpAddr>,
    /// Where it is.
    pub(crate) node: Option<NodeName>,
    /// The host end, where it is a pod whose node has told.
    pub(crate) behind: Option<String>,
}

/// A packet of one family, there and back.
#[derive(Debug, Serialize)]
pub(crate) struct Path {
    /// Both ends in words.
    pub(crate) from: String,
    pub(crate) to: String,
    #[serde(flatten)]
    pub(crate) packet: Packet,
    /// "arrives", "leaves the cluster", "lost" or "unknown".
    pub(crate) there: &'static str,
    /// Of the reply, the same; absent where none can be traced.
    pub(crate) back: Option<&'static str>,
    /// The largest packet that passes there as far as the nodes on the way know, in bytes.
    pub(crate) mtu: Option<u32>,
    pub(crate) legs: Vec<Leg>,
    /// Of the reply.
    pub(crate) back_legs: Vec<Leg>,
}

/// What one node does.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Leg {
    pub(crate) node: NodeName,
    /// The node did not answer, and this is what is expected of it by the records.
    pub(crate) expected: Option<String>,
    /// The same, to be judged.
    #[serde(skip)]
    silence: Option<Silence>,
    pub(crate) steps: Vec<Step>,
    pub(crate) end: End,
}

impl Leg {
    /// What the node says.
    pub(crate) fn told(node: NodeName, answer: Answer) -> Self {
        Self { node, expected: None, silence: None, steps: answer.steps, end: answer.end }
    }

    fn expected(node: NodeName, silence: &Silence, steps: Vec<Step>) -> Self {
        Self { node, expected: Some(silence.to_string()), silence: Some(silence.clone()), steps, end: End::Unknown }
    }

    /// What is expected of a node that is silent, and sends.
    pub(crate) fn expected_to_send(
        node: NodeName,
        next: Option<&NodeName>,
        view: &View,
        to: Option<&Spot>,
        silence: &Silence,
    ) -> Self {
        let kind = view.config.as_ref().map(|conf| &conf.value.backend.kind);
        let by = match kind {
            Some(Kind::Vxlan(vxlan)) if vxlan.direct => "as it is on one subnet, else through the tunnel",
            Some(Kind::Vxlan(_)) => "through the tunnel",
            Some(Kind::HostGw) => "as it is, by that node's underlay address",
            Some(Kind::Bgp) => "by the route that BGP has learned",
            None => "by no back end, since there is no configuration",
        };
        let what = match (next, to) {
            (Some(next), _) => format!("it is to be routed to node {next}, {by}"),
            (None, Some(to)) if to.node.as_ref() == Some(&node) => format!("it is to be delivered to {}", to.title),
            _ => "it is to leave the cluster by the node's own routes".to_owned(),
        };
        Self::expected(node, silence, vec![expected(what, None)])
    }

    /// What is expected of a node that is silent, and receives.
    pub(crate) fn expected_to_receive(
        node: NodeName,
        from: &NodeName,
        outer: Option<&Outer>,
        to: Option<&Spot>,
        silence: &Silence,
    ) -> Self {
        let comes = match outer {
            Some(Outer { source, vni, port, .. }) => {
                format!("it is to come in from {from} ({source}) in UDP to port {port}, identifier {vni}")
            }
            None => format!("it is to come in as it is from {from}"),
        };
        let title = to.map_or("its destination", |to| to.title.as_str());
        let behind = to.and_then(|to| to.behind.clone());
        let steps = vec![expected(comes, None), expected(format!("it is to be delivered to {title}"), behind)];
        Self::expected(node, silence, steps)
    }
}

fn expected(what: String, device: Option<String>) -> Step {
    Step { device, what, objects: Vec::new(), mtu: None, state: State::Unknown, cause: None, fix: None }
}

impl Path {
    pub(crate) fn new(packet: Packet, from: &Spot, to: Option<&Spot>, legs: Vec<Leg>, back_legs: Vec<Leg>) -> Self {
        let title = to.map_or_else(|| packet.destination.to_string(), |to| to.title.clone());
        let to = packet.port.map_or(title.clone(), |port| format!("{title}, {port}"));
        let mtu = legs.iter().flat_map(|leg| &leg.steps).filter_map(|step| step.mtu).min();
        let back = (!back_legs.is_empty()).then(|| outcome(&back_legs));
        Self { from: from.title.clone(), to, packet, there: outcome(&legs), back, mtu, legs, back_legs }
    }

    fn all_legs(&self) -> impl Iterator<Item = (&'static str, &Leg)> {
        self.legs.iter().map(|leg| ("", leg)).chain(self.back_legs.iter().map(|leg| (", of the reply", leg)))
    }
}

fn outcome(legs: &[Leg]) -> &'static str {
    match legs.last().map(|leg| &leg.end) {
        Some(End::Delivered { .. }) => "arrives",
        Some(End::Outside) => "leaves the cluster",
        Some(End::Lost) => "lost",
        // A node that receives it is to be where it ends.
        Some(End::Leaves { .. }) => "lost",
        Some(End::Unknown) | None => "unknown",
    }
}

impl Trace {
    pub(crate) fn new(source: String, destination: String, paths: Vec<Path>) -> Self {
        let (mut problems, mut notes, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        for (of, leg) in paths.iter().flat_map(Path::all_legs) {
            let node = &leg.node;
            if let Some(silence) = &leg.silence {
                let what = format!("what node {node} does{of}: {silence}; what is told is what its records promise");
                unknown.push(Untold::new(what, remedy(node.as_str(), silence)));
                let dead = matches!(silence, Silence::Dead).then(|| unheard(node));
                problems.extend(dead.filter(|dead| !problems.contains(dead)));
                continue;
            }
            for step in &leg.steps {
                let problem = || {
                    Problem::new(
                        format!("node {node}{of}"),
                        step.cause.clone().unwrap_or_else(|| step.what.clone()),
                        step.fix.clone().unwrap_or_else(|| "look at the log of twilld there".to_owned()),
                    )
                };
                match step.state {
                    State::Good => {}
                    State::Odd => notes.push(problem()),
                    State::Broken => problems.push(problem()),
                    State::Unknown => unknown.push(problem().into()),
                }
            }
            if let End::Leaves { node: next, .. } = &leg.end
                && !paths.iter().flat_map(Path::all_legs).any(|(other, leg)| other == of && leg.node == *next)
            {
                let what = format!("it sends on to node {next} what it was to deliver");
                problems.push(Problem::new(
                    format!("node {node}{of}"),
                    what,
                    "look whether both follow etcd: 'twillctl status'",
                ));
            }
        }
        for list in [&mut problems, &mut notes] {
            list.dedup();
        }
        Self { source, destination, paths, problems, notes, unknown }
    }

    /// A packet that is lost is a problem, whatever else could not be told.
    pub(crate) fn verdict(&self) -> Verdict {
        let outcomes = || self.paths.iter().flat_map(|path| [Some(path.there), path.back]).flatten();
        if !self.problems.is_empty() || outcomes().any(|outcome| outcome == "lost") {
            Verdict::Problems
        } else if !self.unknown.is_empty() || outcomes().any(|outcome| outcome == "unknown") {
            Verdict::Unknown
        } else {
            Verdict::Good
        }
    }
}
