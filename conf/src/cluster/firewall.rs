//! What of the firewall is the operator's choice.

use ipnetwork::IpNetwork;
use serde::Serialize;

/// The section `[firewall]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FirewallConf {
    /// Networks that pods reach by their own addresses, since these know a way back. At most 64, of both families.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub no_masquerade: Vec<IpNetwork>,
    /// Whether the greatest segment of pods' TCP connections is lowered to what the way carries: for a way that loses the ICMP
    /// messages by which senders learn it. Default false.
    #[serde(skip_serializing_if = "super::is_false")]
    pub clamp_mss: bool,
    /// Whether pods are let through the chains of Docker, iptables and firewalld that drop what they forward. Default false.
    #[serde(skip_serializing_if = "super::is_false")]
    pub open_forward: bool,
}

impl FirewallConf {
    /// Whether nothing is chosen.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
