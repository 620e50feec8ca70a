//! The node configuration: what an operator tells one daemon, by file, environment and flags.
//!
//! Each source is a [`NodeLayer`], in which anything may be absent: [`NodeLayer::from_file`] reads TOML,
//! [`NodeLayer::from_environment`] variables, and the daemon makes one of its flags with [`NodeLayer::set`]. They are laid
//! over each other with [`NodeLayer::overlay`] (flags over environment over file), and [`NodeLayer::resolve`] fills what is
//! still absent with the defaults. A value is checked where it is read, so that the error names the key, variable or flag
//! that its writer knows.

#[cfg(feature = "schema")]
pub mod document;
mod etcd;
mod layer;
mod rules;
mod underlay;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::NodeName;
use crate::network::list::PLUGIN;

pub use etcd::{EtcdConf, IdentityFiles, Login, TlsFiles};
pub use layer::{NodeLayer, Setting};
#[cfg(feature = "schema")]
pub(crate) use rules::LONGEST_RUN_DIR;
pub use underlay::{Pattern, UnderlayChoice, UnderlayConf};

/// Where the plugin, the daemon and `twillctl` meet, unless told otherwise.
pub const RUN_DIR: &str = "/run/twill";
/// Where what outlives a boot is kept: the saved view.
pub const STATE_DIR: &str = "/var/lib/twill";
/// The prefix of all keys in etcd, unless told otherwise.
pub const ETCD_PREFIX: &str = "/twill/v1/";
/// The file that is read where none is named, if it is there.
pub const NODE_FILE: &str = "/etc/twill/twilld.toml";
/// Where the machine's identity is kept, unless told otherwise (machine-id(5)).
pub const MACHINE_ID_FILE: &str = "/etc/machine-id";
/// Where runtimes look for plugins, unless told otherwise.
pub const CNI_BIN_DIR: &str = "/opt/cni/bin";
/// Where runtimes look for networks, unless told otherwise.
pub const CNI_CONF_DIR: &str = "/etc/cni/net.d";

/// Where a runtime of the machine looks, each absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniDirectories {
    /// For plugins; `/opt/cni/bin` by default.
    pub bin: PathBuf,
    /// For networks; `/etc/cni/net.d` by default.
    pub conf: PathBuf,
}

impl CniDirectories {
    /// Twill's plugin, where it is installed.
    pub fn plugin(&self) -> PathBuf {
        self.bin.join(PLUGIN)
    }
}

/// One daemon's settings, complete and validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConf {
    /// This node's name; the host name by default.
    pub node_name: NodeName,
    /// How etcd is reached.
    pub etcd: EtcdConf,
    /// Begins and ends with '/'.
    pub prefix: String,
    /// The interfaces that carry traffic between nodes.
    pub underlay: UnderlayConf,
    /// The run directory, absolute.
    pub run_dir: PathBuf,
    /// The state directory, absolute.
    pub state_dir: PathBuf,
    /// The file with the machine's identity, `/etc/machine-id` by default, absolute.
    pub machine_id_file: PathBuf,
    /// Where a runtime of this machine looks.
    pub cni: CniDirectories,
    /// The directive of the log's filter, `info` by default. Not empty; what it means is for the log's filter to say.
    pub log: String,
    /// Where metrics and health are served by HTTP; nowhere by default.
    pub metrics: Option<SocketAddr>,
    /// Free words of the operator, published in the node's record. At most 64, and 4 KiB together,
    /// in printable ASCII.
    pub labels: BTreeMap<String, String>,
}

impl NodeConf {
    /// A commented file with every key: what is shipped as `/etc/twill/twilld.toml`.
    pub const SAMPLE: &str = include_str!("../samples/twilld.toml");
}

/// Checks a run directory, for programs that take one without a [`NodeLayer`]: absolute, and short enough for the sockets in
/// it. `key` is the name under which its writer knows it, as in `runDir`.
pub fn parse_run_dir(key: &str, text: &str) -> Result<PathBuf, crate::Error> {
    rules::run_dir(key, text)
}
