//! Daemons and etcd that stop: every packet keeps flowing, and pods come and go.

use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use twill_tests::deadline::{self, PATIENCE};
use twill_tests::iperf::Iperf;
use twill_tests::lab::{PROTOCOL_CLUSTER, PROTOCOL_POD};
use twill_tests::probe::Probe;
use twill_tests::{Lab, LabError, Node, Pod, Result, with_lab};

const MILLISECOND: Duration = Duration::from_millis(1);

/// What must not change when a daemon ends: routes, neighbours, FDB entries, devices and the firewall.
fn data_path(node: &Node) -> Result<String> {
    let mut parts = Vec::new();
    for family in ["-4", "-6"] {
        for protocol in [PROTOCOL_CLUSTER, PROTOCOL_POD] {
            parts.push(node.run(&["ip", "-N", family, "route", "show", "proto", &protocol.to_string()])?);
        }
        parts.push(node.run(&["ip", family, "neigh", "show", "nud", "permanent"])?);
    }
    parts.push(node.run(&["bridge", "fdb", "show", "dev", twill_tests::lab::VXLAN])?);
    parts.push(node.run(&["ip", "-o", "link", "show"])?);
    parts.push(node.run(&["nft", "--stateless", "list", "ruleset"])?);
    Ok(parts.join("\n"))
}

/// A daemon that does its work again: it repairs a route of this family that is taken away.
fn daemon_works(node: &Node, ipv6: bool) -> Result<()> {
    let routes = || node.routes(ipv6, PROTOCOL_CLUSTER);
    let before = routes()?;
    let route = before.iter().find(|route| !route["gateway"].is_null());
    let route = route.and_then(|r| r["dst"].as_str()).ok_or_else(|| LabError::wrong("no route to a remote block"))?;
    node.run(&["ip", "route", "del", route])?;
    deadline::until(&format!("{} has put back {route}", node.name()), PATIENCE, || {
        node.expect_daemon()?;
        Ok(routes()?.iter().any(|r| r["dst"] == route))
    })
}

fn pods_of_two_nodes(lab: &Lab) -> Result<(Pod, Pod)> {
    Ok((lab.node(1).add_pod("a")?, lab.node(2).add_pod("b")?))
}

#[test]
fn no_packet_is_lost_while_a_daemon_is_killed_and_started_again() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let (a, b) = pods_of_two_nodes(lab)?;
        for ipv6 in [false, true] {
            let probe = Probe::start(a.namespace(), b.namespace(), b.address(ipv6)?, MILLISECOND)?;
            probe.until_answered(100)?;
            for node in lab.nodes() {
                node.kill_daemon()?;
                probe.until_answered(100)?;
                node.start_daemon()?;
                // In the other family, since taking a route away does lose packets.
                daemon_works(node, !ipv6)?;
            }
            probe.until_answered(100)?;
            probe.stop()?.expect_no_loss()?;
        }
        Ok(())
    });
}

/// Segments that were sent again although the first ones had arrived, as the receiver reports them (RFC 2883): on a busy
/// machine an acknowledgement may be late without anything being lost.
fn needless_retransmissions(pod: &Pod) -> Result<u64> {
    let counters = ["TcpExtTCPDSACKRecv", "TcpExtTCPDSACKOfoRecv"];
    let text = pod.namespace().run(&[&["nstat", "--ignore", "--noupdate", "--zeros"], &counters[..]].concat())?;
    let count = |line: &str| {
        let mut words = line.split_whitespace();
        words.next().filter(|name| counters.contains(name))?;
        words.next()?.parse::<u64>().ok()
    };
    Ok(text.lines().filter_map(count).sum())
}

