//! The lab itself: what the other tests stand on, and that nothing of it is left behind.

use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::iperf::Iperf;
use twill_tests::namespace::Namespace;
use twill_tests::probe::Probe;
use twill_tests::wire::{OUTSIDE_V4, OUTSIDE_V6};
use twill_tests::witness::Witness;
use twill_tests::{Lab, LabBuilder, LabError, Result, Underlay, cleanup, needs, with_lab};

/// A lab without daemons.
fn bare() -> LabBuilder {
    Lab::builder().nodes(2).stand_alone(["10.42.0.0/24".parse().expect("a network")])
}

fn remains(prefix: &str) -> Result<Vec<String>> {
    let namespaces = cleanup::namespaces_of(prefix)?;
    let mut remains: Vec<_> = namespaces.iter().map(|n| n.name().to_owned()).collect();
    let directory = cleanup::directory(prefix);
    if directory.exists() {
        remains.push(directory.display().to_string());
    }
    Ok(remains)
}

#[test]
fn nodes_reach_each_other_and_the_outside_in_both_families() {
    with_lab(bare().underlay(Underlay::Dual), |lab| {
        let outside = [IpAddr::from(OUTSIDE_V4), OUTSIDE_V6.into()];
        for target in lab.node(2).addresses().iter().copied().chain(outside) {
            lab.node(1).run(&["ping", "-n", "-c1", "-W2", &target.to_string()])?;
        }
        Ok(())
    });
}

#[test]
fn labs_live_side_by_side_with_the_same_addresses() {
    with_lab(bare(), |first| {
        let second = bare().build()?;
        assert_ne!(first.prefix(), second.prefix());
        assert_eq!(first.node(1).addresses(), second.node(1).addresses());
        let target = second.node(2).addresses()[0].to_string();
        second.node(1).run(&["ping", "-n", "-c1", "-W2", &target])?;
        Ok(())
    });
}

#[test]
fn nothing_is_left_of_a_lab_after_its_end() {
    let mut prefix = String::new();
    with_lab(bare(), |lab| {
        prefix = lab.prefix().to_owned();
        lab.node(1).create_pod("a")?;
        assert!(remains(&prefix)?.len() >= 6, "four namespaces, the pod and the directory");
        Ok(())
    });
    if !prefix.is_empty() {
        assert_eq!(remains(&prefix).unwrap(), [""; 0]);
    }
}

#[test]
fn nothing_is_left_of_a_lab_after_a_panic() {
    let mut prefix = String::new();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        with_lab(bare(), |lab| {
            prefix = lab.prefix().to_owned();
            Err(LabError::wrong("this is meant to fail"))
        });
    }));
    if needs::unmet().is_none() {
        assert!(outcome.is_err());
        assert_eq!(remains(&prefix).unwrap(), [""; 0]);
    }
}

#[test]
fn nothing_is_left_of_a_lab_whose_owner_was_interrupted_or_killed() {
    if let Some(why) = needs::unmet() {
        return needs::say_skipped(&why);
    }
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        // What a shell runs in the background ignores SIGINT, and hands that on.
        let mut owner = Command::new("env")
            .args(["--default-signal=INT", env!("CARGO_BIN_EXE_twill-lab"), "hold"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut prefix = String::new();
        BufReader::new(owner.stdout.take().unwrap()).read_line(&mut prefix).unwrap();
        let prefix = prefix.trim();
        assert!(remains(prefix).unwrap().len() >= 4, "the lab {prefix:?} should stand");
        let inside = Namespace::named(format!("{prefix}-n1"));
        let mut process = inside.start(Command::new("sleep").arg("600")).unwrap();

        kill(Pid::from_raw(owner.id().cast_signed()), signal).unwrap();
        assert!(!owner.wait().unwrap().success());
        let nothing_is_left = || {
            let left = remains(prefix)?;
            Ok(if left.is_empty() { Ok(()) } else { Err(left) })
        };
        deadline::until_some("nothing is left", PATIENCE, nothing_is_left).unwrap();
        assert_eq!(process.wait().unwrap().signal(), Some(Signal::SIGKILL as i32));
    }
}

#[test]
fn a_probe_between_nodes_loses_nothing_until_the_wire_is_cut() {
    with_lab(bare().underlay(Underlay::V4), |lab| {
        let (one, two) = (lab.node(1), lab.node(2));
        let target = two.addresses()[0];
        let start = || Probe::start(one.namespace(), two.namespace(), target, Duration::from_millis(1));
        let probe = start()?;
        probe.until_answered(100)?;
        probe.stop()?.expect_no_loss()?;

        let probe = start()?;
        probe.until_answered(10)?;
        lab.wire().set_port("n2", false)?;
        assert!(one.run(&["ping", "-n", "-c1", "-W1", &target.to_string()]).is_err());
        lab.wire().set_port("n2", true)?;
        probe.until_answered(10)?;
        let report = probe.stop()?;
        assert!(report.lost > 0 && report.longest_gap > Duration::ZERO, "{report:?}");
        Ok(())
    });
}

#[test]
fn iperf_measures_between_nodes() {
    with_lab(bare().underlay(Underlay::V6), |lab| {
        let (one, two) = (lab.node(1).namespace(), lab.node(2).namespace());
        let log = lab.directory().join("iperf.log");
        let report = Iperf::start(one, two, lab.node(2).addresses()[0], &["-n", "10M"], &log)?.finish()?;
        assert!(report.bits_per_second > 0.0, "{report:?}");
        Ok(())
    });
}

#[test]
fn a_witness_outside_sees_the_nodes_address() {
    with_lab(bare(), |lab| {
        let witness = Witness::listen(lab.outside(), OUTSIDE_V4.into())?;
        assert_eq!(witness.sees(lab.node(2).namespace())?, lab.node(2).addresses()[0]);
        Ok(())
    });
}

#[test]
fn an_unknown_namespace_is_named_in_the_error() {
    let error = Namespace::named("nowhere").run(&["true"]).unwrap_err().to_string();
    assert!(error.contains("nowhere"), "{error}");
    assert!(!Path::new("/run/netns/nowhere").exists());
}
