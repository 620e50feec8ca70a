//! `twillctl status`: what etcd has, and what the daemons say of themselves.

mod follow;

use twill_cluster::EtcdStore;
use twill_cluster::inquiry::client::Client;
use twill_cluster::store::Store;
use twill_conf::NodeName;
use twill_ipam::BootTime;

use super::ipam::{inventory, no_node, store};
use crate::access;
use crate::arguments::{Output, StatusFlags};
use crate::error::Error;
use crate::place::{PATIENCE, Place};
use crate::report::Report;
use crate::report::status::{Alone, Local, Status};
use crate::report::untold::Untold;

pub(super) async fn status(flags: &StatusFlags, output: Output, place: &Place) -> Result<Report, Error> {
    let looked = match Looker::new(flags, place) {
        Ok(mut looker) => match (flags.wait, flags.watch) {
            (Some(patience), _) => follow::wait(&mut looker, patience).await,
            (None, true) => return follow::watch(&mut looker, output, place).await,
            (None, false) => looker.look().await,
        },
        Err(error) => Err(error),
    };
    match looked {
        Ok(status) => Ok(Report::Status(status)),
        Err(error) => alone(place, error, output).map(Report::LocalStatus),
    }
}

/// Who looks, again and again if need be.
struct Looker {
    store: EtcdStore,
    client: Client,
    nodes: Vec<NodeName>,
}

impl Looker {
    fn new(flags: &StatusFlags, place: &Place) -> Result<Self, Error> {
        let (store, client) = (access::connect(place)?, access::client(place.patience(PATIENCE))?);
        let mut nodes = flags.node.clone();
        nodes.sort();
        nodes.dedup();
        Ok(Self { store, client, nodes })
    }

    async fn look(&mut self) -> Result<Status, Error> {
        look(&self.store, &mut self.client, &self.nodes).await
    }
}

async fn look(store: &impl Store, client: &mut Client, nodes: &[NodeName]) -> Result<Status, Error> {
    // Read before anybody is asked: what is newer than an answer is not held against who gave it.
    let picture = access::picture(store).await?;
    if let Some(stranger) = nodes.iter().find(|name| !picture.view.nodes.contains_key(*name)) {
        return Err(no_node(stranger));
    }
    let asked: Vec<NodeName> = match nodes {
        [] => picture.view.nodes.keys().cloned().collect(),
        some => some.to_vec(),
    };
    let answers = client.states(store, asked).await;
    let alive = access::alive(store).await?;
    Ok(match nodes {
        [] => Status::new(&picture, &alive, answers),
        some => Status::of(&picture, &alive, answers, some).map_err(no_node)?,
    })
}

/// What is said where etcd cannot be asked: what this machine knows by itself, if it is a node. Where it is none there is nothing
/// to show, but a program that reads JSON finds the same keys all the same.
fn alone(place: &Place, error: Error, output: Output) -> Result<Box<Alone>, Error> {
    if !matches!(error, Error::Etcd(_)) {
        return Err(error);
    }
    match (local(place), output) {
        (None, Output::Text) => Err(error),
        (local, _) => Ok(Box::new(Alone::new(Untold::of("", &error), local))),
    }
}

/// What this node's store tells; `None` where this machine is no node, or the store cannot be read.
fn local(place: &Place) -> Option<Local> {
    let failures = store(place).ok()??.attempts().ok()?;
    let inventory = inventory(place, BootTime::now()).ok()??;
    Some(Local::new(inventory, failures.len()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use twill_cluster::store::StoreError;

    use super::*;
    use crate::print;

    fn nowhere() -> (tempfile::TempDir, Place) {
        let directory = tempfile::tempdir().unwrap();
        let run_dir = directory.path().to_owned();
        let place = Place { etcd: None, prefix: "/twill/".to_owned(), run_dir, timeout: None };
        (directory, place)
    }

    fn away() -> Error {
        Error::Etcd(StoreError::Unavailable { endpoints: "here".to_owned(), cause: "nobody answers".to_owned() })
    }

    #[test]
    fn a_machine_that_is_no_node_gives_an_error_to_people_and_the_same_keys_to_programs() {
        let (_directory, place) = nowhere();
        assert!(matches!(alone(&place, away(), Output::Text), Err(Error::Etcd(_))));
        let report = Report::LocalStatus(alone(&place, away(), Output::Json).unwrap());
        let said: Value = serde_json::from_str(&print::render(&report, Output::Json)).unwrap();
        let unknown = json!([Untold::of("", &away()).to_string()]);
        let null = Value::Null;
        for key in ["revision", "config", "nodes", "pools", "problems", "notes", "local"] {
            assert_eq!(said.get(key), Some(&null), "{key}: {said:#}");
        }
        assert_eq!(said["unknown"], unknown);
    }

    #[test]
    fn what_is_not_etcds_is_no_status() {
        let (_directory, place) = nowhere();
        let stranger = no_node(&"n9".parse().unwrap());
        assert!(matches!(alone(&place, stranger, Output::Json), Err(Error::NotFound(_))));
    }
}