#[test]
fn a_tcp_stream_flows_on_while_a_daemon_is_killed_and_started_again() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let (a, b) = pods_of_two_nodes(lab)?;
        let log = lab.directory().join("iperf.log");
        let arguments = ["-t", "4", "-i", "0.5", "-b", "100M"];
        let iperf = Iperf::start(a.namespace(), b.namespace(), b.address(false)?, &arguments, &log)?;
        let pid = lab.node(1).daemon_pid();
        lab.node(1).kill_daemon()?;
        lab.node(1).start_daemon()?;
        assert_ne!(lab.node(1).daemon_pid(), pid);
        let report = iperf.finish()?;
        assert!(report.intervals.len() >= 7, "{:?}", report.intervals);
        assert!(report.intervals.iter().all(|bytes| *bytes > 0), "the stream stood still: {:?}", report.intervals);
        let needless = needless_retransmissions(&a)?;
        assert!(report.retransmits <= needless, "{} sent again, {needless} of them needlessly", report.retransmits);
        lab.node(1).expect_daemon()
    });
}

#[test]
fn a_daemon_that_is_told_to_stop_leaves_the_data_path_as_it_is() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let (a, b) = pods_of_two_nodes(lab)?;
        let probe = Probe::start(a.namespace(), b.namespace(), b.address(false)?, MILLISECOND)?;
        probe.until_answered(100)?;
        let before = data_path(lab.node(1))?;
        let status = lab.node(1).stop_daemon()?;
        assert!(status.is_some_and(|status| status.success()), "SIGTERM ends it with status 0: {status:?}");
        assert_eq!(data_path(lab.node(1))?, before);
        probe.until_answered(100)?;
        probe.stop()?.expect_no_loss()
    });
}

/// Adds a pod on each of two nodes, checks them, has them talk, and takes them away again.
fn pods_come_and_go(lab: &Lab, name: &str) -> Result<()> {
    let mut pods = Vec::new();
    for node in &lab.nodes()[..2] {
        pods.push(node.add_pod(&format!("{}-{name}", node.name()))?);
    }
    for pod in &pods {
        pod.check()?;
    }
    for ipv6 in [false, true] {
        pods[0].ping_small_and_full(pods[1].address(ipv6)?)?;
    }
    for pod in pods {
        pod.del()?;
    }
    Ok(())
}

#[test]
fn pods_come_and_go_while_etcd_is_away() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let before = lab.node(1).add_pod("before")?;
        lab.etcd().stop()?;
        pods_come_and_go(lab, "during")?;
        before.check()?;
        before.del()?;
        lab.etcd().start()?;
        pods_come_and_go(lab, "after")
    });
}

#[test]
fn pods_come_and_go_while_etcd_does_not_answer() {
    with_lab(Lab::builder().nodes(2), |lab| {
        lab.etcd().pause()?;
        pods_come_and_go(lab, "during")?;
        lab.etcd().resume()?;
        pods_come_and_go(lab, "after")
    });
}

#[test]
fn a_daemon_started_again_while_etcd_is_away_serves_pods_and_repairs_routes() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let before = lab.node(1).add_pod("before")?;
        lab.saved()?;
        lab.etcd().kill()?;
        for node in lab.nodes() {
            node.kill_daemon()?;
            node.start_daemon()?;
        }
        pods_come_and_go(lab, "during")?;
        for node in lab.nodes() {
            daemon_works(node, false)?;
        }
        before.check()?;
        before.del()?;
        lab.etcd().start()?;
        lab.converged()?;
        pods_come_and_go(lab, "after")
    });
}

#[test]
fn pods_come_and_go_without_any_daemon() {
    with_lab(Lab::builder().nodes(2), |lab| {
        for node in lab.nodes() {
            node.kill_daemon()?;
        }
        pods_come_and_go(lab, "orphan")
    });
}

#[test]
fn a_node_that_joins_after_an_outage_of_etcd_is_seen_by_all() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let first = lab.node(1).add_pod("a")?;
        lab.etcd().kill()?;
        lab.etcd().start()?;
        lab.join()?;
        lab.converged()?;
        let third = lab.node(3).add_pod("c")?;
        for ipv6 in [false, true] {
            first.ping_small_and_full(third.address(ipv6)?)?;
        }
        Ok(())
    });
}

