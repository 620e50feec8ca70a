//! The wire between the nodes: a bridge in a namespace of its own, and the addresses on it.
//!
//! The addresses are the same in every lab, since each lies in its own namespaces. They are not those of any pool.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::Result;
use crate::deadline::{self, PATIENCE};
use crate::namespace::Namespace;

/// The families of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Underlay {
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
    /// Both.
    Dual,
}

impl Underlay {
    /// Whether the wire has IPv4.
    pub fn ipv4(self) -> bool {
        self != Self::V6
    }

    /// Whether the wire has IPv6.
    pub fn ipv6(self) -> bool {
        self != Self::V4
    }

    /// The addresses of the seat with this number, IPv4 first.
    pub fn addresses(self, seat: u8) -> Vec<IpAddr> {
        let v4 = self.ipv4().then(|| IpAddr::from(Ipv4Addr::new(192, 168, 77, seat)));
        // Read as hexadecimal, so that both addresses of a seat end in the same digits.
        let last = u16::from_str_radix(&seat.to_string(), 16).expect("decimal digits are hexadecimal ones too");
        let v6 = self.ipv6().then(|| IpAddr::from(Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, last)));
        v4.into_iter().chain(v6).collect()
    }
}

/// The seat of the gateway, which is also the host outside.
pub const SEAT_OUTSIDE: u8 = 1;
/// The seat of etcd.
pub const SEAT_ETCD: u8 = 2;
/// The seat before that of the first node.
pub const SEAT_NODES: u8 = 10;
/// An address outside of everything, on the gateway (RFC 5737).
pub const OUTSIDE_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// The same for IPv6 (RFC 3849).
pub const OUTSIDE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
/// The interface of every seat.
pub const INTERFACE: &str = "eth0";

/// The bridge.
#[derive(Debug, Clone)]
pub struct Wire {
    namespace: Namespace,
    underlay: Underlay,
}

impl Wire {
    /// Lays the wire.
    pub fn create(name: String, underlay: Underlay) -> Result<Self> {
        let namespace = Namespace::create(name)?;
        // The bridge carries IPv6; it need not speak it.
        namespace.set_sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
        namespace.ip_batch("link add br0 type bridge forward_delay 0 mcast_snooping 0\nlink set br0 up\n")?;
        Ok(Self { namespace, underlay })
    }

    /// Its namespace, to look at what passes.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Plugs a namespace in: `eth0` there, a port named `port` here, the addresses of its seat, and a default route to
    /// the gateway.
    pub fn connect(&self, port: &str, seat: &Namespace, number: u8) -> Result<Vec<IpAddr>> {
        let peer = seat.name();
        self.namespace.ip_batch(&format!(
            "link add {port} type veth peer name {INTERFACE} netns {peer}\nlink set {port} master br0 up\n"
        ))?;
        let addresses = self.underlay.addresses(number);
        let mut lines = format!("link set {INTERFACE} up\n");
        for address in &addresses {
            lines += &match address {
                IpAddr::V4(a) => format!("addr add {a}/24 dev {INTERFACE}\n"),
                IpAddr::V6(a) => format!("addr add {a}/64 dev {INTERFACE} nodad\n"),
            };
        }
        let gateways = if number == SEAT_OUTSIDE { Vec::new() } else { self.underlay.addresses(SEAT_OUTSIDE) };
        for gateway in gateways {
            // `ip -batch` takes the family from the destination, and the word "default" has none.
            let destination = if gateway.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
            lines += &format!("route add {destination} via {gateway} dev {INTERFACE}\n");
        }
        seat.ip_batch(&lines)?;
        await_ready(seat, &addresses)?;
        Ok(addresses)
    }

    /// Makes the host outside: the gateway, with addresses that lie beyond it. It knows no route to any pod.
    pub fn create_outside(&self, name: String) -> Result<Namespace> {
        let outside = Namespace::create(name)?;
        self.connect("outside", &outside, SEAT_OUTSIDE)?;
        let mut lines = String::new();
        if self.underlay.ipv4() {
            lines += &format!("addr add {OUTSIDE_V4}/32 dev lo\n");
        }
        if self.underlay.ipv6() {
            lines += &format!("addr add {OUTSIDE_V6}/128 dev lo nodad\n");
        }
        outside.ip_batch(&lines)?;
        Ok(outside)
    }

    /// Cuts a seat off (`up` false) or plugs it in again.
    pub fn set_port(&self, port: &str, up: bool) -> Result<()> {
        self.namespace.ip_batch(&format!("link set {port} {}\n", if up { "up" } else { "down" }))
    }
}

/// Waits until a seat can send and receive. The kernel does the rest of what was asked for in work queues, behind a lock
/// that is busy where many labs come and go: the first end of a veth pair sends only after the event of its carrier
/// (net/core/link_watch.c), and an IPv6 address is local only after the work of duplicate address detection, also without
/// any detection (`addrconf_dad_work` in net/ipv6/addrconf.c).
fn await_ready(seat: &Namespace, addresses: &[IpAddr]) -> Result<()> {
    deadline::until_some(&format!("{} is ready", seat.name()), PATIENCE, || {
        let links = seat.run_json(&["ip", "-j", "link", "show", "dev", INTERFACE])?;
        if links[0]["operstate"] != "UP" {
            return Ok(Err(format!("{INTERFACE}: {}", links[0]["operstate"])));
        }
        for address in addresses {
            let route = seat.run(&["ip", "route", "get", &address.to_string()])?;
            if !route.starts_with("local ") {
                return Ok(Err(route));
            }
        }
        Ok(Ok(()))
    })
}
