//! What the plugin tells a runtime: CHECK finds what was removed, what ADD refuses leaves nothing behind, and STATUS and GC
//! know the node.
//!
//! But for exhausted pools of a cluster they run stand-alone, so that no daemon repairs what CHECK is to find.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use twill_tests::cni::{Answer, Call, Verb, code};
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::{Lab, LabBuilder, LabError, Node, Pod, PoolSpec, Result, with_lab};

fn stand_alone() -> LabBuilder {
    let subnets = ["10.43.0.0/24", "fd43::/120"].map(|subnet| subnet.parse().expect("a network"));
    Lab::builder().nodes(1).stand_alone(subnets)
}

/// A pod that CHECK finds in order until `damage`; then both cnitool and the code say that there is a difference.
fn check_finds(damage: impl FnOnce(&Node, &Pod) -> Result<()>) {
    with_lab(stand_alone(), |lab| {
        let node = lab.node(1);
        let pod = node.add_pod("a")?;
        pod.check()?;
        pod.call(Verb::Check)?.expect_success()?;
        damage(node, &pod)?;
        pod.call(Verb::Check)?.expect_code(code::DIFFERENCE)?;
        assert!(pod.check().is_err(), "cnitool should fail too");
        pod.del()?;
        Ok(())
    });
}

fn in_pod(words: &'static [&'static str]) -> impl FnOnce(&Node, &Pod) -> Result<()> {
    move |_, pod| pod.namespace().run(words).map(drop)
}

fn family(ipv6: bool) -> &'static str {
    if ipv6 { "-6" } else { "-4" }
}

fn remove_pod_address(pod: &Pod, ipv6: bool) -> Result<()> {
    let prefix = if ipv6 { 128 } else { 32 };
    let address = format!("{}/{prefix}", pod.address(ipv6)?);
    pod.namespace().run(&["ip", "addr", "del", &address, "dev", "eth0"]).map(drop)
}

fn remove_host_route(node: &Node, pod: &Pod, ipv6: bool) -> Result<()> {
    node.run(&["ip", family(ipv6), "route", "del", &pod.address(ipv6)?.to_string()]).map(drop)
}

fn remove_host_neighbour(node: &Node, pod: &Pod, ipv6: bool) -> Result<()> {
    let address = pod.address(ipv6)?.to_string();
    node.run(&["ip", "neigh", "del", &address, "dev", &pod.host_interface()?]).map(drop)
}

#[test]
fn check_finds_that_the_pod_lost_its_ipv4_address() {
    check_finds(|_, pod| remove_pod_address(pod, false));
}

#[test]
fn check_finds_that_the_pod_lost_its_ipv6_address() {
    check_finds(|_, pod| remove_pod_address(pod, true));
}

#[test]
fn check_finds_that_the_pod_lost_its_ipv4_default_route() {
    check_finds(in_pod(&["ip", "-4", "route", "del", "default"]));
}

#[test]
fn check_finds_that_the_pod_lost_its_ipv6_default_route() {
    check_finds(in_pod(&["ip", "-6", "route", "del", "default"]));
}

#[test]
fn check_finds_that_the_pod_lost_its_ipv4_neighbour() {
    check_finds(in_pod(&["ip", "neigh", "del", "169.254.1.1", "dev", "eth0"]));
}

#[test]
fn check_finds_that_the_pod_lost_its_ipv6_neighbour() {
    check_finds(in_pod(&["ip", "neigh", "del", "fe80::1", "dev", "eth0"]));
}

#[test]
fn check_finds_that_the_pods_link_is_down() {
    check_finds(in_pod(&["ip", "link", "set", "eth0", "down"]));
}

#[test]
fn check_finds_that_the_pods_link_was_removed() {
    check_finds(in_pod(&["ip", "link", "del", "eth0"]));
}

#[test]
fn check_finds_that_another_interface_took_the_place_of_the_pods() {
    check_finds(|_, pod| {
        pod.namespace().ip_batch("link set eth0 down\nlink set eth0 name old0\nlink add eth0 type bridge\n")
    });
}

#[test]
fn check_finds_that_the_host_lost_its_ipv4_route() {
    check_finds(|node, pod| remove_host_route(node, pod, false));
}

