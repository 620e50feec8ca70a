//! `twillctl node`: list, show, drain and delete.

use std::time::Duration;

use twill_cluster::inquiry::client::other_answer;
use twill_cluster::inquiry::{Ask, Reply};
use twill_cluster::removal::Found;
use twill_cluster::store::{Range, Store};
use twill_cluster::{Census, View, key};
use twill_conf::NodeName;

use super::ipam::no_node;
use super::removal::remove;
use crate::access;
use crate::error::Error;
use crate::place::{PATIENCE, Place};
use crate::report::Report;
use crate::report::addresses::Sources;
use crate::report::node::{Deleted, Drained, NodeShown, Nodes};
use crate::report::problems::fault;
use crate::report::untold::Untold;

pub(super) async fn list(place: &Place) -> Result<Report, Error> {
    let sources = sources(access::census(&access::connect(place)?).await?);
    Ok(Report::Nodes(Nodes::new(&sources).expect("etcd was read")))
}

pub(super) async fn show(name: &NodeName, place: &Place) -> Result<Report, Error> {
    let census = access::census_of(&access::connect(place)?, name).await?;
    let key = key::node(name);
    if let Some(cause) = census.view.faults.get(&key) {
        let (remedy, cause) = (fault(&key, cause).fix, cause.clone());
        return Err(Error::Unreadable { key: format!("{}{key}", place.prefix), cause, remedy });
    }
    let sources = sources(census);
    NodeShown::new(&sources, name).map(|shown| Report::Node(Box::new(shown))).ok_or_else(|| no_node(name))
}

/// By etcd alone.
fn sources(census: Census) -> Sources {
    Sources { census: Some(census), store: None, boot: Duration::ZERO, now: access::now() }
}

pub(super) async fn drain(name: &NodeName, on: bool, place: &Place) -> Result<Report, Error> {
    let store = access::connect(place)?;
    let mut view = View::default();
    let record = store.read(&Range::key(&key::node(name))).await.map_err(Error::Unchanged)?;
    if record.entries.is_empty() {
        return Err(no_node(name));
    }
    view.replace(&record);
    let was = view.nodes.get(name).is_some_and(|record| record.value.drain.is_some());
    let not_done = |cause| Error::NotDrained { node: name.clone(), on, cause };
    match access::client(place.patience(PATIENCE))?.ask_one(&store, name, Ask::Drain { on }).await.map_err(not_done)? {
        Reply::Drain { on: is } if is == on => {}
        _ => return Err(not_done(other_answer())),
    }
    // It is done, whatever can be read of the node.
    let (census, unknown) = match access::census_of(&store, name).await {
        Ok(census) => (Some(census), Vec::new()),
        Err(error) => (None, vec![Untold::of(&format!("what node {name} has in use"), &error)]),
    };
    let use_of = census.map(sources);
    Ok(Report::Drained(Drained::new(use_of.as_ref(), name, (was, on), unknown)))
}

pub(super) async fn delete(name: &NodeName, machine_is_off: bool, place: &Place) -> Result<Report, Error> {
    let store = access::connect(place)?;
    let found = Found::read(&store, name, access::now()).await.map_err(Error::Unchanged)?;
    let blocks = remove(&store, &found, machine_is_off).await?.blocks;
    Ok(Report::Deleted(Deleted { node: name.clone(), blocks }))
}
