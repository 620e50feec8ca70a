//! What is found: for each check one line at least, also where all is good.

use std::fmt;

use twill_cluster::inquiry::checkup as wire;

pub use wire::State;

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// The kernel's version and features.
    Kernel,
    /// The program nft.
    Nft,
    /// Forwarding, reverse path filters, and what bridges do.
    Sysctl,
    /// How full the kernel's table of connections is.
    Conntrack,
    /// The chains of others.
    Firewall,
    /// Other programs that manage the network.
    Managers,
    /// The sizes of packets.
    Mtu,
    /// The tunnel's UDP port and identifier.
    Tunnel,
    /// The machine's own addresses and routes, and the pools.
    Overlap,
    /// The time of day.
    Clock,
    /// The certificates that are shown to etcd.
    Certificates,
    /// The plugin, and the runtime's directory of networks.
    Cni,
    /// What the process may do.
    Permissions,
    /// The run directory and the state directory.
    Directories,
    /// The machine ID and the node's name.
    Identity,
}

impl Check {
    /// Its name, which stays.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Nft => "nft",
            Self::Sysctl => "sysctl",
            Self::Conntrack => "conntrack",
            Self::Firewall => "firewall",
            Self::Managers => "managers",
            Self::Mtu => "mtu",
            Self::Tunnel => "tunnel",
            Self::Overlap => "overlap",
            Self::Clock => "clock",
            Self::Certificates => "certificates",
            Self::Cni => "cni",
            Self::Permissions => "permissions",
            Self::Directories => "directories",
            Self::Identity => "identity",
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Of which check.
    pub check: Check,
    /// How it stands.
    pub state: State,
    /// What it is about, as in "interface eth0"; empty where the check's name says it.
    pub subject: String,
    /// What was found, with the likely cause.
    pub what: String,
    /// What to do; empty where it is good.
    pub fix: String,
}

/// As an answer carries it, whose reader may be of another version.
impl From<Finding> for wire::Finding {
    fn from(finding: Finding) -> Self {
        let Finding { check, state, subject, what, fix } = finding;
        Self { check: check.name().to_owned(), state, subject, what, fix }
    }
}

impl Finding {
    /// Something good.
    pub fn ok(check: Check, subject: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(check, State::Ok, subject, what, "")
    }

    /// Something that is worth a word.
    pub fn note(check: Check, subject: impl Into<String>, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(check, State::Note, subject, what, fix)
    }

    /// A problem.
    pub fn problem(check: Check, subject: impl Into<String>, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(check, State::Problem, subject, what, fix)
    }

    /// Something that could not be told, and what would let it be.
    pub fn unknown(check: Check, subject: impl Into<String>, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(check, State::Unknown, subject, what, fix)
    }

    /// On one line: what programs complain has several.
    fn new(
        check: Check,
        state: State,
        subject: impl Into<String>,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        let what: String = what.into();
        let what = what.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
        Self { check, state, subject: subject.into(), what, fix: fix.into() }
    }
}
