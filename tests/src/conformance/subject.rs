//! A plugin under examination: all that the cases need to know of it beyond the specification.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::Candidate;
use crate::{LabError, Result};

/// The description of a plugin.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// What the table calls it.
    pub name: String,
    /// What the names of its interfaces on the node begin with.
    pub prefix: String,
    /// Whether rules of Twill's own, beyond the specification and its conventions, are asked of it.
    #[serde(default)]
    pub is_ours: bool,
    /// Which optional features it has, as rules name them in `needs`.
    #[serde(default)]
    pub offers: Vec<String>,
    /// Who has the features that it leaves to others.
    #[serde(default)]
    pub elsewhere: BTreeMap<String, String>,
    /// A shell script that prints a line for each address and attachment in use. `{state}` is the case's own directory.
    pub rows: String,
    /// A shell script that makes the plugin forget them, as a lost reservation.
    pub forget: String,
    /// The network configuration without version and name.
    pub conf: Map<String, Value>,
    /// What to lay over it for a network with very few addresses.
    pub small: Map<String, Value>,
    /// What to lay over it for a further interface of a pod.
    pub further: Map<String, Value>,
    /// What to lay over it for another network: other addresses, another name.
    pub other: Map<String, Value>,
    /// Words that cases use: addresses that are free, taken, outside.
    pub words: BTreeMap<String, String>,
}

impl Subject {
    /// Reads the description of that name.
    pub fn read(name: &str) -> Result<Self> {
        let path = super::directory().join("subjects").join(format!("{name}.toml"));
        super::rule::read_toml(&path)
    }
}

impl Candidate {
    /// Asks the program for its versions.
    pub fn new(subject: Subject, program: PathBuf) -> Result<Self> {
        let mut command = Command::new(&program);
        command.env_clear().env("CNI_COMMAND", "VERSION").stdin(std::process::Stdio::null());
        let output = command.output().map_err(LabError::io(format!("asking {} for VERSION", program.display())))?;
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let listed = answer["supportedVersions"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let versions: Vec<_> = listed.map(str::to_owned).collect();
        if versions.is_empty() {
            return Err(LabError::wrong(format!("{} lists no versions: {answer}", program.display())));
        }
        Ok(Self { subject, program, versions, in_its_place: None })
    }

    /// The directory with the program, where it finds what it delegates to.
    pub fn directory(&self) -> &Path {
        self.program.parent().unwrap_or(Path::new("/"))
    }

    /// Whether it speaks a version.
    pub fn speaks(&self, version: &str) -> bool {
        self.versions.iter().any(|v| v == version)
    }
}
