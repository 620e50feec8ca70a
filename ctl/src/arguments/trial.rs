//! The command lines of `test` and `bench`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use twill_cluster::inquiry::trial::{LONGEST_RUN, MOST_STREAMS, SIZES};
use twill_conf::NodeName;

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Version {
    /// IPv4
    #[value(name = "4")]
    V4,
    /// IPv6
    #[value(name = "6")]
    V6,
}

impl Version {
    pub(crate) fn is_ipv6(self) -> bool {
        self == Self::V6
    }
}

/// What to test.
#[derive(Debug, Args)]
pub(crate) struct TestFlags {
    /// Between these nodes [default: the first 8 that are alive]
    #[arg(long, value_name = "NAME[,NAME]", value_delimiter = ',', conflicts_with = "all")]
    pub(crate) nodes: Vec<NodeName>,
    /// Between all nodes that are alive
    #[arg(long)]
    pub(crate) all: bool,
    /// How long large packets are, in bytes with their headers [default: the MTU of the pods]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(i64::from(*SIZES.start())..=i64::from(*SIZES.end())))]
    pub(crate) size: Option<u32>,
    /// Only IPv4, or only IPv6 [default: what the pods have]
    #[arg(long, value_name = "4|6", value_enum, hide_possible_values = true)]
    pub(crate) family: Option<Version>,
    /// An address outside of the cluster that answers pings [default: each node's default gateway]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) outside: Option<IpAddr>,
    /// Also write the result there, as JUnit's XML
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
}

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct BenchFlags {
    /// From a pod on the one node to a pod on the other, and between these nodes themselves [default: the first two that are alive]
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
    pub(crate) nodes: Vec<NodeName>,
    /// How many TCP connections several are
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u8).range(2..=i64::from(MOST_STREAMS)))]
    pub(crate) streams: u8,
    /// How many rounds: each measures both paths once
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=50))]
    pub(crate) repeat: u8,
    /// How long each figure of a round is measured
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=i64::from(LONGEST_RUN)))]
    pub(crate) seconds: u16,
    /// By IPv4 or IPv6 [default: IPv4 where the pods have it]
    #[arg(long, value_name = "4|6", value_enum, hide_possible_values = true)]
    pub(crate) family: Option<Version>,
    /// Also write a plot there, as SVG
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
    /// Also write a page there, in HTML, with the figures and the plot
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}
