//! The section `[bgp]`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use twill_conf::cluster::{
    Asn, Bfd, Bgp, Changes, ClusterConf, Community, Distance, Filter, GracefulRestart, Link, Nodes, Peer, PeerAs,
    Prefixes, Rule, Then,
};

const POOL: &str = "[[pool]]\nname = 'a'\ncidr = '10.42.0.0/16'\n";

fn bgp(toml: &str) -> Bgp {
    ClusterConf::from_toml(&format!("{POOL}{toml}")).expect("a good configuration").bgp.expect("a section")
}

fn asn(number: u32) -> Asn {
    Asn::new(number).expect("a good number")
}

#[test]
fn an_empty_section_and_the_back_end_alone_are_the_defaults() {
    assert_eq!(bgp("[bgp]"), Bgp::default());
    assert_eq!(bgp("[backend]\ntype = 'bgp'"), Bgp::default());
    assert_eq!(ClusterConf::from_toml(POOL).unwrap().bgp, None);
    let default = Bgp::default();
    assert_eq!((default.asn.number(), default.mesh, default.port), (64_512, true, 179));
    assert_eq!(default.graceful_restart, GracefulRestart::Within(120));
    assert_eq!((default.link.hold_time, default.link.connect_retry), (90, 10));
    assert_eq!(Bfd::default(), Bfd { interval: 300, multiplier: 3 });
}

#[test]
fn the_example_of_the_reference_comes_to_mean_what_it_says() {
    let reference = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cluster-configuration.md"));
    let text = std::fs::read_to_string(reference).expect("readable");
    let section = text.split("## BGP").nth(1).expect("a section");
    let example = section.split("```toml").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let bgp = bgp(example);
    assert_eq!((bgp.asn, bgp.mesh, bgp.graceful_restart), (asn(64_512), true, GracefulRestart::Within(60)));
    let reflectors = bgp.reflectors.as_ref().unwrap();
    assert_eq!(reflectors.cluster_id, Some(Ipv4Addr::new(10, 0, 0, 1)));
    assert_eq!(reflectors.nodes, Nodes::Labelled("has(reflector)".parse().unwrap()));
    let rule = |prefix: &str, then| Rule {
        prefixes: vec![prefix.parse().unwrap()],
        community: None,
        through: None,
        from: None,
        then,
    };
    let tor = Peer {
        nodes: Nodes::Labelled("rack == 'a'".parse().unwrap()),
        link: Link {
            hold_time: 30,
            bfd: Some(Bfd::default()),
            password_file: Some("/etc/twill/tor-a".into()),
            ..Link::default()
        },
        max_prefixes: Some(1000),
        import: Some(
            Filter::new(vec![
                rule("0.0.0.0/0", Then::Accept(Changes::default())),
                rule("192.0.2.0/24 le 28", Then::Accept(Changes { local_pref: Some(200), ..Changes::default() })),
            ])
            .unwrap(),
        ),
        export: Some(
            Filter::new(vec![rule(
                "10.42.0.0/16 le 26",
                Then::Accept(Changes { add: vec!["64512:100".parse().unwrap()], ..Changes::default() }),
            )])
            .unwrap(),
        ),
        ..Peer::new("tor-a".parse().unwrap(), "10.0.0.254".parse().unwrap(), PeerAs::Number(asn(65_001)))
    };
    assert_eq!(bgp.peers, [tor]);
    assert_eq!(bgp.announcements[0].prefix.to_string(), "10.96.0.0/12");
    assert_eq!((bgp.nodes[0].asn, bgp.nodes[1].router_id), (Some(asn(64_513)), Some(Ipv4Addr::new(10, 0, 0, 9))));
}

