//! What is read when, by tables in a namespace.

use std::process::Command;

use twill_cluster::inquiry::trace::{Half, Outer, Packet};
use twill_fabric::trace::Kernel as _;
use twill_linux::NetNs;
use twill_testkit::Namespaces;

use super::*;

const GUARD: &str = "table ip guard { chain in { type filter hook input priority 0; udp dport 4789 drop; }; }";

fn question(outer: Option<&str>) -> Question {
    let address = |text: &str| text.parse().unwrap();
    let outer = outer.map(|destination| Outer {
        source: address(destination),
        destination: address(destination),
        vni: 7777,
        port: 4789,
    });
    let packet = Packet { source: None, destination: address("10.42.0.2"), port: None, size: None };
    Question { packet, half: Half::Receives { from: "n1".parse().unwrap(), outer }, reply: false }
}

#[test]
fn what_drops_the_tunnels_packet_is_read_before_the_walk_and_no_more_during_it() {
    let Some(namespaces) = Namespaces::claim().filter(|_| twill_testkit::has_program("nft")) else { return };
    namespaces.add("node");
    let nft = |command: &str| {
        let status = Command::new("ip").args(["netns", "exec", &namespaces.name("node"), "nft", command]).status();
        assert!(status.unwrap().success(), "{command}");
    };
    let node = NetNs::open(&namespaces.path("node")).unwrap();
    // The rules are gone when the walk asks.
    let told = |question: &Question| {
        nft(GUARD);
        let mut live = node.run(|| Live::open(None, question).unwrap()).unwrap();
        nft("flush ruleset");
        let arrival = trace::arrival(question).unwrap_or(Arrival { ipv6: false, port: 4789 });
        node.run(|| live.shut(arrival).unwrap()).unwrap().iter().map(|shut| shut.place.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(told(&question(Some("192.0.2.1"))), ["ip guard in"]);
    assert_eq!(told(&question(Some("2001:db8::1"))), [""; 0]);
    assert_eq!(told(&question(None)), [""; 0]);
}
