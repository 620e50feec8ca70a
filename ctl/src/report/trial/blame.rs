//! Where it lies that packets do not come through: what several ways have in common is one problem, with its cause and what to do.

use std::collections::{BTreeMap, BTreeSet};

use twill_cluster::record::Underlay;
use twill_conf::NodeName;
use twill_conf::cluster::Vxlan;
use twill_fabric::backend::Backend as _;
use twill_fabric::family::Family;
use twill_fabric::path::verdict::{Full, Heard, NoWay, Through, Verdict as Cause, tell};
use twill_fabric::path::{Inner, Target};

use super::plan::Kind;
use super::test::{Packets, Tried, Verdict};
use crate::report::problems::Problem;

/// Of more pairs with the same fault only so many are told one by one.
const MOST_PAIRS: usize = 3;

/// What is known of the cluster.
#[derive(Debug, Clone)]
pub(crate) struct Ground {
    /// The back end's name.
    pub(crate) backend: &'static str,
    /// Its parameters, where it is VXLAN.
    pub(crate) vxlan: Option<Vxlan>,
    /// The addresses of nodes.
    pub(crate) underlays: BTreeMap<NodeName, Underlay>,
    /// The operator has said how long large packets are.
    pub(crate) asked_size: bool,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) problems: Vec<Problem>,
    pub(crate) notes: Vec<Problem>,
}

/// Judges all ways together.
pub(crate) fn blame(ways: &[Tried], ground: &Ground, asked_outside: bool) -> Found {
    let mut judge = Judge { ways, ground, asked_outside, broken: BTreeSet::new(), found: Found::default() };
    judge.nodes();
    judge.pairs();
    judge.sources();
    judge.rest();
    judge.losses();
    judge.found
}

struct Judge<'a> {
    ways: &'a [Tried],
    ground: &'a Ground,
    asked_outside: bool,
    /// Nodes with a fault of their own, which the ways from and to them show too.
    broken: BTreeSet<NodeName>,
    found: Found,
}

impl<'a> Judge<'a> {
    fn of(&self, kind: Kind) -> impl Iterator<Item = &'a Tried> + use<'a> {
        self.ways.iter().filter(move |way| way.kind == kind)
    }

