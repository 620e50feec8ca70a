//! Which packets are sent in a test: from where, whereto, how large, and what a way is called.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;
use twill_cluster::inquiry::trial::{By, Heard, MOST_SHOTS, Opened, Place, Shot};
use twill_cluster::record::Underlay;
use twill_conf::NodeName;
use twill_fabric::family::Family;

/// The size of a small packet, in bytes.
pub(crate) const SMALL: u32 = 100;
/// How often each way is tried.
pub(crate) const ROUNDS: u8 = 3;

/// What a way leads from and to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// From a pod to a pod, of another node or of the same.
    PodToPod,
    /// From a pod to a node.
    PodToNode,
    /// From a node to a pod.
    NodeToPod,
    /// From a pod to an address outside.
    PodToOutside,
    /// From a node to a node: what the others are compared with.
    NodeToNode,
    /// From a node to an address outside, for the same.
    NodeToOutside,
}

impl Kind {
    /// As in a heading.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::PodToPod => "pod to pod",
            Self::PodToNode => "pod to node",
            Self::NodeToPod => "node to pod",
            Self::PodToOutside => "pod to outside",
            Self::NodeToNode => "node to node",
            Self::NodeToOutside => "node to outside",
        }
    }

    /// Whether it is tried for its own sake, not for others to be compared with.
    pub(crate) fn is_case(self) -> bool {
        !matches!(self, Self::NodeToNode | Self::NodeToOutside)
    }

    fn place(self) -> Place {
        match self {
            Self::PodToPod | Self::PodToNode | Self::PodToOutside => Place::Pod(0),
            Self::NodeToPod | Self::NodeToNode | Self::NodeToOutside => Place::Node,
        }
    }

    fn by(self) -> By {
        if matches!(self, Self::PodToPod | Self::NodeToPod) { By::Pod } else { By::Kernel }
    }
}

/// A way that is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) kind: Kind,
    pub(crate) from: NodeName,
    /// Absent outside.
    pub(crate) to: Option<NodeName>,
    pub(crate) family: Family,
    /// Whereto.
    pub(crate) address: IpAddr,
    /// The sender's own, where it is a pod.
    pub(crate) source: Option<IpAddr>,
    /// How long a large packet is, in bytes.
    pub(crate) full: u32,
}

/// The two shots of a way, with what came back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Result {
    pub(crate) small: Heard,
    pub(crate) full: Heard,
}

/// What the ways are made of.
#[derive(Debug)]
pub(crate) struct Ground<'a> {
    /// The nodes whose pods stand.
    pub(crate) opened: &'a BTreeMap<NodeName, Opened>,
    /// The addresses of nodes.
    pub(crate) underlays: &'a BTreeMap<NodeName, Underlay>,
    /// The families that are wanted.
    pub(crate) families: &'a [Family],
    /// How long large packets are, where the operator says so.
    pub(crate) size: Option<u32>,
    /// The address outside, where the operator says so.
    pub(crate) outside: Option<IpAddr>,
}

