//! What `twillctl doctor` reports: what each node found on its machine, how its daemon is, what etcd says, and what only all records
//! together tell. What `twillctl status` calls a problem is one here too, in the same words.

mod cluster;
mod daemon;

use std::collections::BTreeMap;

use serde::Serialize;
use twill_cluster::inquiry::checkup::{Finding, Found, State};
use twill_cluster::inquiry::client::Answers;
use twill_cluster::inquiry::state;
use twill_conf::NodeName;

use super::problems::{Problem, shortened};
use super::silences::Silences;
use super::untold::Untold;
use crate::access::Picture;

/// All that was found.
#[derive(Debug, Serialize)]
pub(crate) struct Doctor {
    /// Nodes that were asked.
    pub(crate) nodes: usize,
    /// Those of them that answered.
    pub(crate) answered: usize,
    pub(crate) checks: Vec<Row>,
    pub(crate) problems: Vec<Problem>,
    /// What is worth a word and no problem: it does not change the exit status.
    pub(crate) notes: Vec<Problem>,
    /// What could not be told, and why.
    pub(crate) unknown: Vec<Untold>,
}

/// From how many seconds on two clocks are told to differ.
const SKEW: u64 = 3;

/// A finding, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Row {
    /// "cluster", "machine" (the one that was looked at before it is a node), or "node".
    pub(crate) place: Place,
    /// Which node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<NodeName>,
    #[serde(flatten)]
    pub(crate) finding: Finding,
}

/// Of what something was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Place {
    Cluster,
    Machine,
    Node,
}

/// What is put together.
#[derive(Debug)]
pub(crate) struct Evidence<'a> {
    /// What was found of etcd.
    pub(crate) etcd: Vec<Finding>,
    /// The records.
    pub(crate) picture: &'a Picture,
    /// What the nodes found that were asked.
    pub(crate) answers: Answers<Found>,
    /// When they were asked, and when the last had answered, by the clock of this machine.
    pub(crate) asked: Asked,
    /// How they are by their own words.
    pub(crate) states: Answers<state::State>,
}

/// A time of asking, in milliseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

impl Doctor {
    /// Of a cluster.
    pub(crate) fn new(evidence: &Evidence<'_>) -> Self {
        let Evidence { etcd, picture, answers, asked, states } = evidence;
        let mut rows: Vec<Row> = etcd.iter().cloned().chain(cluster::judge(&picture.view)).map(of_cluster).collect();
        for (node, answer) in answers {
            let found = answer.as_ref().ok();
            rows.extend(found.into_iter().flat_map(|found| of_node(node, found)));
            rows.extend(found.and_then(|found| clock(node, found.now?, *asked)));
            let findings = found.map(|found| found.findings.as_slice()).unwrap_or_default();
            let of_daemon = daemon::judge(&picture.view, node, states.get(node), findings);
            rows.extend(of_daemon.into_iter().map(|finding| Row {
                place: Place::Node,
                node: Some(node.clone()),
                finding,
            }));
        }
        let answered = answers.values().filter(|answer| answer.is_ok()).count();
        let silences = Silences::of(answers, "look at its machine when it is asked to", |nodes, _| nodes.to_owned());
        let mute = daemon::silences(answers, states);
        let mut doctor = Self::of(rows, [silences.unknown, mute.unknown].concat(), answers.len(), answered);
        doctor.notes.extend(silences.notes.into_iter().chain(mute.notes));
        doctor
    }

    /// Of an etcd that does not tell which nodes there are.
    pub(crate) fn without_cluster(etcd: Vec<Finding>) -> Self {
        let silent = Untold::new(
            "the nodes: who they are is in etcd, by which they are asked, too",
            "bring etcd back; 'twillctl doctor --preflight' looks at one machine without it",
        );
        Self::of(etcd.into_iter().map(of_cluster).collect(), vec![silent], 0, 0)
    }

    /// Of this machine.
    pub(crate) fn of_machine(findings: Vec<Finding>) -> Self {
        let row = |finding| Row { place: Place::Machine, node: None, finding };
        Self::of(findings.into_iter().map(row).collect(), Vec::new(), 0, 0)
    }

