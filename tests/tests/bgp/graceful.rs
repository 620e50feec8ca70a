//! Graceful restart (RFC 4724) beyond the usual: who comes back late or never, who does not want it, and GoBGP on either side.

use std::time::Duration;

use ipnetwork::IpNetwork;
use twill_tests::probe::Probe;
use twill_tests::routers::{Bird, Gobgp, Host, Neighbour, Router, Settings, bird, gobgp, with_routers};
use twill_tests::{Lab, Result, Underlay};

use super::stage::*;

const TOR: u32 = 65001;
const MILLISECOND: Duration = Duration::from_millis(1);

fn settings(restart: u16) -> Settings {
    Settings { restart: Some(restart), ..announcing_external(Settings::new(TOR, [10, 0, 0, 1].into())) }
}

fn guarded(neighbour: Neighbour) -> Neighbour {
    Neighbour { ttl_security: true, ..neighbour }
}

fn block(lab: &Lab) -> Result<IpNetwork> {
    let mut blocks = blocks_of(lab, "n1")?.into_iter().filter(IpNetwork::is_ipv4);
    Ok(blocks.next().expect("it has one"))
}

#[test]
fn who_stays_away_longer_than_it_asked_for_is_forgotten_and_known_again_when_it_comes() {
    let lab = open_lab().nodes(1).underlay(Underlay::V4);
    with_routers(&bird::PROGRAMS, lab.backend("type = \"bgp\"\n[bgp]\ngraceful_restart = { time = 3 }\n"), |lab| {
        let host = Host::on(lab, "tor", 1)?;
        let (node, tor) = (lab.node(1), host.address(false));
        let mut bird = Bird::start(&host, facing(lab, settings(60), guarded))?;
        lab.apply_config(&(lab.cluster_config() + &peer("tor", tor, TOR, "connect_retry = 1\n")))?;
        let (external, block, address) = (net(EXTERNAL[0]), block(lab)?, node.addresses()[0]);
        leads_by(node, external, &[tor])?;
        bird.until_route(block)?;

        // The node is away for too long. Its kernel goes on all the same.
        node.kill_daemon()?;
        bird.until_session(address, "gone", &|session| !session.is_established())?;
        assert_eq!(bird.routes(block)?.len(), 1, "it is kept for three seconds");
        bird.until_gone(block)?;
        assert_eq!(gateways(node, external)?, [tor.to_string()]);
        node.start_daemon()?;
        bird.until_route(block)?;
        leads_by(node, external, &[tor])?;

        // The router is, which would like more than the node gives it.
        bird.kill()?;
        node.says("is down, its routes are kept until it is back: the connection was lost")?;
        assert_eq!(gateways(node, external)?, [tor.to_string()]);
        node.says(&format!("BGP: BGP peer tor ({tor}) has not come back in time: its routes are gone"))?;
        leads_by(node, external, &[])?;
        bird.run(false)?;
        leads_by(node, external, &[tor])?;
        bird.until_route(block)?;

        // One that comes back with fewer routes has these.
        bird.stop_gracefully()?;
        let fewer = Settings { announced: bird.settings().announced[1..].to_vec(), ..bird.settings().clone() };
        bird = Bird::start(&host, fewer)?;
        bird.until_established(address)?;
        leads_by(node, external, &[])
    });
}

#[test]
fn without_graceful_restart_a_node_that_ends_says_so_and_its_routes_go_at_once() {
    let lab = open_lab().nodes(1).underlay(Underlay::V4);
    with_routers(&bird::PROGRAMS, lab.backend("type = \"bgp\"\n[bgp]\ngraceful_restart = false\n"), |lab| {
        let host = Host::on(lab, "tor", 1)?;
        let (node, tor) = (lab.node(1), host.address(false));
        let bird = Bird::start(&host, facing(lab, settings(60), guarded))?;
        lab.apply_config(&(lab.cluster_config() + &peer("tor", tor, TOR, "")))?;
        let (external, block) = (net(EXTERNAL[0]), block(lab)?);
        leads_by(node, external, &[tor])?;
        bird.until_route(block)?;
        assert_eq!(node.stop_daemon()?.and_then(|status| status.code()), Some(0));
        bird.until_gone(block)?;
        let told = bird.log();
        assert!(told.contains("Administrative shutdown") && told.contains("twilld ends"), "{told}");
        // What stands in the kernel goes on, and is looked at by the next one.
        assert_eq!(gateways(node, external)?, [tor.to_string()]);
        node.start_daemon()?;
        bird.until_route(block)?;
        leads_by(node, external, &[tor])
    });
}

#[test]
fn gobgp_and_a_node_restart_one_after_the_other_and_no_packet_is_lost() {
    with_routers(&gobgp::PROGRAMS, open_lab().nodes(1).backend(BGP), |lab| {
        let host = Host::on(lab, "tor", 1)?;
        let node = lab.node(1);
        let mut gobgp = Gobgp::start(&host, facing(lab, settings(60), guarded))?;
        let (beyond, pod) = (Beyond::behind(lab, &[&host])?, node.attach("pod")?);
        lab.apply_config(&(lab.cluster_config() + &peers("tor", &host, TOR, "connect_retry = 1\n")))?;
        let blocks = blocks_of(lab, "n1")?;
        install(&gobgp, &host, &blocks)?;
        for prefix in EXTERNAL.map(net) {
            leads_by(node, prefix, &[host.address(prefix.is_ipv6())])?;
        }
        let start = |target| Probe::start(pod.namespace(), beyond.namespace(), target, MILLISECOND);
        let probes = beyond.addresses().into_iter().map(start).collect::<Result<Vec<_>>>()?;
        let stand = || -> Result<()> {
            for address in node.addresses() {
                gobgp.until_established(*address)?;
            }
            blocks.iter().try_for_each(|block| gobgp.until_route(*block).map(drop))
        };
        node.stop_daemon()?;
        probes.iter().try_for_each(|probe| probe.until_answered(200))?;
        node.start_daemon()?;
        stand()?;
        probes.iter().try_for_each(|probe| probe.until_answered(200))?;
        gobgp.kill()?;
        for address in host.addresses() {
            let title = format!("the session with BGP peer tor-{} ({address})", family(*address));
            node.says(&format!("{title} is down, its routes are kept until it is back"))?;
        }
        probes.iter().try_for_each(|probe| probe.until_answered(200))?;
        probes.into_iter().try_for_each(|probe| probe.stop()?.expect_no_loss())?;
        // It is given what it announces when it runs, which may be after it has said that it has said all.
        gobgp.run(true)?;
        for address in node.addresses() {
            gobgp.until_established(*address)?;
        }
        blocks.iter().try_for_each(|block| gobgp.until_route(*block).map(drop))?;
        for prefix in EXTERNAL.map(net) {
            leads_by(node, prefix, &[host.address(prefix.is_ipv6())])?;
        }
        Ok(())
    });
}
