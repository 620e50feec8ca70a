//! The operator's view: the mirror, what `twillctl ipam check` finds and mends, and a node that is drained.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::Value;
use twill_testkit::commands_of;
use twill_tests::cni::{Answer, Call, Verb};
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::{Lab, LabError, Node, Result, with_lab};

const DOCUMENT: &str = "operating-addresses.md";

fn json(node: &Node, arguments: &[&str]) -> Result<(Option<i32>, Value)> {
    let told = node.twillctl_told(&[arguments, &["-o", "json"]].concat())?;
    let unreadable = |_| LabError::wrong(format!("{arguments:?}: {told:?}"));
    Ok((told.status, serde_json::from_str(&told.stdout).map_err(unreadable)?))
}

/// Whether the only address in a report is so.
fn says(node: &Node, ip: &str, wanted: &[(&str, &str)]) -> Result<bool> {
    let (_, report) = json(node, &["ipam", "show", "--ip", ip])?;
    let row = &report["addresses"][0];
    Ok(wanted.iter().all(|(field, value)| row[field].as_str() == Some(value)))
}

/// STATUS, which the version that the lab's network speaks does not have.
fn status(node: &Node) -> Result<Answer> {
    let mut input = node.network().plugin_input(None);
    input["cniVersion"] = "1.1.0".into();
    let plugin = node.binaries().plugin();
    let netns = node.namespace().path();
    let call = Call { plugin: &plugin, verb: Verb::Status, container: "none", netns, ifname: "eth0", input: &input };
    call.run_in(node.namespace())
}

/// Until `check` ends with this status; what it says then.
fn check(node: &Node, arguments: &[&str], status: i32) -> Result<String> {
    let arguments = [&["ipam", "check"], arguments].concat();
    deadline::until_some(&format!("{arguments:?} ends with {status}"), PATIENCE, || {
        let told = node.twillctl_told(&arguments)?;
        Ok(if told.status == Some(status) { Ok(told.stdout) } else { Err(told) })
    })
}

#[test]
fn every_machine_can_tell_who_has_an_address_where_and_since_when() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let (one, two) = (lab.node(1), lab.node(2));
        let pod = one.create_pod("a")?;
        pod.add_as("shop", "till-0")?;
        let ip = pod.address(false)?.to_string();
        let wanted = |source| {
            [("state", "attached"), ("pod", "shop/till-0"), ("node", "n1"), ("pool", "v4"), ("source", source)]
        };
        assert!(says(one, &ip, &wanted("store"))?, "on the node itself, at once");
        deadline::until("the other node tells by the mirror", PATIENCE, || says(two, &ip, &wanted("mirror")))?;
        let (status, by_pod) = json(two, &["ipam", "show", "--pod", "shop/till-0"])?;
        assert_eq!((status, by_pod["addresses"].as_array().map(Vec::len)), (Some(0), Some(2)), "{by_pod}");
        let missing = two.twillctl_told(&["ipam", "show", "--pod", "shop/till-1"])?;
        assert_eq!(missing.status, Some(1), "{missing:?}");
        let elsewhere = two.twillctl_told(&["ipam", "show", "--ip", "192.0.2.77"])?;
        assert_eq!((elsewhere.status, elsewhere.stdout.contains("in no pool")), (Some(1), true), "{elsewhere:?}");

        let variables = [("NODE", "n1"), ("ADDRESS", ip.as_str())];
        let shown = two.run_script(&commands_of(DOCUMENT, "show"), &variables)?;
        assert!(shown.matches("shop/till-0").count() >= 5, "by node, by pod and by address:\n{shown}");
        two.run_script(&commands_of(DOCUMENT, "check"), &variables)?;

        // The watch of the cluster carries no mirror.
        let revision = |node: &Node| Ok::<_, LabError>(node.daemon_log().matches("in step").count());
        let before = revision(two)?;
        pod.del()?;
        deadline::until("it cools, and the other node knows", PATIENCE, || says(two, &ip, &[("state", "cooling")]))?;
        assert_eq!(revision(two)?, before);
        let (_, node) = json(two, &["node", "show", "n1"])?;
        assert_eq!((&node["used"], &node["cooling"], &node["blocks"]), (&0.into(), &2.into(), &2.into()), "{node}");
        Ok(())
    });
}

