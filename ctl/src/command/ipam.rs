//! `twillctl ipam`.

use twill_ipam::store::Role;
use twill_ipam::{BootTime, Store};

use crate::access;
use crate::error::Error;
use crate::place::Place;
use crate::report::Report;
use crate::report::attempts::Attempts;
use crate::report::ipam::{Ipam, LocalState};

/// The cluster's half comes from etcd, this node's from its store. Where one cannot be read the other is shown all the
/// same, with a word about it.
pub(super) async fn show(place: &Place) -> Result<Report, Error> {
    let mut unknown = Vec::new();
    let local = match local(place) {
        Ok(local) => local,
        Err(cause) => {
            unknown.push(format!("the store of this node cannot be read: {cause}"));
            None
        }
    };
    let picture = if place.etcd.is_none() && local.is_some() {
        None
    } else {
        match access::picture(&access::connect(place)?).await {
            Ok(picture) => Some(picture),
            Err(cause) if local.is_some() => {
                unknown.push(cause.to_string());
                None
            }
            Err(cause) => return Err(cause),
        }
    };
    Ok(Report::Ipam(Ipam::new(picture.as_ref(), local, unknown)))
}

/// What failed on this node; etcd is not asked.
pub(super) fn attempts(place: &Place) -> Result<Report, Error> {
    let found = store(place).and_then(|store| store.map(|store| store.attempts()).transpose());
    let found = found.map_err(|cause| Error::NodeStore { run_dir: place.run_dir.clone(), cause })?;
    Ok(Report::Attempts(Attempts::new(found, BootTime::now())))
}

/// What this node's store holds; `None` where this machine is no node, or was none since it booted.
fn local(place: &Place) -> Result<Option<LocalState>, twill_ipam::Error> {
    let Some(store) = store(place)? else { return Ok(None) };
    let now = BootTime::now();
    let (node, blocks, attachments) = (store.node()?, store.blocks(now)?, store.attachments()?);
    Ok(Some(LocalState { now, node, blocks, attachments }))
}

fn store(place: &Place) -> Result<Option<Store>, twill_ipam::Error> {
    match Store::open(&place.run_dir, Role::Reader) {
        Err(error) if error.is_absence() => Ok(None),
        other => other.map(Some),
    }
}
