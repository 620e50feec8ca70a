//! `twillctl node`: list, show, drain and delete.

use std::time::Duration;

use twill_cluster::inquiry::client::other_answer;
use twill_cluster::inquiry::{Ask, Reply};
use twill_cluster::removal::Found;
use twill_cluster::store::Store;
use twill_cluster::txn::Outcome;
use twill_conf::NodeName;

use super::ipam::no_node;
use crate::access;
use crate::error::Error;
use crate::place::Place;
use crate::report::Report;
use crate::report::addresses::Sources;
use crate::report::node::{Deleted, Drained, NodeShown, Nodes};

pub(super) async fn list(place: &Place) -> Result<Report, Error> {
    let sources = sources(&access::connect(place)?).await?;
    Ok(Report::Nodes(Nodes::new(&sources).expect("etcd was read")))
}

pub(super) async fn show(name: &NodeName, place: &Place) -> Result<Report, Error> {
    let sources = sources(&access::connect(place)?).await?;
    NodeShown::new(&sources, name).map(|shown| Report::Node(Box::new(shown))).ok_or_else(|| no_node(name))
}

/// By etcd alone.
async fn sources(store: &impl Store) -> Result<Sources, Error> {
    let census = Some(access::census(store).await?);
    Ok(Sources { census, store: None, boot: Duration::ZERO, now: access::now() })
}

pub(super) async fn drain(name: &NodeName, on: bool, patience: Duration, place: &Place) -> Result<Report, Error> {
    let store = access::connect(place)?;
    if !sources(&store).await?.census.is_some_and(|census| census.view.nodes.contains_key(name)) {
        return Err(no_node(name));
    }
    let answer = access::client(patience)?.ask_one(&store, name, Ask::Drain { on }).await.map_err(Error::Etcd)?;
    let not_done = |cause| Error::NotAnswered { node: name.clone(), cause };
    match answer.map_err(not_done)? {
        Reply::Drain { on: is } if is == on => Ok(Report::Drained(Drained::new(&sources(&store).await?, name, on))),
        _ => Err(not_done(other_answer())),
    }
}

pub(super) async fn delete(name: &NodeName, machine_is_off: bool, place: &Place) -> Result<Report, Error> {
    remove(&access::connect(place)?, name, machine_is_off).await.map(Report::Deleted)
}

async fn remove(store: &impl Store, name: &NodeName, machine_is_off: bool) -> Result<Deleted, Error> {
    let found = Found::read(store, name, access::now()).await.map_err(Error::Etcd)?;
    let mut deleted = Deleted { node: name.clone(), blocks: found.blocks.len() };
    for txn in found.plan(machine_is_off).map_err(Error::NotDeleted)? {
        match store.commit(&txn).await.map_err(Error::Unsure)? {
            Outcome::Done(_) => {}
            Outcome::Refused(_) => return Err(Error::NodeChanged { node: name.clone() }),
        }
    }
    // What it claimed between the reading and the deletion: its epoch is over now, so nothing more can come.
    let rest = Found::read(store, name, access::now()).await.map_err(Error::Etcd)?;
    deleted.blocks += rest.blocks.len();
    for txn in rest.rest().map_err(Error::NotDeleted)? {
        store.commit(&txn).await.map_err(Error::Unsure)?;
    }
    Ok(deleted)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use twill_cluster::simulated::SimulatedStore;
    use twill_cluster::store::Range;
    use twill_cluster::txn::{Op, Txn};

    use super::*;

    #[tokio::test]
    async fn a_node_with_blocks_is_deleted_only_if_its_machine_is_said_to_be_off() {
        let store = SimulatedStore::new();
        let put = |key: &str, value: serde_json::Value| Op::Put {
            key: key.into(),
            value: value.to_string().into_bytes(),
            lease: None,
        };
        let then = vec![
            put("nodes/n1", json!({ "machine_id": "m", "nonce": "x" })),
            put("blocks/4/0a2a0000-26", json!({ "node": "n1", "machine_id": "m", "epoch": 2, "nonce": "x" })),
            put("addresses/n1/4/0a2a0000-26", json!({ "epoch": 2, "nonce": "x" })),
        ];
        store.apply(&Txn { when: Vec::new(), then });
        let name = "n1".parse().unwrap();
        let refused = remove(&store, &name, false).await.unwrap_err().to_string();
        assert!(refused.contains("--machine-is-off") && refused.contains("1 blocks"), "{refused}");
        let deleted = remove(&store, &name, true).await.unwrap();
        assert_eq!(deleted.blocks, 1);
        assert_eq!(store.look(&Range { start: String::new(), end: "~".into() }).entries, []);
        assert!(remove(&store, &name, true).await.unwrap_err().to_string().contains("no node n1"));
    }
}
