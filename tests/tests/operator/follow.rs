//! A node that lags behind the configuration, and those who wait and watch.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::golden::is_golden;
use twill_tests::{Lab, with_lab};

use super::status::comes_to_tell;

#[test]
fn a_node_that_cannot_follow_the_configuration_is_named_with_what_stands_in_the_way() {
    with_lab(Lab::builder().nodes(2).backend("type = \"host-gw\"\n"), |lab| {
        let (one, two) = (lab.node(1), lab.node(2));
        let well = two.twillctl_told(&["status", "--wait", "1m"])?;
        assert_eq!(well.status, Some(0), "{well:?}");
        // Somebody else's tunnel has the identifier and the port: the kernel makes no second one.
        let other = ["ip", "link", "add", "other", "type", "vxlan", "id", "7777", "dstport", "4789", "nolearning"];
        one.run(&other)?;
        one.run(&["ip", "link", "set", "other", "up"])?;
        lab.apply_config(&lab.config_with("type = \"vxlan\"\nvni = 7777\nport = 4789\n"))?;
        let lags = comes_to_tell(two, &["status"], 1, "refused: add link vxlan.twill")?;
        let problem = lags.lines().find(|line| line.contains("refused: add link vxlan.twill")).unwrap_or_default();
        assert!(problem.starts_with("PROBLEM node n1: configuration "), "{lags}");
        assert!(problem.contains("is not brought about there, the last one that was is "), "{lags}");
        let depth = comes_to_tell(two, &["status", "--node", "n1"], 1, "kernel         incomplete: ")?;
        assert!(depth.contains("refused: add link vxlan.twill"), "it says what stands in the way: {depth}");

        let begin = Instant::now();
        let waited = two.twillctl_told(&["status", "--wait", "2s"])?;
        assert_eq!((waited.status, waited.stdout.contains(problem)), (Some(1), true), "{waited:?}");
        let took = begin.elapsed();
        // It ends by itself, long before a test's patience does, and not at once.
        assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(2) + PATIENCE * 2, "{took:?}");

        let log = lab.directory().join("wait.log");
        let mut waiting = two.start_twillctl(&["status", "--wait", "1m"], &log)?;
        assert!(waiting.ended()?.is_none());
        one.run(&["ip", "link", "del", "other"])?;
        let ended = waiting.wait(PATIENCE * 2)?;
        assert!(ended.success() && waiting.log().contains("no problems\n"), "{ended:?}\n{}", waiting.log());
        Ok(())
    });
}

#[test]
fn who_watches_sees_each_change_once_until_he_ends_it() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let (one, two) = (lab.node(1), lab.node(2));
        let well = two.twillctl_told(&["status", "--wait", "1m"])?;
        assert_eq!(well.status, Some(0), "{well:?}");
        let log = lab.directory().join("watch.log");
        let mut watching = two.start_twillctl(&["status", "--watch", "--timeout", "1"], &log)?;
        let reports = |text: &str| text.matches("\nNODE  ALIVE").count();
        deadline::until("the first report", PATIENCE, || Ok(watching.log().ends_with("no problems\n")))?;
        let first = watching.log();
        one.create_pod("a")?.add_as("shop", "till-0")?;
        deadline::until("the pod is counted", PATIENCE, || Ok(reports(&watching.log()) > reports(&first)))?;
        let before = watching.log();
        one.kill_daemon()?;
        let silent = "COULD NOT TELL: how node n1 is: no answer within 1 s\n    fix: try again";
        deadline::until("the change is shown", PATIENCE, || Ok(watching.log().contains(silent)))?;
        one.start_daemon()?;
        deadline::until("its end is shown", PATIENCE, || {
            Ok(watching.log().ends_with("no problems\n") && reports(&watching.log()) >= reports(&before) + 2)
        })?;
        // Without a terminal nothing clears it.
        assert!(!watching.log().contains('\u{1b}'), "{}", watching.log());
        let ended = watching.end(Signal::SIGINT)?;
        assert_eq!(ended.code(), Some(0), "as it was seen last: {ended:?}");
        is_golden("operator", "watched", &first);
        Ok(())
    });
}
