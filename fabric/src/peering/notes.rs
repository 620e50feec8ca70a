//! What a configuration of BGP brings about in a cluster and may not be meant: for `twillctl`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use twill_cluster::View;
use twill_cluster::record::NodeRecord;
use twill_conf::NodeName;
use twill_conf::cluster::{Announcement, Asn, Bgp, ClusterConf, Kind, Nodes, Peer, Pool};

use super::mesh::{Order, reflects};
use super::router_id;
use crate::backend::some_of;

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
    notes.extend(twins(bgp, &nodes));
    notes.extend(bgp.peers.iter().flat_map(|peer| of_place(peer, conf, &nodes)));
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

/// Nodes that would call themselves alike.
fn twins(bgp: &Bgp, nodes: &[(&NodeName, &NodeRecord)]) -> Vec<Note> {
    let mut by_id: BTreeMap<Ipv4Addr, Vec<&NodeName>> = BTreeMap::new();
    for (name, record) in nodes {
        by_id.entry(router_id(bgp, name, record, &record.underlay)).or_default().push(name);
    }
    let told = |(id, names): (Ipv4Addr, Vec<&NodeName>)| {
        let what = format!(
            "they have the router ID {id} in common: they have no session with each other, and take no routes of each other"
        );
        note(
            format!("nodes {}", some_of(names.into_iter())),
            what,
            "give each one of its own by router_id in [[bgp.node]]",
        )
    };
    by_id.into_iter().filter(|(_, names)| names.len() > 1).map(told).collect()
}

/// What is odd about a peer's name and addresses.
fn of_place(peer: &Peer, conf: &ClusterConf, nodes: &[(&NodeName, &NodeRecord)]) -> Vec<Note> {
    let mut notes = Vec::new();
    let mut add = |what: String, fix: &str| notes.push(note(format!("BGP peer {}", peer.name), what, fix));
    if let Some(pool) = conf.pools.iter().find(|pool| pool.cidr.contains(peer.address)) {
        let what = format!(
            "its address, {}, lies in pool {} ({}): nodes reach nothing there but pods",
            peer.address, pool.name, pool.cidr
        );
        add(what, "give the peer an address outside of all pools");
    }
    if nodes.iter().any(|(name, _)| name.as_str() == peer.name.as_str()) {
        let what = "a node has this name, too: where a command asks for the name of a peer, it means both";
        add(what.to_owned(), "give the peer another name, or name it by its address");
    }
    let speakers: Vec<_> = nodes.iter().filter(|(name, record)| peer.nodes.are(name, &record.labels)).collect();
    let has = |source: IpAddr, record: &NodeRecord| record.underlay.address(source.is_ipv6()) == Some(source);
    if let Some(source) = peer.source.filter(|source| !speakers.iter().any(|(_, record)| has(*source, record)))
        && !speakers.is_empty()
    {
        let what = format!("none of its nodes has the source {source} for its underlay address");
        add(what, "if none has that address on another interface either, correct \"source\", or take it out");
    }
    notes
}

fn kept_inside(pool: &Pool) -> Note {
    let what = "nodes reach each other by routers of other ASes alone, and its blocks are not announced to those: pods of one node do \
                not reach those of another";
    note(format!("pool {}", pool.name), what, "give it announce = true, or join the nodes by a mesh or by reflectors")
}
