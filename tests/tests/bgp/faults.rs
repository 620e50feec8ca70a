//! What goes wrong with routers, and what they should not say.

use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use nix::sys::signal::Signal;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::probe::Probe;
use twill_tests::routers::raw::{Introduction, message};
use twill_tests::routers::{Bird, Host, Neighbour, Raw, Router, Session, Settings, bird, with_routers};
use twill_tests::{Lab, Result, with_lab};

use super::stage::*;

const TOR: u32 = 65001;

/// A node with two routers to one place.
fn with_two(keys: &str, scenario: impl FnOnce(&Lab, &[Host; 2], &mut [Bird; 2], &Beyond) -> Result<()>) {
    with_routers(&bird::PROGRAMS, open_lab_v4().nodes(1).backend(BGP), |lab| {
        let hosts = [Host::on(lab, "one", 1)?, Host::on(lab, "two", 2)?];
        let start = |number: usize| {
            let id = [10, 0, 0, u8::try_from(number + 1).expect("a small number")].into();
            let settings = Settings { kernel: true, ..announcing_external(Settings::new(TOR, id)) };
            Bird::start(
                &hosts[number],
                facing(lab, settings, |neighbour| Neighbour { ttl_security: true, ..neighbour }),
            )
        };
        let mut routers = [start(0)?, start(1)?];
        let beyond = Beyond::behind(lab, &[&hosts[0], &hosts[1]])?;
        beyond.sends_by(&[1])?;
        let config = lab.cluster_config() + &peers("one", &hosts[0], TOR, keys) + &peers("two", &hosts[1], TOR, keys);
        lab.apply_config(&config)?;
        leads_by(lab.node(1), net(EXTERNAL[0]), &hosts.each_ref().map(|host| host.address(false)))?;
        scenario(lab, &hosts, &mut routers, &beyond)
    });
}

#[test]
fn a_router_that_falls_silent_is_left_when_the_hold_time_is_over_and_used_when_it_speaks_again() {
    with_two("hold_time = 3\n", |lab, hosts, routers, beyond| {
        let (node, pod) = (lab.node(1), lab.node(1).attach("pod")?);
        let probe = Probe::start(pod.namespace(), beyond.namespace(), beyond.address(false), Duration::from_millis(1))?;
        probe.until_answered(100)?;
        // Its kernel goes on.
        routers[0].signal(Signal::SIGSTOP)?;
        leads_by(node, net(EXTERNAL[0]), &[hosts[1].address(false)])?;
        node.says("is down: sent: hold timer expired")?;
        routers[0].signal(Signal::SIGCONT)?;
        leads_by(node, net(EXTERNAL[0]), &hosts.each_ref().map(|host| host.address(false)))?;
        probe.until_answered(100)?;
        assert_eq!(sessions_ended(node), 1, "that with the other one stands: {}", node.last_words(10));
        probe.stop()?.expect_no_loss()
    });
}

#[test]
fn a_router_that_flaps_costs_nothing_but_its_own_way() {
    with_two("connect_retry = 1\n", |lab, hosts, routers, beyond| {
        let (node, pod) = (lab.node(1), lab.node(1).attach("pod")?);
        let address = node.addresses()[0];
        let probe = Probe::start(pod.namespace(), beyond.namespace(), beyond.address(false), Duration::from_millis(1))?;
        probe.until_answered(100)?;
        // Each time it waits longer before it tries again.
        for time in 1..=2 {
            routers[0].reset(address)?;
            deadline::until("the node has lost it", PATIENCE, || Ok(sessions_ended(node) == time))?;
            routers[0].until_session(address, "up again", &Session::is_established)?;
            leads_by(node, net(EXTERNAL[0]), &hosts.each_ref().map(|host| host.address(false)))?;
        }
        // One that is killed and comes again, without a word.
        routers[0].kill()?;
        leads_by(node, net(EXTERNAL[0]), &[hosts[1].address(false)])?;
        routers[0].run(false)?;
        leads_by(node, net(EXTERNAL[0]), &hosts.each_ref().map(|host| host.address(false)))?;
        probe.until_answered(100)?;
        let log = node.daemon_log();
        assert!(!log.lines().any(|line| line.contains("BGP peer two-4") && line.contains(" is down")), "{log}");
        probe.stop()?.expect_no_loss()
    });
}

