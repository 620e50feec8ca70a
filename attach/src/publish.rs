//! The ports of the node that lead to a pod: published after its interface stands, withdrawn before it goes.
//!
//! Flows of UDP and SCTP that were decided before are turned (see [`twill_linux::conntrack`]): a client that never pauses
//! would not reach the new pod otherwise.

use std::net::{IpAddr, Ipv6Addr};

use twill_ipam::{Extras, KeyHash};
use twill_linux::ports::{self, Port};
use twill_linux::table::link::{self, Device, Ipv4Setting};
use twill_linux::{Netlink, conntrack};

use crate::error::Error;

/// Refuses what could never lead to a pod with these addresses.
pub(crate) fn verify(extras: &Extras, addresses: &[IpAddr]) -> Result<(), Error> {
    for host in extras.ports.iter().filter_map(|port| port.host_ip) {
        let expected = if host == Ipv6Addr::LOCALHOST {
            "an address other than ::1, whose packets the kernel leads to no other device; 127.0.0.1 can be published"
        } else if matches!(host, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
            "an address other than a link-local one, whose packets the kernel forwards to no other device"
        } else if !host.is_unspecified() && !addresses.iter().any(|ip| ip.is_ipv6() == host.is_ipv6()) {
            "an address of a family that the pod has an address of"
        } else {
            continue;
        };
        let key = "runtimeConfig.portMappings.hostIP";
        return Err(Error::Configuration(twill_conf::Error::value(key, host, expected)));
    }
    Ok(())
}

/// Publishes `ports` for the pod behind `device`. [`twill_linux::Error::PortTaken`] where nothing was done.
pub(crate) fn publish(host: &mut Netlink, device: Device, ports: &[Port]) -> Result<(), twill_linux::Error> {
    ports::publish(ports)?;
    // The guard of the table stands by now, which keeps the pod from the node's own loopback.
    if ports.iter().any(|port| port.pod.is_ipv4()) {
        host.apply(&[link::set_ipv4(device, &[(Ipv4Setting::RouteLocalnet, 1)])])?;
    }
    conntrack::turn_to(ports).map(drop)
}

/// Withdraws all that was published for `hash`. Flows are turned from that and from `known`, what its row says: a DEL
/// that was killed may have withdrawn it and turned nothing.
pub(crate) fn withdraw(hash: KeyHash, known: &[Port]) -> Result<(), twill_linux::Error> {
    let mut withdrawn = ports::withdraw(&hash.to_string())?;
    withdrawn.extend_from_slice(known);
    conntrack::turn_from(&withdrawn).map(drop)
}

/// As [`withdraw`], where perhaps nothing was published: costs a few small requests then, and no run of nft.
pub(crate) fn withdraw_any(hash: KeyHash) -> Result<(), twill_linux::Error> {
    match ports::may_have(&hash.to_string())? {
        true => withdraw(hash, &[]),
        false => Ok(()),
    }
}

/// What is not published as it should be, a sentence each.
pub fn differences(host: Option<Device>, wanted: &[Port]) -> Result<Vec<String>, twill_linux::Error> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let standing = ports::standing()?.unwrap_or_default();
    let missing = wanted.iter().filter(|port| !standing.ports.contains(port));
    let mut wrong: Vec<String> = missing.map(|port| format!("the node's port {port} is not published")).collect();
    let without = standing.without_hairpin(wanted);
    wrong
        .extend(without.iter().map(|pod| format!("the pod does not reach its own address {pod} by ports of the node")));
    if !standing.is_whole() {
        wrong.push(format!("chains, rules or maps of the table inet {} are not as they should be", ports::TABLE));
    }
    if let Some(host) = host.filter(|_| wanted.iter().any(|port| port.pod.is_ipv4())) {
        let allowed = link::route_localnet(&mut Netlink::open()?, host)?;
        if allowed != Some(true) {
            wrong.push(format!("{} has no route_localnet, so the ports are not reached by 127.0.0.1", host.name));
        }
    }
    Ok(wrong)
}
