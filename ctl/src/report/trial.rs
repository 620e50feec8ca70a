//! What is found by pods that stand for a short while: whether packets come through ([`mod@test`]), and how fast ([`mod@bench`]).

pub(crate) mod bench;
pub(crate) mod blame;
pub(crate) mod junit;
pub(crate) mod plan;
pub(crate) mod test;

use twill_cluster::inquiry::client::Silence;
use twill_cluster::record::Told;
use twill_conf::NodeName;

use super::problems::Problem;

/// A node has not done what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It says why.
    Refused(Told),
    /// It has not answered, or not to this; whether it has done something is not known.
    Silent(Told),
    /// It was not asked, or does not know the question.
    Unasked(Told),
}

impl Failure {
    /// It says why.
    pub(crate) fn refused(told: Told) -> Self {
        Self::Refused(told)
    }

    /// There is no answer.
    pub(crate) fn silent(why: &Silence) -> Self {
        let told = |fix: &str| Told { what: why.to_string(), fix: fix.to_owned() };
        match why {
            Silence::Dead => Self::Unasked(told("look at twilld there: is it running, and does it reach etcd?")),
            Silence::Unsupported { .. } => Self::Unasked(told("update twilld there")),
            Silence::Timeout(_) => Self::Silent(told(
                "look at twilld there: is it running, and does it reach etcd? Try again, with a longer --timeout",
            )),
            _ => Self::Silent(told(
                "try again; if it stays so, look at twilld there, and at etcd's roles (docs/etcd.md)",
            )),
        }
    }

    /// Whether nothing can stand on the node by what it was asked for.
    pub(crate) fn is_certain(&self) -> bool {
        !matches!(self, Self::Silent(_))
    }

    pub(crate) fn told(&self) -> &Told {
        match self {
            Self::Refused(told) | Self::Silent(told) | Self::Unasked(told) => told,
        }
    }

    fn problem(&self, node: &NodeName) -> Problem {
        let Told { what, fix } = self.told();
        Problem::new(format!("node {node}"), what, fix)
    }
}

/// What is said where pods are left.
fn left(nodes: &[NodeName]) -> Vec<String> {
    let line = |node: &NodeName| {
        format!(
            "whether the pods on {node} are gone: it takes them down by itself when it has heard nothing for a while"
        )
    };
    nodes.iter().map(line).collect()
}
