//! The ports of the node that lead to a pod: published after its interface stands, withdrawn before it goes.
//!
//! A port that is published already is somebody's, and the ADD fails with his name, but where he is no more: an older
//! plugin, or one that was killed, may have left his element. Flows of UDP and SCTP that were decided before are turned
//! (see `twill_linux::conntrack`): a client that never pauses would not reach the new pod otherwise.

use std::net::{IpAddr, Ipv6Addr};

use twill_conf::network::Protocol;
use twill_ipam::{Extras, KeyHash, Liveness, Store};
use twill_linux::ports::{self, Port};
use twill_linux::table::link::{self, Device, Ipv4Setting};
use twill_linux::{Netlink, conntrack};

use crate::attach::host_ifname;
use crate::error::Error;
use crate::request::Request;

const PUBLISH: &str = "publishing ports of the node";

/// As the kernel has them, for a pod with these addresses.
pub(crate) fn of(hash: KeyHash, extras: &Extras, addresses: &[IpAddr]) -> Vec<Port> {
    let protocol = |protocol: Protocol| match protocol {
        Protocol::Tcp => ports::Protocol::Tcp,
        Protocol::Udp => ports::Protocol::Udp,
        Protocol::Sctp => ports::Protocol::Sctp,
    };
    let port = |one: twill_ipam::extras::Published| Port {
        protocol: protocol(one.protocol),
        host: one.host,
        host_port: one.host_port,
        pod: one.pod,
        owner: hash.to_string(),
    };
    extras.published(addresses).into_iter().map(port).collect()
}

/// Refuses what could never lead to a pod with these addresses.
pub(crate) fn verify(extras: &Extras, addresses: &[IpAddr]) -> Result<(), Error> {
    for host in extras.ports.iter().filter_map(|port| port.host_ip) {
        let expected = if host == Ipv6Addr::LOCALHOST {
            "an address other than ::1, whose packets the kernel leads to no other device; 127.0.0.1 can be published"
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

/// Publishes `ports` for the pod behind `device`.
pub(crate) fn publish(
    request: &Request,
    store: &Store,
    host: &mut Netlink,
    device: Device,
    ports: &[Port],
) -> Result<(), Error> {
    if ports.is_empty() {
        return Ok(());
    }
    match ports::publish(ports) {
        Err(twill_linux::Error::PortTaken { taken }) => {
            for port in &taken {
                evict(request, store, host, port)?;
            }
            ports::publish(ports).map_err(Error::kernel(PUBLISH))?;
        }
        done => done.map_err(Error::kernel(PUBLISH))?,
    }
    // The guard of the table stands by now, which keeps the pod from the node's own loopback.
    if ports.iter().any(|port| port.pod.is_ipv4()) {
        let settings = link::set_ipv4(device, &[(Ipv4Setting::RouteLocalnet, 1)]);
        host.apply(&[settings]).map_err(Error::kernel(PUBLISH))?;
    }
    conntrack::turn_to(ports).map(drop).map_err(Error::kernel(PUBLISH))
}

/// Withdraws all that was published for `hash`.
pub(crate) fn withdraw(hash: KeyHash, step: &'static str) -> Result<(), Error> {
    let withdrawn = ports::withdraw(&hash.to_string()).map_err(Error::kernel(step))?;
    conntrack::turn_from(&withdrawn).map(drop).map_err(Error::kernel(step))
}

/// Withdraws what the owner of `port` published, if he is no more: he has neither row nor link, and nobody works on him.
fn evict(request: &Request, store: &Store, host: &mut Netlink, port: &Port) -> Result<(), Error> {
    let taken = |holder| Error::PortTaken { port: format!("{}/{}", port.host_port, port.protocol), holder };
    let Some(owner) = KeyHash::parse(&port.owner) else { return Err(taken(port.owner.clone())) };
    if owner != request.hash {
        let lock = Liveness::try_acquire(request.run_dir(), owner).map_err(Error::store(PUBLISH))?;
        let row = store.attachment(owner).map_err(Error::store(PUBLISH))?;
        let link = link::by_name(host, &host_ifname(owner)).map_err(Error::kernel(PUBLISH))?;
        if lock.is_none() || row.is_some() || link.is_some() {
            let holder = row.map_or_else(|| format!("the pod behind {}", host_ifname(owner)), |row| row.title());
            return Err(taken(holder));
        }
    }
    withdraw(owner, PUBLISH)
}

/// What is not published as it should be, a sentence each.
pub(crate) fn differences(wanted: &[Port]) -> Result<Vec<String>, twill_linux::Error> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let standing = ports::standing()?.unwrap_or_default();
    let missing = wanted.iter().filter(|port| !standing.ports.contains(port));
    let mut wrong: Vec<String> = missing.map(|port| format!("the node's port {port} is not published")).collect();
    if !standing.is_whole() {
        wrong.push(format!("rules of the table inet {} are missing, or there are more", ports::TABLE));
    }
    Ok(wrong)
}
