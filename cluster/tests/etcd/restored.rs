//! An etcd that is restored from a backup, with the same IDs: a watch finds out, also after it has been overtaken.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use twill_cluster::View;
use twill_cluster::etcd::EtcdStore;
use twill_cluster::store::{Event, Range, Store};
use twill_cluster::txn::{Op, Txn};
use twill_conf::NodeName;

use crate::server::Server;

async fn put(store: &EtcdStore, key: &str, nonce: &str) {
    let value = format!(r#"{{"machine_id":"m","nonce":"{nonce}"}}"#).into_bytes();
    let then = vec![Op::Put { key: key.into(), value, lease: None }];
    store.commit(&Txn { when: Vec::new(), then }).await.unwrap();
}

fn copy(from: &Path, to: &Path) {
    if to.exists() {
        std::fs::remove_dir_all(to).unwrap();
    }
    assert!(Command::new("cp").arg("-r").arg(from).arg(to).status().unwrap().success());
}

/// Follows until the view shows a node.
async fn follow_to(view: &mut View, events: &mut Receiver<Event>, node: &str) {
    let name: NodeName = node.parse().unwrap();
    while !view.nodes.contains_key(&name) {
        let event = tokio::time::timeout(Duration::from_secs(30), events.recv()).await.unwrap().unwrap();
        view.follow(&event);
    }
}

#[tokio::test]
async fn a_restored_etcd_is_found_out_though_it_has_overtaken_what_was_seen_and_one_that_went_on_is_not() {
    for restored in [true, false] {
        let Some(mut server) = Server::start().await else { return };
        let store = server.store();
        put(&store, "nodes/a", "1").await;
        let backup = tempfile::tempdir().unwrap();
        server.kill();
        copy(&server.data(), &backup.path().join("data"));
        server.run().await;
        let mut view = View::default();
        let mut events = store.watch(Range::watched());
        put(&store, "nodes/b", "2").await;
        follow_to(&mut view, &mut events, "b").await;
        assert_eq!(view.history, 0);
        server.kill();
        if restored {
            copy(&backup.path().join("data"), &server.data());
        }
        // On another port, where the watch does not look for it, it gets ahead of what was seen.
        let url = server.move_away();
        server.run().await;
        for n in 0..5 {
            put(&server.store(), "nodes/c", &n.to_string()).await;
        }
        server.kill();
        server.move_to(url);
        server.run().await;
        put(&store, "nodes/d", "3").await;
        follow_to(&mut view, &mut events, "d").await;
        assert_eq!((view.history, view.nodes.len()), if restored { (1, 3) } else { (0, 4) });
    }
}
