//! One source of settings, and how sources lie over each other.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::{
    CNI_BIN_DIR, CNI_CONF_DIR, CniDirectories, ETCD_PREFIX, MACHINE_ID_FILE, NODE_FILE, NodeConf, RUN_DIR, STATE_DIR,
    UnderlayChoice, UnderlayConf, rules,
};
use crate::section::{Dialect, Section, parse_toml, unknown_key};
use crate::{Error, NodeName};

/// One layer of settings; what is absent is taken from the layer below.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeLayer {
    /// As in [`NodeConf::node_name`], and so on.
    pub node_name: Option<NodeName>,
    /// The endpoints of etcd.
    pub etcd: Option<Vec<String>>,
    /// The certificates of the CAs that may have signed etcd's.
    pub etcd_ca: Option<PathBuf>,
    /// The certificate that is shown to etcd.
    pub etcd_cert: Option<PathBuf>,
    /// Its private key.
    pub etcd_key: Option<PathBuf>,
    /// The user of etcd.
    pub etcd_user: Option<String>,
    /// The file with the user's password.
    pub etcd_password_file: Option<PathBuf>,
    /// The prefix in etcd.
    pub prefix: Option<String>,
    /// The interface between nodes.
    pub underlay: Option<UnderlayChoice>,
    /// The same for IPv4 alone.
    pub underlay_ipv4: Option<UnderlayChoice>,
    /// The same for IPv6 alone.
    pub underlay_ipv6: Option<UnderlayChoice>,
    /// The run directory.
    pub run_dir: Option<PathBuf>,
    /// The state directory.
    pub state_dir: Option<PathBuf>,
    /// The file with the machine's identity.
    pub machine_id_file: Option<PathBuf>,
    /// Where runtimes look for plugins.
    pub cni_bin_dir: Option<PathBuf>,
    /// Where runtimes look for networks.
    pub cni_conf_dir: Option<PathBuf>,
    /// The log's filter.
    pub log: Option<String>,
    /// Where metrics and health are served.
    pub metrics: Option<SocketAddr>,
    /// The labels. A higher layer's replace a lower layer's, they are not merged.
    pub labels: Option<BTreeMap<String, String>>,
}

/// The settings, by which flags and variables can be named without writing them down twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// `node_name`
    NodeName,
    /// `etcd`: URLs, comma-separated.
    Etcd,
    /// `etcd_ca`
    EtcdCa,
    /// `etcd_cert`
    EtcdCert,
    /// `etcd_key`
    EtcdKey,
    /// `etcd_user`
    EtcdUser,
    /// `etcd_password_file`
    EtcdPasswordFile,
    /// `prefix`
    Prefix,
    /// `underlay`
    Underlay,
    /// `underlay_ipv4`
    UnderlayIpv4,
    /// `underlay_ipv6`
    UnderlayIpv6,
    /// `run_dir`
    RunDir,
    /// `state_dir`
    StateDir,
    /// `machine_id_file`
    MachineIdFile,
    /// `cni_bin_dir`
    CniBinDir,
    /// `cni_conf_dir`
    CniConfDir,
    /// `log`
    Log,
    /// `metrics`
    Metrics,
    /// `labels`, as in `zone=a,rack=7`.
    Labels,
}

impl Setting {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::NodeName,
        Self::Etcd,
        Self::EtcdCa,
        Self::EtcdCert,
        Self::EtcdKey,
        Self::EtcdUser,
        Self::EtcdPasswordFile,
        Self::Prefix,
        Self::Underlay,
        Self::UnderlayIpv4,
        Self::UnderlayIpv6,
        Self::RunDir,
        Self::StateDir,
        Self::MachineIdFile,
        Self::CniBinDir,
        Self::CniConfDir,
        Self::Log,
        Self::Metrics,
        Self::Labels,
    ];

    /// The key in the file, as in `run_dir`.
    pub fn key(self) -> &'static str {
        match self {
            Self::NodeName => "node_name",
            Self::Etcd => "etcd",
            Self::EtcdCa => "etcd_ca",
            Self::EtcdCert => "etcd_cert",
            Self::EtcdKey => "etcd_key",
            Self::EtcdUser => "etcd_user",
            Self::EtcdPasswordFile => "etcd_password_file",
            Self::Prefix => "prefix",
            Self::Underlay => "underlay",
            Self::UnderlayIpv4 => "underlay_ipv4",
            Self::UnderlayIpv6 => "underlay_ipv6",
            Self::RunDir => "run_dir",
            Self::StateDir => "state_dir",
            Self::MachineIdFile => "machine_id_file",
            Self::CniBinDir => "cni_bin_dir",
            Self::CniConfDir => "cni_conf_dir",
            Self::Log => "log",
            Self::Metrics => "metrics",
            Self::Labels => "labels",
        }
    }

    /// The flag, as in `--run-dir`.
    pub fn flag(self) -> String {
        format!("--{}", self.key().replace('_', "-"))
    }

    /// Key and flag, for what is wrong with settings of several sources together: its writer knows one of them.
    pub(super) fn names(self) -> String {
        format!("{} ({})", self.key(), self.flag())
    }

    /// The environment variable, as in `TWILLD_RUN_DIR`.
    pub fn variable(self) -> String {
        format!("{VARIABLES}{}", self.key().to_ascii_uppercase())
    }
}

