//! `twillctl why`: of a pod, an address and a node that are well, and of those that are not.

use twill_testkit::commands_of;
use twill_tests::cni::Verb;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::golden::is_golden;
use twill_tests::node::Told;
use twill_tests::{Lab, Node, Result, with_lab};

use super::status::comes_to_tell;

/// What is said, which must end so.
fn why(node: &Node, words: &[&str], status: i32) -> Result<String> {
    let Told { status: ended, stdout, stderr } = node.twillctl_told(&[&["why"], words].concat())?;
    assert_eq!(ended, Some(status), "{words:?}: {stdout}{stderr}");
    Ok(stdout)
}

#[test]
fn a_pod_its_addresses_and_its_node_say_what_they_are() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let (one, two) = (lab.node(1), lab.node(2));
        let pod = one.create_pod("a")?;
        pod.add_as("shop", "till-0")?;
        let ip = pod.address(false)?.to_string();
        let attached = why(two, &["pod", "shop/till-0"], 0)?;
        assert!(attached.contains(&ip) && attached.contains(&pod.host_interface()?), "{attached}");
        let words = format!("{ip} is an address of pod shop/till-0 on n1\n");
        comes_to_tell(two, &["why", "ip", &ip], 0, &words)?;
        deadline::until("both addresses are mirrored", PATIENCE, || {
            let told = two.twillctl_told(&["ipam", "show", "--pod", "shop/till-0"])?;
            Ok(told.stdout.matches("attached").count() == 2)
        })?;
        let well = two.twillctl_told(&["status", "--wait", "1m"])?;
        assert_eq!(well.status, Some(0), "{well:?}");
        is_golden("operator", "why-node", &why(two, &["node", "n1"], 0)?);
        let variables = [("NODE", "n1"), ("ADDRESS", ip.as_str())];
        let shown = two.run_script(&commands_of("status.md", "why"), &variables)?;
        assert!(shown.contains(&words) && shown.contains("may it be deleted: NO, it is alive"), "{shown}");

        // What is of no pod.
        let underlay = one.addresses()[0].to_string();
        let between = why(two, &["ip", &underlay], 0)?;
        assert_eq!(between, format!("{underlay} is the address of node n1 between the nodes\n"));
        let outside = why(two, &["ip", "198.51.100.7"], 1)?;
        assert!(outside.contains("it is outside of all pools\n    fix: "), "{outside}");
        why(two, &["node", "n9"], 1)?;
        is_golden("operator", "why-nobody", &why(two, &["pod", "shop/ghost"], 1)?);

        pod.del()?;
        let cooling = format!("{ip} was given back on n1 a short while ago, and is given to nobody yet\n");
        comes_to_tell(two, &["why", "ip", &ip], 0, &cooling)?;
        Ok(())
    });
}

#[test]
fn a_pod_that_cannot_be_attached_says_why_and_what_to_do() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let (one, two) = (lab.node(1), lab.node(2));
        one.twillctl(&["node", "drain", "n1"])?;
        let pod = one.create_pod("a")?;
        assert!(pod.add_as("shop", "till-0").is_err(), "its node is being drained");
        let drained = why(two, &["pod", "shop/till-0"], 1)?;
        is_golden("operator", "why-drained", &drained);
        one.twillctl(&["node", "drain", "n1", "--undo"])?;
        pod.add_as("shop", "till-0")?;
        let attached = why(two, &["pod", "shop/till-0", "--node", "n1"], 0)?;
        assert!(
            attached.contains("attached") && attached.contains("code 100"),
            "the failure is told still: {attached}"
        );

        // Of a node whose daemon is down, the mirror tells.
        deadline::until("its addresses are mirrored", PATIENCE, || {
            let told = two.twillctl_told(&["ipam", "show", "--pod", "shop/till-0"])?;
            Ok(told.stdout.matches("attached").count() == 2)
        })?;
        one.kill_daemon()?;
        let by_mirror = why(two, &["pod", "shop/till-0", "--timeout", "1"], 2)?;
        assert!(by_mirror.contains("what node n1 has of it: no answer within 1 s"), "{by_mirror}");
        assert_eq!(by_mirror.matches("attached").count(), 2, "{by_mirror}");
        assert!(lab.etcd().delete("alive/n1")?);
        let dead = why(two, &["pod", "shop/till-0", "--timeout", "1"], 1)?;
        assert!(dead.contains("PROBLEM node n1: its daemon has not been heard of for a minute"), "{dead}");
        pod.call(Verb::Del)?;
        Ok(())
    });
}

#[test]
fn a_node_that_others_do_not_reach_says_from_where_and_a_drained_one_that_it_may_be_deleted() {
    with_lab(Lab::builder().nodes(2).asleep(), |lab| {
        for node in lab.nodes() {
            node.start_daemon_with(&["--probe-turn-ms", "100"])?;
        }
        lab.converged()?;
        let (one, two) = (lab.node(1), lab.node(2));
        let rule =
            "table inet fault { chain faults { type filter hook prerouting priority -200; udp dport 4789 drop; }; }";
        two.run(&["nft", rule])?;
        let unreached =
            comes_to_tell(one, &["why", "node", "n2"], 1, "the way to it is not good from n1 (not_through)")?;
        assert!(unreached.contains("NODE  FINDS THE WAY TO IT\nn1    not_through\n"), "{unreached}");
        // It finds the same of the other one, in its own time.
        let own = "PROBLEM node n2: n1 (";
        is_golden("operator", "why-node-dropped-vxlan", &comes_to_tell(one, &["why", "node", "n2"], 1, own)?);
        two.run(&["nft", "delete", "table", "inet", "fault"])?;

        one.twillctl(&["node", "drain", "n2"])?;
        let vacated = "may it be deleted: NO, it is alive; it is drained and has no pods: stop twilld there";
        deadline::until("it is known to have no pods", PATIENCE, || {
            Ok(one.twillctl_told(&["why", "node", "n2"])?.stdout.contains(vacated)
                || one.twillctl_told(&["why", "node", "n2"])?.stdout.contains("it has no blocks"))
        })?;
        two.stop_daemon()?;
        lab.etcd().delete("alive/n2")?;
        let gone = comes_to_tell(one, &["why", "node", "n2"], 1, "may it be deleted: yes, ")?;
        assert!(gone.contains("'twillctl node delete n2'"), "{gone}");
        one.twillctl(&["node", "delete", "n2"])?;
        why(one, &["node", "n2"], 1)?;
        Ok(())
    });
}
