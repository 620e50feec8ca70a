//! Under what conditions was measured: the kernel, how busy the machine was, and the devices on the way with their MTU and
//! offloads, which the path by hand should have too.

use std::collections::BTreeSet;
use std::fs;

use crate::bench::measure::row;
use crate::namespace::Namespace;
use crate::{LabError, Result};

/// The settings of a device that make a difference here, by ethtool's names.
const OFFLOADS: [&str; 7] = [
    "rx-checksumming",
    "tx-checksumming",
    "scatter-gather",
    "tcp-segmentation-offload",
    "generic-segmentation-offload",
    "generic-receive-offload",
    "tx-udp_tnl-segmentation",
];

/// What a device is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Settings {
    mtu: u64,
    on: BTreeSet<&'static str>,
}

/// A device on the way, with Twill and by hand.
#[derive(Debug, Clone)]
pub struct Device {
    what: &'static str,
    twill: Settings,
    by_hand: Settings,
}

/// The machine of a run.
#[derive(Debug, Clone)]
pub struct Host {
    kernel: String,
    processors: usize,
    others: f64,
}

impl Host {
    /// Asks the kernel. `others` is the part of the machine that was busy before the run, from 0 to 1.
    pub fn look(others: f64) -> Result<Self> {
        let processors = std::thread::available_parallelism().map_err(LabError::io("counting processors"))?;
        Ok(Self { kernel: read("/proc/sys/kernel/osrelease")?, processors: processors.get(), others })
    }

    /// In words, for the beginning of a sentence.
    pub fn words(&self) -> String {
        let Self { kernel, processors, others } = self;
        format!("Linux {kernel}, {processors} processors, of which {:.0} % were busy before the run", others * 100.0)
    }
}

/// The conditions of a run.
#[derive(Debug, Clone)]
pub struct Conditions {
    host: Host,
    congestion: String,
    devices: Vec<(&'static str, Vec<Device>)>,
}

impl Device {
    /// Looks at a device and the one in its place by hand, each by its namespace and name.
    pub fn look(what: &'static str, twill: (&Namespace, &str), by_hand: (&Namespace, &str)) -> Result<Self> {
        Ok(Self { what, twill: Settings::look(twill)?, by_hand: Settings::look(by_hand)? })
    }
}

impl Settings {
    fn look((namespace, name): (&Namespace, &str)) -> Result<Self> {
        let links = namespace.run_json(&["ip", "-j", "link", "show", "dev", name])?;
        let mtu = links[0]["mtu"].as_u64().ok_or_else(|| LabError::wrong(format!("{name} shows no MTU: {links}")))?;
        Ok(Self { mtu, on: switched_on(&namespace.run(&["ethtool", "-k", name])?) })
    }

    fn describe(&self) -> String {
        let off: Vec<_> = OFFLOADS.iter().copied().filter(|name| !self.on.contains(name)).collect();
        let off = if off.is_empty() { "none".to_owned() } else { off.join(", ") };
        format!("{}; {off}", self.mtu)
    }
}

/// Which of the offloads are on, from what `ethtool -k` prints.
fn switched_on(features: &str) -> BTreeSet<&'static str> {
    let on: BTreeSet<&str> = features
        .lines()
        .filter_map(|line| line.trim().split_once(": "))
        .filter(|(_, state)| state.split_whitespace().next() == Some("on"))
        .map(|(name, _)| name)
        .collect();
    OFFLOADS.into_iter().filter(|name| on.contains(name)).collect()
}

impl Conditions {
    /// Asks the kernel. `others` is the part of the machine that was busy before the run, from 0 to 1; `devices` those on the
    /// way of each back end.
    pub fn look(others: f64, devices: Vec<(&'static str, Vec<Device>)>) -> Result<Self> {
        let congestion = read("/proc/sys/net/ipv4/tcp_congestion_control")?;
        Ok(Self { host: Host::look(others)?, congestion, devices })
    }

    /// A sentence about the machine and a table of the devices.
    pub fn markdown(&self) -> String {
        let Self { host, congestion, devices } = self;
        let mut text = format!(
            "{}; TCP with {congestion}. Of {}, \
             these are off on the first node:\n\n| device | MTU; off, with Twill | by hand |\n|---|---|---|\n",
            host.words(),
            OFFLOADS.join(", ")
        );
        for (backend, devices) in devices {
            for Device { what, twill, by_hand } in devices {
                let same = if by_hand == twill { "the same".to_owned() } else { by_hand.describe() };
                text += &row(&[format!("{backend}: {what}"), twill.describe(), same]);
            }
        }
        text
    }
}

fn read(path: &str) -> Result<String> {
    let text = fs::read_to_string(path).map_err(LabError::io(format!("reading {path}")))?;
    Ok(text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEATURES: &str = "Features for eth0:\nrx-checksumming: on\ntx-checksumming: off\n\ttx-checksum-ipv4: off [fixed]\n\
                            scatter-gather: on\n\ttx-udp_tnl-segmentation: on [fixed]\ngeneric-receive-offload: off\n";

    #[test]
    fn what_ethtool_calls_on_is_on() {
        let on = switched_on(FEATURES);
        assert_eq!(
            on.into_iter().collect::<Vec<_>>(),
            ["rx-checksumming", "scatter-gather", "tx-udp_tnl-segmentation"]
        );
    }

    #[test]
    fn a_device_that_is_set_otherwise_by_hand_is_described_twice() {
        let settings = |mtu| Settings { mtu, on: switched_on(FEATURES) };
        let device = |what, by_hand| Device { what, twill: settings(1450), by_hand: settings(by_hand) };
        let conditions = Conditions {
            host: Host { kernel: "6.1".into(), processors: 2, others: 0.125 },
            congestion: "cubic".into(),
            devices: vec![("vxlan", vec![device("pod", 1450), device("tunnel", 1500)])],
        };
        let text = conditions.markdown();
        assert!(text.contains("2 processors, of which 12 % were busy"), "{text}");
        let off = "tx-checksumming, tcp-segmentation-offload, generic-segmentation-offload, generic-receive-offload";
        assert!(text.contains(&format!("| vxlan: pod | 1450; {off} | the same |")), "{text}");
        assert!(text.contains(&format!("| vxlan: tunnel | 1450; {off} | 1500; {off} |")), "{text}");
    }
}
