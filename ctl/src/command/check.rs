//! `twillctl ipam check`: reads, asks, has what is wrong judged, and mends what may be mended.

use std::time::Duration;

use twill_cluster::inquiry::client::{Client, other_answer};
use twill_cluster::inquiry::{Ask, MOST_MENDED, Reply};
use twill_cluster::store::Store;

use super::removal::remove;
use crate::access;
use crate::error::Error;
use crate::place::{PATIENCE, Place};
use crate::report::Report;
use crate::report::check::{Check, Evidence, Mending, Own, Remedies, judge};
use crate::report::untold::Untold;

pub(super) async fn check(fix: bool, place: &Place) -> Result<Report, Error> {
    let store = access::connect(place)?;
    let mut client = access::client(place.patience(PATIENCE))?;
    let evidence = gather(&store, &mut client).await?;
    let (check, remedies) = judge(&evidence);
    if !fix {
        return Ok(Report::Check(check));
    }
    let mut mending = mend(&store, &mut client, &evidence, &remedies).await;
    let check = match remedies == Remedies::default() {
        true => check,
        false => again(&store, &mut client).await.unwrap_or_else(|error| stale(check, &error)),
    };
    mending.leave(&check.problems);
    Ok(Report::Check(Check { mending: Some(mending), ..check }))
}

pub(super) async fn gather(store: &impl Store, client: &mut Client) -> Result<Evidence, Error> {
    let census = access::census(store).await?;
    let live = client.addresses(store, census.view.nodes.keys().cloned()).await;
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

/// What was found before mending, where it cannot be looked again: what was mended is told all the same.
fn stale(mut check: Check, error: &Error) -> Check {
    let about = "what is wrong after mending, the problems are those from before";
    check.unknown.push(Untold::of(about, error));
    check
}

/// Does what can be done. What fails leaves the rest as it was.
async fn mend(store: &impl Store, client: &mut Client, evidence: &Evidence, remedies: &Remedies) -> Mending {
    let mut mending = Mending::default();
    for ghost in &remedies.ghosts {
        match remove(store, &evidence.census.found(ghost, evidence.now), true).await {
            Ok(removed) => mending.fixed.push(format!(
                "node {ghost}: deleted {} blocks and {} mirrors that were left of it",
                removed.blocks, removed.mirrors
            )),
            Err(error) => mending.left.push(error.to_string()),
        }
    }
    let asks = remedies.own.iter().map(|(node, own)| (node.clone(), ask(own))).collect();
    for (node, reply) in client.ask(store, asks).await {
        let (done, left) = match reply {
            Ok(Reply::Mend { done, left }) => (done, left),
            Ok(_) => (Vec::new(), vec![other_answer().to_string()]),
            Err(silence) => (Vec::new(), vec![silence.to_string()]),
        };
        mending.fixed.extend(done.iter().map(|what| format!("{node}: {what}")));
        mending.left.extend(left.iter().map(|what| format!("{node}: {what}")));
    }
    mending.left.extend(remedies.own.iter().filter_map(|(node, own)| Some(format!("{node}: {}", too_many(own)?))));
    mending
}

/// As much as one request takes.
fn ask(own: &Own) -> Ask {
    Ask::Mend {
        rows: own.rows.iter().copied().take(MOST_MENDED).collect(),
        links: own.links.iter().take(MOST_MENDED).cloned().collect(),
    }
}

/// What did not fit into the request, if anything.
fn too_many(own: &Own) -> Option<String> {
    let more = own.rows.len().saturating_sub(MOST_MENDED) + own.links.len().saturating_sub(MOST_MENDED);
    (more > 0).then(|| format!("{more} more have to be mended: run the same command again"))
}

#[cfg(test)]
mod tests;
