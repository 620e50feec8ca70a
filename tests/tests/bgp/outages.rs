//! etcd, the kernel's routes, the underlay and nodes that go, while BGP has the routes between nodes.

use std::time::Duration;

use twill_tests::deadline::{self, PATIENCE};
use twill_tests::lab::PROTOCOL_CLUSTER;
use twill_tests::probe::Probe;
use twill_tests::routers::{Announcement, Bird, Host, Neighbour, Router, Settings, bird, with_routers};
use twill_tests::{Node, PoolSpec, Underlay};

use super::apart;
use super::stage::*;

const TOR: u32 = 65001;
const MILLISECOND: Duration = Duration::from_millis(1);

#[test]
fn daemons_that_begin_while_etcd_is_away_speak_as_before_and_lose_no_packet() {
    with_routers(&bird::PROGRAMS, apart::lab(2), |lab| {
        let host = Host::on(lab, "between", 1)?;
        apart::separate(lab, &host)?;
        let settings = apart::reflecting(lab, |neighbour| Neighbour { next_hop_self: true, ..neighbour });
        let before = Settings { restart: Some(60), ..settings };
        let mut bird = Bird::start(&host, before.clone())?;
        let peers = host.addresses().iter();
        let peers = peers.map(|address| bare_peer(&format!("r-{}", family(*address)), *address, ASN, ""));
        let config = lab.config_with("type = \"bgp\"\n[bgp]\nmesh = false\n") + &peers.collect::<String>();
        lab.apply_config(&config)?;
        apart::wake(lab)?;
        let pods = pods(lab)?;
        all_reach_all(&pods, &[false, true])?;
        lab.saved()?;
        let far = blocks_of(lab, "n2")?.into_iter().find(ipnetwork::IpNetwork::is_ipv4).expect("it has one");
        let start = |ipv6| Probe::start(pods[0].namespace(), pods[1].namespace(), pods[1].address(ipv6)?, MILLISECOND);
        let probes = [start(false)?, start(true)?];
        probes.iter().try_for_each(|probe| probe.until_answered(100))?;
        lab.etcd().stop()?;
        for node in lab.nodes() {
            node.kill_daemon()?;
            for address in node.addresses() {
                bird.until_session(*address, "gone", &|session| !session.is_established())?;
            }
            node.start_daemon()?;
            for address in node.addresses() {
                bird.until_established(*address)?;
            }
            for family in ["ipv4", "ipv6"] {
                node.says(&format!("BGP: the {family} routes of before the restart are known again"))?;
            }
        }
        // What comes and what goes is followed without etcd: BGP itself says so, however old the view of the disk is.
        let new = net("10.42.255.0/26");
        bird.configure(bird.settings().clone().announcing(Announcement::new(new)))?;
        leads_by(lab.node(1), new, &[host.address(false)])?;
        for probe in probes {
            probe.until_answered(100)?;
            probe.stop()?.expect_no_loss()?;
        }
        bird.configure(before)?;
        leads_by(lab.node(1), new, &[])?;
        bird.enable(lab.node(2).addresses()[0], false)?;
        leads_by(lab.node(1), far, &[])?;
        bird.enable(lab.node(2).addresses()[0], true)?;
        leads_by(lab.node(1), far, &[host.address(false)])?;
        lab.etcd().start()?;
        lab.converged()?;
        all_reach_all(&pods, &[false, true])
    });
}

#[test]
fn learned_routes_that_somebody_deletes_are_back_and_an_underlay_that_goes_comes_again() {
    with_routers(&bird::PROGRAMS, open_lab().nodes(2).backend(BGP), |lab| {
        let host = Host::on(lab, "tor", 1)?;
        let settings = Settings { kernel: true, ..announcing_external(Settings::new(TOR, [10, 0, 0, 1].into())) };
        let guarded = |neighbour| Neighbour { ttl_security: true, ..neighbour };
        let bird = Bird::start(&host, facing(lab, settings, guarded))?;
        let (beyond, pods) = (Beyond::behind(lab, &[&host])?, pods(lab)?);
        lab.apply_config(&(lab.cluster_config() + &peers("tor", &host, TOR, "connect_retry = 1\n")))?;
        let node = lab.node(1);
        let external_leads = |node: &Node| {
            EXTERNAL
                .map(net)
                .into_iter()
                .try_for_each(|prefix| leads_by(node, prefix, &[host.address(prefix.is_ipv6())]))
        };
        external_leads(node)?;
        for prefix in EXTERNAL {
            node.namespace().ip_batch(&format!("route del {prefix}\n"))?;
        }
        external_leads(node)?;
        // By another way, and with another metric beside it: the one is put right, the other is somebody else's.
        node.namespace().ip_batch(&format!(
            "route replace {external} via 192.168.77.1 metric 7777 proto 116\nroute add {external} via 192.168.77.1 metric 9\n",
            external = EXTERNAL[0]
        ))?;
        deadline::until_some("the route is put right", PATIENCE, || {
            let seen = node.routes(false, PROTOCOL_CLUSTER)?;
            let is_it = |route: &&serde_json::Value| route["dst"] == EXTERNAL[0];
            let hops: Vec<_> = seen.iter().filter(is_it).map(|route| route["gateway"].clone()).collect();
            Ok(if hops == [serde_json::json!(host.address(false).to_string())] { Ok(()) } else { Err(seen) })
        })?;
        external_leads(lab.node(2))?;
        node.namespace().ip_batch(&format!("route del {} metric 9\n", EXTERNAL[0]))?;
        beyond.and_pods_reach_each_other(&pods, &[false, true])?;

        // All routes by it go with the interface, and the addresses of IPv6. Somebody brings them back.
        node.namespace().ip_batch("link set eth0 down\n")?;
        bird.until_session(lab.node(2).addresses()[0], "up", &twill_tests::routers::Session::is_established)?;
        node.namespace().ip_batch(
            "link set eth0 up\naddr replace fd00:77::11/64 dev eth0 nodad\n\
             route replace 0.0.0.0/0 via 192.168.77.1 dev eth0\nroute replace ::/0 via fd00:77::1 dev eth0\n",
        )?;
        external_leads(node)?;
        lab.converged()?;
        for address in node.addresses() {
            bird.until_established(*address)?;
        }
        beyond.and_pods_reach_each_other(&pods, &[false, true])?;
        all_reach_all(&pods, &[false, true])
    });
}