impl Ground<'_> {
    /// Where the size that the operator wants is more than pods can send, and how much these can.
    pub(crate) fn too_small(&self) -> Option<(&NodeName, u32)> {
        let pods = self.opened.iter().flat_map(|(node, opened)| opened.pods.iter().map(move |pod| (node, pod.mtu)));
        pods.min_by_key(|(_, mtu)| *mtu).filter(|(_, mtu)| self.size.is_some_and(|size| size > *mtu))
    }

    /// All ways, in the order of reports.
    pub(crate) fn ways(&self) -> Vec<Way> {
        let mut ways = Vec::new();
        for family in self.families {
            for from in self.opened.keys() {
                for to in self.opened.keys() {
                    ways.extend(self.between(from, to, *family));
                }
                ways.extend(self.outside(from, *family));
            }
        }
        ways.sort_by_key(|way| (way.kind, way.family));
        ways
    }

    fn between(&self, from: &NodeName, to: &NodeName, family: Family) -> Vec<Way> {
        // A pod to itself sends nothing: on one node it is its neighbour.
        let far = self.pod(to, if from == to { 1 } else { 0 }, family);
        let (near, near_of_to) = (self.pod(from, 0, family), self.pod(to, 0, family));
        let node = self.underlays.get(to).and_then(|ends| family.underlay(ends));
        let mtu = |node| self.opened.get(node).and_then(|opened: &Opened| opened.pods.first()).map_or(0, |pod| pod.mtu);
        let full = self.size.unwrap_or_else(|| mtu(from).min(mtu(to)));
        let way = |kind, address: Option<IpAddr>, source| {
            Some(Way { kind, from: from.clone(), to: Some(to.clone()), family, address: address?, source, full })
        };
        let pods = [
            near.and_then(|_| way(Kind::PodToPod, far, near)),
            near.and_then(|_| way(Kind::PodToNode, node, near)),
            way(Kind::NodeToPod, near_of_to, None),
        ];
        let nodes = if from == to { None } else { way(Kind::NodeToNode, node, None) };
        pods.into_iter().flatten().chain(nodes).collect()
    }

    fn outside(&self, from: &NodeName, family: Family) -> Vec<Way> {
        let Some(opened) = self.opened.get(from) else { return Vec::new() };
        let of_family = |address: &IpAddr| Family::of(*address) == family;
        let address = match self.outside {
            Some(address) => Some(address).filter(of_family),
            None => opened.gateways.iter().copied().find(of_family),
        };
        let (Some(address), Some(source)) = (address, self.pod(from, 0, family)) else { return Vec::new() };
        let full = self.size.unwrap_or_else(|| opened.pods.first().map_or(0, |pod| pod.mtu));
        let way = |kind, source| Way { kind, from: from.clone(), to: None, family, address, source, full };
        vec![way(Kind::PodToOutside, Some(source)), way(Kind::NodeToOutside, None)]
    }

    fn pod(&self, node: &NodeName, number: usize, family: Family) -> Option<IpAddr> {
        let addresses = &self.opened.get(node)?.pods.get(number)?.addresses;
        addresses.iter().copied().find(|address| Family::of(*address) == family)
    }
}

/// A request to a node: from there, so many ways, by their place in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Volley {
    pub(crate) node: NodeName,
    pub(crate) from: Place,
    pub(crate) ways: Vec<usize>,
    /// Two for each way: a small one and a full one.
    pub(crate) shots: Vec<Shot>,
}

/// The requests by which ways are tried, in rounds: each node has one at the most in each.
pub(crate) fn volleys(ways: &[Way]) -> Vec<Vec<Volley>> {
    let mut by_place: BTreeMap<(&NodeName, Place), Vec<usize>> = BTreeMap::new();
    for (number, way) in ways.iter().enumerate() {
        by_place.entry((&way.from, way.kind.place())).or_default().push(number);
    }
    let mut rounds: Vec<Vec<Volley>> = Vec::new();
    let mut counts: BTreeMap<&NodeName, usize> = BTreeMap::new();
    for ((node, from), numbers) in by_place {
        for some in numbers.chunks(MOST_SHOTS / 2) {
            let shots = some.iter().flat_map(|number| {
                let Way { kind, address, full, .. } = &ways[*number];
                [SMALL, *full].map(|size| Shot { to: *address, size, by: kind.by() })
            });
            let volley = Volley { node: node.clone(), from, ways: some.to_vec(), shots: shots.collect() };
            let count = counts.entry(node).or_default();
            if rounds.len() == *count {
                rounds.push(Vec::new());
            }
            rounds[*count].push(volley);
            *count += 1;
        }
    }
    rounds
}

/// What came back of a volley, as the results of its ways; `None` where it cannot be the answer to it.
pub(crate) fn results(volley: &Volley, heard: &[Heard]) -> Option<Vec<(usize, Result)>> {
    let may_be = |heard: &Heard| heard.sent <= ROUNDS && heard.micros.len() <= usize::from(heard.sent);
    if heard.len() != volley.shots.len() || !heard.iter().all(may_be) {
        return None;
    }
    let pairs = heard.chunks_exact(2).map(|pair| Result { small: pair[0].clone(), full: pair[1].clone() });
    Some(volley.ways.iter().copied().zip(pairs).collect())
}
