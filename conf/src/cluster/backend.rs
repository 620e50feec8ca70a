//! How packets reach other nodes.

use serde::Serialize;

/// The back end, and what all of them have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Backend {
    /// Which one, chosen by `type`.
    #[serde(flatten)]
    pub kind: Kind,
    /// The greatest MTU of a pod's interface, in bytes. Absent: what the underlay leaves. Less leaves room for a back end with
    /// more overhead, to which one can then switch without a loss for the pods that live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

/// The back ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Kind {
    /// Encapsulation in UDP (RFC 7348).
    Vxlan(Vxlan),
    /// Plain routes by the nodes' underlay addresses, which must be on one subnet.
    HostGw,
    /// Plain routes, as the speaker of BGP learns them.
    Bgp,
}

/// What VXLAN puts around a packet, in bytes: Ethernet 14, VXLAN 8, UDP 8, and an IP header of 20, or of 40 between addresses of IPv6.
pub const fn vxlan_overhead(ipv6: bool) -> u32 {
    14 + 8 + 8 + if ipv6 { 40 } else { 20 }
}

/// The parameters of the VXLAN back end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Vxlan {
    /// The VXLAN network identifier, 1 to 16777215. Default 7777.
    pub vni: u32,
    /// The UDP port, in host order. Default 4789.
    pub port: u16,
    /// Whether nodes on one subnet reach each other by plain routes. Default false.
    #[serde(skip_serializing_if = "super::is_false")]
    pub direct: bool,
    /// Who computes the checksums of what goes into the tunnel. Default `auto`.
    #[serde(skip_serializing_if = "ChecksumOffload::is_auto")]
    pub checksum_offload: ChecksumOffload,
}

/// Who computes the inner checksums of tunnelled packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChecksumOffload {
    /// It is left as it is: on, when the device is made.
    #[default]
    Auto,
    /// The network card, or the kernel in its place where it cannot.
    On,
    /// The kernel, before the packet enters the tunnel: for cards and hypervisors that compute a wrong one.
    Off,
}

impl ChecksumOffload {
    /// The words of the configuration.
    pub(super) const WORDS: [(&str, Self); 3] = [("auto", Self::Auto), ("on", Self::On), ("off", Self::Off)];

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
    fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

impl Default for Vxlan {
    fn default() -> Self {
        Self { vni: 7777, port: 4789, direct: false, checksum_offload: ChecksumOffload::Auto }
    }
}

impl Default for Kind {
    fn default() -> Self {
        Self::Vxlan(Vxlan::default())
    }
}

impl Kind {
    /// Its `type`, as it is written.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Vxlan(_) => "vxlan",
            Self::HostGw => "host-gw",
            Self::Bgp => "bgp",
        }
    }

    /// The parameters of VXLAN, where that is the back end.
    pub fn vxlan(&self) -> Option<&Vxlan> {
        match self {
            Self::Vxlan(vxlan) => Some(vxlan),
            Self::HostGw | Self::Bgp => None,
        }
    }
}
