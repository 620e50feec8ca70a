//! What is wrong: each problem with its likely cause and what to do about it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;
use twill_cluster::key::{self, Key};
use twill_cluster::record::Told;
use twill_cluster::{BlockRecord, NodeRecord, Versioned, View};
use twill_conf::NodeName;
use twill_conf::cluster::{ClusterConf, Given};
use twill_fabric::peering;
use twill_ipam::Block;

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Problem {
    /// What has it: `node n1`, `block 10.42.0.0/26`, `pool default`, `configuration`, or a key.
    pub(crate) subject: String,
    /// What is wrong, and why if that is known.
    pub(crate) what: String,
    /// What to do.
    pub(crate) fix: String,
    /// Whether `twillctl ipam check --fix` sets about it. All else is for people.
    #[serde(skip)]
    pub(crate) by_fix: bool,
}

impl Problem {
    pub(crate) fn new(subject: impl Into<String>, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { subject: subject.into(), what: what.into(), fix: fix.into(), by_fix: false }
    }

    /// The same, as one that `check --fix` sets about where `yes`.
    pub(crate) fn mended_by_fix(self, yes: bool) -> Self {
        Self { by_fix: yes, ..self }
    }

    /// On one line.
    pub(crate) fn line(&self) -> String {
        format!("{}: {}; {}", self.subject, self.what, self.fix)
    }
}

/// The configuration's absence, records that cannot be read, and what in the others no node believes.
pub(crate) fn faults(view: &View) -> Vec<Problem> {
    let mut problems = unreadable(view);
    let fix = "it is left out as long as that is so; a node whose machine is off for good is deleted by 'twillctl node delete'";
    problems.extend(twill_fabric::judge(view).into_iter().map(|what| Problem::new("records", what, fix)));
    problems
}

/// The configuration's absence, and records that cannot be read.
pub(crate) fn unreadable(view: &View) -> Vec<Problem> {
    let mut problems: Vec<Problem> = unreadable_below(view, "").collect();
    if view.config.is_none() && !view.faults.contains_key(key::CONFIG) {
        let what = "there is none: no node can claim a block";
        problems.push(Problem::new(
            "configuration",
            what,
            "make one with 'twillctl config init FILE', then 'twillctl config apply FILE'",
        ));
    }
    problems
}

/// Records that cannot be read, of the keys that begin so.
pub(crate) fn unreadable_below<'a>(view: &'a View, prefix: &'a str) -> impl Iterator<Item = Problem> + 'a {
    view.faults.iter().filter(move |(key, _)| key.starts_with(prefix)).map(|(key, cause)| fault(key, cause))
}

/// A record that cannot be read: whose it is, where it stands, and what to do.
pub(crate) fn fault(key: &str, cause: &str) -> Problem {
    match Key::parse(key) {
        Ok(Some(Key::Config)) => {
            let what = format!("what stands in the key {key} is none: {cause}");
            Problem::new("configuration", what, "write a good one with 'twillctl config apply FILE'")
        }
        Ok(Some(Key::Node(name))) => {
            let what = format!("its record, the key {key}, cannot be read: {cause}");
            Problem::new(format!("node {name}"), what, format!("look at twilld on {name}; {}", delete(&name)))
        }
        Ok(Some(Key::Block(block))) => {
            let what = format!("its record, the key {key}, cannot be read, so nobody knows whose it is: {cause}");
            let fix = "nothing is routed to it; find out who wrote the key, and delete it once the block is unused";
            Problem::new(format!("block {block}"), what, fix)
        }
        Ok(None) | Err(_) => {
            let what = format!("this key is none of Twill's: {cause}");
            Problem::new(key, what, "find out who wrote this key, and delete it")
        }
    }
}

/// The first three of many.
pub(crate) fn shortened(names: &[String]) -> String {
    match names.len().checked_sub(3) {
        None | Some(0) => names.join(", "),
        Some(more) => format!("{} and {more} more", names[..3].join(", ")),
    }
}

/// How a node is deleted with all that there is of it. (By hand its record would go, and its blocks would stay.)
pub(crate) fn delete(node: &NodeName) -> String {
    format!("if its machine is off for good, delete it: 'twillctl node delete {node} --machine-is-off'")
}

/// Blocks of nodes that have no record.
pub(crate) fn ownerless(view: &View) -> Vec<Problem> {
    of_blocks(view, |node, _| {
        (!view.nodes.contains_key(node)).then(|| {
            format!("its owner {node} has no record: the node was deleted without its blocks, or never came up")
        })
    })
}

