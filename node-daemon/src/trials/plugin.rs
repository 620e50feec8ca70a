//! The plugin, called as a container runtime calls it (CNI specification 1.1.0).

use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use ipnetwork::IpNetwork;
use serde_json::{Value, json};
use twill_cluster::inquiry::trial::{Answer, NAME};
use twill_linux::program::{converse, dies_with_its_starter};

use super::{Means, refused};

/// The interface of a trial's pods.
pub(super) const IFNAME: &str = "eth0";
/// How long a call may take: an ADD may wait for a block.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

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
        let failed = |what: String| {
            refused(format!("its plugin attaches no pod: {what}"), "'twillctl ipam attempts' on the node shows more")
        };
        addresses_of(&self.run("ADD").map_err(failed)?).map_err(failed)
    }

    /// Detaches it.
    pub(super) fn del(&self) -> Result<(), String> {
        self.run("DEL").map(drop)
    }

    /// The result, or what is wrong.
    fn run(&self, verb: &str) -> Result<Value, String> {
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

/// What a plugin says of its failure, in a line.
fn error_of(result: &Value, output: &str) -> String {
    let text = |key: &str| result[key].as_str().map(str::trim).filter(|text| !text.is_empty());
    match (text("msg"), text("details")) {
        (Some(message), Some(details)) => format!("{message} ({details})"),
        (Some(message), None) => message.to_owned(),
        _ => format!("it fails, and says {:?}", output.chars().take(200).collect::<String>()),
    }
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
        assert_eq!(error_of(&error, ""), "no block yet (twilld claims one)");
        assert_eq!(error_of(&Value::Null, "Killed"), "it fails, and says \"Killed\"");
    }
}