#[test]
fn check_finds_what_is_wrong_on_a_node_and_fix_has_the_node_mend_it() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let (one, two) = (lab.node(1), lab.node(2));
        let (gone, forgotten, stays) = (one.add_pod("a")?, one.add_pod("b")?, one.add_pod("c")?);
        check(two, &[], 0)?;

        one.run(&["ip", "link", "del", &gone.host_interface()?])?;
        let hash = forgotten.host_interface()?.trim_start_matches("tw").to_owned();
        let store = one.run_dir().join("node.db");
        let sql = format!(
            "DELETE FROM address WHERE attachment = (SELECT id FROM attachment WHERE hash = '{hash}');
             DELETE FROM attachment WHERE hash = '{hash}';"
        );
        one.run(&["sqlite3", "-cmd", ".timeout 5000", &store.to_string_lossy(), &sql])?;
        let block = lab.etcd().blocks()?.into_iter().find(|block| block.node == "n1").expect("n1 has blocks");
        let mirror = block.key.replace("blocks/", "addresses/n1/");
        assert!(lab.etcd().delete(&mirror)?);

        let told = check(two, &[], 1)?;
        let link = format!(
            "PROBLEM address {}: n1 has it for the container {}, whose link is gone\n",
            gone.address(false)?,
            gone.container()
        );
        let row = format!("PROBLEM interface {}: this link of a pod on n1", forgotten.host_interface()?);
        for wanted in [link.as_str(), &row, &format!("PROBLEM {mirror}: the mirror of")] {
            assert!(told.contains(wanted), "{wanted} is missing:\n{told}");
        }
        let told = check(two, &["--fix"], 0)?;
        assert!(told.contains("FIXED n1: ") && told.ends_with("no problems\n"), "{told}");
        let held = one.query_store("SELECT count(DISTINCT attachment) FROM address WHERE attachment IS NOT NULL")?;
        assert_eq!(held, "2", "the pod that was forgotten is known again, and the one without a link gone");
        stays.ping(forgotten.address(false)?, 56)?;
        let next = one.add_pod("d")?;
        assert!(![gone.address(false)?, forgotten.address(false)?].contains(&next.address(false)?));
        Ok(())
    });
}

#[test]
fn a_node_that_does_not_answer_means_could_not_tell_and_what_is_left_of_a_deleted_one_goes_by_fix() {
    with_lab(Lab::builder().nodes(3), |lab| {
        let one = lab.node(1);
        lab.node(3).kill_daemon()?;
        let told = check(one, &["--timeout", "1"], 2)?;
        assert!(told.contains("COULD NOT TELL: what node n3 has in use: no answer within 1 s"), "{told}");

        let blocks = lab.etcd().blocks_of("n3")?;
        assert!(lab.etcd().delete("nodes/n3")? && lab.etcd().delete("alive/n3")?);
        let told = check(one, &[], 1)?;
        assert!(told.contains("PROBLEM node n3: it has no record, and there are 2 blocks"), "{told}");
        assert_eq!(lab.etcd().blocks_of("n3")?, blocks, "a check changes nothing");
        let told = check(one, &["--fix"], 0)?;
        assert!(told.contains("FIXED node n3: deleted 2 blocks and 2 mirrors"), "{told}");
        assert_eq!(lab.etcd().blocks_of("n3")?, []);
        assert_eq!(lab.etcd().read("addresses/n3/")?, []);
        assert_eq!(lab.etcd().blocks_of("n1")?.len(), 2, "nobody else loses anything");

        // A node whose record is gone and that is alive comes back by itself.
        assert!(lab.etcd().delete("nodes/n2")?);
        check(one, &[], 0)?;
        lab.converged_among(&["n1", "n2"])
    });
}

#[test]
fn a_drained_node_refuses_pods_says_why_and_is_deleted_when_it_is_empty() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let (one, two) = (lab.node(1), lab.node(2));
        let stays = two.add_pod("a")?;
        let variables = [("NODE", "n2")];
        let told = one.run_script(&commands_of(DOCUMENT, "drain"), &variables)?;
        assert!(told.contains("node n2 is being drained"), "{told}");

        let late = two.create_pod("b")?;
        let refused = late.call(Verb::Add)?;
        refused.expect_code(100)?;
        assert!(refused.output.to_string().contains("twillctl node drain n2 --undo"), "{refused:?}");
        status(two)?.expect_code(50)?;
        one.add_pod("c")?.ping(stays.address(false)?, 56)?;

        two.kill_daemon()?;
        two.start_daemon()?;
        deadline::until("it is heard of again", PATIENCE, || {
            Ok(one.twillctl_told(&["ipam", "check"])?.status == Some(0))
        })?;
        late.call(Verb::Add)?.expect_code(100)?;

        one.run_script(&commands_of(DOCUMENT, "undo"), &variables)?;
        late.add()?;
        late.del()?;

        one.twillctl(&["node", "drain", "n2"])?;
        stays.del()?;
        let refused = one.twillctl_told(&["node", "delete", "n2"])?;
        assert!(refused.status == Some(1) && refused.stderr.contains("node n2 is alive"), "{refused:?}");
        two.stop_daemon()?;
        assert!(lab.etcd().delete("alive/n2")?, "as after a minute");
        // Its last address cools for half a minute.
        let patience = PATIENCE + std::time::Duration::from_secs(30);
        let delete = commands_of(DOCUMENT, "delete");
        deadline::until("it can be deleted", patience, || one.run_script(&delete, &variables).map(|_| true))?;
        assert_eq!(lab.etcd().blocks_of("n2")?, []);
        assert_eq!(lab.etcd().read("addresses/n2/")?, []);

        // It is back, and serves.
        two.start_daemon()?;
        lab.converged()?;
        two.add_pod("d").map(drop)
    });
}

