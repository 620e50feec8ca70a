//! Peers and announcements of small clusters, and what holds of every one.

use std::collections::BTreeSet;

use proptest::prelude::*;
use twill_conf::cluster::{Bfd, ClusterConf};

use super::*;
use crate::tests::sample::{Sample, name};

/// With this section; the pools stay, and so does the back end unless the text has one.
fn with(mut sample: Sample, toml: &str) -> Sample {
    let conf = ClusterConf::from_toml(&format!("[[pool]]\nname='x'\ncidr='172.16.0.0/16'\n{toml}")).unwrap();
    let there = &mut sample.view.config.as_mut().unwrap().value;
    there.bgp = conf.bgp;
    there.backend = conf.backend;
    sample
}

fn labelled(sample: Sample, number: u16, label: &str) -> Sample {
    let (label, value) = label.split_once('=').unwrap();
    sample.but(number, |record| _ = record.value.labels.insert(label.into(), value.into()))
}

/// Nodes 1 to 4 on one subnet, of both families.
fn four() -> Sample {
    let node = |sample: Sample, n: u16| sample.node(n, &[&format!("192.168.9.{n}/24"), &format!("fd09::{n}/64")]);
    (1..=4).fold(Sample::new(&["10.42.0.0/16", "fd42::/64"]), node)
}

fn of(sample: &Sample, number: u16) -> Speaker {
    Peerings::default()
        .speaker(&sample.view, &sample.local(number, &[]))
        .expect("it is registered, and there is a section")
}

/// Each peer in a few words.
fn peers(sample: &Sample, number: u16) -> Vec<String> {
    let peering = |Peering { who, session, .. }: &Peering| {
        let who = match who {
            Who::Node(name) => name.to_string(),
            Who::Router(name) => name.to_string(),
        };
        let kind = match session.kind {
            Kind::Internal => "internal",
            Kind::Client => "client",
            Kind::External(Hops::Single) => "external",
            Kind::External(Hops::Multiple) => "far",
        };
        format!("{who} {} {kind} {:?}", session.address, session.hop_limit)
    };
    of(sample, number).peerings.iter().map(peering).collect()
}

fn announced(sample: &Sample, number: u16) -> Vec<String> {
    of(sample, number).announced.iter().map(|a| format!("{} {:?} {}", a.prefix, a.to, a.communities.len())).collect()
}

#[test]
fn without_a_section_or_before_it_is_registered_a_node_speaks_with_nobody() {
    assert_eq!(Peerings::default().speaker(&four().view, &four().local(1, &[])), None);
    let sample = with(four(), "[bgp]");
    let local = sample.local(1, &[]);
    assert_eq!(Peerings::default().speaker(&sample.without(1).view, &local), None);
}

#[test]
fn a_node_is_by_default_what_the_section_says_and_its_own_address() {
    let speaker = of(&with(four(), "[bgp]"), 2);
    assert_eq!((speaker.asn, speaker.port, speaker.shutdown), (Asn::DEFAULT, 179, false));
    assert_eq!(speaker.router_id.to_string(), "192.168.9.2");
    assert_eq!((speaker.cluster_id, speaker.graceful_restart), (speaker.router_id, GracefulRestart::Within(120)));
    let said = "[bgp]\nas=7\nport=1179\n[bgp.reflectors]\nnodes='has(r)'\ncluster_id='10.9.9.9'\n\
                [[bgp.node]]\nnode='n2'\nas=8\nrouter_id='10.0.0.2'\nshutdown=true";
    let speaker = of(&with(four(), said), 2);
    assert_eq!((speaker.asn.number(), speaker.port, speaker.shutdown), (8, 1179, true));
    assert_eq!(speaker.router_id.to_string(), "10.0.0.2");
}

#[test]
fn only_a_reflector_takes_the_cluster_for_its_own() {
    let said = "[bgp]\n[bgp.reflectors]\nnodes='has(r)'\ncluster_id='10.9.9.9'";
    let sample = with(labelled(four(), 1, "r=1"), said);
    let cluster = |number: u16| of(&sample, number).cluster_id.to_string();
    assert_eq!([cluster(1), cluster(2)], ["10.9.9.9", "192.168.9.2"]);
}

