//! A store that was lost while pods live: stand-alone, the plugin itself tells a new one what stands in the kernel.
//!
//! Where a daemon runs it does so, since it knows the node's blocks and tunnel; the plugin then waits for it.

use std::collections::BTreeMap;

use twill_conf::network::Protocol;
use twill_ipam::alias::{HostEnd, LocalAddress};
use twill_ipam::extras::Published;
use twill_ipam::store::Observed;
use twill_ipam::{BootTime, Extras, KeyHash, Store};
use twill_linux::Netlink;
use twill_linux::ports::{self, Port};
use twill_linux::table::{self, SeenLink, link, route, traffic};

use crate::error::Error;

const STEP: &str = "rebuilding the node store from the kernel";

/// Tells `store`, if it is new in this boot, of the pods and of the node's own addresses.
pub(crate) fn rebuild(store: &mut Store) -> Result<(), Error> {
    let mut netlink = Netlink::open().map_err(Error::kernel(STEP))?;
    let look = || observe(&mut netlink).map_err(Refused::Kernel);
    match store.rebuild(look, BootTime::now()) {
        Ok(_) => Ok(()),
        Err(Refused::Kernel(error)) => Err(Error::kernel(STEP)(error)),
        Err(Refused::Store(error)) => Err(Error::store(STEP)(error)),
    }
}

enum Refused {
    Kernel(twill_linux::Error),
    Store(twill_ipam::Error),
}

impl From<twill_ipam::Error> for Refused {
    fn from(error: twill_ipam::Error) -> Self {
        Self::Store(error)
    }
}

fn observe(netlink: &mut Netlink) -> Result<Observed, twill_linux::Error> {
    let (links, routes) = (table::links(netlink)?, route::of_pods(netlink)?);
    let ends: Vec<_> = links
        .iter()
        .map(|link| HostEnd {
            ifname: link.name.as_str(),
            kind: link.kind.as_deref(),
            alias: link.alias.as_deref(),
            routes: route::destinations(&routes, link.index),
        })
        .collect();
    let addresses = table::addresses(netlink)?;
    let local = |seen: &table::SeenAddress| {
        let link = links.iter().find(|link| link.index == seen.index);
        LocalAddress { ip: seen.cidr.ip(), ifname: link.map_or("", |link| link.name.as_str()) }
    };
    let observed = Observed::from(&ends, &addresses.iter().map(local).collect::<Vec<_>>());
    Ok(Observed { extras: beyond(netlink, &links)?, ..observed })
}

/// What attachments have beyond link and addresses, as the kernel shows it.
fn beyond(netlink: &mut Netlink, links: &[SeenLink]) -> Result<BTreeMap<KeyHash, Extras>, twill_linux::Error> {
    let standing = ports::standing()?.unwrap_or_default();
    let published = standing.ports.iter().map(|port| {
        let protocol = match port.protocol {
            ports::Protocol::Tcp => Protocol::Tcp,
            ports::Protocol::Udp => Protocol::Udp,
            ports::Protocol::Sctp => Protocol::Sctp,
        };
        let Port { host, host_port, pod, .. } = *port;
        (port.owner.as_str(), Published { protocol, host, host_port, pod })
    });
    let rates = traffic::rates(netlink)?;
    // A limiting device counts also where its limit is gone: it has to be removed with its attachment.
    let limited =
        |link: &SeenLink| rates.get(&link.index).copied().or((link.kind.as_deref() == Some(link::IFB)).then_some(1));
    let rates = links.iter().filter_map(|link| Some((link.name.as_str(), 8 * limited(link)?)));
    Ok(Extras::observed(published, rates))
}
