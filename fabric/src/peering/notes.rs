//! What a configuration of BGP brings about in a cluster and may not be meant: for `twillctl`.

use std::collections::BTreeMap;

use twill_cluster::View;
use twill_cluster::record::NodeRecord;
use twill_conf::NodeName;
use twill_conf::cluster::{Announcement, Asn, ClusterConf, Kind, Nodes, Peer, Pool};

use super::mesh::{Order, reflects};

/// More nodes than these are better joined by reflectors: each has a session with each other one.
const MOST_MESHED: usize = 100;

/// Something worth a word, and no problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What has it.
    pub subject: String,
    /// What is so.
    pub what: String,
    /// What to do, if that is not meant.
    pub fix: String,
}

/// What `conf` brings about among the nodes of the view.
pub fn notes(view: &View, conf: &ClusterConf) -> Vec<Note> {
    let Some(bgp) = &conf.bgp else { return Vec::new() };
    let nodes: Vec<_> = view.nodes.iter().map(|(name, record)| (name, &record.value)).collect();
    let mut systems: BTreeMap<Asn, Vec<(&NodeName, &NodeRecord)>> = BTreeMap::new();
    for (name, record) in &nodes {
        systems.entry(bgp.asn_of(name, &record.labels)).or_default().push((name, record));
    }
    let (mut notes, mut whole) = (Vec::new(), true);
    for (asn, nodes) in &systems {
        let order = Order::of(bgp, nodes.iter().any(|(name, record)| reflects(bgp, name, record)));
        whole &= order != Order::Apart;
        notes.extend((order == Order::Meshed).then(|| meshed(*asn, nodes.len())).flatten());
        if order == Order::Meshed && bgp.reflectors.is_some() && nodes.len() <= MOST_MESHED {
            let what = "none of its nodes is a reflector: they are meshed until one is";
            notes.push(note(format!("AS {asn}"), what, "give nodes labels by which [bgp.reflectors] selects them"));
        }
    }
    notes.extend(
        bgp.peers.iter().flat_map(|peer| of_peer(peer, &nodes, |name, record| bgp.asn_of(name, &record.labels))),
    );
    let rules = bgp.nodes.iter().map(|rule| ("[[bgp.node]]".to_owned(), &rule.nodes, "it changes nothing"));
    let title = |extra: &Announcement| format!("[[bgp.announce]] of {}", extra.prefix);
    let announcements = bgp.announcements.iter().map(|extra| (title(extra), &extra.nodes, "nobody announces it"));
    notes.extend(
        rules.chain(announcements).filter_map(|(subject, wanted, effect)| idle(subject, wanted, &nodes, effect)),
    );
    // A router of the nodes' AS may reflect for all of them.
    whole |= bgp.peers.iter().any(|peer| systems.keys().all(|asn| !peer.asn.is_external(*asn)));
    if conf.backend.kind == Kind::Bgp && nodes.len() > 1 && !(whole && systems.len() == 1) {
        notes.extend(conf.pools.iter().filter(|pool| !pool.announce).map(kept_inside));
    }
    notes
}

fn note(subject: String, what: impl Into<String>, fix: &str) -> Note {
    Note { subject, what: what.into(), fix: fix.to_owned() }
}

fn meshed(asn: Asn, nodes: usize) -> Option<Note> {
    let sessions = nodes * nodes.saturating_sub(1) / 2;
    let what =
        format!("its {nodes} nodes are meshed by {sessions} BGP sessions, {} on each node", nodes.saturating_sub(1));
    let fix = "make some of them reflectors by [bgp.reflectors], and the others speak with those alone";
    (nodes > MOST_MESHED).then(|| note(format!("AS {asn}"), what, fix))
}

/// Something for nodes of which there is none.
fn idle(subject: String, wanted: &Nodes, nodes: &[(&NodeName, &NodeRecord)], effect: &str) -> Option<Note> {
    let is_idle = !nodes.is_empty() && !nodes.iter().any(|(name, record)| wanted.are(name, &record.labels));
    let of = match wanted {
        Nodes::All => return None,
        Nodes::One(name) => format!("node = {:?}", name.as_str()),
        Nodes::Labelled(selector) => format!("nodes = {:?}", selector.to_string()),
    };
    let fix = "if that is not meant, correct that, or the labels of the nodes in their twilld.toml";
    is_idle.then(|| note(subject, format!("no node is one that it is for, by {of}: {effect}"), fix))
}

fn of_peer(peer: &Peer, nodes: &[(&NodeName, &NodeRecord)], asn: impl Fn(&NodeName, &NodeRecord) -> Asn) -> Vec<Note> {
    let subject = || format!("BGP peer {}", peer.name);
    if let Some(idle) = idle(subject(), &peer.nodes, nodes, "nobody speaks with it") {
        return vec![idle];
    }
    let selected: Vec<_> = nodes.iter().filter(|(name, record)| peer.nodes.are(name, &record.labels)).collect();
    if !selected.iter().any(|(name, record)| peer.asn.is_external(asn(name, record))) {
        return Vec::new();
    }
    let missing: &[_] = match (&peer.import, &peer.export) {
        (None, None) => &["import", "export"],
        (None, Some(_)) => &["import"],
        (Some(_), None) => &["export"],
        (Some(_), Some(_)) => &[],
    };
    let silent = |filter: &&str| {
        let what = match *filter {
            "import" => "it is of another AS and has no import filter: nothing of it is taken (RFC 8212)",
            _ => "it is of another AS and has no export filter: it is told nothing (RFC 8212)",
        };
        note(subject(), what, &format!("if that is not meant, give it an {filter}"))
    };
    missing.iter().map(silent).collect()
}

fn kept_inside(pool: &Pool) -> Note {
    let what = "nodes reach each other by routers of other ASes alone, and its blocks are not announced to those: pods of one node do \
                not reach those of another";
    note(format!("pool {}", pool.name), what, "give it announce = true, or join the nodes by a mesh or by reflectors")
}
