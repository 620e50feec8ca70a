//! `config diff` and `config apply --dry-run`: what a configuration would change, and what would be said to that.

use serde::Serialize;
use twill_conf::NodeName;

use super::Change;
use crate::report::Verdict;
use crate::report::problems::Problem;

/// What would become of the cluster by a configuration.
#[derive(Debug, Serialize)]
pub(crate) struct Outlook {
    /// The file that it was read from.
    pub(crate) document: String,
    /// At which the one in etcd stands; absent where there is none.
    pub(crate) revision: Option<i64>,
    /// What an application would do.
    pub(crate) would: Would,
    pub(crate) changes: Vec<Change>,
    /// The nodes whose pods, routes or sessions these are about.
    pub(crate) nodes: Vec<NodeName>,
    /// How many nodes there are.
    pub(crate) of_nodes: usize,
    /// Why it would be refused.
    pub(crate) refusals: Vec<String>,
    /// What living pods would lose: refused, unless by force.
    pub(crate) perils: Vec<String>,
    /// What it brings about and may not be meant.
    pub(crate) notes: Vec<Problem>,
}

impl Outlook {
    /// That of an application.
    pub(crate) fn verdict(&self) -> Verdict {
        match self.would {
            Would::Nothing | Would::Apply => Verdict::Good,
            Would::RefuseWithoutForce | Would::Refuse => Verdict::Problems,
        }
    }
}

/// What an application would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Would {
    /// All of it stands already.
    Nothing,
    /// Write it.
    Apply,
    /// Refuse it, but not with `--force`.
    RefuseWithoutForce,
    /// Refuse it.
    Refuse,
}
