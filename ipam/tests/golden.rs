//! Stores of each version stay readable and usable: those in `golden/`, whose README says what they are.

#![allow(clippy::unwrap_used, reason = "these are tests, though their helpers are not marked so")]

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{at, attach, block, delete, environment_of_boot, ip, key, node, reserve};
use rusqlite::Connection;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use twill_conf::cluster::{ClusterConf, Given};
use twill_conf::network::{Bandwidth, PortMapping, Protocol, Shape};
use twill_ipam::attachment::Pod;
use twill_ipam::store::{Attempt, BlockState, Environment, Node, Occupant, Reservation, Role, Schema};
use twill_ipam::want::Want;
use twill_ipam::{Extras, NodePool, State, Store};

const TODAY: &str = env!("CARGO_PKG_VERSION");
const BOOT: &str = "golden";
const FILES: [&str; 2] = ["node.db.sql", "node.json"];

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn versions() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(golden()).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_dir()).collect()
}

/// A store with some of everything.
fn filled(run: &Path, environment: &Environment) -> Store {
    let mut store = Store::open_in(run, Role::Daemon, environment).unwrap();
    let conf = "[[pool]]\nname = 'default'\ncidr = '10.42.0.0/16'\nreserved = ['10.42.24.60/30']\n\
                [[pool]]\nname = 'v6'\ncidr = 'fd42::/48'\n[[pool]]\nname = 'old'\ncidr = '10.43.0.0/16'\n\
                [[pool]]\nname = 'named'\ncidr = '10.44.0.0/16'\n";
    let conf = ClusterConf::from_toml(conf).unwrap();
    let given = [Given::Default, Given::Default, Given::Nobody, Given::Named];
    let pools = conf.pools.iter().zip(given).map(|(pool, given)| NodePool::new(pool, given)).collect();
    let exhausted = vec!["old".parse().unwrap()];
    store.set_node(&Node { exhausted, drain: None, pools: Some(pools), ..node(true, true) }).unwrap();
    for (text, pool) in [("10.42.24.0/26", "default"), ("fd42::40/122", "v6"), ("10.43.0.0/26", "old")] {
        store.put_block(block(text), &pool.parse().unwrap(), BlockState::Open).unwrap();
    }
    for ipv6 in [false, true] {
        assert!(store.tunnel(ipv6, at(0)).unwrap().is_some());
    }
    attach(&mut store, "plain", at(1));
    attach(&mut store, "gone", at(2));
    delete(&mut store, "gone", at(3));
    attach(&mut store, "going", at(4));
    store.mark_deleting(key("going").hash(), at(5)).unwrap();
    reserve(&mut store, "coming", at(6)).unwrap();
    let pod = Pod { namespace: "shop".into(), name: "till-0".into() };
    let port = PortMapping { protocol: Protocol::Tcp, host_ip: None, host_port: 8080, container_port: 80 };
    let egress = Some(Shape { rate: 1_000_000, burst: Some(64_000) });
    let extras = Extras { ports: vec![port], bandwidth: Some(Bandwidth { ingress: None, egress }), unchecked: true };
    let (full, netns) = (key("full"), Path::new("/run/netns/full"));
    let pools = ["default".parse().unwrap(), "v6".parse().unwrap()];
    let wanted =
        Reservation { key: &full, netns, pod: Some(&pod), subnets: &[], pools: &pools, requested: &[ip("10.42.24.9")] };
    let row = store.reserve_with(&wanted, &extras, at(7)).unwrap();
    store.confirm(row.id, at(8)).unwrap();
    let attempt = Attempt {
        at: at(9),
        verb: "ADD".into(),
        key: Some(key("refused")),
        pod: Some(pod),
        step: "reserving".into(),
        cause: "no free address".into(),
        code: 100,
        took: Duration::from_millis(3),
    };
    store.record_attempt(&attempt).unwrap();
    let want = Want { key: key("wants").hash(), pools: vec!["v6".parse().unwrap()], address: None, at: at(10) };
    store.leave_want(&want).unwrap();
    store
}

