//! What the daemons say of themselves, judged: who did not answer, who lags behind, what stands in the way.

use std::collections::BTreeMap;

use twill_checkup::identity::shortened_id;
use twill_cluster::View;
use twill_cluster::inquiry::client::Answers;
use twill_cluster::inquiry::state::State;
use twill_cluster::record::Told;
use twill_conf::NodeName;

use crate::report::problems::{Problem, shortened};
use crate::report::silences::Silences;
use crate::report::untold::Untold;

/// What their states come to.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) problems: Vec<Problem>,
    pub(super) notes: Vec<Problem>,
    /// What could not be looked at, and why.
    pub(super) unknown: Vec<Untold>,
}

/// Judges them against the view, in which the newest configuration is.
pub(super) fn judge(view: &View, answers: &Answers<State>) -> Judged {
    let mut judged = Judged::default();
    let newest = view.config.as_ref().map_or(0, |config| config.modified);
    let mut alike: BTreeMap<Told, Vec<String>> = BTreeMap::new();
    for (name, answer) in answers {
        let Ok(state) = answer else { continue };
        for told in lag(name, state, newest).into_iter().chain(of(view, name, state)) {
            alike.entry(told).or_default().push(name.to_string());
        }
    }
    judged.problems = alike.into_iter().map(|(told, names)| of_nodes(&names, told.what, told.fix)).collect();
    let silences = silences(answers);
    judged.notes.extend(silences.notes);
    judged.unknown.extend(silences.unknown);
    judged
}

/// Those who have not said how they are.
pub(in crate::report) fn silences<T>(answers: &Answers<T>) -> Silences {
    let about = |nodes: &str, several| format!("how {nodes} {}", if several { "are" } else { "is" });
    Silences::of(answers, "say how it is", about)
}

fn of_nodes(names: &[String], what: String, fix: String) -> Problem {
    let subject = if names.len() == 1 { "node" } else { "nodes" };
    Problem::new(format!("{subject} {}", shortened(names)), what, fix)
}

/// A node that does not follow the newest configuration.
pub(in crate::report) fn lag(name: &NodeName, state: &State, newest: i64) -> Option<Told> {
    if state.follows(newest) {
        return None;
    }
    let revision = |revision: Option<i64>| revision.map_or("none".to_owned(), |revision| revision.to_string());
    let known = revision(state.config.known);
    Some(match state.config.known >= Some(newest) {
        false => Told {
            what: format!("it follows configuration {known}, and the newest is {newest}: it has not heard of that"),
            fix: format!(
                "look at the log of twilld on {name}: does it reach etcd, and is the member that it uses in step with the others?"
            ),
        },
        true => Told {
            what: format!(
                "configuration {newest} is not brought about there, the last one that was is {}: {}",
                revision(state.config.applied),
                hindrance(state)
            ),
            fix: match is_at_it(state) {
                true => "wait a moment ('twillctl status --wait 30s'); if it stays so, look at the log of its twilld",
                false => "remove what stands in the way, or correct the configuration; the node tries again by itself",
            }
            .to_owned(),
        },
    })
}

/// Whether nothing is known to stand in the way.
fn is_at_it(state: &State) -> bool {
    state.passes.obstacles.is_empty() && state.passes.last != "obstructed"
}

/// What stands in the way, in words.
fn hindrance(state: &State) -> String {
    match state.passes.obstacles.as_slice() {
        [] if is_at_it(state) => "the node is at work on it".to_owned(),
        [] => "it cannot look at its kernel".to_owned(),
        [one] => one.clone(),
        [first, more @ ..] => format!("{first}; and {} more of that kind", more.len()),
    }
}

/// All else that is wrong with a node by its own words.
pub(in crate::report) fn of(view: &View, name: &NodeName, state: &State) -> Vec<Told> {
    let newest = view.config.as_ref().map_or(0, |config| config.modified);
    let record = view.nodes.get(name).map(|record| &record.value);
    let mut all = state.troubles.clone();
    if state.follows(newest) && !state.passes.obstacles.is_empty() {
        all.push(Told {
            what: format!("its kernel is not as it shall be: {}", hindrance(state)),
            fix: "remove what stands in the way; the node tries again by itself".to_owned(),
        });
    }
    if record.is_some_and(|record| record.drain.is_none()) {
        all.extend(state.not_ready.iter().map(|why| {
            let (why, fix) = why.split_once("; ").unwrap_or((why, "look at the log of its twilld"));
            Told { what: format!("no new pod can be served there: {why}"), fix: fix.to_owned() }
        }));
    }
    if state.peers.unreached > 0 {
        let names: Vec<String> = state.peers.unreached_nodes.iter().map(ToString::to_string).collect();
        all.push(Told {
            what: format!("no route leads from there to the pods of {}", some(&names, state.peers.unreached)),
            fix: "look what is said of those nodes here and in the log of its twilld; 'twillctl bgp peers' where routes come by BGP"
                .to_owned(),
        });
    }
    if state.repairs.contested > 0 {
        all.push(Told {
            what: format!(
                "{} objects of its kernel are repaired again and again, since somebody undoes it",
                state.repairs.contested
            ),
            fix: "the log of its twilld names them, and who is likely to do that".to_owned(),
        });
    }
    if let Some(rival) = &state.rival {
        all.push(second_machine(&rival.hostname, &rival.machine_id));
    }
    all
}

/// Two machines go by one name.
pub(in crate::report) fn second_machine(hostname: &str, machine_id: &str) -> Told {
    Told {
        what: format!(
            "a second machine ({hostname}, machine ID {}) goes by its name, and can serve no pod",
            shortened_id(machine_id)
        ),
        fix:
            "give that machine a name of its own with --node-name; or, if it replaces this node, delete this one first"
                .to_owned(),
    }
}

/// Some names of so many.
fn some(names: &[String], all: u64) -> String {
    let shown = &names[..names.len().min(3)];
    match all.saturating_sub(shown.len() as u64) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Nodes of different versions.
pub(super) fn versions(view: &View) -> Option<Problem> {
    let mut by_version: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, record) in view.nodes.iter().filter(|(_, record)| !record.value.version.is_empty()) {
        by_version.entry(&record.value.version).or_default().push(name.to_string());
    }
    if by_version.len() < 2 {
        return None;
    }
    let each = by_version.iter().map(|(version, names)| format!("{version} on {}", shortened(names)));
    let what = format!("twilld differs: {}", each.collect::<Vec<_>>().join("; "));
    Some(Problem::new("versions", what, "nothing while nodes are updated one by one; else update those that were left"))
}
