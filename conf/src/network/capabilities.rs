//! What a runtime asks for one pod: `runtimeConfig`, `args.cni`, and the limits that the network's configuration has.
//!
//! Keys below `runtimeConfig` and `args` count without regard to case: containerd sends `HostPort`, podman `hostPort`. A
//! runtime sends what the configuration's `capabilities` name; what we do not know there is left alone, since it is
//! another plugin's in the chain. Addresses and MAC are taken from `runtimeConfig`, or else from `args.cni`.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::requested::{Mac, PortMapping, Protocol, Requested};
use super::{bandwidth, dns, unsupported};
use crate::Error;
use crate::section::{Item, Section};

const ADDRESS: &str = "an IPv4 or IPv6 address, as in \"10.42.0.9\" or \"fd42::9\", with or without a prefix length";
const ADDRESSES: &str = "a list of addresses, as in [\"10.42.0.9\", \"fd42::9\"]";

pub(super) fn requested(root: &Section<'_>) -> Result<Requested, Error> {
    root.section("capabilities", "an object, as in {\"portMappings\": true}")?;
    let any_case = root.any_case()?;
    let runtime = any_case.section("runtimeConfig", "an object")?;
    let args =
        any_case.section("args", "an object")?.map(|args| args.section("cni", "an object")).transpose()?.flatten();
    let limits = bandwidth::read(root)?;
    let (mut addresses, mut mac) = match &args {
        Some(args) => (addresses(args)?, self::mac(args)?),
        None => Default::default(),
    };
    let Some(runtime) = runtime else {
        return Ok(Requested { addresses, mac, bandwidth: limits, ..Requested::default() });
    };
    unsupported::refuse_ranges(&runtime)?;
    let wanted = self::addresses(&runtime)?;
    if !wanted.is_empty() {
        addresses = wanted;
    }
    mac = self::mac(&runtime)?.or(mac);
    let shape = runtime.section("bandwidth", "an object, as in {\"ingressRate\": 10000000}")?;
    Ok(Requested {
        addresses,
        mac,
        dns: dns::read(&runtime)?,
        ports: ports(&runtime)?,
        bandwidth: bandwidth::join(limits, shape.as_ref().map(bandwidth::read).transpose()?.flatten()),
    })
}

/// `ips`, each once. An empty text asks for nothing.
fn addresses(section: &Section<'_>) -> Result<Vec<IpAddr>, Error> {
    let mut addresses = Vec::new();
    for item in section.list("ips", ADDRESSES)?.unwrap_or_default() {
        let text = item.string(ADDRESS)?;
        if text.is_empty() {
            continue;
        }
        let Some(ip) = parse_address(text) else { return Err(Error::value(item.path, text, ADDRESS)) };
        if let Err(right) = super::ask_for(&mut addresses, ip) {
            return Err(Error::value(item.path, text, right));
        }
    }
    Ok(addresses)
}

/// An address as runtimes write it: alone, or with the length of a prefix, which says nothing here. `None` where it is
/// none that an interface can have.
pub fn parse_address(text: &str) -> Option<IpAddr> {
    let ip = match text.contains('/') {
        true => text.parse::<IpNetwork>().ok()?.ip(),
        false => text.parse::<IpAddr>().ok()?,
    };
    let ip = ip.to_canonical();
    (!ip.is_unspecified() && !ip.is_multicast() && !ip.is_loopback()).then_some(ip)
}

fn mac(section: &Section<'_>) -> Result<Option<Mac>, Error> {
    match section.string("mac", "a MAC address, as in \"02:00:5e:10:00:01\"")? {
        None | Some("") => Ok(None),
        Some(text) => text
            .parse()
            .map(Some)
            .map_err(|error: super::InvalidMac| Error::value(section.key("mac"), text, error.rule)),
    }
}

fn ports(section: &Section<'_>) -> Result<Vec<PortMapping>, Error> {
    let expected = "a list of objects, as in [{\"hostPort\": 8080, \"containerPort\": 80, \"protocol\": \"tcp\"}]";
    let mut ports: Vec<PortMapping> = Vec::new();
    let mut paths: Vec<String> = Vec::new();
    for item in section.list("portMappings", expected)?.unwrap_or_default() {
        let path = item.path.clone();
        let Some(mapping) = port(item)? else { continue };
        // The very same twice is one: runtimes put lists together without looking.
        if ports.contains(&mapping) {
            continue;
        }
        if let Some(i) = ports.iter().position(|other| mapping.overlaps(other)) {
            let right = format!("each port of an address of the node once; {} has it too", paths[i]);
            let port = format!("{}/{}", mapping.host_port, mapping.protocol);
            return Err(Error::value(format!("{path}.hostPort"), port, right));
        }
        ports.push(mapping);
        paths.push(path);
    }
    Ok(ports)
}

/// `None` where the port of the node is 0: containerd sends each port of a container, and this says "not published".
fn port(item: Item<'_>) -> Result<Option<PortMapping>, Error> {
    let entry = item.section("an object, as in {\"hostPort\": 8080, \"containerPort\": 80}")?;
    let missing = |key: &str, what: &str| Error::missing(entry.key(key), what);
    let host_port = entry.integer("hostPort", 0..=65_535, "a port of the node, or 0 for none")?;
    let host_port = host_port.ok_or_else(|| missing("hostPort", "the port of the node, from 1 to 65535"))?;
    if host_port == 0 {
        return Ok(None);
    }
    let container_port = entry.integer("containerPort", 1..=65_535, "a port of the pod")?;
    let container_port = container_port.ok_or_else(|| missing("containerPort", "the port of the pod"))?;
    Ok(Some(PortMapping { protocol: protocol(&entry)?, host_ip: host_ip(&entry)?, host_port, container_port }))
}

fn protocol(entry: &Section<'_>) -> Result<Protocol, Error> {
    let expected = "\"tcp\", \"udp\" or \"sctp\"";
    let text = entry.string("protocol", expected)?.unwrap_or_default();
    if text.is_empty() {
        return Ok(Protocol::Tcp);
    }
    let known = Protocol::ALL.into_iter().find(|protocol| protocol.as_str().eq_ignore_ascii_case(text));
    known.ok_or_else(|| Error::value(entry.key("protocol"), text, expected))
}

fn host_ip(entry: &Section<'_>) -> Result<Option<IpAddr>, Error> {
    let expected = "an address of the node, as in \"192.0.2.1\", or none for all of them";
    match entry.string("hostIP", expected)? {
        None | Some("") => Ok(None),
        Some(text) => match text.parse::<IpAddr>() {
            Ok(ip) if !ip.is_multicast() => Ok(Some(ip.to_canonical())),
            _ => Err(Error::value(entry.key("hostIP"), text, expected)),
        },
    }
}
