//! Reflectors (RFC 4456): a router, and a node. The nodes share no subnet, so that their routes come by reflection alone.

use std::net::{IpAddr, Ipv4Addr};

use twill_tests::deadline::{self, PATIENCE};
use twill_tests::routers::{Announcement, Bird, Gobgp, Host, Neighbour, Router, Settings, bird, gobgp, with_routers};

use super::apart;
use super::stage::*;

fn v4(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(address) => panic!("{address} is of IPv6"),
    }
}

#[test]
fn bird_reflects_what_nodes_say_and_they_find_next_hops_behind_a_router() {
    with_routers(&bird::PROGRAMS, apart::lab(3), |lab| {
        let host = Host::on(lab, "between", 1)?;
        apart::separate(lab, &host)?;
        let bird = Bird::start(&host, apart::reflecting(lab, |neighbour| neighbour))?;
        let peers =
            host.addresses().iter().map(|address| bare_peer(&format!("rr-{}", family(*address)), *address, ASN, ""));
        let config = lab.config_with("type = \"bgp\"\n[bgp]\nmesh = false\n") + &peers.collect::<String>();
        lab.apply_config(&config)?;
        apart::wake(lab)?;
        all_sessions_stand(lab, &bird, "rr")?;
        let pods = pods(lab)?;
        for node in lab.nodes() {
            assert!(!node.daemon_log().contains("the session with node"), "they have none with each other");
            for (block, route) in knows_blocks(lab, &bird, node)? {
                let own = node.addresses()[usize::from(block.is_ipv6())];
                let seen = (route.next_hop, route.as_path.len(), route.local_pref, route.originator);
                assert_eq!(seen, (Some(own), 0, Some(100), None), "{block}");
                for other in lab.nodes().iter().filter(|other| other.name() != node.name()) {
                    leads_by(other, block, &[host.address(block.is_ipv6())])?;
                }
            }
        }
        all_reach_all(&pods, &[false, true])?;

        // A client whose session ends is known to nobody any more.
        let (gone, address) = (lab.node(3), lab.node(3).addresses()[0]);
        bird.enable(address, false)?;
        let block = blocks_of(lab, "n3")?.into_iter().find(ipnetwork::IpNetwork::is_ipv4).expect("it has one");
        leads_by(lab.node(1), block, &[])?;
        bird.enable(address, true)?;
        leads_by(lab.node(1), block, &[host.address(false)])?;
        for own in blocks_of(lab, "n1")?.into_iter().filter(ipnetwork::IpNetwork::is_ipv4) {
            leads_by(gone, own, &[host.address(false)])?;
        }
        pods[0].ping_small_and_full(pods[2].address(false)?)?;
        gone.expect_daemon()
    });
}

#[test]
fn a_node_reflects_what_nodes_and_routers_of_other_makes_say() {
    /// What the reflector calls itself.
    const CLUSTER: Ipv4Addr = Ipv4Addr::new(9, 9, 9, 9);
    // Inside of the pool, since of a node nothing else is taken.
    const OF_BIRD: &str = "10.42.255.0/26";
    const OF_GOBGP: &str = "10.42.254.0/26";
    with_routers(&[bird::PROGRAMS, gobgp::PROGRAMS].concat(), apart::lab(3), |lab| {
        let (between, beside) = (Host::on(lab, "between", 1)?, Host::on(lab, "beside", 2)?);
        apart::separate(lab, &between)?;
        let reflector = lab.node(1);
        let with_reflector = |settings: Settings| {
            let addresses = reflector.addresses().iter();
            addresses.fold(settings, |settings, address| settings.with(Neighbour::new(*address, ASN)))
        };
        let of_bird = Settings { kernel: true, ..Settings::new(ASN, [10, 0, 0, 1].into()) };
        let of_bird = of_bird.announcing(Announcement::new(net(OF_BIRD)));
        let bird = Bird::start(&between, with_reflector(of_bird))?;
        let of_gobgp = Settings::new(ASN, [10, 0, 0, 2].into()).announcing(Announcement::new(net(OF_GOBGP)));
        let gobgp = Gobgp::start(&beside, with_reflector(of_gobgp))?;
        let mut config = lab.config_with("type = \"bgp\"\n[bgp]\n");
        config += &format!("[bgp.reflectors]\nnodes = \"node == 'n1'\"\ncluster_id = \"{CLUSTER}\"\n");
        for (name, host) in [("bird", &between), ("gobgp", &beside)] {
            for address in host.addresses() {
                config += &bare_peer(&format!("{name}-{}", family(*address)), *address, ASN, "node = \"n1\"\n");
            }
        }
        lab.apply_config(&config)?;
        apart::wake(lab)?;
        sessions_are_up(reflector, &["node n2", "node n3", "BGP peer bird-4", "BGP peer gobgp-6"].map(str::to_owned))?;
        for node in &lab.nodes()[1..] {
            sessions_are_up(node, &["node n1".to_owned()])?;
        }
        // Until the reflector is registered they are meshed.
        deadline::until("clients have no session with each other", PATIENCE, || {
            let log = lab.node(2).daemon_log();
            let said = |what: &str| {
                log.lines().filter(|line| line.contains("session with node n3") && line.contains(what)).count()
            };
            Ok(said(" is up") == said(" is down"))
        })?;

        // What clients said, as it came to routers that are none.
        for node in &lab.nodes()[1..] {
            let of = v4(node.addresses()[0]);
            for router in [&bird as &dyn Router, &gobgp] {
                for (block, route) in knows_blocks(lab, router, node)? {
                    let own = node.addresses()[usize::from(block.is_ipv6())];
                    let seen = (route.next_hop, route.originator, route.clusters, route.local_pref);
                    assert_eq!(seen, (Some(own), Some(of), vec![CLUSTER], Some(100)), "{block}, {}", router.name());
                }
            }
        }
        for (block, route) in knows_blocks(lab, &gobgp, reflector)? {
            let seen = (route.originator, route.clusters.len());
            assert_eq!(seen, (None, 0), "{block} is of the reflector itself");
        }
        // What routers said, to clients; not to each other, since neither is one.
        for node in lab.nodes() {
            leads_by(node, net(OF_BIRD), &[between.address(false)])?;
        }
        leads_by(reflector, net(OF_GOBGP), &[between.address(false)])?;
        assert_eq!(gobgp.routes(net(OF_BIRD))?, []);

        let pods = pods(lab)?;
        for block in blocks_of(lab, "n3")? {
            leads_by(lab.node(2), block, &[between.address(block.is_ipv6())])?;
        }
        all_reach_all(&pods, &[false, true])
    });
}
