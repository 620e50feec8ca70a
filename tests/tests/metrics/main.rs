//! What the daemon tells: metrics that move with what happens, its health, its readiness; and that a real Prometheus has all
//! that the dashboard and the alerts ask for.

mod page;
mod prometheus;
mod ready;

use std::process::Command;

use twill_tests::deadline::{self, PATIENCE};
use twill_tests::overrun::{Crowd, Frozen, dropped};
use twill_tests::{Lab, LabError, Result, with_lab};

use page::{PORT, Page, page, told};

#[test]
fn what_happens_on_a_node_is_counted() {
    with_lab(Lab::builder().nodes(1).asleep(), |lab| {
        let node = lab.node(1);
        node.start_daemon_with(&["--metrics", &format!("[::]:{PORT}")])?;
        lab.converged()?;
        let pods = [node.attach("a")?, node.attach("b")?];
        let (verb, ended) = (("verb", "ADD"), ("outcome", "success"));
        told(node, "both ADDs and their addresses", |page| {
            page.sum("twill_plugin_call_duration_seconds_count", &[verb, ended]) >= 2.0
                && page.sum("twill_addresses", &[("family", "ipv4"), ("state", "used")]) == 2.0
                && page.sum("twill_desired_objects", &[("table", "route")]) > 0.0
                && page.sum("twill_settled", &[]) == 1.0
        })?;
        let before = page(node, "/metrics")?;
        assert!(before.sum("twill_convergence_duration_seconds_count", &[]) >= 1.0, "{before:?}");
        assert!(before.sum("twill_etcd_request_duration_seconds_count", &[("request", "write"), ended]) >= 1.0);
        assert_eq!(before.sum("twill_block_claims_total", &[("outcome", "done")]), 2.0, "{before:?}");
        assert_eq!(before.sum("twill_node_registered", &[]), 1.0);
        assert_eq!(before.sum("twill_ready", &[]), 1.0);
        let (desired, actual) = ("twill_desired_objects", "twill_actual_objects");
        // The reconciler knows both pods: what is missing then is missing by somebody else's doing.
        told(node, "the neighbours of both pods, and as many routes as there shall be", |page| {
            page.sum(desired, &[("table", "neighbour")]) == 4.0
                && page.sum(desired, &[("table", "route")]) == page.sum(actual, &[("table", "route")])
        })?;

        let lost = format!("{}/32", pods[0].address(false)?);
        node.run(&["ip", "route", "del", &lost])?;
        let repaired = |page: &Page| page.sum("twill_repairs_total", &[("table", "route"), ("action", "added")]);
        told(node, "the repair", |page| repaired(page) > repaired(&before))?;
        pods[1].del()?;
        told(node, "the DEL, and the address that cools", |page| {
            page.sum("twill_plugin_call_duration_seconds_count", &[("verb", "DEL"), ended]) >= 1.0
                && page.sum("twill_addresses", &[("family", "ipv4"), ("state", "cooling")]) >= 1.0
        })?;

        let connected = |page: &Page| page.sum("twill_etcd_connected", &[]);
        let losses = |page: &Page| page.sum("twill_etcd_losses_total", &[]);
        lab.etcd().stop()?;
        told(node, "that etcd is away", |page| connected(page) == 0.0 && losses(page) == 1.0)?;
        for path in ["/healthz", "/readyz"] {
            assert_eq!(page(node, path)?.status, 200, "{path}: pods are served without etcd");
        }
        lab.etcd().start()?;
        told(node, "that etcd is back", |page| connected(page) == 1.0)
    });
}

#[test]
fn events_of_the_kernel_that_are_lost_are_counted() {
    with_lab(Lab::builder().nodes(1).asleep(), |lab| {
        let node = lab.node(1);
        node.start_daemon_with(&["--metrics", &format!("127.0.0.1:{PORT}")])?;
        lab.converged()?;
        let crowd = Crowd::on(node)?;
        let overruns = |page: &Page| page.sum("twill_event_overruns_total", &[]);
        assert_eq!(overruns(&page(node, "/metrics")?), 0.0);
        let frozen = Frozen::daemon_of(node)?;
        crowd.fill()?;
        assert!(dropped(node)? > 0, "there was room for all");
        drop(frozen);
        told(node, "the overrun", |page| overruns(page) >= 1.0)
    });
}

#[test]
fn promtool_finds_nothing_wrong_with_what_is_told_and_the_rules() {
    if let Some(why) = twill_tests::routers::missing(&["promtool"]) {
        twill_tests::needs::say_skipped(&why);
        return;
    }
    with_lab(Lab::builder().nodes(1).asleep(), |lab| {
        let node = lab.node(1);
        node.start_daemon_with(&["--metrics", &format!("127.0.0.1:{PORT}")])?;
        lab.converged()?;
        let _pod = node.attach("a")?;
        told(node, "an ADD", |page| page.sum("twill_plugin_call_duration_seconds_count", &[]) >= 1.0)?;
        let file = lab.directory().join("metrics.txt");
        let text = page(node, "/metrics")?.body;
        std::fs::write(&file, text).map_err(LabError::io(format!("writing {}", file.display())))?;
        let script = format!("promtool check metrics < {}", file.display());
        let mut command = Command::new("sh");
        command.args(["-c", &script]);
        node.namespace().execute(command)?;
        for words in [["check", "rules", "conf/samples/twill-rules.yml"], ["test", "rules", prometheus::RULES_TEST]] {
            let mut command = Command::new("promtool");
            command.args(words).current_dir(twill_tests::needs::workspace());
            node.namespace().execute(command)?;
        }
        Ok(())
    });
}

#[test]
fn an_address_that_cannot_be_had_is_an_error_at_the_start() {
    with_lab(Lab::builder().nodes(1).asleep(), |lab| {
        let node = lab.node(1);
        node.start_daemon_with(&["--metrics", "192.0.2.77:9477"])?;
        let ended: Result<String> = deadline::until_some("the daemon ends", PATIENCE, || {
            Ok(node.expect_daemon().map_or_else(|error| Ok(error.to_string()), |()| Err("it runs")))
        });
        let told = ended?;
        assert!(told.contains("metrics: 192.0.2.77:9477 cannot be listened on"), "{told}");
        node.stop_daemon()?;
        node.start_daemon_with(&["--metrics", "localhost:9477"])?;
        let wrong = "--metrics: \"localhost:9477\" is not valid: an address of this machine and a port from 1";
        node.says(wrong)
    });
}
