//! The ports of the node that lead to a pod: published after its interface stands, withdrawn before it goes.
//!
//! A port that is published already is somebody's, and the ADD fails with his name, but where he is no more: an older
//! plugin, or one that was killed, may have left his element. Flows of UDP and SCTP that were decided before are turned
//! (see `twill_linux::conntrack`): a client that never pauses would not reach the new pod otherwise.

use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use twill_conf::network::{PortMapping, Protocol};
use twill_ipam::alias::Proof;
use twill_ipam::{Attachment, BootTime, Extras, KeyHash, Liveness, Store};
use twill_linux::ports::{self, Port};
use twill_linux::table::link::{self, Device, Ipv4Setting};
use twill_linux::{Netlink, conntrack};

use crate::attach::host_ifname;
use crate::detach::{self, Beyond, Remains};
use crate::error::Error;
use crate::request::Request;

/// How long somebody who works on the owner of a port that is taken is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

const FREE: &str = "freeing a dead pod's ports of the node";
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

/// As they stand for an attachment by its row.
pub(crate) fn of_row(row: &Attachment) -> Vec<Port> {
    let addresses: Vec<_> = row.addresses.iter().map(|(ip, _)| *ip).collect();
    of(row.hash, &row.extras, &addresses)
}

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

/// Withdraws all that was published for `hash`. Flows are turned from that and from `known`, what its row says: a DEL
/// that was killed may have withdrawn it and turned nothing.
pub(crate) fn withdraw(hash: KeyHash, known: &[Port], step: &'static str) -> Result<(), Error> {
    let mut withdrawn = ports::withdraw(&hash.to_string()).map_err(Error::kernel(step))?;
    withdrawn.extend_from_slice(known);
    conntrack::turn_from(&withdrawn).map(drop).map_err(Error::kernel(step))
}

/// As [`withdraw`], where perhaps nothing was published: costs a few small requests then, and no run of nft.
pub(crate) fn withdraw_any(hash: KeyHash, step: &'static str) -> Result<(), Error> {
    match ports::may_have(&hash.to_string()).map_err(Error::kernel(step))? {
        true => withdraw(hash, &[], step),
        false => Ok(()),
    }
}

/// Withdraws what the owner of `port` published, if he is no more: he has neither row nor link, and nobody works on him.
fn evict(request: &Request, store: &Store, host: &mut Netlink, port: &Port) -> Result<(), Error> {
    let taken = |holder| Error::PortTaken { port: format!("{}/{}", port.host_port, port.protocol), holder };
    let Some(owner) = KeyHash::parse(&port.owner) else { return Err(taken(port.owner.clone())) };
    if owner != request.hash {
        // Whoever works on him may be about to end: a DEL, the daemon's repair.
        let lock = match Liveness::acquire(request.run_dir(), owner, PATIENCE) {
            Err(twill_ipam::Error::Busy) => None,
            lock => Some(lock.map_err(Error::store(PUBLISH))?),
        };
        let row = store.attachment(owner).map_err(Error::store(PUBLISH))?;
        let link = link::by_name(host, &host_ifname(owner)).map_err(Error::kernel(PUBLISH))?;
        if lock.is_none() || row.is_some() || link.is_some() {
            let holder = row.map_or_else(|| format!("the pod behind {}", host_ifname(owner)), |row| row.title());
            return Err(taken(holder));
        }
    }
    withdraw(owner, &[], PUBLISH)
}

/// Frees a dead pod whose row has one of `wanted`: his link is gone, and nobody works on him. Whether there was one.
pub(crate) fn free_dead(run_dir: &Path, store: &mut Store, hash: KeyHash, wanted: &Extras) -> Result<bool, Error> {
    let in_the_way = |row: &Attachment| {
        let overlaps = |theirs: &PortMapping| wanted.ports.iter().any(|port| port.overlaps(theirs));
        row.hash != hash && row.extras.ports.iter().any(overlaps)
    };
    let mut freed = false;
    for row in store.attachments().map_err(Error::store(FREE))?.into_iter().filter(in_the_way) {
        let _lock = match Liveness::acquire(run_dir, row.hash, PATIENCE) {
            Err(twill_ipam::Error::Busy) => continue,
            lock => lock.map_err(Error::store(FREE))?,
        };
        // He may have gone, or come anew, until we had his lock.
        let now = store.attachment(row.hash).map_err(Error::store(FREE))?;
        let Some(row) = now.filter(|now| now.id == row.id) else {
            freed = true;
            continue;
        };
        let mut host = Netlink::open().map_err(Error::kernel(FREE))?;
        if link::by_name(&mut host, &host_ifname(row.hash)).map_err(Error::kernel(FREE))?.is_some() {
            continue;
        }
        let beyond = Beyond::Known(&row);
        let remains = Remains { hash: row.hash, proof: Proof::Name, namespaces: Vec::new(), beyond };
        detach::clear(&mut host, &remains, FREE)?;
        store.release(row.id, BootTime::now()).map_err(Error::store(FREE))?;
        freed = true;
    }
    Ok(freed)
}

/// What is not published as it should be, a sentence each.
pub(crate) fn differences(host: Option<Device>, wanted: &[Port]) -> Result<Vec<String>, twill_linux::Error> {
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
