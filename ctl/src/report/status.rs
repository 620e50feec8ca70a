//! What `twillctl status` says.

mod alone;
pub(in crate::report) mod daemon;

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;
use twill_cluster::inquiry::client::Answers;
use twill_cluster::inquiry::state;
use twill_cluster::{NodeRecord, Versioned};
use twill_conf::NodeName;

use super::pools::PoolUse;
use super::problems::{self, Problem};
use super::untold::Untold;
use crate::access::{Alive, Picture};

pub(crate) use alone::{Alone, Local};

/// The cluster at a glance.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    /// etcd's revision that this is a picture of.
    pub(crate) revision: i64,
    /// The configuration, where one can be read.
    pub(crate) config: Option<Config>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) pools: Vec<PoolUse>,
    pub(crate) problems: Vec<Problem>,
    /// What is worth a word and no problem: it does not change the exit status.
    pub(crate) notes: Vec<Problem>,
    /// What could not be looked at, and why.
    pub(crate) unknown: Vec<Untold>,
    /// What this machine knows by itself: null, as it is told where etcd is away only ([`Alone`]).
    local: (),
    /// Only some nodes are told of, and all that they say.
    #[serde(skip)]
    pub(crate) in_depth: bool,
}

/// Which configuration it is.
#[derive(Debug, Serialize)]
pub(crate) struct Config {
    /// The mod_revision of the key.
    pub(crate) revision: i64,
    /// The back end's type.
    pub(crate) backend: &'static str,
}

/// A node as its record describes it.
#[derive(Debug, Serialize)]
pub(crate) struct Node {
    pub(crate) name: NodeName,
    /// Whether its daemon renewed its lease within the last minute.
    pub(crate) alive: bool,
    /// Whether it gives no new pod an address.
    pub(crate) draining: bool,
    pub(crate) underlay: Vec<IpAddr>,
    pub(crate) tunnel: Vec<IpAddr>,
    /// The VTEP's MAC.
    pub(crate) vtep: Option<String>,
    /// How many blocks it owns.
    pub(crate) blocks: usize,
    /// The daemon's version.
    pub(crate) version: String,
    pub(crate) labels: BTreeMap<String, String>,
    /// How it is by its own words; absent where it has not answered.
    pub(crate) daemon: Option<state::State>,
}

impl Status {
    /// Of what etcd has and of what the daemons say.
    pub(crate) fn new(picture: &Picture, alive: &Alive, answers: Answers<state::State>) -> Self {
        let view = &picture.view;
        let pools = PoolUse::all(view);
        let of_all = Self::of_nodes(picture, alive, answers, |_| true);
        let mut problems = problems::faults(view);
        problems.extend(of_all.problems);
        problems.extend(problems::ownerless(view));
        problems.extend(problems::outlived(view));
        problems.extend(pools.iter().filter_map(PoolUse::problem));
        let mut notes: Vec<_> = pools.iter().filter_map(PoolUse::note).collect();
        notes.extend(view.config.iter().flat_map(|config| problems::of_bgp(view, &config.value)));
        notes.extend(of_all.notes);
        notes.extend(daemon::versions(view));
        Self { pools, problems, notes, in_depth: false, ..of_all }
    }

    /// Of these nodes alone, each with what is wrong with it; the error is one that is not there.
    pub(crate) fn of<'n>(
        picture: &Picture,
        alive: &Alive,
        answers: Answers<state::State>,
        nodes: &'n [NodeName],
    ) -> Result<Self, &'n NodeName> {
        match nodes.iter().find(|name| !picture.view.nodes.contains_key(*name)) {
            Some(stranger) => Err(stranger),
            None => Ok(Self::of_nodes(picture, alive, answers, |name| nodes.contains(name))),
        }
    }

    fn of_nodes(
        picture: &Picture,
        alive: &Alive,
        mut answers: Answers<state::State>,
        is_wanted: impl Fn(&NodeName) -> bool,
    ) -> Self {
        let view = &picture.view;
        let judged = daemon::judge(view, &answers);
        let mut counts: BTreeMap<&NodeName, usize> = BTreeMap::new();
        for record in view.blocks.values() {
            *counts.entry(&record.value.node).or_default() += 1;
        }
        let wanted = || view.nodes.iter().filter(|(name, _)| is_wanted(name));
        let mut problems: Vec<Problem> =
            wanted().flat_map(|(name, record)| problems::node(view, name, record, alive.contains_key(name))).collect();
        // Who has answered has said it anew, with all else that is wrong there.
        let is_silent = |name: &NodeName| !matches!(answers.get(name), Some(Ok(_)));
        let told = wanted().filter(|(name, _)| is_silent(name)).filter_map(|(name, _)| alive.get_key_value(name));
        problems.extend(problems::told(told));
        problems.extend(judged.problems);
        let nodes = wanted().map(|(name, record)| {
            let daemon = answers.remove(name).and_then(Result::ok);
            let blocks = counts.get(name).copied().unwrap_or(0);
            Node { daemon, ..Node::new(name, record, alive.contains_key(name), blocks) }
        });
        let config = view.config.as_ref();
        Self {
            revision: view.revision,
            config: config
                .map(|config| Config { revision: config.modified, backend: config.value.backend.kind.name() }),
            nodes: nodes.collect(),
            pools: Vec::new(),
            problems,
            notes: judged.notes,
            unknown: judged.unknown,
            local: (),
            in_depth: true,
        }
    }

    /// The same without what differs from one look to the next though nothing has happened: ages, latencies, revisions.
    pub(crate) fn lasting(&self) -> serde_json::Value {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        value["revision"] = 0.into();
        for node in value["nodes"].as_array_mut().into_iter().flatten() {
            let daemon = &mut node["daemon"];
            if daemon.is_null() {
                continue;
            }
            for (part, field) in [
                ("", "uptime_seconds"),
                ("", "etcd"),
                ("/passes", "settled_seconds_ago"),
                ("/passes", "converged_millis"),
                ("/repairs", "last"),
            ] {
                daemon.pointer_mut(part).and_then(|part| part.as_object_mut()?.remove(field));
            }
        }
        value
    }
}

impl Node {
    fn new(name: &NodeName, record: &Versioned<NodeRecord>, alive: bool, blocks: usize) -> Self {
        let NodeRecord { underlay, tunnel, vxlan, version, labels, drain, .. } = &record.value;
        let families = [underlay.address(false), underlay.address(true)];
        let tunnels = [tunnel.ipv4.map(IpAddr::V4), tunnel.ipv6.map(IpAddr::V6)];
        Self {
            name: name.clone(),
            alive,
            draining: drain.is_some(),
            underlay: families.into_iter().flatten().collect(),
            tunnel: tunnels.into_iter().flatten().collect(),
            vtep: vxlan.as_ref().map(|end| end.mac.clone()),
            blocks,
            version: version.clone(),
            labels: labels.clone(),
            daemon: None,
        }
    }
}

#[cfg(test)]
mod tests;
