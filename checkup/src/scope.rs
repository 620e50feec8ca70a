//! What is wanted of a machine: told by whoever checks it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use ipnetwork::IpNetwork;
use twill_conf::NodeName;
use twill_conf::cluster::Vxlan;
use twill_conf::node::{CniDirectories, MACHINE_ID_FILE, NodeLayer, RUN_DIR, STATE_DIR, TlsFiles, UnderlayChoice};

/// Whether a daemon serves the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Nothing of Twill need be there yet.
    Before,
    /// A daemon runs: what it makes shall stand.
    Serving,
}

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Scope {
    /// Whether a daemon runs.
    pub stage: Stage,
    /// The node's name, where it is not the host name.
    pub node_name: Option<NodeName>,
    /// The run directory.
    pub run_dir: PathBuf,
    /// The state directory.
    pub state_dir: PathBuf,
    /// The file with the machine's identity.
    pub machine_id_file: PathBuf,
    /// Where runtimes look.
    pub cni: CniDirectories,
    /// What is shown to etcd, where it has TLS.
    pub tls: Option<TlsFiles>,
    /// Of which version the plugin is to be.
    pub version: &'static str,
    /// The names of the interfaces between nodes; those of the default routes where there are none.
    pub underlay: Vec<String>,
    /// What the cluster wants.
    pub cluster: Cluster,
    /// Whether it is known how etcd is reached.
    pub etcd: bool,
}

/// What the cluster's configuration says.
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    /// Whether there is a configuration that the rest is taken from; else it is assumed.
    pub known: bool,
    /// The tunnel, where there is one.
    pub tunnel: Option<Tunnel>,
    /// The pools, by name. None where they are not known.
    pub pools: Vec<(String, IpNetwork)>,
    /// Whether pods have IPv4.
    pub ipv4: bool,
    /// Whether pods have IPv6.
    pub ipv6: bool,
    /// Whether the daemon opens the chains of well-known programs.
    pub open_forward: bool,
    /// The MTU that fits pods now, in bytes.
    pub fits: Option<u32>,
}

/// A tunnel between nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tunnel {
    /// The network identifier.
    pub vni: u32,
    /// The UDP port.
    pub port: u16,
    /// Whether this node's first tunnel goes by IPv6, where that is known; else the underlay's addresses tell.
    pub ipv6: Option<bool>,
}

impl Scope {
    /// Of a machine before Twill is installed: by the node's configuration file as far as there is one, and for a cluster with
    /// both families and VXLAN as it is by default.
    pub fn before(layer: &NodeLayer, version: &'static str) -> Result<Self, twill_conf::Error> {
        let of_family = |one: &Option<UnderlayChoice>| match one.as_ref().or(layer.underlay.as_ref()) {
            Some(UnderlayChoice::Name(name)) => Some(name.to_string()),
            // Which one it is the daemon finds out.
            Some(UnderlayChoice::Pattern(_) | UnderlayChoice::To(_)) | None => None,
        };
        let underlay: BTreeSet<String> =
            [&layer.underlay_ipv4, &layer.underlay_ipv6].into_iter().filter_map(of_family).collect();
        let Vxlan { vni, port, .. } = Vxlan::default();
        let path = |said: &Option<PathBuf>, default: &str| said.clone().unwrap_or_else(|| default.into());
        let etcd = layer.etcd_conf()?;
        Ok(Self {
            stage: Stage::Before,
            node_name: layer.node_name.clone(),
            run_dir: path(&layer.run_dir, RUN_DIR),
            state_dir: path(&layer.state_dir, STATE_DIR),
            machine_id_file: path(&layer.machine_id_file, MACHINE_ID_FILE),
            cni: layer.cni(),
            etcd: etcd.is_some(),
            tls: etcd.and_then(|etcd| etcd.tls),
            version,
            underlay: underlay.into_iter().collect(),
            cluster: Cluster {
                tunnel: Some(Tunnel { vni, port, ipv6: None }),
                ipv4: true,
                ipv6: true,
                ..Cluster::default()
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interfaces_that_the_nodes_file_names_are_looked_at_before_there_is_a_daemon() {
        let underlay = |toml: &str| Scope::before(&NodeLayer::from_toml(toml).unwrap(), "0").unwrap().underlay;
        assert_eq!(underlay(""), [""; 0]);
        assert_eq!(underlay("underlay = 'eth1'"), ["eth1"]);
        assert_eq!(underlay("underlay = 'eth1'\nunderlay_ipv6 = 'eth2'"), ["eth1", "eth2"]);
        assert_eq!(underlay("underlay = 'eth*'\nunderlay_ipv4 = 'to:192.0.2.1'"), [""; 0]);
    }
}
