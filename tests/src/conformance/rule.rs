//! The rules and their cases, as the files have them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{LabError, Result};

/// The verbs that rules may be about; `none` is a call without CNI_COMMAND.
pub const VERBS: [&str; 7] = ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION", "none"];

/// All versions of the specification, the oldest first.
pub const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    title: String,
    rule: Vec<Rule>,
}

/// A sentence that a plugin must keep.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// A name for messages, unique.
    pub id: String,
    /// The sentence, in our own words.
    pub text: String,
    /// Where it is written.
    pub source: String,
    /// The verbs that it is about; each is a row of the table.
    pub verbs: Vec<String>,
    /// A feature that a plugin may leave to others.
    pub needs: Option<String>,
    /// Beyond specification and conventions: asked of Twill only.
    #[serde(default)]
    pub ours: bool,
    /// What must go well for it.
    pub case: Vec<Case>,
    /// The title of its file.
    #[serde(skip)]
    pub chapter: String,
}

/// One call with what went before, what is expected, and what comes after.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Of the rule's verbs those that it is about; all where absent.
    pub verbs: Option<Vec<String>>,
    /// The versions in which it is played: 1.0.0 where absent, 1.1.0 for GC and STATUS.
    pub versions: Option<Vec<String>>,
    /// What goes before.
    #[serde(default)]
    pub given: Vec<Step>,
    /// How the call differs from an ordinary one.
    #[serde(default)]
    pub call: Call,
    /// What is expected of it.
    #[serde(default)]
    pub expect: Expect,
    /// What comes after; all of it must go well.
    #[serde(default)]
    pub then: Vec<Step>,
}

/// One thing that is done: exactly one of `verb`, `run`, `forget` and `remove` is there.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// A call of the plugin.
    pub verb: Option<String>,
    /// The call's particulars.
    #[serde(default)]
    pub call: Call,
    /// What is expected of it.
    #[serde(default)]
    pub expect: Expect,
    /// A command line, which must succeed.
    pub run: Option<String>,
    /// Where it runs: `node`, or a pod; the pod `a` where absent.
    #[serde(rename = "in")]
    pub place: Option<String>,
    /// A pod whose namespace is taken away.
    pub remove: Option<String>,
    /// The plugin's reservations are lost.
    #[serde(default)]
    pub forget: bool,
}

/// How a call differs from an ordinary one: the pod `a`, its `eth0`, the subject's configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Whose container.
    pub pod: Option<String>,
    /// CNI_IFNAME.
    pub ifname: Option<String>,
    /// Variables: a text replaces, `false` takes away.
    #[serde(default)]
    pub env: BTreeMap<String, Value>,
    /// Laid over the configuration, deeply.
    #[serde(default)]
    pub conf: Map<String, Value>,
    /// Keys that are null in the configuration, which TOML cannot say.
    #[serde(default)]
    pub null: Vec<String>,
    /// Keys that are taken out of the configuration.
    #[serde(default)]
    pub without: Vec<String>,
    /// With the subject's few addresses.
    #[serde(default)]
    pub small: bool,
    /// For a further interface of a pod.
    #[serde(default)]
    pub further: bool,
    /// In the subject's other network.
    #[serde(default)]
    pub other: bool,
    /// The version; the case's where absent.
    pub version: Option<String>,
    /// Standard input to the letter, instead of a configuration.
    pub stdin: Option<String>,
    /// Whether standard input stays open.
    #[serde(default)]
    pub stdin_stays_open: bool,
    /// `prevResult`: `"result"` is that of the ADD, `"none"` none, an object itself. Where absent, CHECK and DEL get what
    /// libcni gives them.
    pub prev: Option<Value>,
    /// What is changed in the result of the ADD before it is handed over, by JSON pointer.
    #[serde(default)]
    pub prev_set: BTreeMap<String, Value>,
}

