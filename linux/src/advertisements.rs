//! Router advertisements on a machine that begins to forward.
//!
//! When `net/ipv6/conf/all/forwarding` is set, the kernel takes from every interface the default routes that it learned from
//! advertisements, and hears no more of them, unless its `accept_ra` is 2: it listens although the machine forwards
//! (`addrconf_forward_change` in net/ipv6/addrconf.c, `rt6_purge_dflt_routers` in net/ipv6/route.c;
//! Documentation/networking/ip-sysctl.rst, accept_ra). What was learned is not ours, on whatever interface, so whoever has the
//! machine forward calls [`keep`] before. Interfaces that have learned nothing are left as they are: to listen is the default of
//! all of them, and by the host end of a pod the pod itself would be heard.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::{fs, io};

use crate::table::{self, address, route};
use crate::{Error, Netlink};

/// The setting by which a machine forwards IPv6, below /proc/sys.
pub const FORWARDING: &str = "net/ipv6/conf/all/forwarding";

/// RTPROT_RA (include/uapi/linux/rtnetlink.h).
const LEARNED: u8 = 9;

/// Has every interface that has learned something of routers, and listens to them, listen while the machine forwards. For the
/// namespace of the calling thread. An interface that goes meanwhile is left out.
pub fn keep() -> Result<(), Error> {
    let mut netlink = Netlink::open()?;
    let learners = learners(&mut netlink)?;
    for link in table::links(&mut netlink)?.iter().filter(|link| learners.contains(&link.index)) {
        let path = format!("net/ipv6/conf/{}/accept_ra", link.name);
        let refused = |cause| Error::Sysctl { path: path.clone(), value: "2".to_owned(), cause };
        listen(&path).map_err(refused)?;
    }
    Ok(())
}

/// The interfaces that have a route of an advertisement, or an address for a time, as such a one gives it.
fn learners(netlink: &mut Netlink) -> Result<BTreeSet<u32>, Error> {
    let routes = route::dump(netlink, route::Filter { ipv6: true, protocol: Some(LEARNED), index: None })?;
    let addresses = address::dump(netlink, 0)?;
    let lent = addresses.iter().filter(|seen| seen.cidr.is_ipv6() && !seen.permanent).map(|seen| seen.index);
    Ok(routes.iter().flat_map(|route| route.target.indices()).chain(lent).collect())
}

fn listen(path: &str) -> io::Result<()> {
    let file = format!("/proc/sys/{path}");
    let there = |done: io::Result<bool>| match done {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        done => done,
    };
    if there(fs::read_to_string(&file).map(|value| value.trim() == "1"))? {
        there(fs::write(&file, "2").map(|()| true))?;
    }
    Ok(())
}
