//! The pods' veths: their ends in pods as the kernel shows them from the node's side, and the filters of those on the node, which are kept.
//!
//! A runtime may have chosen a pod's MAC, and a plugin in the chain may have changed it, or the MTU: the store does not know. Each
//! attachment is asked for once, and again a while later, since nothing tells the node of a change in a pod. Of the node's ends events tell.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use twill_attach::plan::own_sources;
use twill_fabric::Pod;
use twill_ipam::{AttachmentId, KeyHash, alias};
use twill_linux::monitor::Devices;
use twill_linux::table::link::{self, FarEnd};
use twill_linux::table::source::{self, Filter, Sources};
use twill_linux::table::{Device, Repair, SeenLink};
use twill_linux::{IfName, Netlink};

use super::local::Attached;
use crate::metrics::FILTERS;

/// What was seen.
#[derive(Debug)]
pub(super) struct Veths {
    /// By the row, which is never another attachment's; the name of a host end may be.
    seen: BTreeMap<AttachmentId, Veth>,
    since: Instant,
    lifetime: Duration,
    /// Some host end had its filter: the kernel has such filters, and the plugin makes them.
    proven: bool,
}

/// One veth.
#[derive(Debug, Clone, Copy)]
struct Veth {
    /// `None` where it cannot be seen.
    far: Option<FarEnd>,
    /// The number of the end on the node.
    index: u32,
    filter: Filter,
}

/// What is there, and what was done to it.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// The pods whose ends could be seen: nobody may guess what the neighbour of another one is.
    pub(super) pods: Vec<Pod>,
    /// Whether rules have to look at sources: some host end has no filter, or none was ever seen, so that the next pod may have none.
    pub(super) unfiltered: bool,
    /// The host ends that shall have a filter, and cannot have it again.
    pub(super) lost: Vec<IfName>,
    /// How many filters shall stand.
    pub(super) wanted: usize,
    /// How many of them did before any was put back.
    pub(super) stood: usize,
    /// What was put back.
    pub(super) repairs: Vec<Repair>,
}

impl Veths {
    /// Knows none. What it sees it believes for `lifetime`.
    pub(super) fn new(lifetime: Duration) -> Self {
        Self { seen: BTreeMap::new(), since: Instant::now(), lifetime, proven: false }
    }

    /// Looks at those of these attachments. Of an end in `links` that has another MTU than its pod's was seen to have, the pod's is looked at
    /// again: who changes both changes one first. `touched`: whose filters may have changed since the last call.
    pub(super) fn look(
        &mut self,
        attached: Vec<Attached>,
        links: &[SeenLink],
        touched: &Devices,
        netlink: &mut Netlink,
    ) -> Result<Look, twill_linux::Error> {
        if self.since.elapsed() >= self.lifetime {
            (self.seen, self.since) = (BTreeMap::new(), Instant::now());
        }
        let near: BTreeMap<IfName, &SeenLink> = links.iter().map(|link| (link.name, link)).collect();
        let is_known = |one: &&Attached| {
            let far = self.seen.get(&one.id).and_then(|veth| veth.far);
            far.is_some_and(|far| near.get(&one.host).is_some_and(|link| link.mtu == far.mtu))
        };
        let open: Vec<_> = attached.iter().filter(|one| !is_known(one)).map(|one| one.host).collect();
        let ends = link::far_ends(netlink, &open)?;
        let mut seen = BTreeMap::new();
        let mut look = Look::default();
        let hosts: BTreeSet<IfName> = attached.iter().map(|one| one.host).collect();
        for Attached { id, hash, host, addresses, unchecked } in attached {
            let before = self.seen.get(&id);
            let far = ends.get(&host).copied().or(before.and_then(|veth| veth.far));
            let late;
            let link = match near.get(&host) {
                Some(link) => *link,
                // It was made after the links were looked at.
                None => match link::by_name(netlink, &host)? {
                    Some(link) => {
                        late = link;
                        &late
                    }
                    // Nothing comes in by an end that is not there.
                    None => continue,
                },
            };
            let promised = alias::filtered(link.alias.as_deref(), hash);
            let (index, repaired) = (link.index, look.repairs.len());
            let filter = match before.filter(|veth| veth.index == index && !touched.has(index)) {
                Some(veth) => veth.filter,
                None if !promised => Filter::Absent,
                None => {
                    let device = Device { index, name: host };
                    keep_filter(netlink, device, &own_sources(&addresses), &mut look.repairs)?
                }
            };
            let stands = filter == Filter::Stands;
            look.wanted += usize::from(promised);
            look.stood += usize::from(stands && look.repairs.len() == repaired);
            look.unfiltered |= !stands;
            look.lost.extend((promised && !stands).then_some(host));
            seen.insert(id, Veth { far, index, filter });
            if let Some(far) = far {
                look.pods.push(Pod { host, mac: far.mac, mtu: far.mtu, addresses, unchecked, filtered: stands });
            }
        }
        self.seen = seen;
        self.proven |= look.stood > 0;
        look.unfiltered |= !self.proven || links.iter().any(|link| is_bare_beside(link, &hosts));
        Ok(look)
    }
}

