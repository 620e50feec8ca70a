//! The addresses of services that kube-proxy in IPVS mode makes local ones of the node, on a device of its own. They are not
//! the node's, and no rule of nftables can tell them from its own: where a local address stands is not known to one.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::table::{address, link};
use crate::{Error, IfName, Netlink};

/// kube-proxy's (pkg/proxy/ipvs). It may be down: its addresses are local all the same.
const DEVICE: &str = "kube-ipvs0";

/// What there is of them now, in the calling thread's namespace.
pub fn services() -> Result<BTreeSet<IpAddr>, Error> {
    let name = IfName::new(DEVICE).expect("a name of an interface");
    let mut netlink = Netlink::open()?;
    let Some(link) = link::by_name(&mut netlink, &name)? else { return Ok(BTreeSet::new()) };
    Ok(address::of(&mut netlink, link.index)?.into_iter().map(|seen| seen.cidr.ip()).collect())
}
