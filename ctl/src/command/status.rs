//! `twillctl status`: what etcd has, and what the daemons say of themselves.

mod follow;

use twill_cluster::EtcdStore;
use twill_cluster::inquiry::client::Client;
use twill_cluster::store::Store;
use twill_conf::NodeName;

use super::ipam::{inventory, no_node, store};
use crate::access;
use crate::arguments::{Output, StatusFlags};
use crate::error::Error;
use crate::place::Place;
use crate::report::Report;
use crate::report::status::{Alone, Local, Status};
use twill_ipam::BootTime;

pub(super) async fn status(flags: &StatusFlags, output: Output, place: &Place) -> Result<Report, Error> {
    let looked = match Looker::new(flags, place) {
        Ok(mut looker) => match (flags.wait, flags.watch) {
            (Some(patience), _) => follow::wait(&mut looker, patience).await,
            (None, true) => return follow::watch(&mut looker, output).await,
            (None, false) => looker.look().await,
        },
        Err(error) => Err(error),
    };
    match looked {
        Ok(status) => Ok(Report::Status(status)),
        Err(error) => alone(place, error).map(|alone| Report::LocalStatus(Box::new(alone))),
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
        let (store, client) = (access::connect(place)?, access::client(flags.patience.time())?);
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

/// What this machine knows by itself where etcd cannot be asked, if it is a node; else why not.
fn alone(place: &Place, error: Error) -> Result<Alone, Error> {
    if !matches!(error, Error::Etcd(_)) {
        return Err(error);
    }
    let read = || {
        let failures = store(place)?.map(|store| store.attempts()).transpose()?;
        let inventory = inventory(place, BootTime::now())?;
        Ok::<_, twill_ipam::Error>(inventory.zip(failures))
    };
    match read() {
        Ok(Some((inventory, failures))) => {
            Ok(Alone::new(error.to_string(), Some(Local::new(inventory, failures.len()))))
        }
        Ok(None) | Err(_) => Err(error),
    }
}