#[test]
fn check_finds_that_the_host_lost_its_ipv6_route() {
    check_finds(|node, pod| remove_host_route(node, pod, true));
}

#[test]
fn check_finds_that_the_host_lost_its_ipv4_neighbour() {
    check_finds(|node, pod| remove_host_neighbour(node, pod, false));
}

#[test]
fn check_finds_that_the_host_lost_its_ipv6_neighbour() {
    check_finds(|node, pod| remove_host_neighbour(node, pod, true));
}

#[test]
fn check_finds_that_the_host_end_is_down() {
    check_finds(|node, pod| node.run(&["ip", "link", "set", &pod.host_interface()?, "down"]).map(drop));
}

#[test]
fn check_finds_that_the_host_end_was_removed() {
    check_finds(|node, pod| node.run(&["ip", "link", "del", &pod.host_interface()?]).map(drop));
}

// ---- what ADD refuses ----------------------------------------------------------------------------------------------

/// An ADD that must fail with `code`, and after which node and pod are as they were.
fn add_is_refused(code: u64, prepare: impl FnOnce(&Pod) -> Result<()>) {
    with_lab(stand_alone(), |lab| {
        let node = lab.node(1);
        let other = node.add_pod("other")?;
        let pod = node.create_pod("a")?;
        prepare(&pod)?;
        let links = || pod.namespace().run(&["ip", "-o", "link", "show"]);
        let before = (node.attachments()?, links()?);
        pod.call(Verb::Add)?.expect_code(code)?;
        assert!(pod.add().is_err(), "cnitool should fail too");
        assert_eq!((node.attachments()?, links()?), before, "something was left behind");
        other.check()
    });
}

#[test]
fn add_of_a_taken_interface_name_is_refused_and_leaves_nothing() {
    add_is_refused(code::EXISTS, |pod| pod.namespace().ip_batch("link add eth0 type bridge\n"));
}

#[test]
fn add_of_an_attached_pod_is_refused_and_harms_nothing() {
    add_is_refused(code::EXISTS, |pod| pod.add().map(drop));
}

#[test]
fn add_into_a_missing_namespace_is_refused_and_leaves_nothing() {
    with_lab(stand_alone(), |lab| {
        let node = lab.node(1);
        let other = node.add_pod("other")?;
        let before = node.attachments()?;
        let pod = node.create_pod("a")?;
        // One that is not there, and a file that is none.
        for netns in ["/run/netns/twill-has-no-such-namespace", "/etc/hostname", "/"] {
            let answer = pod.call_with_netns(Verb::Add, Path::new(netns))?;
            answer.expect_code(code::NAMESPACE)?;
            assert!(answer.output["msg"].as_str().is_some_and(|m| !m.is_empty()), "{}", answer.output);
            assert_eq!(node.attachments()?, before, "something was left behind");
        }
        other.check()
    });
}

/// CHECK of a pod that was added by a direct call, of which cnitool has no result.
fn is_in_order(pod: &Pod) -> Result<()> {
    pod.call(Verb::Check)?.expect_success().map(drop)
}

#[test]
fn add_with_an_exhausted_subnet_is_refused_and_leaves_nothing() {
    let subnet = "10.43.0.0/29".parse().expect("a network");
    with_lab(Lab::builder().nodes(1).stand_alone([subnet]), |lab| {
        let node = lab.node(1);
        let mut pods = Vec::new();
        let refused = loop {
            let pod = node.create_pod(&format!("p{}", pods.len()))?;
            let answer = pod.call(Verb::Add)?;
            if !answer.success {
                break (pod, answer);
            }
            pods.push(pod);
            assert!(pods.len() <= 8, "more pods than addresses");
        };
        let (pod, answer) = refused;
        answer.expect_code(code::NO_ADDRESS)?;
        assert!(pods.len() >= 5, "only {} of 8 addresses were given", pods.len());
        let before = node.attachments()?;
        pod.call(Verb::Add)?.expect_code(code::NO_ADDRESS)?;
        assert_eq!(node.attachments()?, before, "something was left behind");
        pods.iter().try_for_each(is_in_order)
    });
}

