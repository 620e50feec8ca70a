//! How a node is, by its record and by its daemon's own words. Judged as `twillctl status` judges it, whose texts these are, but for what
//! the look at the machine tells, too. Pure.

use twill_cluster::View;
use twill_cluster::inquiry::checkup::{Finding, Found, State};
use twill_cluster::inquiry::client::{Answers, Silence};
use twill_cluster::inquiry::state;
use twill_cluster::record::Told;
use twill_conf::NodeName;

use super::cluster::finding;
use crate::report::problems::{self, Problem};
use crate::report::silences::Silences;
use crate::report::status::daemon;

const CHECK: &str = "daemon";

/// Judges a node that was asked, beside what was found on its machine; good is only what has answered.
pub(super) fn judge(
    view: &View,
    node: &NodeName,
    answer: Option<&Result<state::State, Silence>>,
    found: &[Finding],
) -> Vec<Finding> {
    let is_dead = matches!(answer, Some(Err(Silence::Dead)));
    let of_record = match view.nodes.get(node) {
        Some(record) => problems::node(view, node, record, !is_dead),
        None => is_dead.then(|| problems::unheard(node)).into_iter().collect(),
    };
    let mut told: Vec<Told> = of_record.into_iter().map(|Problem { what, fix, .. }| Told { what, fix }).collect();
    if let Some(Ok(state)) = answer {
        let newest = view.config.as_ref().map_or(0, |config| config.modified);
        let own = daemon::lag(node, state, newest).into_iter().chain(daemon::of(view, node, state));
        told.extend(own.filter(|told| !is_found(told, found)));
        if told.is_empty() {
            let good = "it follows the newest configuration, and all stands that shall";
            return vec![finding(CHECK, State::Ok, "", good, "")];
        }
    }
    told.into_iter().map(|told| finding(CHECK, State::Problem, "", &told.what, &told.fix)).collect()
}

/// Whether the look at the machine tells it: in the same words, as what the daemon's tasks found and handed on, or in its own, as it
/// does of other people's chains.
fn is_found(told: &Told, found: &[Finding]) -> bool {
    let is_handed_on = |finding: &Finding| (&finding.what, &finding.fix) == (&told.what, &told.fix);
    let chains = || found.iter().filter(|finding| finding.check == "firewall" && finding.state == State::Problem);
    found.iter().any(is_handed_on) || chains().any(|chain| told.what.starts_with(&format!("{} drops ", chain.subject)))
}

/// Those who looked at their machines and have not said how they are. Of all others it is told why they are silent.
pub(super) fn silences(answers: &Answers<Found>, states: &Answers<state::State>) -> Silences {
    let has_looked = |node: &NodeName| matches!(answers.get(node), Some(Ok(_)));
    let why = |answer: &Result<state::State, Silence>| answer.as_ref().map(drop).map_err(Clone::clone);
    let mute = states.iter().filter(|(node, _)| has_looked(node)).map(|(node, answer)| (node.clone(), why(answer)));
    daemon::silences(&mute.collect::<Answers<()>>())
}
