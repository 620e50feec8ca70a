//! What is in the way of packets a trace names, with its cause and what to do; and a real ping is not answered.

use std::fs;

use serde_json::json;
use twill_testkit::write_program;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::golden::is_golden;
use twill_tests::lab::VXLAN;
use twill_tests::{Lab, LabError, Node, Pod, Result, with_lab};

use super::stage::{answers, comes_to_tell, traced};

/// A fault of n1 or n2: how it is made and unmade, and what is told; its golden file.
struct Fault {
    golden: String,
    at: usize,
    make: String,
    unmake: String,
    told: String,
    fix: &'static str,
}

fn sh(node: &Node, script: &str) -> Result<String> {
    node.run(&["sh", "-ec", script])
}

/// Each fault is told while it lasts, by its words and its fix, and nothing is before it and after it.
fn each_is_told(lab: &Lab, from: &Pod, to: &Pod, ipv6: bool, faults: &[Fault]) -> Result<()> {
    let (source, target) = (from.address(ipv6)?, to.address(ipv6)?);
    let (source_text, target_text) = (source.to_string(), target.to_string());
    let arguments = [source_text.as_str(), target_text.as_str()];
    let observer = lab.node(2);
    comes_to_tell(observer, &arguments, 0, &["the reply arrives"])?;
    for Fault { golden, at, make, unmake, told, fix } in faults {
        let node = lab.node(*at);
        sh(node, make)?;
        let words = [format!("PROBLEM node n{at}"), told.clone(), format!("    fix: {fix}"), "(BROKEN)".to_owned()];
        let text = comes_to_tell(observer, &arguments, 1, &words.each_ref().map(String::as_str))?;
        is_golden("trace", golden, &text);
        assert!(!answers(from, target, 84), "{make}");
        sh(node, unmake)?;
        comes_to_tell(observer, &arguments, 0, &["the reply arrives"])?;
        deadline::until(&format!("a ping is answered after {unmake}"), PATIENCE, || Ok(answers(from, target, 84)))?;
    }
    Ok(())
}

#[test]
fn routes_and_rules_of_somebody_else_that_win_are_named() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let (one, two) = (lab.node(1), lab.node(2));
        let (a, b) = (one.attach("a")?, two.attach("b")?);
        for ipv6 in [false, true] {
            let to = b.address(ipv6)?;
            let ip = if ipv6 { "ip -6" } else { "ip -4" };
            let family = if ipv6 { "ipv6" } else { "ipv4" };
            let fault = |name: &str, make: &str, told: &str, fix| Fault {
                golden: format!("{name}-{family}"),
                at: 1,
                make: format!("{ip} {}", make.replace("DO", "add")),
                unmake: format!("{ip} {}", make.replace("DO", "del")),
                told: told.to_owned(),
                fix,
            };
            let by_device = format!("route DO {to} dev eth0 proto static metric 5");
            let blackhole = format!("route DO blackhole {to} proto static metric 5");
            let rule = "rule DO from all iif tw+ lookup 100 priority 100";
            let mut faults = vec![
                fault(
                    "route-of-others",
                    &by_device,
                    &format!("a route of somebody else wins: {to}/"),
                    "'ip route show ",
                ),
                fault(
                    "route-that-refuses",
                    &blackhole,
                    "a route of somebody else wins, and refuses it: refusing ",
                    "'ip route show ",
                ),
            ];
            let host = a.host_interface()?;
            let rule = rule.replace("tw+", &host);
            let table = format!("{ip} route add default dev eth0 table 100");
            let drop_table = format!("{ip} route del default dev eth0 table 100");
            faults.push(Fault {
                golden: format!("rule-of-others-{family}"),
                at: 1,
                make: format!("{table}; {ip} {}", rule.replace("DO", "add")),
                unmake: format!("{ip} {}; {drop_table}", rule.replace("DO", "del")),
                told: "a policy rule of somebody else has the kernel look into table 100".to_owned(),
                fix: "'ip rule show'",
            });
            each_is_told(lab, &a, &b, ipv6, &faults)?;
        }
        Ok(())
    });
}

#[test]
fn a_chain_that_drops_what_is_forwarded_is_named_on_the_node_where_it_is() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let (a, b) = (lab.node(1).attach("a")?, lab.node(2).attach("b")?);
        for ipv6 in [false, true] {
            let (iptables, family) = if ipv6 { ("ip6tables-nft", "ip6") } else { ("iptables-nft", "ip") };
            let fault = |at| Fault {
                golden: format!("forward-drop-{family}-n{at}"),
                at,
                make: format!("{iptables} -P FORWARD DROP"),
                unmake: format!("{iptables} -P FORWARD ACCEPT"),
                told: format!("{family} filter FORWARD drops it: its policy is drop"),
                fix: "set open_forward = true in [firewall] of the cluster configuration",
            };
            each_is_told(lab, &a, &b, ipv6, &[fault(1), fault(2)])?;
        }
        Ok(())
    });
}

