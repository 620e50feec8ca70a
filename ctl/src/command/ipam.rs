//! `twillctl ipam show` and `attempts`.

use twill_cluster::Census;
use twill_conf::NodeName;
use twill_ipam::store::{Inventory, Role};
use twill_ipam::{BootTime, Store};

use crate::access::{self, Picture};
use crate::arguments::ShowFlags;
use crate::error::Error;
use crate::place::Place;
use crate::report::Report;
use crate::report::addresses::{Addresses, Sources, narrowest};
use crate::report::attempts::Attempts;
use crate::report::ipam::{Ipam, LocalState};
use crate::report::untold::Untold;

/// The cluster's half comes from etcd, this node's from its store. Where one cannot be read the other is shown all the
/// same, with a word about it.
async fn both(flags: &ShowFlags, place: &Place) -> Result<(Cluster, Option<LocalState>, Vec<Untold>), Error> {
    let mut unknown = Vec::new();
    let local = match local(place) {
        Ok(local) => local,
        Err(cause) => {
            let what = format!("the store of this node cannot be read: {cause}");
            unknown.push(Untold::new(what, "run it as root, and look at the log of twilld on this machine"));
            None
        }
    };
    let cluster = match read(flags, place, local.is_some()).await {
        Ok(cluster) => cluster,
        Err(cause) if local.is_some() => {
            unknown.push(Untold::of("", &cause));
            Cluster::default()
        }
        Err(cause) => return Err(cause),
    };
    Ok((cluster, local, unknown))
}

pub(super) async fn show(flags: &ShowFlags, place: &Place) -> Result<Report, Error> {
    let (cluster, local, unknown) = both(flags, place).await?;
    if !flags.asks() {
        return Ok(Report::Ipam(Ipam::new(cluster.picture.as_ref(), local, unknown)));
    }
    find(flags, &of(cluster, local), unknown).map(Report::Addresses)
}

/// What is known of what the flags ask for, and what could not be looked at.
pub(super) async fn sources(flags: &ShowFlags, place: &Place) -> Result<(Sources, Vec<Untold>), Error> {
    let (cluster, local, unknown) = both(flags, place).await?;
    Ok((of(cluster, local), unknown))
}

fn of(cluster: Cluster, local: Option<LocalState>) -> Sources {
    let (now, boot) = (access::now(), local.as_ref().map(|local| local.now.0).unwrap_or_default());
    let boot = std::time::Duration::from_secs(now).saturating_sub(boot);
    Sources { census: cluster.census, store: local.map(|local| local.inventory), boot, now }
}

/// What etcd has: the overview needs no mirrors.
#[derive(Debug, Default)]
struct Cluster {
    picture: Option<Picture>,
    census: Option<Census>,
}

async fn read(flags: &ShowFlags, place: &Place, is_node: bool) -> Result<Cluster, Error> {
    if place.etcd.is_none() && is_node {
        return Ok(Cluster::default());
    }
    let store = access::connect(place)?;
    if flags.asks() {
        return Ok(Cluster { census: Some(census(flags, &store).await?), picture: None });
    }
    Ok(Cluster { picture: Some(access::picture(&store).await?), census: None })
}

/// No more mirrors than the answer needs.
async fn census(flags: &ShowFlags, store: &impl twill_cluster::Store) -> Result<Census, Error> {
    if let Some(name) = &flags.node {
        access::census_of(store, name).await
    } else if let Some(ip) = flags.ip {
        let mut census = access::watched(store).await?;
        if let Some(owner) = narrowest(&census.view.blocks, ip).map(|(_, record)| record.value.node.clone()) {
            census.look_at(store, &owner).await.map_err(Error::Etcd)?;
        }
        Ok(census)
    } else if flags.pools {
        access::watched(store).await
    } else {
        access::census(store).await
    }
}

fn find(flags: &ShowFlags, sources: &Sources, unknown: Vec<Untold>) -> Result<Addresses, Error> {
    if let Some(ip) = flags.ip {
        Ok(sources.of_ip(ip, unknown))
    } else if let Some(name) = &flags.node {
        sources.of_node(name, unknown).ok_or_else(|| no_node(name))
    } else if let Some(pod) = &flags.pod {
        let found = sources.of_pod(pod, unknown);
        match found.addresses.as_deref() {
            Some([]) if found.unknown.is_empty() => {
                let what = if pod.contains('/') { "pod" } else { "container" };
                Err(Error::NotFound(format!("no {what} {pod} has an address, as far as the nodes have told")))
            }
            _ => Ok(found),
        }
    } else if flags.blocks {
        Ok(sources.all_blocks(unknown))
    } else {
        Ok(sources.pools(unknown))
    }
}

/// There is no such node.
pub(super) fn no_node(name: &NodeName) -> Error {
    Error::NotFound(format!("there is no node {name}: 'twillctl node list' shows those that there are"))
}

/// What failed on this node; etcd is not asked.
pub(super) fn attempts(place: &Place) -> Result<Report, Error> {
    let found = store(place).and_then(|store| store.map(|store| store.attempts()).transpose());
    let found = found.map_err(|cause| Error::NodeStore { run_dir: place.run_dir.clone(), cause })?;
    Ok(Report::Attempts(Attempts::new(found, BootTime::now())))
}

/// What this node's store holds; `None` where this machine is no node, or was none since it booted.
pub(super) fn local(place: &Place) -> Result<Option<LocalState>, twill_ipam::Error> {
    let now = BootTime::now();
    let inventory = inventory(place, now)?;
    Ok(inventory.map(|inventory| LocalState { now, inventory }))
}

pub(super) fn inventory(place: &Place, now: BootTime) -> Result<Option<Inventory>, twill_ipam::Error> {
    store(place)?.map(|store| store.inventory(now)).transpose()
}

pub(super) fn store(place: &Place) -> Result<Option<Store>, twill_ipam::Error> {
    match Store::open(&place.run_dir, Role::Reader) {
        Err(error) if error.is_absence() => Ok(None),
        other => other.map(Some),
    }
}
