//! `twillctl bundle`: what somebody who looks into a fault asks for first, in one file.
//!
//! Each part is added by a line of [`of_the_cluster`] or [`of_this_machine`]; what cannot be got is told, and the rest goes on. Of records
//! only what [`excerpt`] names is taken, so nothing secret is; and should an error repeat a password that this machine has, the archive
//! leaves that out.

mod archive;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use twill_cluster::inquiry::client::Answers;
use twill_cluster::inquiry::state::State;
use twill_cluster::store::{Range, Store};
use twill_cluster::{Census, EtcdStore, View, key};
use twill_conf::NodeName;
use twill_conf::node::{EtcdConf, NodeLayer};

use super::{about, check, doctor, ipam};
use crate::access::{self, Picture};
use crate::arguments::bundle::BundleFlags;
use crate::error::Error;
use crate::place::{PATIENCE, Place};
use crate::report::Report;
use crate::report::about::Version;
use crate::report::bgp::Peers;
use crate::report::bundle::excerpt::{self, BlockExcerpt, DaemonExcerpt, MirrorExcerpt, NodeExcerpt};
use crate::report::bundle::{Bundle, stamp};
use crate::report::check::{Evidence, judge};
use crate::report::config::Shown;
use crate::report::ipam::Ipam;
use crate::report::status::Status;
use crate::report::untold::Untold;
use archive::Archive;

/// The daemon's own variable for its file.
const FILE_VARIABLE: &str = "TWILLD_CONFIG";
/// A machine tries out what its kernel can before it answers.
const CHECKUP: Duration = Duration::from_secs(20);

pub(super) async fn bundle(flags: &BundleFlags, place: &Place) -> Result<Report, Error> {
    let now = access::now();
    let name = format!("twill-bundle-{}", stamp(now));
    let file = flags.file.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.tar.gz")));
    let make = |cause| Error::File { what: "make", path: file.clone(), cause };
    // What is gathered for long shall not be lost for that.
    archive::can_be_made(&file).map_err(make)?;
    let mut archive = Archive::without(secrets(place));
    of_this_machine(&mut archive, place);
    if let Err(cause) = of_the_cluster(&mut archive, place).await {
        archive.lacks(Untold::of("the cluster's records", &cause));
    }
    let (members, unknown) = archive.contents();
    archive.add(
        "contents.json",
        "what is here, and what is not",
        Ok::<_, Error>(Contents { at: now, members, unknown }),
    );
    let bytes = archive.write(&file, &name, now).map_err(make)?;
    let (members, unknown) = archive.contents();
    Ok(Report::Bundle(Bundle { file, bytes, members, unknown }))
}

/// The table of contents.
#[derive(Debug, Serialize)]
struct Contents {
    /// When it was made, in seconds since 1970.
    at: u64,
    members: Vec<crate::report::bundle::Member>,
    unknown: Vec<Untold>,
}

/// What this machine has, whatever etcd says.
fn of_this_machine(archive: &mut Archive, place: &Place) {
    archive.add("version.json", "the version of twillctl", Ok::<_, Error>(Version::own()));
    archive.add("local/host.json", "kernel and distribution of this machine", Ok::<_, Error>(Host::read()));
    archive.add("local/attempts.json", "ADDs, DELs and GCs that failed here", ipam::attempts(place));
    let pods = ipam::local(place).map(|local| Ipam::new(None, local, Vec::new()));
    archive.add("local/store.json", "blocks and pods of this node", pods);
    archive.add("local/twilld.json", "the daemon's file, without how it logs in to etcd", daemon());
}

/// What etcd and the nodes say. An error is one of etcd, without which nothing more can be asked.
async fn of_the_cluster(archive: &mut Archive, place: &Place) -> Result<(), Error> {
    archive.add("etcd.json", "whether the endpoints of etcd answer", Ok::<_, Error>(health(place).await?));
    let store = access::connect(place)?;
    let mut client = access::client(place.patience(PATIENCE))?;
    let mut evidence = check::gather(&store, &mut client).await?;
    confidential(archive, &evidence);
    evidence.census.view = excerpt::without_quotes(std::mem::take(&mut evidence.census.view));
    evidence.after = excerpt::without_quotes(std::mem::take(&mut evidence.after));
    excerpt::quiet(&mut evidence.census.faults);
    records(archive, &evidence.census);
    let (found, _) = judge(&evidence);
    let silent = found.unknown.clone();
    archive.add("check.json", "what 'twillctl ipam check' finds, of all nodes", Ok::<_, Error>(found));
    silent.into_iter().for_each(|what| archive.lacks(what));
    let nodes: Vec<NodeName> = evidence.after.nodes.keys().cloned().collect();
    let states = client.states(&store, nodes.clone()).await;
    states.values().flatten().for_each(|state| {
        let rival = state.rival.iter().map(|rival| &rival.machine_id);
        archive.hide_machines([&state.machine_id].into_iter().chain(rival));
    });
    archive.add("status.json", "what 'twillctl status' says", Ok::<_, Error>(status(&evidence, states)));
    let found = doctor::look(&store, place.patience(PATIENCE).max(CHECKUP), &[], excerpt::without_quotes).await;
    archive.add("doctor.json", "what 'twillctl doctor' finds on all machines", found);
    archive.add("versions.json", "the versions of all nodes", about::cluster_versions(&store).await);
    let view = &evidence.after;
    if view.config.as_ref().is_some_and(|config| config.value.bgp.is_some()) {
        let peers = Peers::new(client.bgp_peers(&store, nodes).await, false);
        let silent = peers.unknown.clone();
        archive.add("bgp-peers.json", "the BGP sessions of all nodes", Ok::<_, Error>(peers));
        silent.into_iter().for_each(|what| archive.lacks(what));
    }
    Ok(())
}