#[test]
fn add_with_an_exhausted_pool_is_refused_with_what_to_do_and_serves_again_after_a_del() {
    let pool = PoolSpec::new("small", "10.44.0.0/28", Some(29));
    with_lab(Lab::builder().nodes(1).pools([pool]), |lab| {
        let node = lab.node(1);
        let mut pods = Vec::new();
        // The daemon claims the second block while the first is used up, and then records that there is no more.
        let (pod, refused) = loop {
            let pod = node.create_pod(&format!("p{}", pods.len()))?;
            let exhausted =
                |answer: &twill_tests::cni::Answer| answer.success || answer.code() == Some(code::NO_ADDRESS);
            let answer = deadline::until_some("an ADD succeeds, or the pool is exhausted", PATIENCE, || {
                let answer = pod.call(Verb::Add)?;
                let code = answer.code();
                Ok(if exhausted(&answer) { Ok(answer) } else { Err((code, answer.output)) })
            })?;
            if !answer.success {
                break (pod, answer);
            }
            pods.push(pod);
            assert!(pods.len() <= 16, "more pods than addresses");
        };
        refused.expect_code(code::NO_ADDRESS)?;
        assert_eq!(lab.etcd().blocks()?.len(), 2, "both blocks are used");
        assert!(pods.len() >= 10, "only {} of 16 addresses were given", pods.len());
        let before = node.attachments()?;
        let answer = pod.call(Verb::Add)?;
        answer.expect_code(code::NO_ADDRESS)?;
        let told = answer.output.to_string();
        for word in ["small", "16 of 16", "add a pool"] {
            assert!(told.contains(word), "pool, use, and what to do: {told}");
        }
        assert_eq!(node.attachments()?, before, "something was left behind");
        pods.iter().try_for_each(is_in_order)?;

        let unready = of_network(lab, Verb::Status, serde_json::Value::Null)?;
        unready.expect_code(code::UNAVAILABLE)?;
        assert!(unready.output.to_string().contains("add a pool"), "{}", unready.output);
        let told = node.twillctl(&["status"]).unwrap_err().to_string();
        assert!(told.contains("pool small") && told.contains("add a pool of this family"), "{told}");

        // One goes; when its address has cooled, the one that waits has it.
        pods.pop().map(|gone| gone.call(Verb::Del)?.expect_success()).transpose()?;
        of_network(lab, Verb::Status, serde_json::Value::Null)?.expect_success()?;
        deadline::until_some("an ADD succeeds again", 3 * PATIENCE, || {
            let answer = pod.call(Verb::Add)?;
            Ok(if answer.success { Ok(()) } else { Err(answer.output) })
        })?;
        pods.push(pod);
        pods.iter().try_for_each(is_in_order)
    });
}

// ---- what DEL and the rest promise ---------------------------------------------------------------------------------

#[test]
fn del_removes_everything_and_may_be_repeated() {
    with_lab(stand_alone(), |lab| {
        let node = lab.node(1);
        let pod = node.create_pod("a")?;
        let never_added = pod.call(Verb::Del)?;
        never_added.expect_success()?;
        let before = node.attachments()?;
        pod.add()?;
        assert_ne!(node.attachments()?, before);
        for _ in 0..2 {
            pod.del()?;
            assert_eq!(node.attachments()?, before, "something was left behind");
        }
        pod.add()?;
        pod.check()
    });
}

#[test]
fn del_succeeds_when_the_namespace_is_gone() {
    with_lab(stand_alone(), |lab| {
        let node = lab.node(1);
        let before = node.add_pod("other").and_then(|_| node.attachments())?;
        for netns in ["gone", "empty"] {
            let pod = node.add_pod(netns)?;
            let path = if netns == "gone" { pod.namespace().path() } else { Path::new("") };
            pod.namespace().remove()?;
            let answer = pod.call_with_netns(Verb::Del, path)?;
            assert!(answer.output.is_null(), "DEL prints nothing: {}", answer.output);
            answer.expect_success()?;
            // The kernel removes a namespace's devices in its own time, also those that DEL did not get at.
            deadline::until_some("all is as before", PATIENCE, || {
                let now = node.attachments()?;
                Ok(if now == before { Ok(()) } else { Err(now) })
            })?;
        }
        Ok(())
    });
}

