//! What answers, and their absence, mean: a pure function from what was heard to what an operator is told.

use std::collections::BTreeMap;

use twill_cluster::record::Told;
use twill_conf::NodeName;
use twill_fabric::path::{Inner, Target};

/// So often in a row a node must look alike before it is told: a single time may be a restart.
const TWICE: u8 = 2;

/// Which questions were answered by an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Through {
    /// A small ping.
    pub(super) small: bool,
    /// A ping of the pods' MTU.
    pub(super) full: bool,
    /// A datagram to a port that nobody listens at.
    pub(super) refusal: bool,
}

/// What was heard of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heard {
    /// By its underlay address.
    pub(super) outer: Through,
    /// Through the tunnel, where that is the way to its pods.
    pub(super) inner: Option<Through>,
}

/// How it is about the way to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing is known to be wrong.
    Good,
    /// Nothing comes back by any way.
    Silent,
    /// What is sent as it is comes back, and nothing that is encapsulated.
    NotThrough,
    /// Only small packets come back.
    SmallOnly,
    /// Through the tunnel only what has its checksums by software comes back.
    Checksums,
}

/// What [`Verdict::word`] may be.
pub const FINDINGS: [&str; 5] = [GOOD, "silent", "not_through", "small_only", "checksums"];
/// That of a way of which nothing is known to be wrong.
pub const GOOD: &str = "good";

impl Verdict {
    /// A word for it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Good => GOOD,
            Self::Silent => FINDINGS[1],
            Self::NotThrough => FINDINGS[2],
            Self::SmallOnly => FINDINGS[3],
            Self::Checksums => FINDINGS[4],
        }
    }
}

impl Heard {
    /// What it means.
    pub(super) fn verdict(&self) -> Verdict {
        let Self { outer, inner } = *self;
        let way = inner.unwrap_or(outer);
        let any = |through: Through| through.small || through.full || through.refusal;
        match (way.small, inner) {
            (true, _) if !way.full => Verdict::SmallOnly,
            // Only where the same is answered beside the tunnel: a firewall of the node may refuse it in silence.
            (true, Some(inner)) if !inner.refusal && outer.refusal => Verdict::Checksums,
            (true, _) => Verdict::Good,
            // A node that answers no pings, but answers.
            (false, _) if any(way) => Verdict::Good,
            (false, Some(_)) if any(outer) => Verdict::NotThrough,
            (false, _) => Verdict::Silent,
        }
    }
}

/// What was found of each node, last and how often in a row.
#[derive(Debug)]
pub(super) struct Judgements {
    /// Who asks.
    me: NodeName,
    nodes: BTreeMap<NodeName, Judgement>,
}

#[derive(Debug)]
struct Judgement {
    verdict: Verdict,
    times: u8,
    told: Option<Told>,
}

impl Judgements {
    /// Of a node that has asked nobody yet.
    pub(super) fn new(me: NodeName) -> Self {
        Self { me, nodes: BTreeMap::new() }
    }

    /// Takes what was heard of a node; whether it is mended. `mtu`: of the pods, in bytes.
    pub(super) fn take(&mut self, target: &Target, mtu: u32, heard: &Heard) -> bool {
        let verdict = heard.verdict();
        if verdict == Verdict::Good {
            return self.nodes.remove(&target.node).is_some();
        }
        let judgement = self.nodes.entry(target.node.clone()).or_insert(Judgement { verdict, times: 0, told: None });
        if judgement.verdict != verdict {
            (judgement.verdict, judgement.times) = (verdict, 0);
        }
        judgement.times = judgement.times.saturating_add(1);
        if judgement.times >= TWICE {
            judgement.told = Some(tell(verdict, &self.me, target, mtu));
        }
        false
    }

    /// Whether something was wrong with it last.
    pub(super) fn suspects(&self, node: &NodeName) -> bool {
        self.nodes.contains_key(node)
    }

    /// Forgets nodes that are gone.
    pub(super) fn keep(&mut self, is_there: impl Fn(&NodeName) -> bool) {
        self.nodes.retain(|node, _| is_there(node));
    }

    /// What is known for certain of each node that is not good.
    pub(super) fn faults(&self) -> BTreeMap<NodeName, &'static str> {
        let certain = self.nodes.iter().filter(|(_, judgement)| judgement.told.is_some());
        certain.map(|(node, judgement)| (node.clone(), judgement.verdict.word())).collect()
    }

    /// What is to be told, by the names of the nodes.
    pub(super) fn told(&self) -> Vec<Told> {
        self.nodes.values().filter_map(|judgement| judgement.told.clone()).collect()
    }
}

