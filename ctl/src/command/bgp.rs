//! `twillctl bgp`: asks the nodes' speakers, and hands on what they say.

use ipnetwork::IpNetwork;
use twill_cluster::inquiry::bgp::{Answer, Question};
use twill_cluster::inquiry::client::{Silence, Wanted, other_answer};
use twill_cluster::inquiry::{Ask, Reply};
use twill_cluster::key;
use twill_cluster::store::{Range, Store};
use twill_conf::NodeName;

use super::ipam::no_node;
use crate::access;
use crate::error::Error;
use crate::place::{PATIENCE, Place};
use crate::report::Report;
use crate::report::bgp::{Explained, Peers, Routes};

pub(super) async fn peers(node: Option<&NodeName>, only_down: bool, place: &Place) -> Result<Report, Error> {
    let store = access::connect(place)?;
    let mut client = access::client(place.patience(PATIENCE))?;
    let answers = match node {
        Some(node) => {
            known(&store, node).await?;
            let mut answers = client.bgp_peers(&store, [node.clone()]).await;
            // Who asks one node is told of that alone; of many, what some say is shown all the same.
            if let Some((node, Err(silence))) = answers.extract_if(.., |_, answer| answer.is_err()).next() {
                return Err(not_told(&node, silence));
            }
            answers
        }
        None => client.bgp_peers(&store, speakers(&store).await?).await,
    };
    Ok(Report::Peers(Peers::new(answers, only_down)))
}

pub(super) async fn routes(node: &NodeName, wanted: Wanted, place: &Place) -> Result<Report, Error> {
    let store = access::connect(place)?;
    known(&store, node).await?;
    match access::client(place.patience(PATIENCE))?.bgp_routes(&store, node, &wanted).await {
        Ok(routes) => {
            Ok(Report::Routes(Routes { node: node.clone(), inside: wanted.inside, peer: wanted.peer, routes }))
        }
        Err(silence) => Err(not_told(node, silence)),
    }
}

pub(super) async fn explain(prefix: IpNetwork, node: &NodeName, place: &Place) -> Result<Report, Error> {
    let store = access::connect(place)?;
    known(&store, node).await?;
    let ask = Ask::Bgp { question: Question::Explain { prefix } };
    match access::client(place.patience(PATIENCE))?.ask_one(&store, node, ask).await {
        Ok(Reply::Bgp { answer: Answer::Explained(explanation) }) => {
            Ok(Report::Explained(Explained { node: node.clone(), asked: prefix, explanation: *explanation }))
        }
        Ok(_) => Err(not_told(node, other_answer())),
        Err(silence) => Err(not_told(node, silence)),
    }
}

/// The nodes that are to speak BGP.
async fn speakers(store: &impl Store) -> Result<Vec<NodeName>, Error> {
    let view = access::picture(store).await?.view;
    match &view.config {
        Some(config) if config.value.bgp.is_none() => {
            let cause = "no node speaks BGP: the cluster's configuration has neither [bgp] nor [backend] type = \"bgp\" ('twillctl config show')";
            Err(Error::NotFound(cause.to_owned()))
        }
        _ => Ok(view.nodes.into_iter().map(|(name, _)| name).collect()),
    }
}

/// Whether there is such a node.
async fn known(store: &impl Store, node: &NodeName) -> Result<(), Error> {
    let record = store.read(&Range::key(&key::node(node))).await.map_err(Error::Etcd)?;
    if record.entries.is_empty() { Err(no_node(node)) } else { Ok(()) }
}

fn not_told(node: &NodeName, cause: Silence) -> Error {
    match cause {
        Silence::Absent(what) => Error::NotFound(format!("node {node}: {what}")),
        cause => Error::NotTold { node: node.clone(), cause },
    }
}
