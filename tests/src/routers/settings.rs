//! What a router is configured with, in words that are of no program.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;

use super::Family;

/// A router's configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its AS.
    pub asn: u32,
    /// Its BGP identifier.
    pub router_id: Ipv4Addr,
    /// Its neighbours, each at another address.
    pub neighbours: Vec<Neighbour>,
    /// What it announces of its own.
    pub announced: Vec<Announcement>,
    /// So many equal routes are used together.
    pub multipath: Option<u8>,
    /// Whether what is used goes into the kernel of its namespace. BIRD alone.
    pub kernel: bool,
    /// Graceful restart (RFC 4724) with all neighbours: the seconds that they are asked to wait.
    pub restart: Option<u16>,
    /// Without it, what a BIRD that nobody has configured does: it keeps the routes of neighbours that restart gracefully, and asks nobody to
    /// keep its own. BIRD alone.
    pub aware: bool,
    /// The cluster of a reflector; its BGP identifier where nothing is said.
    pub cluster: Option<Ipv4Addr>,
}

impl Settings {
    /// Nobody's neighbour, with nothing to announce.
    pub fn new(asn: u32, router_id: Ipv4Addr) -> Self {
        Self {
            asn,
            router_id,
            neighbours: Vec::new(),
            announced: Vec::new(),
            multipath: None,
            kernel: false,
            restart: None,
            aware: false,
            cluster: None,
        }
    }

    /// The same with another neighbour.
    pub fn with(mut self, neighbour: Neighbour) -> Self {
        self.neighbours.push(neighbour);
        self
    }

    /// The same with another announcement.
    pub fn announcing(mut self, announcement: Announcement) -> Self {
        self.announced.push(announcement);
        self
    }
}

/// A neighbour, internal if its AS is the router's own.
#[derive(Debug, Clone)]
pub struct Neighbour {
    /// Its address.
    pub address: IpAddr,
    /// Its AS.
    pub asn: u32,
    /// The families that are spoken.
    pub families: Vec<Family>,
    /// For TCP-MD5 (RFC 2385).
    pub password: Option<String>,
    /// It is a client of this reflector (RFC 4456).
    pub client: bool,
    /// It is told this router as the next hop of what others announced.
    pub next_hop_self: bool,
    /// IPv4 routes with IPv6 next hops (RFC 8950), with a neighbour at an IPv6 address.
    pub extended_next_hop: bool,
    /// BFD beside the session, every [`BFD_INTERVAL`] milliseconds, [`BFD_MULTIPLIER`] times. BIRD alone.
    pub bfd: bool,
    /// It makes the connections.
    pub passive: bool,
    /// Seconds without a message after which it is gone.
    pub hold_time: u16,
    /// It is so many hops away at most. None: on a link of the router's.
    pub multihop: Option<u8>,
    /// Nothing from beyond the link is taken (GTSM, RFC 5082).
    pub ttl_security: bool,
    /// Several routes to one prefix are told and taken (RFC 7911).
    pub add_path: bool,
}

/// Milliseconds between two packets of BFD, both ways.
pub const BFD_INTERVAL: u32 = 300;
/// So many of them are missed before the neighbour is gone.
pub const BFD_MULTIPLIER: u8 = 3;

impl Neighbour {
    /// One on the link, that speaks the family of its address.
    pub fn new(address: IpAddr, asn: u32) -> Self {
        Self {
            address,
            asn,
            families: vec![if address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }],
            password: None,
            client: false,
            next_hop_self: false,
            extended_next_hop: false,
            bfd: false,
            passive: false,
            hold_time: 90,
            multihop: None,
            ttl_security: false,
            add_path: false,
        }
    }
}

/// A prefix that a router announces of its own.
#[derive(Debug, Clone)]
pub struct Announcement {
    /// Which.
    pub prefix: IpNetwork,
    /// Its communities (RFC 1997).
    pub communities: Vec<(u16, u16)>,
    /// Its large communities (RFC 8092).
    pub large_communities: Vec<[u32; 3]>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
}

impl Announcement {
    /// One of which nothing else is said.
    pub fn new(prefix: IpNetwork) -> Self {
        Self { prefix, communities: Vec::new(), large_communities: Vec::new(), med: None }
    }

    /// Of its family.
    pub(super) fn family(&self) -> Family {
        if self.prefix.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
    }
}
