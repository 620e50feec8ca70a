//! The command line. What it means for `--etcd` and the other flags of [`PlaceFlags`] to be absent is told in [`crate::place`].

pub(crate) mod about;
pub(crate) mod bundle;
mod config;
mod doctor;
mod status;
pub(crate) mod trace;
pub(crate) mod trial;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnetwork::IpNetwork;
use twill_conf::node::Setting;
use twill_conf::{ContainerId, NodeName};

pub(crate) use config::ConfigCommand;
pub(crate) use doctor::DoctorFlags;
pub(crate) use status::{StatusFlags, WhyCommand};

/// What answers may be waited for, in seconds.
const LIMITS: RangeInclusive<u64> = 1..=600;

/// Looks after a Twill cluster
#[derive(Debug, Parser)]
#[command(name = "twillctl", version, disable_help_subcommand = true)]
#[command(after_help = "Exit status: 0 good, 1 problems found or request refused, 2 could not tell or wrong usage")]
pub(crate) struct Arguments {
    /// How the report is printed
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Text, value_name = "text|json")]
    #[arg(hide_possible_values = true, display_order = 900)]
    pub(crate) output: Output,
    /// How long to wait for each answer of a node and of etcd, in seconds [default: 5; doctor: 20; test, bench: 30, at most 200]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = seconds, display_order = 901)]
    pub(crate) timeout: Option<Duration>,
    #[command(flatten)]
    pub(crate) place: PlaceFlags,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where the cluster is. What is absent is taken from the environment, then from the daemon's file.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Where the cluster is")]
pub(crate) struct PlaceFlags {
    /// The endpoints of etcd [or TWILL_ETCD, or the daemon's file]
    #[arg(long, global = true, value_name = "URL[,URL]")]
    pub(crate) etcd: Option<String>,
    /// With TLS: the certificate of the CA that signed etcd's [or TWILL_ETCD_CA, or the daemon's file]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) etcd_ca: Option<String>,
    /// With TLS: the certificate that is shown to etcd [or TWILL_ETCD_CERT, or the daemon's file]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) etcd_cert: Option<String>,
    /// Its private key [or TWILL_ETCD_KEY, or the daemon's file]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) etcd_key: Option<String>,
    /// The user of etcd, where the certificate does not name one [or TWILL_ETCD_USER, or the daemon's file]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) etcd_user: Option<String>,
    /// The file with the user's password [or TWILL_ETCD_PASSWORD_FILE, or the daemon's file]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) etcd_password_file: Option<String>,
    /// What all keys in etcd begin with [or TWILL_PREFIX, or the daemon's file; default: /twill/v1/]
    #[arg(long, global = true, value_name = "PREFIX")]
    pub(crate) prefix: Option<String>,
    /// Where plugin and daemon meet [or TWILL_RUN_DIR, or the daemon's file; default: /run/twill]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) run_dir: Option<String>,
}

impl PlaceFlags {
    /// Each with the setting of the daemon that it stands for.
    pub(crate) fn settings(&self) -> [(Setting, &Option<String>); 8] {
        [
            (Setting::Etcd, &self.etcd),
            (Setting::EtcdCa, &self.etcd_ca),
            (Setting::EtcdCert, &self.etcd_cert),
            (Setting::EtcdKey, &self.etcd_key),
            (Setting::EtcdUser, &self.etcd_user),
            (Setting::EtcdPasswordFile, &self.etcd_password_file),
            (Setting::Prefix, &self.prefix),
            (Setting::RunDir, &self.run_dir),
        ]
    }
}

