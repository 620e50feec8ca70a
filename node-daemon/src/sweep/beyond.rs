//! What attachments have in the kernel beyond their links: published ports, and the devices that limit what pods send.
//! Neither goes with the link, so both are removed before a row is freed, and looked for where no row is left.

use std::collections::BTreeSet;
use std::path::Path;

use twill_fabric::ports::of;
use twill_ipam::alias::{Proof, foreign_ifb};
use twill_ipam::removal::{self, Removal};
use twill_ipam::{Attachment, KeyHash};
use twill_linux::conntrack;
use twill_linux::ports::{self, Port};
use twill_linux::table::{self, Device, link};
use twill_linux::{IfName, Netlink};

use super::{SweepError, host_end, remove};
use crate::store::NodeStore;

/// Takes out of the kernel what its row says that an attachment has, in the order of the plugin's `detach`.
pub(super) fn clear(netlink: &mut Netlink, row: &Attachment) -> Result<(), twill_linux::Error> {
    let Attachment { hash, extras, .. } = row;
    let withdrawn = if extras.ports.is_empty() { Ok(()) } else { withdraw(*hash, &of(row)) };
    let unlimited = if extras.has_egress() { remove_ifb(netlink, *hash, Proof::Name) } else { Ok(()) };
    withdrawn.and(unlimited)
}

/// Looks for what has neither row nor link, and removes it. Gives what failed, which is tried again next time.
pub(super) fn leftovers(
    store: &NodeStore,
    run_dir: &Path,
    netlink: &mut Netlink,
) -> Result<Vec<(KeyHash, SweepError)>, SweepError> {
    let mut seen = owners(netlink)?;
    let known: BTreeSet<KeyHash> = store.with(|store| store.attachments())?.iter().map(|row| row.hash).collect();
    seen.retain(|hash| !known.contains(hash));
    let mut failed = Vec::new();
    for hash in seen {
        let clear = || {
            if host_end(netlink, hash)?.is_some() {
                return Ok(false);
            }
            withdraw(hash, &[])?;
            remove_ifb(netlink, hash, Proof::Alias)?;
            Ok::<_, twill_linux::Error>(true)
        };
        match removal::leftover(run_dir, &mut store.clone(), hash, clear) {
            Ok(Removal::Done) => tracing::info!("removed ports or limits that {} left behind", hash.host_ifname()),
            Ok(_) => {}
            Err(error) => failed.push((hash, error.into())),
        }
    }
    Ok(failed)
}

/// Who has published ports or limiting devices.
fn owners(netlink: &mut Netlink) -> Result<BTreeSet<KeyHash>, twill_linux::Error> {
    let links = table::links(netlink)?;
    let ifbs = links.iter().filter(|link| link.kind.as_deref() == Some(link::IFB));
    let mut owners: BTreeSet<KeyHash> = ifbs.filter_map(|link| KeyHash::of_ifb_name(link.name.as_str())).collect();
    let standing = ports::standing()?.unwrap_or_default();
    owners.extend(standing.owners().into_iter().filter_map(KeyHash::parse));
    Ok(owners)
}

/// As the plugin's `publish`: who was killed may have withdrawn `known` and turned no flow.
fn withdraw(hash: KeyHash, known: &[Port]) -> Result<(), twill_linux::Error> {
    let mut withdrawn = ports::withdraw(&hash.to_string())?;
    withdrawn.extend_from_slice(known);
    conntrack::turn_from(&withdrawn).map(drop)
}

fn remove_ifb(netlink: &mut Netlink, hash: KeyHash, proof: Proof) -> Result<(), twill_linux::Error> {
    let name = IfName::new(&hash.ifb_name()).expect("'bw' and 13 digits are a valid interface name");
    match link::by_name(netlink, &name)? {
        Some(seen) if foreign_ifb(seen.kind.as_deref(), seen.alias.as_deref(), hash, proof).is_none() => {
            remove(netlink, Device { index: seen.index, name })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;
    use twill_ipam::{BootTime, Liveness};

    /// Makes in the kernel what a row says.
    fn build(node: &Fixture, row: &Attachment) {
        node.inside(|| ports::publish(&of(row)).unwrap());
        node.run(&format!("ip link add {} type ifb", row.hash.ifb_name()));
    }

    fn left(node: &Fixture) -> (usize, usize) {
        let mut netlink = node.inside(|| Netlink::open().unwrap());
        let links = table::links(&mut netlink).unwrap();
        let ports = node.inside(|| ports::standing().unwrap().unwrap_or_default().ports.len());
        (ports, links.iter().filter(|link| link.name.as_str().starts_with("bw")).count())
    }

    fn look(node: &Fixture) {
        node.inside(|| {
            let mut netlink = Netlink::open().unwrap();
            assert!(leftovers(&node.store, node.run.path(), &mut netlink).unwrap().is_empty());
        });
    }

    #[test]
    fn what_has_neither_row_nor_link_is_removed_and_nothing_else() {
        let Some(node) = Fixture::new() else { return };
        let (living, in_flight) = (node.attach("a", 8080), node.reserve("b", 8081));
        let (forgotten, foreign) = (node.attach("c", 8082), node.attach("d", 8083));
        let locked = node.attach("e", 8084);
        for row in [&living, &in_flight, &forgotten, &foreign, &locked] {
            build(&node, row);
        }
        // As an older program leaves them, which knows nothing of ports.
        for row in [&forgotten, &foreign, &locked] {
            node.store.with(|store| store.release(row.id, BootTime::now())).unwrap();
        }
        node.run(&format!("ip link add {} type veth peer name other", foreign.hash.host_ifname()));
        node.run("ip link add bw00000000000aa type bridge");
        node.run("ip link add bw-of-others type ifb");
        let lock = Liveness::try_acquire(node.run.path(), locked.hash).unwrap();
        assert_eq!(left(&node), (5, 7));
        look(&node);
        assert_eq!(left(&node), (4, 6));
        drop(lock);
        look(&node);
        assert_eq!(left(&node), (3, 5));
        node.run(&format!("ip link del {}", foreign.hash.host_ifname()));
        look(&node);
        assert_eq!(left(&node), (2, 4), "those of the two rows, and two devices that are none of ours");
    }

    #[test]
    fn a_row_that_is_swept_takes_its_ports_and_its_device_along() {
        let Some(node) = Fixture::new() else { return };
        let (gone, stays) = (node.attach("a", 8080), node.attach("b", 8081));
        for row in [&gone, &stays] {
            build(&node, row);
        }
        node.inside(|| {
            let mut netlink = Netlink::open().unwrap();
            assert!(super::super::clear(&mut netlink, &gone, false).unwrap());
        });
        assert_eq!(left(&node), (1, 1));
    }
}
