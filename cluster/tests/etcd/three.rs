//! Three members: one that is dead, paused, cut off or behind; the client goes on with the others.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use twill_cluster::EtcdStore;
use twill_cluster::etcd::DEADLINE;
use twill_cluster::store::{Event, Range, Store, StoreError};
use twill_cluster::txn::Outcome;

use crate::server::Server;
use crate::{keys, next, puts, snapshot};

fn store(servers: &[Server; 3]) -> EtcdStore {
    let endpoints: Vec<String> = servers.iter().map(|server| server.url().to_owned()).collect();
    EtcdStore::connect(&endpoints, "/twill/v1/").unwrap()
}

/// Writes one key, as the block keeper does: again after every failure. How long it took.
async fn write(store: &EtcdStore, key: &str) -> Duration {
    let began = Instant::now();
    loop {
        let tried = Instant::now();
        let written = store.commit(&puts(&[key])).await;
        assert!(tried.elapsed() < DEADLINE + Duration::from_secs(2), "{key}: {written:?} after {:?}", tried.elapsed());
        match written {
            Ok(Outcome::Done(_)) => return began.elapsed(),
            other => assert!(began.elapsed() < Duration::from_secs(30), "{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_member_that_was_never_there_keeps_nobody_from_anything() {
    let Some(mut servers) = Server::start_three().await else { return };
    servers[0].kill();
    for round in 0..6 {
        let store = store(&servers);
        let mut events = store.watch(Range::watched());
        snapshot(&mut events).await;
        let key = format!("nodes/n{round}");
        assert!(write(&store, &key).await < DEADLINE, "the dead one is passed over");
        let Event::Delta(delta) = next(&mut events).await else { panic!("a delta") };
        assert_eq!(keys(&delta), [key]);
    }
}

#[tokio::test]
async fn nothing_is_missed_while_members_are_killed_and_paused_in_turn() {
    let Some(mut servers) = Server::start_three().await else { return };
    let store = store(&servers);
    let mut events = store.watch(Range::watched());
    snapshot(&mut events).await;
    let mut written = BTreeSet::new();
    for round in 0..6 {
        let victim = round % 3;
        let pauses = round >= 3;
        if pauses {
            servers[victim].signal("STOP")
        } else {
            servers[victim].kill()
        }
        for count in 0..5 {
            let key = format!("nodes/r{round}c{count}");
            write(&store, &key).await;
            written.insert(key);
        }
        if pauses { servers[victim].signal("CONT") } else { servers[victim].run().await }
    }
    let mut seen = BTreeSet::new();
    while !written.is_subset(&seen) {
        match next(&mut events).await {
            Event::Delta(delta) => seen.extend(keys(&delta)),
            Event::Lost(_) => {}
            other => panic!("nothing was compacted: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_member_that_is_behind_answers_with_the_present_or_not_at_all() {
    let Some(servers) = Server::start_three().await else { return };
    let (ahead, behind) = (servers[0].store(), servers[2].store());
    assert!(behind.read(&Range::watched()).await.unwrap().entries.is_empty());
    servers[2].signal("STOP");
    for count in 0..200 {
        write(&ahead, &format!("nodes/n{count}")).await;
    }
    servers[2].signal("CONT");
    let began = Instant::now();
    loop {
        match behind.read(&Range::watched()).await {
            Ok(found) => return assert_eq!(found.entries.len(), 200),
            Err(error) => assert!(began.elapsed() < Duration::from_secs(20), "{error}"),
        }
    }
}

#[tokio::test]
async fn without_a_majority_that_is_told_and_after_it_everything_goes_on() {
    let Some(mut servers) = Server::start_three().await else { return };
    let store = store(&servers);
    let mut events = store.watch(Range::watched());
    snapshot(&mut events).await;
    servers[0].kill();
    servers[1].kill();
    // The third notices after its election timeout.
    let deadline = Instant::now() + Duration::from_secs(20);
    let cause = loop {
        let began = Instant::now();
        let failed = store.commit(&puts(&["nodes/a"])).await.unwrap_err();
        assert!(began.elapsed() < DEADLINE + Duration::from_secs(2), "{failed} after {:?}", began.elapsed());
        if let StoreError::Unavailable { cause, .. } = failed {
            break cause;
        }
        assert!(Instant::now() < deadline, "{failed}");
    };
    assert!(cause.contains("no leader: most members of etcd are away"), "{cause}");
    assert!(cause.contains("Connection refused") && cause.contains(servers[0].url()), "each by its name: {cause}");
    let lost =
        timeout(Duration::from_secs(20), async { while !matches!(events.recv().await, Some(Event::Lost(_))) {} });
    lost.await.expect("the watch does not wait for a leader in silence");
    servers[0].run().await;
    write(&store, "nodes/b").await;
    loop {
        if let Event::Delta(delta) = next(&mut events).await
            && keys(&delta).contains(&"nodes/b".to_owned())
        {
            return;
        }
    }
}

#[tokio::test]
async fn an_etcd_out_of_space_is_told_and_goes_on_when_there_is_room_again() {
    let Some(server) = Server::start_with(&["--quota-backend-bytes=2097152"]).await else { return };
    let store = server.store();
    let mut raw = server.raw().await;
    // The alarm is raised by the write that crosses the quota.
    while raw.put("/twill/v1/nodes/x", vec![b'x'; 200_000], None).await.is_ok() {}
    let told = store.commit(&puts(&["nodes/a"])).await.unwrap_err();
    assert!(matches!(told, StoreError::Full { .. }), "{told:?}");
    assert!(told.to_string().contains("alarm NOSPACE") && told.to_string().contains("docs/etcd.md"), "{told}");
    store.read(&Range::watched()).await.expect("it is read all the same");
    server.run_document("space", std::env::temp_dir().as_path(), &[]);
    write(&store, "nodes/a").await;
}

#[tokio::test]
async fn a_backup_is_restored_by_the_commands_of_the_document() {
    let Some(mut servers) = Server::start_three().await else { return };
    let (store, dir) = (store(&servers), tempfile::tempdir().unwrap());
    write(&store, "nodes/a").await;
    servers[0].run_document("backup", dir.path(), &[]);
    write(&store, "nodes/b").await;
    for server in &mut servers {
        server.kill();
    }
    for server in &mut servers {
        let [name, peer, peers] = server.identity().map(str::to_owned);
        let data = dir.path().join(&name);
        let variables = [
            ("NAME", name.as_str()),
            ("DATA", &data.display().to_string()),
            ("CLUSTER", &peers),
            ("PEER", &peer),
            ("TOKEN", "another"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let variables: Vec<(&str, &str)> =
            variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        server.run_document("restore", dir.path(), &variables);
        server.restored(&data, "another");
        server.spawn();
    }
    write(&store, "nodes/c").await;
    let found = store.read(&Range::watched()).await.unwrap();
    assert_eq!(found.entries.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), ["nodes/a", "nodes/c"]);
}