#[test]
fn of_several_entries_for_a_node_the_first_that_says_a_thing_counts_for_it() {
    let bgp =
        bgp("[[bgp.node]]\nnode = 'n1'\nas = 7\n[[bgp.node]]\nnodes = \"rack == 'a'\"\nas = 8\nshutdown = true\n\
                   [[bgp.node]]\nnode = 'n1'\nshutdown = false\nrouter_id = '10.0.0.1'");
    let labels: BTreeMap<String, String> = [("rack".to_owned(), "a".to_owned())].into();
    let said = |name: &str, labels: &BTreeMap<String, String>| {
        let name = name.parse().unwrap();
        (bgp.asn_of(&name, labels).number(), bgp.is_shut_down(&name, labels), bgp.router_id_of(&name, labels))
    };
    assert_eq!(said("n1", &labels), (7, true, Some(Ipv4Addr::new(10, 0, 0, 1))));
    assert_eq!(said("n1", &BTreeMap::new()), (7, false, Some(Ipv4Addr::new(10, 0, 0, 1))));
    assert_eq!(said("n2", &labels), (8, true, None));
    assert_eq!(said("n2", &BTreeMap::new()), (64_512, false, None));
}

#[test]
fn how_far_a_peer_is_can_be_said_in_each_way() {
    for (text, distance) in [
        ("", Distance::Usual),
        ("gtsm = true", Distance::Guarded),
        ("gtsm = false", Distance::Unguarded),
        ("multihop = 4", Distance::Routed(4)),
    ] {
        let bgp = bgp(&format!("[[bgp.peer]]\nname = 'p'\naddress = '2001:db8::1'\nas = 'external'\n{text}"));
        assert_eq!(bgp.peers[0].distance, distance, "{text}");
    }
}

#[test]
fn a_range_of_prefixes_is_printed_in_the_shortest_way() {
    for (text, printed, lengths) in [
        ("10.0.0.0/8", "10.0.0.0/8", 8..=8),
        ("10.0.0.0/8 ge 8", "10.0.0.0/8 le 32", 8..=32),
        ("10.0.0.0/8  ge 8  le 8", "10.0.0.0/8", 8..=8),
        ("10.0.0.0/8 ge 24", "10.0.0.0/8 ge 24", 24..=32),
        ("10.0.0.0/8 ge 24 le 32", "10.0.0.0/8 ge 24", 24..=32),
        ("10.0.0.0/8 ge 24 le 26", "10.0.0.0/8 ge 24 le 26", 24..=26),
        ("fd00::/8 le 128", "fd00::/8 le 128", 8..=128),
        ("192.0.2.1/32", "192.0.2.1/32", 32..=32),
        ("::/0", "::/0", 0..=0),
    ] {
        let range: Prefixes = text.parse().unwrap();
        assert_eq!((range.to_string().as_str(), range.lengths()), (printed, lengths), "{text}");
        assert_eq!(range.to_string().parse(), Ok(range), "{text}");
    }
}

#[test]
fn communities_are_read_and_printed_by_number_or_by_a_name_that_all_know() {
    for (text, community, printed) in [
        ("64512:100", Community::Standard(0xFC00_0064), "64512:100"),
        ("65535:65281", Community::Standard(0xFFFF_FF01), "no-export"),
        ("graceful-shutdown", Community::Standard(0xFFFF_0000), "graceful-shutdown"),
        ("blackhole", Community::Standard(0xFFFF_029A), "blackhole"),
        ("4200000000:1:4294967295", Community::Large(4_200_000_000, 1, u32::MAX), "4200000000:1:4294967295"),
    ] {
        let read: Community = text.parse().unwrap();
        assert_eq!((read, read.to_string().as_str()), (community, printed));
    }
}

#[test]
fn a_default_route_is_only_meant_where_it_stands_by_itself() {
    let names = |rules: &str| {
        let bgp = bgp(&format!("[[bgp.peer]]\nname = 'p'\naddress = '192.0.2.1'\nas = 7\nimport = [{rules}]"));
        let import = bgp.peers[0].import.as_ref().unwrap();
        [false, true].map(|ipv6| import.names_default(ipv6))
    };
    for (rules, named) in [
        ("", [false, false]),
        ("{ action = 'accept' }", [false, false]),
        ("{ prefixes = ['0.0.0.0/0 le 32'], action = 'accept' }", [false, false]),
        ("{ prefixes = ['0.0.0.0/0'], action = 'reject' }", [false, false]),
        ("{ prefixes = ['10.0.0.0/8', '0.0.0.0/0'], action = 'accept' }", [true, false]),
        ("{ prefixes = ['::/0'], action = 'next', med = 1 }, { action = 'accept' }", [false, true]),
    ] {
        assert_eq!(names(rules), named, "{rules}");
    }
}