/// Blocks that nodes claimed before they were registered as they are.
pub(crate) fn outlived(view: &View) -> Vec<Problem> {
    of_blocks(view, |node, epoch| {
        let now = view.nodes.get(node)?.created;
        (now != epoch)
            .then(|| format!("it was claimed by an earlier registration of {node} (epoch {epoch}, now {now})"))
    })
}

/// Blocks with what is wrong with their owners, by name and epoch.
fn of_blocks(view: &View, wrong: impl Fn(&NodeName, i64) -> Option<String>) -> Vec<Problem> {
    let judge = |(block, record): (&Block, &Arc<Versioned<BlockRecord>>)| {
        let node = &record.value.node;
        let fix = format!("start twilld on {node}, which puts its blocks right; {}", delete(node));
        Some(Problem::new(format!("block {block}"), wrong(node, record.value.epoch)?, fix))
    };
    view.blocks.iter().filter_map(judge).collect()
}

/// What nodes say is wrong, as only they can know. What several say alike is one problem: all of them may miss a machine that
/// is off.
pub(crate) fn told<'a>(nodes: impl IntoIterator<Item = (&'a NodeName, &'a Vec<Told>)>) -> Vec<Problem> {
    let mut by_words: BTreeMap<&Told, Vec<String>> = BTreeMap::new();
    for (name, told) in nodes {
        for told in told {
            by_words.entry(told).or_default().push(name.to_string());
        }
    }
    let problem = |(told, names): (&Told, Vec<String>)| {
        let subject = if names.len() == 1 { "node" } else { "nodes" };
        Problem::new(format!("{subject} {}", shortened(&names)), &told.what, &told.fix)
    };
    by_words.into_iter().map(problem).collect()
}

/// What a configuration of BGP brings about among the nodes and may not be meant.
pub(crate) fn of_bgp(view: &View, conf: &ClusterConf) -> impl Iterator<Item = Problem> {
    peering::notes(view, conf).into_iter().map(|note| Problem::new(note.subject, note.what, note.fix))
}

/// A node whose daemon has not been heard of: a problem, whatever was asked.
pub(crate) fn dead(name: &NodeName) -> Problem {
    let what = "its daemon has not been heard of for a minute; its pods keep what they have";
    let fix = format!("look at twilld on {name}: is it running, and does it reach etcd?");
    Problem::new(format!("node {name}"), what, fix)
}

/// What a node lacks to be reached and to serve pods.
pub(crate) fn node(view: &View, name: &NodeName, record: &Versioned<NodeRecord>, alive: bool) -> Vec<Problem> {
    let subject = format!("node {name}");
    let mut problems = Vec::new();
    if !alive {
        problems.push(dead(name));
    }
    let underlay = &record.value.underlay;
    if underlay.ipv4.is_none() && underlay.ipv6.is_none() {
        let what = "it has no underlay address: no other node can send to it";
        problems.push(Problem::new(&subject, what, format!("give twilld on {name} its interface with --underlay")));
    }
    let Some(config) = &view.config else { return problems };
    if record.value.vxlan.is_none() && config.value.backend.kind.vxlan().is_some() {
        let what = "it has no VTEP: no other node can send to its pods";
        let fix = format!("look at the log of twilld on {name}: does the kernel have vxlan, is the port free?");
        problems.push(Problem::new(&subject, what, fix));
    }
    let labels = &record.value.labels;
    let mut given = config.value.pools.iter().filter(|pool| pool.given(labels) == Given::Default).peekable();
    if given.peek().is_none() {
        let what = "no pool is for it: each is disabled, or its \"nodes\" do not match the labels of the node";
        let fix = "change \"nodes\" or \"disabled\" of a pool, or the labels of the node in its twilld.toml";
        problems.push(Problem::new(&subject, what, fix));
    }
    let families: BTreeSet<bool> = given.map(|pool| pool.cidr.is_ipv6()).collect();
    for (family, ipv6) in [("IPv4", false), ("IPv6", true)] {
        let has = |ipv6: bool| view.blocks_of(name).any(|block| block.cidr().is_ipv6() == ipv6);
        if families.contains(&ipv6) && record.value.drain.is_none() && !has(ipv6) {
            let what = format!("it has no {family} block: it can give no pod an {family} address");
            let fix = format!("look at the log of twilld on {name}; is a pool used up?");
            problems.push(Problem::new(&subject, what, fix));
        }
    }
    problems
}
