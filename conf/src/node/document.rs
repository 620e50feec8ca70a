//! The node configuration as a document: its keys, for the reference and for editors.

use std::collections::BTreeMap;

use schemars::JsonSchema;

use super::{CNI_BIN_DIR, CNI_CONF_DIR, ETCD_PREFIX, MACHINE_ID_FILE, RUN_DIR, STATE_DIR};
use crate::kind::{AbsolutePath, Interface, KeyPrefix, Listening, LogFilter, NodeName, RunDir, Url, User};

/// What an operator tells one daemon: `/etc/twill/twilld.toml`, or the file given with `--config`.
#[derive(Debug, JsonSchema)]
#[schemars(title = "Twill: the configuration of a node", deny_unknown_fields)]
pub struct Node {
    /// The name of this node, unique in the cluster.
    #[schemars(extend("x-default" = "the host name"), extend("examples" = ["node-1"]))]
    pub node_name: Option<NodeName>,
    /// The endpoints of etcd, all members: at least one, here or by flag or variable.
    #[schemars(length(min = 1), extend("examples" = [["https://10.0.0.1:2379", "https://10.0.0.2:2379"]]))]
    pub etcd: Option<Vec<Url>>,
    /// The certificates of the CAs that may have signed etcd's (PEM). Required with `https`.
    #[schemars(extend("examples" = ["/etc/twill/etcd/ca.crt"]))]
    pub etcd_ca: Option<AbsolutePath>,
    /// The certificate that is shown to etcd (PEM), beside `etcd_key`.
    #[schemars(extend("examples" = ["/etc/twill/etcd/node.crt"]))]
    pub etcd_cert: Option<AbsolutePath>,
    /// Its private key (PEM, not encrypted).
    #[schemars(extend("examples" = ["/etc/twill/etcd/node.key"]))]
    pub etcd_key: Option<AbsolutePath>,
    /// A user of etcd, where the certificate does not name one; beside `etcd_password_file`.
    #[schemars(extend("examples" = ["node-1"]))]
    pub etcd_user: Option<User>,
    /// The file with the user's password, on its first line.
    #[schemars(extend("examples" = ["/etc/twill/etcd/password"]))]
    pub etcd_password_file: Option<AbsolutePath>,
    /// What all keys in etcd begin with. Clusters that share an etcd have different ones.
    #[schemars(extend("x-default" = format!("`{ETCD_PREFIX:?}`")), extend("examples" = ["/twill/v1/"]))]
    pub prefix: Option<KeyPrefix>,
    /// The interface that carries traffic between nodes.
    #[schemars(extend("x-default" = "that of the default route, IPv4's first"), extend("examples" = ["eth0"]))]
    pub underlay: Option<Interface>,
    /// The same for IPv4 alone.
    #[schemars(extend("x-default" = "that of `underlay`"), extend("examples" = ["to:10.0.0.1"]))]
    pub underlay_ipv4: Option<Interface>,
    /// The same for IPv6 alone.
    #[schemars(extend("x-default" = "that of `underlay`"), extend("examples" = ["to:fd00::1"]))]
    pub underlay_ipv6: Option<Interface>,
    /// Where the plugin, the daemon and `twillctl` meet. The network configuration has to name the same (`runDir`).
    #[schemars(extend("x-default" = format!("`{RUN_DIR:?}`")), extend("examples" = ["/run/twill"]))]
    pub run_dir: Option<RunDir>,
    /// What outlives a boot.
    #[schemars(extend("x-default" = format!("`{STATE_DIR:?}`")), extend("examples" = ["/var/lib/twill"]))]
    pub state_dir: Option<AbsolutePath>,
    /// The identity of this machine, by which a node of the same name on another machine is told from this one.
    #[schemars(extend("x-default" = format!("`{MACHINE_ID_FILE:?}`")), extend("examples" = ["/etc/machine-id"]))]
    pub machine_id_file: Option<AbsolutePath>,
    /// Where container runtimes look for plugins: `twilld install` puts Twill's there, `twillctl doctor` looks whether it is there, and
    /// `twillctl test` and `twillctl bench` attach their pods by it.
    #[schemars(extend("x-default" = format!("`{CNI_BIN_DIR:?}`")), extend("examples" = ["/usr/lib/cni"]))]
    pub cni_bin_dir: Option<AbsolutePath>,
    /// Where container runtimes look for networks: `twilld install` puts Twill's there, and `twillctl doctor` looks which of them is
    /// the first.
    #[schemars(extend("x-default" = format!("`{CNI_CONF_DIR:?}`")), extend("examples" = ["/etc/cni/net.d"]))]
    pub cni_conf_dir: Option<AbsolutePath>,
    /// What is logged.
    #[schemars(extend("x-default" = "`\"info\"`"), extend("examples" = ["info,twilld=debug"]))]
    pub log: Option<LogFilter>,
    /// Where metrics and health are served by HTTP.
    #[schemars(extend("x-default" = "nowhere"), extend("examples" = ["127.0.0.1:9477"]))]
    pub metrics: Option<Listening>,
    /// Free words about this node, published to the others: by them selectors choose nodes. At most 64, and 4 KiB together, in
    /// ASCII. A name has letters, digits, `-`, `_`, `.` and `/`, at most 128; a value at most 256 printable characters.
    #[schemars(
        extend("examples" = [{ "zone": "a", "disk": "fast" }]),
        extend("maxProperties" = 64, "propertyNames" = { "pattern": "^[A-Za-z0-9]([A-Za-z0-9_./-]{0,126}[A-Za-z0-9])?$" })
    )]
    pub labels: Option<BTreeMap<String, String>>,
}