#[test]
fn a_chain_that_lets_no_tunnel_in_is_named_on_the_node_where_it_is() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let (a, b) = (lab.node(1).attach("a")?, lab.node(2).attach("b")?);
        let shut = Fault {
            golden: "shut-tunnel".to_owned(),
            at: 2,
            make: "nft 'table inet guard { chain in { type filter hook input priority 0; udp dport 4789 drop; }; }'"
                .to_owned(),
            unmake: "nft delete table inet guard".to_owned(),
            told: "inet guard in drops it: its rule with handle".to_owned(),
            fix: "'nft insert rule inet guard in udp dport 4789 accept'",
        };
        each_is_told(lab, &a, &b, false, &[shut])
    });
}

#[test]
fn what_does_not_fit_is_told_with_the_node_that_drops_it() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let (one, two) = (lab.node(1), lab.node(2));
        let (a, b) = (one.attach("a")?, two.attach("b")?);
        let (from, to) = (a.address(false)?.to_string(), b.address(false)?);
        let arguments = [from.as_str(), &to.to_string(), "--size", "1450"];
        comes_to_tell(one, &arguments, 0, &["the reply arrives"])?;
        assert!(answers(&a, to, 1450));
        two.run(&["ip", "link", "set", "eth0", "mtu", "1400"])?;
        let told = "the packet has 1500 bytes here, and the MTU of eth0 is 1400";
        let text = comes_to_tell(one, &arguments, 1, &["PROBLEM node n2", told, "an interface drops without a word"])?;
        is_golden("trace", "wrong-mtu", &text);
        assert!(text.contains("    fix: give eth0 the MTU of the other nodes' interfaces"), "{text}");
        assert!(!answers(&a, to, 1450), "{text}");
        comes_to_tell(one, &[&from, &to.to_string(), "--size", "1200"], 0, &["the packet arrives"])?;
        assert!(answers(&a, to, 1200));
        let large = comes_to_tell(one, &[&from, &to.to_string(), "--size", "1451"], 1, &["PROBLEM node n1"])?;
        is_golden("trace", "too-large", &large);
        assert!(large.contains("answers with ICMP \"fragmentation needed\""), "{large}");
        Ok(())
    });
}

#[test]
fn what_is_missing_is_told_for_as_long_as_nobody_repairs_it() {
    with_lab(Lab::builder().nodes(2).asleep(), |lab| {
        for node in lab.nodes() {
            node.start_daemon_with(&["--deaf"])?;
        }
        lab.converged()?;
        let (one, two) = (lab.node(1), lab.node(2));
        let (a, b) = (one.attach("a")?, two.attach("b")?);
        let (from, to) = (a.address(false)?.to_string(), b.address(false)?);
        let arguments = [from.as_str(), &to.to_string()];
        comes_to_tell(two, &arguments, 0, &["the reply arrives"])?;
        let block = lab.etcd().blocks()?.into_iter().find(|block| block.node == "n2" && block.cidr.contains(to));
        let block = block.expect("the pod's address is of a block").cidr.to_string();
        let neighbour = block.split('/').next().unwrap_or_default();
        let damages = [
            ("missing-route", format!("ip route del {block}"), "route expected: "),
            (
                "missing-neighbour",
                format!("ip neigh del {neighbour} dev {VXLAN}"),
                "is missing, and nobody answers for it on vxlan.twill",
            ),
            (
                "missing-entry",
                format!("set -- $(bridge fdb show dev {VXLAN} | head -1); bridge fdb del $1 dev {VXLAN}"),
                "the device does not know",
            ),
            ("device-down", format!("ip link set {VXLAN} down"), "vxlan.twill is down"),
        ];
        for (name, damage, told) in &damages {
            // The timer may repair it at once: then it is damaged again.
            let text = deadline::until_some(&format!("{damage} is told"), PATIENCE, || {
                sh(one, &format!("{damage} || true"))?;
                let said = two.twillctl_told(&[&["trace"], &arguments[..]].concat())?;
                Ok(if said.status == Some(1) { Ok(said.stdout) } else { Err(said) })
            })?;
            let is_told =
                text.contains(told) && text.contains("PROBLEM node n1") && text.contains("    fix: twilld puts ");
            assert!(is_told, "{damage}: {text}");
            is_golden("trace", name, &text);
            comes_to_tell(two, &arguments, 0, &["the reply arrives"])?;
        }
        Ok(())
    });
}