#[test]
fn what_a_router_should_not_say_is_not_taken_whatever_the_filter_lets_in() {
    with_lab(open_lab_v4().nodes(2).backend(BGP), |lab| {
        let host = Host::on(lab, "liar", 1)?;
        let IpAddr::V4(hop) = host.address(false) else { unreachable!("the wire has IPv4 alone") };
        let keys = "gtsm = false\npassive = true\n[[bgp.peer.import]]\naction = \"accept\"\n";
        let config = lab.cluster_config() + &bare_peer("liar", hop.into(), TOR, &format!("{keys}{GIVES_ALL}"));
        lab.apply_config(&config)?;
        let (node, pods) = (lab.node(1), pods(lab)?);
        let probe =
            Probe::start(pods[0].namespace(), pods[1].namespace(), pods[1].address(false)?, Duration::from_millis(1))?;
        let raw = Raw::dial(&host, node.addresses()[0], &Introduction::new(TOR, [10, 0, 0, 1].into()))?;
        let say = |prefix: IpNetwork, path: &[u32]| {
            raw.send(&message::update(&[], &message::mandatory(path, hop), &[prefix]))
        };
        let v4 = |name: &str| -> Result<IpNetwork> {
            let mut blocks = blocks_of(lab, name)?.into_iter().filter(IpNetwork::is_ipv4);
            Ok(blocks.next().expect("each node has a block"))
        };
        let (own, others) = (v4("n1")?, v4("n2")?);
        let single = |address: IpAddr| IpNetwork::from(address);
        let half = |block: IpNetwork| IpNetwork::new(block.ip(), block.prefix() + 1).expect("half of it");
        let lies = [
            ("a default route", net("0.0.0.0/0"), vec![TOR]),
            ("the own block", own, vec![TOR]),
            ("an address of an own pod", single(pods[0].address(false)?), vec![TOR]),
            ("an address of another node's pod", single(pods[1].address(false)?), vec![TOR]),
            ("half of another node's block", half(others), vec![TOR]),
            ("a loop", net("198.51.100.0/24"), vec![TOR, ASN, 7]),
        ];
        let gateway: Vec<_> = gateways(node, others)?;
        for (_, prefix, path) in &lies {
            say(*prefix, path)?;
        }
        say(net("203.0.113.0/24"), &[TOR, 7])?;
        leads_by(node, net("203.0.113.0/24"), &[hop.into()])?;
        for (what, prefix, _) in &lies {
            assert_eq!(gateways(node, *prefix)?, [""; 0], "{what}: {prefix}");
        }
        let default = node.run(&["ip", "route", "show", "default"])?;
        assert!(default.contains("192.168.77.1 ") && default.lines().count() == 1, "{default}");
        assert_eq!(gateways(node, others)?, gateway, "the way to the other node");
        probe.until_answered(100)?;
        assert_eq!((raw.end(), sessions_ended(node)), (None, 0));

        // It is taken where a rule names it; the node's own default route, of a lower metric, goes on being the kernel's.
        let named = keys.replace("[[bgp.peer.import]]\n", "[[bgp.peer.import]]\nprefixes = [\"0.0.0.0/0\"]\n");
        lab.apply_config(&config.replace(keys, &named))?;
        leads_by(node, net("0.0.0.0/0"), &[hop.into()])?;
        assert_eq!((raw.end(), sessions_ended(node)), (None, 0));
        probe.until_answered(100)?;
        probe.stop()?.expect_no_loss()
    });
}
