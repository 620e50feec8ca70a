//! Which ways a node takes and gives: several through a reflector (RFC 7911), others' blocks, routers behind routers, and none
//! that has crossed a router where none may.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use twill_tests::Underlay;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::routers::raw::{Introduction, message};
use twill_tests::routers::{Bird, Family, Host, Neighbour, Raw, Router, Settings, bird, with_routers};

use super::apart;
use super::stage::*;

const TOR: u32 = 65001;

#[test]
fn several_ways_to_one_prefix_come_through_a_reflector() {
    const SHARED: &str = "10.96.0.0/16";
    let lab = open_lab_v4().nodes(3);
    with_routers(&bird::PROGRAMS, lab.backend("type = \"vxlan\"\n[bgp]\nmesh = false\n"), |lab| {
        let host = Host::on(lab, "rr", 1)?;
        let bird = Bird::start(&host, apart::reflecting(lab, |neighbour| Neighbour { add_path: true, ..neighbour }))?;
        let import = format!("[[bgp.peer.import]]\nprefixes = [\"{SHARED}\"]\naction = \"accept\"\n");
        let announce = format!("[[bgp.announce]]\nprefix = \"{SHARED}\"\nnodes = \"node != 'n3'\"\n");
        let config = lab.cluster_config() + &bare_peer("rr", host.address(false), ASN, &import) + &announce;
        lab.apply_config(&config)?;
        let hops =
            |numbers: &[usize]| numbers.iter().map(|number| lab.node(*number).addresses()[0]).collect::<Vec<_>>();
        leads_by(lab.node(3), net(SHARED), &hops(&[1, 2]))?;
        assert_eq!(bird.routes(net(SHARED))?.len(), 2);
        // A node does not use what another one announces of what it announces itself.
        assert_eq!(gateways(lab.node(1), net(SHARED))?, [""; 0]);
        bird.enable(lab.node(1).addresses()[0], false)?;
        leads_by(lab.node(3), net(SHARED), &hops(&[2]))?;
        bird.enable(lab.node(1).addresses()[0], true)?;
        leads_by(lab.node(3), net(SHARED), &hops(&[1, 2]))
    });
}

#[test]
fn a_node_speaks_for_others_where_transit_says_so_and_not_of_pools_that_stay_inside() {
    with_routers(&bird::PROGRAMS, open_lab_v4().nodes(2).backend(BGP), |lab| {
        let host = Host::on(lab, "tor", 1)?;
        let settings = Settings { kernel: true, ..announcing_external(Settings::new(TOR, [10, 0, 0, 1].into())) };
        let first = Neighbour { ttl_security: true, ..Neighbour::new(lab.node(1).addresses()[0], ASN) };
        let first = Neighbour { families: vec![Family::Ipv4], ..first };
        let bird = Bird::start(&host, settings.with(first))?;
        let (beyond, pods) = (Beyond::behind(lab, &[&host])?, pods(lab)?);
        let with = |keys: &str| peer("tor", host.address(false), TOR, &format!("node = \"n1\"\n{keys}"));
        let transit = with("transit = true\n");
        lab.apply_config(&(lab.cluster_config() + &transit))?;
        let v4 = |name: &str| -> twill_tests::Result<IpNetwork> {
            let mut blocks = blocks_of(lab, name)?.into_iter().filter(IpNetwork::is_ipv4);
            Ok(blocks.next().expect("each node has one"))
        };
        let (own, other) = (v4("n1")?, v4("n2")?);
        assert_eq!(bird.until_route(own)?.as_path, [ASN]);
        let route = bird.until_route(other)?;
        assert_eq!((route.from, route.as_path), (Some(lab.node(1).addresses()[0]), vec![ASN]));
        assert!(lab.node(2).daemon_log().contains("the session with node n1") && sessions_ended(lab.node(1)) == 0);
        beyond.reaches(&pods[0], false)?;

        let inside = lab.cluster_config().replacen("announce = true\n", "", 1);
        lab.apply_config(&(inside + &transit))?;
        bird.until_gone(own)?;
        bird.until_gone(other)?;
        lab.apply_config(&(lab.cluster_config() + &with("")))?;
        bird.until_route(own)?;
        assert_eq!(bird.routes(other)?, []);
        assert_eq!(sessions_ended(lab.node(1)), 0);
        Ok(())
    });
}

