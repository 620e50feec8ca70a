//! The way of a packet: between pods of different nodes through the kernel alone, and from a pod to the outside.

use std::net::IpAddr;
use std::sync::Mutex;

use ipnetwork::IpNetwork;
use serde_json::json;
use twill_tests::cni::{Call, Verb};
use twill_tests::lab::VXLAN;
use twill_tests::wire::{OUTSIDE_V4, OUTSIDE_V6};
use twill_tests::witness::Witness;
use twill_tests::{Lab, LabError, Pod, PoolSpec, Result, Underlay, with_lab};

/// Two pods on each node.
fn two_pods_each(lab: &Lab) -> Result<Vec<Pod>> {
    let mut pods = Vec::new();
    for node in lab.nodes() {
        for letter in ["a", "b"] {
            pods.push(node.add_pod(&format!("{}-{letter}", node.name()))?);
        }
    }
    Ok(pods)
}

/// Pings from every pod to every address of every other, small and full-size, and demands that all are answered.
fn all_pairs_answer(pods: &[Pod], families: &[bool]) -> Result<()> {
    let failures = Mutex::new(Vec::new());
    let mut targets: Vec<(&Pod, IpAddr)> = Vec::new();
    for pod in pods {
        assert_eq!(pod.addresses()?.len(), families.len(), "{} has an address of each family", pod.name());
        for ipv6 in families {
            targets.push((pod, pod.address(*ipv6)?));
        }
    }
    std::thread::scope(|scope| {
        for from in pods {
            let (targets, failures) = (&targets, &failures);
            scope.spawn(move || {
                for (to, address) in targets.iter().filter(|(to, _)| to.name() != from.name()) {
                    if let Err(error) = from.ping_small_and_full(*address) {
                        let mut failures = failures.lock().expect("nobody panics with it");
                        failures.push(format!("{} to {}: {error}", from.name(), to.name()));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("nobody panics with it");
    if failures.is_empty() { Ok(()) } else { Err(LabError::wrong(failures.join("\n"))) }
}

/// The MTU that pods have over an underlay with 1500 bytes, by the family of the outer header (RFC 7348, section 5).
fn expect_mtu(pods: &[Pod], mtu: u64) -> Result<()> {
    for pod in pods {
        assert_eq!(pod.mtu()?, mtu, "the MTU of {}", pod.name());
    }
    Ok(())
}

#[test]
fn every_pod_reaches_every_other_over_vxlan_with_ipv4_pools() {
    with_lab(Lab::builder().pools([PoolSpec::v4()]).underlay(Underlay::V4), |lab| {
        let pods = two_pods_each(lab)?;
        expect_mtu(&pods, 1450)?;
        all_pairs_answer(&pods, &[false])
    });
}

#[test]
fn every_pod_reaches_every_other_over_vxlan_with_ipv6_pools() {
    with_lab(Lab::builder().pools([PoolSpec::v6()]).underlay(Underlay::V4), |lab| {
        let pods = two_pods_each(lab)?;
        expect_mtu(&pods, 1450)?;
        all_pairs_answer(&pods, &[true])
    });
}

#[test]
fn every_pod_reaches_every_other_over_vxlan_in_both_families() {
    with_lab(Lab::builder(), |lab| {
        let pods = two_pods_each(lab)?;
        all_pairs_answer(&pods, &[false, true])
    });
}

#[test]
fn every_pod_reaches_every_other_over_an_ipv6_underlay_in_both_families() {
    with_lab(Lab::builder().underlay(Underlay::V6), |lab| {
        let pods = two_pods_each(lab)?;
        expect_mtu(&pods, 1430)?;
        all_pairs_answer(&pods, &[false, true])
    });
}

#[test]
fn traffic_between_nodes_is_encapsulated() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let (a, b) = (lab.node(1).add_pod("a")?, lab.node(2).add_pod("b")?);
        for ipv6 in [false, true] {
            let route = a_route(lab, &b.address(ipv6)?)?;
            assert!(route.contains(&format!("dev {VXLAN}")), "{route}");
            a.ping(b.address(ipv6)?, 56)?;
        }
        let drops = lab.node(1).namespace().run_json(&["ip", "-j", "-s", "link", "show", "dev", VXLAN])?;
        assert!(drops[0]["stats64"]["tx"]["packets"].as_u64().is_some_and(|packets| packets >= 2), "{drops}");
        Ok(())
    });
}

fn a_route(lab: &Lab, target: &IpAddr) -> Result<String> {
    lab.node(1).run(&["ip", "route", "get", &target.to_string()])
}

#[test]
fn a_node_reaches_the_pods_of_other_nodes_and_is_answered() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let pod = lab.node(2).add_pod("a")?;
        for ipv6 in [false, true] {
            let target = pod.address(ipv6)?.to_string();
            lab.node(1).run(&["ping", "-n", "-c1", "-W3", &target])?;
            // And its own node, which health checks come from.
            lab.node(2).run(&["ping", "-n", "-c1", "-W3", &target])?;
        }
        Ok(())
    });
}

#[test]
fn a_pods_source_address_is_kept_inside_the_cluster() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let near = lab.node(1).add_pod("near")?;
        let (far, neighbour) = (lab.node(2).add_pod("far")?, lab.node(1).add_pod("neighbour")?);
        for ipv6 in [false, true] {
            for server in [&far, &neighbour] {
                let witness = Witness::listen(server.namespace(), server.address(ipv6)?)?;
                assert_eq!(witness.sees(near.namespace())?, near.address(ipv6)?, "seen by {}", server.name());
            }
        }
        Ok(())
    });
}

