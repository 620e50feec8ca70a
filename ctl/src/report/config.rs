//! What the `config` commands say.

mod concern;
mod outlook;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;
use twill_cluster::{NodeRecord, View};
use twill_conf::cluster::{Bgp, ClusterConf, Given, Pool};
use twill_fabric::switch::Hazard;

use super::pools::PoolUse;
use super::problems::{self, Problem, shortened};

pub(crate) use concern::concerned;
pub(crate) use outlook::{Outlook, Would};

/// `config init`.
#[derive(Debug, Serialize)]
pub(crate) struct Made {
    /// The file that was made; absent where the text itself is wanted.
    pub(crate) file: Option<PathBuf>,
    /// The configuration, as TOML.
    pub(crate) toml: String,
}

/// `config validate`, of a good one. (A bad one is an error.)
#[derive(Debug, Serialize)]
pub(crate) struct Valid {
    /// What was read.
    pub(crate) document: String,
    pub(crate) backend: &'static str,
    pub(crate) pools: Vec<Pool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bgp: Option<Bgp>,
}

/// `config show`.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    /// The mod_revision of the key.
    pub(crate) revision: i64,
    pub(crate) config: ClusterConf,
    /// What a newer version wrote there, and this one does not know: it would go with an edit.
    #[serde(skip)]
    pub(crate) unknown: Vec<Change>,
}

/// `config apply`.
#[derive(Debug, Serialize)]
pub(crate) struct Applied {
    /// At which it stands now.
    pub(crate) revision: i64,
    /// At which the one before stood; absent where there was none.
    pub(crate) previous: Option<i64>,
    /// Empty where it was as wanted already, and nothing was written.
    pub(crate) changes: Vec<Change>,
    /// What it brings about and may not be meant.
    pub(crate) notes: Vec<Problem>,
}

/// Something that living pods would lose by a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peril {
    pub(crate) hazard: Hazard,
    /// The pods on that node, where their MTU is what is in the way, and it was asked for them.
    pub(crate) pods: Vec<String>,
}

impl Peril {
    /// As a note, where it was taken all the same.
    pub(crate) fn note(&self) -> Problem {
        Problem::new(
            "back end",
            self.to_string(),
            "it was applied by --force: these pods lose packets until they are made anew, or the former configuration is applied again",
        )
    }
}

impl fmt::Display for Peril {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hazard, pods } = self;
        write!(f, "{hazard}")?;
        if pods.is_empty() { Ok(()) } else { write!(f, " (of the pods there, {})", shortened(pods)) }
    }
}

/// One value that is another now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Change {
    /// Where, as in `pool.default.masquerade`.
    pub(crate) key: String,
    /// Absent where it was not there.
    pub(crate) from: Option<Value>,
    /// Absent where it is gone.
    pub(crate) to: Option<Value>,
}

impl Valid {
    pub(crate) fn new(document: String, conf: &ClusterConf) -> Self {
        Self { document, backend: conf.backend.kind.name(), pools: conf.pools.clone(), bgp: conf.bgp.clone() }
    }
}

/// What `new` brings about in a cluster as `view` shows it, and may not be meant: pools for nodes that there are not, sessions of BGP
/// without an order or without a use, and nodes that no pool of a family is for any more.
pub(crate) fn notes(view: &View, new: &ClusterConf) -> Vec<Problem> {
    let has_nodes = !view.nodes.is_empty();
    let pools = PoolUse::of(view, &new.pools);
    let mut notes: Vec<Problem> = pools.iter().filter_map(PoolUse::note).filter(|_| has_nodes).collect();
    notes.extend(problems::of_bgp(view, new));
    let Some(old) = &view.config else { return notes };
    let mut losses: BTreeMap<(Vec<&str>, Vec<&str>), Vec<String>> = BTreeMap::new();
    for (name, record) in &view.nodes {
        let (before, after) = (families(&old.value, &record.value), families(new, &record.value));
        let lost: Vec<_> = before.difference(&after).copied().collect();
        if !lost.is_empty() {
            losses.entry((lost, after.into_iter().collect())).or_default().push(name.to_string());
        }
    }
    notes.extend(losses.into_iter().map(|((lost, left), nodes)| {
        let (subject, them) = if nodes.len() == 1 { ("node", "it") } else { ("nodes", "them") };
        let get =
            if left.is_empty() { "no address".to_owned() } else { format!("{} addresses only", left.join(" and ")) };
        let what = format!("no {} pool is for {them} any more: new pods there get {get}", lost.join(" and no "));
        let fix = "if that is not meant, change \"nodes\" or \"disabled\" of a pool, or the labels in twilld.toml";
        Problem::new(format!("{subject} {}", shortened(&nodes)), what, fix)
    }));
    notes
}

/// The families of the pools that are for a node.
fn families(conf: &ClusterConf, node: &NodeRecord) -> BTreeSet<&'static str> {
    conf.pools.iter().filter(|pool| pool.given(&node.labels) == Given::Default).map(Pool::family).collect()
}

/// What becomes another by writing `new` over `old`, the bytes in etcd. These are compared as JSON, so that what a newer
/// version wrote and this one does not know is seen to go.
pub(crate) fn changes(old: Option<&[u8]>, new: &ClusterConf) -> Vec<Change> {
    let old = old.map(|bytes| match serde_json::from_slice(bytes) {
        Ok(value) => leaves(&value),
        Err(_) => [("config".to_owned(), String::from_utf8_lossy(bytes).into())].into(),
    });
    let (old, new) = (old.unwrap_or_default(), leaves(&serde_json::to_value(new).unwrap_or_default()));
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let change = |key: &String| Change { key: key.clone(), from: old.get(key).cloned(), to: new.get(key).cloned() };
    keys.into_iter().map(change).filter(|change| change.from != change.to).collect()
}

