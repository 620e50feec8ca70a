//! The network configuration of a node, and the plugin called directly, as a runtime does. cnitool shows a message, but
//! neither the code of an error nor how long the plugin itself took.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use serde_json::{Value, json};

use crate::namespace::Namespace;
use crate::process;
use crate::{LabError, Result};

/// The version that the lab's configurations ask for: the newest that Debian's cnitool knows.
pub const VERSION: &str = "1.0.0";

/// The codes of errors that tests expect (`cni.md`; CNI specification 1.1.0, "Error").
pub mod code {
    /// Try again later.
    pub const LATER: u64 = 11;
    /// STATUS: an ADD could not be served.
    pub const UNAVAILABLE: u64 = 50;
    /// No addresses left.
    pub const NO_ADDRESS: u64 = 100;
    /// The interface exists.
    pub const EXISTS: u64 = 101;
    /// The namespace is missing or is none.
    pub const NAMESPACE: u64 = 102;
    /// CHECK found a difference.
    pub const DIFFERENCE: u64 = 104;
}

/// What the plugin is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Attach.
    Add,
    /// Detach.
    Del,
    /// Look whether all is as ADD left it.
    Check,
    /// Remove what is not in a list. Names no attachment.
    Gc,
    /// Say whether an ADD could be served. Names no attachment.
    Status,
    /// What versions are supported.
    Version,
}

impl Verb {
    /// CNI_COMMAND.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }
}

/// A node's network, as the plugin and cnitool get to see it.
#[derive(Debug, Clone)]
pub struct Network {
    /// The name.
    pub name: String,
    /// Keys of the plugin: `runDir`, `subnets` and whatever a test adds.
    pub keys: serde_json::Map<String, Value>,
}

impl Network {
    /// The network of a node; stand-alone where there are subnets.
    pub fn new(name: String, run_dir: &Path, subnets: &[IpNetwork]) -> Self {
        let mut keys = serde_json::Map::new();
        keys.insert("type".into(), json!("twill"));
        keys.insert("runDir".into(), json!(run_dir));
        keys.insert("capabilities".into(), json!({"portMappings": true, "bandwidth": true, "ips": true, "mac": true}));
        if !subnets.is_empty() {
            keys.insert("subnets".into(), json!(subnets));
        }
        Self { name, keys }
    }

    /// The list that cnitool and runtimes read.
    pub fn list(&self) -> Value {
        json!({ "cniVersion": VERSION, "name": self.name, "plugins": [self.keys] })
    }

    /// What libcni makes of it for the plugin.
    pub fn plugin_input(&self, previous: Option<&Value>) -> Value {
        let mut input = self.keys.clone();
        input.insert("cniVersion".into(), json!(VERSION));
        input.insert("name".into(), json!(self.name));
        if let Some(previous) = previous {
            input.insert("prevResult".into(), previous.clone());
        }
        Value::Object(input)
    }
}

/// One call of the plugin.
#[derive(Debug)]
pub struct Call<'a> {
    /// The plugin.
    pub plugin: &'a Path,
    /// CNI_COMMAND.
    pub verb: Verb,
    /// CNI_CONTAINERID.
    pub container: &'a str,
    /// CNI_NETNS.
    pub netns: &'a Path,
    /// CNI_IFNAME.
    pub ifname: &'a str,
    /// Standard input.
    pub input: &'a Value,
}

/// How a call went.
#[derive(Debug)]
pub struct Answer {
    /// Whether the exit status was 0.
    pub success: bool,
    /// Standard output; `null` where there was none.
    pub output: Value,
    /// The whole process, from its start to its end.
    pub took: Duration,
}

impl Call<'_> {
    /// Calls the plugin inside a node's namespace.
    pub fn run_in(&self, node: &Namespace) -> Result<Answer> {
        let mut command = Command::new(self.plugin);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("CNI_COMMAND", self.verb.as_str()).env("CNI_CONTAINERID", self.container);
        command.env("CNI_NETNS", self.netns).env("CNI_IFNAME", self.ifname);
        command.env("CNI_PATH", self.plugin.parent().unwrap_or(Path::new("/")));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let what = || format!("{} {}", process::words(&command), self.verb.as_str());
        let (what, input) = (what(), self.input.to_string());
        let started = Instant::now();
        let mut child = node.start(&mut command)?;
        let mut stdin = child.stdin.take().expect("it was piped");
        match stdin.write_all(input.as_bytes()) {
            // VERSION need not read its input.
            Err(cause) if cause.kind() != std::io::ErrorKind::BrokenPipe => return Err(LabError::io(what)(cause)),
            _ => drop(stdin),
        }
        let output = child.wait_with_output().map_err(LabError::io(what.clone()))?;
        let took = started.elapsed();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let value = match text.trim() {
            "" => Value::Null,
            json => serde_json::from_str(json).map_err(|e| LabError::Unreadable {
                what,
                cause: e.to_string(),
                text: format!("{text}{}", String::from_utf8_lossy(&output.stderr)),
            })?,
        };
        Ok(Answer { success: output.status.success(), output: value, took })
    }
}

impl Answer {
    /// The code of the error; `None` where the call succeeded.
    pub fn code(&self) -> Option<u64> {
        if self.success { None } else { self.output["code"].as_u64() }
    }

    /// The result of a call that is to have succeeded.
    pub fn expect_success(self) -> Result<Value> {
        if self.success { Ok(self.output) } else { Err(LabError::wrong(format!("the plugin failed: {}", self.output))) }
    }

    /// Asserts that the call failed with this code.
    pub fn expect_code(&self, code: u64) -> Result<()> {
        if self.code() == Some(code) {
            return Ok(());
        }
        let text = if self.success { "it succeeded".to_owned() } else { self.output.to_string() };
        Err(LabError::wrong(format!("expected the error code {code}: {text}")))
    }
}