#[test]
fn pods_that_start_at_once_get_different_addresses_and_reach_each_other() {
    with_lab(stand_alone(), |lab| {
        let node = lab.node(1);
        let pods = (0..16).map(|n| node.create_pod(&format!("p{n}"))).collect::<Result<Vec<_>>>()?;
        let added: Vec<Result<_>> = std::thread::scope(|scope| {
            let adding: Vec<_> = pods.iter().map(|pod| scope.spawn(|| pod.add())).collect();
            adding.into_iter().map(|thread| thread.join().expect("an ADD does not panic")).collect()
        });
        let added = added.into_iter().collect::<Result<Vec<_>>>()?;
        let addresses: BTreeSet<IpAddr> = added.iter().flat_map(|a| &a.addresses).map(|network| network.ip()).collect();
        assert_eq!(addresses.len(), 32, "an address of each family for each of 16 pods: {addresses:?}");
        for pod in &pods {
            pod.check()?;
            for ipv6 in [false, true] {
                pods[0].ping(pod.address(ipv6)?, 56)?;
            }
        }
        Ok(())
    });
}

#[test]
fn version_names_what_is_supported() {
    with_lab(stand_alone(), |lab| {
        let pod = lab.node(1).create_pod("a")?;
        let result = pod.call(Verb::Version)?.expect_success()?;
        let supported = result["supportedVersions"].as_array().cloned().unwrap_or_default();
        for version in ["0.4.0", "1.0.0", "1.1.0"] {
            assert!(supported.iter().any(|v| v == version), "{result}");
        }
        Ok(())
    });
}

#[test]
fn a_result_names_the_host_end_first_and_the_sandbox_to_the_letter() {
    with_lab(stand_alone(), |lab| {
        let pod = lab.node(1).create_pod("a")?;
        let result = pod.add()?.result;
        let interfaces = result["interfaces"].as_array().ok_or_else(|| LabError::wrong("no interfaces"))?;
        assert_eq!(interfaces.len(), 2, "{result}");
        assert_eq!(interfaces[0]["name"].as_str(), Some(pod.host_interface()?.as_str()));
        assert_eq!(interfaces[1]["name"], "eth0");
        assert_eq!(interfaces[1]["sandbox"].as_str().map(Path::new), Some(pod.namespace().path()));
        assert_eq!(result["ips"][0]["interface"], 1);
        Ok(())
    });
}

/// A verb about the network of a node, of the version that has it.
fn of_network(lab: &Lab, verb: Verb, list: serde_json::Value) -> Result<Answer> {
    let node = lab.node(1);
    let mut input = node.network().plugin_input(None);
    input["cniVersion"] = "1.1.0".into();
    input["cni.dev/valid-attachments"] = list;
    let (plugin, none) = (lab.binaries().plugin(), "");
    let call = Call { plugin: &plugin, verb, container: none, netns: Path::new(none), ifname: none, input: &input };
    call.run_in(node.namespace())
}

#[test]
fn a_node_is_ready_while_it_has_addresses_be_etcd_and_the_daemon_away_and_not_without() {
    let pool = PoolSpec::new("small", "10.44.0.0/30", Some(30));
    with_lab(Lab::builder().nodes(1).pools([pool]), |lab| {
        let node = lab.node(1);
        let status = || of_network(lab, Verb::Status, serde_json::Value::Null);
        deadline::until("the node is ready", PATIENCE, || Ok(status()?.success))?;
        let first = node.add_pod("p0")?;
        lab.etcd().kill()?;
        status()?.expect_success()?;
        node.kill_daemon()?;
        status()?.expect_success()?;
        // Of four addresses one is the tunnel's.
        let pods = ["p1", "p2"].map(|name| node.add_pod(name));
        pods.into_iter().try_for_each(|pod| pod.map(drop))?;
        let full = status()?;
        full.expect_code(code::UNAVAILABLE)?;
        assert!(full.output["msg"].as_str().is_some_and(|text| text.contains("3 of 4")), "{}", full.output);

        let listed = serde_json::json!([{"containerID": first.container(), "ifname": "eth0"}]);
        of_network(lab, Verb::Gc, listed)?.expect_success()?;
        first.check()?;
        assert_eq!(node.query_store("SELECT count(*) FROM attachment")?.trim(), "1");
        status()?.expect_success().map(drop)
    });
}