#[test]
fn a_router_behind_a_router_is_spoken_to_from_a_named_source_and_as_another_system() {
    const LOCAL: u32 = 64999;
    with_routers(&bird::PROGRAMS, apart::lab(1).underlay(Underlay::V4), |lab| {
        let (between, far) = (Host::on(lab, "between", 1)?, Host::on(lab, "far", 2)?);
        apart::separate(lab, &between)?;
        let node = lab.node(1);
        // Nothing goes past the router in between.
        let (address, tor) = (node.addresses()[0], far.address(false));
        far.namespace().ip_batch(&format!("route add {address}/32 via {}\n", between.address(false)))?;
        for scope in ["all", "eth0"] {
            far.namespace().set_sysctl(&format!("net/ipv4/conf/{scope}/accept_redirects"), "0")?;
        }
        let settings = announcing_external(Settings::new(TOR, [10, 0, 0, 2].into()));
        let neighbour = Neighbour { multihop: Some(3), ..Neighbour::new(address, LOCAL) };
        let bird = Bird::start(&far, settings.with(neighbour))?;
        let keys = |hops: u8| format!("multihop = {hops}\nsource = \"{address}\"\nlocal_as = {LOCAL}\n");
        let with = |hops: u8| lab.config_with(BGP) + &peer("far", tor, TOR, &keys(hops));
        lab.apply_config(&with(3))?;
        apart::wake(lab)?;
        bird.until_established(address)?;
        leads_by(node, net(EXTERNAL[0]), &[between.address(false)])?;
        for block in blocks_of(lab, "n1")?.into_iter().filter(IpNetwork::is_ipv4) {
            let route = bird.until_route(block)?;
            assert_eq!((route.next_hop, route.as_path), (Some(address), vec![LOCAL]), "{block}");
        }
        let sent = node.run(&["ss", "-Htni", "dport", "=", ":179", "or", "sport", "=", ":179"])?;
        assert!(sent.contains(&address.to_string()), "{sent}");
        Ok(())
    });
}

#[test]
fn what_has_crossed_a_router_reaches_no_session_that_is_guarded() {
    twill_tests::with_lab(open_lab_v4().nodes(1).backend(BGP), |lab| {
        let host = Host::on(lab, "far", 1)?;
        let IpAddr::V4(hop) = host.address(false) else { unreachable!("the wire has IPv4 alone") };
        let node = lab.node(1);
        let with = |keys: &str| {
            let keys = format!("passive = true\n{keys}[[bgp.peer.import]]\naction = \"accept\"\n");
            lab.apply_config(&(lab.cluster_config() + &bare_peer("far", hop.into(), TOR, &keys)))
        };
        with("")?;
        // Its packets have a hop limit of 64, as if they had crossed 191 routers.
        let introduction = Introduction::new(TOR, [10, 0, 0, 1].into());
        let raw = call(&host, node)?;
        raw.send(&message::open(&introduction))?;
        deadline::until("its packets are dropped", PATIENCE, || {
            let told = node.run(&["nstat", "-asz", "TcpExtTCPMinTTLDrop"])?;
            let count =
                told.lines().find_map(|line| line.strip_prefix("TcpExtTCPMinTTLDrop")?.split_whitespace().next());
            Ok(count.is_some_and(|count| count != "0"))
        })?;
        assert!(!node.daemon_log().contains("the session with BGP peer far"));
        drop(raw);
        with("gtsm = false\n")?;
        // The first attempts may still come to the guard.
        let raw = deadline::until_some("the session stands", PATIENCE, || {
            let raw = Raw::dial(&host, node.addresses()[0], &introduction)?;
            let stands = node.daemon_log().contains("the session with BGP peer far") && raw.end().is_none();
            Ok(if stands { Ok(raw) } else { Err(node.last_words(3)) })
        })?;
        raw.send(&message::update(&[], &message::mandatory(&[TOR], hop), &[net(EXTERNAL[0])]))?;
        leads_by(node, net(EXTERNAL[0]), &[hop.into()])
    });
}
