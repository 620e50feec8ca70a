//! The store against a real etcd.

#![allow(clippy::unwrap_used)]

mod restored;
mod secure;
mod server;
mod three;
mod users;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use server::Server;
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;
use twill_cluster::keeper::{Facts, Identity, Input, Keeper, Output};
use twill_cluster::store::{Event, Range, Store, StoreError};
use twill_cluster::txn::{Compare, Op, Outcome, Txn};
use twill_cluster::view::{Change, Delta, Snapshot};
use twill_cluster::{EtcdStore, View, key};
use twill_ipam::{Block, BootTime};

fn put(key: &str) -> Op {
    Op::Put { key: key.into(), value: b"{}".to_vec(), lease: None }
}

fn puts(keys: &[&str]) -> Txn {
    Txn { when: Vec::new(), then: keys.iter().map(|key| put(key)).collect() }
}

/// What a claim asks of the blocks that are there.
fn claim(cidr: &str) -> Txn {
    let block: Block = cidr.parse().unwrap();
    let inside = key::inside(block);
    let absent = key::ancestors(block).into_iter().map(|key| Compare::Created { key, revision: 0 });
    let none = Compare::NoneIn { start: inside.start, end: inside.end };
    Txn { when: std::iter::once(none).chain(absent).collect(), then: vec![put(&key::block(block))] }
}

async fn next(events: &mut Receiver<Event>) -> Event {
    timeout(Duration::from_secs(30), events.recv()).await.expect("an event comes").expect("the watch goes on")
}

async fn snapshot(events: &mut Receiver<Event>) -> Snapshot {
    match next(events).await {
        Event::Snapshot(snapshot) => snapshot,
        other => panic!("a snapshot was expected: {other:?}"),
    }
}

async fn delta(events: &mut Receiver<Event>) -> Delta {
    match next(events).await {
        Event::Delta(delta) => delta,
        other => panic!("a delta was expected: {other:?}"),
    }
}

fn keys(delta: &Delta) -> Vec<String> {
    let key = |change: &Change| match change {
        Change::Put(entry) => entry.key.clone(),
        Change::Delete(key) => format!("-{key}"),
    };
    delta.changes.iter().map(key).collect()
}

#[tokio::test]
async fn a_claim_is_refused_where_a_block_of_any_size_overlaps() {
    let Some(server) = Server::start().await else { return };
    let store = server.store();
    for there in ["10.42.1.0/26", "10.42.128.0/17", "fd00:42::/64"] {
        assert!(matches!(store.commit(&claim(there)).await, Ok(Outcome::Done(_))), "{there}");
    }
    for refused in [
        "10.42.1.0/26",
        "10.42.1.0/32",
        "10.42.1.63/32",
        "10.42.1.0/24",
        "10.42.0.0/16",
        "10.0.0.0/8",
        "10.42.200.0/24",
        "10.42.255.255/32",
        "fd00:42::/122",
        "fd00:42::ffff:0/128",
        "fd00::/16",
    ] {
        assert!(matches!(store.commit(&claim(refused)).await, Ok(Outcome::Refused(_))), "{refused}");
    }
    for free in ["10.42.1.64/26", "10.42.0.0/24", "10.42.2.0/23", "fd00:42:0:1::/122", "10.43.0.0/32"] {
        assert!(matches!(store.commit(&claim(free)).await, Ok(Outcome::Done(_))), "{free}");
    }
}

#[tokio::test]
async fn compares_hold_as_the_vocabulary_says() {
    let Some(server) = Server::start().await else { return };
    let store = server.store();
    let Outcome::Done(first) = store.commit(&puts(&["nodes/a"])).await.unwrap() else { panic!() };
    let Outcome::Done(second) = store.commit(&puts(&["nodes/a"])).await.unwrap() else { panic!() };
    let created = |revision| Compare::Created { key: "nodes/a".into(), revision };
    let modified = |revision| Compare::Modified { key: "nodes/a".into(), revision };
    for (when, done) in [
        (created(first), true),
        (created(second), false),
        (created(0), false),
        (modified(first), false),
        (modified(second), true),
    ] {
        let txn = Txn { when: vec![when.clone()], then: vec![put("nodes/b")] };
        assert_eq!(matches!(store.commit(&txn).await.unwrap(), Outcome::Done(_)), done, "{when:?}");
    }
    let delete = Txn { when: vec![], then: vec![Op::Delete { key: "nodes/a".into() }] };
    store.commit(&delete).await.unwrap();
    let found = store.read(&Range::watched()).await.unwrap();
    assert_eq!(found.entries.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), ["nodes/b"]);
}

