//! `twillctl trace`: whose packet, to whom, and how large.

use std::fmt;
use std::net::IpAddr;

use clap::Args;
use twill_cluster::inquiry::trace::{LARGEST, Port, Transport};
use twill_conf::{ContainerId, NodeName};

/// The packet whose way is told.
#[derive(Debug, Args)]
pub(crate) struct TraceFlags {
    /// Who sends it: a pod, by its name, an address of it or the ID of its container; or a node
    #[arg(value_name = "SRC", value_parser = end)]
    pub(crate) source: End,
    /// Whom it is for.
    #[arg(value_name = "DST[:PORT]", value_parser = destination)]
    // Brackets are links to the compiler's documentation.
    #[arg(
        help = "Whom it is for: a pod, a node, or any address; with a port as in 10.42.0.7:80, [fd42::7]:80 or n2:53/udp, else it is \
                  a ping"
    )]
    pub(crate) destination: Destination,
    /// The node to ask about the source, where its address is in nobody's records
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<NodeName>,
    /// The length of the packet with its IP header, not to be fragmented [default: a small one]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(28..=i64::from(LARGEST)))]
    pub(crate) size: Option<u32>,
}

/// One end of the way, as it was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// An address.
    Address(IpAddr),
    /// A pod's namespace and name.
    Pod(String),
    /// A node, or the ID of a container.
    Word(String),
}

/// Where to, and to which port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) end: End,
    pub(crate) port: Option<Port>,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(ip) => ip.fmt(f),
            Self::Pod(word) | Self::Word(word) => f.write_str(word),
        }
    }
}

/// What an end may be, for errors.
const ENDS: &str = "a pod as in shop/till-0, the ID of a container, a node's name, or an address";

fn end(text: &str) -> Result<End, String> {
    if let Ok(ip) = text.parse() {
        return address(ip).map(End::Address);
    }
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(End::Pod(text.to_owned()))
        }
        None if text.parse::<NodeName>().is_ok() || text.parse::<ContainerId>().is_ok() => {
            Ok(End::Word(text.to_owned()))
        }
        _ => Err(ENDS.to_owned()),
    }
}

/// An address that one machine or pod may have.
fn address(ip: IpAddr) -> Result<IpAddr, String> {
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    let kind = match ip {
        _ if ip.is_loopback() => "a loopback address, which leads nowhere",
        _ if ip.is_multicast() => "a multicast address, which Twill carries nowhere",
        _ if ip.is_unspecified() || is_broadcast => "an address that nobody has",
        _ => return Ok(ip),
    };
    Err(format!("{kind}; {ENDS} is right"))
}

fn destination(text: &str) -> Result<Destination, String> {
    let whole = |text: &str| text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text).to_owned();
    // An IPv6 address has colons of its own.
    if let Ok(ip) = whole(text).parse() {
        return Ok(Destination { end: End::Address(address(ip)?), port: None });
    }
    let suffix = |protocol: &Transport| Some((text.strip_suffix(&format!("/{}", protocol.as_str()))?, *protocol));
    let named = Transport::ALL.iter().find_map(suffix).filter(|(before, _)| before.contains(':'));
    let (before, protocol) = named.unwrap_or((text, Transport::Tcp));
    match before.rsplit_once(':') {
        None => Ok(Destination { end: end(text)?, port: None }),
        Some((name, number)) => {
            let number = number.parse().ok().filter(|number| *number > 0);
            let number =
                number.ok_or("a port is a number from 1 to 65535, with /udp or /sctp where it is not TCP's")?;
            Ok(Destination { end: end(&whole(name))?, port: Some(Port { protocol, number }) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_has_its_port_whatever_it_is() {
        let read = |text: &str| {
            let Destination { end, port } = destination(text).unwrap();
            format!("{end:?} {}", port.map(|port| port.to_string()).unwrap_or_default())
        };
        let cases = [
            ("10.42.0.7", "Address(10.42.0.7) "),
            ("10.42.0.7:80", "Address(10.42.0.7) tcp port 80"),
            ("fd42::7", "Address(fd42::7) "),
            ("[fd42::7]", "Address(fd42::7) "),
            ("[fd42::7]:53/udp", "Address(fd42::7) udp port 53"),
            ("n2", "Word(\"n2\") "),
            ("n2:8080", "Word(\"n2\") tcp port 8080"),
            ("shop/till-0", "Pod(\"shop/till-0\") "),
            ("shop/udp", "Pod(\"shop/udp\") "),
            ("shop/till-0:80", "Pod(\"shop/till-0\") tcp port 80"),
            ("shop/till-0:80/sctp", "Pod(\"shop/till-0\") sctp port 80"),
        ];
        for (text, wanted) in cases {
            assert_eq!(read(text), wanted, "{text}");
        }
        for text in ["127.0.0.1", "::1", "224.0.0.1:80", "[ff02::1]:80", "255.255.255.255", "0.0.0.0"] {
            let error = destination(text).unwrap_err();
            assert!(error.contains("address") && error.ends_with("is right"), "{text}: {error}");
        }
        for text in ["", "/", "a/b/c", "n2:0", "n2:65536", "n2:", "10.42.0.7:http", ":80", "shop/", "[fd42::7"] {
            assert!(destination(text).is_err(), "{text}");
        }
    }
}
