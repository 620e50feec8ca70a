//! Records that lie: the liar is named and left out, all others stand as they would without it.

use std::net::IpAddr;

use twill_cluster::record::{NodeRecord, VxlanEnd};

use super::print::print;
use super::sample::{Sample, mac, name};
use super::{Desired, desired, judge};

fn honest() -> Sample {
    Sample::new(&["10.42.0.0/16", "fd42::/64"])
        .node(1, &["192.168.9.1/24", "fd09::1/64"])
        .node(2, &["192.168.9.2/24", "fd09::2/64"])
        .block(1, "10.42.1.0/26")
        .block(1, "fd42::100/122")
        .block(2, "10.42.2.0/26")
        .block(2, "fd42::200/122")
}

/// What node 1 makes of the honest ones and of node 9 with a changed record.
fn with_liar(change: impl FnOnce(&mut NodeRecord)) -> Desired {
    let sample = honest()
        .node(9, &["192.168.9.9/24", "fd09::9/64"])
        .block(9, "10.42.9.0/26")
        .but(9, |record| change(&mut record.value));
    desired(&sample.view, &sample.local(1, &["10.42.1.1"]))
}

fn alone() -> Desired {
    let sample = honest();
    desired(&sample.view, &sample.local(1, &["10.42.1.1"]))
}

/// The same but for the problems, and for the node's place in the sets of the guard.
fn assert_left_out(result: &Desired, problem: &str) {
    assert!(result.problems.iter().any(|told| told.contains(problem)), "{problem:?} is not in {:?}", result.problems);
    let (mut state, mut expected) = (result.state.clone(), alone().state);
    (state.firewall, expected.firewall) = (None, None);
    assert_eq!(state, expected);
}

#[test]
fn a_vtep_mac_that_is_ours_or_another_nodes_is_not_believed() {
    assert_left_out(&with_liar(|record| record.vxlan = end(&mac(1).to_string())), "02:00:00:00:00:01 is node n1's");
    assert_left_out(&with_liar(|record| record.vxlan = end(&mac(2).to_string())), "02:00:00:00:00:02 is node n2's");
}