/// Whether it is a host end that is none of these, as one of another store or one that is on its way in or out, and that has
/// no filter by its alias, though it may not send by the addresses of others. One without an alias is still being made.
fn is_bare_beside(link: &SeenLink, hosts: &BTreeSet<IfName>) -> bool {
    let Some(hash) = KeyHash::of_host_ifname(link.name.as_str()).filter(|_| link.kind.as_deref() == Some("veth"))
    else {
        return false;
    };
    let alias = link.alias.as_deref();
    let is_checked = alias.is_some() && alias::unchecked(link.name.as_str(), alias).is_none();
    is_checked && !alias::filtered(alias, hash) && !hosts.contains(&link.name)
}

/// Sees to it that a host end which has lost its filter has it again. Where the kernel refuses that, or tells nothing of it, it stays lost.
fn keep_filter(
    netlink: &mut Netlink,
    device: Device,
    wanted: &Sources,
    repairs: &mut Vec<Repair>,
) -> Result<Filter, twill_linux::Error> {
    let found = source::look(netlink, device.index, wanted);
    let kept = match found {
        Ok(Filter::Lost) => source::put_back(netlink, device, wanted).map(|stood| {
            let (action, object) =
                (if stood { "changed" } else { "added" }, format!("{} sources {wanted}", device.name));
            repairs.push(Repair { table: FILTERS, action, object, was: None });
            Filter::Stands
        }),
        found => found,
    };
    match kept {
        Err(error) if error.errno().is_some() => Ok(Filter::Lost),
        kept => kept,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_end_of_another_pod_counts_unless_it_has_a_filter_or_is_free() {
        const NAME: &str = "tw000000000000a";
        let end = |name: &str, kind: &str, alias: Option<&str>| SeenLink {
            index: 7,
            name: IfName::new(name).unwrap(),
            kind: Some(kind.to_owned()),
            mac: None,
            mtu: 1500,
            up: true,
            running: true,
            carrier: true,
            alias: alias.map(str::to_owned),
        };
        let none = BTreeSet::new();
        let plain = Some("twill1:000000000000a:10.42.0.1");
        let filtered = Some("twill1:000000000000a:10.42.0.1;filter=on");
        assert!(is_bare_beside(&end(NAME, "veth", plain), &none));
        assert!(!is_bare_beside(&end(NAME, "veth", filtered), &none));
        assert!(!is_bare_beside(&end(NAME, "veth", Some("twill1:000000000000a:10.42.0.1;spoofcheck=off")), &none));
        assert!(!is_bare_beside(&end(NAME, "veth", None), &none), "it is being made");
        assert!(!is_bare_beside(&end(NAME, "dummy", plain), &none));
        assert!(!is_bare_beside(&end("tweed", "veth", plain), &none));
        let own = BTreeSet::from([IfName::new(NAME).unwrap()]);
        assert!(!is_bare_beside(&end(NAME, "veth", plain), &own));
    }
}