    fn of(checks: Vec<Row>, silent: Vec<Untold>, nodes: usize, answered: usize) -> Self {
        let of_state = |state| checks.iter().filter(move |row| row.finding.state == state);
        let unknown = of_state(State::Unknown).map(|row| {
            let Finding { what, fix, .. } = &row.finding;
            let what = about(&row.finding.subject, what);
            Untold::new(format!("{}, {}: {what}", row.whose(), row.finding.check), fix)
        });
        let unknown = unknown.chain(silent).collect();
        Self {
            problems: alike(of_state(State::Problem)),
            notes: alike(of_state(State::Note)),
            nodes,
            answered,
            unknown,
            checks,
        }
    }
}

impl Row {
    /// Who has it.
    fn whose(&self) -> String {
        match (&self.node, self.place) {
            (Some(node), _) => format!("node {node}"),
            (None, Place::Machine) => "this machine".to_owned(),
            (None, Place::Cluster | Place::Node) => "cluster".to_owned(),
        }
    }
}

fn of_cluster(finding: Finding) -> Row {
    Row { place: Place::Cluster, node: None, finding }
}

/// A node whose clock is another than that of this machine for sure: it has answered before it was asked, or after that was heard.
/// What the answer was on its way cannot be told from a clock that is wrong, so only what is beyond that counts.
fn clock(node: &NodeName, now: u64, asked: Asked) -> Option<Row> {
    let (behind, ahead) = (asked.from.saturating_sub(now), now.saturating_sub(asked.to));
    let (millis, how) = if behind > 0 { (behind, "behind") } else { (ahead, "ahead of") };
    let seconds = millis / 1000;
    (seconds >= SKEW).then(|| {
        let what = format!(
            "its clock is {seconds} s {how} that of the machine that asks: logs cannot be compared, and certificates may count as not \
             valid yet, or not any more"
        );
        let fix = "look at both by 'timedatectl', and let chrony or systemd-timesyncd keep them".to_owned();
        let finding = Finding { check: "clock".to_owned(), state: State::Note, subject: String::new(), what, fix };
        Row { place: Place::Node, node: Some(node.clone()), finding }
    })
}

fn of_node<'a>(node: &'a NodeName, found: &'a Found) -> impl Iterator<Item = Row> + 'a {
    let row = |finding| Row { place: Place::Node, node: Some(node.clone()), finding };
    let more = (found.left_out > 0).then(|| Finding {
        check: "more".to_owned(),
        state: State::Note,
        subject: String::new(),
        what: format!("{} more findings had no room", found.left_out),
        fix: "mend what is told, and look again".to_owned(),
    });
    found.findings.iter().cloned().chain(more).map(row)
}

/// One problem of what several have alike, in the order in which the first of them was found. What the cluster has is not a
/// node's alone, though a node sees it too.
fn alike<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<Problem> {
    let mut order: Vec<(String, &'a str)> = Vec::new();
    let mut whose: BTreeMap<(String, &'a str), Vec<&'a Row>> = BTreeMap::new();
    for row in rows {
        let key = (about(&row.finding.subject, &row.finding.what), row.finding.fix.as_str());
        whose
            .entry(key.clone())
            .or_insert_with(|| {
                order.push(key);
                Vec::new()
            })
            .push(row);
    }
    let problem = |key: (String, &'a str)| {
        let rows = whose.remove(&key)?;
        let nodes: Vec<String> = rows.iter().filter_map(|row| Some(row.node.as_ref()?.to_string())).collect();
        let subject = match rows.iter().find(|row| row.node.is_none()) {
            None if nodes.len() > 1 => format!("nodes {}", shortened(&nodes)),
            of_all => of_all.or(rows.first())?.whose(),
        };
        Some(Problem::new(subject, key.0, key.1))
    };
    order.into_iter().filter_map(problem).collect()
}

fn about(subject: &str, what: &str) -> String {
    if subject.is_empty() { what.to_owned() } else { format!("{subject}: {what}") }
}

#[cfg(test)]
mod tests;
