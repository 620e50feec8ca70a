//! What `twillctl test` says: which ways carry which packets, and what is wrong with those that do not.

use std::net::IpAddr;

use serde::Serialize;
use twill_cluster::inquiry::trial::Heard;
use twill_conf::NodeName;
use twill_fabric::path::verdict::NoWay;

use super::blame::{self, Found};
use super::plan::{Kind, ROUNDS, Result, Way};
use super::{Failure, divided, left};
use crate::report::problems::Problem;
use crate::report::untold::Untold;

/// All that was found.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Tested {
    /// The back end.
    pub(crate) backend: &'static str,
    /// The nodes whose pods have stood.
    pub(crate) nodes: Vec<NodeName>,
    /// How many nodes that are alive were left out.
    pub(crate) left_out: usize,
    pub(crate) ways: Vec<Tried>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) notes: Vec<Problem>,
    /// What could not be told.
    pub(crate) unknown: Vec<Untold>,
}

/// A way, and what became of its packets.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Tried {
    pub(crate) kind: Kind,
    pub(crate) from: NodeName,
    /// Absent outside.
    pub(crate) to: Option<NodeName>,
    /// `IPv4` or `IPv6`.
    pub(crate) family: String,
    /// Whereto.
    pub(crate) address: IpAddr,
    pub(crate) small: Packets,
    /// As long as may be.
    pub(crate) full: Packets,
    /// The pod's address that sent.
    pub(crate) source: Option<IpAddr>,
    /// By which address the pod that received heard it.
    pub(crate) saw: Option<IpAddr>,
    pub(crate) verdict: Verdict,
    /// Why the sender's kernel has sent none of them: it has no way there. An errno.
    pub(crate) no_way: Option<i32>,
    /// The same where it has one, and lets nothing out by it.
    pub(crate) unsent: Option<i32>,
}

/// Packets of a size.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Packets {
    /// In bytes, with their headers.
    pub(crate) bytes: u32,
    pub(crate) sent: usize,
    pub(crate) answered: usize,
    /// Half of the answers were faster, in microseconds.
    pub(crate) micros: Option<u32>,
}

/// What a way is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    /// All is as it should be.
    Passed,
    /// Some of the packets are lost.
    Lossy,
    /// Packets come by another address than the sender's.
    WrongSource,
    /// Only small packets come through.
    SmallOnly,
    /// Nothing comes through.
    Nothing,
}

/// What the report is made of.
#[derive(Debug)]
pub(crate) struct Evidence {
    pub(crate) ground: blame::Ground,
    pub(crate) nodes: Vec<NodeName>,
    pub(crate) left_out: usize,
    /// Nodes that have not done what they were asked for.
    pub(crate) failures: Vec<(NodeName, Failure)>,
    /// The ways, with what came back; nothing where the node did not tell.
    pub(crate) ways: Vec<(Way, Option<Result>)>,
    /// Nodes where pods are or may be left, and why.
    pub(crate) left: Vec<(NodeName, Failure)>,
    /// The operator has named the address outside.
    pub(crate) asked_outside: bool,
}

impl Tested {
    pub(crate) fn new(evidence: &Evidence) -> Self {
        let whole = |result: &&Result| result.is_whole();
        let tried = |(way, result): &(Way, Option<Result>)| Some(Tried::new(way, result.as_ref().filter(whole)?));
        let ways: Vec<Tried> = evidence.ways.iter().filter_map(tried).collect();
        let Found { mut problems, mut notes } = blame::blame(&ways, &evidence.ground, evidence.asked_outside);
        let mut unknown = untried(evidence);
        for (more, silent) in [left(&evidence.left), divided(&evidence.failures)] {
            problems.extend(more);
            unknown.extend(silent);
        }
        if evidence.left_out > 0 {
            let what = format!("{} more nodes are alive and were not tested", evidence.left_out);
            notes.push(Problem::new("nodes", what, "name others with --nodes, or take --all"));
        }
        let is_outside = |way: &&Tried| way.kind == Kind::PodToOutside;
        if !ways.is_empty() && ways.iter().find(is_outside).is_none() {
            let what = "no way to the outside was tried: the nodes have no default gateway that can be named";
            notes.push(Problem::new("outside", what, "name an address that answers pings with --outside"));
        }
        let backend = evidence.ground.backend;
        Self { backend, nodes: evidence.nodes.clone(), left_out: evidence.left_out, ways, problems, notes, unknown }
    }
}

