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
pub(crate) mod doctor;
pub(crate) mod ipam;
pub(crate) mod node;
pub(crate) mod pools;
pub(crate) mod problems;
pub(crate) mod silences;
pub(crate) mod status;
pub(crate) mod trace;
pub(crate) mod trial;
pub(crate) mod untold;
pub(crate) mod why;

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
    LocalStatus(Box<status::Alone>),
    /// All of it was shown already, and this is what it came to.
    #[serde(skip)]
    Watched(Verdict),
    WhyPod(why::pod::WhyPod),
    WhyIp(Box<why::ip::WhyIp>),
    WhyNode(Box<why::node::WhyNode>),
    Ipam(ipam::Ipam),
    Attempts(attempts::Attempts),
    Addresses(addresses::Addresses),
    Check(check::Check),
    Peers(bgp::Peers),
    Routes(bgp::Routes),
    Explained(bgp::Explained),
    Trace(trace::Trace),
    Doctor(doctor::Doctor),
    Nodes(node::Nodes),
    Node(Box<node::NodeShown>),
    Drained(node::Drained),
    Deleted(node::Deleted),
    Bundle(bundle::Bundle),
    Version(about::Version),
    Script(about::Script),
    Pages(about::Pages),
    Tested(trial::test::Tested),
    Benched(Box<trial::bench::Benched>),
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
            Self::Status(status) => of_both(&status.problems, &status.unknown),
            Self::LocalStatus(_) => Verdict::Unknown,
            Self::Watched(verdict) => *verdict,
            Self::WhyPod(why) if why.is_found() => of_problems(&why.problems),
            Self::WhyPod(why) => of_both(&why.problems, &why.unknown),
            Self::WhyIp(why) => of_both(&why.problems, &why.unknown),
            Self::WhyNode(why) => of_both(&why.problems, &why.unknown),
            Self::Bundle(bundle) if bundle.unknown.is_empty() => Verdict::Good,
            Self::Bundle(_) => Verdict::Unknown,
            Self::Script(_) | Self::Pages(_) => Verdict::Good,
            Self::Version(version) => version.cluster.as_ref().map_or(Verdict::Good, |all| of_problems(&all.problems)),
            Self::Ipam(ipam) if !ipam.unknown.is_empty() => Verdict::Unknown,
            Self::Ipam(ipam) => of_problems(&ipam.problems),
            Self::Addresses(addresses) => addresses.verdict(),
            // A problem is one, whatever else could not be seen.
            Self::Check(check) if check.problems.is_empty() && !check.unknown.is_empty() => Verdict::Unknown,
            Self::Check(check) => of_problems(&check.problems),
            Self::Peers(peers) if peers.problems.is_empty() && !peers.unknown.is_empty() => Verdict::Unknown,
            Self::Peers(peers) => of_problems(&peers.problems),
            Self::Doctor(doctor) if doctor.problems.is_empty() && !doctor.unknown.is_empty() => Verdict::Unknown,
            Self::Doctor(doctor) => of_problems(&doctor.problems),
            Self::Routes(_) => Verdict::Good,
            Self::Explained(explained) if explained.is_used() => Verdict::Good,
            Self::Explained(_) => Verdict::Problems,
            Self::Trace(trace) => trace.verdict(),
            Self::Nodes(nodes) => of_problems(&nodes.problems),
            Self::Tested(tested) if tested.problems.is_empty() && !tested.unknown.is_empty() => Verdict::Unknown,
            Self::Tested(tested) => of_problems(&tested.problems),
            Self::Benched(benched) if benched.problems.is_empty() && !benched.unknown.is_empty() => Verdict::Unknown,
            Self::Benched(benched) => of_problems(&benched.problems),
            Self::Node(node) => of_problems(&node.problems),
        }
    }
}

/// A problem is one, whatever else could not be seen.
fn of_both(problems: &[problems::Problem], unknown: &[untold::Untold]) -> Verdict {
    if problems.is_empty() && !unknown.is_empty() { Verdict::Unknown } else { of_problems(problems) }
}

fn of_problems(problems: &[problems::Problem]) -> Verdict {
    if problems.is_empty() { Verdict::Good } else { Verdict::Problems }
}
