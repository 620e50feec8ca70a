//! `twillctl status`: of a cluster that is well, and of each fault.

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use twill_testkit::commands_of;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::golden::{has_fixes, is_golden, problems_of};
use twill_tests::node::Told;
use twill_tests::{Lab, LabError, Node, PoolSpec, Result, with_lab};

/// Until a command ends so and prints these words; what it printed.
pub fn comes_to_tell(node: &Node, arguments: &[&str], status: i32, words: &str) -> Result<String> {
    deadline::until_some(&format!("{arguments:?} ends with {status} and tells {words:?}"), PATIENCE, || {
        let told = node.twillctl_told(arguments)?;
        Ok(if told.status == Some(status) && told.stdout.contains(words) { Ok(told.stdout) } else { Err(told) })
    })
}

fn json(told: &Told) -> Result<Value> {
    serde_json::from_str(&told.stdout).map_err(|_| LabError::wrong(format!("{told:?}")))
}

#[test]
fn a_cluster_that_is_well_says_so_and_how_each_node_is() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let one = lab.node(1);
        one.create_pod("a")?.add_as("shop", "till-0")?;
        let told = one.twillctl_told(&["status", "--wait", "30s"])?;
        assert_eq!(told.status, Some(0), "{told:?}");
        is_golden("operator", "healthy", &told.stdout);
        // A pod's addresses are counted at once, and its repairs are none.
        let depth = lab.node(2).twillctl_told(&["status", "--node", "n1"])?;
        assert_eq!(depth.status, Some(0), "{depth:?}");
        is_golden("operator", "healthy-node", &depth.stdout);

        let both = json(&one.twillctl_told(&["status", "--node", "n1", "--node", "n2", "-o", "json"])?)?;
        let daemons: Vec<&Value> = both["nodes"].as_array().into_iter().flatten().map(|node| &node["daemon"]).collect();
        assert_eq!(daemons.len(), 2, "{both}");
        for (daemon, node) in daemons.iter().zip(lab.nodes()) {
            assert_eq!(daemon["machine_id"], json!(node.machine_id()), "{both}");
            assert_eq!(daemon["config"]["applied"], both["config"]["revision"], "{both}");
            assert_eq!((&daemon["peers"]["tunnel"], &daemon["etcd"]["connected"]), (&json!(1), &json!(true)), "{both}");
            assert!(daemon["etcd"]["median_micros"].as_u64().is_some_and(|micros| micros > 0), "{both}");
        }
        let shown = one.run_script(&commands_of("status.md", "status"), &[("NODE", "n1")])?;
        assert_eq!(shown.matches("no problems").count(), 3, "{shown}");

        // What somebody breaks is repaired, and told with what was found.
        one.run(&["ip", "link", "set", "vxlan.twill", "mtu", "1300"])?;
        let repaired = comes_to_tell(one, &["status", "--node", "n1"], 0, "mtu")?;
        assert!(repaired.lines().any(|line| line.starts_with("repairs") && line.contains("link; last")), "{repaired}");
        Ok(())
    });
}

#[test]
fn a_daemon_that_is_stopped_could_not_be_asked_and_is_a_problem_a_minute_later() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let one = lab.node(1);
        lab.node(2).kill_daemon()?;
        let silent = comes_to_tell(one, &["status", "--timeout", "1"], 2, "no problems, as far as could be told\n")?;
        assert!(
            silent.contains("\nCOULD NOT TELL: how node n2 is: no answer within 1 s\n    fix: try again"),
            "{silent}"
        );
        let row = silent.lines().filter(|line| line.starts_with("n2 ")).nth(1);
        assert!(row.is_some_and(|row| row.split_whitespace().skip(1).all(|cell| cell == "?")), "{silent}");
        // As when its lease has ended.
        assert!(lab.etcd().delete("alive/n2")?);
        let dead = comes_to_tell(one, &["status", "--timeout", "1"], 1, "PROBLEM node n2")?;
        is_golden("operator", "stopped-daemon", &dead);
        Ok(())
    });
}

