//! What a measurement depends on here: the kernel, and the devices that packets pass. And by whom packets leave the cluster.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use twill_cluster::inquiry::trial::{Device, Opened, Pod};
use twill_linux::{IfName, NetNs, device};

use super::Means;
use super::plugin::IFNAME;

/// The device of the VXLAN back end.
const TUNNEL: &str = "vxlan.twill";
/// RTF_GATEWAY (include/uapi/linux/route.h).
const RTF_GATEWAY: u32 = 0x2;

/// Looks, at the first pod's interface too.
pub(super) fn look(pods: Vec<Pod>, pod: Option<&NetNs>, means: &Means) -> Opened {
    let inside = |role, name| pod.and_then(|pod| pod.run(|| device(role, name)).ok()?);
    let mut devices: Vec<Device> = inside("pod", IFNAME).into_iter().collect();
    let mut underlays: Vec<IfName> = Vec::new();
    for side in means.underlays.borrow().iter().flat_map(|underlay| underlay.sides()) {
        if !underlays.contains(&side.device) {
            underlays.push(side.device);
        }
    }
    devices.extend(underlays.iter().filter_map(|name| device("underlay", name.as_str())));
    devices.extend(device("tunnel", TUNNEL));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    Opened {
        pods,
        gateways: gateways(),
        kernel: kernel.trim().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        processors: u32::try_from(processors).unwrap_or(u32::MAX),
        devices,
    }
}

/// A device, if it is there.
fn device(role: &str, name: &str) -> Option<Device> {
    let settings = device::settings(IfName::new(name)?).ok()?;
    let off = settings.off.into_iter().map(str::to_owned).collect();
    Some(Device { role: role.to_owned(), name: name.to_owned(), mtu: settings.mtu, off })
}

/// The node's default gateways, one of each family at the most.
fn gateways() -> Vec<IpAddr> {
    let read = |table: &str| fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default();
    let ipv4 = read("route").lines().find_map(gateway_of_ipv4).map(IpAddr::V4);
    let ipv6 = read("ipv6_route").lines().find_map(gateway_of_ipv6).map(IpAddr::V6);
    ipv4.into_iter().chain(ipv6).collect()
}

/// The gateway of a line of /proc/net/route, if it is that of a default route: addresses stand there as the machine has them.
fn gateway_of_ipv4(line: &str) -> Option<Ipv4Addr> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, destination, gateway, flags, _, _, _, mask, ..] = fields.as_slice() else { return None };
    let is_default = u32::from_str_radix(destination, 16) == Ok(0) && u32::from_str_radix(mask, 16) == Ok(0);
    let leads = u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & RTF_GATEWAY != 0);
    let gateway = u32::from_str_radix(gateway, 16).ok()?;
    (is_default && leads).then(|| Ipv4Addr::from(gateway.to_ne_bytes()))
}

/// The same of /proc/net/ipv6_route. A link-local address says nothing without its link.
fn gateway_of_ipv6(line: &str) -> Option<Ipv6Addr> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [destination, length, _, _, gateway, ..] = fields.as_slice() else { return None };
    let gateway = Ipv6Addr::from(u128::from_str_radix(gateway, 16).ok()?);
    let is_default = u128::from_str_radix(destination, 16) == Ok(0) && *length == "00";
    (is_default && !gateway.is_unspecified() && !gateway.is_unicast_link_local()).then_some(gateway)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_gateway_of_a_default_route_is_read() {
        let line = "eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0";
        assert_eq!(gateway_of_ipv4(line), Some(Ipv4Addr::new(10, 0, 0, 1)));
        for other in [
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT",
            "eth0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0",
            "eth0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0",
            "",
        ] {
            assert_eq!(gateway_of_ipv4(other), None, "{other}");
        }
    }

    #[test]
    fn one_of_ipv6_is_read_where_it_can_be_said_without_its_link() {
        let zeros = "0".repeat(32);
        let line = |gateway: &str| format!("{zeros} 00 {zeros} 00 {gateway} 00000400 1 0 00000003 eth0");
        assert_eq!(gateway_of_ipv6(&line("fd090000000000000000000000000001")), Some("fd09::1".parse().unwrap()));
        assert_eq!(gateway_of_ipv6(&line("fe800000000000000000000000000001")), None);
        assert_eq!(gateway_of_ipv6(&line(&zeros)), None);
    }
}
