//! Trials that are ended in the middle: by the operator, by a kill of whoever asks, and by one of who answers.

use std::time::Duration;

use nix::sys::signal::Signal;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::{Lab, with_lab};

use super::stage::{FIRST, GONE, dropping, nothing_is_left, pods_stand, standing, trial_rows};

/// Long enough that nobody waits for its end.
const LONG: [&str; 5] = ["bench", "--repeat", "20", "--seconds", "20"];

#[test]
fn one_that_is_interrupted_takes_its_pods_down_and_says_so() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let before = standing(lab)?;
        let log = lab.directory().join("twillctl.log");
        let mut running = lab.node(1).start_twillctl(&LONG, &log)?;
        pods_stand(lab, 1)?;
        let status = running.end(Signal::SIGINT)?;
        assert_eq!(
            (status.code(), running.log().contains("twillctl: interrupted")),
            (Some(2), true),
            "{}",
            running.log()
        );
        nothing_is_left(lab, &before, GONE)
    });
}

#[test]
fn one_whose_operator_is_gone_ends_by_itself() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let before = standing(lab)?;
        let log = lab.directory().join("twillctl.log");
        // Nothing comes back, so that the probes take their time.
        dropping(lab.node(2), FIRST, "udp dport 4789 drop", || {
            let mut running = lab.node(1).start_twillctl(&["test", "--timeout", "5"], &log)?;
            pods_stand(lab, 2)?;
            running.end(Signal::SIGKILL).map(drop)
        })?;
        assert_eq!(trial_rows(lab.node(1))?, 2, "nobody has told it to end");
        nothing_is_left(lab, &before, Duration::from_secs(60))
    });
}

#[test]
fn a_daemon_that_is_killed_leaves_no_namespace_and_the_sweep_frees_the_rows() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let (one, two) = (lab.node(1), lab.node(2));
        let before = standing(lab)?;
        let log = lab.directory().join("twillctl.log");
        let mut running =
            one.start_twillctl(&["bench", "--nodes", "n1,n2", "--repeat", "5", "--seconds", "5"], &log)?;
        pods_stand(lab, 1)?;
        two.kill_daemon()?;
        deadline::until("its pods' interfaces are gone", PATIENCE, || {
            Ok(!two.interfaces()?.iter().any(|name| name.starts_with("tw")))
        })?;
        let status = running.wait(Duration::from_secs(60))?;
        assert!(!status.success() && running.log().contains("node n2: "), "{}", running.log());
        // Without a sweep it is told what the one before has left, as long as the row is there.
        two.start_daemon()?;
        let words = "of a trial is not detached: twilld on this node ended before it was taken down";
        deadline::until("what is left is told", PATIENCE, || {
            let told = one.twillctl_told(&["status"])?;
            Ok(told.stdout.contains("PROBLEM node n2: the pod twill-trial-") && told.stdout.contains(words))
        })?;
        two.kill_daemon()?;
        two.start_sweeping_daemon(Duration::from_millis(100))?;
        nothing_is_left(lab, &before, PATIENCE)?;
        deadline::until("it is told no more", PATIENCE, || Ok(!one.twillctl_told(&["status"])?.stdout.contains(words)))
    });
}

#[test]
fn a_daemon_that_ends_takes_the_pods_down_first() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let before = standing(lab)?;
        let log = lab.directory().join("twillctl.log");
        let mut running = lab.node(1).start_twillctl(&LONG, &log)?;
        pods_stand(lab, 1)?;
        lab.node(2).stop_daemon()?;
        assert_eq!(trial_rows(lab.node(2))?, 0);
        running.end(Signal::SIGTERM)?;
        lab.node(2).start_daemon()?;
        nothing_is_left(lab, &before, PATIENCE)
    });
}
