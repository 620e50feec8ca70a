//! The plugin, called as a container runtime calls it (CNI specification 1.1.0).

use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use ipnetwork::IpNetwork;
use serde_json::{Value, json};
use twill_cluster::inquiry::attempts::remedy;
use twill_cluster::inquiry::trial::{Answer, NAME};
use twill_conf::NodeName;
use twill_linux::program::{converse, dies_with_its_starter};

use super::{Means, refused};

/// The interface of a trial's pods.
pub(super) const IFNAME: &str = "eth0";
/// How long a call may take: an ADD may wait for a block.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// The plugin's code where there is no address (docs/operating-addresses.md).
const NO_ADDRESS: u32 = 100;

/// No more is kept of what it prints, in bytes.
const LONGEST_RESULT: usize = 1 << 20;

/// A call about one pod.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) means: &'a Means,
    /// CNI_CONTAINERID.
    pub(super) container: &'a str,
    /// CNI_NETNS.
    pub(super) netns: &'a Path,
    /// It is ended when it takes longer.
    pub(super) patience: Duration,
}

impl Call<'_> {
    /// Attaches the pod; its addresses.
    pub(super) fn add(&self) -> Result<Vec<IpAddr>, Answer> {
        let failed = |failure: Failure| {
            refused(format!("its plugin attaches no pod: {}", failure.what), failure.fix(&self.means.name))
        };
        addresses_of(&self.run("ADD").map_err(failed)?).map_err(|what| failed(what.into()))
    }

    /// Detaches it.
    pub(super) fn del(&self) -> Result<(), String> {
        self.run("DEL").map(drop).map_err(|failure| failure.what)
    }

    /// The result, or what is wrong.
    fn run(&self, verb: &str) -> Result<Value, Failure> {
        let Self { means, container, netns, patience } = *self;
        let input = json!({ "cniVersion": "1.0.0", "name": NAME, "type": "twill", "runDir": means.run_dir });
        let mut command = Command::new(&means.plugin);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("CNI_COMMAND", verb).env("CNI_CONTAINERID", container).env("CNI_NETNS", netns);
        command.env("CNI_IFNAME", IFNAME).env("CNI_PATH", means.plugin.parent().unwrap_or(Path::new("/")));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let plugin = means.plugin.display();
        let child =
            dies_with_its_starter(&mut command).spawn().map_err(|cause| format!("{plugin} cannot be run: {cause}"))?;
        let said = converse(child, input.to_string().as_bytes(), patience, LONGEST_RESULT, || true);
        let said = said.map_err(|cause| match cause.kind() {
            ErrorKind::TimedOut => format!("it has not ended within {} s", patience.as_secs()),
            _ => format!("{plugin}: {cause}"),
        })?;
        let output = String::from_utf8_lossy(&said.stdout);
        let result = serde_json::from_str(&output).unwrap_or(Value::Null);
        if said.status.success() { Ok(result) } else { Err(error_of(&result, &output)) }
    }
}

/// Why a call has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failure {
    /// In a line.
    what: String,
    /// The code of CNI, where the plugin has told one.
    code: Option<u32>,
}

impl Failure {
    /// What to do about it on this node, which is what `twillctl why` says of the same.
    fn fix(&self, node: &NodeName) -> String {
        let by_code = self.code.map(|code| remedy(node, code, &self.what));
        by_code.unwrap_or_else(|| "'twillctl ipam attempts' on the node shows more".to_owned())
    }
}

impl From<String> for Failure {
    fn from(what: String) -> Self {
        Self { what, code: None }
    }
}

/// What a plugin says of its failure.
fn error_of(result: &Value, output: &str) -> Failure {
    let text = |key: &str| result[key].as_str().map(str::trim).filter(|text| !text.is_empty());
    let code = result["code"].as_u64().and_then(|code| u32::try_from(code).ok());
    let what = match (text("msg"), text("details")) {
        // The details of one that finds no address are a remedy, and that is told by the code.
        (Some(message), Some(_)) if code == Some(NO_ADDRESS) => message.to_owned(),
        (Some(message), Some(details)) => format!("{message} ({details})"),
        (Some(message), None) => message.to_owned(),
        _ => format!("it fails, and says {:?}", output.chars().take(200).collect::<String>()),
    };
    Failure { what, code }
}

fn addresses_of(result: &Value) -> Result<Vec<IpAddr>, String> {
    let ips = result["ips"].as_array().map(Vec::as_slice).unwrap_or_default();
    let read = |ip: &Value| ip["address"].as_str()?.parse::<IpNetwork>().ok().map(|network| network.ip());
    let addresses: Option<Vec<IpAddr>> = ips.iter().map(read).collect();
    addresses.filter(|all| !all.is_empty()).ok_or_else(|| format!("its result has no addresses: {result}"))
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;

    #[test]
    fn a_plugin_that_takes_too_long_is_ended_and_reaped() {
        let directory = tempfile::tempdir().unwrap();
        let (plugin, word) = (directory.path().join("plugin"), directory.path().join("pid"));
        twill_testkit::write_program(&plugin, &format!("#!/bin/sh\necho $$ > {}\nexec sleep 600\n", word.display()));
        let (_pictures, pictures) = watch::channel(None);
        let (_underlays, underlays) = watch::channel(None);
        let means = Means::for_tests(plugin, pictures, underlays);
        let call = Call { means: &means, container: "c", netns: Path::new("/x"), patience: Duration::from_secs(1) };
        assert_eq!(call.del(), Err("it has not ended within 1 s".to_owned()));
        let pid = std::fs::read_to_string(word).unwrap();
        assert!(!Path::new("/proc").join(pid.trim()).exists(), "neither it nor what is left of it");
    }

    #[test]
    fn a_result_has_addresses_and_an_error_its_words() {
        let result = json!({ "ips": [{ "address": "10.42.0.7/32" }, { "address": "fd42::7/128" }] });
        assert_eq!(
            addresses_of(&result).unwrap(),
            ["10.42.0.7".parse::<IpAddr>().unwrap(), "fd42::7".parse().unwrap()]
        );
        assert!(addresses_of(&json!({ "ips": [] })).is_err() && addresses_of(&Value::Null).is_err());
        assert!(addresses_of(&json!({ "ips": [{ "address": "x" }] })).is_err());
        let error = json!({ "code": 11, "msg": "no block yet", "details": "twilld claims one" });
        let failure = error_of(&error, "");
        assert_eq!((failure.what.as_str(), failure.code), ("no block yet (twilld claims one)", Some(11)));
        assert_eq!(error_of(&Value::Null, "Killed"), "it fails, and says \"Killed\"".to_owned().into());
    }

    #[test]
    fn what_helps_where_no_pod_is_attached_is_told_by_the_code() {
        let node = "n1".parse().unwrap();
        let fix = |error: &Value| error_of(error, "").fix(&node);
        let exhausted = json!({ "code": 100, "msg": "no free IPv4 address", "details": "add a pool, remove pods" });
        assert_eq!(error_of(&exhausted, "").what, "no free IPv4 address", "what helps is no cause");
        assert!(fix(&exhausted).starts_with("add a pool of this family, remove pods"), "{}", fix(&exhausted));
        let drained = json!({ "code": 100, "msg": twill_ipam::Error::Draining { node: "n1".to_owned() }.to_string() });
        assert!(fix(&drained).contains("twillctl node drain n1 --undo"), "{}", fix(&drained));
        assert!(fix(&Value::Null).contains("twillctl ipam attempts"));
    }
}
