//! What was found of each node, and what of it an operator is told. What answers and their absence mean is in
//! `fabric::path::verdict`.

use std::collections::BTreeMap;

use twill_cluster::record::Told;
use twill_conf::NodeName;
use twill_fabric::path::Target;
use twill_fabric::path::verdict::{Full, Heard, Verdict, tell};

/// So often in a row a node must look alike before it is told: a single time may be a restart.
const TWICE: u8 = 2;

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
            judgement.told = Some(tell(verdict, &self.me, target, Full::mtu(mtu)));
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

#[cfg(test)]
mod tests {
    use twill_fabric::path::Inner;
    use twill_fabric::path::verdict::Through;

    use super::*;

    const ALL: Through = Through { small: true, full: true, refusal: true };
    const NOTHING: Through = Through { small: false, full: false, refusal: false };

    fn target() -> Target {
        let inner = Inner { address: "10.42.0.1".parse().unwrap(), overhead: 50, port: 4789 };
        Target { node: "n2".parse().unwrap(), outer: "192.0.2.2".parse().unwrap(), inner: Some(inner) }
    }

    #[test]
    fn a_fault_is_told_when_it_was_seen_twice_and_is_over_at_once() {
        let mut judgements = Judgements::new("n1".parse().unwrap());
        let [cut, good] = [NOTHING, ALL].map(|inner| Heard { outer: ALL, inner: Some(inner), no_way: None });
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
        let small = Heard { outer: ALL, inner: Some(Through { full: false, ..ALL }), no_way: None };
        judgements.take(&target(), 1450, &small);
        judgements.take(&target(), 1450, &small);
        let told = judgements.told();
        assert!(told[0].what.contains("1450 bytes") && told[0].fix.contains("1500 bytes"), "{told:?}");
        judgements.keep(|_| false);
        assert!(judgements.told().is_empty());
    }
}
