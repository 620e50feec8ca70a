//! What is asked for one pod, in types that cannot hold a wrong value: by the runtime (`runtimeConfig`, `args`) and by
//! the network's own configuration (`routes`, `dns`). How it is written is the affair of the readers beside this file.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnetwork::IpNetwork;

/// What a runtime asks for one attachment. Empty where it asks for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requested {
    /// The addresses that the pod is to have, one of a family at most; the other family gets one as usual.
    pub addresses: Vec<IpAddr>,
    /// The MAC of the pod's interface.
    pub mac: Option<Mac>,
    /// What the runtime passes on about names. It goes before the network's own.
    pub dns: Option<Dns>,
    /// Ports of the node that lead to ports of the pod. No two of one protocol overlap in address and port of the node.
    pub ports: Vec<PortMapping>,
    /// How fast the pod may receive and send.
    pub bandwidth: Option<Bandwidth>,
}

/// Adds an address to those that are asked for. The same one twice is one; a second one of its family is refused with what
/// would be right.
pub fn ask_for(addresses: &mut Vec<IpAddr>, ip: IpAddr) -> Result<(), String> {
    match addresses.iter().find(|other| other.is_ipv4() == ip.is_ipv4()) {
        Some(other) if *other == ip => Ok(()),
        Some(other) => Err(format!("one address of each family, and {other} is asked for too")),
        None => {
            addresses.push(ip);
            Ok(())
        }
    }
}

/// A MAC address that an interface can have: six bytes, not multicast, not all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mac([u8; 6]);

/// Text that is no MAC address that an interface can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not valid: {rule}")]
pub struct InvalidMac {
    /// What was found.
    pub value: String,
    /// What would be right.
    pub rule: &'static str,
}

impl Mac {
    /// Its bytes, in the order of the wire.
    pub fn bytes(self) -> [u8; 6] {
        self.0
    }
}

impl FromStr for Mac {
    type Err = InvalidMac;

    /// Reads `02:00:5e:10:00:01`, `02-00-5e-10-00-01` and `0200.5e10.0001`, in either case.
    fn from_str(text: &str) -> Result<Self, InvalidMac> {
        let invalid = |rule| InvalidMac { value: text.to_owned(), rule };
        let digits: String = ([(':', 2), ('-', 2), ('.', 4)].into_iter())
            .find(|(separator, width)| {
                text.split(*separator).count() == 12 / width && text.split(*separator).all(|part| part.len() == *width)
            })
            .map(|(separator, _)| text.split(separator).collect())
            .filter(|digits: &String| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .ok_or_else(|| invalid("a MAC address of six bytes, as in \"02:00:5e:10:00:01\""))?;
        let number = u64::from_str_radix(&digits, 16).expect("twelve hexadecimal digits are a number");
        let [_, _, bytes @ ..] = number.to_be_bytes();
        if bytes == [0; 6] {
            return Err(invalid("a MAC address that is not all zero"));
        }
        // IEEE 802: the lowest bit of the first byte marks a group.
        if bytes[0] & 1 == 1 {
            return Err(invalid("a MAC address of one interface, whose first byte is even; this one is multicast"));
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// What is to be known about names, as it goes into a result. Nothing here is empty or has white space in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dns {
    /// Addresses of name servers, the first one first.
    pub nameservers: Vec<String>,
    /// The local domain.
    pub domain: Option<String>,
    /// Domains to look short names up in.
    pub search: Vec<String>,
    /// Options of the resolver, as in resolv.conf(5).
    pub options: Vec<String>,
}

/// The protocol of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// As nftables and configurations spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A port of the node that leads to a port of the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PortMapping {
    /// TCP where the runtime does not say.
    pub protocol: Protocol,
    /// On which address of the node; on all of both families where it is absent. `0.0.0.0` and `::` mean all of theirs.
    pub host_ip: Option<IpAddr>,
    /// The port of the node, never 0.
    pub host_port: u16,
    /// The port of the pod, never 0.
    pub container_port: u16,
}

impl PortMapping {
    /// Whether a packet to the node could be meant by both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let all = |ip: IpAddr| ip.is_unspecified();
        let addresses = match (self.host_ip, other.host_ip) {
            (None, _) | (_, None) => true,
            (Some(a), Some(b)) => a.is_ipv4() == b.is_ipv4() && (a == b || all(a) || all(b)),
        };
        self.protocol == other.protocol && self.host_port == other.host_port && addresses
    }
}

/// How fast a pod may receive and send. At least one of both is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bandwidth {
    /// To the pod.
    pub ingress: Option<Shape>,
    /// From the pod.
    pub egress: Option<Shape>,
}

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Bits a second, at least 8.
    pub rate: u64,
    /// How many bits may go at once after a pause, at least 8; `None`: the runtime sets no bounds, and leaves the choice to us.
    pub burst: Option<u64>,
}

/// The gateway of every pod for IPv4. No interface has it; the pod has a permanent neighbour entry for it.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The gateway of every pod for IPv6, likewise.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// The pod's gateway for addresses of the family of `ip`.
pub fn gateway(ip: IpAddr) -> IpAddr {
    if ip.is_ipv4() { GATEWAY_V4.into() } else { GATEWAY_V6.into() }
}

/// The destination of a default route of a family.
pub fn everything(ipv6: bool) -> IpNetwork {
    let unspecified: IpAddr = if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    IpNetwork::new(unspecified, 0).expect("0 is a prefix length of both families")
}

/// `RT_TABLE_MAIN` (include/uapi/linux/rtnetlink.h).
const TABLE_MAIN: u32 = 254;

/// A route of the pod by the interface, over the gateway of its family ([`gateway`]): the node is the only one on the
/// pod's link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Without host bits.
    pub destination: IpNetwork,
    /// The MTU of the way, in bytes.
    pub mtu: Option<u32>,
    /// The greatest TCP segment to be advertised, in bytes.
    pub advmss: Option<u32>,
    /// The metric; the smaller one wins.
    pub priority: Option<u32>,
    /// The routing table; the main one (254) where it is absent.
    pub table: Option<u32>,
    /// The scope (`rtm_scope`); 0, the universe, where it is absent.
    pub scope: Option<u8>,
}

impl Route {
    /// To `destination`, with nothing of its own.
    pub fn to(destination: IpNetwork) -> Self {
        Self { destination, mtu: None, advmss: None, priority: None, table: None, scope: None }
    }

    /// Whether it stands in the main table.
    pub fn is_main(&self) -> bool {
        self.table.is_none_or(|table| table == TABLE_MAIN)
    }

    /// Whether it is a default route.
    pub fn is_default(&self) -> bool {
        self.destination.prefix() == 0
    }
}