/// What may be repeated by whatever a node says of itself, and is to stand nowhere: the identities of machines (machine-id(5)), and what a
/// parser quotes of records that cannot be read.
fn confidential(archive: &mut Archive, evidence: &Evidence) {
    for view in [&evidence.census.view, &evidence.after] {
        archive.hide_machines(view.nodes.values().map(|record| &record.value.machine_id));
        archive.hide_machines(view.blocks.values().map(|record| &record.value.machine_id));
        view.faults.values().for_each(|cause| archive.hide(cause, excerpt::QUIET));
    }
    evidence.census.faults.values().for_each(|cause| archive.hide(cause, excerpt::QUIET));
}

/// The records that can be read, and the keys of those that cannot.
fn records(archive: &mut Archive, census: &Census) {
    let view = &census.view;
    let config = view.config.as_ref().ok_or("there is none that can be read");
    let shown =
        config.map(|config| Shown { revision: config.modified, config: config.value.clone(), unknown: Vec::new() });
    archive.add("config.json", "the cluster configuration", shown);
    let nodes: Vec<_> = view.nodes.iter().map(|(name, record)| NodeExcerpt::new(name, record)).collect();
    archive.add("nodes.json", "the records of all nodes", Ok::<_, Error>(nodes));
    let blocks: Vec<_> = view.blocks.iter().map(|(block, record)| BlockExcerpt::new(*block, record)).collect();
    archive.add("blocks.json", "who has which block", Ok::<_, Error>(blocks));
    for (node, mirrors) in &census.mirrors {
        let mirrors: Vec<_> = mirrors.iter().map(|(block, record)| MirrorExcerpt::new(*block, record)).collect();
        let path = format!("addresses/{node}.json");
        archive.add(&path, &format!("what node {node} gave out"), Ok::<_, Error>(mirrors));
    }
    archive.add("alive.json", "who is alive, and what they say is wrong", Ok::<_, Error>(&census.told));
    let unreadable: Vec<_> = view.faults.keys().chain(census.faults.keys()).collect();
    archive.add("unreadable.json", "keys whose values are none of Twill's", Ok::<_, Error>(unreadable));
}

fn status(evidence: &Evidence, states: Answers<State>) -> Status {
    let view: View = evidence.after.clone();
    Status::new(&Picture { view, config: None }, &evidence.census.told, states)
}

/// Whether a member of etcd answers.
#[derive(Debug, Serialize)]
struct Health {
    endpoint: String,
    /// How long the answer took.
    milliseconds: Option<f64>,
    /// The revision that it answers with.
    revision: Option<i64>,
    /// Why there is no answer.
    error: Option<String>,
}

/// Asks each endpoint by itself.
async fn health(place: &Place) -> Result<Vec<Health>, Error> {
    let conf = place.etcd()?;
    let mut found = Vec::new();
    for endpoint in &conf.endpoints {
        let alone = EtcdConf { endpoints: vec![endpoint.clone()], ..conf.clone() };
        let store = EtcdStore::open_within(&alone, &place.prefix, place.limits()).map_err(Error::Endpoint)?;
        let begun = Instant::now();
        let answer = store.read(&Range::key(key::CONFIG)).await;
        let took = (begun.elapsed().as_secs_f64() * 1e5).round() / 100.0;
        found.push(Health {
            endpoint: endpoint.clone(),
            milliseconds: answer.is_ok().then_some(took),
            revision: answer.as_ref().ok().map(|snapshot| snapshot.revision),
            error: answer.err().map(|error| error.to_string()),
        });
    }
    Ok(found)
}

/// The machine.
#[derive(Debug, Serialize)]
struct Host {
    name: Option<String>,
    kernel: Option<String>,
    /// PRETTY_NAME of os-release(5).
    system: Option<String>,
}

impl Host {
    fn read() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        let system = read("/etc/os-release").and_then(|text| {
            text.lines()
                .find_map(|line| line.strip_prefix("PRETTY_NAME="))
                .map(|name| name.trim_matches('"').to_owned())
        });
        Self { name: read("/proc/sys/kernel/hostname"), kernel: read("/proc/sys/kernel/osrelease"), system }
    }
}

/// The daemon's file; that of another place where the daemon's variable names one.
fn daemon() -> Result<DaemonExcerpt, &'static str> {
    let file = std::env::var_os(FILE_VARIABLE).filter(|file| !file.is_empty());
    match NodeLayer::from_file(file.as_deref().map(Path::new)) {
        Ok(layer) => Ok(DaemonExcerpt::new(layer)),
        // What is wrong with it is not repeated: it may quote what stands there.
        Err(twill_conf::Error::File { .. }) => Err("it cannot be read"),
        Err(_) => Err("it is not right: the log of twilld says what is wrong"),
    }
}

/// What this machine knows and an error might repeat: the password for etcd, and how its user is called where one is spoken of.
fn secrets(place: &Place) -> Vec<String> {
    let Some(login) = place.etcd.as_ref().and_then(|etcd| etcd.login.as_ref()) else { return Vec::new() };
    let password = std::fs::read_to_string(&login.password_file).ok();
    let password = password.map(|text| text.trim().to_owned());
    password.into_iter().chain([format!("user {}", login.user)]).collect()
}
