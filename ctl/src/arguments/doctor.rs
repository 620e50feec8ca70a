//! `twillctl doctor`.

use clap::Args;
use twill_conf::NodeName;
use twill_conf::node::Setting;

/// What is to be looked at.
#[derive(Debug, Args)]
pub(crate) struct DoctorFlags {
    /// Look at this node alone; may be said several times
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Vec<NodeName>,
    /// Look at this machine alone, on which nothing of Twill need be there: neither daemon nor etcd is asked
    #[arg(long, conflicts_with_all = ["node", "timeout"])]
    pub(crate) preflight: bool,
    /// With --preflight: where runtimes look for plugins [default: as the daemon's file says, /opt/cni/bin]
    #[arg(long, value_name = "DIR", requires = "preflight")]
    cni_bin_dir: Option<String>,
    /// With --preflight: where runtimes look for networks [default: as the daemon's file says, /etc/cni/net.d]
    #[arg(long, value_name = "DIR", requires = "preflight")]
    cni_conf_dir: Option<String>,
}

impl DoctorFlags {
    /// What else of the node's configuration is said by a flag.
    pub(crate) fn settings(&self) -> [(Setting, &Option<String>); 2] {
        [(Setting::CniBinDir, &self.cni_bin_dir), (Setting::CniConfDir, &self.cni_conf_dir)]
    }
}
