//! The flags of `twilld install` and `twilld uninstall`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use twill_conf::NetworkName;

/// The flags of `install`.
#[derive(Debug, Args)]
pub struct InstallFlags {
    /// The plugin to install [default: `twill` beside this program]
    #[arg(long, value_name = "FILE")]
    pub plugin: Option<PathBuf>,
    /// Where to.
    #[command(flatten)]
    pub place: Place,
    /// The network's name
    #[arg(long, value_name = "NAME", default_value = "twill")]
    pub network_name: NetworkName,
    /// A node that stands alone, without daemon and etcd: where its pods get their addresses from, comma-separated
    #[arg(long, value_name = "PREFIX[,PREFIX]", value_delimiter = ',')]
    pub subnets: Vec<String>,
    /// Where plugin and daemon meet.
    #[command(flatten)]
    pub knowledge: Knowledge,
    /// Write the network's list even if the node has no addresses to give yet
    #[arg(long)]
    pub no_wait: bool,
    /// For how long to wait until the node has addresses to give
    #[arg(long, value_name = "SECONDS", default_value_t = 60, conflicts_with = "no_wait")]
    timeout: u64,
    /// Stay after the installation until told to stop, as a container beside the daemon's must
    #[arg(long)]
    pub stay: bool,
}

/// The flags of `uninstall`.
#[derive(Debug, Args)]
pub struct UninstallFlags {
    /// Also remove what the daemon made on this node: devices, routes, firewall tables, the files of the run and the state
    /// directory. The daemon must not run
    #[arg(long)]
    pub purge: bool,
    /// Where from.
    #[command(flatten)]
    pub place: Place,
    /// Where plugin and daemon meet.
    #[command(flatten)]
    pub knowledge: Knowledge,
}

/// What is put there, or taken from there.
#[derive(Debug, Args)]
pub struct Place {
    /// The name of the network's list; the first by name wins
    #[arg(long, value_name = "NAME", default_value = "05-twill.conflist")]
    pub conflist_name: ListName,
    /// Also where list or plugin are somebody else's, the list was edited, or pods are attached that need them
    #[arg(long)]
    pub force: bool,
}

/// What the node configuration says that concerns the plugin.
#[derive(Debug, Args)]
pub struct Knowledge {
    /// Where runtimes look for plugins [default: as the daemon's, /opt/cni/bin]
    #[arg(long, value_name = "DIR")]
    pub cni_bin_dir: Option<String>,
    /// Where runtimes look for networks [default: as the daemon's, /etc/cni/net.d]
    #[arg(long, value_name = "DIR")]
    pub cni_conf_dir: Option<String>,
    /// Where plugin, daemon and twillctl meet [default: as the daemon's, /run/twill; to uninstall, as in the list]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<String>,
    /// The node configuration, a TOML file [default: /etc/twill/twilld.toml, if it is there]
    #[arg(long, value_name = "FILE", env = "TWILLD_CONFIG")]
    pub config: Option<PathBuf>,
}

impl InstallFlags {
    /// For how long to wait for addresses.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

/// The name of a list in the directory of networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListName(String);

/// A name that runtimes would not read, or not there.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("a file name of letters, digits, '.', '_' and '-' that begins with a letter or digit and ends in .conflist")]
pub struct InvalidListName;

impl ListName {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ListName {
    type Err = InvalidListName;
    fn from_str(text: &str) -> Result<Self, InvalidListName> {
        let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let begins = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        let good = begins && text.bytes().all(word) && text.ends_with(".conflist") && text.len() <= 200;
        if good { Ok(Self(text.to_owned())) } else { Err(InvalidListName) }
    }
}

impl fmt::Display for ListName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