#[test]
fn a_node_that_is_deleted_is_no_peer_any_more_and_one_that_joins_is() {
    twill_tests::with_lab(open_lab().nodes(3).backend(BGP), |lab| {
        let titles = |numbers: &[usize]| numbers.iter().map(|number| format!("node n{number}")).collect::<Vec<_>>();
        sessions_are_up(lab.node(1), &titles(&[2, 3]))?;
        lab.node(3).stop_daemon()?;
        lab.node(1).says("is down, its routes are kept until it is back")?;
        let gone = blocks_of(lab, "n3")?;
        assert!(lab.etcd().delete("alive/n3")?, "as after a minute");
        deadline::until_some("it can be deleted", PATIENCE, || {
            Ok(lab.node(1).twillctl(&["node", "delete", "n3", "--machine-is-off"]).map_err(|error| error.to_string()))
        })?;
        for node in &lab.nodes()[..2] {
            gone.iter().try_for_each(|block| leads_by(node, *block, &[]))?;
        }
        lab.join()?;
        let pods = [lab.node(1).attach("a")?, lab.node(2).attach("b")?, lab.node(4).attach("d")?];
        sessions_are_up(lab.node(4), &titles(&[1, 2]))?;
        lab.converged_among(&["n1", "n2", "n4"])?;
        all_reach_all(&pods, &[false, true])?;
        assert!(!lab.node(4).daemon_log().contains("the session with node n3"));
        Ok(())
    });
}

#[test]
fn a_node_whose_address_changes_has_sessions_by_the_new_one() {
    twill_tests::with_lab(open_lab().nodes(3).backend(BGP), |lab| {
        let (first, moved) = (lab.node(1), lab.node(2));
        let pods = pods(lab)?;
        all_reach_all(&pods, &[false, true])?;
        moved.namespace().ip_batch(
            "addr del 192.168.77.12/24 dev eth0\naddr add 192.168.77.22/24 dev eth0\n\
             route replace 0.0.0.0/0 via 192.168.77.1 dev eth0\n",
        )?;
        first.says("the session with node n2 (192.168.77.22) is up")?;
        lab.node(3).says("the session with node n2 (192.168.77.22) is up")?;
        let new = [192, 168, 77, 22].into();
        for block in blocks_of(lab, "n2")?.into_iter().filter(ipnetwork::IpNetwork::is_ipv4) {
            leads_by(first, block, &[new])?;
        }
        // One that was learned by the old one is no longer there, and nobody's session but those of that node has ended.
        all_reach_all(&pods, &[false, true])?;
        let log = first.daemon_log();
        assert!(
            !log.lines().any(|line| line.contains("the session with node n3") && line.contains(" is down")),
            "{log}"
        );
        Ok(())
    });
}

#[test]
fn pods_of_a_block_that_was_just_claimed_are_reached_at_once() {
    const PODS: usize = 12;
    let small = [PoolSpec::new("v4", "10.42.0.0/16", Some(31)).masqueraded(false).announced(true)];
    with_routers(&bird::PROGRAMS, apart::lab(2).underlay(Underlay::V4).pools(small), |lab| {
        let host = Host::on(lab, "between", 1)?;
        apart::separate(lab, &host)?;
        let _bird = Bird::start(&host, apart::reflecting(lab, |neighbour| neighbour))?;
        let config = lab.config_with("type = \"bgp\"\n[bgp]\nmesh = false\n");
        lab.apply_config(&(config + &bare_peer("rr", host.address(false), ASN, "")))?;
        apart::wake(lab)?;
        let from = lab.node(2).attach("from")?;
        let (mut pods, mut longest) = (Vec::new(), Duration::ZERO);
        for number in 0..PODS {
            let pod = lab.node(1).attach(&format!("pod{number}"))?;
            let (to, begin) = (pod.address(false)?.to_string(), std::time::Instant::now());
            deadline::until_some("it is reached", PATIENCE, || {
                let ping = ["ping", "-n", "-q", "-c", "1", "-W", "0.1", &to];
                Ok(from.namespace().run(&ping).map_err(|error| error.to_string()))
            })?;
            longest = longest.max(begin.elapsed());
            pods.push(pod);
        }
        let claimed = blocks_of(lab, "n1")?.len();
        println!("{PODS} pods in {claimed} blocks: reached after {longest:?} at most");
        assert!(claimed >= PODS / 2 && longest < Duration::from_secs(2), "{claimed} blocks, {longest:?}");
        Ok(())
    });
}
