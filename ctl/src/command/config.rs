//! `twillctl config`: init, validate, apply, show.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::path::Path;

use twill_cluster::census::Census;
use twill_cluster::store::{Store, StoreError};
use twill_cluster::txn::Outcome;
use twill_cluster::{View, reconfigure};
use twill_conf::NodeName;
use twill_conf::cluster::ClusterConf;
use twill_fabric::switch::{Hazard, hazards};

use crate::access::{self, Picture};
use crate::error::Error;
use crate::place::Place;
use crate::report::Report;
use crate::report::config::{Applied, Made, Peril, Shown, Valid, changes, notes};
use crate::report::problems::fault;

/// How often a transaction is planned anew because a block was claimed in between.
const ATTEMPTS: u32 = 5;
/// Of so many nodes the pods are named.
const MOST_ASKED: usize = 5;

pub(super) fn init(file: Option<&Path>) -> Result<Report, Error> {
    if let Some(path) = file {
        let error = |cause| Error::File { what: "make", path: path.to_owned(), cause };
        let mut file = std::fs::File::create_new(path).map_err(error)?;
        file.write_all(ClusterConf::SAMPLE.as_bytes()).map_err(error)?;
    }
    Ok(Report::Made(Made { file: file.map(Path::to_owned), toml: ClusterConf::SAMPLE.to_owned() }))
}

pub(super) fn validate(file: &Path) -> Result<Report, Error> {
    let (document, conf) = read(file)?;
    Ok(Report::Valid(Valid::new(document, &conf)))
}

pub(super) async fn show(place: &Place) -> Result<Report, Error> {
    let picture = access::picture(&access::connect(place)?).await?;
    let key = format!("{}{}", place.prefix, twill_cluster::key::CONFIG);
    let Some(entry) = picture.config else { return Err(Error::NoConfiguration { key }) };
    match ClusterConf::from_json(&entry.value) {
        Ok(config) => Ok(Report::Shown(Shown { revision: entry.modified, config })),
        Err(cause) => {
            let remedy = fault(twill_cluster::key::CONFIG, "").fix;
            Err(Error::Unreadable { key, cause: cause.to_string(), remedy })
        }
    }
}

pub(super) async fn apply(file: &Path, force: bool, place: &Place) -> Result<Report, Error> {
    let (_, conf) = read(file)?;
    replace(&access::connect(place)?, &conf, force).await.map(Report::Applied)
}

/// Puts `new` in place of what is there, if it may follow, and if nobody else does so at the same time. What living pods would
/// lose by it is refused, or with `force` told.
async fn replace(store: &impl Store, new: &ClusterConf, force: bool) -> Result<Applied, Error> {
    let picture = access::picture(store).await.map_err(unchanged)?;
    let read = picture.config_revision();
    let mut notes = notes(&picture.view, new);
    let changes = changes(picture.config.as_ref().map(|entry| entry.value.as_slice()), new);
    let previous = (read != 0).then_some(read);
    if changes.is_empty() {
        return Ok(Applied { revision: read, previous, changes, notes });
    }
    let perils = perils(store, &picture.view, new).await.map_err(unchanged)?;
    let mut view = picture.view;
    // What may not be at all is told first.
    reconfigure::plan(&view, read, new).map_err(Error::Refused)?;
    if !perils.is_empty() && !force {
        return Err(Error::Hazardous(perils));
    }
    notes.extend(perils.iter().map(Peril::note));
    for _ in 0..ATTEMPTS {
        let txn = reconfigure::plan(&view, read, new).map_err(Error::Refused)?;
        match store.commit(&txn).await {
            Ok(Outcome::Done(revision)) => return Ok(Applied { revision, previous, changes, notes }),
            Ok(Outcome::Refused(_)) => {}
            Err(error @ (StoreError::Unknown { .. } | StoreError::Full { .. })) => {
                let revision = after_lost_answer(store, read, new, error).await?;
                return Ok(Applied { revision, previous, changes, notes });
            }
            Err(error) => return Err(Error::Unchanged(error)),
        }
        let picture = access::picture(store).await.map_err(unchanged)?;
        if picture.config_revision() != read {
            return Err(Error::Conflict { read, now: picture.config_revision() });
        }
        view = picture.view;
    }
    Err(Error::Busy)
}

/// What living pods would lose by `new`, with their names.
async fn perils(store: &impl Store, view: &View, new: &ClusterConf) -> Result<Vec<Peril>, Error> {
    let mut perils = Vec::new();
    for hazard in hazards(view, new) {
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

/// Reads a file, or standard input for "-". The first of the pair is its name.
fn read(file: &Path) -> Result<(String, ClusterConf), Error> {
    let error = |cause| Error::File { what: "read", path: file.to_owned(), cause };
    let (document, text) = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text).map_err(error)?;
        ("standard input".to_owned(), text)
    } else {
        (file.display().to_string(), std::fs::read_to_string(file).map_err(error)?)
    };
    match ClusterConf::from_toml(&text) {
        Ok(conf) => Ok((document, conf)),
        Err(error) => Err(Error::Configuration { document, error }),
    }
}

#[cfg(test)]
mod tests;
