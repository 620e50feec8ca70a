//! The CNI network configuration: what a runtime hands to the plugin on standard input.
//!
//! One object of JSON, read once. The plugin maps the errors to codes: [`Error::Syntax`] is 6, [`Error::Unsupported`] is 2,
//! every other one is 7.

mod attachments;
mod bandwidth;
mod capabilities;
mod dns;
#[cfg(feature = "schema")]
pub mod document;
pub mod list;
mod read;
mod requested;
mod routes;
mod unsupported;

use std::path::PathBuf;

use ipnetwork::IpNetwork;

pub use attachments::ValidAttachment;
pub use capabilities::parse_address;
pub use requested::{
    Bandwidth, Dns, GATEWAY_V4, GATEWAY_V6, InvalidMac, Mac, PortMapping, Protocol, Requested, Route, Shape, ask_for,
    everything, gateway,
};

use crate::section::{Dialect, Section, parse_json};
use crate::{Error, NetworkName, PoolName};

/// The versions of the CNI specification that the plugin speaks, the oldest first.
pub const CNI_VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// A network configuration, parsed and validated. Keys of other plugins in a chain are not ours to judge: unknown keys
/// at the top level that the CNI specification does not name are refused with the key.
#[derive(Debug, Clone)]
pub struct NetworkConf {
    /// The version that the result is to have, as it was written; "0.1.0" where it was not. Not yet judged.
    pub cni_version: String,
    /// The network's name.
    pub name: NetworkName,
    /// The run directory, `/run/twill` by default (`runDir`).
    pub run_dir: PathBuf,
    /// Stand-alone: the ranges to give addresses from, with neither daemon nor etcd (`subnets`). Empty otherwise.
    pub subnets: Vec<IpNetwork>,
    /// The pools to use; empty means any (`pools`).
    pub pools: Vec<PoolName>,
    /// The MTU of the pod's interface in bytes, the node's by default (`mtu`). At least 68, which IPv4 needs, and 1280 where
    /// `subnets` has IPv6; without `subnets` whoever knows the families has to look.
    pub mtu: Option<u32>,
    /// Whether a pod may send by its own addresses only, true by default (`spoofCheck`).
    pub spoof_check: bool,
    /// Whether that is asked by a filter at the host's end of the pod's veth, false by default (`hostEndFilter`): it costs packets less than
    /// the rules of the daemon's firewall, and does not hold pods that have CAP_NET_ADMIN.
    pub host_end_filter: bool,
    /// What the runtime asks for this attachment (`runtimeConfig`, `args.cni`), and the limits of the network.
    pub requested: Requested,
    /// What the pod reaches by the interface beside the default routes, or for a further interface at all (`routes`).
    pub routes: Vec<Route>,
    /// The network's name servers (`dns`), where the runtime tells none.
    pub dns: Option<Dns>,
    /// The result of the plugin before us in the chain, or for CHECK and DEL the result of the chain, as it came.
    pub prev_result: Option<serde_json::Value>,
}

const DOCUMENT: &str = "the network configuration on standard input";

impl NetworkConf {
    /// Reads all of it, for every verb that gives or checks.
    pub fn from_json(text: &[u8]) -> Result<Self, Error> {
        let entries = parse_json(DOCUMENT, text)?;
        read::whole(&Section::root(&entries, Dialect::Json))
    }

    /// Reads only what says which attachment is meant and where it is kept: version, name and run directory. A DEL
    /// must work with a configuration whose other parts no longer parse; they are left at their defaults, and
    /// `prevResult` is taken only where it is an object.
    pub fn for_delete(text: &[u8]) -> Result<Self, Error> {
        let entries = parse_json(DOCUMENT, text)?;
        read::identity(&Section::root(&entries, Dialect::Json))
    }

    /// The version that is asked for, of a document that may be refused for all the rest; `None` where it names none.
    pub fn version_of(text: &[u8]) -> Result<Option<String>, Error> {
        let entries = parse_json(DOCUMENT, text)?;
        read::version(&Section::root(&entries, Dialect::Json)).map(|version| version.map(str::to_owned))
    }
}