#[test]
fn an_address_that_nobody_has_is_told_with_the_block_and_its_owner() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let (one, two) = (lab.node(1), lab.node(2));
        let a = one.attach("a")?;
        for ipv6 in [false, true] {
            let from = a.address(ipv6)?.to_string();
            let own = one.last_address(ipv6)?.to_string();
            comes_to_tell(two, &[&from, &own], 1, &["nobody has ", "of this node, and no pod has it"])?;
            let far = two.last_address(ipv6)?.to_string();
            let words = ["PROBLEM node n2", &format!("nobody has {far}: it lies in the block "), "of this node"];
            comes_to_tell(two, &[&from, &far], 1, &words)?;
            let nobodys = if ipv6 { "fd42::ff:ffff" } else { "10.42.255.254" };
            comes_to_tell(two, &[&from, nobodys], 1, &["PROBLEM node n1", "and in nobody's block"])?;
        }
        Ok(())
    });
}

#[test]
fn without_etcd_it_is_told_that_nobody_can_be_asked() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let (one, two) = (lab.node(1), lab.node(2));
        let (a, b) = (one.attach("a")?, two.attach("b")?);
        let (from, to) = (a.address(false)?.to_string(), b.address(false)?);
        let arguments = [from.as_str(), &to.to_string()];
        comes_to_tell(one, &arguments, 0, &["the reply arrives"])?;
        lab.etcd().stop()?;
        let text = comes_to_tell(one, &arguments, 2, &["etcd at "])?;
        is_golden("trace", "dead-etcd", &text);
        assert!(answers(&a, to, 84), "the data path needs no etcd");
        Ok(())
    });
}

#[test]
fn of_a_node_that_does_not_answer_its_half_is_told_as_it_is_expected() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let (one, two) = (lab.node(1), lab.node(2));
        let (a, b) = (one.attach("a")?, two.attach("b")?);
        let (from, to) = (a.address(false)?.to_string(), b.address(false)?.to_string());
        comes_to_tell(one, &[&from, &to], 0, &["the reply arrives"])?;
        // What is expected of it is said by its mirror.
        let is_mirrored =
            || Ok(one.twillctl(&["ipam", "show", "--ip", &to, "-o", "json"])?.contains("\"host_interface\": \"tw"));
        deadline::until("n2 has told of its pod", PATIENCE, is_mirrored)?;
        two.kill_daemon()?;
        let arguments = [from.as_str(), &to, "--timeout", "1"];
        let words = [
            "node n2, as is expected of it: no answer within 1 s",
            "it is to come in from n1",
            "COULD NOT TELL: what node n2 does: ",
            "It cannot be told whether the packet arrives",
        ];
        let text = comes_to_tell(one, &arguments, 2, &words)?;
        is_golden("trace", "stopped-daemon", &text);
        let (status, told) = traced(one, &arguments)?;
        let path = &told["paths"][0];
        assert_eq!(
            (status, &path["there"], &path["legs"][1]["node"]),
            (Some(2), &json!("unknown"), &json!("n2")),
            "{told}"
        );
        assert!(told["unknown"].as_array().is_some_and(|unknown| unknown.len() == 1), "{told}");
        assert!(answers(&a, b.address(false)?, 84), "the data path needs no daemon");
        // The other way round, the half that is sent is not told.
        let words = ["node n2, as is expected of it", "it is to be routed to node n1, through the tunnel"];
        comes_to_tell(one, &[&to, &from, "--timeout", "1"], 2, &words)?;
        Ok(())
    });
}

/// An nft that shows what stands and changes nothing.
const NFT_THAT_LISTS: &str = "#!/bin/sh
[ \"$2\" = list ] && exec NFT \"$@\"
echo 'it is locked' >&2
exit 1
";

#[test]
fn where_the_reconciler_cannot_go_on_a_trace_goes_by_what_is_wanted_all_the_same() {
    with_lab(Lab::builder().nodes(2).backend("type = \"host-gw\"\n").asleep(), |lab| {
        let (one, two) = (lab.node(1), lab.node(2));
        let programs = lab.directory().join("programs");
        fs::create_dir_all(&programs).map_err(LabError::io("making a directory"))?;
        let nft = sh(one, "command -v nft")?;
        let script = NFT_THAT_LISTS.replace("NFT", nft.trim());
        write_program(&programs.join("nft"), &script);
        two.start_daemon()?;
        one.start_daemon_with_programs_in(&programs)?;
        let b = two.attach("b")?;
        let to = b.address(false)?.to_string();
        let told = comes_to_tell(two, &["n1", &to], 1, &["PROBLEM node n1: the route is missing"])?;
        assert!(told.contains("route expected: "), "{told}");
        one.says("it is locked")
    });
}
