//! What only the cluster tells: etcd, and machines that take each other's identity.

use serde_json::Value;
use twill_tests::{Lab, Underlay, with_lab};

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
