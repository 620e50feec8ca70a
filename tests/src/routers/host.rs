//! A host on a lab's wire that is no node: where a router stands.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::namespace::Namespace;
use crate::{Lab, LabError, Result};

/// The seat before that of the first host.
const SEAT_HOSTS: u8 = 200;
/// The most hosts of a lab: seats are bytes.
const MOST: u8 = 50;

/// A host. It goes with its lab.
#[derive(Debug)]
pub struct Host {
    name: String,
    namespace: Namespace,
    addresses: Vec<IpAddr>,
    directory: PathBuf,
}

impl Host {
    /// Plugs a host with this name into a lab's wire, at the seat with this number, from 1. It forwards, as a router does.
    ///
    /// # Panics
    /// Where the number is 0 or over 50.
    pub fn on(lab: &Lab, name: &str, number: u8) -> Result<Self> {
        assert!((1..=MOST).contains(&number), "host number {number} must be from 1 to {MOST}");
        let namespace = Namespace::create(format!("{}-{name}", lab.prefix()))?;
        let addresses = lab.wire().connect(name, &namespace, SEAT_HOSTS + number)?;
        for sysctl in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            namespace.set_sysctl(sysctl, "1")?;
        }
        let directory = lab.directory().join(name);
        std::fs::create_dir_all(&directory).map_err(LabError::io(format!("making {}", directory.display())))?;
        Ok(Self { name: name.to_owned(), namespace, addresses, directory })
    }

    /// Its name, which is that of its port on the wire too.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its addresses on the wire, IPv4 first.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Its address of a family.
    ///
    /// # Panics
    /// Where the lab's wire does not have the family.
    pub fn address(&self, ipv6: bool) -> IpAddr {
        let address = self.addresses.iter().find(|address| address.is_ipv6() == ipv6);
        *address.expect("the wire has this family")
    }

    /// Where its files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}
