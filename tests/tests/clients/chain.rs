//! The reference plugins chained behind Twill: `portmap`, `bandwidth`, `firewall` and `tuning` of Debian's
//! `containernetworking-plugins`, in the node's traffic beside the daemon's own firewall.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use serde_json::{Value, json};
use twill_tests::clients::cnitool::Attachment;
use twill_tests::clients::machine::REFERENCE;
use twill_tests::clients::needs::with_machine;
use twill_tests::clients::{Machine, page, root_fs};
use twill_tests::wire::{OUTSIDE_V4, OUTSIDE_V6};
use twill_tests::{Lab, LabBuilder, Node, PoolSpec, Result, needs};

/// A chain of Twill and these plugins, as the network `chain`.
fn chain(machine: &Machine<'_>, node: &Node, plugins: &[Value]) -> Result<()> {
    machine.install(&[])?;
    let mut all = vec![json!({ "type": "twill", "runDir": node.run_dir() })];
    all.extend_from_slice(plugins);
    let list = json!({ "cniVersion": "1.0.0", "name": "chain", "plugins": all });
    machine.write("/etc/cni/net.d/10-chain.conflist", &list.to_string())
}

/// A chain on a machine of `wanted`, after which nothing of it may be left.
fn with_chain(wanted: LabBuilder, plugins: &[Value], scenario: impl FnOnce(&Lab, &Machine<'_>) -> Result<()>) {
    let mut types = plugins.iter().filter_map(|plugin| plugin["type"].as_str());
    if let Some(missing) = types.find(|name| !Path::new(REFERENCE).join(name).exists()) {
        needs::say_skipped(&format!("{REFERENCE}/{missing} is missing, hack/setup installs it"));
        return;
    }
    with_machine(&["iptables", "tc"], wanted, |lab, machine| {
        let node = lab.node(1);
        chain(machine, node, plugins)?;
        let before = (node.attachments()?, rules(machine)?);
        scenario(lab, machine)?;
        assert_eq!((node.attachments()?, rules(machine)?), before, "something was left behind");
        Ok(())
    });
}

fn dual() -> LabBuilder {
    Lab::builder().nodes(1)
}

fn ipv4() -> LabBuilder {
    dual().pools([PoolSpec::v4()])
}

/// What the reference plugins add for a single pod to iptables. Their own empty chains stay for the next one.
fn rules(machine: &Machine<'_>) -> Result<String> {
    let mut found = Vec::new();
    for program in ["iptables-save", "ip6tables-save"] {
        let all = machine.run(&[program])?;
        found.extend(
            all.lines()
                .filter(|line| line.contains("/32") || line.contains("/128") || line.contains("CNI-DN-"))
                .map(str::to_owned),
        );
    }
    Ok(found.join("\n"))
}

fn node_address(lab: &Lab, ipv6: bool) -> IpAddr {
    *lab.node(1).addresses().iter().find(|address| address.is_ipv6() == ipv6).expect("a node has both")
}

/// Asks for port 8080 of the node.
fn port_8080() -> Value {
    json!({ "portMappings": [{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }] })
}

fn portmap() -> Value {
    json!({ "type": "portmap", "capabilities": { "portMappings": true } })
}

fn bandwidth() -> Value {
    json!({ "type": "bandwidth", "capabilities": { "bandwidth": true } })
}

fn firewall() -> Value {
    json!({ "type": "firewall", "backend": "iptables" })
}

/// (The version of Debian 12 replaces IFNAME in names of sysctls at ADD, and forgets to at CHECK.)
fn tuning() -> Value {
    json!({ "type": "tuning", "mtu": 1400, "sysctl": { "net.ipv4.ip_default_ttl": "77" } })
}

#[test]
fn portmap_publishes_a_port_in_both_families() {
    with_chain(dual(), &[portmap()], |lab, machine| {
        let root = root_fs::make(machine, "published")?;
        let pod = Attachment::new(machine, "p", "chain")?.asking(port_8080());
        let added = pod.add()?;
        let _server = pod.serve(&root, 80)?;
        let node = lab.node(1).namespace();
        page::expect(node, SocketAddr::new(added.address(false)?.ip(), 80), "published")?;
        for ipv6 in [false, true] {
            let published = SocketAddr::new(node_address(lab, ipv6), 8080);
            page::expect(lab.outside(), published, "published")?;
            page::expect(node, published, "published")?;
        }
        page::expect(node, "127.0.0.1:8080".parse().expect("an address"), "published")?;
        pod.del()?;
        page::expect_none(lab.outside(), SocketAddr::new(node_address(lab, false), 8080))
    });
}

#[test]
fn bandwidth_limits_the_veth_that_it_finds_first_in_the_result() {
    with_chain(dual(), &[bandwidth()], |lab, machine| {
        let rates = json!({ "ingressRate": 8_000_000, "ingressBurst": 8_000_000, "egressRate": 16_000_000, "egressBurst": 8_000_000 });
        let pod = Attachment::new(machine, "p", "chain")?.asking(json!({ "bandwidth": rates }));
        let added = pod.add()?;
        pod.check()?;
        let shapers = machine.run(&["tc", "qdisc", "show"])?;
        let has = |device: &str, rate: &str| shapers.lines().any(|line| line.contains(device) && line.contains(rate));
        assert!(has(&format!("tbf 1: dev {}", added.host_interface()?), "rate 8Mbit"), "{shapers}");
        assert!(has("tbf 1: dev bwp", "rate 16Mbit"), "{shapers}");
        pod.run(&["ping", "-n", "-c1", "-W3", &node_address(lab, false).to_string()])?;
        pod.del()
    });
}

#[test]
fn firewall_opens_a_node_that_forwards_for_nobody() {
    with_chain(dual(), &[firewall()], |_, machine| {
        for program in ["iptables", "ip6tables"] {
            machine.run(&[program, "-P", "FORWARD", "DROP"])?;
        }
        let closed = Attachment::new(machine, "closed", "twill")?;
        closed.add()?;
        let pod = Attachment::new(machine, "p", "chain")?;
        pod.add()?;
        pod.check()?;
        for address in [IpAddr::from(OUTSIDE_V4), IpAddr::from(OUTSIDE_V6)].map(|address| address.to_string()) {
            let ping = ["ping", "-n", "-c1", "-W1", &address];
            pod.run(&ping)?;
            assert!(closed.run(&ping).is_err(), "without the plugin nothing is forwarded to {address}");
        }
        closed.del()?;
        pod.del()
    });
}

#[test]
fn check_lets_pass_what_tuning_changed() {
    with_chain(dual(), &[tuning()], |lab, machine| {
        let pod = Attachment::new(machine, "p", "chain")?;
        pod.add()?;
        pod.check()?;
        let seen = pod.run(&["ip", "link", "show", "eth0"])?;
        assert!(seen.contains("mtu 1400"), "{seen}");
        assert_eq!(pod.run(&["sysctl", "-n", "net.ipv4.ip_default_ttl"])?, "77");
        pod.run(&["ping", "-n", "-c1", "-W3", &node_address(lab, true).to_string()])?;
        pod.del()
    });
}

/// portmap's own CHECK looks for the rules of IPv4 among those of IPv6, and fails, behind whatever plugin, where there is
/// an ip6tables (1.1.1, Debian 12): here there is none.
#[test]
fn a_chain_with_portmap_is_checked() {
    with_chain(ipv4(), &[portmap()], |lab, machine| {
        machine.run(&["rm", "/etc/alternatives/ip6tables"])?;
        let root = root_fs::make(machine, "checked")?;
        let pod = Attachment::new(machine, "p", "chain")?.asking(port_8080());
        pod.add()?;
        let _server = pod.serve(&root, 80)?;
        page::expect(lab.outside(), SocketAddr::new(node_address(lab, false), 8080), "checked")?;
        pod.check()?;
        pod.del()
    });
}

#[test]
fn all_of_them_behind_twill_go_when_they_are_told_to_twice() {
    with_chain(dual(), &[bandwidth(), firewall(), tuning(), portmap()], |lab, machine| {
        let root = root_fs::make(machine, "chained")?;
        let mut asked = port_8080();
        asked["bandwidth"] = json!({ "ingressRate": 80_000_000, "ingressBurst": 8_000_000 });
        let pod = Attachment::new(machine, "p", "chain")?.asking(asked);
        pod.add()?;
        let _server = pod.serve(&root, 80)?;
        page::expect(lab.outside(), SocketAddr::new(node_address(lab, false), 8080), "chained")?;
        // The last of them is portmap, and the others are content.
        if let Err(error) = pod.check() {
            assert!(error.to_string().contains("could not check ipv6 dnat"), "{error}");
        }
        pod.del()?;
        // As a runtime does that lost the answer.
        pod.del()?;
        pod.add()?;
        pod.del()?;
        assert_eq!(pod.results()?, "", "libcni keeps a result");
        Ok(())
    });
}
