//! Routers of other makes at the top of the rack, external to the nodes.

use std::net::IpAddr;

use twill_tests::deadline::{self, PATIENCE};
use twill_tests::routers::{Announcement, Bird, Gobgp, Host, Neighbour, Router, Settings, bird, gobgp, with_routers};
use twill_tests::witness::Witness;
use twill_tests::{Lab, Result};

use super::stage::*;

/// The AS of the router.
const TOR: u32 = 65001;
/// Announced by the router, and not among what the nodes take.
const UNWANTED: &str = "192.0.2.0/24";

fn settings() -> Settings {
    announcing_external(Settings::new(TOR, [10, 0, 0, 1].into())).announcing(Announcement::new(net(UNWANTED)))
}

fn guarded(neighbour: Neighbour) -> Neighbour {
    Neighbour { password: Some(PASSWORD.into()), ttl_security: true, ..neighbour }
}

/// What the router and the nodes have of each other, with pods that reach what lies beyond. `program` makes the router's kernel follow.
fn speak(lab: &Lab, backend: &str, host: &Host, router: &dyn Router, program: &dyn Fn() -> Result<()>) -> Result<()> {
    let (beyond, pods) = (Beyond::behind(lab, &[host])?, pods(lab)?);
    let keys = with_password(lab, PASSWORD)?;
    let with_peers = |config: &str| format!("{config}{}", peers("tor", host, TOR, &keys));
    let config = with_peers(&lab.config_with(backend));
    lab.apply_config(&config)?;
    all_sessions_stand(lab, router, "tor")?;
    for node in lab.nodes() {
        for (block, route) in knows_blocks(lab, router, node)? {
            let hop = node.addresses().iter().find(|address| address.is_ipv6() == block.is_ipv6());
            let seen = (route.next_hop, route.from, route.as_path, route.local_pref.unwrap_or(100));
            assert_eq!(seen, (hop.copied(), hop.copied(), vec![ASN], 100), "{block}");
        }
        for prefix in EXTERNAL.map(net) {
            leads_by(node, prefix, &[host.address(prefix.is_ipv6())])?;
        }
        assert_eq!(gateways(node, net(UNWANTED))?, [""; 0]);
    }
    program()?;
    beyond.and_pods_reach_each_other(&pods, &[false, true])?;
    all_reach_all(&pods, &[false, true])?;
    for ipv6 in [false, true] {
        let witness = Witness::listen(beyond.namespace(), beyond.address(ipv6))?;
        assert_eq!(witness.sees(pods[0].namespace())?, pods[0].address(ipv6)?, "by its own address");
    }

    // A pool that is not announced any more is taken back, and no session minds.
    let hidden = config.replacen("announce = true\n", "", 1);
    lab.apply_config(&hidden)?;
    for block in blocks_of(lab, "n1")? {
        if block.is_ipv4() { router.until_gone(block)? } else { router.until_route(block).map(drop)? }
    }
    all_reach_all(&pods, &[false, true])?;
    lab.apply_config(&config)?;
    knows_blocks(lab, router, lab.node(1))?;
    for node in lab.nodes() {
        assert_eq!(sessions_ended(node), 0, "{}", node.last_words(20));
    }
    Ok(())
}

fn with_bird(backend: &str) {
    with_routers(&bird::PROGRAMS, open_lab().nodes(2).backend(backend), |lab| {
        let host = Host::on(lab, "tor", 1)?;
        let bird = Bird::start(&host, facing(lab, Settings { kernel: true, ..settings() }, guarded))?;
        speak(lab, backend, &host, &bird, &|| Ok(()))
    });
}

#[test]
fn bird_at_the_top_of_the_rack_beside_vxlan() {
    with_bird(BESIDE_VXLAN);
}

#[test]
fn bird_at_the_top_of_the_rack_under_bgp() {
    with_bird(BGP);
}

