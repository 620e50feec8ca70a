//! Readiness says what the plugin's STATUS says.

use twill_tests::cni::{Call, Verb, code};
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::{Lab, Node, PoolSpec, Result, with_lab};

use super::page::{PORT, page};

/// Waits until the node is ready, or is not, for a reason with these words.
fn is_ready(node: &Node, wanted: bool, why: &str) -> Result<()> {
    deadline::until_some(&format!("{} is ready: {wanted}", node.name()), PATIENCE, || {
        let page = page(node, "/readyz")?;
        let is_so = page.status == if wanted { 200 } else { 503 } && page.body.contains(why);
        Ok(if is_so { Ok(()) } else { Err((page.status, page.body)) })
    })
}

/// What the plugin's STATUS says of a node: nothing where an ADD could be served.
fn status(node: &Node) -> Result<Option<String>> {
    let (plugin, netns) = (node.binaries().plugin(), node.namespace().path());
    let mut input = node.network().plugin_input(None);
    input["cniVersion"] = "1.1.0".into();
    let call = Call { plugin: &plugin, verb: Verb::Status, container: "none", netns, ifname: "eth0", input: &input };
    let answer = call.run_in(node.namespace())?;
    if answer.success {
        return Ok(None);
    }
    answer.expect_code(code::UNAVAILABLE)?;
    Ok(answer.output["msg"].as_str().map(str::to_owned))
}

#[test]
fn a_node_is_ready_from_its_registration_until_its_addresses_are_used_up() {
    let pools = [PoolSpec::new("v4", "10.42.0.0/29", Some(29))];
    with_lab(Lab::builder().nodes(1).pools(pools).asleep(), |lab| {
        let node = lab.node(1);
        lab.etcd().stop()?;
        node.start_daemon_with(&["--metrics", &format!("0.0.0.0:{PORT}")])?;
        is_ready(node, false, "twilld")?;
        assert_eq!(page(node, "/healthz")?.status, 200, "a daemon that waits for etcd is well");
        assert!(status(node)?.is_some());
        lab.etcd().start()?;
        is_ready(node, true, "ok")?;
        assert_eq!(status(node)?, None);

        let mut pods = Vec::new();
        while page(node, "/readyz")?.status == 200 && pods.len() < 8 {
            let pod = node.create_pod(&format!("p{}", pods.len()))?;
            if pod.add().is_err() {
                break;
            }
            pods.push(pod);
        }
        is_ready(node, false, "no IPv4 address is left on this node")?;
        let told = page(node, "/readyz")?.body;
        let said = status(node)?.unwrap_or_default();
        let reason = told.split(';').next().unwrap_or_default();
        assert!(said.contains(reason) && told.contains("add a pool"), "readyz: {told}, STATUS: {said}");
        let metrics = page(node, "/metrics")?;
        assert_eq!(metrics.sum("twill_ready", &[]), 0.0, "{metrics:?}");
        assert_eq!(metrics.sum("twill_addresses", &[("state", "free")]), 0.0, "{metrics:?}");
        pods.last().expect("some were attached").del()?;
        is_ready(node, true, "ok")?;
        assert_eq!(status(node)?, None, "an address that cools will do");
        Ok(())
    });
}