/// What our variables begin with.
const VARIABLES: &str = "TWILLD_";
/// Names the file itself; the daemon reads it before there is a layer.
const FILE_VARIABLE: &str = "TWILLD_CONFIG";

impl NodeLayer {
    /// Takes one setting from text, under the name that its writer knows (`--run-dir`), which errors carry.
    pub fn set(&mut self, setting: Setting, shown_as: &str, text: &str) -> Result<(), Error> {
        match setting {
            Setting::NodeName => self.node_name = Some(node_name(shown_as, text)?),
            Setting::Etcd => self.etcd = Some(rules::endpoints(shown_as, text)?),
            Setting::EtcdCa => self.etcd_ca = Some(rules::path(shown_as, text)?),
            Setting::EtcdCert => self.etcd_cert = Some(rules::path(shown_as, text)?),
            Setting::EtcdKey => self.etcd_key = Some(rules::path(shown_as, text)?),
            Setting::EtcdUser => self.etcd_user = Some(rules::user(shown_as, text)?),
            Setting::EtcdPasswordFile => self.etcd_password_file = Some(rules::path(shown_as, text)?),
            Setting::Prefix => self.prefix = Some(rules::prefix(shown_as, text)?),
            Setting::Underlay => self.underlay = Some(rules::underlay(shown_as, text)?),
            Setting::UnderlayIpv4 => self.underlay_ipv4 = Some(rules::underlay_of(shown_as, text, false)?),
            Setting::UnderlayIpv6 => self.underlay_ipv6 = Some(rules::underlay_of(shown_as, text, true)?),
            Setting::RunDir => self.run_dir = Some(rules::run_dir(shown_as, text)?),
            Setting::StateDir => self.state_dir = Some(rules::path(shown_as, text)?),
            Setting::MachineIdFile => self.machine_id_file = Some(rules::path(shown_as, text)?),
            Setting::CniBinDir => self.cni_bin_dir = Some(rules::path(shown_as, text)?),
            Setting::CniConfDir => self.cni_conf_dir = Some(rules::path(shown_as, text)?),
            Setting::Log => self.log = Some(rules::log(shown_as, text)?),
            Setting::Metrics => self.metrics = Some(rules::listening(shown_as, text)?),
            Setting::Labels => self.labels = Some(rules::labels(shown_as, text)?),
        }
        Ok(())
    }

