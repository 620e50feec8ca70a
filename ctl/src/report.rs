//! Reports: what a command found, as data. Made by pure functions; printed elsewhere.
//!
//! Their JSON is what `-o json` prints. Its shape is for programs: fields may be added, never renamed.

pub(crate) mod about;
pub(crate) mod addresses;
pub(crate) mod attempts;
pub(crate) mod bgp;
pub(crate) mod bundle;
pub(crate) mod check;
pub(crate) mod config;
pub(crate) mod ipam;
pub(crate) mod node;
pub(crate) mod pools;
pub(crate) mod problems;
pub(crate) mod status;

use serde::Serialize;

/// What a report, or its absence, says about the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    Good,
    Problems,
    Unknown,
}

/// Any report.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Report {
    Made(config::Made),
    Valid(config::Valid),
    Applied(config::Applied),
    Shown(config::Shown),
    Compared(config::Outlook),
    Rehearsed(config::Outlook),
    Status(status::Status),
    Ipam(ipam::Ipam),
    Attempts(attempts::Attempts),
    Addresses(addresses::Addresses),
    Check(check::Check),
    Peers(bgp::Peers),
    Routes(bgp::Routes),
    Explained(bgp::Explained),
    Nodes(node::Nodes),
    Node(Box<node::NodeShown>),
    Drained(node::Drained),
    Deleted(node::Deleted),
    Bundle(bundle::Bundle),
    Version(about::Version),
    Script(about::Script),
    Pages(about::Pages),
}

impl Report {
    pub(crate) fn verdict(&self) -> Verdict {
        match self {
            // What failed once may have been done since.
            Self::Attempts(_) => Verdict::Good,
            Self::Made(_) | Self::Valid(_) | Self::Applied(_) | Self::Shown(_) => Verdict::Good,
            Self::Compared(outlook) if outlook.would == config::Would::Nothing => Verdict::Good,
            Self::Compared(_) => Verdict::Problems,
            Self::Rehearsed(outlook) => outlook.verdict(),
            Self::Deleted(_) | Self::Drained(_) => Verdict::Good,
            Self::Bundle(bundle) if bundle.unknown.is_empty() => Verdict::Good,
            Self::Bundle(_) => Verdict::Unknown,
            Self::Script(_) | Self::Pages(_) => Verdict::Good,
            Self::Version(version) => version.cluster.as_ref().map_or(Verdict::Good, |all| of_problems(&all.problems)),
            Self::Status(status) => of_problems(&status.problems),
            Self::Ipam(ipam) if !ipam.unknown.is_empty() => Verdict::Unknown,
            Self::Ipam(ipam) => of_problems(&ipam.problems),
            Self::Addresses(addresses) => addresses.verdict(),
            // A problem is one, whatever else could not be seen.
            Self::Check(check) if check.problems.is_empty() && !check.unknown.is_empty() => Verdict::Unknown,
            Self::Check(check) => of_problems(&check.problems),
            Self::Peers(peers) if peers.problems.is_empty() && !peers.unknown.is_empty() => Verdict::Unknown,
            Self::Peers(peers) => of_problems(&peers.problems),
            Self::Routes(_) => Verdict::Good,
            Self::Explained(explained) if explained.is_used() => Verdict::Good,
            Self::Explained(_) => Verdict::Problems,
            Self::Nodes(nodes) => of_problems(&nodes.problems),
            Self::Node(node) => of_problems(&node.problems),
        }
    }
}

fn of_problems(problems: &[problems::Problem]) -> Verdict {
    if problems.is_empty() { Verdict::Good } else { Verdict::Problems }
}
