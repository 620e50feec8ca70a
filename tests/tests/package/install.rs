//! The life of the package on a clean Debian 12.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use twill_tests::cni::Verb;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::probe::Probe;
use twill_tests::process::run_on_host;
use twill_tests::{Lab, LabError, Node, Result, with_lab};

use super::debian::{self, Debian};

/// Directories that runtimes watch for as long as they run: one that is taken away they would not find again.
const STAY: [&str; 4] = ["./opt/cni", "./opt/cni/bin", "./etc/cni", "./etc/cni/net.d"];

/// What a later version's sample might have more.
const ANOTHER: &str = "\n#a_new_key = true\n";

#[test]
fn a_clean_debian_serves_a_pod_through_an_upgrade_and_nothing_is_left_after_the_purge() {
    let base = match debian::base() {
        Ok(Some(base)) if twill_testkit::is_root("entering a Debian 12") => base,
        Ok(_) => return,
        Err(error) => panic!("{error}"),
    };
    with_lab(Lab::builder().nodes(2).asleep(), |lab| {
        let (node, other) = (lab.node(1), lab.node(2));
        other.start_daemon()?;
        let machine = Debian::on(node, &base)?;
        machine.stand_in()?;
        let before = (machine.files()?, machine.kernel()?);

        let said = machine.dpkg_install(&debian::package(lab, "first", &[])?)?;
        assert!(said.contains("nothing runs yet") && said.contains("systemctl enable --now twilld"), "{said}");
        assert_eq!(machine.daemon(), None, "an installation starts nothing");
        assert_eq!(machine.kernel()?, before.1, "an installation changes nothing of the network");
        configure(lab, &machine, node)?;
        machine.run(&["systemctl", "start", "twilld.service"])?;
        machine.run(&["systemctl", "start", "twilld-install.service"])?;
        lab.converged_among(&["n2"])?;
        serve_through_an_upgrade(lab, &machine)?;

        let said = machine.run(&["dpkg", "--remove", "twill"])?;
        assert!(said.contains("Removing twill"), "{said}");
        assert_eq!(machine.daemon(), None);
        for path in ["opt/cni/bin/twill", "etc/cni/net.d/05-twill.conflist", "usr/sbin/twilld"] {
            assert!(!machine.path(path).exists(), "{path} is left after the removal");
        }
        assert!(machine.path("etc/twill/twilld.toml").exists(), "what was configured stays until the purge");
        assert!(machine.kernel()?.contains("vxlan.twill"), "who is on the node reaches pods until the purge");
        purge_under_a_node_that_has_twill_otherwise(lab, &machine)?;
        machine.dpkg_install(&debian::package(lab, "first", &[])?)?;
        machine.run(&["dpkg", "--remove", "twill"])?;
        machine.run(&["dpkg", "--purge", "twill"])?;
        left_nothing(&machine, &before)
    });
}

/// As an operator does it.
pub fn configure(lab: &Lab, machine: &Debian<'_>, node: &Node) -> Result<()> {
    let endpoints: Vec<_> = lab.etcd().endpoints().split(',').map(|url| format!("{url:?}")).collect();
    let sample = machine.read("etc/twill/twilld.toml");
    let mut lines: Vec<_> = sample.lines().map(str::to_owned).collect();
    let place = |lines: &[String], key: &str| lines.iter().position(|line| line.starts_with(key));
    let etcd = place(&lines, "etcd = ").ok_or_else(|| LabError::wrong("the sample names no etcd"))?;
    lines[etcd] = format!("etcd = [{}]", endpoints.join(", "));
    let name = place(&lines, "#node_name = ").ok_or_else(|| LabError::wrong("the sample names no node"))?;
    lines[name] = format!("node_name = {:?}", node.name());
    machine.write("etc/twill/twilld.toml", &lines.join("\n"))
}

/// A pod of the installed plugin reaches one of another node, and goes on while the package is upgraded; and while it is there the
/// package cannot be removed.
fn serve_through_an_upgrade(lab: &Lab, machine: &Debian<'_>) -> Result<()> {
    let (node, other) = (lab.node(1), lab.node(2));
    let remote = other.attach("b")?;
    let pod = node.create_pod("a")?;
    let added = machine.cni(Verb::Add, &pod, None)?;
    let addresses = added["ips"].as_array().into_iter().flatten().filter_map(|ip| ip["address"].as_str());
    let addresses: Vec<IpAddr> = addresses.filter_map(|address| address.split('/').next()?.parse().ok()).collect();
    assert_eq!(addresses.len(), 2, "one of each family: {added}");
    for ipv6 in [false, true] {
        let target = remote.address(ipv6)?;
        deadline::until(&format!("the pod reaches {target}"), PATIENCE, || Ok(pod.ping(target, 56).is_ok()))?;
    }
    let probes = [false, true]
        .map(|ipv6| Probe::start(pod.namespace(), remote.namespace(), remote.address(ipv6)?, Duration::from_millis(5)));
    let (first, said) = (machine.daemon(), debian::package(lab, "second", &["--version", "99.0"])?);
    assert!(first.is_some());
    let configured = machine.read("etc/twill/twilld.toml");
    machine.dpkg_install(&with_another_sample(lab, &said)?)?;
    assert!(machine.read("usr/share/twill/twilld.toml").ends_with(ANOTHER), "the sample is the new one");
    assert_eq!(machine.read("etc/twill/twilld.toml"), configured, "an upgrade changes no configuration");
    let second = machine.daemon();
    assert!(second.is_some() && second != first, "the daemon is another one: {first:?}, {second:?}");
    let version = machine.run(&["dpkg-query", "--show", "--showformat=${Version}", "twill"])?;
    assert_eq!(version, "99.0");
    let calls = machine.read("tmp/systemd/calls");
    assert!(calls.contains("try-restart twilld-install.service"), "the plugin is renewed: {calls}");

    let refused = machine.output(&["dpkg", "--remove", "twill"])?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("still attached (1 in /run/twill)"), "{said}");
    assert_eq!(machine.daemon(), second, "a removal that is refused stops nothing");
    machine.cni(Verb::Check, &pod, Some(&added))?;
    for probe in probes {
        let probe = probe?;
        probe.until_answered(20)?;
        probe.stop()?.expect_no_loss()?;
    }
    // A second pod gets its addresses of the new daemon's.
    let late = node.create_pod("c")?;
    machine.cni(Verb::Add, &late, None)?;
    for pod in [&pod, &late] {
        machine.cni(Verb::Del, pod, None)?;
    }
    Ok(())
}

