//! The command line of `twilld`: the daemon's flags, as the topmost layer of the node configuration, and the commands.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use twill_conf::Error;
use twill_conf::node::{NodeLayer, Setting};
use twill_ipam::sweep::GRACE;

use crate::install::{InstallFlags, UninstallFlags};
use crate::probe::TURN;

/// The daemon of a Twill node: claims blocks of addresses, keeps routes, tunnels and firewall as they shall be.
///
/// Without a command it is the daemon, and runs until it is told to stop.
#[derive(Debug, Parser)]
#[command(name = "twilld", version, max_term_width = 100, args_conflicts_with_subcommands = true)]
pub struct CommandLine {
    /// What to do instead of being the daemon.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The daemon's.
    #[command(flatten)]
    pub flags: Flags,
}

/// What `twilld` does beside being the daemon.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Copies the plugin to where runtimes look for it, and writes the network's list once the node can serve
    Install(InstallFlags),
    /// Takes back what `install` made; safe to repeat
    Uninstall(UninstallFlags),
    /// Writes man pages into a directory
    #[command(hide = true)]
    Man {
        /// The directory, which is made where it is not there
        dir: PathBuf,
    },
}

/// The daemon's flags.
#[derive(Debug, Args)]
pub struct Flags {
    /// This node's name, unique in the cluster [default: the host name]
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// The endpoints of etcd, comma-separated; must be named here, in the environment or in the file
    #[arg(long, value_name = "URL[,URL]")]
    etcd: Option<String>,
    /// With TLS: the certificate of the CA that signed etcd's
    #[arg(long, value_name = "FILE")]
    etcd_ca: Option<String>,
    /// With TLS: the certificate that is shown to etcd
    #[arg(long, value_name = "FILE")]
    etcd_cert: Option<String>,
    /// Its private key
    #[arg(long, value_name = "FILE")]
    etcd_key: Option<String>,
    /// The user of etcd, where the certificate does not name one
    #[arg(long, value_name = "NAME")]
    etcd_user: Option<String>,
    /// The file with the user's password
    #[arg(long, value_name = "FILE")]
    etcd_password_file: Option<String>,
    /// The prefix of all keys in etcd [default: /twill/v1/]
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// The interface that carries traffic between nodes: its name, a pattern as in 'en*', or to:ADDRESS for the one that
    /// reaches an address [default: the interface of the default route]
    #[arg(long, value_name = "INTERFACE")]
    underlay: Option<String>,
    /// The same for IPv4 alone
    #[arg(long, value_name = "INTERFACE")]
    underlay_ipv4: Option<String>,
    /// The same for IPv6 alone
    #[arg(long, value_name = "INTERFACE")]
    underlay_ipv6: Option<String>,
    /// Where plugin, daemon and twillctl meet [default: /run/twill]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<String>,
    /// Where what outlives a boot is kept [default: /var/lib/twill]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<String>,
    /// Where runtimes look for plugins: by Twill's the pods of 'twillctl test' are attached [default: /opt/cni/bin]
    #[arg(long, value_name = "DIR")]
    cni_bin_dir: Option<String>,
    /// Where runtimes look for networks; 'twillctl doctor' looks which of them wins [default: /etc/cni/net.d]
    #[arg(long, value_name = "DIR")]
    cni_conf_dir: Option<String>,
    /// The node configuration, a TOML file [default: /etc/twill/twilld.toml, if it is there]
    #[arg(long, value_name = "FILE", env = "TWILLD_CONFIG")]
    pub config: Option<PathBuf>,
    /// What to log: error, warn, info, debug, trace, or a filter as in info,twill_cluster=debug [default: info]
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
    /// Where metrics and health are served by HTTP: an address and a port, as in 127.0.0.1:9477, or 0.0.0.0:9477
    /// [default: nowhere]
    #[arg(long, value_name = "ADDR:PORT")]
    metrics: Option<String>,
    /// The grace period of the sweep, for tests that cannot wait for it
    #[arg(long, value_name = "MILLISECONDS", hide = true, value_parser = clap::value_parser!(u64).range(10..))]
    sweep_grace_ms: Option<u64>,
    /// Between two turns of the path probe, for tests that cannot wait for it
    #[arg(long, value_name = "MILLISECONDS", hide = true, value_parser = clap::value_parser!(u64).range(10..))]
    probe_turn_ms: Option<u64>,
    /// Hears no event of the kernel, for tests of what is repaired without one
    #[arg(long, hide = true)]
    deaf: bool,
}

/// What a daemon has as it is, unless a test starts it by a flag that no help shows.
#[derive(Debug, Clone, Copy)]
pub struct ForTests {
    /// For how long a link must be missing before its row is freed.
    pub sweep_grace: Duration,
    /// Between two turns of the path probe.
    pub probe_turn: Duration,
    /// No event of the kernel is heard: drift is found by the timer alone.
    pub deaf: bool,
}

impl Flags {
    /// What only tests have otherwise.
    pub fn for_tests(&self) -> ForTests {
        ForTests {
            sweep_grace: self.sweep_grace_ms.map_or(GRACE, Duration::from_millis),
            probe_turn: self.probe_turn_ms.map_or(TURN, Duration::from_millis),
            deaf: self.deaf,
        }
    }

    /// What was said on the command line; all else is left to the layers below.
    pub fn layer(&self) -> Result<NodeLayer, Error> {
        let said = [
            (Setting::NodeName, &self.node_name),
            (Setting::Etcd, &self.etcd),
            (Setting::EtcdCa, &self.etcd_ca),
            (Setting::EtcdCert, &self.etcd_cert),
            (Setting::EtcdKey, &self.etcd_key),
            (Setting::EtcdUser, &self.etcd_user),
            (Setting::EtcdPasswordFile, &self.etcd_password_file),
            (Setting::Prefix, &self.prefix),
            (Setting::Underlay, &self.underlay),
            (Setting::UnderlayIpv4, &self.underlay_ipv4),
            (Setting::UnderlayIpv6, &self.underlay_ipv6),
            (Setting::RunDir, &self.run_dir),
            (Setting::StateDir, &self.state_dir),
            (Setting::CniBinDir, &self.cni_bin_dir),
            (Setting::CniConfDir, &self.cni_conf_dir),
            (Setting::Log, &self.log),
            (Setting::Metrics, &self.metrics),
        ];
        let mut layer = NodeLayer::default();
        for (setting, text) in said {
            if let Some(text) = text {
                layer.set(setting, &setting.flag(), text)?;
            }
        }
        Ok(layer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_sets_what_its_setting_says() {
        for setting in Setting::ALL {
            let text = match setting {
                // Lists of words and the machine's identity are for the file and the environment.
                Setting::Labels | Setting::MachineIdFile => continue,
                Setting::NodeName | Setting::EtcdUser => "x",
                Setting::Underlay | Setting::UnderlayIpv4 | Setting::UnderlayIpv6 => "x",
                Setting::Log => "debug",
                Setting::Metrics => "127.0.0.1:9477",
                Setting::Etcd => "https://x:1",
                Setting::Prefix => "/x/",
                _ => "/x",
            };
            let line = CommandLine::try_parse_from(["twilld", &setting.flag(), text]).unwrap();
            let mut wanted = NodeLayer::default();
            wanted.set(setting, &setting.flag(), text).unwrap();
            assert_eq!(line.flags.layer().unwrap(), wanted, "{setting:?}");
        }
    }
}
