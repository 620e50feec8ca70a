//! `twillctl doctor`: has every node look at its machine and say how it is, looks at etcd itself, and hands all of it to be put
//! together. With `--preflight` it looks at this machine, and asks nobody.

use std::io::ErrorKind;
use std::time::{Duration, Instant, SystemTime};

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
use crate::report::doctor::{Asked, Doctor, Evidence};

/// How long a machine may take to look, and to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a member of etcd may take to answer.
const ETCD_PATIENCE: Duration = Duration::from_secs(4);

pub(super) async fn doctor(flags: &DoctorFlags, place: &Place) -> Result<Report, Error> {
    let store = access::connect(place)?;
    look(&store, place.patience(PATIENCE), &flags.node, |view| view).await.map(Report::Doctor)
}

/// Has these nodes look at their machines, or all where none is named. The records are judged as `shown` makes them.
pub(super) async fn look(
    store: &EtcdStore,
    patience: Duration,
    named: &[NodeName],
    shown: impl FnOnce(View) -> View,
) -> Result<Doctor, Error> {
    let began = Instant::now();
    let read = async { (access::picture(store).await, began.elapsed()) };
    // At once: of an etcd that does not answer nobody waits twice.
    let (members, (picture, elapsed)) = tokio::join!(store.members(patience.min(ETCD_PATIENCE)), read);
    let read = picture.as_ref().map(|_| elapsed).map_err(ToString::to_string);
    let etcd = etcd::judge(&members, &read);
    let Ok(picture) = picture else {
        // A read that fails is told with etcd.
        return Ok(Doctor::without_cluster(etcd));
    };
    let picture = Picture { view: shown(picture.view), ..picture };
    let nodes = asked(named, &picture)?;
    let asks = nodes.iter().map(|node| (node.clone(), Ask::Checkup {})).collect();
    let (mut of_machines, mut of_daemons) = (access::client(patience)?, access::client(patience)?);
    let from = millis();
    let looks = async { (of_machines.ask(store, asks).await, Asked { from, to: millis() }) };
    let ((answers, asked), states) = tokio::join!(looks, of_daemons.states(store, nodes));
    Ok(Doctor::new(&Evidence { etcd, picture: &picture, answers: found(answers), asked, states }))
}

/// The time of day, in milliseconds since 1970.
fn millis() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
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
    let (scope, wrong) = scope_of(file.overlay(said))?;
    findings.extend(wrong);
    findings.extend(twill_checkup::check(&scope).into_iter().map(Finding::from));
    Ok(Report::Doctor(Doctor::of_machine(findings)))
}

/// What to look at, by these settings. Where those of etcd contradict each other, that is found, and all else is looked at by what
/// the others say.
fn scope_of(layer: NodeLayer) -> Result<(Scope, Option<Finding>), Error> {
    let version = env!("CARGO_PKG_VERSION");
    match Scope::before(&layer, version) {
        Ok(scope) => Ok((scope, None)),
        Err(error) => {
            let rest = NodeLayer { etcd: None, ..layer.without_credentials() };
            Ok((Scope::before(&rest, version).map_err(Error::Usage)?, Some(unread(&error))))
        }
    }
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn where_settings_of_etcd_contradict_each_other_the_directories_of_the_file_are_looked_at() {
        let directories =
            "run_dir = '/srv/run'\nstate_dir = '/srv/state'\ncni_bin_dir = '/srv/bin'\ncni_conf_dir = '/srv/net.d'\n";
        for etcd in [
            "etcd = ['http://192.0.2.1:2379']\netcd_ca = '/srv/ca.pem'\n",
            "etcd = ['https://192.0.2.1:2379']\netcd_cert = '/srv/cert.pem'\n",
        ] {
            let layer = NodeLayer::from_toml(&format!("{etcd}{directories}")).unwrap();
            let (scope, wrong) = scope_of(layer).unwrap();
            let found = wrong.expect("it is told");
            assert!(found.check == "configuration" && found.state == State::Problem, "{found:?}");
            let looked = [&scope.run_dir, &scope.state_dir, &scope.cni.bin, &scope.cni.conf];
            assert_eq!(looked, ["/srv/run", "/srv/state", "/srv/bin", "/srv/net.d"].map(Path::new));
        }
        let (scope, wrong) = scope_of(NodeLayer::from_toml(directories).unwrap()).unwrap();
        assert!(wrong.is_none() && scope.run_dir == Path::new("/srv/run"));
    }
}
