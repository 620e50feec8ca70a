//! What `twillctl bench` says: how fast pods of two nodes are beside the nodes themselves, and under what conditions that was.

use serde::Serialize;
use twill_chart::figures::{self, Figure, Measured, Quantity};
use twill_chart::plot::svg;
use twill_cluster::inquiry::trial::{Answer, Device, Load, Opened, Usage};
use twill_conf::NodeName;

use super::{Failure, divided, left};
use crate::report::problems::Problem;
use crate::report::untold::Untold;

/// The bytes of a small packet, and of a question: what RPCs are made of.
pub(crate) const SMALL: u16 = 64;

/// All that was measured.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Benched {
    /// The back end in use.
    pub(crate) backend: &'static str,
    /// The revision of the configuration.
    pub(crate) config_revision: i64,
    /// `IPv4` or `IPv6`, of pods' packets.
    pub(crate) family: String,
    /// Who sends, or asks, and who receives.
    pub(crate) nodes: Vec<NodeName>,
    pub(crate) rounds: u8,
    pub(crate) seconds: u16,
    pub(crate) streams: u8,
    /// Of each node.
    pub(crate) conditions: Vec<Conditions>,
    /// Both nodes are one machine, whose processors both use.
    pub(crate) one_machine: bool,
    pub(crate) figures: Vec<Figure>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) notes: Vec<Problem>,
    /// What could not be told.
    pub(crate) unknown: Vec<Untold>,
}

/// What a node's figures depend on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Conditions {
    pub(crate) node: NodeName,
    pub(crate) kernel: String,
    pub(crate) twilld: String,
    pub(crate) processors: u32,
    pub(crate) devices: Vec<Device>,
}

impl Conditions {
    pub(crate) fn new(node: &NodeName, opened: &Opened) -> Self {
        let Opened { kernel, version, processors, devices, .. } = opened.clone();
        Self { node: node.clone(), kernel, twilld: version, processors, devices }
    }
}

/// A path that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    /// From pod to pod.
    Pods,
    /// From node to node.
    Nodes,
}

/// The figures of both paths, round by round.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rounds {
    gathered: Vec<(Path, Quantity, f64)>,
}

impl Rounds {
    /// Takes what one measurement gave. `spent`: processor time of both machines meanwhile, in milliseconds.
    pub(crate) fn add(&mut self, path: Path, load: Load, answer: &Answer, spent: u64) {
        let mut add = |quantity, figure: f64| {
            if figure.is_finite() {
                self.gathered.push((path, quantity, figure));
            }
        };
        match (load, answer) {
            (Load::Tcp { streams }, Answer::Carried(carried)) => {
                let gigabits = carried.bytes as f64 * 8.0 / 1e9;
                let (rate, cost) = match streams {
                    1 => (Quantity::TcpOne, Quantity::CostOne),
                    _ => (Quantity::TcpMany, Quantity::CostMany),
                };
                add(rate, gigabits / (carried.micros as f64 / 1e6));
                add(cost, spent as f64 / gigabits);
            }
            (Load::Udp { .. }, Answer::Carried(carried)) => {
                add(Quantity::Packets, carried.datagrams as f64 / (carried.micros as f64 / 1e6) / 1e3);
            }
            (Load::Questions { .. }, Answer::Answered(answered)) => {
                add(Quantity::Median, answered.median_nanos as f64 / 1e3);
                add(Quantity::Late, answered.late_nanos as f64 / 1e3);
            }
            _ => {}
        }
    }

    /// The figures of all properties that were measured.
    pub(crate) fn figures(&self) -> Vec<Figure> {
        let of = |path, quantity| {
            let same = self.gathered.iter().filter(move |(p, q, _)| (*p, *q) == (path, quantity));
            same.map(|(_, _, figure)| *figure).collect::<Vec<f64>>()
        };
        let figure = |quantity: Quantity| {
            let (pods, nodes) = (of(Path::Pods, quantity), of(Path::Nodes, quantity));
            (!pods.is_empty() || !nodes.is_empty()).then(|| Figure::of(quantity, &pods, &nodes))
        };
        Quantity::ALL.into_iter().filter_map(figure).collect()
    }
}

/// What machines have spent between two looks, in milliseconds; one that is both nodes counts once.
pub(crate) fn spent(before: &[Usage], after: &[Usage]) -> u64 {
    let mut machines: Vec<&str> = Vec::new();
    let mut sum = 0;
    for (before, after) in before.iter().zip(after) {
        if before.machine == after.machine && !machines.contains(&before.machine.as_str()) {
            machines.push(&before.machine);
            sum = u64::saturating_add(sum, after.busy_millis.saturating_sub(before.busy_millis));
        }
    }
    sum
}

impl Benched {
    /// Adds why it could not go on, and where pods may be left.
    pub(crate) fn with(mut self, failures: &[(NodeName, Failure)], nodes_left: &[(NodeName, Failure)]) -> Self {
        for (problems, unknown) in [divided(failures), left(nodes_left)] {
            self.problems.extend(problems);
            self.unknown.extend(unknown);
        }
        if self.one_machine {
            let what = "both are one machine: its processors do the work of both ends";
            let fix = "figures are for comparing with each other; those of real nodes are others";
            self.notes.push(Problem::new("nodes", what, fix));
        }
        self
    }

    fn measured(&self) -> [Measured; 1] {
        [Measured { backend: self.backend.to_owned(), figures: self.figures.clone() }]
    }

    /// The table.
    pub(crate) fn rows(&self) -> Vec<[String; 5]> {
        figures::rows(&self.measured())
    }

    /// The plot: the document of an SVG file.
    pub(crate) fn svg(&self) -> Result<String, String> {
        svg(&figures::panels(&self.measured())).map_err(|cause| cause.to_string())
    }

    /// The page, with the plot in it.
    pub(crate) fn html(&self) -> Result<String, String> {
        let words = [vec![self.summary()], self.conditions()].concat();
        Ok(figures::page("Pod to pod against node to node", &words, &self.measured(), &self.svg()?))
    }

    /// What was measured and how.
    pub(crate) fn summary(&self) -> String {
        if self.figures.is_empty() {
            return format!("back end {} (configuration {}); nothing was measured", self.backend, self.config_revision);
        }
        let Self { backend, config_revision, family, rounds, seconds, streams, .. } = self;
        let nodes = self.nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" to ");
        format!(
            "{nodes}, back end {backend} (configuration {config_revision}), pods by {family}; medians of {rounds} alternating rounds of \
             {seconds} s for each figure (in brackets the least and the greatest), several streams are {streams}; POD/NODE: 1 is as good \
             as node to node, less is worse"
        )
    }

    /// A line for each node.
    pub(crate) fn conditions(&self) -> Vec<String> {
        let device = |device: &Device| {
            let off = if device.off.is_empty() { String::new() } else { format!(", off: {}", device.off.join(" ")) };
            format!("{} {} MTU {}{off}", device.role, device.name, device.mtu)
        };
        let line = |one: &Conditions| {
            let devices = one.devices.iter().map(device).collect::<Vec<_>>().join("; ");
            let Conditions { node, kernel, twilld, processors, .. } = one;
            format!("{node}: Linux {kernel}, {processors} processors, twilld {twilld}; {devices}")
        };
        self.conditions.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests;