#[test]
fn a_pods_source_address_is_masqueraded_outside() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let node = lab.node(2);
        let pod = node.add_pod("a")?;
        for (ipv6, outside) in [(false, IpAddr::from(OUTSIDE_V4)), (true, OUTSIDE_V6.into())] {
            let witness = Witness::listen(lab.outside(), outside)?;
            let seen = witness.sees(pod.namespace())?;
            let node_address = node.addresses().iter().find(|a| a.is_ipv6() == ipv6);
            assert_eq!(Some(&seen), node_address, "the address that {outside} sees");
        }
        Ok(())
    });
}

#[test]
fn pool_traffic_without_a_pod_does_not_leave_by_the_default_route() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let pod = lab.node(1).add_pod("a")?;
        // Addresses in the pools, in blocks that nobody has.
        for target in ["10.42.255.254", "fd42::ff:fffe"] {
            let answer = pod.namespace().run(&["ping", "-n", "-c1", "-W2", target]);
            let said = answer.unwrap_or_else(|error| error.to_string());
            assert!(said.to_lowercase().contains("unreachable"), "{target}: {said}");
        }
        Ok(())
    });
}

#[test]
fn both_interfaces_of_a_pod_answer_and_send_across_nodes_past_the_guard() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let node = lab.node(1);
        let (a, b) = (node.add_pod("a")?, lab.node(2).add_pod("b")?);
        let mut input = node.network().plugin_input(None);
        input["name"] = json!("other");
        let (plugin, container) = (lab.binaries().plugin(), a.container());
        let call = |verb| {
            let netns = a.namespace().path();
            let call = Call { plugin: &plugin, verb, container: &container, netns, ifname: "eth1", input: &input };
            call.run_in(node.namespace())
        };
        let result = call(Verb::Add)?.expect_success()?;
        let read = |ip: &serde_json::Value| {
            let text = ip["address"].as_str().unwrap_or_default();
            text.parse::<IpNetwork>().map(|cidr| cidr.ip()).map_err(|_| LabError::wrong(format!("{result}")))
        };
        let later: Vec<IpAddr> = result["ips"].as_array().into_iter().flatten().map(read).collect::<Result<_>>()?;
        assert_eq!(later.len(), 2, "{result}");
        for ip in &later {
            // The reply leaves by the interface that has the address, or the node drops it.
            b.ping(*ip, 56)?;
            b.ping(a.address(ip.is_ipv6())?, 56)?;
            let to = b.address(ip.is_ipv6())?.to_string();
            a.namespace().run(&["ping", "-n", "-c1", "-W2", "-I", &ip.to_string(), &to])?;
        }
        call(Verb::Del)?;
        let rules = a.namespace().run(&["ip", "rule"])? + &a.namespace().run(&["ip", "-6", "rule"])?;
        assert!(!rules.contains("7777:"), "{rules}");
        for ipv6 in [false, true] {
            b.ping(a.address(ipv6)?, 56)?;
        }
        Ok(())
    });
}