/// What stands in a store, in the words of today.
fn told(store: &Store, now: twill_ipam::BootTime) -> Value {
    let inventory = store.inventory(now).unwrap();
    let attachments = inventory.attachments.iter().map(|row| {
        let key = row.key.as_ref();
        json!({
            "container": key.map(|key| key.container.to_string()),
            "network": key.map(|key| key.network.to_string()),
            "interface": row.hash.host_ifname(),
            "state": format!("{:?}", row.state),
            "pod": row.pod.as_ref().map(|pod| format!("{}/{}", pod.namespace, pod.name)),
            "addresses": row.addresses.iter().map(|(ip, _)| ip.to_string()).collect::<Vec<_>>(),
            "ports": row.extras.ports.iter().map(|port| port.host_port).collect::<Vec<_>>(),
            "unchecked": row.extras.unchecked,
        })
    });
    let by = |occupant: &Occupant| match occupant {
        Occupant::Attachment(_) => "attachment",
        Occupant::Cooling { .. } => "cooling",
        Occupant::Tunnel => "tunnel",
        Occupant::Withheld => "withheld",
    };
    let addresses = inventory.addresses.iter().map(|found| json!([found.ip.to_string(), by(&found.by)]));
    let blocks = inventory.blocks.iter().map(|found| {
        json!([
            found.block.cidr().to_string(),
            found.pool.as_ref().map(ToString::to_string),
            format!("{:?}", found.state)
        ])
    });
    let node = inventory.node.as_ref().map(|node| {
        let pools = node.pools.iter().flatten().map(|pool| json!([pool.name.to_string(), format!("{:?}", pool.given)]));
        json!({ "name": node.name, "mtu": node.mtu, "pools": pools.collect::<Vec<_>>(), "drain": node.drain })
    });
    let attempts = store.attempts().unwrap();
    let attempts = attempts.iter().map(|attempt| json!([attempt.verb, attempt.code, attempt.cause]));
    json!({
        "node": node,
        "blocks": blocks.collect::<Vec<_>>(),
        "attachments": attachments.collect::<Vec<_>>(),
        "addresses": addresses.collect::<Vec<_>>(),
        "attempts": attempts.collect::<Vec<_>>(),
    })
}

