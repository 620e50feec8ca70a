//! `--preflight`: a machine on which nothing of Twill is, as root and as nobody.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use twill_testkit::Namespaces;
use twill_tests::binaries::Binaries;
use twill_tests::namespace::Namespace;
use twill_tests::needs;

use super::stage::problem;

/// A machine: a namespace, a program that everybody may run, and directories.
struct Machine {
    namespace: Namespace,
    directory: TempDir,
    _owner: Namespaces,
}

fn machine() -> Option<Machine> {
    if let Some(why) = needs::unmet() {
        needs::say_skipped(&why);
        return None;
    }
    let owner = Namespaces::claim()?;
    owner.add("machine");
    let namespace = Namespace::named(owner.name("machine"));
    let directory = tempfile::tempdir().expect("a directory");
    let everybody = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("its mode");
    everybody(directory.path());
    for part in ["bin", "net.d", "run"] {
        fs::create_dir(directory.path().join(part)).expect("a directory");
        everybody(&directory.path().join(part));
    }
    let program = directory.path().join("twillctl");
    fs::copy(Binaries::ready().expect("programs").ctl(), &program).expect("a copy");
    everybody(&program);
    Some(Machine { namespace, directory, _owner: owner })
}

impl Machine {
    fn path(&self, part: &str) -> PathBuf {
        self.directory.path().join(part)
    }

    /// What it says behind these words, and its exit status.
    fn look(&self, before: &[&str]) -> (Option<i32>, Value) {
        let path = |part: &str| self.path(part).to_string_lossy().into_owned();
        let (bin, net_d, run, program) = (path("bin"), path("net.d"), path("run"), path("twillctl"));
        let words = [
            &program,
            "doctor",
            "--preflight",
            "-o",
            "json",
            "--cni-bin-dir",
            &bin,
            "--cni-conf-dir",
            &net_d,
            "--run-dir",
            &run,
        ];
        let words = [before, &words].concat();
        let output = self.namespace.output(Command::new(words[0]).args(&words[1..])).expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let value = serde_json::from_str(&text);
        (output.status.code(), value.unwrap_or_else(|error| panic!("{error}: {output:?}")))
    }
}

fn states(said: &Value, state: &str) -> Vec<String> {
    let rows = said["checks"].as_array().into_iter().flatten().filter(|row| row["state"] == state);
    rows.filter_map(|row| row["check"].as_str().map(str::to_owned)).collect()
}

const NOBODY: [&str; 5] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];

#[test]
fn a_bare_machine_is_good_for_root_and_nobody_could_not_tell() {
    let Some(machine) = machine() else { return };
    let (status, said) = machine.look(&[]);
    assert_eq!(status, Some(0), "{said:#}");
    assert!(said["unknown"].as_array().is_some_and(Vec::is_empty), "{said:#}");
    let good = states(&said, "ok");
    for check in ["kernel", "nft", "sysctl", "tunnel", "cni", "permissions", "directories", "identity"] {
        assert!(good.iter().any(|name| name == check), "{check}: {said:#}");
    }
    // It has no interface to other nodes, so that their packets come in was not judged.
    assert!(states(&said, "note").iter().any(|name| name == "firewall"), "{said:#}");
    let before = machine.namespace.run(&["nft", "list", "ruleset"]).expect("nft");
    let links = machine.namespace.run(&["ip", "-br", "link"]).expect("ip");
    assert!(before.trim().is_empty() && links.lines().count() == 1, "it changed something: {before}{links}");

    let (status, said) = machine.look(&NOBODY);
    assert_eq!(status, Some(2), "{said:#}");
    let unknown = states(&said, "unknown");
    for check in ["kernel", "firewall", "permissions", "sysctl"] {
        assert!(unknown.iter().any(|name| name == check), "{check}: {said:#}");
    }
    assert!(states(&said, "ok").iter().any(|name| name == "nft"), "what can be told is told: {said:#}");
}

#[test]
fn what_would_stand_in_the_way_is_told_before_anything_is_installed() {
    let Some(machine) = machine() else { return };
    let ruleset = "table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }";
    machine.namespace.run(&["nft", ruleset]).expect("nft");
    machine.namespace.ip_batch("link add flannel.1 type vxlan id 1 dstport 8472\n").expect("ip");
    machine.namespace.ip_batch("link add other type vxlan id 7777 dstport 4789\n").expect("ip");
    let list = r#"{"cniVersion":"1.0.0","name":"other","plugins":[{"type":"bridge"}]}"#;
    fs::write(machine.path("net.d/00-other.conflist"), list).expect("a file");
    fs::write(machine.path("bin/twill"), "#!/bin/sh\n").expect("a file");
    let (status, said) = machine.look(&[]);
    assert_eq!(status, Some(1), "{said:#}");
    for (what, fix) in [
        ("its policy is drop", "open_forward = true"),
        ("device other: it has VNI 7777", "ip link delete other"),
        ("the first by name", "move it away"),
        ("another program stands in the plugin's place", "move it away"),
    ] {
        let found = problem(&said, what).unwrap_or_else(|| panic!("{what}: {said:#}"));
        assert!(
            found["subject"] == "this machine" && found["fix"].as_str().is_some_and(|text| text.contains(fix)),
            "{found}"
        );
    }
    assert!(said["notes"].to_string().contains("flannel.1"), "{said:#}");

    let hide = "if [ -e /usr/sbin/nft ]; then mount --bind /dev/null /usr/sbin/nft; fi; exec \"$0\" \"$@\"";
    let (status, said) = machine.look(&[
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "env",
        "PATH=/nowhere:/bin:/usr/bin",
        "sh",
        "-ec",
        hide,
    ]);
    assert_eq!(status, Some(1));
    assert!(problem(&said, "it cannot be run, so there is no firewall").is_some(), "{said:#}");
}
