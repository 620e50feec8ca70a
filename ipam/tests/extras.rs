//! Ports and limits of attachments in the store, and files of an older and a newer minor version.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::path::Path;

use common::{at, attach, delete, key, reserve, store_with};
use tempfile::TempDir;
use twill_conf::network::{Bandwidth, PortMapping, Protocol, Shape};
use twill_ipam::store::{BlockState, Environment, Observed, Reservation, Role, Schema};
use twill_ipam::{Attachment, Error, Extras, KeyHash, State, Store};

const FIRST_MINOR: Schema = Schema { major: Schema::CURRENT.major, steps: &[Schema::CURRENT.steps[0]] };
const NEXT_MINOR: Schema = Schema {
    major: Schema::CURRENT.major,
    steps: &[
        Schema::CURRENT.steps[0],
        Schema::CURRENT.steps[1],
        "ALTER TABLE attachment ADD COLUMN next TEXT; CREATE TABLE next (n INTEGER); UPDATE attachment SET next = 'x'",
    ],
};

fn open(dir: &TempDir, role: Role, schema: Schema) -> Store {
    Store::open_in(dir.path(), role, &Environment { schema, ..Environment::default() }).unwrap()
}

fn version(dir: &TempDir) -> i64 {
    let plain = rusqlite::Connection::open(dir.path().join("node.db")).unwrap();
    plain.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
}

fn port(host_ip: Option<&str>, host_port: u16) -> PortMapping {
    let host_ip = host_ip.map(|ip| ip.parse().unwrap());
    PortMapping { protocol: Protocol::Tcp, host_ip, host_port, container_port: 80 }
}

fn extras(ports: &[PortMapping]) -> Extras {
    let egress = Some(Shape { rate: 1_000_000, burst: Some(64_000) });
    Extras { ports: ports.to_vec(), bandwidth: Some(Bandwidth { ingress: None, egress }), unchecked: true }
}

fn reserve_with(store: &mut Store, container: &str, extras: &Extras) -> Result<Attachment, Error> {
    let (key, netns) = (key(container), Path::new("/run/netns/test"));
    let wanted = Reservation { key: &key, netns, pod: None, subnets: &[], pools: &[], requested: &[] };
    store.reserve_with(&wanted, extras, at(0))
}

#[test]
fn what_an_attachment_asked_for_stands_in_its_row_and_goes_with_it() {
    let (_dir, mut store) = store_with(&["10.0.0.0/26"]);
    let asked = extras(&[port(None, 8080)]);
    let row = reserve_with(&mut store, "a", &asked).unwrap();
    assert_eq!(row.extras, asked);
    store.confirm(row.id, at(1)).unwrap();
    attach(&mut store, "b", at(1));
    let [a, b] = <[Attachment; 2]>::try_from(store.attachments().unwrap()).unwrap();
    assert_eq!((a.extras, b.extras), (asked.clone(), Extras::default()));
    delete(&mut store, "a", at(2));
    reserve_with(&mut store, "c", &asked).unwrap();
}

#[test]
fn a_port_of_the_node_is_reserved_once_and_the_refusal_says_for_whom() {
    let (_dir, mut store) = store_with(&["10.0.0.0/26"]);
    reserve_with(&mut store, "a", &extras(&[port(None, 8080), port(Some("192.0.2.1"), 9090)])).unwrap();
    for taken in [port(None, 8080), port(Some("192.0.2.7"), 8080), port(None, 9090), port(Some("0.0.0.0"), 9090)] {
        let refused = reserve_with(&mut store, "b", &extras(&[port(None, 1), taken])).unwrap_err();
        assert!(matches!(&refused, Error::PortTaken { port, .. } if *port == taken), "{refused:?}");
        assert!(refused.to_string().contains("the container a") && refused.is_temporary(), "{refused}");
    }
    assert_eq!(store.attachments().unwrap().len(), 1, "nothing was reserved");
    let free = [
        port(Some("192.0.2.2"), 9090),
        port(Some("::"), 9090),
        PortMapping { protocol: Protocol::Udp, ..port(None, 8080) },
    ];
    reserve_with(&mut store, "b", &extras(&free)).unwrap();
}

#[test]
fn what_a_killed_add_published_is_not_taken_over_before_it_is_withdrawn() {
    let (_dir, mut store) = store_with(&["10.0.0.0/26"]);
    let row = reserve_with(&mut store, "a", &extras(&[port(None, 8080)])).unwrap();
    let again = reserve_with(&mut store, "a", &Extras::default());
    assert!(matches!(again, Err(Error::Exists { state: State::Reserved })), "{again:?}");
    store.release(row.id, at(1)).unwrap();
    let again = reserve_with(&mut store, "a", &extras(&[port(None, 8080)])).unwrap();
    assert_eq!(again.addresses, row.addresses);
}

