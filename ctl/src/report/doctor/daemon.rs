//! How a node is, by its record and by its daemon's own words. Judged as `twillctl status` judges it, whose texts these are; what the
//! daemon's tasks have found comes with the look at the machine. Pure.

use twill_cluster::View;
use twill_cluster::inquiry::checkup::{Finding, Found, State};
use twill_cluster::inquiry::client::{Answers, Silence};
use twill_cluster::inquiry::state;
use twill_conf::NodeName;

use super::cluster::finding;
use crate::report::problems;
use crate::report::silences::Silences;
use crate::report::status::daemon;

const CHECK: &str = "daemon";

/// Judges a node that was asked; good is only what has answered.
pub(super) fn judge(view: &View, node: &NodeName, answer: Option<&Result<state::State, Silence>>) -> Vec<Finding> {
    let is_dead = matches!(answer, Some(Err(Silence::Dead)));
    let of_record = match view.nodes.get(node) {
        Some(record) => problems::node(view, node, record, !is_dead),
        None => is_dead.then(|| problems::unheard(node)).into_iter().collect(),
    };
    let mut told: Vec<(String, String)> = of_record.into_iter().map(|problem| (problem.what, problem.fix)).collect();
    if let Some(Ok(state)) = answer {
        let newest = view.config.as_ref().map_or(0, |config| config.modified);
        let own = daemon::lag(node, state, newest).into_iter().chain(daemon::standing(view, node, state));
        told.extend(own.map(|told| (told.what, told.fix)));
        if told.is_empty() {
            return vec![finding(
                CHECK,
                State::Ok,
                "",
                "it follows the newest configuration, and all stands that shall",
                "",
            )];
        }
    }
    told.into_iter().map(|(what, fix)| finding(CHECK, State::Problem, "", &what, &fix)).collect()
}

/// Those who looked at their machines and have not said how they are. Of all others it is told why they are silent.
pub(super) fn silences(answers: &Answers<Found>, states: &Answers<state::State>) -> Silences {
    let has_looked = |node: &NodeName| matches!(answers.get(node), Some(Ok(_)));
    let why = |answer: &Result<state::State, Silence>| answer.as_ref().map(drop).map_err(Clone::clone);
    let mute = states.iter().filter(|(node, _)| has_looked(node)).map(|(node, answer)| (node.clone(), why(answer)));
    daemon::silences(&mute.collect::<Answers<()>>())
}