/// What says nothing of the network, since it was not tried.
fn untried(evidence: &Evidence) -> Vec<Untold> {
    if evidence.ways.is_empty() && !evidence.nodes.is_empty() {
        let what =
            "whether packets come through: the pods have no address of the family that is wanted, so none was sent";
        return vec![Untold::new(what, "leave --family away, or give the cluster a pool of that family")];
    }
    let cut_short = evidence.ways.iter().filter(|(_, result)| result.as_ref().is_some_and(|result| !result.is_whole()));
    let mut nodes: Vec<&NodeName> = cut_short.map(|(way, _)| &way.from).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let line = |node: &NodeName| {
        let what = format!("node {node}: its part of the test ended before all packets were sent");
        Untold::new(what, "look at twilld there, and try again")
    };
    nodes.into_iter().map(line).collect()
}

impl Result {
    /// Whether all packets were sent, so that those that did not come back are missing.
    fn is_whole(&self) -> bool {
        [&self.small, &self.full].into_iter().all(|heard| heard.sent == ROUNDS)
    }
}

impl Tried {
    fn new(way: &Way, result: &Result) -> Self {
        let verdict = verdict(way, result);
        Self {
            kind: way.kind,
            from: way.from.clone(),
            to: way.to.clone(),
            family: way.family.to_string(),
            address: way.address,
            small: Packets::new(super::plan::SMALL, &result.small),
            full: Packets::new(way.full, &result.full),
            source: way.source,
            saw: result.small.saw.or(result.full.saw),
            verdict,
            no_way: result.small.no_way.filter(|_| verdict == Verdict::Nothing),
            unsent: result.small.unsent.filter(|_| verdict == Verdict::Nothing),
        }
    }

    /// What the sender's kernel says where it has sent nothing.
    pub(crate) fn unsent(&self) -> Option<NoWay> {
        NoWay::of(self.address, self.no_way, self.unsent)
    }

    /// As in `n1 to n2`.
    pub(crate) fn title(&self) -> String {
        match &self.to {
            Some(to) => format!("{} to {to}", self.from),
            None => format!("{} to {}", self.from, self.address),
        }
    }
}

impl Packets {
    fn new(bytes: u32, heard: &Heard) -> Self {
        let mut micros = heard.micros.clone();
        micros.sort_unstable();
        let median = micros.len().checked_sub(1).map(|last| micros[last / 2]);
        Self { bytes, sent: heard.sent.into(), answered: micros.len(), micros: median }
    }
}

fn verdict(way: &Way, result: &Result) -> Verdict {
    let Result { small, full } = result;
    if small.micros.is_empty() {
        // One that is answered although the small one is not was lucky.
        return if full.micros.is_empty() { Verdict::Nothing } else { Verdict::Lossy };
    }
    if full.micros.is_empty() {
        return Verdict::SmallOnly;
    }
    // Whom a node's packets come from is the kernel's choice; whom a pod's come from is not.
    match (way.kind, small.saw.or(full.saw)) {
        (Kind::PodToPod, Some(saw)) if way.source != Some(saw) => Verdict::WrongSource,
        _ if [small, full].into_iter().any(|heard| heard.micros.len() < heard.sent.into()) => Verdict::Lossy,
        _ => Verdict::Passed,
    }
}

#[cfg(test)]
mod tests;
