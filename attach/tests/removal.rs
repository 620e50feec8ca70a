//! What a rule has condemned is removed under its lock, and only while it is what was condemned.
#![allow(missing_docs, clippy::unwrap_used)]

use std::time::Duration;

use tempfile::TempDir;
use twill_attach::course::removal::{Link, Removal, remove};
use twill_attach::{Kernel, Linux};
use twill_ipam::alias::Proof;
use twill_ipam::store::{Reservation, Role};
use twill_ipam::{Attachment, BootTime, Key, KeyHash, Liveness, State, Store};
use twill_linux::table::rule;
use twill_linux::{NetNs, Netlink};
use twill_testkit::Namespaces;

/// A node with a store, and what stands in its namespace.
struct Node {
    namespaces: Namespaces,
    run: TempDir,
    store: Store,
}

impl Node {
    /// `None` without root, after saying so.
    fn new() -> Option<Self> {
        let namespaces = Namespaces::claim()?;
        namespaces.add("node");
        namespaces.add("pod");
        let run = tempfile::tempdir().unwrap();
        let store = Store::open(run.path(), Role::Daemon).unwrap();
        Some(Self { namespaces, run, store })
    }

    fn ip(&self, namespace: &str, command: &str) {
        let mut ip = std::process::Command::new("ip");
        ip.args(["-n", &self.namespaces.name(namespace)]).args(command.split_whitespace());
        assert!(ip.status().unwrap().success(), "{command}");
    }

    fn netlink(&self, namespace: &str) -> Netlink {
        Netlink::open_in(&NetNs::open(&self.namespaces.path(namespace)).unwrap()).unwrap()
    }

    fn kernel(&self) -> Linux {
        Linux::of_daemon().over(self.netlink("node"))
    }

    /// A row, and the link of it.
    fn attachment(&mut self, container: &str, state: State) -> Attachment {
        let row = self.row(container, state);
        let (ifname, pod) = (row.hash.host_ifname(), self.namespaces.name("pod"));
        self.ip("node", &format!("link add {ifname} type veth peer name p{container} netns {pod}"));
        row
    }

    fn row(&mut self, container: &str, state: State) -> Attachment {
        let (network, ifname) = ("net".parse().unwrap(), "eth0".parse().unwrap());
        let key = Key { network, container: container.parse().unwrap(), ifname };
        let netns = self.namespaces.path("pod");
        let subnets = ["10.42.0.0/24".parse().unwrap()];
        let wanted = Reservation { key: &key, netns: &netns, pod: None, subnets: &subnets, pools: &[], requested: &[] };
        let row = self.store.reserve(&wanted, BootTime::now()).unwrap();
        if state == State::Attached {
            self.store.confirm(row.id, BootTime::now()).unwrap();
        }
        self.store.attachment(row.hash).unwrap().unwrap()
    }

    fn remove(&mut self, row: &Attachment, link: Link) -> Removal {
        let mut kernel = self.kernel();
        remove(&mut kernel, self.run.path(), &mut self.store, row, link, "removing").unwrap()
    }

    /// Whether the link and the row are there.
    fn stands(&self, hash: KeyHash) -> (bool, bool) {
        (self.kernel().stands(hash, Proof::Name).unwrap(), self.store.attachment(hash).unwrap().is_some())
    }
}

#[test]
fn a_condemned_attachment_goes_from_kernel_and_store() {
    let Some(mut node) = Node::new() else { return };
    let row = node.attachment("a", State::Reserved);
    assert_eq!((node.remove(&row, Link::Goes), node.stands(row.hash)), (Removal::Done, (false, false)));
}

#[test]
fn a_link_that_came_back_spares_what_was_condemned_for_having_none() {
    let Some(mut node) = Node::new() else { return };
    let row = node.attachment("a", State::Attached);
    assert_eq!((node.remove(&row, Link::Spares), node.stands(row.hash)), (Removal::Spared, (true, true)));
}

#[test]
fn a_pod_that_took_the_place_of_a_condemned_row_is_spared() {
    let Some(mut node) = Node::new() else { return };
    let condemned = node.row("a", State::Reserved);
    node.store.release(condemned.id, BootTime::now()).unwrap();
    let alive = node.attachment("a", State::Attached);
    assert_eq!((node.remove(&condemned, Link::Goes), node.stands(alive.hash)), (Removal::Spared, (true, true)));
    assert_eq!(node.store.attachment(alive.hash).unwrap().unwrap().id, alive.id);
}

#[test]
fn what_somebody_works_on_is_spared() {
    let Some(mut node) = Node::new() else { return };
    let row = node.attachment("a", State::Reserved);
    let _held = Liveness::acquire(node.run.path(), row.hash, Duration::ZERO).unwrap();
    assert_eq!((node.remove(&row, Link::Goes), node.stands(row.hash)), (Removal::Spared, (true, true)));
}

#[test]
fn the_rules_go_from_a_pod_that_lives_on() {
    let Some(mut node) = Node::new() else { return };
    let row = node.attachment("a", State::Attached);
    node.ip(
        "node",
        &format!("link set {} alias twill1:{}:10.42.0.0;rules=10.42.0.0", row.hash.host_ifname(), row.hash),
    );
    node.ip("pod", "rule add from 10.42.0.0 lookup 117000009 priority 7777 protocol 117");
    node.ip("pod", "rule add from 10.42.0.9 lookup 117000008 priority 7777 protocol 117");
    assert_eq!(node.remove(&row, Link::Goes), Removal::Done);
    let rules = rule::dump(&mut node.netlink("pod"), false).unwrap();
    let ours: Vec<_> = rules.iter().filter(|rule| rule.priority == 7777).map(|rule| rule.table).collect();
    assert_eq!(ours, [117_000_008]);
}

#[test]
fn what_is_no_veth_is_no_host_end_and_stays() {
    let Some(mut node) = Node::new() else { return };
    let row = node.row("a", State::Attached);
    node.ip("node", &format!("link add {} type bridge", row.hash.host_ifname()));
    assert_eq!(node.kernel().standing().unwrap().len(), 0);
    assert_eq!((node.remove(&row, Link::Spares), node.stands(row.hash)), (Removal::Done, (false, false)));
    node.ip("node", &format!("link del {}", row.hash.host_ifname()));
}
