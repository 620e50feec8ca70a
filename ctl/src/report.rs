//! Reports: what a command found, as data. Made by pure functions; printed elsewhere.
//!
//! Their JSON is what `-o json` prints. Its shape is for programs: fields may be added, never renamed.

pub(crate) mod attempts;
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
    Status(status::Status),
    Ipam(ipam::Ipam),
    Attempts(attempts::Attempts),
    Deleted(node::Deleted),
}

impl Report {
    pub(crate) fn verdict(&self) -> Verdict {
        match self {
            // What failed once may have been done since.
            Self::Attempts(_) => Verdict::Good,
            Self::Made(_) | Self::Valid(_) | Self::Applied(_) | Self::Shown(_) | Self::Deleted(_) => Verdict::Good,
            Self::Status(status) if status.problems.is_empty() => Verdict::Good,
            Self::Status(_) => Verdict::Problems,
            Self::Ipam(ipam) if !ipam.unknown.is_empty() => Verdict::Unknown,
            Self::Ipam(ipam) if ipam.problems.is_empty() => Verdict::Good,
            Self::Ipam(_) => Verdict::Problems,
        }
    }
}
