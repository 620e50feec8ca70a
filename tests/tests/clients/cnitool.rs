//! cnitool 1.1 with capabilities and arguments, on a node whose network was brought by `twilld install`.

use std::net::SocketAddr;

use serde_json::{Value, json};
use twill_tests::clients::cnitool::Attachment;
use twill_tests::clients::needs::with_machine;
use twill_tests::clients::{Machine, page, root_fs};
use twill_tests::{Lab, Node, Result};

/// The network `twill` on a node, after which nothing may be left.
fn with_network(scenario: impl FnOnce(&Lab, &Machine<'_>, &Node) -> Result<()>) {
    with_machine(&["tc"], Lab::builder().nodes(1), |lab, machine| {
        machine.install(&[])?;
        let node = lab.node(1);
        let shapers = || machine.run(&["tc", "qdisc", "show"]);
        let before = (node.attachments()?, shapers()?);
        scenario(lab, machine, node)?;
        assert_eq!((node.attachments()?, shapers()?), before, "something was left behind");
        Ok(())
    });
}

fn addresses(result: &Value) -> Vec<&str> {
    result["ips"].as_array().into_iter().flatten().filter_map(|ip| ip["address"].as_str()).collect()
}

#[test]
fn all_capabilities_at_once() {
    with_network(|lab, machine, node| {
        let (v4, v6) = (node.last_address(false)?, node.last_address(true)?);
        let root = root_fs::make(machine, "asked")?;
        let mac = "02:aa:bb:cc:dd:ee";
        let pod = Attachment::new(machine, "p", "twill")?.asking(json!({
            "portMappings": [{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }],
            "bandwidth": { "ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 16_000_000, "egressBurst": 800_000 },
            "ips": [v4.to_string(), format!("{v6}/128")],
            "mac": mac,
        }));
        let added = pod.add()?;
        assert_eq!(addresses(&added.result), [format!("{v4}/32"), format!("{v6}/128")]);
        pod.check()?;
        assert!(pod.run(&["ip", "link", "show", "eth0"])?.contains(mac));
        let shapers = machine.run(&["tc", "qdisc", "show"])?;
        for rate in ["rate 8Mbit", "rate 16Mbit"] {
            assert!(shapers.lines().any(|line| line.contains("tbf") && line.contains(rate)), "{shapers}");
        }
        let _server = pod.serve(&root, 80)?;
        for address in node.addresses() {
            page::expect(lab.outside(), SocketAddr::new(*address, 8080), "asked")?;
        }
        pod.check()?;
        pod.del()?;
        pod.del()?;
        page::expect_none(lab.outside(), SocketAddr::new(node.addresses()[0], 8080))?;
        assert_eq!(pod.results()?, "", "libcni keeps a result");
        Ok(())
    });
}

#[test]
fn the_arguments_of_a_kubelet_and_of_podman() {
    with_network(|_, machine, node| {
        let v4 = node.last_address(false)?;
        let arguments = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u1;\
             IP={v4};MAC=02:aa:bb:cc:dd:ef"
        );
        let pod = Attachment::new(machine, "p", "twill")?.with_arguments(&arguments);
        let added = pod.add()?;
        assert!(addresses(&added.result).contains(&&*format!("{v4}/32")), "{}", added.result);
        assert!(pod.run(&["ip", "link", "show", "eth0"])?.contains("02:aa:bb:cc:dd:ef"));
        assert_eq!(node.query_store("SELECT pod_namespace, pod_name FROM attachment")?, "shop|web-0");
        pod.check()?;
        pod.del()
    });
}