#[test]
fn a_node_without_ipv4_has_an_identifier_of_its_own_which_stays() {
    let six = with(Sample::new(&["fd42::/64"]).node(1, &["fd09::1/64"]).node(2, &["fd09::2/64"]), "[bgp]");
    let [one, two] = [1, 2].map(|number| of(&six, number).router_id);
    assert_ne!(one, two);
    assert_eq!((one, two), ("92.16.9.241".parse().unwrap(), "27.222.176.113".parse().unwrap()), "for ever");
    assert_eq!(peers(&six, 1), ["n2 fd09::2 internal Guarded"]);
}

#[test]
fn ipv6_blocks_of_a_node_without_an_ipv6_address_are_told_under_bgp_alone() {
    let told = |ends: &[&str], backend: &str| {
        let sample = Sample::new(&["10.42.0.0/16", "fd42::/64"]).node(1, ends).block(1, "fd42::100/122");
        let problems = of(&with(sample, &format!("[backend]\ntype='{backend}'\n[bgp]")), 1).problems;
        problems.iter().filter(|problem| problem.contains("have no next hop")).count()
    };
    let (four, both) = (["192.168.9.1/24"], ["192.168.9.1/24", "fd09::1/64"]);
    assert_eq!([told(&four, "bgp"), told(&both, "bgp"), told(&four, "vxlan")], [1, 0, 0]);
}

#[test]
fn nodes_of_one_as_are_meshed_unless_that_is_not_wished_for() {
    let meshed = with(four(), "[[bgp.node]]\nnode='n4'\nas=8");
    assert_eq!(peers(&meshed, 1), ["n2 192.168.9.2 internal Guarded", "n3 192.168.9.3 internal Guarded"]);
    assert_eq!(peers(&meshed, 4), [""; 0], "nobody else is of its AS");
    assert_eq!(peers(&with(four(), "[bgp]\nmesh=false"), 1), [""; 0]);
}