    /// The same way in the same family, of another kind.
    fn beside(&self, kind: Kind, from: &NodeName, to: Option<&NodeName>, family: &str) -> Option<&'a Tried> {
        self.of(kind).find(|way| way.from == *from && way.to.as_ref() == to && way.family == family)
    }

    fn is_dead(&self, kind: Kind, from: &NodeName, to: Option<&NodeName>, family: &str) -> bool {
        self.beside(kind, from, to, family).is_some_and(|way| way.verdict == Verdict::Nothing)
    }

    /// What is wrong inside of a node.
    fn nodes(&mut self) {
        for way in self.of(Kind::PodToPod).filter(|way| way.to.as_ref() == Some(&way.from)) {
            if way.verdict != Verdict::Nothing || !self.broken.insert(way.from.clone()) {
                continue;
            }
            let node = &way.from;
            let problem = if self.is_dead(Kind::NodeToPod, node, Some(node), &way.family) {
                Problem::new(
                    format!("node {node}"),
                    "it does not reach its own pods",
                    format!(
                        "'twillctl node show {node}' and twilld's log say whether it cannot set up their routes; a firewall there \
                         may drop what goes out by, or comes in from, interfaces named tw*"
                    ),
                )
            } else {
                Problem::new(
                    format!("node {node}"),
                    "it reaches its pods, and they do not reach each other: something drops what it forwards",
                    "a chain of another program at the forward hook (Docker, firewalld, policy DROP), which 'twillctl status' names: \
                     let pods' packets through there, or set open_forward = true in [firewall]",
                )
            };
            self.found.problems.push(problem);
        }
    }

    /// What is wrong between nodes.
    fn pairs(&mut self) {
        let mut faults: BTreeMap<(Verdict, String), Vec<(&Tried, Told)>> = BTreeMap::new();
        let mut seen: BTreeSet<(Verdict, &NodeName, &NodeName)> = BTreeSet::new();
        for way in self.of(Kind::PodToPod) {
            let Some(to) = way.to.as_ref().filter(|to| **to != way.from) else { continue };
            let is_fault = matches!(way.verdict, Verdict::Nothing | Verdict::SmallOnly);
            let follows =
                way.verdict == Verdict::Nothing && [&way.from, to].into_iter().any(|node| self.broken.contains(node));
            // What is wrong there and back, or in both families, is one fault. Large packets tell of their direction alone.
            let known = seen.contains(&(way.verdict, &way.from, to))
                || (way.verdict == Verdict::Nothing && seen.contains(&(way.verdict, to, &way.from)));
            if !is_fault || follows || known {
                continue;
            }
            seen.insert((way.verdict, &way.from, to));
            let (way, to) = self.unsent_back(way, to).unwrap_or((way, to));
            let told = self.between(way, to);
            faults.entry((way.verdict, told.sort.clone())).or_default().push((way, told));
        }
        for ((verdict, _), pairs) in faults {
            let all = pairs.len();
            for (place, (way, told)) in pairs.into_iter().take(MOST_PAIRS).enumerate() {
                let more = all - MOST_PAIRS.min(all);
                let what = match place + 1 == MOST_PAIRS && more > 0 {
                    true => format!("{}; and it is the same between {more} more pairs of nodes", told.what),
                    false => told.what,
                };
                let to = way.to.as_ref().expect("pairs have two ends");
                let subject = match verdict {
                    Verdict::Nothing if told.of_node => format!("node {}", way.from),
                    Verdict::Nothing => format!("pods on {} and {to}", way.from),
                    _ => format!("pods on {} to {to}", way.from),
                };
                self.found.problems.push(Problem::new(subject, what, told.fix));
            }
        }
    }

    fn between(&self, way: &Tried, to: &NodeName) -> Told {
        let full = match self.ground.asked_size {
            true => Full { bytes: way.full.bytes, why: "as --size has it" },
            false => Full::mtu(way.full.bytes),
        };
        let through = |way: &Tried| {
            let small = way.small.answered > 0;
            Through { small, full: way.full.answered > 0, refusal: small }
        };
        let nodes = self.of(Kind::NodeToNode).filter(|other| other.from == way.from && other.to.as_ref() == Some(to));
        let nothing = Through { small: false, full: false, refusal: false };
        let outer = nodes.map(through).reduce(|one, other| Through {
            small: one.small || other.small,
            full: one.full || other.full,
            refusal: one.refusal || other.refusal,
        });
        let outer = outer.unwrap_or(nothing);
        let Some(target) = self.target(&way.from, to) else {
            return Told::new(
                "nowhere",
                format!("{to} has no address that {} reaches", way.from),
                "compare their underlays ('twillctl node list')",
            );
        };
        let is_tunnelled = target.inner.is_some();
        let heard = Heard { outer, inner: Some(through(way)), no_way: self.unsent(way) };
        match heard.verdict() {
            Cause::NotThrough if !is_tunnelled => Told::new(
                "routed",
                format!(
                    "the nodes reach each other ({}), and their pods do not: plain packets with pods' addresses do not arrive",
                    target.outer
                ),
                format!(
                    "let the pools' prefixes pass in every firewall between {} and {to}, and on both; a network that drops addresses \
                     it does not know (a cloud's check of sources, rp_filter) needs back end vxlan, or its check off",
                    way.from
                ),
            ),
            cause => {
                let of_node = matches!(cause, Cause::NoRoute(_) | Cause::NotLetOut(_));
                let told = tell(cause, &way.from, &target, full);
                Told { of_node, ..Told::new(cause.word(), told.what, told.fix) }
            }
        }
    }

    /// The way back, where it is there that nothing leaves: the answers to what is sent by this one are lost by it too.
    fn unsent_back(&self, way: &'a Tried, to: &NodeName) -> Option<(&'a Tried, &'a NodeName)> {
        let back = self.beside(Kind::PodToPod, to, Some(&way.from), &way.family)?;
        let both = [way, back].into_iter().all(|one| one.verdict == Verdict::Nothing);
        (both && self.unsent(way).is_none() && self.unsent(back).is_some()).then_some((back, &way.from))
    }

    /// What on the way between pods of two nodes the sender's kernel does not send: to the other node itself, which is on the way to its
    /// pods, or to these. A pod's own kernel has but one way, to its node, so it is the node that tells; what this lets out of its own
    /// says nothing of what it forwards, and where it has no route it has none for either.
    fn unsent(&self, way: &Tried) -> Option<NoWay> {
        let to = way.to.as_ref()?;
        let outer = self.target(&way.from, to)?.outer;
        let node = self
            .of(Kind::NodeToNode)
            .find(|other| other.from == way.from && other.to.as_ref() == Some(to) && other.address == outer);
        let pod = self.beside(Kind::NodeToPod, &way.from, Some(to), &way.family);
        let routed = |pod: &Tried| NoWay::of(pod.address, pod.no_way, None);
        node.and_then(Tried::unsent).or_else(|| pod.and_then(routed))
    }

    fn target(&self, from: &NodeName, to: &NodeName) -> Option<Target> {
        let (near, far) = (self.ground.underlays.get(from)?, self.ground.underlays.get(to)?);
        let family = Family::common(near, far)?;
        let outer = family.underlay(far)?;
        let subnet = |ends: &Underlay| if family == Family::V6 { ends.ipv6 } else { ends.ipv4 };
        let is_near = subnet(near).is_some_and(|subnet| subnet.contains(outer));
        let tunnelled = self.ground.vxlan.as_ref().filter(|vxlan| !(vxlan.direct && is_near));
        let inner = tunnelled.map(|vxlan| Inner { address: outer, overhead: vxlan.overhead(family), port: vxlan.port });
        Some(Target { node: to.clone(), outer, inner })
    }

    /// Pods whose packets come by another address.
    fn sources(&mut self) {
        let mut told = BTreeSet::new();
        for way in self.of(Kind::PodToPod).filter(|way| way.verdict == Verdict::WrongSource) {
            let (Some(source), Some(saw)) = (way.source, way.saw) else { continue };
            if !told.insert((&way.from, way.family.as_str())) {
                continue;
            }
            let what = format!("a pod there that sends by {source} is heard as {saw} ({})", way.title());
            let fix = format!(
                "a rule of another program masquerades what goes from pod to pod: look for masquerade and snat in 'nft list ruleset' and \
                 'iptables-save' on {}, and leave the pools out there",
                way.from
            );
            self.found.problems.push(Problem::new(format!("node {}", way.from), what, fix));
        }
    }

    /// Between pods and nodes, and to the outside, where pods reach each other.
    fn rest(&mut self) {
        let mut told: BTreeSet<(Kind, Verdict, &NodeName, Option<&NodeName>)> = BTreeSet::new();
        for way in self.ways.iter().filter(|way| matches!(way.verdict, Verdict::Nothing | Verdict::SmallOnly)) {
            let ends = [Some(&way.from), way.to.as_ref()];
            if ends.into_iter().flatten().any(|node| self.broken.contains(node)) {
                continue;
            }
            let to = way.to.as_ref();
            if !told.insert((way.kind, way.verdict, &way.from, to)) {
                continue;
            }
            let (what, fix) = match way.kind {
                // What is wrong between the nodes is told already.
                Kind::PodToNode | Kind::NodeToPod if self.is_worse_between(way) => continue,
                Kind::PodToNode => self.to_node(way),
                Kind::NodeToPod => self.node_to_pod(way),
                Kind::PodToOutside => match self.to_outside(way) {
                    Some(words) => words,
                    None => continue,
                },
                Kind::PodToPod | Kind::NodeToNode | Kind::NodeToOutside => continue,
            };
            if self.is_unanswered(way) {
                self.found.notes.push(Problem::new(format!("node {}", way.from), what, fix));
            } else {
                self.found.problems.push(Problem::new(format!("node {}", way.from), what, fix));
            }
        }
    }

    /// Whether packets between the pods of the two nodes fare as badly.
    fn is_worse_between(&self, way: &Tried) -> bool {
        let Some(to) = &way.to else { return false };
        let worse = |from: &NodeName, to: &NodeName| {
            self.beside(Kind::PodToPod, from, Some(to), &way.family).is_some_and(|other| other.verdict >= way.verdict)
        };
        way.from != *to && (worse(&way.from, to) || worse(to, &way.from))
    }

    /// Whether the node itself is not answered either, so that nothing is known of the pods.
    fn is_unanswered(&self, way: &Tried) -> bool {
        match way.kind {
            Kind::PodToNode => self.is_dead(Kind::NodeToNode, &way.from, way.to.as_ref(), &way.family),
            Kind::PodToOutside => {
                !self.asked_outside && self.is_dead(Kind::NodeToOutside, &way.from, None, &way.family)
            }
            _ => false,
        }
    }

    fn node_to_pod(&self, way: &Tried) -> (String, String) {
        let target = way.to.as_ref().and_then(|to| self.target(&way.from, to));
        if let Some((no_way, target)) = way.unsent().zip(target) {
            let told = tell(no_way.verdict(), &way.from, &target, Full::mtu(way.full.bytes));
            return (told.what, told.fix);
        }
        (
            format!(
                "the node does not reach the pods of {}, though pods there do{}",
                title(way.to.as_ref()),
                size(way)
            ),
            "a firewall of one of the two drops what nodes send to pods: look at its chains at the output and the forward hook"
                .to_owned(),
        )
    }

    fn to_node(&self, way: &Tried) -> (String, String) {
        let to = title(way.to.as_ref());
        if self.is_unanswered(way) {
            let what = format!("{to} ({}) answers no pings, neither of pods nor of the node", way.address);
            return (what, "nothing is to be done where pods are not to reach nodes".to_owned());
        }
        let what = format!("its pods do not reach the node {to} ({}), though the node does{}", way.address, size(way));
        let fix = format!(
            "a firewall on {to} drops what pods send to the node: look at its chains at the input hook, for the pools' prefixes"
        );
        (what, fix)
    }

    fn to_outside(&self, way: &Tried) -> Option<(String, String)> {
        let node = self.beside(Kind::NodeToOutside, &way.from, None, &way.family)?;
        let address = way.address;
        Some(match (node.verdict, way.verdict) {
            (Verdict::Nothing, _) => (
                format!("{address} outside does not answer the node itself"),
                "name an address that answers pings with --outside".to_owned(),
            ),
            (Verdict::SmallOnly, Verdict::SmallOnly) => (
                format!("packets of {} bytes do not come back from {address} outside, of the node itself neither", way.full.bytes),
                "the network to there carries less; let it send ICMP's \"fragmentation needed\", or set mtu in [backend]".to_owned(),
            ),
            _ => (
                format!("its pods do not reach {address} outside, and the node does{}", size(way)),
                "is the pool masqueraded (masquerade in [[pool]])? If not, the network outside needs routes to it; if so, a firewall on \
                 the node drops what it forwards to the outside"
                    .to_owned(),
            ),
        })
    }

    /// Where some packets are lost.
    fn losses(&mut self) {
        let lossy: Vec<_> = self.ways.iter().filter(|way| way.verdict == Verdict::Lossy).collect();
        let Some(first) = lossy.first() else { return };
        let more = if lossy.len() > 1 { format!(", and so do {} more ways", lossy.len() - 1) } else { String::new() };
        let what = format!(
            "{} of {} packets {} of {} are lost{more}",
            missing(&first.small) + missing(&first.full),
            first.small.sent + first.full.sent,
            first.kind.words(),
            first.title(),
        );
        self.found.notes.push(Problem::new(
            "ways",
            what,
            "run the test again; if packets go on being lost, look at the network between",
        ));
    }
}

fn missing(packets: &Packets) -> usize {
    packets.sent.saturating_sub(packets.answered)
}

struct Told {
    sort: String,
    what: String,
    fix: String,
    /// It is the sending node's own fault.
    of_node: bool,
}

impl Told {
    fn new(sort: &str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { sort: sort.to_owned(), what: what.into(), fix: fix.into(), of_node: false }
    }
}

fn title(node: Option<&NodeName>) -> String {
    node.map_or_else(|| "the outside".to_owned(), ToString::to_string)
}

/// What is added where only large packets fail.
fn size(way: &Tried) -> String {
    match way.verdict {
        Verdict::SmallOnly => format!(", with packets of {} bytes", way.full.bytes),
        _ => String::new(),
    }
}
