//! What `twillctl bgp` reports: the speakers' own records, and what is wrong with their sessions.

mod trouble;

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use serde::Serialize;
use twill_cluster::inquiry::bgp::{Explanation, LeftAlone, Neighbour, Peer, PeerPage, Route, State};
use twill_cluster::inquiry::client::Answers;
use twill_cluster::record::Told;
use twill_conf::NodeName;

use super::problems::{self, Problem};
use super::silences::remedy;
use super::untold::Untold;

/// The sessions of one node, or of all.
#[derive(Debug, Serialize)]
pub(crate) struct Peers {
    /// Nodes that were asked.
    pub(crate) nodes: usize,
    /// Those of them that answered.
    pub(crate) answered: usize,
    /// All their sessions.
    pub(crate) sessions: usize,
    /// Those of them that are up.
    pub(crate) up: usize,
    /// Those that were asked for.
    pub(crate) peers: Vec<PeerRow>,
    /// Peers of the configuration with which nodes have no session and try none.
    pub(crate) left_alone: Vec<AloneRow>,
    pub(crate) problems: Vec<Problem>,
    /// What could not be looked at, and why.
    pub(crate) unknown: Vec<Untold>,
}

/// A session, as one of its ends sees it.
#[derive(Debug, Serialize)]
pub(crate) struct PeerRow {
    /// Which end that is.
    pub(crate) node: NodeName,
    /// The other one.
    pub(crate) peer: Peer,
}

/// A peer that a node does not speak with.
#[derive(Debug, Serialize)]
pub(crate) struct AloneRow {
    /// Which node.
    pub(crate) node: NodeName,
    /// The peer.
    pub(crate) peer: LeftAlone,
}

/// The routes that a node uses.
#[derive(Debug, Serialize)]
pub(crate) struct Routes {
    pub(crate) node: NodeName,
    /// Only what lies inside of this was asked for; absent, as the next, where all was.
    pub(crate) inside: Option<IpNetwork>,
    /// Only what this peer has announced.
    pub(crate) peer: Option<String>,
    pub(crate) routes: Vec<Route>,
}

/// Why a prefix is as it is on a node.
#[derive(Debug, Serialize)]
pub(crate) struct Explained {
    pub(crate) node: NodeName,
    /// What was asked for.
    pub(crate) asked: IpNetwork,
    /// The prefix that covers it, with its routes and what is told of them.
    #[serde(flatten)]
    pub(crate) explanation: Explanation,
}

impl Peers {
    /// Of what the nodes said. Only sessions that are down are listed where `only_down`; all are counted.
    pub(crate) fn new(answers: Answers<PeerPage>, only_down: bool) -> Self {
        let mut report = Self {
            nodes: answers.len(),
            answered: 0,
            sessions: 0,
            up: 0,
            peers: Vec::new(),
            left_alone: Vec::new(),
            problems: Vec::new(),
            unknown: Vec::new(),
        };
        let mut troubles: BTreeMap<NodeName, Vec<Told>> = BTreeMap::new();
        for (node, answer) in answers {
            match answer {
                Ok(page) => {
                    let of_sessions = page.peers.iter().filter_map(trouble::of);
                    troubles.insert(node.clone(), of_sessions.chain(page.troubles).collect());
                    let alone = |peer| AloneRow { node: node.clone(), peer };
                    report.left_alone.extend(page.left_alone.into_iter().map(alone));
                    report.take(&node, page.peers, only_down);
                }
                Err(why) => {
                    let what = format!("what the speaker of node {node} knows: {why}");
                    report.unknown.push(Untold::new(what, remedy(node.as_str(), &why)));
                }
            }
        }
        report.problems = problems::told(&troubles);
        report
    }

    fn take(&mut self, node: &NodeName, peers: Vec<Peer>, only_down: bool) {
        self.answered += 1;
        self.sessions += peers.len();
        self.up += peers.iter().filter(|peer| is_up(peer)).count();
        let wanted = peers.into_iter().filter(|peer| !(only_down && is_up(peer)));
        self.peers.extend(wanted.map(|peer| PeerRow { node: node.clone(), peer }));
    }
}

impl Explained {
    /// Whether packets to what was asked for go by a route of BGP's at all.
    pub(crate) fn is_used(&self) -> bool {
        self.explanation.used.is_some()
    }
}

fn is_up(peer: &Peer) -> bool {
    peer.state == State::Established
}

/// How a peer is called in a sentence.
pub(crate) fn title(neighbour: &Neighbour) -> String {
    let Neighbour { address, node, router } = neighbour;
    match (node, router) {
        (Some(node), _) => format!("node {node} ({address})"),
        (None, Some(router)) => format!("peer {router} ({address})"),
        (None, None) => address.to_string(),
    }
}

#[cfg(test)]
mod tests;