/// How a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Tables, for people
    Text,
    /// JSON, for programs
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The cluster configuration: make, check, compare, apply, edit and show it
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Nodes, pools and what is wrong with them
    #[command(
        after_help = "Exit status: 0 nothing is wrong, 1 problems found, 2 a node did not answer, or etcd. What a node says of itself is \
                      asked of its daemon"
    )]
    Status(StatusFlags),
    /// Why a pod, an address or a node is as it is, and what to do
    #[command(subcommand)]
    Why(WhyCommand),
    /// Look for what is wrong with the machines, etcd and the cluster, and say what to do about it
    #[command(
        after_help = "Exit status: 0 no problem, 1 problems found, 2 a node did not answer, or something could not be told"
    )]
    Doctor(DoctorFlags),
    /// Tell the way of a packet step by step, by what both ends' nodes would do with it now; none is sent
    #[command(
        after_help = "Exit status: 0 it arrives as far as the nodes can tell, 1 it does not, or a node's daemon is dead, 2 a node did not answer, or etcd"
    )]
    Trace(trace::TraceFlags),
    /// Try the network: pods on the nodes for a short while, small and full-size packets between all of them
    #[command(
        after_help = "Exit status: 0 all packets come through, 1 problems found, 2 a node did not answer, or etcd. The pods are \
                      attached by the plugin, as a runtime does, and taken down in any case: by a node itself where nobody tells it \
                      to within half a minute"
    )]
    Test(trial::TestFlags),
    /// Measure the back end in use: traffic from pod to pod against traffic from node to node
    #[command(
        after_help = "Exit status: 0 measured, 1 problems found, 2 a node did not answer, or etcd. Nothing is changed but that pods \
                      stand meanwhile. Both nodes need iperf3"
    )]
    Bench(trial::BenchFlags),
    /// Addresses: pools, blocks and pods
    #[command(subcommand)]
    Ipam(IpamCommand),
    /// The BGP speakers of the nodes: their peers, their routes, and why a route is used or not
    #[command(subcommand)]
    Bgp(BgpCommand),
    /// Nodes: list and show them, drain one, take one out of the cluster
    #[command(subcommand)]
    Node(NodeCommand),
    /// Gather what a report of a fault needs into one file, without secrets
    Bundle(bundle::BundleFlags),
    /// Tell the version of this program, and with --cluster those of all nodes
    Version(about::VersionFlags),
    /// Print the completions of a shell: bash, zsh or fish
    Completions(about::CompletionsFlags),
    /// Write man pages into a directory
    #[command(hide = true)]
    Man(about::ManFlags),
}

/// Whole seconds, with or without their unit.
fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix('s').unwrap_or(text);
    let seconds = number.parse().ok().filter(|seconds| LIMITS.contains(seconds) && !number.starts_with('+'));
    let right = || format!("a number of seconds from {} to {}, as in 10 or 10s", LIMITS.start(), LIMITS.end());
    seconds.map(Duration::from_secs).ok_or_else(right)
}

/// What to do with nodes.
#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// List the nodes, with the use of their addresses and what is wrong with them
    List,
    /// Show one node, with its blocks
    Show {
        /// The node's name
        name: NodeName,
    },
    /// Drain a node: it gives no new pod an address, claims nothing, and gives its blocks back as they get empty
    #[command(after_help = "Pods that run keep their addresses. The node itself is asked, so its daemon must run")]
    Drain {
        /// The node's name
        name: NodeName,
        /// End that: the node serves new pods again
        #[arg(long)]
        undo: bool,
    },
    /// Delete a node that is gone for good: its record and its blocks, which go to others
    #[command(
        after_help = "A node that is alive is not deleted. One that has blocks is deleted only if its machine is off: if it \
                            runs, its pods have addresses that others will be given. One that was drained, had no pod left \
                            and was then stopped needs no such assertion"
    )]
    Delete {
        /// The node's name
        name: NodeName,
        /// Assert that the machine is powered off
        #[arg(long)]
        machine_is_off: bool,
    },
}

/// What of the addresses to show.
#[derive(Debug, Default, Args)]
#[group(multiple = false)]
pub(crate) struct ShowFlags {
    /// Who has this address, where, and since when
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) ip: Option<IpAddr>,
    /// The addresses of this pod, by its name or the ID of its container
    #[arg(long, value_name = "NAMESPACE/NAME|ID", value_parser = pod)]
    pub(crate) pod: Option<String>,
    /// The blocks and addresses of this node
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<NodeName>,
    /// All blocks with their use
    #[arg(long)]
    pub(crate) blocks: bool,
    /// All pools with their use
    #[arg(long)]
    pub(crate) pools: bool,
}

