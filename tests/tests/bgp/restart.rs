//! A daemon that ends and begins again, and a router that does, while packets go by routes that only BGP knows.

use std::time::Duration;

use ipnetwork::IpNetwork;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::probe::Probe;
use twill_tests::routers::{Bird, Host, Neighbour, Router, Settings, bird, with_routers};
use twill_tests::{Lab, Node, Pod, Result};

use super::apart::{self, Monitor};
use super::stage::*;

const MILLISECOND: Duration = Duration::from_millis(1);

/// Two nodes with a router between them, which reflects and names itself as the next hop.
struct Scene<'a> {
    lab: &'a Lab,
    bird: Bird,
    pods: Vec<Pod>,
    /// Of both nodes.
    blocks: Vec<IpNetwork>,
    host: Host,
    config: String,
}

/// With a router that restarts gracefully too.
fn with_scene(scenario: impl FnOnce(&mut Scene<'_>) -> Result<()>) {
    with_scene_of(|settings| Settings { restart: Some(60), ..settings }, false, scenario);
}

/// A router as it is where nobody has asked for graceful restart.
fn unasked(settings: Settings) -> Settings {
    Settings { aware: true, ..settings }
}

/// One that only hears, so that the nodes know of each other by their own sessions alone.
fn hearing(settings: Settings) -> Settings {
    let neighbours =
        settings.neighbours.into_iter().map(|neighbour| Neighbour { client: false, ..neighbour }).collect();
    unasked(Settings { neighbours, ..settings })
}

fn with_scene_of(change: fn(Settings) -> Settings, mesh: bool, scenario: impl FnOnce(&mut Scene<'_>) -> Result<()>) {
    with_routers(&bird::PROGRAMS, apart::lab(2), |lab| {
        let host = Host::on(lab, "between", 1)?;
        apart::separate(lab, &host)?;
        let settings = apart::reflecting(lab, |neighbour| Neighbour { next_hop_self: true, ..neighbour });
        let bird = Bird::start(&host, change(settings))?;
        let peers =
            host.addresses().iter().map(|address| bare_peer(&format!("r-{}", family(*address)), *address, ASN, ""));
        let config = lab.config_with(&format!("type = \"bgp\"\n[bgp]\nmesh = {mesh}\n")) + &peers.collect::<String>();
        lab.apply_config(&config)?;
        apart::wake(lab)?;
        all_sessions_stand(lab, &bird, "r")?;
        let pods = pods(lab)?;
        let blocks = [blocks_of(lab, "n1")?, blocks_of(lab, "n2")?].concat();
        let mut scene = Scene { lab, bird, pods, blocks, host, config };
        all_reach_all(&scene.pods, &[false, true])?;
        for block in blocks_of(lab, "n2")? {
            leads_by(lab.node(1), block, &[scene.host.address(block.is_ipv6())])?;
        }
        scenario(&mut scene)
    });
}

impl Scene<'_> {
    /// What is done costs no packet, and changes no route of a block on either node or on the router.
    fn losing_nothing(&mut self, what: &str, act: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let mut probes = Vec::new();
        for (from, to) in [(0, 1), (1, 0)] {
            for ipv6 in [false, true] {
                let (from, to) = (&self.pods[from], &self.pods[to]);
                probes.push(Probe::start(from.namespace(), to.namespace(), to.address(ipv6)?, MILLISECOND)?);
            }
        }
        probes.iter().try_for_each(|probe| probe.until_answered(100))?;
        let monitor = |namespace| Monitor::on(self.lab, namespace);
        let nodes = self.lab.nodes().iter().map(|node| monitor(node.namespace())).collect::<Result<Vec<_>>>()?;
        let router = monitor(self.host.namespace())?;
        act(self)?;
        probes.iter().try_for_each(|probe| probe.until_answered(1000))?;
        for node in &nodes {
            assert_eq!(node.changes(&self.blocks), [""; 0], "{what}");
        }
        // BIRD writes routes of IPv6 again that stand already.
        let mut changes = router.changes(&self.blocks);
        changes.retain(|line| line.starts_with("Deleted"));
        assert_eq!(changes, [""; 0], "{what}");
        for probe in probes {
            let report = probe.stop()?;
            println!("{what}: {} of {} lost", report.lost, report.sent);
            report.expect_no_loss()?;
        }
        Ok(())
    }

    /// Both nodes' daemons end and begin at once.
    fn restarts_both(&mut self, times: usize) -> Result<()> {
        self.losing_nothing("both stopped", |scene| {
            let nodes = scene.lab.nodes();
            nodes.iter().try_for_each(|node| node.stop_daemon().map(drop))?;
            nodes.iter().try_for_each(|node| scene.keeps_routes_of(node))?;
            nodes.iter().try_for_each(Node::start_daemon)?;
            nodes.iter().try_for_each(|node| scene.knows_again(node, times))
        })
    }

    /// The router has lost its sessions with a node, and kept its routes.
    fn keeps_routes_of(&self, node: &Node) -> Result<()> {
        for address in node.addresses() {
            self.bird.until_session(*address, "gone", &|session| !session.is_established())?;
        }
        for block in blocks_of(self.lab, node.name())? {
            assert_eq!(self.bird.routes(block)?.len(), 1, "{block} is kept");
        }
        Ok(())
    }

    /// A node's daemon has begun again, and knows all that it knew.
    fn knows_again(&self, node: &Node, times: usize) -> Result<()> {
        for family in ["ipv4", "ipv6"] {
            let words = format!("BGP: the {family} routes of before the restart are known again");
            deadline::until_some(&format!("{} says {words:?} for the {times}th time", node.name()), PATIENCE, || {
                let said = node.daemon_log().matches(&words).count();
                Ok(if said == times { Ok(()) } else { Err(node.last_words(10)) })
            })?;
        }
        for address in node.addresses() {
            self.bird.until_established(*address)?;
        }
        Ok(())
    }
}

#[test]
fn a_daemon_that_is_stopped_and_one_that_is_killed_lose_no_packet_and_no_route() {
    with_scene(|scene| {
        scene.losing_nothing("stopped", |scene| {
            let node = scene.lab.node(1);
            node.stop_daemon()?;
            scene.keeps_routes_of(node)?;
            node.start_daemon()?;
            scene.knows_again(node, 1)
        })?;
        scene.losing_nothing("killed", |scene| {
            let node = scene.lab.node(1);
            node.kill_daemon()?;
            scene.keeps_routes_of(node)?;
            node.start_daemon()?;
            scene.knows_again(node, 2)
        })?;
        scene.losing_nothing("both killed", |scene| {
            scene.lab.nodes().iter().try_for_each(Node::kill_daemon)?;
            scene.lab.nodes().iter().try_for_each(|node| scene.keeps_routes_of(node))?;
            scene.lab.nodes().iter().try_for_each(Node::start_daemon)?;
            scene.knows_again(scene.lab.node(1), 3)?;
            scene.knows_again(scene.lab.node(2), 1)
        })?;
        all_reach_all(&scene.pods, &[false, true])
    });
}

#[test]
fn with_a_router_that_nobody_asked_for_graceful_restart_nodes_that_restart_lose_no_packet_and_no_route() {
    with_scene_of(unasked, false, |scene| {
        for node in scene.lab.nodes() {
            scene.losing_nothing("stopped", |scene| {
                node.stop_daemon()?;
                scene.keeps_routes_of(node)?;
                node.start_daemon()?;
                scene.knows_again(node, 1)
            })?;
        }
        scene.restarts_both(2)?;
        all_reach_all(&scene.pods, &[false, true])
    });
}

#[test]
fn nodes_that_restart_at_once_and_know_of_each_other_by_nobody_else_lose_no_packet_and_no_route() {
    with_scene_of(hearing, true, |scene| {
        (1..=3).try_for_each(|times| scene.restarts_both(times))?;
        all_reach_all(&scene.pods, &[false, true])
    });
}

#[test]
fn a_router_that_restarts_gracefully_loses_no_packet_and_no_route() {
    with_scene(|scene| {
        scene.losing_nothing("the router restarts", |scene| {
            scene.bird.stop_gracefully()?;
            for node in scene.lab.nodes() {
                for family in [4, 6] {
                    let hop = scene.host.address(family == 6);
                    let title = format!("the session with BGP peer r-{family} ({hop})");
                    node.says(&format!("{title} is down, its routes are kept until it is back"))?;
                }
            }
            scene.bird.run(true)?;
            all_sessions_stand(scene.lab, &scene.bird, "r")?;
            scene.blocks.iter().try_for_each(|block| scene.bird.until_route(*block).map(drop))
        })?;
        all_reach_all(&scene.pods, &[false, true])
    });
}

#[test]
fn what_a_node_learned_and_nobody_says_again_goes_after_its_restart() {
    with_scene(|scene| {
        let node = scene.lab.node(1);
        let far = blocks_of(scene.lab, "n2")?;
        node.kill_daemon()?;
        // Meanwhile the other one is gone.
        for address in scene.lab.node(2).addresses() {
            scene.bird.enable(*address, false)?;
        }
        scene.lab.node(2).kill_daemon()?;
        node.start_daemon()?;
        scene.knows_again(node, 1)?;
        far.iter().try_for_each(|block| leads_by(node, *block, &[]))
    });
}

#[test]
fn a_peer_that_was_gone_before_a_restart_is_not_waited_for() {
    with_scene(|scene| {
        // Nobody is there; and another one has gone.
        let dead = bare_peer("dead", [192, 168, 77, 250].into(), 65009, GIVES_ALL);
        let config = scene.config.clone() + &dead;
        scene.lab.apply_config(&config)?;
        let node = scene.lab.node(1);
        node.says("BGP: this node speaks")?;
        scene.losing_nothing("killed beside a dead peer", |scene| {
            node.kill_daemon()?;
            scene.keeps_routes_of(node)?;
            node.start_daemon()?;
            scene.knows_again(node, 1)
        })?;
        // What comes and goes is followed at once.
        scene.bird.enable(scene.lab.node(2).addresses()[0], false)?;
        for block in blocks_of(scene.lab, "n2")?.into_iter().filter(IpNetwork::is_ipv4) {
            leads_by(node, block, &[])?;
        }
        Ok(())
    });
}
