//! Why a node is as it is: what is wrong with it, who cannot reach it, and whether it may be deleted.

use std::collections::BTreeMap;

use serde::Serialize;
use twill_cluster::inquiry::client::{Answers, Silence};
use twill_cluster::inquiry::state::{RivalRecord, State};
use twill_cluster::record::Told;
use twill_cluster::removal::{Found, Refusal};
use twill_conf::NodeName;

use crate::report::addresses::{BlockRow, Sources};
use crate::report::node::{Node, NodeShown};
use crate::report::problems::{Problem, shortened};
use crate::report::silences::remedy;
use crate::report::status::daemon;
use crate::report::untold::Untold;

/// The finding.
#[derive(Debug, Serialize)]
pub(crate) struct WhyNode {
    pub(crate) name: NodeName,
    /// Its record, as `twillctl node show` has it; absent where only blocks are left of the node.
    pub(crate) node: Option<Node>,
    /// Its blocks with their use.
    pub(crate) own_blocks: Vec<BlockRow>,
    /// How its daemon is by its own words; absent where it has not answered.
    pub(crate) daemon: Option<State>,
    /// Other nodes from which the way to it is not good, with what they find, as far as they were asked.
    pub(crate) seen_by: BTreeMap<NodeName, String>,
    pub(crate) deletion: Deletion,
    pub(crate) problems: Vec<Problem>,
    /// What is worth a word and no problem.
    pub(crate) notes: Vec<Problem>,
    /// What could not be looked at, and why.
    pub(crate) unknown: Vec<Untold>,
}

/// Whether the node may be deleted.
#[derive(Debug, Serialize)]
pub(crate) struct Deletion {
    /// Without any assertion of the operator.
    pub(crate) allowed: bool,
    /// Why, and how.
    pub(crate) why: String,
}

/// What it is told from.
pub(crate) struct Evidence<'a> {
    pub(crate) sources: &'a Sources,
    /// What etcd has of the node.
    pub(crate) found: &'a Found,
    /// What its daemon says.
    pub(crate) answer: Result<State, Silence>,
    /// A second machine of its name, as it tells itself.
    pub(crate) rival: Option<RivalRecord>,
    /// What others say of themselves, who have told of something.
    pub(crate) others: Answers<State>,
}

impl WhyNode {
    /// `None` where there is nothing of the node.
    pub(crate) fn new(name: &NodeName, evidence: Evidence<'_>) -> Option<Self> {
        let Evidence { sources, found, answer, rival, others } = evidence;
        let deletion = Deletion::of(found)?;
        let view = sources.census.as_ref().map(|census| &census.view);
        let (node, own_blocks, mut problems, notes) = match NodeShown::new(sources, name) {
            Some(shown) => (Some(shown.node), shown.own_blocks, shown.problems, shown.notes),
            None => (None, Vec::new(), vec![no_record(name, found)], Vec::new()),
        };
        let subject = || format!("node {name}");
        let mut told: Vec<Told> = Vec::new();
        let mut unknown = Vec::new();
        let daemon = match answer {
            Ok(state) => {
                let newest = view.and_then(|view| view.config.as_ref()).map_or(0, |config| config.modified);
                told.extend(daemon::lag(name, &state, newest));
                told.extend(view.map(|view| daemon::of(view, name, &state)).unwrap_or_default());
                Some(state)
            }
            Err(why) => {
                if !matches!(why, Silence::Dead) {
                    let what = format!("how it is by its own words: {why}");
                    unknown.push(Untold::new(what, remedy(name.as_str(), &why)));
                }
                told.extend(rival.map(|rival| daemon::second_machine(&rival.hostname, &rival.machine_id)));
                None
            }
        };
        let known = |told: &Told| problems.iter().any(|problem: &Problem| problem.what == told.what);
        let more: Vec<_> = told.into_iter().filter(|told| !known(told)).collect();
        problems.extend(more.into_iter().map(|told| Problem::new(subject(), told.what, told.fix)));
        let seen_by = seen_by(name, &others);
        problems.extend(unreached(name, &seen_by));
        Some(Self { name: name.clone(), node, own_blocks, daemon, seen_by, deletion, problems, notes, unknown })
    }
}

/// What others find of the way to it.
fn seen_by(name: &NodeName, others: &Answers<State>) -> BTreeMap<NodeName, String> {
    let found = |(other, answer): (&NodeName, &Result<State, Silence>)| {
        let state = answer.as_ref().ok()?;
        let no_route = || state.peers.unreached_nodes.contains(name).then(|| "no_route".to_owned());
        Some((other.clone(), state.peers.faulty.get(name).cloned().or_else(no_route)?))
    };
    others.iter().filter(|(other, _)| *other != name).filter_map(found).collect()
}

fn unreached(name: &NodeName, seen_by: &BTreeMap<NodeName, String>) -> Option<Problem> {
    let names: Vec<String> = seen_by.keys().map(ToString::to_string).collect();
    let mut words: Vec<&str> = seen_by.values().map(String::as_str).collect();
    words.sort_unstable();
    words.dedup();
    (!names.is_empty()).then(|| {
        let what = format!("the way to it is not good from {} ({})", shortened(&names), words.join(", "));
        let fix = format!("'twillctl status --node {}' has what to look at", names[0]);
        Problem::new(format!("node {name}"), what, fix)
    })
}

fn no_record(name: &NodeName, found: &Found) -> Problem {
    let what = match found.record {
        0 => format!("it has no record, and {} blocks: it was deleted in part, or never came up", found.blocks.len()),
        _ => "its record cannot be read".to_owned(),
    };
    let fix = format!("start twilld on {name}, which puts that right; {}", crate::report::problems::delete(name));
    Problem::new(format!("node {name}"), what, fix)
}

impl Deletion {
    /// By the rule of `node delete`; `None` where there is nothing to delete.
    fn of(found: &Found) -> Option<Self> {
        let node = &found.node;
        let (allowed, why) = match found.plan(false) {
            Err(Refusal::Unknown(_)) => return None,
            Ok(_) if found.blocks.is_empty() => (true, format!("it has no blocks: 'twillctl node delete {node}'")),
            Ok(_) => (true, format!("it was drained and has no pods: 'twillctl node delete {node}'")),
            Err(Refusal::Alive(_)) if found.vacated => (
                false,
                "it is alive; it is drained and has no pods: stop twilld there, and it may be deleted a minute later"
                    .to_owned(),
            ),
            Err(Refusal::Alive(_)) => (false, "it is alive, and not drained of all its pods".to_owned()),
            Err(refusal) => (false, refusal.to_string()),
        };
        Some(Self { allowed, why })
    }
}
