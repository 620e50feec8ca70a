//! The underlay as it stands: by which interface, with which address and MTU this node sends to others in each family.
//!
//! The families may sit on different interfaces, so whatever depends on an interface asks for that of a family.

use std::fmt;

use ipnetwork::IpNetwork;
use twill_cluster::record;
use twill_linux::IfName;

use crate::family::Family;

/// What carries packets between nodes, by the family of the outer header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Underlay {
    /// For IPv4.
    pub ipv4: Option<Side>,
    /// For IPv6.
    pub ipv6: Option<Side>,
}

/// One family's interface and address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// The interface's name, which may change while it stands.
    pub device: IfName,
    /// The kernel's number for it, which stays.
    pub index: u32,
    /// Address and subnet, global scope.
    pub cidr: IpNetwork,
    /// In bytes.
    pub mtu: u32,
    /// Whether `rp_filter` is in force on it (the greater of `all` and its own is not 0).
    pub rp_filter: bool,
    /// Whether it has no IPv4 address, and had none since the daemon began.
    pub bare: bool,
    /// Whether it takes router advertisements (`accept_ra` is not 0).
    pub accept_ra: bool,
}

impl Underlay {
    /// What one family is sent by.
    pub fn side(&self, family: Family) -> Option<&Side> {
        match family {
            Family::V4 => self.ipv4.as_ref(),
            Family::V6 => self.ipv6.as_ref(),
        }
    }

    /// The sides that there are, IPv4's first; they may be of one interface.
    pub fn sides(&self) -> impl Iterator<Item = &Side> {
        Family::ALL.into_iter().filter_map(|family| self.side(family))
    }

    /// Its addresses, as a node's record has them.
    pub fn ends(&self) -> record::Underlay {
        let end = |family| self.side(family).map(|side| side.cidr);
        record::Underlay { ipv4: end(Family::V4), ipv6: end(Family::V6) }
    }
}

impl fmt::Display for Underlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, Side { device, cidr, mtu, .. }) in self.sides().enumerate() {
            let separator = if number == 0 { "" } else { ", " };
            write!(f, "{separator}{cidr} on {device} (MTU {mtu})")?;
        }
        Ok(())
    }
}
