//! What only the cluster tells: etcd, and machines that take each other's identity.

use serde_json::Value;
use twill_tests::{Lab, PoolSpec, Underlay, with_lab};

use super::stage::{comes_to_be_golden, comes_to_be_good, comes_to_tell, look, problem, start};

#[test]
fn a_dead_etcd_is_told_by_its_endpoint_and_a_dead_member_of_three_leaves_the_rest_to_be_looked_at() {
    with_lab(Lab::builder().nodes(1).underlay(Underlay::V4).members(3).asleep(), |lab| {
        let node = lab.node(1);
        start(node)?;
        lab.converged()?;
        comes_to_be_good(node)?;
        let member = &lab.etcd().members()[1];
        let url = &member.clients()[0];
        member.kill()?;
        let said =
            comes_to_tell(node, "cluster", &format!("{url}: this member does not answer"), "whether etcd runs there")?;
        assert_eq!(said["answered"], 1, "{said:#}");
        assert!(problem(&said, &format!("{url}: this member does not answer")).is_some());
        let by_node = said["checks"].as_array().into_iter().flatten();
        let by_node: Vec<&Value> = by_node.filter(|row| row["node"] == "n1" && row["check"] == "etcd").collect();
        assert!(by_node.iter().any(|row| row["state"] == "problem" && row["subject"] == url.as_str()), "{said:#}");
        comes_to_be_golden(node, "dead-etcd-member", &[url])?;
        lab.etcd().kill()?;
        let (status, said) = look(node, &["--timeout", "3"])?;
        assert_eq!(status, Some(1), "{said:#}");
        let silent = said["problems"].as_array().into_iter().flatten();
        let silent = silent.filter(|one| one["what"].as_str().is_some_and(|what| what.contains("does not answer")));
        assert_eq!(silent.count(), 3, "{said:#}");
        assert!(said["unknown"][0].as_str().is_some_and(|text| text.contains("--preflight")), "{said:#}");
        comes_to_be_golden(node, "dead-etcd", &["does not answer"])?;
        lab.etcd().start()?;
        comes_to_be_good(node).map(drop)
    });
}

#[test]
fn machines_that_were_copied_are_told_by_the_identity_that_they_share() {
    with_lab(Lab::builder().nodes(2).underlay(Underlay::V4).asleep(), |lab| {
        let (one, two) = (lab.node(1), lab.node(2));
        two.set_machine_id(&one.machine_id())?;
        start(one)?;
        start(two)?;
        let words = format!("n1, n2 have one machine ID ({}…)", &one.machine_id()[..8]);
        comes_to_tell(one, "cluster", &words, "systemd-machine-id-setup")?;
        comes_to_be_golden(one, "copied-machine", &["n1, n2 have one machine ID"])
    });
}

#[test]
fn a_daemon_that_has_not_been_heard_of_for_a_minute_is_told_by_its_node() {
    with_lab(Lab::builder().nodes(2).underlay(Underlay::V4).asleep(), |lab| {
        let (one, two) = (lab.node(1), lab.node(2));
        start(one)?;
        start(two)?;
        lab.converged()?;
        two.kill_daemon()?;
        // As when its lease has ended.
        assert!(lab.etcd().delete("alive/n2")?);
        comes_to_be_golden(one, "stopped-daemon", &["node n2", "has not been heard of"])
    });
}

#[test]
fn with_tls_and_roles_a_node_says_until_when_its_certificates_are_valid_and_nothing_is_missing_by_its_role() {
    with_lab(Lab::builder().nodes(1).secured().asleep(), |lab| {
        let node = lab.node(1);
        start(node)?;
        lab.converged()?;
        let said = comes_to_be_good(node)?;
        let rows = || said["checks"].as_array().into_iter().flatten().filter(|row| row["node"] == "n1");
        let certificates: Vec<&Value> = rows().filter(|row| row["check"] == "certificates").collect();
        // Those of the lab end within a day: that is a note, which changes no exit status.
        let is_told = |row: &Value| row["what"].as_str().is_some_and(|what| what.contains("certificate expires in "));
        assert!(
            certificates.len() == 2 && certificates.iter().all(|row| row["state"] == "note" && is_told(row)),
            "{said:#}"
        );
        assert!(rows().any(|row| row["check"] == "etcd" && row["state"] == "ok"), "{said:#}");
        Ok(())
    });
}

#[test]
fn a_second_machine_of_one_name_is_told_by_the_node_that_has_it() {
    with_lab(Lab::builder().nodes(2).underlay(Underlay::V4).asleep(), |lab| {
        let (one, two) = (lab.node(1), lab.node(2));
        start(one)?;
        start(two)?;
        lab.converged()?;
        two.kill_daemon()?;
        two.start_daemon_named("n1")?;
        let words = format!("machine ID {}…) goes by its name, and can serve no pod", &two.machine_id()[..8]);
        comes_to_tell(one, "node n1", &words, "--node-name")?;
        comes_to_be_golden(one, "duplicate-node", &["a second machine"])?;
        // When it goes under its own name again, nothing is left of that.
        two.kill_daemon()?;
        assert!(lab.etcd().delete("answers/n1/rival")?);
        start(two)?;
        comes_to_be_good(one).map(drop)
    });
}

#[test]
fn an_exhausted_pool_is_told_of_the_pool_and_of_the_node_that_needs_it() {
    // Two blocks of four addresses, and a tunnel's in each.
    let pool = PoolSpec::new("v4", "10.42.0.0/29", Some(30));
    with_lab(Lab::builder().nodes(2).underlay(Underlay::V4).pools([pool]).asleep(), |lab| {
        let one = lab.node(1);
        for node in lab.nodes() {
            start(node)?;
        }
        lab.converged()?;
        comes_to_tell(one, "cluster", "pool v4: all of its blocks (2) have owners", "add a pool")?;
        for pod in ["a", "b", "c"] {
            one.create_pod(pod)?.add()?;
        }
        assert!(one.create_pod("d")?.add().is_err(), "there is no address left");
        comes_to_tell(one, "node n1", "no new pod can be served there: no IPv4 address is left", "add a pool")?;
        comes_to_tell(one, "node n1", "pool v4 (10.42.0.0/29) is exhausted", "add a pool")?;
        comes_to_be_golden(one, "exhausted-pool", &["v4"])
    });
}
