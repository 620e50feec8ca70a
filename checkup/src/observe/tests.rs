//! The look at what lets the tunnel in, in namespaces with tables of nftables.

use std::process::Command;

use twill_linux::NetNs;
use twill_testkit::Namespaces;

use super::*;

const WANTED: Tunnel = Tunnel { vni: 7777, port: 4789, ipv6: None };

#[test]
fn a_family_that_is_shut_is_told_also_where_the_other_is_open() {
    let Some(namespaces) = Namespaces::claim().filter(|_| twill_testkit::has_program("nft")) else { return };
    namespaces.add("node");
    let name = namespaces.name("node");
    let run = |program: &[&str]| {
        let status = Command::new("ip").args(["netns", "exec", &name]).args(program).status().unwrap();
        assert!(status.success(), "{program:?}");
    };
    run(&["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth9"]);
    run(&["ip", "address", "add", "192.0.2.5/24", "dev", "eth0"]);
    run(&["ip", "address", "add", "2001:db8::5/64", "dev", "eth0", "nodad"]);
    let node = NetNs::open(&namespaces.path("node")).unwrap();
    let told = |family: &str, wanted: Tunnel| {
        run(&["nft", "flush ruleset"]);
        run(&[
            "nft",
            &format!("table {family} filter {{ chain INPUT {{ type filter hook input priority 0; policy drop; }}; }}"),
        ]);
        let look = || inbound(wanted, &network::look(&["eth0".to_owned()], &[])).unwrap();
        let Inbound { families, shut } = node.run(look).unwrap();
        (Vec::from_iter(families), shut.iter().map(|shut| shut.place.to_string()).collect::<Vec<_>>())
    };
    assert_eq!(told("ip", WANTED), (vec![false], vec!["ip filter INPUT".to_owned()]));
    assert_eq!(told("ip6", WANTED), (vec![false], vec![]), "nobody sends by it");
    assert_eq!(told("ip6", Tunnel { ipv6: Some(true), ..WANTED }), (vec![true], vec!["ip6 filter INPUT".to_owned()]));
    // The device for nodes that have IPv6 alone stands beside.
    run(&[
        "ip",
        "link",
        "add",
        "vxlan6.twill",
        "type",
        "vxlan",
        "id",
        "7777",
        "dstport",
        "4789",
        "local",
        "2001:db8::5",
    ]);
    for family in ["ip", "ip6"] {
        assert_eq!(told(family, WANTED), (vec![false, true], vec![format!("{family} filter INPUT")]));
    }
}

#[test]
fn where_links_cannot_be_read_that_is_said_and_where_no_family_is_known_none_is_claimed() {
    assert_eq!(inbound(WANTED, &Err(Unseen::garbage("ENOBUFS"))), Err(Unseen::garbage("ENOBUFS")));
    assert_eq!(inbound(WANTED, &Ok(Links::default())), Ok(Inbound::default()));
}
