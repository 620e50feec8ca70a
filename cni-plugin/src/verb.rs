//! The verbs, a file each, and what those that work on one attachment have in common.

pub(crate) mod add;
pub(crate) mod check;
pub(crate) mod del;
pub(crate) mod gc;
pub(crate) mod status;

use twill_linux::{IfName, MacAddr, NetNs};

use crate::error::Error;
use crate::request::Request;

/// Opens CNI_NETNS. The plugin's own namespace is refused, unless the request allows it: pods there would have the
/// node's interfaces, and a DEL would take them away.
fn open_namespace(request: &Request) -> Result<NetNs, Error> {
    let path = request.target.netns_path().unwrap_or_default();
    let namespace = NetNs::open(&path).map_err(Error::namespace)?;
    if !request.target.own_netns {
        let own = NetNs::current().map_err(Error::namespace)?;
        if namespace.is(&own).map_err(Error::namespace)? {
            return Err(Error::OwnNamespace(request.netns().to_owned()));
        }
    }
    Ok(namespace)
}

/// The MAC of the pod's end: the one that was asked for, or the key's own.
fn pod_mac(request: &Request) -> MacAddr {
    MacAddr(request.conf.requested.mac.map_or(request.hash.pod_mac(), |mac| mac.bytes()))
}

/// CNI_IFNAME for the kernel.
fn pod_ifname(request: &Request) -> IfName {
    IfName::new(request.target.ifname.as_str()).expect("the rule of CNI_IFNAME is the stricter one")
}
