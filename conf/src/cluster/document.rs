//! The cluster configuration as a document: its keys, for the reference and for editors. What is read is decided in `read`; a
//! test holds the two against each other, key by key.

use schemars::JsonSchema;

use super::bgp::document::Bgp;
use super::rules::{MOST_NETWORKS, MOST_POOLS, MOST_RESERVED, MTU, PORT, VNI};
use crate::kind::{Name, Prefix, Range, Selector};

/// What holds for all nodes: the file that `twillctl config apply` puts into etcd.
#[derive(Debug, JsonSchema)]
#[schemars(title = "Twill: the cluster configuration", deny_unknown_fields)]
pub struct Cluster {
    /// Where pods get their addresses from. No two overlap.
    #[schemars(length(min = 1, max = MOST_POOLS))]
    pub pool: Vec<Pool>,
    /// How packets reach other nodes. `vni`, `port`, `direct` and `checksum_offload` are VXLAN's alone.
    pub backend: Option<Backend>,
    /// What of the firewall is a choice.
    pub firewall: Option<Firewall>,
    /// The speaker of BGP, beside any back end. Without it there is none, but with `type = "bgp"`, which then has the defaults.
    pub bgp: Option<Bgp>,
}

/// A range of addresses, cut into blocks of one size, which nodes claim.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Pool {
    /// Unique in the cluster. Network configurations name pools by it.
    #[schemars(extend("examples" = ["default"]))]
    pub name: Name,
    /// The whole range: at most a /8, or a /16 of IPv6.
    #[schemars(extend("examples" = ["10.42.0.0/16"]))]
    pub cidr: Prefix,
    /// The prefix length of a block, which has at most 65536 addresses: from that of the pool, and from 16 (112 for IPv6), to 32
    /// (128). Fixed once blocks are claimed. A pool that is smaller than the default must say it.
    #[schemars(range(min = 16, max = 128), extend("x-default" = "26, or 122 for IPv6"), extend("examples" = [26]))]
    pub block: Option<u8>,
    /// Whether packets from its pods to the world outside take the address of their node.
    #[schemars(default = "yes")]
    pub masquerade: bool,
    /// The nodes that it is for, by their labels.
    #[schemars(extend("x-default" = "all nodes"), extend("examples" = ["zone == 'a' && disk != 'slow'"]))]
    pub nodes: Option<Selector>,
    /// Nothing more is given of it: no block, and no address of the blocks that nodes have.
    #[schemars(default)]
    pub disabled: bool,
    /// Whether its blocks are announced to BGP peers of other ASes. Inside of the nodes' AS all blocks are known.
    #[schemars(default)]
    pub announce: bool,
    /// What is never given to pods: ranges inside of the pool, that leave something.
    #[schemars(length(max = MOST_RESERVED), extend("examples" = [["10.42.0.0/28"]]))]
    pub reserved: Option<Vec<Range>>,
}

/// How packets reach other nodes. `vni`, `port`, `direct` and `checksum_offload` are VXLAN's alone.
#[derive(Debug, JsonSchema)]
#[schemars(
    deny_unknown_fields,
    extend("if" = { "properties": { "type": { "enum": ["host-gw", "bgp"] } }, "required": ["type"] },
        "then" = { "properties": { "vni": false, "port": false, "direct": false, "checksum_offload": false } })
)]
pub struct Backend {
    /// `"vxlan"`: encapsulation in UDP by the kernel (RFC 7348); `"host-gw"`: plain routes between nodes on one subnet; `"bgp"`: plain
    /// routes as BGP learns them.
    #[schemars(default)]
    pub r#type: BackendType,
    /// The greatest MTU of a pod, in bytes; at least 1280 with a pool of IPv6. Less than there is leaves headroom for another
    /// back end; of more than there is, pods get what there is.
    #[schemars(range(min = *MTU.start(), max = *MTU.end()), extend("x-default" = "what the underlay leaves"), extend("examples" = [1400]))]
    pub mtu: Option<u32>,
    /// The network identifier of the VXLAN. No other of these machines may have the same identifier and port.
    #[schemars(range(min = *VNI.start(), max = *VNI.end()), default = "vni")]
    pub vni: u32,
    /// The UDP port. Firewalls between nodes must let it pass.
    #[schemars(range(min = *PORT.start(), max = *PORT.end()), default = "port")]
    pub port: u16,
    /// Plain routes to nodes on the same subnet, the tunnel to the others.
    #[schemars(default)]
    pub direct: bool,
    /// Who computes the checksums of what goes into the tunnel. `"off"`: the kernel; `"on"`: the network card; `"auto"`: it is left as
    /// it is, which is on when the device is made.
    #[schemars(default)]
    pub checksum_offload: ChecksumOffload,
}

/// The back ends by their names.
#[derive(Debug, Default, serde::Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the key that it is the value of says what each is")]
pub enum BackendType {
    #[default]
    Vxlan,
    HostGw,
    Bgp,
}

/// Who computes checksums.
#[derive(Debug, Default, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the key that it is the value of says what each is")]
pub enum ChecksumOffload {
    #[default]
    Auto,
    On,
    Off,
}

/// What of the firewall is a choice.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Firewall {
    /// Networks that pods reach by their own addresses, beside the pools: the hosts there must know a way back.
    #[schemars(length(max = MOST_NETWORKS), extend("examples" = [["10.0.0.0/8"]]))]
    pub no_masquerade: Option<Vec<Prefix>>,
    /// Lowers the segments that pods' TCP connections offer to what the route carries, for ways that lose the ICMP messages of
    /// path MTU discovery.
    #[schemars(default)]
    pub clamp_mss: bool,
    /// Lets pods through the chains of Docker, iptables and firewalld that drop what a node forwards.
    #[schemars(default)]
    pub open_forward: bool,
}

fn yes() -> bool {
    true
}

fn vni() -> u32 {
    super::Vxlan::default().vni
}

fn port() -> u16 {
    super::Vxlan::default().port
}
