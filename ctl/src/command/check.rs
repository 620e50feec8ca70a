//! `twillctl ipam check`: reads, asks, has what is wrong judged, and mends what may be mended.

use std::time::Duration;

use twill_cluster::inquiry::client::Client;
use twill_cluster::inquiry::{Ask, MOST_MENDED, Reply};
use twill_cluster::store::Store;
use twill_cluster::txn::Outcome;
use twill_conf::NodeName;

use crate::access;
use crate::error::Error;
use crate::place::Place;
use crate::report::Report;
use crate::report::check::{Check, Evidence, Remedies, judge};

pub(super) async fn check(fix: bool, patience: Duration, place: &Place) -> Result<Report, Error> {
    let store = access::connect(place)?;
    let mut client = access::client(patience)?;
    let evidence = gather(&store, &mut client).await?;
    let (check, remedies) = judge(&evidence);
    if !fix {
        return Ok(Report::Check(check));
    }
    let fixed = mend(&store, &mut client, &evidence, &remedies).await?;
    let check = if remedies == Remedies::default() { check } else { again(&store, &mut client).await? };
    Ok(Report::Check(Check { fixed: Some(fixed), ..check }))
}

async fn gather(store: &impl Store, client: &mut Client) -> Result<Evidence, Error> {
    let census = access::census(store).await?;
    let nodes: Vec<NodeName> = census.view.nodes.keys().cloned().collect();
    let live = client.addresses(store, &nodes).await.map_err(Error::Etcd)?;
    let after = access::picture(store).await?.view;
    Ok(Evidence { census, live, after, now: access::now() })
}

/// How often a second look is taken: the nodes write their mirrors at their own pace.
const LOOKS: u32 = 10;
const BETWEEN: Duration = Duration::from_millis(500);

/// What is left after mending. What mends by and by gets a few seconds.
async fn again(store: &impl Store, client: &mut Client) -> Result<Check, Error> {
    let mut looks = LOOKS;
    loop {
        let (check, remedies) = judge(&gather(store, client).await?);
        looks -= 1;
        if looks == 0 || remedies == Remedies::default() || !check.unknown.is_empty() {
            return Ok(check);
        }
        tokio::time::sleep(BETWEEN).await;
    }
}

/// What was done, a sentence each; what was not, and why, too.
async fn mend(
    store: &impl Store,
    client: &mut Client,
    evidence: &Evidence,
    remedies: &Remedies,
) -> Result<Vec<String>, Error> {
    let mut fixed = Vec::new();
    for ghost in &remedies.ghosts {
        fixed.push(exorcise(store, evidence, ghost).await?);
    }
    let asks = remedies.own.iter().map(|(node, own)| {
        let rows = own.rows.iter().copied().take(MOST_MENDED).collect();
        (node.clone(), Ask::Mend { rows, links: own.links.iter().take(MOST_MENDED).cloned().collect() })
    });
    for (node, reply) in client.ask(store, asks.collect()).await.map_err(Error::Etcd)? {
        match reply {
            Ok(Reply::Mend { done, left }) => {
                fixed.extend(done.into_iter().map(|what| format!("{node}: {what}")));
                fixed.extend(left.into_iter().map(|what| format!("{node}: not mended: {what}")));
            }
            Ok(_) => fixed.push(format!("{node}: not mended: it answers another question")),
            Err(silence) => fixed.push(format!("{node}: not mended: {silence}")),
        }
    }
    Ok(fixed)
}

/// Deletes what is left of a node that does not exist, by compares of all that was read.
async fn exorcise(store: &impl Store, evidence: &Evidence, ghost: &NodeName) -> Result<String, Error> {
    let found = evidence.census.found(ghost, evidence.now);
    for txn in found.plan(true).map_err(Error::NotDeleted)? {
        match store.commit(&txn).await.map_err(Error::Unsure)? {
            Outcome::Done(_) => {}
            Outcome::Refused(_) => return Ok(format!("node {ghost}: left alone, since it changed meanwhile")),
        }
    }
    let (blocks, mirrors) = (found.blocks.len(), found.mirror.len());
    Ok(format!("node {ghost}: deleted {blocks} blocks and {mirrors} mirrors that were left of it"))
}