/// What is expected of a call: success, unless something else is said.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// An error with this code of the specification.
    pub code: Option<u64>,
    /// An error; Twill's has this code, others' any.
    pub own: Option<u64>,
    /// An error with any code.
    #[serde(default)]
    pub fails: bool,
    /// What the error's text contains.
    #[serde(default)]
    pub says: Vec<String>,
    /// What it must not contain, in whatever case.
    #[serde(default)]
    pub says_not: Vec<String>,
    /// Values in the answer, by JSON pointer; `"*"` is any, `"absent"` none.
    #[serde(default)]
    pub answer: BTreeMap<String, Value>,
    /// What is left in kernel and store: `unchanged`, `attached`, `detached`, `any`. Where absent, what the verb and its
    /// success make of it.
    pub left: Option<String>,
    /// Either a success or an error, and what that leaves.
    #[serde(default)]
    pub either: bool,
    /// Addresses that no row of the store has any more.
    #[serde(default)]
    pub frees: Vec<String>,
    /// What is seen then.
    #[serde(default)]
    pub holds: Vec<Look>,
    /// How long the call may take.
    pub within_ms: Option<u64>,
}

impl Expect {
    /// Whether it is an error that is expected.
    pub fn failure(&self) -> bool {
        self.fails || self.code.is_some() || self.own.is_some()
    }
}

/// A look at something by a command.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Look {
    /// Where it runs: `node`, or a pod.
    #[serde(rename = "in")]
    pub place: String,
    /// The command line.
    pub run: String,
    /// What its output contains.
    pub shows: Option<String>,
    /// What its output must not contain.
    pub lacks: Option<String>,
    /// What the table says where it is not so.
    pub or: String,
}

/// All rules, in the order of their files' names.
pub fn all() -> Result<Vec<Rule>> {
    let directory = super::directory().join("rules");
    let listing = fs::read_dir(&directory).map_err(LabError::io(format!("listing {}", directory.display())))?;
    let mut paths: Vec<_> = listing.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "toml"));
    paths.sort();
    let mut rules = Vec::new();
    for path in paths {
        let File { title, rule } = read_toml(&path)?;
        rules.extend(rule.into_iter().map(|rule| Rule { chapter: title.clone(), ..rule }));
    }
    expect_sound(&rules)?;
    Ok(rules)
}

/// That the rules say what a program can play.
fn expect_sound(rules: &[Rule]) -> Result<()> {
    let mut ids = BTreeSet::new();
    for rule in rules {
        let wrong = |what: &str| Err(LabError::wrong(format!("rule {}: {what}", rule.id)));
        if !ids.insert(&rule.id) {
            return wrong("there are two");
        }
        let known = |verbs: &[String]| verbs.iter().all(|verb| VERBS.contains(&verb.as_str()));
        if !known(&rule.verbs) || rule.verbs.is_empty() {
            return wrong("an unknown verb, or none");
        }
        for verb in &rule.verbs {
            if !rule.case.iter().any(|case| case.is_about(verb)) {
                return wrong("a verb without a case");
            }
        }
        for case in &rule.case {
            let mut versions = case.versions.iter().flatten();
            if versions.any(|v| !VERSIONS.contains(&v.as_str())) {
                return wrong("an unknown version");
            }
            for step in case.given.iter().chain(&case.then) {
                let kinds = [step.verb.is_some(), step.run.is_some(), step.remove.is_some(), step.forget];
                if kinds.into_iter().filter(|is_there| *is_there).count() != 1 {
                    return wrong("a step that is not one thing");
                }
            }
        }
    }
    Ok(())
}

impl Case {
    /// Whether it is played for this verb of its rule.
    pub fn is_about(&self, verb: &str) -> bool {
        self.verbs.as_ref().is_none_or(|verbs| verbs.iter().any(|v| v == verb))
    }
}

/// Reads a file of data.
pub(super) fn read_toml<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).map_err(LabError::io(format!("reading {}", path.display())))?;
    toml::from_str(&text).map_err(|error| LabError::wrong(format!("{}: {error}", path.display())))
}