impl ShowFlags {
    /// Whether one thing is asked for, rather than the overview.
    pub(crate) fn asks(&self) -> bool {
        self.ip.is_some() || self.pod.is_some() || self.node.is_some() || self.blocks || self.pools
    }
}

fn pod(text: &str) -> Result<String, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(text.to_owned())
        }
        None if text.parse::<ContainerId>().is_ok() => Ok(text.to_owned()),
        _ => Err("a namespace and a name, as in shop/till-0, or the ID of a container".to_owned()),
    }
}

/// What to do with addresses.
#[derive(Debug, Subcommand)]
pub(crate) enum IpamCommand {
    /// Show the pools, who owns which block, and the pods of this node; or one of what the flags name
    Show(ShowFlags),
    /// Look for what is wrong with addresses: ask every node what it has in use, and compare
    #[command(
        after_help = "Exit status: 0 nothing is wrong, 1 problems found, 2 a node did not answer, or etcd. --fix deletes blocks \
                      and mirrors of nodes that do not exist, and asks the other nodes to mend what is theirs; an address that \
                      two have is only reported"
    )]
    Check {
        /// Mend what can be mended, and look again
        #[arg(long)]
        fix: bool,
    },
    /// Show the last ADDs, DELs and GCs that failed on this node, and why; without etcd
    Attempts,
}

/// What to ask the speakers of BGP.
#[derive(Debug, Subcommand)]
pub(crate) enum BgpCommand {
    /// Show the sessions of all nodes, and what is wrong with those that are not up
    #[command(
        after_help = "Exit status: 0 all sessions are up, 1 some are not, 2 a node did not answer, or etcd. Counts of prefixes are those \
                      of IPv4 and of IPv6, as in 12+3"
    )]
    Peers {
        /// The sessions of this node alone
        #[arg(long, value_name = "NAME")]
        node: Option<NodeName>,
        /// Only sessions that are not up
        #[arg(long)]
        down: bool,
    },
    /// Show the routes that a node uses: where packets go, who said so, and by which path
    Routes {
        /// The node's name
        #[arg(long, value_name = "NAME")]
        node: NodeName,
        /// Only what lies inside of this prefix, itself among it
        #[arg(value_name = "PREFIX", value_parser = prefix)]
        inside: Option<IpNetwork>,
        /// Only prefixes that this peer has announced: a node's name, that of a [[bgp.peer]], or its address
        #[arg(long, value_name = "NAME|ADDRESS")]
        peer: Option<String>,
    },
    /// Explain a prefix on a node: each route to it, what became of it and why, and what each peer is told
    #[command(after_help = "Exit status: 0 a route is used, 1 none is, 2 the node did not answer, or etcd")]
    Explain {
        /// The prefix, or an address: the most specific prefix with a route that covers it is explained
        #[arg(value_name = "PREFIX", value_parser = destination)]
        destination: IpNetwork,
        /// The node's name
        #[arg(long, value_name = "NAME")]
        node: NodeName,
    },
}

/// A prefix with its length.
fn prefix(text: &str) -> Result<IpNetwork, String> {
    let cidr = text.split_once('/').and_then(|_| text.parse::<IpNetwork>().ok());
    let cidr = cidr.ok_or("an IPv4 or IPv6 prefix with its length, as in 10.42.0.0/16 or fd42::/48")?;
    without_host_bits(cidr)
}

/// A prefix, or the address that is one alone.
fn destination(text: &str) -> Result<IpNetwork, String> {
    let right = "an address, as in 10.42.0.7, or a prefix with its length, as in 10.42.0.0/16 or fd42::/48";
    without_host_bits(text.parse().map_err(|_| right)?)
}

fn without_host_bits(cidr: IpNetwork) -> Result<IpNetwork, String> {
    let (network, length) = (cidr.network(), cidr.prefix());
    if cidr.ip() == network { Ok(cidr) } else { Err(format!("a prefix has no host bits: {network}/{length}")) }
}