/// A record of a node that is nowhere, and of its block, as daemons write them.
fn absent_node(number: u8) -> [(String, String); 2] {
    let name = format!("x{number}");
    let node = json!({
        "machine_id": format!("absent{number}"), "nonce": "x-1", "labels": {}, "version": "0.1.0",
        "underlay": { "ipv4": format!("192.168.77.{}/24", 100 + number) },
        "tunnel": { "ipv4": format!("10.42.200.{}", 4 * number) },
        "vxlan": { "mac": format!("02:00:00:00:99:{number:02x}"), "vni": 7777, "port": 4789 },
        "path": { "tunnels": true, "mtu": 1500, "pods": 0 },
    });
    let block = json!({ "node": name, "machine_id": format!("absent{number}"), "epoch": 1, "nonce": "x-1" });
    [(format!("nodes/{name}"), node.to_string()), (format!("blocks/4/0a2ac8{:02x}-30", 4 * number), block.to_string())]
}

#[test]
fn a_daemon_that_is_killed_in_the_midst_of_programming_goes_on_where_it_stopped() {
    const ABSENT: u8 = 40;
    with_lab(Lab::builder().nodes(2), |lab| {
        let (a, b) = pods_of_two_nodes(lab)?;
        let probe = Probe::start(a.namespace(), b.namespace(), b.address(false)?, MILLISECOND)?;
        probe.until_answered(100)?;
        let node = lab.node(1);
        let few = data_path(node)?;
        let records: Vec<_> = (0..ABSENT).flat_map(absent_node).collect();
        let mut broken = 0;
        for round in 0..12u64 {
            for (key, value) in &records {
                if round % 2 == 0 { lab.etcd().put(key, value)? } else { lab.etcd().delete(key).map(drop)? }
            }
            node.kill_daemon()?;
            let before = data_path(node)?;
            // Each time it gets a little further.
            node.start_daemon()?;
            sleep(Duration::from_millis(4 * round * round));
            node.kill_daemon()?;
            broken += usize::from(data_path(node)? != before);
        }
        assert!(broken > 0, "it was always killed before it had begun");
        probe.until_answered(100)?;
        node.start_daemon()?;
        deadline::until_some("what stood in the beginning stands again", PATIENCE, || {
            let now = data_path(node)?;
            Ok(if now == few { Ok(()) } else { Err(now) })
        })?;
        probe.stop()?.expect_no_loss()
    });
}

#[test]
fn a_partition_for_longer_than_the_lease_takes_neither_routes_nor_blocks() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let (a, b) = pods_of_two_nodes(lab)?;
        let alive = || Ok::<_, LabError>(lab.etcd().read("alive/")?.len());
        deadline::until("both nodes are alive", PATIENCE, || Ok(alive()? == 2))?;
        let probe = Probe::start(a.namespace(), b.namespace(), b.address(false)?, MILLISECOND)?;
        probe.until_answered(100)?;
        let (paths, blocks) = (lab.nodes().iter().map(data_path).collect::<Result<Vec<_>>>()?, lab.etcd().blocks()?);
        // From etcd alone; and what the time would do to the leases.
        for node in lab.nodes() {
            node.run(&[
                "nft",
                "add table inet partition; add chain inet partition out { type filter hook output priority 0; }; \
                        add rule inet partition out tcp dport 2379 drop",
            ])?;
        }
        for lease in lab.etcd().etcdctl(&["lease", "list"])?.lines().skip(1) {
            lab.etcd().etcdctl(&["lease", "revoke", lease])?;
        }
        assert_eq!(alive()?, 0);
        probe.until_answered(2000)?;
        pods_come_and_go(lab, "apart")?;
        for node in lab.nodes() {
            node.run(&["nft", "delete table inet partition"])?;
        }
        // They say so with their next renewal.
        deadline::until("both nodes are alive again", 3 * PATIENCE, || Ok(alive()? == 2))?;
        assert_eq!(lab.etcd().blocks()?, blocks);
        for (node, before) in lab.nodes().iter().zip(paths) {
            deadline::until_some("nothing has changed in the kernel", PATIENCE, || {
                let now = data_path(node)?;
                Ok(if now == before { Ok(()) } else { Err(now) })
            })?;
        }
        probe.stop()?.expect_no_loss()
    });
}