/// Every value with its path. Pools go by their names, not by their places: their order has no meaning.
fn leaves(value: &Value) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    collect(String::new(), value, &mut found);
    found
}

fn collect(path: String, value: &Value, found: &mut BTreeMap<String, Value>) {
    let join = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(entries) => entries.iter().for_each(|(key, value)| collect(join(key), value, found)),
        // An empty list says something too: a filter without rules takes nothing.
        Value::Array(items) if !items.is_empty() && items.iter().all(Value::is_object) => {
            for (i, item) in items.iter().enumerate() {
                let mut item = item.clone();
                let name = item.as_object_mut().and_then(|item| item.remove("name"));
                let name = name.and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_else(|| i.to_string());
                collect(join(&name), &item, found);
            }
        }
        leaf => drop(found.insert(path, leaf.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(toml: &str) -> ClusterConf {
        ClusterConf::from_toml(toml).unwrap()
    }

    fn lines(changes: &[Change]) -> Vec<String> {
        let text = |value: &Option<Value>| value.as_ref().map_or("-".into(), Value::to_string);
        changes.iter().map(|c| format!("{} {} {}", c.key, text(&c.from), text(&c.to))).collect()
    }

    #[test]
    fn what_is_as_it_was_is_no_change_whatever_the_order_of_the_pools() {
        let a = "[[pool]]\nname='a'\ncidr='10.1.0.0/16'\n";
        let b = "[[pool]]\nname='b'\ncidr='10.2.0.0/16'\n";
        let old = conf(&format!("{a}{b}")).to_json();
        assert_eq!(changes(Some(&old), &conf(&format!("{b}{a}"))), []);
    }

    #[test]
    fn each_value_that_changes_is_named_with_both() {
        let old = br#"{"pool":[{"name":"a","cidr":"10.1.0.0/16","block":26,"masquerade":true,"announce":false}],
                       "backend":{"type":"vxlan","vni":7,"port":4789}}"#;
        let new = conf("[[pool]]\nname='a'\ncidr='10.1.0.0/16'\nmasquerade=false\n[backend]\nvni=8");
        let wanted = ["backend.vni 7 8", "pool.a.announce false -", "pool.a.masquerade true false"];
        assert_eq!(lines(&changes(Some(old), &new)), wanted);
    }

    #[test]
    fn a_filter_that_takes_nothing_any_more_is_a_change() {
        let with = |filter: &str| {
            conf(&format!(
                "[[pool]]\nname='a'\ncidr='10.1.0.0/16'\n[[bgp.peer]]\nname='p'\naddress='192.0.2.1'\nas=7\n{filter}"
            ))
        };
        let old = with("import=[{ prefixes=['10.0.0.0/8'], action='accept', med=1 }]").to_json();
        let wanted = [
            "bgp.peer.p.import - []",
            "bgp.peer.p.import.0.action \"accept\" -",
            "bgp.peer.p.import.0.med 1 -",
            "bgp.peer.p.import.0.prefixes [\"10.0.0.0/8\"] -",
        ];
        assert_eq!(lines(&changes(Some(&old), &with("import=[]"))), wanted);
        assert_eq!(lines(&changes(Some(&with("").to_json()), &with("import=[]"))), wanted[..1]);
    }

    #[test]
    fn the_first_configuration_is_all_new_and_rubbish_is_all_old() {
        let new = conf("[[pool]]\nname='a'\ncidr='10.1.0.0/16'");
        assert!(changes(None, &new).iter().all(|change| change.from.is_none()));
        assert_eq!(changes(None, &new).len(), 6);
        assert_eq!(lines(&changes(Some(b"rubbish"), &new))[3], "config \"rubbish\" -");
    }

    #[test]
    fn what_a_configuration_brings_about_and_may_not_be_meant_is_told() {
        let six = "[[pool]]\nname='six'\ncidr='fd42::/48'\n";
        let four = "[[pool]]\nname='four'\ncidr='10.1.0.0/16'\n";
        let old = conf(&format!("{four}{six}")).to_json();
        let record = |zone: &str| format!(r#"{{"machine_id":"m","nonce":"x","labels":{{"zone":"{zone}"}}}}"#);
        let (a, b) = (record("a"), record("b"));
        let old = std::str::from_utf8(&old).unwrap();
        let view =
            crate::access::Picture::of(&[("config", old), ("nodes/n1", &a), ("nodes/n2", &b), ("nodes/n3", &b)]).view;
        let told = |toml: &str| -> Vec<String> {
            notes(&view, &conf(toml)).iter().map(|note| format!("{}: {}", note.subject, note.what)).collect()
        };
        assert_eq!(told(&format!("{four}{six}")), Vec::<String>::new());
        let wanted = ["nodes n2, n3: no IPv6 pool is for them any more: new pods there get IPv4 addresses only"];
        assert_eq!(told(&format!("{four}{six}nodes=\"zone == 'a'\"")), wanted);
        let wanted = [
            "pool six: no node has labels with zone == 'c': only pods that name it are given anything of it",
            "nodes n1, n2, n3: no IPv4 and no IPv6 pool is for them any more: new pods there get no address",
        ];
        assert_eq!(told(&format!("{four}disabled=true\n{six}nodes=\"zone == 'c'\"")), wanted);
        let reflected = told(&format!("{four}{six}[bgp.reflectors]\nnodes='has(reflector)'"));
        assert_eq!(reflected, ["AS 64512: none of its nodes is a reflector: they are meshed until one is"]);
        let empty = crate::access::Picture::of(&[]).view;
        assert_eq!(notes(&empty, &conf(&format!("{six}nodes=\"zone == 'c'\""))), [], "no node is there yet");
    }
}
