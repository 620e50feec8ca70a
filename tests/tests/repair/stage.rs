//! A node under damage: what its kernel shows of Twill, in a form that can be compared, and the names of what is there.

use std::net::IpAddr;

use serde_json::Value;
use twill_tests::lab::PROTOCOL_CLUSTER;
use twill_tests::{LabError, Node, Pod, Result};

/// What the kernel shows of one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Devices of Twill's names, host ends of pods among them, with all of their settings; and the bridge that they are
    /// put into.
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
    /// The filters at the host ends of pods.
    Filters,
}

impl Part {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Devices,
        Self::Addresses,
        Self::Routes,
        Self::Neighbours,
        Self::Fdb,
        Self::Sysctls,
        Self::Firewall,
        Self::Filters,
    ];

    /// What prints it. The number of an interface is another one after it was made anew.
    fn script(self) -> &'static str {
        match self {
            Self::Devices => {
                "ip -o -d link show | sed -E 's/_timer *[0-9.]*//g' |
                     sed -En 's/^[0-9]*: ((vxlan6?\\.twill|tw[0-9a-f]{13}|others0)[:@])/\\1/p'
                 for device in $(ls /proc/sys/net/ipv4/conf | grep ^vxlan); do ethtool -k $device | grep ^tx-checksumming; done"
            }
            Self::Addresses => "ip -o addr show | sed -n 's/^[0-9]*: \\(vxlan\\)/\\1/p'",
            Self::Routes => {
                "for protocol in 116 117; do
                     ip -N -4 route show proto $protocol; ip -N -6 route show proto $protocol
                 done"
            }
            Self::Neighbours => "ip -4 neigh show nud permanent; ip -6 neigh show nud permanent",
            Self::Fdb => "bridge fdb show | grep 'dev vxlan' || true",
            Self::Sysctls => {
                "cd /proc/sys/net
                 grep . ipv4/ip_forward ipv4/conf/all/send_redirects ipv4/conf/eth0/send_redirects ipv4/conf/eth0/forwarding \
                     ipv6/conf/all/forwarding
                 for device in $(ls /proc/sys/net/ipv4/conf | grep ^vxlan); do
                     grep . ipv4/conf/$device/forwarding ipv4/conf/$device/rp_filter ipv6/conf/$device/forwarding \
                         ipv6/conf/$device/accept_dad ipv6/conf/$device/keep_addr_on_down
                 done
                 for end in $(ls /proc/sys/net/ipv4/conf | grep ^tw); do grep -H . ipv4/conf/$end/forwarding; done"
            }
            Self::Firewall => "nft --stateless list table inet twill",
            Self::Filters => {
                "for end in $(ls /proc/sys/net/ipv4/conf | grep ^tw); do tc qdisc show dev $end; tc filter show dev $end ingress; done"
            }
        }
    }

    /// What it is now. An order tells nothing, but among rules.
    pub fn show(self, node: &Node) -> Result<String> {
        let text = node.run(&["sh", "-euc", self.script()])?;
        let mut lines: Vec<_> = text.lines().map(str::trim_end).collect();
        if ![Self::Firewall, Self::Filters].contains(&self) {
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
    /// The device that leads to the other node: a tunnel, or the interface between nodes.
    pub device: String,
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
    /// The node's tunnel addresses, where it has a tunnel.
    pub tunnel: [String; 2],
    /// The MAC of the other node's tunnel, where it has one.
    pub mac: String,
    /// Where packets for it are sent.
    pub remote: String,
    /// The node's own address there.
    pub local: String,
}

impl Facts {
    /// What is so on a node with one pod, from which packets lead to that of the `other` node.
    pub fn of(node: &Node, pod: &Pod, other: &Node, far: &Pod) -> Result<Self> {
        let both = |of: &dyn Fn(bool) -> Result<String>| Ok::<_, LabError>([of(false)?, of(true)?]);
        let way = |ipv6: bool| run_json(node, ipv6, &["route", "get", &far.address(ipv6)?.to_string()]);
        let device = text(&way(false)?[0], "dev")?;
        let gateways = both(&|ipv6| text(&way(ipv6)?[0], "gateway"))?;
        let route = |ipv6: bool, fits: &dyn Fn(&Value) -> bool| {
            text(find(&Value::Array(node.routes(ipv6, PROTOCOL_CLUSTER)?), fits)?, "dst")
        };
        let tunnel = |ipv6: bool| {
            let shown = run_json(node, ipv6, &["addr", "show", "dev", &device, "scope", "global"])?;
            text(&shown[0]["addr_info"][0], "local")
        };
        let (mut mac, mut addresses) = (String::new(), Default::default());
        if device.starts_with("vxlan") {
            let known = run_json(node, false, &["neigh", "show", "dev", &device, "nud", "permanent"])?;
            mac = text(find(&known, |entry| entry["dst"] == gateways[0].as_str())?, "lladdr")?;
            addresses = both(&tunnel)?;
        }
        Ok(Self {
            host: pod.host_interface()?,
            pod: [pod.address(false)?, pod.address(true)?],
            blocks: both(&|ipv6| {
                route(ipv6, &|route| {
                    route["gateway"] == gateways[usize::from(ipv6)].as_str() && route["metric"] == 7777
                })
            })?,
            own: both(&|ipv6| route(ipv6, &|route| route["metric"] == 77_777))?,
            pools: both(&|ipv6| route(ipv6, &|route| route["metric"] == 777_777))?,
            tunnel: addresses,
            gateways,
            mac,
            remote: other.addresses()[0].to_string(),
            local: node.addresses()[0].to_string(),
            device,
        })
    }

    /// An address of the underlay that nobody has.
    pub fn nobody(&self) -> &'static str {
        if self.remote.contains(':') { "fd00:77::99" } else { "192.168.77.99" }
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