#[test]
fn an_older_plugin_works_with_a_store_that_is_one_minor_version_ahead() {
    for (older, newer) in [(FIRST_MINOR, Schema::CURRENT), (Schema::CURRENT, NEXT_MINOR)] {
        let (dir, mut daemon) = store_with(&["10.0.0.0/26"]);
        let with_ports = reserve_with(&mut daemon, "a", &extras(&[port(None, 1)])).unwrap();
        daemon.confirm(with_ports.id, at(0)).unwrap();
        drop(open(&dir, Role::Daemon, newer));
        let mut old = open(&dir, Role::Plugin, older);
        assert_eq!(version(&dir), newer.version());
        let row = reserve(&mut old, "b", at(0)).unwrap();
        old.confirm(row.id, at(0)).unwrap();
        assert_eq!(old.attachment(key("b").hash()).unwrap().unwrap().state, State::Attached);
        for container in ["a", "b"] {
            delete(&mut old, container, at(0));
        }
        assert!(daemon.attachments().unwrap().is_empty());
        assert_eq!(version(&dir), newer.version());
    }
}

#[test]
fn a_plugin_that_is_ahead_of_the_store_upgrades_it_when_it_has_ports_to_write_and_only_then() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = open(&dir, Role::Daemon, FIRST_MINOR);
    daemon.set_node(&common::node(true, false)).unwrap();
    daemon.put_block("10.0.0.0/26".parse().unwrap(), &"default".parse().unwrap(), BlockState::Open).unwrap();
    let mut plugin = open(&dir, Role::Plugin, Schema::CURRENT);
    attach(&mut plugin, "a", at(0));
    assert_eq!(plugin.attachment(key("a").hash()).unwrap().unwrap().extras, Extras::default());
    assert_eq!(version(&dir), FIRST_MINOR.version(), "who asks for nothing new changes nothing");

    // A DEL that opened the store before, and has read from it.
    let mut other = open(&dir, Role::Guest, Schema::CURRENT);
    assert_eq!(other.attachments().unwrap().len(), 1);
    let asked = extras(&[port(None, 8080)]);
    let row = reserve_with(&mut plugin, "b", &asked).unwrap();
    plugin.confirm(row.id, at(0)).unwrap();
    assert_eq!(version(&dir), Schema::CURRENT.version());
    assert_eq!(other.attachment(key("b").hash()).unwrap().unwrap().extras, asked);
    assert_eq!(other.mark_deleting(key("b").hash(), at(1)).unwrap().unwrap().extras, asked);

    // The daemon of before works on.
    assert_eq!(daemon.attachments().unwrap().len(), 2);
    attach(&mut daemon, "c", at(0));
    delete(&mut daemon, "b", at(1));
}

#[test]
fn a_lost_store_learns_ports_and_limits_from_the_kernel() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir, Role::Plugin, FIRST_MINOR);
    drop(store);
    store = open(&dir, Role::Plugin, Schema::CURRENT);
    let asked = extras(&[port(None, 8080)]);
    let observed = Observed {
        attachments: vec![(KeyHash(1), vec![common::ip("10.0.0.1")]), (KeyHash(2), vec![common::ip("10.0.0.2")])],
        extras: [(KeyHash(1), asked.clone())].into(),
        ..Observed::default()
    };
    store.rebuild(|| Ok::<_, Error>(observed.clone()), at(0)).unwrap();
    assert_eq!(store.attachment(KeyHash(1)).unwrap().unwrap().extras, asked);
    assert_eq!(store.attachment(KeyHash(2)).unwrap().unwrap().extras, Extras::default());
}

#[test]
fn a_column_that_somebody_added_to_an_older_file_is_not_taken_for_ours() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = open(&dir, Role::Daemon, FIRST_MINOR);
    daemon.set_node(&common::node(true, false)).unwrap();
    daemon.put_block("10.0.0.0/26".parse().unwrap(), &"default".parse().unwrap(), BlockState::Open).unwrap();
    let file = rusqlite::Connection::open(dir.path().join("node.db")).unwrap();
    file.execute_batch("ALTER TABLE attachment ADD COLUMN note TEXT DEFAULT 'no extras'").unwrap();
    let mut plugin = open(&dir, Role::Plugin, Schema::CURRENT);
    attach(&mut plugin, "a", at(0));
    assert_eq!(plugin.attachments().unwrap()[0].extras, Extras::default());
}
