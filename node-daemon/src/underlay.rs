//! The underlay as it stands: which interface carries traffic between nodes, with which addresses and MTU.
//!
//! Observed anew in each pass of the reconciler, so that a changed address or MTU is followed without a restart.

use ipnetwork::IpNetwork;
use twill_fabric::{Side, Underlay};
use twill_linux::table::{self, SeenAddress, SeenLink};
use twill_linux::{IfName, Netlink};

/// Why there is no underlay at the moment.
#[derive(Debug, thiserror::Error)]
pub enum NoUnderlay {
    /// None was named, and there is no default route.
    #[error("there is no default route to tell the underlay interface by: name it with --underlay")]
    NoDefaultRoute,
    /// The named one is not there.
    #[error("the underlay interface {0} does not exist")]
    NoInterface(String),
    /// It has no address that other nodes could send to.
    #[error("the underlay interface {0} has no global address")]
    NoAddress(IfName),
    /// The kernel would not tell.
    #[error(transparent)]
    Kernel(#[from] twill_linux::Error),
}

/// Observes the underlay: the interface called `name`, or that of the default route, IPv4's first. What was `known` of it is
/// kept as long as it stands, whatever other addresses come.
pub fn observe(netlink: &mut Netlink, name: Option<&str>, known: Option<&Underlay>) -> Result<Underlay, NoUnderlay> {
    let links = table::links(netlink)?;
    let link = match name {
        Some(name) => links
            .into_iter()
            .find(|link| link.name.as_str() == name)
            .ok_or_else(|| NoUnderlay::NoInterface(name.to_owned()))?,
        None => default_link(netlink, links)?,
    };
    let addresses = table::addresses(netlink)?;
    let side = |ipv6: bool, known: Option<&Side>| {
        let known = known.filter(|known| known.device == link.name).map(|known| known.cidr);
        let cidr = address(&addresses, link.index, ipv6, known)?;
        Some(Side {
            device: link.name,
            index: link.index,
            cidr,
            mtu: link.mtu,
            rp_filter: in_force("ipv4", link.name, "rp_filter"),
            accept_ra: sysctl(&format!("net/ipv6/conf/{}/accept_ra", link.name)) > 0,
        })
    };
    let underlay = Underlay {
        ipv4: side(false, known.and_then(|known| known.ipv4.as_ref())),
        ipv6: side(true, known.and_then(|known| known.ipv6.as_ref())),
    };
    match (&underlay.ipv4, &underlay.ipv6) {
        (None, None) => Err(NoUnderlay::NoAddress(link.name)),
        _ => Ok(underlay),
    }
}

fn default_link(netlink: &mut Netlink, links: Vec<SeenLink>) -> Result<SeenLink, NoUnderlay> {
    for ipv6 in [false, true] {
        if let Some((index, _)) = table::default_route(netlink, ipv6)?
            && let Some(link) = links.iter().find(|link| link.index == index)
        {
            return Ok(link.clone());
        }
    }
    Err(NoUnderlay::NoDefaultRoute)
}

/// The known address of a family while it stands, else the first global one in the order of addresses, since the kernel's
/// own order changes with each new one. One that spans no subnet (/32, /128) comes last: keepalived adds such addresses to
/// whichever node is master, and one that moves between nodes must never be a node's own.
fn address(addresses: &[SeenAddress], index: u32, ipv6: bool, known: Option<IpNetwork>) -> Option<IpNetwork> {
    let usable = addresses
        .iter()
        .filter(|address| address.index == index && address.cidr.is_ipv6() == ipv6 && address.global)
        .filter(|address| address.usable && !address.secondary)
        .map(|address| address.cidr);
    let spans_nothing = |cidr: &IpNetwork| cidr.prefix() == if ipv6 { 128 } else { 32 };
    usable.min_by_key(|cidr| (spans_nothing(cidr), Some(*cidr) != known, *cidr))
}

/// The greater of `all` and the interface's own (Documentation/networking/ip-sysctl.rst, `rp_filter`).
fn in_force(family: &str, device: IfName, name: &str) -> bool {
    ["all", device.as_str()].iter().any(|place| sysctl(&format!("net/{family}/conf/{place}/{name}")) > 0)
}

/// A number below /proc/sys, 0 where it is not there (IPv6 disabled).
fn sysctl(path: &str) -> i32 {
    std::fs::read_to_string(format!("/proc/sys/{path}")).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(cidr: &str, secondary: bool) -> SeenAddress {
        SeenAddress { index: 2, cidr: cidr.parse().unwrap(), secondary, global: true, usable: true }
    }

    #[test]
    fn a_keepalived_address_is_not_the_underlay_address() {
        let addresses = [seen("192.0.2.200/32", false), seen("192.0.2.7/24", false), seen("192.0.2.8/24", true)];
        assert_eq!(address(&addresses, 2, false, None), Some("192.0.2.7/24".parse().unwrap()));
        assert_eq!(address(&addresses, 2, true, None), None);
        assert_eq!(address(&addresses, 3, false, None), None, "another interface's address is not taken");
    }

    #[test]
    fn a_cloud_address_that_spans_no_subnet_serves_where_there_is_no_other() {
        assert_eq!(address(&[seen("10.0.0.7/32", false)], 2, false, None), Some("10.0.0.7/32".parse().unwrap()));
    }

    #[test]
    fn an_address_that_is_known_is_kept_when_another_comes_and_given_up_when_it_goes() {
        let known: IpNetwork = "2001:db8::7/64".parse().unwrap();
        let (old, new) = (seen("2001:db8::7/64", false), seen("2001:db8::2/64", false));
        assert_eq!(address(&[new.clone(), old], 2, true, Some(known)), Some(known));
        assert_eq!(address(std::slice::from_ref(&new), 2, true, Some(known)), Some(new.cidr));
    }
}
