//! The sysctls that an ADD writes: forwarding on the node, stand-alone, where no daemon sets it; and IPv6 on single devices,
//! with a daemon or without, where the runtime or the operator turned it off by default. STATUS reads the former.

use std::fs;

use twill_ipam::KeyHash;
use twill_linux::{Error, IfName, NetNs, advertisements};

/// Lets the node route for its pods. Reads first: after the first ADD there is nothing to write.
pub(crate) fn forward(ipv4: bool, ipv6: bool) -> Result<(), Error> {
    if ipv4 {
        ensure("net/ipv4/ip_forward", "1")?;
    }
    if ipv6 && read(advertisements::FORWARDING)? != "1" {
        advertisements::keep()?;
        write(advertisements::FORWARDING, "1")?;
    }
    Ok(())
}

/// Whether it is certain that what pods send goes no further than the node. IPv6 has one switch for the whole machine; for
/// IPv4 that of the interface counts by which a packet comes, and writing the machine's sets all of them
/// (devinet_sysctl_forward, net/ipv4/devinet.c).
pub fn stops_at_the_node(ipv6: bool) -> bool {
    let is_off = |path: &str| read(path).is_ok_and(|value| value == "0");
    if ipv6 {
        return is_off(advertisements::FORWARDING);
    }
    is_off("net/ipv4/ip_forward")
        && fs::read_dir(absolute("net/ipv4/conf")).is_ok_and(|entries| {
            let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            let mut host_ends = names.filter(|name| KeyHash::of_host_ifname(name).is_some());
            host_ends.any(|name| is_off(&format!("net/ipv4/conf/{name}/forwarding")))
        })
}

/// Turns IPv6 on for one device, in another namespace where one is given.
pub(crate) fn enable_ipv6(namespace: Option<&NetNs>, device: IfName) -> Result<(), Error> {
    let enable = || ensure(&format!("net/ipv6/conf/{device}/disable_ipv6"), "0");
    match namespace {
        Some(namespace) => namespace.run(enable)?,
        None => enable(),
    }
}

fn ensure(path: &str, value: &str) -> Result<(), Error> {
    if read(path)? == value { Ok(()) } else { write(path, value) }
}

fn read(path: &str) -> Result<String, Error> {
    let text = fs::read_to_string(absolute(path));
    text.map(|text| text.trim().to_owned()).map_err(|cause| Error::Sysctl {
        path: path.to_owned(),
        value: String::new(),
        cause,
    })
}

fn write(path: &str, value: &str) -> Result<(), Error> {
    let refused = |cause| Error::Sysctl { path: path.to_owned(), value: value.to_owned(), cause };
    fs::write(absolute(path), value).map_err(refused)
}

/// The calling thread's own view: below /proc/sys/net each thread sees its network namespace.
fn absolute(path: &str) -> String {
    format!("/proc/sys/{path}")
}
