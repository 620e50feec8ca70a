//! What the tests of the store share: a store in a directory of its own, and short ways to ask it.

#![allow(dead_code, reason = "each test program uses its own part")]
#![allow(clippy::unwrap_used, reason = "these are tests, though not marked so")]

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use ipnetwork::IpNetwork;
use tempfile::TempDir;
use twill_ipam::store::{BlockState, Environment, Node, Reservation, Role};
use twill_ipam::{Attachment, Block, BootTime, Error, Key, Store};

/// A time of the tests' own clock. It begins late enough for addresses to have cooled before.
pub(crate) fn at(seconds: u64) -> BootTime {
    BootTime(Duration::from_secs(1_000_000 + seconds))
}

pub(crate) fn key(container: &str) -> Key {
    Key { network: "twill".parse().unwrap(), container: container.parse().unwrap(), ifname: "eth0".parse().unwrap() }
}

pub(crate) fn block(text: &str) -> Block {
    text.parse().unwrap()
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn node(ipv4: bool, ipv6: bool) -> Node {
    Node { name: "n1".into(), mtu: 1450, ipv4, ipv6, ..Node::default() }
}

/// A store of a node with these open blocks, all of the pool "default"; its families are those of the blocks.
pub(crate) fn store_with(blocks: &[&str]) -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), Role::Daemon).unwrap();
    store.set_node(&node(blocks.iter().any(|b| b.contains('.')), blocks.iter().any(|b| b.contains(':')))).unwrap();
    for text in blocks {
        store.put_block(block(text), &"default".parse().unwrap(), BlockState::Open).unwrap();
    }
    (dir, store)
}

/// The environment of a boot whose ID stands in a file of the directory.
pub(crate) fn environment_of_boot(dir: &Path, boot: &str) -> Environment {
    let boot_id = dir.join(format!("boot-{boot}"));
    std::fs::write(&boot_id, boot).unwrap();
    Environment { boot_id, ..Environment::default() }
}

pub(crate) fn reserve(store: &mut Store, container: &str, now: BootTime) -> Result<Attachment, Error> {
    reserve_of(store, container, &[], now)
}

pub(crate) fn reserve_of(
    store: &mut Store,
    container: &str,
    subnets: &[&str],
    now: BootTime,
) -> Result<Attachment, Error> {
    let subnets: Vec<IpNetwork> = subnets.iter().map(|subnet| subnet.parse().unwrap()).collect();
    let key = key(container);
    let netns = Path::new("/run/netns/test");
    store.reserve(&Reservation { key: &key, netns, pod: None, subnets: &subnets, pools: &[], requested: &[] }, now)
}

/// An ADD that asks for addresses.
pub(crate) fn ask(
    store: &mut Store,
    container: &str,
    requested: &[IpAddr],
    now: BootTime,
) -> Result<Attachment, Error> {
    let key = key(container);
    let netns = Path::new("/run/netns/test");
    store.reserve(&Reservation { key: &key, netns, pod: None, subnets: &[], pools: &[], requested }, now)
}

/// A whole ADD.
pub(crate) fn attach(store: &mut Store, container: &str, now: BootTime) -> Attachment {
    let row = reserve(store, container, now).unwrap();
    store.confirm(row.id, now).unwrap();
    row
}

/// A whole DEL.
pub(crate) fn delete(store: &mut Store, container: &str, now: BootTime) {
    let row = store.mark_deleting(key(container).hash(), now).unwrap().unwrap();
    store.release(row.id, now).unwrap();
}

pub(crate) fn ips(row: &Attachment) -> Vec<IpAddr> {
    row.addresses.iter().map(|(ip, _)| *ip).collect()
}

/// The first address of a row.
pub(crate) fn ip_of(row: &Attachment) -> IpAddr {
    row.addresses[0].0
}
