//! What becomes of the cluster by another configuration: found out for those who ask, and done for those who apply.
//!
//! Both look by [`Prospect::look`], so a comparison, a dry run and an application give the same reasons.

use std::collections::{BTreeMap, BTreeSet};

use twill_cluster::census::Census;
use twill_cluster::reconfigure::{self, Refusal};
use twill_cluster::store::{Store, StoreError};
use twill_cluster::txn::{Outcome, Txn};
use twill_conf::NodeName;
use twill_conf::cluster::ClusterConf;
use twill_fabric::switch::{Hazard, hazards};

use crate::access::{self, Picture};
use crate::error::{Error, refused};
use crate::report::config::{Applied, Change, Outlook, Peril, Would, changes, concerned, notes};
use crate::report::problems::Problem;

/// How often a transaction is planned anew because a block was claimed in between.
pub(super) const ATTEMPTS: u32 = 5;
/// Of so many nodes the pods are named.
const MOST_ASKED: usize = 5;

/// How a configuration is applied.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::command) struct How {
    /// Also where living pods lose packets by it.
    pub(in crate::command) force: bool,
    /// Only in place of the one at this revision; 0: of none.
    pub(in crate::command) expected: Option<i64>,
}

/// What a configuration would bring about in the cluster as it was read.
#[derive(Debug)]
pub(super) struct Prospect {
    picture: Picture,
    changes: Vec<Change>,
    notes: Vec<Problem>,
    /// What living pods would lose.
    perils: Vec<Peril>,
    /// The transaction that writes it, or what stands against it.
    plan: Result<Txn, Vec<Refusal>>,
}

impl Prospect {
    /// Reads the cluster, and judges `new` by it.
    pub(super) async fn look(store: &impl Store, new: &ClusterConf) -> Result<Self, Error> {
        let picture = access::picture(store).await?;
        let changes = changes(picture.config.as_ref().map(|entry| entry.value.as_slice()), new);
        let notes = notes(&picture.view, new);
        let perils = if changes.is_empty() { Vec::new() } else { perils(store, &picture, new).await? };
        let plan = reconfigure::plan(&picture.view, picture.config_revision(), new);
        Ok(Self { picture, changes, notes, perils, plan })
    }

    /// Refuses where the configuration is not at the revision that is expected.
    pub(super) fn stands_at(&self, expected: Option<i64>) -> Result<(), Error> {
        let now = self.picture.config_revision();
        match expected {
            Some(expected) if expected != now => Err(Error::OtherRevision { expected, now }),
            _ => Ok(()),
        }
    }

    /// For those who only ask.
    pub(super) fn outlook(self, document: String, new: &ClusterConf, force: bool) -> Outlook {
        let nodes = if self.changes.is_empty() { BTreeSet::new() } else { concerned(&self.picture.view, new) };
        // What stands already is not written again, whatever stands against it.
        let refusals = self.plan.as_ref().err().filter(|_| !self.changes.is_empty());
        let refusals: Vec<String> = refusals.into_iter().flatten().map(refused).collect();
        let would = match () {
            () if self.changes.is_empty() => Would::Nothing,
            () if !refusals.is_empty() => Would::Refuse,
            () if !self.perils.is_empty() && !force => Would::RefuseWithoutForce,
            () => Would::Apply,
        };
        Outlook {
            document,
            revision: self.picture.config.as_ref().map(|entry| entry.modified),
            would,
            changes: self.changes,
            nodes: nodes.into_iter().collect(),
            of_nodes: self.picture.view.nodes.len(),
            refusals,
            perils: self.perils.iter().map(ToString::to_string).collect(),
            notes: self.notes,
        }
    }

    /// The transaction, unless something stands against it. What may not be at all is told before what `force` takes.
    fn admit(&self, force: bool) -> Result<Txn, Error> {
        let txn = self.plan.clone().map_err(Error::Refused)?;
        if self.perils.is_empty() || force { Ok(txn) } else { Err(Error::Hazardous(self.perils.clone())) }
    }

    fn applied(self, revision: i64) -> Applied {
        let previous = Some(self.picture.config_revision()).filter(|revision| *revision != 0);
        let mut notes = self.notes;
        notes.extend(self.perils.iter().map(Peril::note));
        Applied { revision, previous, changes: self.changes, notes }
    }
}

/// Puts `new` in place of what is there, if it may follow, and if nobody else does so at the same time. What living pods would
/// lose by it is refused, or with `force` told.
pub(super) async fn replace(store: &impl Store, new: &ClusterConf, how: How) -> Result<Applied, Error> {
    let mut prospect = Prospect::look(store, new).await.map_err(unchanged)?;
    let read = prospect.picture.config_revision();
    prospect.stands_at(how.expected)?;
    if prospect.changes.is_empty() {
        return Ok(prospect.applied(read));
    }
    for _ in 0..ATTEMPTS {
        match store.commit(&prospect.admit(how.force)?).await {
            Ok(Outcome::Done(revision)) => return Ok(prospect.applied(revision)),
            Ok(Outcome::Refused(_)) => {}
            Err(error @ (StoreError::Unknown { .. } | StoreError::Full { .. })) => {
                let revision = after_lost_answer(store, read, new, error).await?;
                return Ok(prospect.applied(revision));
            }
            Err(error) => return Err(Error::Unchanged(error)),
        }
        prospect = Prospect::look(store, new).await.map_err(unchanged)?;
        let now = prospect.picture.config_revision();
        if now != read {
            return Err(Error::Conflict { read, now });
        }
    }
    Err(Error::Busy)
}

/// What living pods would lose by `new`, with their names.
async fn perils(store: &impl Store, picture: &Picture, new: &ClusterConf) -> Result<Vec<Peril>, Error> {
    let mut perils = Vec::new();
    for hazard in hazards(&picture.view, new) {
        let pods = match &hazard {
            Hazard::Tall { node, .. } if perils.len() < MOST_ASKED => {
                let mut census = Census::default();
                census.look_at(store, node).await.map_err(Error::Etcd)?;
                pods_of(&census, node)
            }
            _ => Vec::new(),
        };
        perils.push(Peril { hazard, pods });
    }
    Ok(perils)
}

/// The pods that a node's mirrors know, by their names, or by their containers where the runtime told none.
fn pods_of(census: &Census, node: &NodeName) -> Vec<String> {
    let mirrors = census.mirrors.get(node).into_iter().flat_map(BTreeMap::values);
    let holders = mirrors.flat_map(|mirror| mirror.value.content.addresses.values());
    let pods: BTreeSet<&String> = holders
        .filter(|holder| holder.until.is_none())
        .filter_map(|h| h.pod.as_ref().or(h.container.as_ref()))
        .collect();
    pods.into_iter().cloned().collect()
}

/// An error of etcd while nothing was written.
fn unchanged(error: Error) -> Error {
    match error {
        Error::Etcd(cause) => Error::Unchanged(cause),
        other => other,
    }
}

/// Whether what was to be written stands there: then at which revision. It is of no importance who wrote it.
async fn after_lost_answer(store: &impl Store, read: i64, new: &ClusterConf, error: StoreError) -> Result<i64, Error> {
    let stands = |picture: &Picture| picture.view.config.as_ref().is_some_and(|config| config.value == *new);
    match access::picture(store).await {
        Ok(picture) if picture.config_revision() > read && stands(&picture) => Ok(picture.config_revision()),
        _ => Err(Error::Unclear(error)),
    }
}