    /// Reads the text of a file. Unknown keys are refused.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        let entries = parse_toml("the node configuration", text)?;
        let root = Section::root(&entries, Dialect::Toml);
        root.only(&Setting::ALL.map(Setting::key))?;
        let mut layer = Self::default();
        for setting in Setting::ALL {
            let key = setting.key();
            match setting {
                Setting::Etcd => layer.etcd = etcd(&root)?,
                Setting::Labels => layer.labels = labels(&root)?,
                _ => {
                    if let Some(text) = root.string(key, "a string")? {
                        layer.set(setting, key, text)?;
                    }
                }
            }
        }
        Ok(layer)
    }

    /// Reads a file. Without a path it reads [`NODE_FILE`], and an empty layer is what there is if that is missing; a
    /// file that was named must be there.
    pub fn from_file(path: Option<&Path>) -> Result<Self, Error> {
        let file = path.unwrap_or(Path::new(NODE_FILE));
        match std::fs::read_to_string(file) {
            Ok(text) => {
                Self::from_toml(&text).map_err(|error| Error::InFile { path: file.to_owned(), error: error.into() })
            }
            Err(cause) if path.is_none() && cause.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(cause) => Err(Error::File { path: file.to_owned(), cause }),
        }
    }

    /// Reads `TWILLD_NODE_NAME`, `TWILLD_ETCD` and so on. An empty variable counts as absent. A variable that begins with
    /// `TWILLD_` and is not known is refused, but for those that Kubernetes sets for a service named `twilld`.
    pub fn from_environment<K, V>(variables: impl IntoIterator<Item = (K, V)>) -> Result<Self, Error>
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        let mut layer = Self::default();
        for (name, value) in variables {
            let (name, value) = (name.as_ref(), value.as_ref());
            let Some(rest) = name.strip_prefix(VARIABLES) else { continue };
            if value.is_empty() || name == FILE_VARIABLE || is_service_link(rest) {
                continue;
            }
            match Setting::ALL.into_iter().find(|setting| setting.variable() == name) {
                Some(setting) => layer.set(setting, name, value)?,
                None => {
                    let known = Setting::ALL.map(Setting::variable);
                    let known = known.iter().map(String::as_str).chain([FILE_VARIABLE]).collect::<Vec<_>>();
                    return Err(unknown_key(name.to_owned(), name, &known));
                }
            }
        }
        Ok(layer)
    }

    /// Lays `upper` over this layer: what `upper` has wins.
    pub fn overlay(self, upper: Self) -> Self {
        Self {
            node_name: upper.node_name.or(self.node_name),
            etcd: upper.etcd.or(self.etcd),
            etcd_ca: upper.etcd_ca.or(self.etcd_ca),
            etcd_cert: upper.etcd_cert.or(self.etcd_cert),
            etcd_key: upper.etcd_key.or(self.etcd_key),
            etcd_user: upper.etcd_user.or(self.etcd_user),
            etcd_password_file: upper.etcd_password_file.or(self.etcd_password_file),
            prefix: upper.prefix.or(self.prefix),
            underlay: upper.underlay.or(self.underlay),
            underlay_ipv4: upper.underlay_ipv4.or(self.underlay_ipv4),
            underlay_ipv6: upper.underlay_ipv6.or(self.underlay_ipv6),
            run_dir: upper.run_dir.or(self.run_dir),
            state_dir: upper.state_dir.or(self.state_dir),
            machine_id_file: upper.machine_id_file.or(self.machine_id_file),
            cni_bin_dir: upper.cni_bin_dir.or(self.cni_bin_dir),
            cni_conf_dir: upper.cni_conf_dir.or(self.cni_conf_dir),
            log: upper.log.or(self.log),
            metrics: upper.metrics.or(self.metrics),
            labels: upper.labels.or(self.labels),
        }
    }

    /// Where a runtime of this machine looks, by this layer or by default.
    pub fn cni(&self) -> CniDirectories {
        let or = |said: &Option<PathBuf>, default: &str| said.clone().unwrap_or_else(|| default.into());
        CniDirectories { bin: or(&self.cni_bin_dir, CNI_BIN_DIR), conf: or(&self.cni_conf_dir, CNI_CONF_DIR) }
    }

    /// Fills what is absent with the defaults. `hostname` stands in for the node's name, in lower case, as kubelet has it.
    pub fn resolve(self, hostname: &str) -> Result<NodeConf, Error> {
        let (etcd, cni) = (self.etcd_conf()?, self.cni());
        let node_name = match self.node_name {
            Some(name) => name,
            None => hostname.to_ascii_lowercase().parse().map_err(|cause: crate::id::InvalidName| {
                let right = format!("the host name stands in for it, and a node name has {}; set one", cause.rule);
                Error::value(Setting::NodeName.key(), hostname, right)
            })?,
        };
        let right = "at least one URL: etcd = [\"http://10.0.0.1:2379\"] in the file, --etcd or TWILLD_ETCD";
        Ok(NodeConf {
            node_name,
            etcd: etcd.ok_or_else(|| Error::missing(Setting::Etcd.key(), right))?,
            prefix: self.prefix.unwrap_or_else(|| ETCD_PREFIX.into()),
            underlay: UnderlayConf { both: self.underlay, ipv4: self.underlay_ipv4, ipv6: self.underlay_ipv6 },
            run_dir: self.run_dir.unwrap_or_else(|| RUN_DIR.into()),
            state_dir: self.state_dir.unwrap_or_else(|| STATE_DIR.into()),
            machine_id_file: self.machine_id_file.unwrap_or_else(|| MACHINE_ID_FILE.into()),
            cni,
            log: self.log.unwrap_or_else(|| "info".into()),
            metrics: self.metrics,
            labels: self.labels.unwrap_or_default(),
        })
    }
}

fn node_name(shown_as: &str, text: &str) -> Result<NodeName, Error> {
    text.parse().map_err(|cause: crate::id::InvalidName| Error::value(shown_as, text, cause.rule))
}

fn etcd(root: &Section<'_>) -> Result<Option<Vec<String>>, Error> {
    let right = "a list of URLs, as in [\"http://10.0.0.1:2379\"]";
    let Some(items) = root.list("etcd", right)? else { return Ok(None) };
    if items.is_empty() {
        return Err(Error::value("etcd", "[]", right));
    }
    items.iter().map(|item| rules::endpoint(&item.path, item.string("a URL")?)).collect::<Result<_, _>>().map(Some)
}

fn labels(root: &Section<'_>) -> Result<Option<BTreeMap<String, String>>, Error> {
    let Some(table) = root.section("labels", "a table headed [labels]")? else { return Ok(None) };
    let mut labels = BTreeMap::new();
    for name in table.keys() {
        if let Some(value) = table.string(name, "a string")? {
            labels.insert(name.to_owned(), value.to_owned());
        }
    }
    rules::check_labels("labels", &labels)?;
    Ok(Some(labels))
}

/// What a kubelet sets in each container for a service named `twilld`: TWILLD_SERVICE_HOST, TWILLD_PORT_80_TCP.
fn is_service_link(rest: &str) -> bool {
    rest == "PORT" || rest.starts_with("PORT_") || rest.starts_with("SERVICE_")
}