/// A database as text.
fn dump(file: &Path) -> String {
    let conn = Connection::open(file).unwrap();
    let version: i64 = conn.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    let texts = |sql: &str| -> Vec<String> {
        let mut select = conn.prepare(sql).unwrap();
        select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let own = "name NOT LIKE 'sqlite_%' AND sql IS NOT NULL";
    let tables = texts(&format!("SELECT name FROM sqlite_schema WHERE type = 'table' AND {own} ORDER BY rowid"));
    let mut lines = vec![format!("PRAGMA user_version = {version};")];
    lines.extend(texts(&format!("SELECT sql || ';' FROM sqlite_schema WHERE type = 'table' AND {own} ORDER BY rowid")));
    for table in tables {
        let columns = texts(&format!("SELECT name FROM pragma_table_info('{table}') ORDER BY cid"));
        let values = columns.iter().map(|column| format!("quote({column})")).collect::<Vec<_>>().join(" || ', ' || ");
        let columns = columns.join(", ");
        let insert = format!("SELECT 'INSERT INTO {table} ({columns}) VALUES (' || {values} || ');' FROM {table}");
        lines.extend(texts(&insert));
    }
    lines
        .extend(texts(&format!("SELECT sql || ';' FROM sqlite_schema WHERE type <> 'table' AND {own} ORDER BY rowid")));
    lines.join("\n") + "\n"
}

fn digests(folder: &Path) -> String {
    let line = |name: &&str| {
        let digest = Sha256::digest(std::fs::read(folder.join(name)).unwrap());
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{hex}  {name}\n")
    };
    FILES.iter().map(line).collect()
}

/// Makes the folder of today's version, where that is asked for.
fn written() {
    if std::env::var_os("TWILL_GOLDEN").is_none_or(|word| word != "write") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let store = filled(&run, &environment_of_boot(dir.path(), BOOT));
    let folder = golden().join(TODAY);
    std::fs::create_dir_all(&folder).unwrap();
    let told = serde_json::to_string_pretty(&told(&store, at(10))).unwrap();
    std::fs::write(folder.join(FILES[1]), told + "\n").unwrap();
    drop(store);
    std::fs::write(folder.join(FILES[0]), dump(&run.join("node.db"))).unwrap();
    std::fs::write(folder.join("digests"), digests(&folder)).unwrap();
}

/// Makes the store of a version again, in a run directory of its own.
fn restored(folder: &Path, run: &Path) {
    std::fs::create_dir_all(run).unwrap();
    let conn = Connection::open(run.join("node.db")).unwrap();
    conn.pragma_update(None, "journal_mode", "WAL").unwrap();
    conn.pragma_update(None, "foreign_keys", false).unwrap();
    conn.execute_batch(&std::fs::read_to_string(folder.join(FILES[0])).unwrap()).unwrap();
}

#[test]
fn stores_of_every_version_are_read_go_on_and_have_not_been_changed() {
    written();
    assert!(golden().join(TODAY).is_dir(), "golden/{TODAY} is missing: golden/README.md says how it is made");
    for folder in versions() {
        let shown = folder.display();
        let there = std::fs::read_to_string(folder.join("digests")).unwrap();
        assert_eq!(there, digests(&folder), "{shown} was changed: take that back");
        let wanted: Value = serde_json::from_str(&std::fs::read_to_string(folder.join(FILES[1])).unwrap()).unwrap();
        for role in [Role::Daemon, Role::Plugin, Role::Reader] {
            let dir = tempfile::tempdir().unwrap();
            let run = dir.path().join("run");
            restored(&folder, &run);
            let environment = environment_of_boot(dir.path(), BOOT);
            let mut store = Store::open_in(&run, role, &environment).unwrap();
            assert_eq!(told(&store, at(10)), wanted, "{shown}");
            if role == Role::Reader {
                continue;
            }
            // Nobody's address is given to the next one, and what was given goes.
            let taken: Vec<String> = wanted["addresses"].as_array().unwrap().iter().map(|a| a[0].to_string()).collect();
            let fresh = attach(&mut store, "fresh", at(11));
            for (ip, _) in &fresh.addresses {
                assert!(!taken.contains(&format!("\"{ip}\"")), "{shown}: {ip} is given again: {taken:?}");
            }
            delete(&mut store, "plain", at(12));
            delete(&mut store, "full", at(13));
            let left = store.attachments().unwrap();
            assert!(left.iter().all(|row| row.key.as_ref().is_some_and(|key| key.container.as_str() != "full")));
            assert!(left.iter().any(|row| row.state == State::Deleting), "what was half done is still to be seen");
        }
    }
}

#[test]
fn the_schema_of_this_version_is_that_of_its_folder() {
    written();
    let dir = tempfile::tempdir().unwrap();
    let (fresh, old) = (dir.path().join("fresh"), dir.path().join("old"));
    drop(Store::open_in(&fresh, Role::Daemon, &environment_of_boot(dir.path(), BOOT)).unwrap());
    restored(&golden().join(TODAY), &old);
    let schema = |run: &Path| -> Vec<String> {
        let conn = Connection::open(run.join("node.db")).unwrap();
        let mut select = conn
            .prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY name")
            .unwrap();
        select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!(
        schema(&fresh),
        schema(&old),
        "a new schema is one of a new version: golden/README.md says what that wants"
    );
    let version: i64 =
        Connection::open(old.join("node.db")).unwrap().query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(version, Schema::CURRENT.version());
}