/// The same package, whose sample of the node's configuration has one more line.
fn with_another_sample(lab: &Lab, package: &Path) -> Result<PathBuf> {
    let (tree, out) = (lab.directory().join("other-sample"), lab.directory().join("other-sample.deb"));
    let script = r#"
        dpkg-deb --raw-extract "$1" "$2"
        printf %s "$4" >>"$2/usr/share/twill/twilld.toml"
        dpkg-deb --root-owner-group -Znone --build "$2" "$3"
    "#;
    let mut repack = Command::new("sh");
    repack.args(["-euc", script, "repack"]).args([package, &tree, &out]).arg(ANOTHER);
    run_on_host(repack)?;
    Ok(out)
}

/// The package is purged where the tarball has brought Twill back: nothing is taken from a daemon that runs, nor from a pod.
fn purge_under_a_node_that_has_twill_otherwise(lab: &Lab, machine: &Debian<'_>) -> Result<()> {
    let configured = machine.read("etc/twill/twilld.toml");
    let tarball = debian::made(&lab.directory().join("first"), ".tar.gz")?;
    let to = machine.path("tmp/twill.tar.gz");
    fs::copy(tarball, &to).map_err(LabError::io(format!("copying to {}", to.display())))?;
    let directories = ["--directory", "/", "--keep-directory-symlink", "--no-overwrite-dir"];
    for _ in 0..2 {
        machine.run(&[&["tar"][..], &directories, &["--extract", "--file", "/tmp/twill.tar.gz"]].concat())?;
        assert_eq!(machine.read("etc/twill/twilld.toml"), configured, "unpacking changes no configuration");
    }
    machine.run(&["systemctl", "start", "twilld.service"])?;
    machine.run(&["systemctl", "start", "twilld-install.service"])?;
    let pod = lab.node(1).create_pod("d")?;
    machine.cni(Verb::Add, &pod, None)?;

    machine.run(&["cp", "/var/lib/dpkg/info/twill.postrm", "/tmp/postrm"])?;
    let left_alone = |words: &[&str], why: &str| {
        let before = (machine.kernel()?, machine.daemon());
        let output = machine.output(words)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.contains(why), "{words:?}: {said}");
        assert_eq!((machine.kernel()?, machine.daemon()), before, "{words:?}");
        for path in ["run/twill/node.db", "var/lib/twill", "etc/twill/twilld.toml"] {
            assert!(machine.path(path).exists(), "{words:?}: {path} is gone");
        }
        Ok::<_, LabError>(())
    };
    left_alone(&["dpkg", "--purge", "twill"], "a twilld runs on this machine")?;
    machine.run(&["systemctl", "stop", "twilld-install.service", "twilld.service"])?;
    left_alone(&["sh", "/tmp/postrm", "purge"], "pods are attached on this machine")?;
    machine.cni(Verb::Del, &pod, None)?;
    // Debian's package has the licence in another file.
    machine.run(&["rm", "/usr/share/doc/twill/LICENSE"]).map(drop)
}

/// Files and objects of the kernel are as they were before the first installation.
fn left_nothing(machine: &Debian<'_>, before: &(BTreeMap<String, String>, String)) -> Result<()> {
    let after = machine.files()?;
    let is_new = |path: &&String| !before.0.contains_key(*path) && !STAY.contains(&path.as_str());
    let new: Vec<_> = after.keys().filter(is_new).collect();
    let gone: Vec<_> = before.0.keys().filter(|path| !after.contains_key(*path)).collect();
    let is_changed = |path: &&String| before.0.get(*path).is_some_and(|was| was != &after[*path]);
    let changed: Vec<_> = after.keys().filter(is_changed).collect();
    assert!(new.is_empty() && gone.is_empty() && changed.is_empty(), "new {new:?}, gone {gone:?}, changed {changed:?}");
    assert_eq!(machine.kernel()?, before.1);
    Ok(())
}
