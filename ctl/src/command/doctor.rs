//! `twillctl doctor`: has every node look at its machine, looks at etcd itself, and hands all of it to be put together. With
//! `--preflight` it looks at this machine, and asks nobody.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use twill_checkup::Scope;
use twill_cluster::inquiry::checkup::{Finding, Found, State, etcd};
use twill_cluster::inquiry::client::{Answers, other_answer};
use twill_cluster::inquiry::{Ask, Reply};
use twill_cluster::{EtcdStore, View};
use twill_conf::NodeName;
use twill_conf::node::{NODE_FILE, NodeLayer, Setting};

use super::ipam::no_node;
use crate::access::{self, Picture};
use crate::arguments::{DoctorFlags, PlaceFlags};
use crate::error::Error;
use crate::place::Place;
use crate::report::Report;
use crate::report::doctor::{Doctor, Evidence};

/// How long a member of etcd may take to answer.
const ETCD_PATIENCE: Duration = Duration::from_secs(4);

pub(super) async fn doctor(flags: &DoctorFlags, place: &Place) -> Result<Report, Error> {
    let store = access::connect(place)?;
    look(&store, flags.patience(), &flags.node, |view| view).await.map(Report::Doctor)
}

/// Has these nodes look at their machines, or all where none is named. The records are judged as `shown` makes them.
pub(super) async fn look(
    store: &EtcdStore,
    patience: Duration,
    named: &[NodeName],
    shown: impl FnOnce(View) -> View,
) -> Result<Doctor, Error> {
    let members = store.members(patience.min(ETCD_PATIENCE)).await;
    let began = Instant::now();
    let picture = access::picture(store).await;
    let read = picture.as_ref().map(|_| began.elapsed()).map_err(ToString::to_string);
    let etcd = etcd::judge(&members, &read);
    let Ok(picture) = picture else {
        // A read that fails is told with etcd.
        return Ok(Doctor::without_cluster(etcd));
    };
    let picture = Picture { view: shown(picture.view), ..picture };
    let nodes = asked(named, &picture)?;
    let asks = nodes.into_iter().map(|node| (node, Ask::Checkup {})).collect();
    let answers = access::client(patience)?.ask(store, asks).await;
    Ok(Doctor::new(&Evidence { etcd, picture: &picture, answers: found(answers) }))
}

/// Those that were named, or all.
fn asked(named: &[NodeName], picture: &Picture) -> Result<Vec<NodeName>, Error> {
    let known = &picture.view.nodes;
    if let Some(unknown) = named.iter().find(|node| !known.contains_key(*node)) {
        return Err(no_node(unknown));
    }
    let mut nodes = if named.is_empty() { known.keys().cloned().collect() } else { named.to_vec() };
    nodes.sort();
    nodes.dedup();
    Ok(nodes)
}

fn found(answers: Answers<Reply>) -> Answers<Found> {
    let read = |reply| match reply {
        Reply::Checkup { found } => Ok(found),
        _ => Err(other_answer()),
    };
    answers.into_iter().map(|(node, answer)| (node, answer.and_then(read))).collect()
}

/// Looks at this machine. `flags` win over the daemon's file, which need not be there.
pub(super) fn preflight(flags: &DoctorFlags, place: &PlaceFlags) -> Result<Report, Error> {
    let (file, mut findings) = match NodeLayer::from_file(None) {
        Ok(file) => (file, Vec::new()),
        Err(error) => (NodeLayer::default(), vec![unread(&error)]),
    };
    let mut said = NodeLayer::default();
    let of_place = place.settings().into_iter().filter(|(setting, _)| *setting == Setting::RunDir);
    for (setting, flag) in of_place.chain(flags.settings()) {
        if let Some(text) = flag {
            said.set(setting, &setting.flag(), text).map_err(Error::Usage)?;
        }
    }
    let version = env!("CARGO_PKG_VERSION");
    let scope = Scope::before(&file.overlay(said.clone()), version).or_else(|error| {
        findings.push(unread(&error));
        Scope::before(&said, version)
    });
    let scope = scope.map_err(Error::Usage)?;
    findings.extend(twill_checkup::check(&scope).into_iter().map(Finding::from));
    Ok(Report::Doctor(Doctor::of_machine(findings)))
}

/// The daemon's file cannot be used.
fn unread(error: &twill_conf::Error) -> Finding {
    let denied = matches!(error, twill_conf::Error::File { cause, .. } if cause.kind() == ErrorKind::PermissionDenied);
    let (state, fix) = match denied {
        true => (State::Unknown, "run it as root"),
        false => (State::Problem, "correct it; twilld does not start with it"),
    };
    let text = |text: &str| text.to_owned();
    Finding { check: text("configuration"), state, subject: text(NODE_FILE), what: error.to_string(), fix: text(fix) }
}
