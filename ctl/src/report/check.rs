//! What `twillctl ipam check` finds: a pure judgement of what etcd has and of what the nodes say.
//!
//! Reading takes time, and the cluster goes on meanwhile. So what a node says is held against what etcd had before it was
//! asked and against what it had after: only what contradicts both is a problem.

mod cluster;
mod live;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use twill_cluster::inquiry::Page;
use twill_cluster::inquiry::client::Answers;
use twill_cluster::{Census, View};
use twill_conf::NodeName;

use super::problems::Problem;
use super::silences::remedy;
use super::untold::Untold;

/// The finding.
#[derive(Debug, Serialize)]
pub(crate) struct Check {
    /// etcd's revision that nodes, blocks and mirrors were read at.
    pub(crate) revision: i64,
    /// Nodes that have a record.
    pub(crate) nodes: usize,
    /// Those of them that answered.
    pub(crate) answered: usize,
    pub(crate) blocks: usize,
    /// Addresses that attachments have, by the nodes that answered.
    pub(crate) addresses: usize,
    pub(crate) problems: Vec<Problem>,
    /// What `--fix` has done; absent where it was not asked for.
    #[serde(flatten)]
    pub(crate) mending: Option<Mending>,
    /// What could not be looked at, and why.
    pub(crate) unknown: Vec<Untold>,
}

/// What became of mending, a sentence each.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Mending {
    /// What was mended.
    pub(crate) fixed: Vec<String>,
    /// What was not, and why, or what people have to do about it.
    pub(crate) left: Vec<String>,
}

impl Mending {
    /// Nothing that is wrong is passed over: what is not for `--fix` to mend is left to people.
    pub(crate) fn leave(&mut self, problems: &[Problem]) {
        let people_s = problems.iter().filter(|problem| !problem.by_fix);
        self.left.extend(people_s.map(|problem| format!("{}: {}", problem.subject, problem.fix)));
    }
}

/// What the judgement rests on.
#[derive(Debug)]
pub(crate) struct Evidence {
    /// etcd at one revision, before the nodes were asked.
    pub(crate) census: Census,
    /// What the nodes said.
    pub(crate) live: Answers<Page>,
    /// Configuration, nodes and blocks after that.
    pub(crate) after: View,
    /// In seconds since 1970.
    pub(crate) now: u64,
}

/// What can be mended, and by whom.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Remedies {
    /// Nodes that do not exist: their blocks and mirrors are deleted.
    pub(crate) ghosts: BTreeSet<NodeName>,
    /// What nodes put right themselves.
    pub(crate) own: BTreeMap<NodeName, Own>,
}

/// What one node puts right. Whatever it is, it compares its mirror with etcd, too.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Own {
    /// Rows whose link is missing, or that are half-made.
    pub(crate) rows: BTreeSet<i64>,
    /// Host ends without a row.
    pub(crate) links: BTreeSet<String>,
}

/// Judges.
pub(crate) fn judge(evidence: &Evidence) -> (Check, Remedies) {
    let mut remedies = Remedies::default();
    let mut problems = cluster::judge(&evidence.census, evidence.now, &mut remedies);
    problems.extend(live::judge(evidence, &mut remedies));
    let silent = evidence.live.iter().filter_map(|(node, answer)| Some((node, answer.as_ref().err()?)));
    let unknown = silent
        .map(|(node, why)| Untold::new(format!("what node {node} has in use: {why}"), remedy(node.as_str(), why)));
    let unknown = unknown.collect();
    let pages = evidence.live.values().flatten();
    let check = Check {
        revision: evidence.census.view.revision,
        nodes: evidence.census.view.nodes.len(),
        answered: pages.clone().count(),
        blocks: evidence.census.view.blocks.len(),
        addresses: pages.flat_map(|page| &page.addresses).filter(|at| at.holder.state.is_attachments()).count(),
        problems,
        mending: None,
        unknown,
    };
    (check, remedies)
}

#[cfg(test)]
mod tests;