fn tell(verdict: Verdict, me: &NodeName, target: &Target, mtu: u32) -> Told {
    let Target { node, outer, inner } = target;
    let (overhead, port) = inner.map_or((0, 0), |Inner { overhead, port, .. }| (overhead, port));
    let (what, fix) = match verdict {
        Verdict::Good => (format!("{node} answers"), "nothing is to be done".to_owned()),
        Verdict::Silent => (
            format!("{node} ({outer}) does not answer, neither at its underlay address nor at its pods'"),
            format!(
                "is the machine on, and the network between {me} and {node} whole? One that answers no ping looks the same: \
                 icmp_echo_ignore_all on {node}, or a firewall"
            ),
        ),
        Verdict::NotThrough => (
            format!("{node} ({outer}) answers, but not through the tunnel: encapsulated packets do not arrive"),
            format!(
                "let UDP port {port} pass in every firewall between {me} and {node}, and on both; then compare vni and port \
                 of vxlan.twill on both, look at rp_filter of the interfaces between nodes, and try \
                 checksum_offload = \"off\""
            ),
        ),
        Verdict::SmallOnly => (
            format!("small packets to {node} ({outer}) come back, and those of {mtu} bytes, the MTU of pods, do not"),
            match overhead {
                0 => format!("the network between must carry {mtu} bytes; or set mtu in [backend] to what it carries"),
                _ => format!(
                    "the network between must carry {} bytes, {overhead} of them the tunnel's; or set mtu in [backend] to \
                     what it carries, less {overhead}",
                    mtu + overhead
                ),
            },
        ),
        Verdict::Checksums => (
            format!("pings to {node} ({outer}) come back through the tunnel, and UDP comes back beside it only"),
            format!(
                "either a network card computes wrong checksums in tunnels, and checksum_offload = \"off\" in [backend] helps; \
                 or a firewall on {node} drops UDP that comes by vxlan.twill"
            ),
        ),
    };
    Told { what, fix }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Through = Through { small: true, full: true, refusal: true };
    const NOTHING: Through = Through { small: false, full: false, refusal: false };

    fn tunnelled(outer: Through, inner: Through) -> Verdict {
        Heard { outer, inner: Some(inner) }.verdict()
    }

    fn plain(outer: Through) -> Verdict {
        Heard { outer, inner: None }.verdict()
    }

    #[test]
    fn each_fault_has_its_own_verdict() {
        assert_eq!(tunnelled(ALL, ALL), Verdict::Good);
        assert_eq!(tunnelled(ALL, NOTHING), Verdict::NotThrough);
        assert_eq!(tunnelled(NOTHING, NOTHING), Verdict::Silent);
        assert_eq!(tunnelled(ALL, Through { full: false, ..ALL }), Verdict::SmallOnly);
        assert_eq!(tunnelled(ALL, Through { refusal: false, ..ALL }), Verdict::Checksums);
        assert_eq!(plain(ALL), Verdict::Good);
        assert_eq!(plain(Through { full: false, ..ALL }), Verdict::SmallOnly);
        assert_eq!(plain(NOTHING), Verdict::Silent);
    }

    #[test]
    fn what_a_firewall_of_the_other_node_hides_is_no_fault_of_the_path() {
        let no_pings = Through { refusal: true, ..NOTHING };
        let no_refusals = Through { refusal: false, ..ALL };
        assert_eq!(tunnelled(NOTHING, ALL), Verdict::Good, "who lets only the tunnel pass");
        assert_eq!(tunnelled(no_refusals, no_refusals), Verdict::Good);
        assert_eq!(tunnelled(no_pings, no_pings), Verdict::Good);
        assert_eq!(tunnelled(no_pings, NOTHING), Verdict::NotThrough);
        assert_eq!(plain(no_pings), Verdict::Good);
    }

    fn target() -> Target {
        let inner = Inner { address: "10.42.0.1".parse().unwrap(), overhead: 50, port: 4789 };
        Target { node: "n2".parse().unwrap(), outer: "192.0.2.2".parse().unwrap(), inner: Some(inner) }
    }

    #[test]
    fn a_fault_is_told_when_it_was_seen_twice_and_is_over_at_once() {
        let mut judgements = Judgements::new("n1".parse().unwrap());
        let [cut, good] = [NOTHING, ALL].map(|inner| Heard { outer: ALL, inner: Some(inner) });
        judgements.take(&target(), 1450, &cut);
        assert!(judgements.suspects(&target().node) && judgements.told().is_empty());
        judgements.take(&target(), 1450, &Heard { outer: NOTHING, ..cut });
        assert!(judgements.told().is_empty(), "another fault begins anew");
        judgements.take(&target(), 1450, &cut);
        judgements.take(&target(), 1450, &cut);
        let told = judgements.told();
        assert!(told[0].what.contains("n2 (192.0.2.2)") && told[0].fix.contains("UDP port 4789"), "{told:?}");
        assert!(judgements.take(&target(), 1450, &good), "it is mended");
        assert!(!judgements.take(&target(), 1450, &good), "it was good before");
        assert!(judgements.told().is_empty() && !judgements.suspects(&target().node));
    }

    #[test]
    fn the_advice_for_small_packets_names_the_sizes_and_a_node_that_is_gone_is_forgotten() {
        let mut judgements = Judgements::new("n1".parse().unwrap());
        let small = Heard { outer: ALL, inner: Some(Through { full: false, ..ALL }) };
        judgements.take(&target(), 1450, &small);
        judgements.take(&target(), 1450, &small);
        let told = judgements.told();
        assert!(told[0].what.contains("1450 bytes") && told[0].fix.contains("1500 bytes"), "{told:?}");
        judgements.keep(|_| false);
        assert!(judgements.told().is_empty());
    }
}
