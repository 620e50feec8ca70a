//! The words of `status` and `why`.

use std::net::IpAddr;
use std::time::Duration;

use clap::{Args, Subcommand};
use twill_conf::NodeName;

/// What of the cluster's state to show, and for how long.
#[derive(Debug, Args)]
pub(crate) struct StatusFlags {
    /// This node alone, in depth; may be given several times
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Vec<NodeName>,
    /// Wait until nothing is wrong and all nodes follow the newest configuration, for no longer than this, as in 30s or 2m
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) wait: Option<Duration>,
    /// Show it again whenever it changes, until interrupted
    #[arg(long, conflicts_with = "wait")]
    pub(crate) watch: bool,
}

/// Why something is as it is.
#[derive(Debug, Subcommand)]
pub(crate) enum WhyCommand {
    /// Where a pod is, what it has, what failed for it last, and what to do
    #[command(after_help = "Exit status: 0 it is attached, 1 it is not, or something is wrong, 2 could not tell")]
    Pod {
        /// The pod
        #[arg(value_name = "NAMESPACE/NAME", value_parser = pod)]
        pod: String,
        /// Ask this node alone; may be given several times
        #[arg(long, value_name = "NAME")]
        node: Vec<NodeName>,
    },
    /// Whose an address is, and what is wrong with it
    #[command(after_help = "Exit status: 0 it is as it shall be, 1 something is wrong, 2 could not tell")]
    Ip {
        /// The address
        address: IpAddr,
    },
    /// How a node is, what it has, who cannot reach it, and whether it may be deleted
    #[command(after_help = "Exit status: 0 nothing is wrong, 1 problems found, 2 could not tell")]
    Node {
        /// The node's name
        name: NodeName,
    },
}

fn pod(text: &str) -> Result<String, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(text.to_owned())
        }
        _ => Err("a namespace and a name, as in shop/till-0".to_owned()),
    }
}

/// A number with its unit: from a second to a day.
fn duration(text: &str) -> Result<Duration, String> {
    let right = "a number of seconds, minutes or hours, as in 30s, 2m or 1h, and no more than 24h";
    let unit = text.chars().last().ok_or(right)?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return Err(right.to_owned()),
    };
    let number: u64 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| right)?;
    let seconds = number.saturating_mul(factor);
    if (1..=86_400).contains(&seconds) { Ok(Duration::from_secs(seconds)) } else { Err(right.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit_and_an_end() {
        let seconds = |text: &str| duration(text).map(|time| time.as_secs()).ok();
        assert_eq!(["30s", "2m", "24h"].map(seconds), [Some(30), Some(120), Some(86_400)]);
        assert_eq!(["", "s", "0s", "30", "-1s", "1.5m", "25h", "2µ", "99999999999999999999h"].map(seconds), [None; 9]);
    }

    #[test]
    fn a_pod_has_a_namespace_and_a_name() {
        assert!(pod("shop/till-0").is_ok());
        assert!(["till-0", "shop/", "/till-0", "a/b/c", ""].into_iter().all(|text| pod(text).is_err()));
    }
}
