//! How the values print: as `ip` shows them, one line each.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::{Address, FdbEntry, Hop, HostEnd, KernelState, Link, LinkKind, Neighbour, Route, Target};

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} mtu {} address {} {}", self.name, self.mtu, self.mac, self.kind)
    }
}

impl fmt::Display for HostEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} mtu {} address {} up", self.name, self.mtu, self.mac)
    }
}

impl fmt::Display for LinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Vxlan { vni, port, local } = self;
        write!(f, "type vxlan id {vni} local {local} dstport {port} nolearning")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} dev {}", self.cidr, self.device)
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let destination = self.key.destination;
        match &self.target {
            Target::Unreachable => write!(f, "unreachable {destination}")?,
            Target::Device(device) => write!(f, "{destination} dev {device}")?,
            Target::Gateway { gateway, device, .. } => {
                write!(f, "{destination} {} dev {device}", via(destination, *gateway))?;
            }
            Target::Several(_) => write!(f, "{destination}")?,
        }
        write!(f, " proto {}", self.protocol)?;
        if let Some(source) = self.source {
            write!(f, " src {source}")?;
        }
        write!(f, " metric {}", self.key.metric)?;
        match &self.target {
            Target::Gateway { onlink: true, .. } => f.write_str(" onlink"),
            Target::Several(hops) => hops.iter().try_for_each(|hop| {
                let Hop { gateway, device, onlink } = hop;
                let onlink = if *onlink { " onlink" } else { "" };
                write!(f, " nexthop {} dev {device} weight 1{onlink}", via(destination, *gateway))
            }),
            _ => Ok(()),
        }
    }
}

/// A gateway; its family is told where it is not the destination's.
fn via(destination: IpNetwork, gateway: IpAddr) -> impl fmt::Display {
    let family = match (destination, gateway) {
        (IpNetwork::V4(_), IpAddr::V6(_)) => "inet6 ",
        _ => "",
    };
    fmt::from_fn(move |f| write!(f, "via {family}{gateway}"))
}

impl fmt::Display for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} dev {} lladdr {} nud permanent", self.ip, self.device, self.mac)
    }
}

impl fmt::Display for FdbEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} dev {} dst {} self permanent", self.mac, self.device, self.remote)
    }
}

/// One line an object, each after the name of its table, in the order in which they are made.
impl fmt::Display for KernelState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.links.values().try_for_each(|link| writeln!(f, "link {link}"))?;
        self.ends.values().try_for_each(|end| writeln!(f, "end {end}"))?;
        self.sysctls.iter().try_for_each(|(path, value)| writeln!(f, "sysctl {path} = {value}"))?;
        self.addresses.iter().try_for_each(|address| writeln!(f, "address {address}"))?;
        self.neighbours.values().try_for_each(|neighbour| writeln!(f, "neighbour {neighbour}"))?;
        self.fdb.values().try_for_each(|entry| writeln!(f, "fdb {entry}"))?;
        self.routes.values().try_for_each(|route| writeln!(f, "route {route}"))?;
        let Some(firewall) = &self.firewall else { return Ok(()) };
        writeln!(f, "firewall table inet {}", firewall.table)?;
        firewall.objects.iter().try_for_each(|object| {
            let json = serde_json::to_string(object).map_err(|_| fmt::Error)?;
            writeln!(f, "firewall {json}")
        })
    }
}
