//! What a measurement depends on here: the kernel, and the devices that packets pass. And by whom packets leave the cluster.

use std::fs;
use std::net::IpAddr;

use twill_cluster::inquiry::trial::{Device, Opened, Pod};
use twill_fabric::vxlan;
use twill_linux::{IfName, NetNs, Netlink, device, table};

use super::Means;
use super::plugin::IFNAME;

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
    devices.extend(vxlan::devices().into_iter().filter_map(|name| device("tunnel", name.as_str())));
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
    let found = Netlink::open().map_err(|error| error.to_string()).and_then(|mut netlink| {
        let mut of = |ipv6| table::default_route(&mut netlink, ipv6).map_err(|error| error.to_string());
        Ok([of(false)?, of(true)?])
    });
    match found {
        Ok(routes) => routes.into_iter().flatten().map(|(_, gateway)| gateway).filter(can_be_named).collect(),
        Err(error) => {
            // Then packets to the outside are not tried, which whoever asks is told.
            tracing::warn!("the default routes cannot be read: {error}");
            Vec::new()
        }
    }
}

/// A route need not have a gateway, and a link-local address says nothing without its link.
fn can_be_named(gateway: &IpAddr) -> bool {
    let is_link_local = match gateway {
        IpAddr::V4(gateway) => gateway.is_link_local(),
        IpAddr::V6(gateway) => gateway.is_unicast_link_local(),
    };
    !gateway.is_unspecified() && !is_link_local
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_named_that_can_be_said_without_its_link() {
        let is = |gateway: &str| can_be_named(&gateway.parse().unwrap());
        assert!(is("10.0.0.1") && is("fd09::1"));
        assert!(!is("0.0.0.0") && !is("169.254.1.1") && !is("::") && !is("fe80::1"));
    }
}