#[test]
fn without_etcd_a_node_says_what_it_knows_by_itself_and_that_the_rest_is_not_known() {
    with_lab(Lab::builder().nodes(1), |lab| {
        let one = lab.node(1);
        one.create_pod("a")?.add_as("shop", "till-0")?;
        lab.etcd().stop()?;
        let told = one.twillctl_told(&["status"])?;
        assert_eq!(told.status, Some(2), "{told:?}");
        is_golden("operator", "without-etcd", &told.stdout);
        let said = json(&one.twillctl_told(&["status", "-o", "json"])?)?;
        for key in ["revision", "config", "nodes", "pools", "problems", "notes"] {
            assert_eq!(said.get(key), Some(&json!(null)), "{key}: {said:#}");
        }
        assert_eq!((&said["local"]["node"], &said["local"]["attached"]), (&json!("n1"), &json!(1)), "{said:#}");
        let log = lab.directory().join("watch.log");
        let mut watching = one.start_twillctl(&["status", "--watch", "-o", "json"], &log)?;
        let watched = deadline::until_some("a watch shows the same", PATIENCE, || {
            Ok(serde_json::from_str::<Value>(&watching.log()).map_err(|_| watching.log()))
        })?;
        assert_eq!(watched["local"], said["local"], "{watched:#}");
        assert_eq!(watching.end(Signal::SIGINT)?.code(), Some(2), "as it was seen last");
        let waited = one.twillctl_told(&["status", "--wait", "1s"])?;
        assert_eq!(waited.status, Some(2), "{waited:?}");
        lab.etcd().start()?;
        let back = one.twillctl_told(&["status", "--wait", "1m"])?;
        assert_eq!(back.status, Some(0), "{back:?}");
        Ok(())
    });
}

#[test]
fn an_exhausted_pool_is_told_of_the_pool_and_of_the_node_that_needs_it() {
    // Two blocks of four addresses, and a tunnel's in each.
    let pool = PoolSpec::new("v4", "10.42.0.0/29", Some(30));
    with_lab(Lab::builder().nodes(2).pools([pool]), |lab| {
        let one = lab.node(1);
        for pod in ["a", "b", "c"] {
            one.create_pod(pod)?.add_as("shop", pod)?;
        }
        assert!(one.create_pod("d")?.add_as("shop", "d").is_err(), "there is no address left");
        let told = comes_to_tell(one, &["status"], 1, "node n1: no new pod can be served there")?;
        is_golden("operator", "exhausted", problems(&told));
        let why = one.twillctl_told(&["why", "pod", "shop/d"])?;
        assert_eq!(why.status, Some(1), "{why:?}");
        is_golden("operator", "exhausted-pod", &why.stdout);
        Ok(())
    });
}

/// What is wrong, without what stands above.
fn problems(text: &str) -> &str {
    text.find("PROBLEM").map_or(text, |place| &text[place..])
}

#[test]
fn a_second_machine_of_one_name_is_told_and_answers_nothing() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let (one, two) = (lab.node(1), lab.node(2));
        two.kill_daemon()?;
        two.start_daemon_named("n1")?;
        two.says("the node name n1 belongs to another machine")?;
        let told = comes_to_tell(one, &["status", "--node", "n1"], 1, "goes by its name")?;
        has_fixes(&told);
        let second = format!("machine ID {}…) goes by its name, and can serve no pod\n", &two.machine_id()[..8]);
        assert!(told.contains("PROBLEM node n1: a second machine (") && told.contains(&second), "{told}");
        is_golden("operator", "duplicate-node", &problems_of(&told, &["a second machine"]));
        for _ in 0..5 {
            let state = json(&one.twillctl_told(&["status", "--node", "n1", "-o", "json"])?)?;
            assert_eq!(state["nodes"][0]["daemon"]["machine_id"], json!(one.machine_id()), "the other one answered");
        }
        // Also where the first one is gone: then nobody answers, and the second one still tells of itself.
        one.kill_daemon()?;
        assert!(lab.etcd().delete("alive/n1")?);
        let why = comes_to_tell(one, &["why", "node", "n1"], 1, "goes by its name")?;
        assert!(why.contains("may it be deleted: NO, node n1 has 2 blocks, and may be running"), "{why}");
        has_fixes(&why);
        // When it goes under its own name again, nothing is left of that.
        two.kill_daemon()?;
        assert!(lab.etcd().delete("answers/n1/rival")?);
        one.start_daemon()?;
        two.start_daemon()?;
        let well = one.twillctl_told(&["status", "--wait", "1m"])?;
        assert_eq!(well.status, Some(0), "{well:?}");
        Ok(())
    });
}
