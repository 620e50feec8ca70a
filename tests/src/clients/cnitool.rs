//! cnitool with all that it can be told: capabilities, arguments and networks of several plugins.

use std::path::Path;

use ipnetwork::IpNetwork;
use serde_json::{Value, json};

use crate::clients::machine::{BIN, Machine, NET_D};
use crate::process::Process;
use crate::{LabError, Result};

/// Where it keeps results.
const RESULTS: &str = "/var/lib/cni/results";

/// A pod of cnitool's on a machine: a namespace, a network, and what is asked for it.
#[derive(Debug)]
pub struct Attachment<'a> {
    machine: &'a Machine<'a>,
    name: String,
    network: String,
    capabilities: Value,
    arguments: String,
}

/// What an ADD gave.
#[derive(Debug, Clone)]
pub struct Added {
    /// The result as it was printed.
    pub result: Value,
}

impl<'a> Attachment<'a> {
    /// Makes the namespace, as a runtime does before it calls a plugin.
    pub fn new(machine: &'a Machine<'a>, name: &str, network: &str) -> Result<Self> {
        machine.run(&["ip", "netns", "add", name])?;
        machine.run(&["ip", "-n", name, "link", "set", "lo", "up"])?;
        let network = network.to_owned();
        Ok(Self { machine, name: name.into(), network, capabilities: json!({}), arguments: String::new() })
    }

    /// What the runtime asks of the plugins that have these capabilities.
    pub fn asking(self, capabilities: Value) -> Self {
        Self { capabilities, ..self }
    }

    /// CNI_ARGS.
    pub fn with_arguments(self, arguments: &str) -> Self {
        Self { arguments: arguments.into(), ..self }
    }

    /// ADD.
    pub fn add(&self) -> Result<Added> {
        let text = self.call("add")?;
        let result = serde_json::from_str(&text).map_err(|e| LabError::Unreadable {
            what: "cnitool add".into(),
            cause: e.to_string(),
            text,
        })?;
        Ok(Added { result })
    }

    /// CHECK.
    pub fn check(&self) -> Result<()> {
        self.call("check").map(drop)
    }

    /// DEL.
    pub fn del(&self) -> Result<()> {
        self.call("del").map(drop)
    }

    fn call(&self, verb: &str) -> Result<String> {
        let variables = [
            format!("CNI_PATH={BIN}:{}", super::machine::REFERENCE),
            format!("NETCONFPATH={NET_D}"),
            format!("CAP_ARGS={}", self.capabilities),
            format!("CNI_ARGS={}", self.arguments),
        ];
        let tool = self.machine.node().binaries().cnitool().to_string_lossy().into_owned();
        let variables = variables.iter().map(String::as_str);
        let namespace = format!("/run/netns/{}", self.name);
        let words: Vec<_> =
            ["env"].into_iter().chain(variables).chain([&*tool, verb, &self.network, &namespace]).collect();
        self.machine.run(&words)
    }

    /// Runs words in the pod.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        self.machine.run(&[&["ip", "netns", "exec", &self.name], words].concat())
    }

    /// A server in the pod that answers HTTP on this port with the page of `root`.
    pub fn serve(&self, root: &Path, port: u16) -> Result<Process> {
        let (port, pages) = (port.to_string(), root.join("www"));
        let pages = pages.to_string_lossy();
        let words = ["ip", "netns", "exec", &self.name, "busybox", "httpd", "-f", "-p", &port, "-h", &pages];
        self.machine.start(&format!("server-{}", self.name), &words)
    }

    /// What libcni keeps of attachments.
    pub fn results(&self) -> Result<String> {
        self.machine.run(&["sh", "-c", &format!("ls {RESULTS} 2>/dev/null || true")])
    }
}

impl Added {
    /// The address of one family.
    pub fn address(&self, ipv6: bool) -> Result<IpNetwork> {
        let ips = self.result["ips"].as_array().into_iter().flatten().filter_map(|ip| ip["address"].as_str());
        let mut parsed = ips.filter_map(|text| text.parse::<IpNetwork>().ok());
        let wrong = || LabError::wrong(format!("no address of that family: {}", self.result));
        parsed.find(|address| address.is_ipv6() == ipv6).ok_or_else(wrong)
    }

    /// The name of the host end: the first interface that is in no sandbox.
    pub fn host_interface(&self) -> Result<String> {
        let mut all = self.result["interfaces"].as_array().into_iter().flatten();
        let host = all.find(|interface| interface["sandbox"].as_str().unwrap_or_default().is_empty());
        let name = host.and_then(|interface| interface["name"].as_str()).map(str::to_owned);
        name.ok_or_else(|| LabError::wrong(format!("no host interface: {}", self.result)))
    }
}