#[tokio::test]
async fn a_range_of_several_pages_is_read_whole() {
    let Some(server) = Server::start().await else { return };
    let store = server.store();
    let names: Vec<String> = (0..2345).map(|i| format!("nodes/n{i:05}")).collect();
    for part in names.chunks(100) {
        store.commit(&puts(&part.iter().map(String::as_str).collect::<Vec<_>>())).await.unwrap();
    }
    store.commit(&puts(&["alive/n1", "addresses/n1/4/0a2a0000-26"])).await.unwrap();
    let found = store.read(&Range::watched()).await.unwrap();
    assert_eq!(found.entries.iter().map(|entry| &entry.key).collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
    assert!(found.entries.iter().all(|entry| entry.created <= found.revision && entry.value == b"{}"));
}

#[tokio::test]
async fn keys_that_are_no_text_are_read_once_each() {
    let Some(server) = Server::start().await else { return };
    let mut raw = server.raw().await;
    for at in 0..15 {
        let key = |n: u32| [b"/twill/v1/blocks/\xff", format!("{n:04}").as_bytes()].concat();
        let puts: Vec<_> = (0..100).map(|n| etcd_client::TxnOp::put(key(at * 100 + n), "{}", None)).collect();
        raw.txn(etcd_client::Txn::new().and_then(puts)).await.unwrap();
    }
    let read = timeout(Duration::from_secs(30), async { server.store().read(&Range::watched()).await });
    assert_eq!(read.await.expect("the read ends").unwrap().entries.len(), 1500);
}

#[tokio::test]
async fn members_that_accept_and_never_answer_do_not_keep_a_read_from_the_one_that_does() {
    let Some(server) = Server::start().await else { return };
    // The kernel accepts for them.
    let silent: Vec<_> = (0..2).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let mut endpoints: Vec<_> = silent.iter().map(|s| format!("http://{}", s.local_addr().unwrap())).collect();
    endpoints.push(server.url().to_owned());
    // Each begins with a member at random.
    let mut reads = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let store = EtcdStore::connect(&endpoints, "/twill/v1/").unwrap();
        reads.spawn(async move { store.read(&Range::watched()).await.map(|snapshot| snapshot.entries.len()) });
    }
    for read in reads.join_all().await {
        assert_eq!(read.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_watch_brings_a_snapshot_then_one_delta_for_each_transaction() {
    let Some(server) = Server::start().await else { return };
    let store = server.store();
    store.commit(&puts(&["nodes/a", "alive/a"])).await.unwrap();
    let mut events = store.watch(Range::watched());
    let first = snapshot(&mut events).await;
    assert_eq!(first.entries.len(), 1);
    store.commit(&puts(&["alive/b"])).await.unwrap();
    store.commit(&puts(&["nodes/b", "config", "blocks/4/0a2a0000-26", "addresses/b/4/0a2a0000-26"])).await.unwrap();
    let change = delta(&mut events).await;
    assert_eq!(keys(&change).into_iter().collect::<BTreeSet<_>>().len(), 3);
    assert_eq!(change.revision, first.revision + 2);
    store.commit(&Txn { when: vec![], then: vec![Op::Delete { key: "nodes/a".into() }] }).await.unwrap();
    assert_eq!(keys(&delta(&mut events).await), ["-nodes/a"]);
}

#[tokio::test]
async fn a_watch_resumes_after_etcd_was_killed_and_misses_nothing() {
    let Some(mut server) = Server::start().await else { return };
    let store = server.store();
    let mut events = store.watch(Range::watched());
    snapshot(&mut events).await;
    store.commit(&puts(&["nodes/a"])).await.unwrap();
    assert_eq!(keys(&delta(&mut events).await), ["nodes/a"]);
    for round in 0..2 {
        server.kill();
        let Event::Lost(cause) = next(&mut events).await else { panic!("that etcd is lost is told") };
        assert!(!cause.is_empty());
        let unsent = store.commit(&puts(&["nodes/never"])).await;
        assert!(matches!(unsent, Err(StoreError::Unavailable { .. })), "{unsent:?}");
        server.run().await;
        let key = format!("nodes/b{round}");
        server.store().commit(&puts(&[&key])).await.unwrap();
        // That it is back is told by a delta, which may be empty.
        let mut seen = Vec::new();
        while seen.is_empty() {
            seen = keys(&delta(&mut events).await);
        }
        assert_eq!(seen, [key]);
        assert!(matches!(store.commit(&puts(&["alive/x"])).await, Ok(Outcome::Done(_))), "calls resume as well");
    }
}

#[tokio::test]
async fn that_a_quiet_etcd_is_back_is_told_by_an_empty_delta() {
    let Some(mut server) = Server::start().await else { return };
    let mut events = server.store().watch(Range::watched());
    let first = snapshot(&mut events).await;
    server.kill();
    assert!(matches!(next(&mut events).await, Event::Lost(_)));
    server.run().await;
    assert_eq!(delta(&mut events).await, Delta { revision: first.revision, changes: Vec::new() });
}

#[tokio::test]
async fn an_etcd_that_falls_silent_is_noticed_and_its_requests_have_an_unknown_outcome() {
    let Some(server) = Server::start().await else { return };
    let store = server.store();
    let mut events = store.watch(Range::watched());
    snapshot(&mut events).await;
    server.signal("STOP");
    let silent = store.commit(&puts(&["nodes/a"])).await;
    assert!(matches!(silent, Err(StoreError::Unknown { .. })), "{silent:?}");
    assert!(matches!(next(&mut events).await, Event::Lost(_)));
    server.signal("CONT");
    // It may be done now, or never: that is what "unknown" means. What is written after it is seen in any case.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while let Err(error) = store.commit(&puts(&["nodes/b"])).await {
        assert!(tokio::time::Instant::now() < deadline, "{error}");
    }
    let mut seen = Vec::new();
    while !seen.contains(&"nodes/b".to_owned()) {
        seen = keys(&delta(&mut events).await);
    }
}

#[tokio::test]
async fn a_watch_that_begins_without_etcd_says_so_once_and_then_brings_a_snapshot() {
    let Some(mut server) = Server::start().await else { return };
    server.kill();
    let mut events = server.store().watch(Range::watched());
    assert!(matches!(next(&mut events).await, Event::Lost(cause) if cause.contains(server.url())));
    server.run().await;
    // Several tries have failed in the meantime, and were not told.
    snapshot(&mut events).await;
}

#[tokio::test]
async fn after_a_compaction_a_snapshot_comes_instead_of_what_is_gone() {
    let Some(mut server) = Server::start().await else { return };
    let mut events = server.store().watch(Range::watched());
    snapshot(&mut events).await;
    server.kill();
    assert!(matches!(next(&mut events).await, Event::Lost(_)));
    // Written and compacted through another port, so that the watch cannot come back in between.
    let watched_port = server.move_away();
    server.run().await;
    let store = server.store();
    store.commit(&puts(&["nodes/a"])).await.unwrap();
    store.commit(&Txn { when: vec![], then: vec![Op::Delete { key: "nodes/a".into() }] }).await.unwrap();
    let Outcome::Done(last) = store.commit(&puts(&["nodes/b"])).await.unwrap() else { panic!() };
    server.raw().await.compact(last, None).await.unwrap();
    server.kill();
    server.move_to(watched_port);
    server.run().await;
    loop {
        match next(&mut events).await {
            Event::Delta(delta) => assert_eq!(delta.changes, [], "it only tells that etcd is back"),
            Event::Snapshot(snapshot) => {
                assert_eq!(snapshot.entries.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), ["nodes/b"]);
                return;
            }
            Event::Restored(_) => panic!("nothing was restored"),
            Event::Lost(cause) => panic!("told twice: {cause}"),
        }
    }
}

#[tokio::test]
async fn a_watch_ends_when_nobody_listens() {
    let Some(server) = Server::start().await else { return };
    let store = server.store();
    let mut events = store.watch(Range::watched());
    snapshot(&mut events).await;
    let tasks = tokio::runtime::Handle::current().metrics();
    let before = tasks.num_alive_tasks();
    drop(events);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while tasks.num_alive_tasks() >= before {
        assert!(tokio::time::Instant::now() < deadline, "the task goes on");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_key_ends_with_its_lease() {
    let Some(server) = Server::start().await else { return };
    let store = server.store();
    let lease = store.grant(Duration::from_secs(2)).await.unwrap();
    assert!(store.renew(lease).await.unwrap());
    let leased = Op::Put { key: "nodes/x".into(), value: b"{}".to_vec(), lease: Some(lease) };
    let mut events = store.watch(Range::watched());
    snapshot(&mut events).await;
    store.commit(&Txn { when: vec![], then: vec![leased] }).await.unwrap();
    assert_eq!(keys(&delta(&mut events).await), ["nodes/x"]);
    assert_eq!(keys(&delta(&mut events).await), ["-nodes/x"]);
    assert!(!store.renew(lease).await.unwrap());
    assert!(!store.renew(4711).await.unwrap(), "nor is one that never was");
}

async fn put_config(store: &EtcdStore) {
    let config = serde_json::json!({
        "pool": [{ "name": "main", "cidr": "10.42.0.0/20", "block": 26 }],
        "backend": { "type": "vxlan" },
    });
    let config = Op::Put { key: key::CONFIG.into(), value: config.to_string().into_bytes(), lease: None };
    store.commit(&Txn { when: vec![], then: vec![config] }).await.unwrap();
}

/// One node as the daemon runs it, down to its first block. Returns the block.
async fn join(store: EtcdStore, name: String) -> Block {
    let identity = Identity { node: name.parse().unwrap(), machine_id: format!("machine-{name}"), run: name };
    let mut keeper = Keeper::new(identity);
    let mut events = store.watch(Range::watched());
    let mut view = View::default();
    let mut inputs = vec![Input::Local(Vec::new()), Input::Facts(Facts::default())];
    loop {
        while let Some(input) = inputs.pop() {
            for output in keeper.step(input, BootTime::now()) {
                match output {
                    Output::Request(request) => inputs.push(Input::Answer(request.id, request.perform(&store).await)),
                    Output::Open { block, .. } => return block,
                    Output::Pause => inputs.push(Input::Resume),
                    _ => {}
                }
            }
        }
        match next(&mut events).await {
            Event::Snapshot(snapshot) => view.replace(&snapshot),
            Event::Delta(delta) => view.apply(&delta),
            Event::Restored(_) => panic!("nothing was restored"),
            Event::Lost(cause) => panic!("{cause}"),
        }
        inputs.push(Input::View(Arc::new(view.clone())));
    }
}

#[tokio::test]
async fn fifty_nodes_that_join_a_real_etcd_at_once_have_a_block_each() {
    let Some(server) = Server::start().await else { return };
    let store = server.store();
    put_config(&store).await;
    let mut nodes = tokio::task::JoinSet::new();
    for i in 0..50 {
        nodes.spawn(join(store.clone(), format!("n{i}")));
    }
    let blocks: Vec<Block> = nodes.join_all().await;
    assert_eq!(blocks.iter().collect::<BTreeSet<_>>().len(), 50);
    let mut view = View::default();
    view.replace(&store.read(&Range::watched()).await.unwrap());
    assert_eq!((view.nodes.len(), view.blocks.len()), (50, 50));
    assert!(view.faults.is_empty(), "{:?}", view.faults);
}
