//! Settings of the kernel, in the network namespace of the calling thread.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::path::Path;

/// Settings of the kernel that Twill depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sysctls {
    /// Why they cannot be written by this process, where they cannot.
    pub unwritable: Option<String>,
    /// They can be written by nobody: /proc/sys is mounted read-only.
    pub read_only: bool,
    /// net.ipv6.conf.all.forwarding; absent where the kernel has no IPv6.
    pub ipv6_forwarding: Option<bool>,
    /// Of the interfaces that Twill uses.
    pub interfaces: BTreeMap<String, Settings>,
    /// net.bridge.bridge-nf-call-iptables; absent where no bridge asks.
    pub bridge_calls: Option<bool>,
}

/// Settings of one interface for IPv4.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settings {
    /// forwarding
    pub forwarding: bool,
    /// rp_filter as it holds: the greater of its own and that of `all` (Documentation/networking/ip-sysctl.rst).
    pub rp_filter: u8,
}

/// A table of the kernel's that may get full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// Entries that there are.
    pub count: u64,
    /// Entries that there may be.
    pub max: u64,
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(Path::new("/proc/sys").join(path)).ok()?.trim().parse().ok()
}

pub(super) fn look(interfaces: BTreeSet<String>) -> Sysctls {
    let all = number("net/ipv4/conf/all/rp_filter").unwrap_or(0);
    let settings = |name: String| {
        // An interface without IPv4 has none.
        let forwarding = number(&format!("net/ipv4/conf/{name}/forwarding"))? != 0;
        let own = number(&format!("net/ipv4/conf/{name}/rp_filter"))?;
        Some((name, Settings { forwarding, rp_filter: u8::try_from(own.max(all)).unwrap_or(u8::MAX) }))
    };
    // Opening changes nothing.
    let refused = OpenOptions::new().write(true).open("/proc/sys/net/ipv4/ip_forward").err();
    Sysctls {
        read_only: refused.as_ref().is_some_and(|error| error.kind() == ErrorKind::ReadOnlyFilesystem),
        unwritable: refused.map(|error| error.to_string()),
        ipv6_forwarding: number("net/ipv6/conf/all/forwarding").map(|value| value != 0),
        interfaces: interfaces.into_iter().filter_map(settings).collect(),
        bridge_calls: number("net/bridge/bridge-nf-call-iptables").map(|value| value != 0),
    }
}

pub(super) fn conntrack() -> Option<Table> {
    let number = |what| number(&format!("net/netfilter/nf_conntrack_{what}"));
    Some(Table { count: number("count")?, max: number("max")? })
}
