//! What is wanted of a machine: told by whoever checks it.

use std::path::PathBuf;

use ipnetwork::IpNetwork;
use twill_conf::NodeName;
use twill_conf::cluster::Vxlan;
use twill_conf::node::{CniDirectories, MACHINE_ID_FILE, NodeLayer, RUN_DIR, STATE_DIR, TlsFiles};

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
            underlay: Vec::new(),
            cluster: Cluster {
                tunnel: Some(Tunnel { vni, port, ipv6: None }),
                ipv4: true,
                ipv6: true,
                ..Cluster::default()
            },
        })
    }
}