fn record_of(lab: &Lab, name: &str) -> Result<Value> {
    let found = lab.etcd().nodes()?.into_iter().find(|(node, _)| node == name);
    found.map(|(_, record)| record).ok_or_else(|| LabError::wrong(format!("{name} has no record")))
}

#[test]
fn blocks_of_a_drained_node_go_back_as_they_empty_and_a_node_with_pods_is_not_deleted() {
    use twill_tests::lab::PoolSpec;
    let small = [PoolSpec::new("v4", "10.42.0.0/24", Some(30))];
    with_lab(Lab::builder().nodes(2).pools(small), |lab| {
        let (one, two) = (lab.node(1), lab.node(2));
        let pods: Vec<_> = (0..5).map(|number| two.add_pod(&format!("p{number}"))).collect::<Result<_>>()?;
        let tunnel: IpAddr =
            record_of(lab, "n2")?["tunnel"]["ipv4"].as_str().and_then(|ip| ip.parse().ok()).expect("an address");
        let first = pods[0].address(false)?;
        let before = lab.etcd().blocks_of("n2")?;
        let stay = |block: &&IpNetwork| block.contains(tunnel) || block.contains(first);
        let stay: Vec<IpNetwork> = before.iter().filter(stay).copied().collect();
        assert!(before.len() > stay.len(), "{before:?}");
        one.twillctl(&["node", "drain", "n2"])?;
        for pod in &pods[1..] {
            pod.del()?;
        }
        // The last addresses cool for half a minute.
        let patience = PATIENCE + std::time::Duration::from_secs(40);
        deadline::until_some("all are given back but the tunnel's and the pod's", patience, || {
            let blocks = lab.etcd().blocks_of("n2")?;
            Ok(if blocks == stay { Ok(()) } else { Err(blocks) })
        })?;
        assert_eq!(lab.etcd().read("addresses/n2/")?.len(), stay.len(), "the mirrors went with the blocks");
        pods[0].ping(one.add_pod("a")?.address(false)?, 56)?;
        two.stop_daemon()?;
        lab.etcd().delete("alive/n2")?;
        let refused = one.twillctl_told(&["node", "delete", "n2"])?;
        assert!(refused.status == Some(1) && refused.stderr.contains("--machine-is-off"), "{refused:?}");
        Ok(())
    });
}

#[test]
fn a_request_that_is_none_is_answered_as_unsupported_and_changes_nothing() {
    with_lab(Lab::builder().nodes(1), |lab| {
        let one = lab.node(1);
        let ask = |id: &str, value: &str| lab.etcd().etcdctl(&["put", &format!("/twill/v1/requests/n1/{id}"), value]);
        ask("newer", r#"{"from":"a test","ask":{"kind":"reboot"}}"#)?;
        ask("strict", r#"{"from":"a test","ask":{"kind":"drain","on":true,"gently":true}}"#)?;
        ask("garbage", "rm -rf /")?;
        ask("no/id", r#"{"from":"a test","ask":{"kind":"drain","on":true}}"#)?;
        let answers = deadline::until_some("all that can be answered are", PATIENCE, || {
            let answers = lab.etcd().read("answers/n1/")?;
            Ok(if answers.len() == 3 { Ok(answers) } else { Err(answers) })
        })?;
        for (key, answer) in answers {
            assert_eq!(answer["reply"]["kind"], "unsupported", "{key}: {answer}");
        }
        deadline::until("what was dropped is logged", PATIENCE, || {
            Ok(one.daemon_log().contains("1 requests to this node were dropped"))
        })?;
        assert_eq!(record_of(lab, "n1")?["drain"], Value::Null);
        // One whose time is over before the node hears of it does nothing either.
        lab.node(1).kill_daemon()?;
        ask("late", r#"{"from":"a test","ask":{"kind":"drain","on":true}}"#)?;
        assert!(lab.etcd().delete("requests/n1/late")?);
        one.start_daemon()?;
        check(one, &[], 0)?;
        assert_eq!(record_of(lab, "n1")?["drain"], Value::Null);
        Ok(())
    });
}
