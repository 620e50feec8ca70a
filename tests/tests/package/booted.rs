//! The units under systemd itself, which is process 1 of a Debian 12 on a node: it waits for the daemon, shuts it in, restarts it where
//! it hangs, and the package's scripts speak to it.

use std::fs;
use std::time::Duration;

use twill_tests::cni::Verb;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::needs::say_skipped;
use twill_tests::probe::Probe;
use twill_tests::{Lab, LabError, Result, with_lab};

use super::debian::{self, Debian};
use super::install::configure;

/// A watchdog that a test can wait for.
const IMPATIENT: &str = "[Service]\nWatchdogSec=2\n";

/// A property of a unit.
fn property(machine: &Debian<'_>, unit: &str, name: &str) -> Result<String> {
    machine.run(&["systemctl", "show", "--value", "--property", name, unit])
}

fn main_process(machine: &Debian<'_>) -> Result<u32> {
    let pid = property(machine, "twilld.service", "MainPID")?;
    pid.parse().ok().filter(|pid| *pid != 0).ok_or_else(|| LabError::wrong(format!("MainPID={pid}")))
}

#[test]
fn systemd_starts_watches_and_ends_the_daemon_by_its_unit() {
    let base = match debian::base() {
        Ok(Some(base)) if twill_testkit::is_root("booting a Debian 12") => base,
        Ok(_) => return,
        Err(error) => panic!("{error}"),
    };
    if !debian::has_groups_for_systemd() {
        return say_skipped("this machine has no hierarchy of control groups for another systemd");
    }
    with_lab(Lab::builder().nodes(2).asleep(), |lab| {
        let node = lab.node(1);
        let mut machine = Debian::on(node, &base)?;
        machine.boot()?;
        machine.dpkg_install(&debian::package(lab, "first", &[])?)?;
        configure(lab, &machine, node)?;
        assert_eq!(property(&machine, "twilld.service", "ActiveState")?, "inactive", "nothing starts by itself");

        // A node whose etcd is away comes up, and says what it lacks.
        lab.etcd().stop()?;
        machine.run(&["systemctl", "enable", "--now", "twilld.service"])?;
        assert_eq!(property(&machine, "twilld.service", "ActiveState")?, "active");
        let status = property(&machine, "twilld.service", "StatusText")?;
        assert!(status.starts_with("no pod can be served: "), "{status}");
        lab.etcd().start()?;
        lab.node(2).start_daemon()?;
        machine.run(&["systemctl", "enable", "--now", "twilld-install.service"])?;
        deadline::until("the status says that pods are served", PATIENCE, || {
            Ok(property(&machine, "twilld.service", "StatusText")? == "pods are served")
        })?;
        is_shut_in(&machine)?;
        serve(lab, &machine)?;

        machine.run(&["dpkg", "--purge", "twill"])?;
        let left = machine.run(&[
            "sh",
            "-c",
            "systemctl list-units --all --plain --no-legend 'twilld*'; ls /run/twill 2>&1 || true",
        ])?;
        assert!(left.contains("cannot access '/run/twill'") && !left.contains("twilld.service"), "{left}");
        assert!(!node.interfaces()?.iter().any(|name| name == "vxlan.twill"));
        Ok(())
    });
}

/// As the unit has it, by what the kernel says of the process.
fn is_shut_in(machine: &Debian<'_>) -> Result<()> {
    let pid = main_process(machine)?;
    let status = machine.run(&["cat", &format!("/proc/{pid}/status")])?;
    for wanted in ["NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(wanted), "{wanted}: {status}");
    }
    let outside = |path: &str| {
        let words = ["nsenter", "--mount", "--target", &pid.to_string(), "touch", path];
        Ok::<_, LabError>(machine.output(&words)?.status.success())
    };
    assert!(!outside("/etc/twill-was-here")? && !outside("/usr/twill-was-here")?, "the machine can be written");
    assert!(outside("/run/twill/ops.lock")?, "its own directory cannot be written");
    Ok(())
}

/// A pod, that goes on while the daemon hangs and is restarted, and through an upgrade.
fn serve(lab: &Lab, machine: &Debian<'_>) -> Result<()> {
    let (node, other) = (lab.node(1), lab.node(2));
    let remote = other.attach("b")?;
    let pod = node.create_pod("a")?;
    machine.cni(Verb::Add, &pod, None)?;
    let target = remote.address(false)?;
    deadline::until(&format!("the pod reaches {target}"), PATIENCE, || Ok(pod.ping(target, 56).is_ok()))?;
    let probe = Probe::start(pod.namespace(), remote.namespace(), target, Duration::from_millis(5))?;

    let drop_in = machine.path("etc/systemd/system/twilld.service.d");
    fs::create_dir_all(&drop_in).map_err(LabError::io("making a drop-in"))?;
    fs::write(drop_in.join("impatient.conf"), IMPATIENT).map_err(LabError::io("writing a drop-in"))?;
    machine.run(&["systemctl", "daemon-reload"])?;
    machine.run(&["systemctl", "restart", "twilld.service"])?;
    let first = main_process(machine)?;
    machine.run(&["sh", "-c", &format!("kill -STOP {first}")])?;
    deadline::until("systemd restarts a daemon that hangs", PATIENCE, || {
        Ok(main_process(machine).is_ok_and(|pid| pid != first)
            && property(machine, "twilld.service", "ActiveState")? == "active")
    })?;
    assert_ne!(property(machine, "twilld.service", "NRestarts")?, "0");
    fs::remove_dir_all(&drop_in).map_err(LabError::io("removing a drop-in"))?;

    let second = main_process(machine)?;
    machine.dpkg_install(&debian::package(lab, "second", &["--version", "99.0"])?)?;
    assert_ne!(main_process(machine)?, second, "an upgrade restarts the daemon");
    let refused = machine.output(&["dpkg", "--remove", "twill"])?;
    assert!(!refused.status.success(), "a pod is attached, and the package is removed");
    assert_eq!(property(machine, "twilld.service", "ActiveState")?, "active", "a refusal stops nothing");
    probe.until_answered(20)?;
    probe.stop()?.expect_no_loss()?;
    machine.cni(Verb::Del, &pod, None).map(drop)
}