#[test]
fn gobgp_at_the_top_of_the_rack_keeps_the_routes_of_a_daemon_that_restarts() {
    with_routers(&gobgp::PROGRAMS, open_lab().nodes(2).backend(BGP), |lab| {
        let host = Host::on(lab, "tor", 1)?;
        let settings = Settings { restart: Some(60), ..settings() };
        let gobgp = Gobgp::start(&host, facing(lab, settings, guarded))?;
        let blocks = [blocks_of(lab, "n1")?, blocks_of(lab, "n2")?].concat();
        speak(lab, BGP, &host, &gobgp, &|| install(&gobgp, &host, &blocks))?;

        let (node, address) = (lab.node(1), lab.node(1).addresses()[0]);
        let own = blocks_of(lab, "n1")?;
        node.kill_daemon()?;
        gobgp.until_session(address, "gone", &|session| !session.is_established())?;
        for block in &own {
            assert_eq!(gobgp.routes(*block)?.len(), 1, "{block} is kept");
        }
        for prefix in EXTERNAL.map(net) {
            assert_eq!(gateways(node, prefix)?, [host.address(prefix.is_ipv6()).to_string()]);
        }
        node.start_daemon()?;
        for address in node.addresses() {
            gobgp.until_established(*address)?;
        }
        knows_blocks(lab, &gobgp, node).map(drop)
    });
}

/// How many segments a node has dropped for their signature.
fn dropped(lab: &Lab) -> Result<u64> {
    let counters = ["TcpExtTCPMD5Failure", "TcpExtTCPMD5Unexpected", "TcpExtTCPMD5NotFound"];
    let told = lab.node(1).run(&[&["nstat", "-asz"], counters.as_slice()].concat())?;
    let counted = told.lines().filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    Ok(counted.sum())
}

/// A node and a router whose passwords differ, with the address of the router and of the node.
fn with_differing_passwords(scenario: impl FnOnce(&mut Lab, &mut Bird, [IpAddr; 2]) -> Result<()>) {
    with_routers(&bird::PROGRAMS, open_lab().nodes(1).backend(BGP), |lab| {
        let host = Host::on(lab, "tor", 1)?;
        let (tor, node) = (host.address(false), lab.node(1).addresses()[0]);
        let wrong = Neighbour { password: Some("another one".into()), ..Neighbour::new(node, ASN) };
        let mut bird = Bird::start(&host, settings().with(Neighbour { ttl_security: true, ..wrong }))?;
        let keys = with_password(lab, PASSWORD)?;
        lab.apply_config(&(lab.cluster_config() + &peer("tor", tor, TOR, &keys)))?;
        scenario(lab, &mut bird, [tor, node])
    });
}

#[test]
fn a_wrong_password_lets_no_session_stand_and_a_missing_one_is_told() {
    with_differing_passwords(|lab, bird, [tor, address]| {
        deadline::until("both have tried", PATIENCE, || Ok(dropped(lab)? >= 3))?;
        assert!(!bird.session(address)?.is_established());
        assert!(!lab.node(1).daemon_log().contains("the session with BGP peer tor"));

        // The file is read again, and at once where the configuration changes.
        let file = lab.directory().join("password");
        std::fs::remove_file(&file).map_err(twill_tests::LabError::io("removing the password"))?;
        let keys = format!("password_file = {file:?}\nhold_time = 30\n");
        lab.apply_config(&(lab.cluster_config() + &peer("tor", tor, TOR, &keys)))?;
        status_says(lab.node(1), "sessions go on with the password that it had")?;
        with_password(lab, "another one")?;
        bird.until_established(address)?;
        status_has_no(lab.node(1), "the password that it had")?;

        // Another password is another session.
        let right = Neighbour { password: Some(PASSWORD.into()), ttl_security: true, ..Neighbour::new(address, ASN) };
        bird.configure(settings().with(right))?;
        bird.until_session(address, "down", &|session| !session.is_established())?;
        with_password(lab, PASSWORD)?;
        bird.until_established(address).map(drop)
    });
}

#[test]
#[ignore = "an operator is told after a minute"]
fn a_session_that_is_not_up_for_a_minute_is_told_with_what_to_look_at() {
    with_differing_passwords(|lab, bird, [tor, address]| {
        let wanted = format!("the BGP session with BGP peer tor ({tor}) is not up");
        deadline::until_some("it is told", 5 * PATIENCE, || {
            let told = status(lab.node(1))?;
            Ok(if told.contains(&wanted) && told.contains("password") { Ok(()) } else { Err(told) })
        })?;
        let right = Neighbour { password: Some(PASSWORD.into()), ttl_security: true, ..Neighbour::new(address, ASN) };
        bird.configure(settings().with(right))?;
        bird.until_established(address)?;
        status_has_no(lab.node(1), &wanted)
    });
}
