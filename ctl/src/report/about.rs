//! What `twillctl version`, `completions` and `man` say.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use twill_cluster::ability::Ability;
use twill_cluster::{NodeRecord, View};
use twill_conf::NodeName;
use twill_conf::network::CNI_VERSIONS;

use super::problems::{Problem, shortened};

/// A script for a shell.
#[derive(Debug, Serialize)]
pub(crate) struct Script {
    pub(crate) script: String,
}

/// Man pages that were written.
#[derive(Debug, Serialize)]
pub(crate) struct Pages {
    pub(crate) dir: PathBuf,
    pub(crate) pages: Vec<String>,
}

/// The version of this program, and where it was asked for, those of the nodes.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Version {
    pub(crate) version: &'static str,
    /// What it was built for, as in `x86_64-linux-musl`.
    pub(crate) target: String,
    /// The versions of the CNI specification that the plugin of this version speaks.
    pub(crate) cni: [&'static str; CNI_VERSIONS.len()],
    /// What the daemon of this version can that not every version can.
    pub(crate) can: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cluster: Option<ClusterVersions>,
}

/// The versions of a cluster's nodes.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ClusterVersions {
    pub(crate) nodes: Vec<NodeVersion>,
    /// How many nodes have each version, the oldest first.
    pub(crate) versions: Vec<Count>,
    /// What not all nodes can.
    pub(crate) lacks: Vec<Lack>,
    pub(crate) problems: Vec<Problem>,
    /// What is worth a word and no problem.
    pub(crate) notes: Vec<Problem>,
}

/// The version of a node's daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct NodeVersion {
    pub(crate) name: NodeName,
    /// Whether its daemon renewed its lease within the last minute.
    pub(crate) alive: bool,
    /// That of the daemon that runs, where it tells it, else of the one that wrote the record; absent where neither is known.
    pub(crate) version: Option<String>,
    /// That of the record, where it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) record: Option<String>,
    /// What it says that it can beyond what every version can.
    pub(crate) can: Vec<&'static str>,
}

/// So many nodes have a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Count {
    pub(crate) version: String,
    pub(crate) nodes: usize,
}

/// Something that some nodes cannot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Lack {
    /// The word of records.
    pub(crate) ability: &'static str,
    /// In words: "speak BGP".
    pub(crate) what: String,
    /// Those whose daemons have not said that they can.
    pub(crate) nodes: Vec<NodeName>,
    /// Whether the cluster's configuration asks for it.
    pub(crate) asked: bool,
}

impl Version {
    /// That of this program.
    pub(crate) fn own() -> Self {
        let libc = if cfg!(target_env = "musl") { "musl" } else { "gnu" };
        Self {
            version: env!("CARGO_PKG_VERSION"),
            target: format!("{}-{}-{libc}", std::env::consts::ARCH, std::env::consts::OS),
            cni: CNI_VERSIONS,
            can: Ability::OF_THIS_VERSION.iter().map(|ability| ability.word()).collect(),
            cluster: None,
        }
    }
}

impl ClusterVersions {
    /// Of what nodes have registered, and what those that live say of themselves.
    pub(crate) fn new(view: &View, alive: &BTreeMap<NodeName, String>) -> Self {
        let nodes: Vec<_> = view
            .nodes
            .iter()
            .map(|(name, record)| NodeVersion::new(name, &record.value, alive.get(name).map(String::as_str)))
            .collect();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        nodes
            .iter()
            .filter_map(|node| node.version.as_deref())
            .for_each(|version| *counts.entry(version).or_default() += 1);
        let count = |(version, nodes): (&str, usize)| Count { version: version.to_owned(), nodes };
        let mut versions: Vec<Count> = counts.into_iter().map(count).collect();
        versions.sort_by(|a, b| by_age(&a.version, &b.version));
        let lacks: Vec<Lack> = Ability::OF_THIS_VERSION.iter().filter_map(|ability| lack(view, *ability)).collect();
        let (problems, notes) = (problems(&nodes, &lacks), notes(&versions, &lacks));
        Self { nodes, versions, lacks, problems, notes }
    }
}

impl NodeVersion {
    fn new(name: &NodeName, record: &NodeRecord, alive: Option<&str>) -> Self {
        let said = |version: &str| Some(version.to_owned()).filter(|version| !version.is_empty());
        let (runs, written) = (alive.and_then(said), said(&record.version));
        let can = Ability::OF_THIS_VERSION.iter().filter(|ability| record.can(**ability)).map(|ability| ability.word());
        Self {
            name: name.clone(),
            alive: alive.is_some(),
            record: written.clone().filter(|written| runs.as_ref().is_some_and(|runs| runs != written)),
            version: runs.or(written),
            can: can.collect(),
        }
    }
}

fn lack(view: &View, ability: Ability) -> Option<Lack> {
    let nodes: Vec<_> =
        view.nodes.iter().filter(|(_, record)| !record.value.can(ability)).map(|(name, _)| name.clone()).collect();
    let asked = view.config.as_ref().is_some_and(|config| Ability::newly_asked(None, &config.value) == Some(ability));
    (!nodes.is_empty()).then(|| Lack { ability: ability.word(), what: ability.to_string(), nodes, asked })
}

fn problems(nodes: &[NodeVersion], lacks: &[Lack]) -> Vec<Problem> {
    let asked = lacks.iter().filter(|lack| lack.asked).map(|lack| {
        let names: Vec<_> = lack.nodes.iter().map(ToString::to_string).collect();
        let what = format!("the configuration asks twilld to {}, and that has not said there that it can", lack.what);
        Problem::new(subject(&names), what, "update twilld there, or take that out of the configuration")
    });
    let unknown: Vec<_> =
        nodes.iter().filter(|node| node.version.is_none()).map(|node| node.name.to_string()).collect();
    let untold = (!unknown.is_empty()).then(|| {
        let what = "neither the record nor the daemon tells a version";
        Problem::new(subject(&unknown), what, "look at twilld there: what wrote the record?")
    });
    asked.chain(untold).collect()
}

