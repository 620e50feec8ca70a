//! Garbage and lies in etcd: the nodes go on among themselves, `twillctl status` names each and says what to do, and when
//! it is cleaned up all is well.

use serde_json::{Value, json};
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::lab::PROTOCOL_CLUSTER;
use twill_tests::{Lab, LabError, Pod, Result, with_lab};

/// A record: its key, its value, and what the status must say of it.
struct Lie {
    key: String,
    value: String,
    told: &'static [&'static str],
}

fn lie(key: &str, value: impl ToString, told: &'static [&'static str]) -> Lie {
    Lie { key: key.into(), value: value.to_string(), told }
}

fn block(node: &str) -> Value {
    json!({ "node": node, "machine_id": "ffffffffffffffff", "epoch": 1, "nonce": "x-1" })
}

/// All kinds of them, of which none is by a daemon.
fn lies(lab: &Lab) -> Result<Vec<Lie>> {
    let records = lab.etcd().nodes()?;
    let record = |name: &str| records.iter().find(|(node, _)| node == name).map(|(_, record)| record.clone());
    let (second, third) = (record("n2").unwrap_or_default(), record("n3").unwrap_or_default());
    let mut thief = second.clone();
    thief["machine_id"] = json!("ffffffffffffffff");
    thief["underlay"] = third["underlay"].clone();
    thief["tunnel"] = json!({});
    // Around the first block of n1, and inside that of n2.
    let first_block = lab.etcd().blocks_of("n1")?.into_iter().find(ipnetwork::IpNetwork::is_ipv4);
    let second_block = lab.etcd().blocks_of("n2")?.into_iter().find(ipnetwork::IpNetwork::is_ipv4);
    let (Some(first), Some(second)) = (first_block, second_block) else { return Err(LabError::wrong("no blocks")) };
    let key = |network: ipnetwork::IpNetwork, length: u8| match network.ip() {
        std::net::IpAddr::V4(ip) => {
            let ip = u32::from(ip) >> (32 - length) << (32 - length);
            format!("blocks/4/{ip:08x}-{length}")
        }
        std::net::IpAddr::V6(_) => unreachable!("an IPv4 block was looked for"),
    };
    Ok(vec![
        lie("nodes/broken", "{", &["node broken", "EOF", "twillctl node delete broken"]),
        lie("nodes/NOT A NAME", "{}", &["nodes/NOT A NAME", "find out who wrote this key, and delete it"]),
        lie("nodes/empty", "", &["node empty"]),
        lie("nodes/list", "[1, 2]", &["node list"]),
        lie("nodes/giant", format!(r#"{{"machine_id":"{}"}}"#, "x".repeat(1 << 20)), &["node giant", "bytes long"]),
        lie("nodes/thief", thief, &["n2", "thief"]),
        lie(
            "nodes/dark",
            json!({"machine_id": "ffffffffffffffff", "nonce": "x-1", "underlay": {"ipv4": "127.0.0.1/8"}}),
            &["node dark", "127.0.0.1"],
        ),
        lie("blocks/4/zzzz-26", block("n1"), &["blocks/4/zzzz-26", "delete it"]),
        lie("blocks/4/0a2af000-26", "no JSON", &["block 10.42.240.0/26", "find out who wrote the key"]),
        lie("blocks/4/0a2af100-26", block("nobody"), &["block 10.42.241.0/26", "nobody", "has no record"]),
        lie(&key(first, 24), block("broken"), &["overlaps"]),
        lie(&key(second, 32), block("thief"), &["/32", "overlaps"]),
        lie("blocks/4/08080800-24", block("thief"), &["8.8.8.0/24", "in no pool"]),
        lie("blocks/5/x", "\u{1b}[2J", &["blocks/5/x"]),
        lie("policies/later", "whatever a later version means", &[]),
    ])
}

fn status(lab: &Lab) -> String {
    match lab.node(1).twillctl(&["status"]) {
        Ok(text) => text,
        Err(error) => error.to_string(),
    }
}

fn configuration(lab: &Lab) -> Result<Vec<(String, Value)>> {
    lab.etcd().read("config")
}

/// New pods on each of these nodes, who all reach the first one.
fn all_serve(lab: &Lab, numbers: &[usize], name: &str) -> Result<()> {
    let pods: Vec<Pod> = numbers.iter().map(|n| lab.node(*n).attach(&format!("{name}{n}"))).collect::<Result<_>>()?;
    for pod in &pods[1..] {
        for ipv6 in [false, true] {
            deadline::until(&format!("{} reaches {}", pod.name(), pods[0].name()), PATIENCE, || {
                Ok(pod.ping(pods[0].address(ipv6)?, 56).is_ok())
            })?;
        }
    }
    pods.iter().try_for_each(|pod| pod.del().map(drop))
}

#[test]
fn garbage_and_lies_in_etcd_are_named_and_left_out_and_the_nodes_serve_on() {
    with_lab(Lab::builder(), |lab| {
        let old = lab.node(2).attach("old")?;
        let first_blocks = lab.etcd().blocks_of("n1")?;
        let lies = lies(lab)?;
        for lie in &lies {
            lab.etcd().put(&lie.key, &lie.value)?;
        }
        all_serve(lab, &[1, 2, 3], "a")?;
        // Also for one that comes into it, and one that begins anew by what it saved of it.
        lab.join()?;
        for node in [lab.node(3), lab.node(4)] {
            deadline::until(&format!("{} has saved it", node.name()), PATIENCE, || {
                let saved = std::fs::read_to_string(node.directory().join("state/view.json"));
                Ok(saved.is_ok_and(|view| view.contains("nodes/n4")))
            })?;
        }
        lab.node(3).kill_daemon()?;
        lab.node(3).start_daemon()?;
        all_serve(lab, &[2, 4, 3], "b")?;
        let told = status(lab);
        for lie in &lies {
            for word in lie.told {
                assert!(told.contains(word), "{} is not told by {word:?}:\n{told}", lie.key);
            }
        }
        assert!(!told.contains('\u{1b}'), "it moves the operator's terminal");
        assert!(!lab.node(3).daemon_log().contains("lost history"), "{}", lab.node(3).daemon_log());

        // The worst one: no configuration that could be read. The last one goes on, also on a node that begins anew and
        // finds a route gone; pods come and go.
        let config = configuration(lab)?;
        lab.etcd().put("config", "{\"pools\": 7")?;
        deadline::until("the nodes say so", PATIENCE, || {
            Ok(lab.nodes().iter().all(|node| node.daemon_log().contains("the cluster configuration cannot be read")))
        })?;
        lab.node(4).kill_daemon()?;
        for block in &first_blocks {
            lab.node(4).run(&["ip", "route", "del", &block.to_string(), "proto", "116"])?;
        }
        lab.node(4).start_daemon()?;
        all_serve(lab, &[1, 2, 3, 4], "c")?;
        let told = status(lab);
        assert!(told.contains("configuration") && told.contains("twillctl config apply FILE"), "{told}");
        // A configuration whose pools cannot have had the blocks that are there is not believed to be the right one.
        let refused = lab.apply_config(&lab.cluster_config()).unwrap_err().to_string();
        assert!(refused.contains("broken has") && refused.contains("8.8.8.0/24"), "{refused}");
        for lie in &lies {
            assert!(lab.etcd().delete(&lie.key)?, "{} was there", lie.key);
        }
        lab.apply_config(&lab.cluster_config())?;
        assert_eq!(configuration(lab)?, config, "it is put right");
        deadline::until_some("all is well", PATIENCE, || {
            Ok(lab.node(1).twillctl(&["status"]).map_err(|error| error.to_string()))
        })?;
        lab.converged()?;
        old.check()?;
        all_serve(lab, &[1, 2, 3, 4], "d")?;

        // Somebody deletes everything. Nodes register anew, and what stands stays.
        let pods: Vec<Pod> = [1, 2].into_iter().map(|n| lab.node(n).attach(&format!("e{n}"))).collect::<Result<_>>()?;
        let routes = |ipv6| lab.node(1).routes(ipv6, PROTOCOL_CLUSTER);
        let before = (routes(false)?, routes(true)?);
        lab.etcd().etcdctl(&["del", "--prefix", "/twill/v1/"])?;
        lab.node(1).says("registering anew")?;
        deadline::until("n1 is registered again", PATIENCE, || Ok(lab.etcd().nodes()?.iter().any(|(n, _)| n == "n1")))?;
        assert_eq!((routes(false)?, routes(true)?), before);
        for ipv6 in [false, true] {
            pods[0].ping(pods[1].address(ipv6)?, 56)?;
        }
        old.check()
    });
}