#[test]
fn a_node_speaks_by_the_family_that_others_know_it_by() {
    let sample = with(four().without(3).without(4), "[bgp]");
    let local = sample.local(1, &[]);
    let by = |sample: &Sample| {
        let speaker = Peerings::default().speaker(&sample.view, &local).unwrap();
        speaker.peerings.iter().map(|peering| peering.session.address.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(by(&sample), ["192.168.9.2"]);
    assert_eq!(by(&sample.but(1, |record| record.value.underlay.ipv4 = None)), ["fd09::2"]);
}

#[test]
fn clients_speak_with_reflectors_alone_and_these_with_each_other() {
    let section = "[bgp.reflectors]\nnodes='has(r)'";
    let reflected = labelled(labelled(with(four(), section), 1, "r=1"), 2, "r=1");
    assert_eq!(
        peers(&reflected, 1),
        ["n2 192.168.9.2 internal Guarded", "n3 192.168.9.3 client Guarded", "n4 192.168.9.4 client Guarded"]
    );
    assert_eq!(peers(&reflected, 4), ["n1 192.168.9.1 internal Guarded", "n2 192.168.9.2 internal Guarded"]);
    assert_eq!(peers(&with(four(), section), 4).len(), 3, "meshed, until one is a reflector");
    assert_eq!(peers(&with(four(), &format!("[bgp]\nmesh=false\n{section}")), 4).len(), 0);
}

#[test]
fn what_is_kept_from_view_to_view_gives_the_same_as_what_begins_with_it() {
    let section = "[bgp.reflectors]\nnodes='has(r)'";
    let (before, after) =
        (with(four(), section), labelled(with(four().node(5, &["192.168.9.5/24"]), section), 2, "r=1"));
    let mut kept = Peerings::default();
    let mut speaker = |sample: &Sample| kept.speaker(&sample.view, &sample.local(1, &[])).unwrap();
    assert_eq!(speaker(&before), of(&before, 1));
    assert_eq!(speaker(&after), of(&after, 1));
    assert_ne!(of(&before, 1), of(&after, 1));
    let moved = after.without(2);
    assert_eq!(speaker(&moved), of(&moved, 1));
}

#[test]
fn between_subnets_nothing_is_asked_of_the_hop_limit_and_there_is_no_bfd() {
    let far = with(four().node(5, &["192.168.10.5/24"]).node(6, &["192.168.10.6/24", "fd09::6/64"]), "[bgp]\nbfd=true");
    let found = of(&far, 1);
    let session = |who: u16| &found.peerings.iter().find(|p| p.who == Who::Node(name(who))).unwrap().session;
    let short = |who| {
        let session = session(who);
        (session.address.to_string(), session.source.unwrap().to_string(), session.hop_limit, session.link.bfd)
    };
    let bfd = Some(Bfd::default());
    assert_eq!(short(2), ("192.168.9.2".into(), "192.168.9.1".into(), HopLimit::Guarded, bfd));
    assert_eq!(short(5), ("192.168.10.5".into(), "192.168.9.1".into(), HopLimit::Sent(255), None));
    assert_eq!(short(6), ("fd09::6".into(), "fd09::1".into(), HopLimit::Guarded, bfd), "they share a link by IPv6");
}

#[test]
fn who_cannot_be_reached_is_named_and_two_records_of_one_address_are_one_session() {
    let sample =
        with(four().node(5, &["fd09::5/64"]).node(6, &["192.168.9.6/24"]).node(7, &["192.168.9.6/24"]), "[bgp]");
    let speaker = of(&sample, 6);
    assert_eq!(peers(&sample, 1).last().unwrap(), "n6 192.168.9.6 internal Guarded");
    assert_eq!(
        speaker.problems[..1],
        ["no BGP with n5: this node has no underlay address of a family that they have".to_owned()]
    );
    let twins = with(four(), "[[bgp.node]]\nnode='n2'\nrouter_id='192.168.9.1'");
    let told = "n2 and this node have the router ID 192.168.9.1: give each one of its own by router_id in [[bgp.node]]";
    assert_eq!(of(&twins, 1).problems, [told]);
}

const ROUTERS: &str = "[[bgp.peer]]\nname='tor'\naddress='192.168.9.254'\nas=65001\nnodes=\"rack == 'a'\"\n\
                       [[bgp.peer]]\nname='far'\naddress='192.0.2.1'\nas='external'\nnode='n2'\nmultihop=3\nlocal_as=64700\nport=1179\n\
                       [[bgp.peer]]\nname='reflector'\naddress='192.0.2.2'\nas='internal'\nsource='192.168.9.9'\n\
                       [[bgp.peer]]\nname='plain'\naddress='192.168.9.253'\nas=65002\nnode='n3'\ngtsm=false\npassive=true\n";

#[test]
fn routers_are_for_the_nodes_that_they_are_for_and_as_far_as_they_are() {
    let sample = labelled(with(four(), &format!("[bgp]\nmesh=false\n{ROUTERS}")), 1, "rack=a");
    let reflector = "reflector 192.0.2.2 internal Sent(255)";
    assert_eq!(peers(&sample, 1), ["tor 192.168.9.254 external Guarded", reflector]);
    assert_eq!(peers(&sample, 2), ["far 192.0.2.1 far Sent(3)", reflector]);
    assert_eq!(peers(&sample, 3), [reflector, "plain 192.168.9.253 external Sent(1)"]);
    assert_eq!(peers(&sample, 4), [reflector]);
    let far = of(&sample, 2).peerings.remove(0).session;
    assert_eq!((far.remote, far.local_as.number(), far.port), (RemoteAs::AnyBut(Asn::DEFAULT), 64_700, 1179));
    let [inner, plain] = of(&sample, 3).peerings.try_into().unwrap();
    assert_eq!(inner.session.remote, RemoteAs::Is(Asn::DEFAULT));
    assert_eq!((inner.session.source, inner.session.passive), (Some("192.168.9.9".parse().unwrap()), false));
    assert!(plain.session.passive && plain.session.source.is_none());
}

#[test]
fn an_external_peer_without_filters_is_told_nothing_and_nothing_of_it_is_taken() {
    let filtered = "[[bgp.peer]]\nname='one-way'\naddress='192.0.2.3'\nas=7\ntransit=true\nmax_prefixes=9\nimport=[{action='accept'}]";
    let sample = labelled(with(four(), &format!("{ROUTERS}{filtered}")), 1, "rack=a");
    let speaker = of(&sample, 1);
    let exchange = |who: &str| {
        let found = speaker.peerings.iter().find(|p| p.who == Who::Router(who.parse().unwrap()));
        found.unwrap().exchange.clone()
    };
    let nothing = |import, transit, max_prefixes| Exchange {
        import,
        export: Export::Nothing,
        transit,
        next_hop_self: false,
        max_prefixes,
    };
    assert_eq!(exchange("tor"), nothing(Import::Nothing, false, None));
    let all = sample.view.config.as_ref().unwrap().value.bgp.as_ref().unwrap().peers[4].import.clone().unwrap();
    assert_eq!(exchange("one-way"), nothing(Import::Filter(all), true, Some(9)));
    let inside = speaker.peerings.iter().filter(|peering| peering.session.kind == Kind::Internal);
    let inside: Vec<_> = inside.map(|peering| (&peering.exchange.import, &peering.exchange.export)).collect();
    assert_eq!(inside, [(&Import::Pools, &Export::All); 4], "three nodes, and the reflector");
}

#[test]
fn what_a_peer_is_follows_from_the_as_of_each_node() {
    let section = "[bgp]\nmesh=false\n[[bgp.node]]\nnode='n1'\nas=65001\n\
                   [[bgp.peer]]\nname='tor'\naddress='192.168.9.254'\nas=65001\nlocal_as=64999\nnext_hop_self=true";
    let sample = with(four(), section);
    assert_eq!(peers(&sample, 1), ["tor 192.168.9.254 internal Sent(255)"]);
    assert_eq!(peers(&sample, 2), ["tor 192.168.9.254 external Guarded"]);
    let [inner, outer] = [1, 2].map(|number| of(&sample, number).peerings.remove(0));
    assert_eq!((inner.session.local_as.number(), inner.exchange.next_hop_self), (65_001, true));
    assert_eq!((outer.session.local_as.number(), outer.exchange.next_hop_self), (64_999, false));
    let told = "the BGP peer \"tor\" is of this node's AS, 65001: it is told that one, and not 64999";
    assert_eq!(of(&sample, 1).problems, [told]);
}

#[test]
fn a_router_with_the_address_of_a_node_or_of_another_one_is_left_out_and_the_node_itself_is_no_peer() {
    let section = "[[bgp.peer]]\nname='node'\naddress='192.168.9.2'\nas='internal'\n\
                   [[bgp.peer]]\nname='one'\naddress='192.0.2.1'\nas=7\nnodes='has(a)'\n\
                   [[bgp.peer]]\nname='two'\naddress='192.0.2.1'\nas=8\nnode='n1'";
    let sample = labelled(with(four(), section), 1, "a=1");
    let routers = |number| peers(&sample, number)[3..].to_vec();
    assert_eq!(routers(1), ["one 192.0.2.1 external Guarded"]);
    assert_eq!(routers(2), [""; 0], "itself");
    let told = [
        "the BGP peer \"node\" has the address of node n2, 192.168.9.2: it is left out",
        "the BGP peer \"two\" has the address of the BGP peer \"one\", 192.0.2.1: it is left out",
    ];
    assert_eq!(of(&sample, 1).problems, told);
    assert_eq!(of(&sample, 2).problems, [""; 0]);
    let alone = |number| -> Vec<String> {
        let alone = of(&sample, number).left_alone;
        alone.iter().map(|LeftAlone { who, address, why }| format!("{who:?} {address} {why}")).collect()
    };
    let node = "Router(PeerName(\"node\")) 192.168.9.2 its address is";
    let two = "Router(PeerName(\"two\")) 192.0.2.1 its address is that of the BGP peer \"one\"".to_owned();
    assert_eq!(alone(1), [format!("{node} that of node n2"), two]);
    assert_eq!(alone(2), [format!("{node} this node's own")]);
}

#[test]
fn own_blocks_are_told_inside_and_only_pools_that_are_announced_outside() {
    let section = format!("{ROUTERS}[[bgp.announce]]\nprefix='10.96.0.0/12'\nnode='n1'\ncommunities=['64512:1']");
    for backend in ["vxlan", "bgp"] {
        let mut sample = with(
            four().block(1, "10.42.1.0/26").block(1, "fd42::100/122").block(1, "10.99.0.0/26").block(2, "10.42.2.0/26"),
            &format!("[backend]\ntype='{backend}'\n{section}"),
        );
        sample.view.config.as_mut().unwrap().value.pools[0].announce = true;
        let sample = labelled(sample, 1, "rack=a");
        assert_eq!(
            announced(&sample, 1),
            ["10.42.1.0/26 Everyone 0", "10.96.0.0/12 Routers 1", "fd42::100/122 Inside 0"]
        );
        assert_eq!(announced(&sample, 2), ["10.42.2.0/26 Everyone 0"]);
        let speaker = of(&sample, 1);
        let told = |who: &Who| -> Vec<usize> {
            let peering = speaker.peerings.iter().find(|peering| peering.who == *who).unwrap();
            (0..3).filter(|at| peering.may_be_told(&speaker.announced[*at])).collect()
        };
        assert_eq!(told(&Who::Node(name(2))), [0, 2]);
        assert_eq!(told(&Who::Router("tor".parse().unwrap())), [0, 1]);
        assert_eq!(told(&Who::Router("reflector".parse().unwrap())), [0, 1, 2]);
    }
}

#[test]
fn a_block_that_is_also_to_be_announced_by_itself_is_told_once_and_to_all() {
    let sample = with(four().block(1, "10.42.0.0/26"), "[bgp]");
    let mut sample = Sample { view: sample.view };
    let conf = &mut sample.view.config.as_mut().unwrap().value;
    let extra =
        "[[pool]]\nname='x'\ncidr='172.16.0.0/16'\n[[bgp.announce]]\nprefix='10.42.0.0/26'\ncommunities=['1:2']";
    conf.bgp = ClusterConf::from_toml(extra).unwrap().bgp;
    assert_eq!(announced(&sample, 1), ["10.42.0.0/26 Everyone 1"]);
    assert_eq!(announced(&sample, 2), ["10.42.0.0/26 Routers 1"]);
}

fn noted(sample: &Sample) -> Vec<String> {
    let conf = &sample.view.config.as_ref().unwrap().value;
    notes(&sample.view, conf).into_iter().map(|note| format!("{}: {}; {}", note.subject, note.what, note.fix)).collect()
}

#[test]
fn a_mesh_of_more_than_a_hundred_nodes_is_told_with_the_way_out() {
    let nodes =
        |count: u16| (1..=count).fold(Sample::new(&["10.42.0.0/16"]), |s, n| s.node(n, &[&format!("10.0.0.{n}/24")]));
    assert_eq!(noted(&with(nodes(100), "[bgp]")), [""; 0]);
    let told = "AS 64512: its 101 nodes are meshed by 5050 BGP sessions, 100 on each node; make some of them reflectors by \
                [bgp.reflectors], and the others speak with those alone";
    let section = "[bgp.reflectors]\nnodes='has(r)'";
    assert_eq!(noted(&with(nodes(101), "[bgp]")), [told]);
    assert_eq!(noted(&with(nodes(101), section)), [told], "as long as none of them is one");
    assert_eq!(noted(&labelled(with(nodes(101), section), 7, "r=1")), [""; 0]);
    assert_eq!(noted(&with(nodes(101), "[bgp]\nmesh=false")), [""; 0]);
    let none = "AS 64512: none of its nodes is a reflector: they are meshed until one is; give nodes labels by which \
                [bgp.reflectors] selects them";
    assert_eq!(noted(&with(nodes(3), section)), [none]);
}

#[test]
fn silent_and_idle_peers_are_told() {
    let section = "[[bgp.peer]]\nname='tor'\naddress='192.0.2.1'\nas=7\nimport=[]\n\
                   [[bgp.peer]]\nname='idle'\naddress='192.0.2.2'\nas=7\nnode='n9'\n\
                   [[bgp.peer]]\nname='inner'\naddress='192.0.2.3'\nas=64512\n\
                   [[bgp.node]]\nnode='n33'\nshutdown=true\n[[bgp.node]]\nnode='n1'\nshutdown=true\n\
                   [[bgp.announce]]\nprefix='198.51.100.0/24'\nnodes='has(x)'";
    let told = [
        "BGP peer tor: it is of another AS and has no export filter: it is told nothing (RFC 8212); if that is not meant, give it an export",
        "BGP peer idle: no node is one that it is for, by node = \"n9\": nobody speaks with it; if that is not meant, correct that, \
         or the labels of the nodes in their twilld.toml",
        "[[bgp.node]]: no node is one that it is for, by node = \"n33\": it changes nothing; if that is not meant, correct that, or \
         the labels of the nodes in their twilld.toml",
        "[[bgp.announce]] of 198.51.100.0/24: no node is one that it is for, by nodes = \"has(x)\": nobody announces it; if that is \
         not meant, correct that, or the labels of the nodes in their twilld.toml",
    ];
    assert_eq!(noted(&with(four(), section)), told);
}

#[test]
fn what_is_odd_about_names_and_addresses_is_told() {
    let peer = |rest: &str| format!("[[bgp.peer]]\nname='tor'\nas='internal'\n{rest}\n");
    let told = |section: &str| noted(&with(four(), section));
    assert_eq!(told(&peer("address='192.0.2.1'\nsource='192.168.9.3'")), [""; 0]);
    let inside = told(&peer("address='10.42.7.1'"));
    assert!(
        inside[0].starts_with("BGP peer tor: its address, 10.42.7.1, lies in pool pool0 (10.42.0.0/16): "),
        "{inside:?}"
    );
    let named = told(&peer("address='192.0.2.1'").replace("tor", "n2"));
    assert!(named[0].starts_with("BGP peer n2: a node has this name, too"), "{named:?}");
    for section in ["address='192.0.2.1'\nsource='192.168.9.9'", "address='192.0.2.1'\nnode='n1'\nsource='192.168.9.3'"]
    {
        let lost = told(&peer(section));
        assert!(lost[0].starts_with("BGP peer tor: none of its nodes has the source 192.168.9."), "{lost:?}");
    }
    let twins = told("[[bgp.node]]\nnode='n1'\nrouter_id='192.168.9.3'\n");
    assert!(twins[0].starts_with("nodes n1, n3: they have the router ID 192.168.9.3 in common"), "{twins:?}");
    assert_eq!((inside.len(), named.len(), twins.len()), (1, 1, 1));
}

#[test]
fn pools_that_would_not_leave_their_as_are_told_where_only_others_join_the_nodes() {
    let bgp = |rest: &str| with(four(), &format!("[backend]\ntype='bgp'\n{rest}"));
    let kept = |sample: &Sample| noted(sample).iter().filter(|note| note.starts_with("pool ")).count();
    let (inner, outer) = ["internal", "external"]
        .map(|asn| format!("[bgp]\nmesh=false\n[[bgp.peer]]\nname='p'\naddress='192.0.2.1'\nas='{asn}'"))
        .into();
    assert_eq!([kept(&bgp("")), kept(&bgp(&inner)), kept(&bgp(&outer))], [0, 0, 2]);
    let racks = bgp("[[bgp.node]]\nnode='n1'\nas=7");
    assert_eq!(kept(&racks), 2);
    assert_eq!(kept(&with(four(), &outer)), 0, "another back end carries the packets");
}

/// What a node of a random cluster has: families (bit 0 for IPv4, bit 1 for IPv6), subnet, AS, and whether it is a reflector.
type Node = (u8, u8, u8, bool);

fn cluster(nodes: &[Node], mesh: bool, reflectors: bool) -> Sample {
    let mut sample = Sample::new(&["10.42.0.0/16", "fd42::/64"]);
    for (number, (families, subnet, asn, reflects)) in (1u16..).zip(nodes) {
        let ends = [format!("192.168.{subnet}.{number}/24"), format!("fd09:{subnet}::{number}/64")];
        let has = |(bit, _): &(usize, &String)| families & (1 << bit) != 0;
        let ends: Vec<&str> = ends.iter().enumerate().filter(has).map(|(_, end)| end.as_str()).collect();
        sample = labelled(sample.node(number, &ends), number, &format!("asn={asn}"));
        sample = if *reflects { labelled(sample, number, "r=1") } else { sample };
    }
    let reflectors = if reflectors { "[bgp.reflectors]\nnodes='has(r)'\n" } else { "" };
    with(sample, &format!("[bgp]\nmesh={mesh}\n{reflectors}[[bgp.node]]\nnodes=\"asn == '1'\"\nas=65001"))
}

/// The other nodes with which each one speaks.
fn pairs(sample: &Sample) -> BTreeSet<(NodeName, NodeName)> {
    let of = |number: u16| {
        let peers = of(sample, number).peerings;
        peers.into_iter().filter_map(move |peering| match peering.who {
            Who::Node(other) => Some((name(number), other)),
            Who::Router(_) => None,
        })
    };
    (1..=u16::try_from(sample.view.nodes.len()).unwrap()).flat_map(of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn two_nodes_have_each_other_for_peers_or_neither_has_and_agree_on_the_session(
        nodes in prop::collection::vec((0u8..4, 8u8..10, 0u8..2, any::<bool>()), 1..12), mesh: bool, reflectors: bool,
    ) {
        let sample = cluster(&nodes, mesh, reflectors);
        let pairs = pairs(&sample);
        for (one, other) in &pairs {
            prop_assert!(pairs.contains(&(other.clone(), one.clone())), "{} has {}", one, other);
        }
        let number = |name: &NodeName| name.as_str()[1..].parse::<u16>().unwrap();
        for (one, other) in &pairs {
            let session = |one: &NodeName, other: &NodeName| {
                let peerings = of(&sample, number(one)).peerings;
                peerings.into_iter().find(|peering| peering.who == Who::Node(other.clone())).unwrap().session
            };
            let (ours, theirs) = (session(one, other), session(other, one));
            prop_assert_eq!(Some(ours.address), theirs.source);
            prop_assert_eq!(ours.hop_limit, theirs.hop_limit);
            prop_assert_eq!(ours.remote, RemoteAs::Is(theirs.local_as));
            prop_assert!(!(ours.kind == Kind::Client && theirs.kind == Kind::Client));
        }
    }

    #[test]
    fn every_two_nodes_of_an_as_are_joined_directly_or_by_every_reflector(
        nodes in prop::collection::vec((Just(3u8), 8u8..10, 0u8..2, any::<bool>()), 1..12), reflectors: bool,
    ) {
        let sample = cluster(&nodes, true, reflectors);
        let pairs = pairs(&sample);
        let has = |one: u16, other: u16| pairs.contains(&(name(one), name(other)));
        let numbers = || (1u16..).zip(&nodes);
        for ((one, a), (other, b)) in numbers().flat_map(|a| numbers().map(move |b| (a, b))).filter(|((a, _), (b, _))| a != b) {
            if a.2 != b.2 {
                prop_assert!(!has(one, other), "of two ASes");
                continue;
            }
            let middle: Vec<u16> = numbers().filter(|(_, node)| reflectors && node.3 && node.2 == a.2).map(|(n, _)| n).collect();
            let by = |middle: &u16| has(one, *middle) && has(*middle, other);
            prop_assert!(has(one, other) || !middle.is_empty() && middle.iter().all(by), "n{} and n{}", one, other);
            if !middle.is_empty() && !a.3 && !b.3 {
                prop_assert!(!has(one, other), "two clients");
            }
        }
    }
}
