//! `twillctl why`: reads, asks the nodes, and has it judged.

use std::net::IpAddr;
use std::time::Duration;

use twill_cluster::inquiry::attempts::Sought;
use twill_cluster::inquiry::client::{Answers, Silence};
use twill_cluster::inquiry::rival_key;
use twill_cluster::inquiry::state::{RivalRecord, State};
use twill_cluster::removal::Found;
use twill_cluster::store::{Range, Store};
use twill_conf::NodeName;

use super::ipam::{self, no_node};
use crate::access;
use crate::arguments::{ShowFlags, WhyCommand};
use crate::error::Error;
use crate::place::{PATIENCE, Place};
use crate::report::Report;
use crate::report::addresses::Sources;
use crate::report::why::ip::WhyIp;
use crate::report::why::node::{Evidence, WhyNode};
use crate::report::why::pod::WhyPod;

/// So many other nodes are asked what they find of one, of those that have told that something is wrong.
const MOST_OTHERS: usize = 128;

pub(super) async fn why(what: &WhyCommand, place: &Place) -> Result<Report, Error> {
    match what {
        WhyCommand::Pod { pod, node } => self::pod(pod, node, place).await,
        WhyCommand::Ip { address } => ip(*address, place).await,
        WhyCommand::Node { name } => self::node(name, place).await,
    }
}

async fn pod(pod: &str, nodes: &[NodeName], place: &Place) -> Result<Report, Error> {
    let store = access::connect(place)?;
    let census = access::census(&store).await?;
    if let Some(stranger) = nodes.iter().find(|name| !census.view.nodes.contains_key(*name)) {
        return Err(no_node(stranger));
    }
    let asked: Vec<NodeName> = match nodes {
        [] => census.view.nodes.keys().cloned().collect(),
        some => some.to_vec(),
    };
    let sought = Sought { pod: Some(pod.to_owned()), ..Sought::default() };
    let answers = access::client(place.patience(PATIENCE))?.histories(&store, asked, &sought).await;
    let sources = Sources { census: Some(census), store: None, boot: Duration::ZERO, now: access::now() };
    Ok(Report::WhyPod(WhyPod::new(pod, &sources, answers, nodes.is_empty())))
}

async fn ip(ip: IpAddr, place: &Place) -> Result<Report, Error> {
    let flags = ShowFlags { ip: Some(ip), ..ShowFlags::default() };
    let (mut sources, unknown) = ipam::sources(&flags, place).await?;
    if let Some(census) = &mut sources.census {
        let alive = access::alive(&access::connect(place)?).await?;
        census.alive.extend(alive.into_keys());
    }
    Ok(Report::WhyIp(Box::new(WhyIp::new(ip, &sources, unknown))))
}

async fn node(name: &NodeName, place: &Place) -> Result<Report, Error> {
    let store = access::connect(place)?;
    let census = access::census_of(&store, name).await?;
    let found = Found::read(&store, name, access::now()).await.map_err(Error::Etcd)?;
    let told = access::alive(&store).await?;
    let others = told.into_iter().filter(|(other, problems)| other != name && !problems.is_empty());
    let asked = others.map(|(other, _)| other).take(MOST_OTHERS).chain([name.clone()]);
    let mut answers: Answers<State> = access::client(place.patience(PATIENCE))?.states(&store, asked).await;
    let answer = answers.remove(name).unwrap_or(Err(Silence::Timeout(place.patience(PATIENCE))));
    let rival = rival(&store, name).await?;
    let sources = Sources { census: Some(census), store: None, boot: Duration::ZERO, now: access::now() };
    let evidence = Evidence { sources: &sources, found: &found, answer, rival, others: answers };
    WhyNode::new(name, evidence).map(|why| Report::WhyNode(Box::new(why))).ok_or_else(|| no_node(name))
}

/// What a second machine tells that goes by the name.
async fn rival(store: &impl Store, name: &NodeName) -> Result<Option<RivalRecord>, Error> {
    let found = store.read(&Range::key(&rival_key(name))).await.map_err(Error::Etcd)?;
    Ok(found.entries.first().and_then(|entry| RivalRecord::read(&entry.value)))
}
