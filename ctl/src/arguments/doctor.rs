//! `twillctl doctor`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use twill_conf::NodeName;

/// What is to be looked at.
#[derive(Debug, Args)]
pub(crate) struct DoctorFlags {
    /// Look at this node alone; may be said several times
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Vec<NodeName>,
    /// Look at this machine alone, on which nothing of Twill need be there: neither daemon nor etcd is asked
    #[arg(long, conflicts_with_all = ["node", "timeout"])]
    pub(crate) preflight: bool,
    /// With --preflight: where runtimes look for plugins [default: /opt/cni/bin]
    #[arg(long, value_name = "DIR", requires = "preflight")]
    pub(crate) cni_bin_dir: Option<PathBuf>,
    /// With --preflight: where runtimes look for networks [default: /etc/cni/net.d]
    #[arg(long, value_name = "DIR", requires = "preflight")]
    pub(crate) cni_conf_dir: Option<PathBuf>,
    /// How long to wait for the answer of a node, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
}

impl DoctorFlags {
    /// How long the answer of a node is waited for.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}