fn notes(versions: &[Count], lacks: &[Lack]) -> Vec<Problem> {
    let mut notes = Vec::new();
    if let [oldest, .., newest] = versions {
        let what = format!("nodes have versions from {} to {}", oldest.version, newest.version);
        notes.push(Problem::new("cluster", what, "that is fine while nodes are updated one by one; finish that"));
    }
    notes.extend(lacks.iter().filter(|lack| !lack.asked).map(|lack| {
        let names: Vec<_> = lack.nodes.iter().map(ToString::to_string).collect();
        let what = format!("not all nodes have said that they can {}: not {}", lack.what, shortened(&names));
        Problem::new("cluster", what, "'twillctl config apply' refuses what asks for it until twilld is updated there")
    }));
    let own = env!("CARGO_PKG_VERSION");
    if let Some(newest) = versions.last().filter(|newest| by_age(&newest.version, own) == Ordering::Greater) {
        let what = format!("it is of version {own}, and there are nodes of version {}", newest.version);
        notes.push(Problem::new("twillctl", what, "update twillctl: it does not know what only these can"));
    }
    notes
}

fn subject(names: &[String]) -> String {
    format!("{} {}", if names.len() == 1 { "node" } else { "nodes" }, shortened(names))
}

/// Older versions first, as Semantic Versioning orders them: by their numbers, and what has a suffix before what has none.
fn by_age(a: &str, b: &str) -> Ordering {
    let parts = |version: &str| {
        let (core, suffix) =
            version.split_once('-').map_or((version, None), |(core, rest)| (core, Some(rest.to_owned())));
        let numbers: Vec<u64> = core.split('.').map(|part| part.parse().unwrap_or(0)).collect();
        (numbers, suffix.is_none(), suffix, version.to_owned())
    };
    parts(a).cmp(&parts(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Picture;

    fn node(version: &str, can: Option<&str>) -> String {
        let can = can.map(|by| format!(r#","can":{{"version":"{by}","what":["bgp","later"]}}"#)).unwrap_or_default();
        format!(r#"{{"machine_id":"m","nonce":"x","version":"{version}"{can}}}"#)
    }

    fn told(rest: &str) -> ClusterVersions {
        let toml = format!("[[pool]]\nname='a'\ncidr='10.1.0.0/16'\n{rest}");
        let config = twill_conf::cluster::ClusterConf::from_toml(&toml).unwrap();
        let config = String::from_utf8(config.to_json()).unwrap();
        let (new, old, left) = (node("0.1.0", Some("0.1.0")), node("0.0.9", None), node("0.0.9", Some("0.1.0")));
        let silent = node("", None);
        let entries = [
            ("config", config.as_str()),
            ("nodes/n1", &new),
            ("nodes/n2", &old),
            ("nodes/n3", &left),
            ("nodes/n4", &silent),
        ];
        let alive = [("n1", "0.1.0"), ("n2", "0.10.0"), ("n3", "")];
        let alive = alive.into_iter().map(|(name, version)| (name.parse().unwrap(), version.to_owned())).collect();
        ClusterVersions::new(&Picture::of(&entries).view, &alive)
    }

    #[test]
    fn each_node_has_the_version_that_runs_else_that_of_its_record() {
        let told = told("");
        let versions: Vec<_> =
            told.nodes.iter().map(|n| (n.alive, n.version.as_deref(), n.record.as_deref(), n.can.len())).collect();
        let wanted = [
            (true, Some("0.1.0"), None, 1),
            (true, Some("0.10.0"), Some("0.0.9"), 0),
            (true, Some("0.0.9"), None, 0),
            (false, None, None, 0),
        ];
        assert_eq!(versions, wanted);
        let counts: Vec<_> = told.versions.iter().map(|count| (count.version.as_str(), count.nodes)).collect();
        assert_eq!(counts, [("0.0.9", 1), ("0.1.0", 1), ("0.10.0", 1)]);
    }

    #[test]
    fn what_not_all_can_is_a_note_until_the_configuration_asks_for_it() {
        let quiet = told("");
        assert_eq!(quiet.lacks[0].nodes.len(), 3);
        let notes: Vec<_> = quiet.notes.iter().map(|note| note.what.as_str()).collect();
        assert_eq!(notes[0], "nodes have versions from 0.0.9 to 0.10.0");
        assert_eq!(notes[1], "not all nodes have said that they can speak BGP: not n2, n3, n4");
        assert!(notes[2].ends_with("and there are nodes of version 0.10.0"), "{notes:?}");
        assert_eq!(quiet.problems.len(), 1, "n4 tells no version: {:?}", quiet.problems);
        let asked = told("[bgp]");
        assert_eq!(asked.problems[0].subject, "nodes n2, n3, n4");
        assert!(
            asked.problems[0].what.starts_with("the configuration asks twilld to speak BGP"),
            "{:?}",
            asked.problems
        );
        assert_eq!(asked.notes.len(), 2);
    }

    #[test]
    fn versions_are_ordered_by_their_numbers() {
        let mut versions = ["1.0.0", "0.10.0", "0.9.0", "1.0.0-rc.1", "0.9.1", "odd"];
        versions.sort_by(|a, b| by_age(a, b));
        assert_eq!(versions, ["odd", "0.9.0", "0.9.1", "0.10.0", "1.0.0-rc.1", "1.0.0"]);
    }
}
