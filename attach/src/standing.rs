//! What stands in the kernel of attachments: for the sweep, which looks at all of them, and for a store that was lost.

use std::collections::{BTreeMap, BTreeSet};

use twill_ipam::alias::{self, HostEnd, LocalAddress, Proof};
use twill_ipam::store::Observed;
use twill_ipam::{Extras, KeyHash};
use twill_linux::ports;
use twill_linux::table::{self, SeenLink, link, route, traffic};
use twill_linux::{Error, Netlink};

use crate::linux::foreign;
use crate::ports::published;

/// The attachments whose host ends stand. Names are proof enough; but what is no veth is somebody else's.
pub(crate) fn host_ends(netlink: &mut Netlink) -> Result<BTreeSet<KeyHash>, Error> {
    let of = |link: &SeenLink| {
        let hash = KeyHash::of_host_ifname(link.name.as_str())?;
        foreign(link, hash, Proof::Name).is_none().then_some(hash)
    };
    Ok(table::links(netlink)?.iter().filter_map(of).collect())
}

/// Who has published ports or limiting devices.
pub(crate) fn owners(netlink: &mut Netlink) -> Result<BTreeSet<KeyHash>, Error> {
    let links = table::links(netlink)?;
    let ifbs = links.iter().filter(|link| link.kind.as_deref() == Some(link::IFB));
    let mut owners: BTreeSet<KeyHash> = ifbs.filter_map(|link| KeyHash::of_ifb_name(link.name.as_str())).collect();
    let standing = ports::standing()?.unwrap_or_default();
    owners.extend(standing.owners().into_iter().filter_map(KeyHash::parse));
    Ok(owners)
}

/// What a store should know of.
pub(crate) fn observe(netlink: &mut Netlink) -> Result<Observed, Error> {
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
fn beyond(netlink: &mut Netlink, links: &[SeenLink]) -> Result<BTreeMap<KeyHash, Extras>, Error> {
    let standing = ports::standing()?.unwrap_or_default();
    let published = standing.ports.iter().map(|port| (port.owner.as_str(), published(port)));
    let rates = traffic::rates(netlink)?;
    // A limiting device counts also where its limit is gone: it has to be removed with its attachment.
    let limited =
        |link: &SeenLink| rates.get(&link.index).copied().or((link.kind.as_deref() == Some(link::IFB)).then_some(1));
    let rates = links.iter().filter_map(|link| Some((link.name.as_str(), 8 * limited(link)?)));
    let unchecked = links.iter().filter_map(|link| alias::unchecked(link.name.as_str(), link.alias.as_deref()));
    Ok(Extras::observed(published, rates, unchecked))
}
