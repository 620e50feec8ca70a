//! A node under damage: what its kernel shows of Twill, in a form that can be compared, and the names of what is there.

use std::net::IpAddr;

use serde_json::Value;
use twill_tests::lab::{PROTOCOL_CLUSTER, VXLAN};
use twill_tests::{LabError, Node, Pod, Result};

/// What the kernel shows of one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Devices of Twill's names, with all of their settings.
    Devices,
    /// Addresses of the tunnel.
    Addresses,
    /// Routes of both of Twill's protocols.
    Routes,
    /// Permanent neighbours.
    Neighbours,
    /// The tunnel's forwarding database.
    Fdb,
    /// The sysctls that a node needs.
    Sysctls,
    /// The firewall's table.
    Firewall,
}

impl Part {
    /// All of them.
    pub const ALL: &[Self] =
        &[Self::Devices, Self::Addresses, Self::Routes, Self::Neighbours, Self::Fdb, Self::Sysctls, Self::Firewall];

    /// What prints it. The number of an interface is another one after it was made anew.
    fn script(self) -> &'static str {
        match self {
            Self::Devices => {
                "ip -o -d link show | sed -n 's/^[0-9]*: \\(vxlan6\\{0,1\\}\\.twill[:@]\\)/\\1/p'
                 ethtool -k vxlan.twill | grep ^tx-checksumming"
            }
            Self::Addresses => "ip -o addr show dev vxlan.twill | sed 's/^[0-9]*: //'",
            Self::Routes => {
                "for protocol in 116 117; do
                     ip -N -4 route show proto $protocol; ip -N -6 route show proto $protocol
                 done"
            }
            Self::Neighbours => "ip -4 neigh show nud permanent; ip -6 neigh show nud permanent",
            Self::Fdb => "bridge fdb show dev vxlan.twill",
            Self::Sysctls => {
                "cd /proc/sys/net
                 grep . ipv4/ip_forward ipv4/conf/vxlan.twill/forwarding ipv4/conf/vxlan.twill/rp_filter \
                     ipv4/conf/eth0/send_redirects ipv6/conf/all/forwarding ipv6/conf/vxlan.twill/forwarding \
                     ipv6/conf/vxlan.twill/accept_dad ipv6/conf/vxlan.twill/keep_addr_on_down"
            }
            Self::Firewall => "nft --stateless list table inet twill",
        }
    }

    /// What it is now. An order tells nothing, but among rules.
    pub fn show(self, node: &Node) -> Result<String> {
        let text = node.run(&["sh", "-euc", self.script()])?;
        let mut lines: Vec<_> = text.lines().map(str::trim_end).collect();
        if self != Self::Firewall {
            lines.sort_unstable();
        }
        Ok(format!("{self:?}\n{}", lines.join("\n")))
    }
}

/// What some parts are now.
pub fn show(parts: &[Part], node: &Node) -> Result<String> {
    let parts: Result<Vec<_>> = parts.iter().map(|part| part.show(node)).collect();
    Ok(parts?.join("\n"))
}

/// What the damages have to name.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The host end of the node's pod.
    pub host: String,
    /// The pod's addresses, IPv4 first; so in all that follows.
    pub pod: [IpAddr; 2],
    /// The other node's blocks.
    pub blocks: [String; 2],
    /// What leads to them.
    pub gateways: [String; 2],
    /// The node's own blocks, which are unreachable but for pods.
    pub own: [String; 2],
    /// The pools.
    pub pools: [String; 2],
    /// The node's tunnel addresses.
    pub tunnel: [String; 2],
    /// The MAC of the other node's tunnel.
    pub mac: String,
    /// Where packets for it are sent.
    pub remote: String,
    /// The node's own address there.
    pub local: String,
}

impl Facts {
    /// What is so on a node with one pod, to whose `other` node packets lead.
    pub fn of(node: &Node, pod: &Pod, other: &Node) -> Result<Self> {
        let addresses = |ipv6: bool| Ok::<_, LabError>([pod.address(ipv6)?, node.addresses()[usize::from(ipv6)]]);
        let [[pod4, local], [pod6, _]] = [addresses(false)?, addresses(true)?];
        let remote = other.addresses()[0].to_string();
        let fdb = node.namespace().run_json(&["bridge", "-j", "fdb", "show", "dev", VXLAN])?;
        let mac = text(find(&fdb, |entry| entry["dst"] == remote.as_str())?, "mac")?;
        let neighbours =
            [false, true].map(|ipv6| run_json(node, ipv6, &["neigh", "show", "dev", VXLAN, "nud", "permanent"]));
        let [via4, via6] = neighbours.map(|all| text(find(&all?, |entry| entry["lladdr"] == mac.as_str())?, "dst"));
        let gateways = [via4?, via6?];
        let route = |ipv6: bool, fits: &dyn Fn(&Value) -> bool| {
            text(find(&Value::Array(node.routes(ipv6, PROTOCOL_CLUSTER)?), fits)?, "dst")
        };
        let both = |fits: &dyn Fn(usize, &Value) -> bool| {
            Ok::<_, LabError>([route(false, &|route| fits(0, route))?, route(true, &|route| fits(1, route))?])
        };
        let tunnel = |ipv6: bool| {
            let shown = run_json(node, ipv6, &["addr", "show", "dev", VXLAN, "scope", "global"])?;
            text(&shown[0]["addr_info"][0], "local")
        };
        Ok(Self {
            host: pod.host_interface()?,
            pod: [pod4, pod6],
            blocks: both(&|family, route| route["gateway"] == gateways[family].as_str())?,
            own: both(&|_, route| route["metric"] == 77_777)?,
            pools: both(&|_, route| route["metric"] == 777_777)?,
            tunnel: [tunnel(false)?, tunnel(true)?],
            gateways,
            mac,
            remote,
            local: local.to_string(),
        })
    }
}

fn run_json(node: &Node, ipv6: bool, words: &[&str]) -> Result<Value> {
    let family = if ipv6 { "-6" } else { "-4" };
    node.namespace().run_json(&[&["ip", "-j", family], words].concat())
}

fn find(all: &Value, fits: impl Fn(&Value) -> bool) -> Result<&Value> {
    let found = all.as_array().into_iter().flatten().find(|entry| fits(entry));
    found.ok_or_else(|| LabError::wrong(format!("what is to be damaged is not among {all}")))
}

fn text(entry: &Value, key: &str) -> Result<String> {
    let text = entry[key].as_str().map(str::to_owned);
    text.ok_or_else(|| LabError::wrong(format!("no {key} in {entry}")))
}