#[test]
fn a_vtep_mac_that_is_none_is_reported() {
    assert_left_out(&with_liar(|record| record.vxlan = end("no mac")), r#""no mac" is not a MAC address"#);
    assert_left_out(&with_liar(|record| record.vxlan = end("ff:ff:ff:ff:ff:ff")), "is not a unicast address");
    assert_left_out(&with_liar(|record| record.vxlan = end("00:00:00:00:00:00")), "is not a unicast address");
    assert_left_out(&with_liar(|record| record.vxlan = None), "its record names no VTEP");
}

fn end(mac: &str) -> Option<VxlanEnd> {
    Some(VxlanEnd { mac: mac.to_owned(), vni: None, port: None })
}

#[test]
fn an_underlay_address_that_cannot_be_is_not_believed() {
    let faults = [
        ("192.168.9.1/24", "is this node's own"),
        ("10.42.7.7/24", "lies in the pool pool0"),
        ("127.0.0.1/8", "is no address of a machine"),
        ("224.0.0.1/4", "is no address of a machine"),
        ("0.0.0.0/0", "is no address of a machine"),
        ("fd09::7/64", "is of the other family"),
    ];
    for (address, fault) in faults {
        assert_left_out(&with_liar(|record| record.underlay.ipv4 = Some(address.parse().unwrap())), fault);
    }
    assert_left_out(
        &with_liar(|record| record.underlay.ipv6 = Some("fe80::1/64".parse().unwrap())),
        "is no address of",
    );
}

#[test]
fn a_liar_about_its_underlay_address_does_not_pass_the_guard() {
    let result = with_liar(|record| record.underlay.ipv4 = Some("127.0.0.1/8".parse().unwrap()));
    assert_eq!(result.state.firewall, alone().state.firewall);
}

#[test]
fn an_underlay_address_of_two_nodes_is_reported_and_cuts_off_neither() {
    let result = with_liar(|record| record.underlay.ipv4 = Some("192.168.9.2/24".parse().unwrap()));
    assert_eq!(result.problems.len(), 1);
    assert!(result.problems[0].starts_with("nodes n2 and n9 both give 192.168.9.2"), "{:?}", result.problems);
    for (key, entry) in &alone().state.fdb {
        assert_eq!(result.state.fdb.get(key), Some(entry));
    }
}

#[test]
fn a_tunnel_address_in_someone_elses_block_is_not_used() {
    for address in ["10.42.1.5", "10.42.2.0", "8.8.8.8"] {
        let result = with_liar(|record| record.tunnel.ipv4 = Some(address.parse().unwrap()));
        let problem = format!("the tunnel address {address} of node n9 is in no block of that node");
        assert!(result.problems.iter().any(|told| told.contains(&problem)), "{:?}", result.problems);
        let address: IpAddr = address.parse().unwrap();
        let claimed = result.state.neighbours.values().any(|n| n.ip == address && n.mac == mac(9));
        assert!(!claimed, "{address} got the liar's MAC");
        assert!(!print(&result).contains("route 10.42.9.0"), "a block without a gateway got a route");
    }
}

#[test]
fn a_block_over_ours_or_over_an_older_one_or_outside_the_pools_gets_no_route() {
    for (block, problem) in [
        ("10.42.1.0/27", "block 10.42.1.0/27 of node n9 overlaps a block of node n1"),
        ("10.42.1.0/25", "block 10.42.1.0/25 of node n9 overlaps a block of node n1"),
        ("10.42.2.1/32", "block 10.42.2.1/32 of node n9 overlaps a block of node n2"),
        ("fd42::200/120", "block fd42::200/120 of node n9 overlaps a block of node n2"),
        ("8.8.8.0/24", "block 8.8.8.0/24 of node n9 lies in no pool"),
        ("0.0.0.0/0", "block 0.0.0.0/0 of node n9 lies in no pool"),
    ] {
        let sample = honest().block(9, block).node(9, &["192.168.9.9/24"]);
        let result = desired(&sample.view, &sample.local(1, &["10.42.1.1"]));
        assert!(result.problems.iter().any(|told| told.contains(problem)), "{:?}", result.problems);
        assert_eq!(result.state.routes, alone().state.routes);
    }
}

#[test]
fn a_lost_block_leads_to_its_new_owner_and_to_the_pods_that_are_left_here() {
    let mut sample = honest().node(9, &["192.168.9.9/24"]);
    let local = sample.local(1, &["10.42.1.1"]);
    let own = sample.view.blocks_of(&name(1)).collect::<Vec<_>>();
    own.iter().for_each(|block| drop(sample.view.blocks.remove(block)));
    sample = sample.block(9, "10.42.1.0/26");
    let result = desired(&sample.view, &local);
    assert_eq!(result.problems, [""; 0]);
    let text = print(&result);
    assert!(text.contains("route 10.42.1.0/26 via 10.42.1.0 dev vxlan.twill onlink proto 116 metric 7777\n"), "{text}");
    assert!(text.contains("route 10.42.1.0/26 unreachable proto 116 metric 77777\n"), "{text}");
    assert!(text.contains("route 10.42.1.1/32 dev tw0000000000001"), "{text}");
}

#[test]
fn a_contradiction_is_judged_alike_without_a_node_that_looks() {
    type Lie = fn(&mut NodeRecord);
    let cases: [(&str, Lie); 4] = [
        ("node n9 is left out: its VTEP's MAC 02:00:00:00:00:02 is node n2's", |r| r.vxlan = end(&mac(2).to_string())),
        ("nodes n2 and n9 both give 192.168.9.2", |r| r.underlay.ipv4 = Some("192.168.9.2/24".parse().unwrap())),
        ("node n9 is left out: its underlay address 10.42.7.7 lies in the pool", |r| {
            r.underlay.ipv4 = Some("10.42.7.7/24".parse().unwrap());
        }),
        ("the tunnel address 10.42.2.0 of node n9 is in no block", |r| {
            r.tunnel.ipv4 = Some("10.42.2.0".parse().unwrap())
        }),
    ];
    for (problem, change) in cases {
        let sample = honest().node(9, &["192.168.9.9/24"]).but(9, |record| change(&mut record.value));
        let judged = judge(&sample.view);
        assert!(judged.len() == 1 && judged[0].starts_with(problem), "{judged:?}");
        assert!(desired(&sample.view, &sample.local(1, &[])).problems.contains(&judged[0]));
    }
    let sample = honest().block(9, "10.42.1.0/27").block(9, "8.8.8.0/24").node(9, &[]);
    let judged = judge(&sample.view);
    assert!(judged[0].starts_with("block 10.42.1.0/27 of node n9 overlaps a block of node n1"), "{judged:?}");
    assert!(judged[1].starts_with("block 8.8.8.0/24 of node n9 lies in no pool"), "{judged:?}");
    assert_eq!((judged.len(), judge(&honest().view)), (2, Vec::new()));
}

#[test]
fn blocks_of_a_node_without_a_record_are_reported_in_one_sentence_and_left_to_the_pools_route() {
    let sample = honest().block(8, "10.42.8.0/26").block(8, "10.42.8.64/26");
    let result = desired(&sample.view, &sample.local(1, &["10.42.1.1"]));
    assert_eq!(result.problems, ["node n8 has no record: its blocks are unreachable: 10.42.8.0/26, 10.42.8.64/26"]);
    assert_eq!(result.state, alone().state);
}

#[test]
fn a_record_that_cannot_be_read_is_reported() {
    let mut sample = honest();
    sample.view.faults.insert("nodes/n7".to_owned(), "expected value at line 1".to_owned());
    let result = desired(&sample.view, &sample.local(1, &["10.42.1.1"]));
    assert_eq!(result.problems, ["nodes/n7 cannot be read, and is left out: expected value at line 1"]);
    assert_eq!(result.state, alone().state);
}

#[test]
fn an_address_of_two_pods_stays_the_firsts() {
    let sample = honest();
    let result = desired(&sample.view, &sample.local(1, &["10.42.1.1", "10.42.1.1"]));
    assert_eq!(result.problems.len(), 1);
    assert!(print(&result).contains("route 10.42.1.1/32 dev tw0000000000001"));
}
