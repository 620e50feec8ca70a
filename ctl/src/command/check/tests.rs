//! Mending over the simulated store: what was fixed and what was left are told apart.

use std::collections::BTreeMap;

use serde_json::json;
use twill_cluster::inquiry::desk::Desk;
use twill_cluster::inquiry::{AnswerRecord, answer_key, read_ask, requests_to};
use twill_cluster::simulated::{Fate, SimulatedStore};
use twill_cluster::txn::{Op, Txn};
use twill_ipam::BootTime;

use super::*;
use twill_conf::NodeName;

fn name(name: &str) -> NodeName {
    name.parse().unwrap()
}

fn put(store: &SimulatedStore, key: String, value: serde_json::Value) {
    let put = Op::Put { key, value: value.to_string().into_bytes(), lease: None };
    store.apply(&Txn { when: Vec::new(), then: vec![put] });
}

/// n1 says what it mended and what it left; to anything else it has no address in use.
fn serve(store: &SimulatedStore) {
    let (store, me) = (store.clone(), name("n1"));
    put(&store, "alive/n1".into(), json!({}));
    tokio::spawn(async move {
        let mut desk = Desk::new(&me);
        let mut events = store.watch(requests_to(&me));
        while let Some(event) = events.recv().await {
            desk.hear(event);
            while let Some(letter) = desk.next(BootTime::default()) {
                let reply = match read_ask(&letter.value).unwrap().ask {
                    Ask::Mend { rows, links } => Reply::Mend {
                        done: rows.iter().map(|row| format!("row {row}: freed")).collect(),
                        left: links.iter().map(|link| format!("interface {link}: it is gone")).collect(),
                    },
                    _ => Reply::Addresses(Default::default()),
                };
                let answer = AnswerRecord { version: "1".into(), reply };
                put(&store, answer_key(&me, &letter.id), serde_json::to_value(answer).unwrap());
            }
        }
    });
}

fn client() -> Client {
    Client::new("00ff".into(), "a test".into(), Duration::from_millis(300))
}

async fn mended(store: &SimulatedStore, remedies: &Remedies) -> Mending {
    let evidence = gather(store, &mut client()).await.unwrap();
    mend(store, &mut client(), &evidence, remedies).await
}

fn own(name: &str, rows: std::ops::Range<i64>, links: &[&str]) -> BTreeMap<NodeName, Own> {
    let own = Own { rows: rows.collect(), links: links.iter().map(|link| (*link).to_owned()).collect() };
    [(name.parse().unwrap(), own)].into()
}

#[tokio::test]
async fn what_was_fixed_and_what_was_left_are_told_apart() {
    let store = SimulatedStore::new();
    serve(&store);
    put(&store, "alive/n2".into(), json!({}));
    let mut own = own("n1", 0..1, &["tw1"]);
    own.insert(name("n2"), Own::default());
    let mending = mended(&store, &Remedies { own, ..Remedies::default() }).await;
    assert_eq!(mending.fixed, ["n1: row 0: freed"]);
    assert_eq!(mending.left, ["n1: interface tw1: it is gone", "n2: no answer within 0.3 s"]);
}

#[tokio::test]
async fn more_than_one_request_takes_is_left_for_another_run() {
    let store = SimulatedStore::new();
    serve(&store);
    let mending = mended(&store, &Remedies { own: own("n1", 0..300, &[]), ..Remedies::default() }).await;
    assert_eq!(mending.fixed.len(), MOST_MENDED);
    assert_eq!(mending.left, ["n1: 44 more have to be mended: run the same command again"]);
}

#[tokio::test]
async fn a_ghost_that_cannot_be_deleted_keeps_nobody_else_from_being_mended() {
    let store = SimulatedStore::new();
    serve(&store);
    for (number, node) in ["gone", "lost"].into_iter().enumerate() {
        let block = json!({ "node": node, "machine_id": "m", "epoch": 2, "nonce": "x" });
        put(&store, format!("blocks/4/0a2a00{number}0-28"), block);
    }
    let ghosts = [name("gone"), name("lost")].into();
    let evidence = gather(&store, &mut client()).await.unwrap();
    store.destine([Fate::Unavailable]);
    let mending = mend(&store, &mut client(), &evidence, &Remedies { ghosts, own: own("n1", 0..1, &[]) }).await;
    assert_eq!(mending.fixed, ["node lost: deleted 1 blocks and 0 mirrors that were left of it", "n1: row 0: freed"]);
    assert!(
        matches!(mending.left.as_slice(), [left] if left.starts_with("node gone: etcd at simulated")),
        "{mending:?}"
    );
}

#[tokio::test]
async fn nodes_that_are_known_to_be_dead_are_not_waited_for_and_nothing_is_left_out_of_what_is_told() {
    let store = SimulatedStore::new();
    serve(&store);
    for node in ["n1", "n2"] {
        put(&store, format!("nodes/{node}"), json!({ "machine_id": node, "nonce": "x" }));
    }
    put(&store, "addresses/gone/4/0a2a0000-26".into(), json!("rubbish"));
    let mut patient = Client::new("00ff".into(), "a test".into(), Duration::from_secs(1_000_000));
    let evidence = gather(&store, &mut patient).await.unwrap();
    let (check, remedies) = judge(&evidence);
    let [silent] = check.unknown.as_slice() else { panic!("{:?}", check.unknown) };
    assert_eq!(silent.what, "what node n2 has in use: its daemon has not been heard of for a minute");
    let mut mending = mend(&store, &mut patient, &evidence, &remedies).await;
    mending.leave(&check.problems);
    let wanted = [
        "configuration: make one with 'twillctl config init FILE', then 'twillctl config apply FILE'",
        "addresses/gone/4/0a2a0000-26: gone has no record: if its machine is off or gone, 'twillctl node delete gone' deletes it",
    ];
    assert_eq!((mending.fixed, mending.left), (Vec::<String>::new(), wanted.map(str::to_owned).into()));
    assert_eq!(remove(&store, &evidence.census.found(&name("gone"), 0), false).await.unwrap().mirrors, 1, "so it does");
}
