//! A configuration that changes while sessions stand.

use std::time::Duration;

use twill_tests::deadline::{self, PATIENCE};
use twill_tests::probe::Probe;
use twill_tests::routers::{Announcement, Bird, Host, Neighbour, Route, Router, Settings, bird, with_routers};
use twill_tests::{Lab, Node, Result, Underlay};

use super::stage::*;

const TOR: u32 = 65001;
/// Announced by the router too.
const OTHER: &str = "192.0.2.0/24";

/// A node beside a router, with the tunnel to another one, whose pods lose no packet by anything that is done.
fn with_tor(scenario: impl FnOnce(&Lab, &Host, &mut Bird) -> Result<()>) {
    let lab = open_lab().nodes(2).underlay(Underlay::V4).backend(BESIDE_VXLAN);
    with_routers(&bird::PROGRAMS, lab, |lab| {
        let host = Host::on(lab, "tor", 1)?;
        let settings =
            announcing_external(Settings::new(TOR, [10, 0, 0, 1].into())).announcing(Announcement::new(net(OTHER)));
        let settings = Settings { kernel: true, ..settings };
        let mut bird =
            Bird::start(&host, facing(lab, settings, |neighbour| Neighbour { ttl_security: true, ..neighbour }))?;
        let pods = pods(lab)?;
        let to = pods[1].address(false)?;
        let probe = Probe::start(pods[0].namespace(), pods[1].namespace(), to, Duration::from_millis(1))?;
        scenario(lab, &host, &mut bird)?;
        probe.until_answered(100)?;
        probe.stop()?.expect_no_loss()
    });
}

fn apply(lab: &Lab, peers: &str) -> Result<()> {
    lab.apply_config(&(lab.cluster_config() + peers))
}

fn no_session_ended(lab: &Lab) {
    for node in lab.nodes() {
        assert_eq!(sessions_ended(node), 0, "{}", node.last_words(20));
    }
}

#[test]
fn filters_change_what_is_taken_and_told_and_no_session_ends() {
    with_tor(|lab, host, bird| {
        let (node, tor) = (lab.node(1), host.address(false));
        let with = |import: &str, export: &str| apply(lab, &bare_peer("tor", tor, TOR, &format!("{import}{export}")));
        apply(lab, &peer("tor", tor, TOR, ""))?;
        for node in lab.nodes() {
            bird.until_established(node.addresses()[0])?;
        }
        leads_by(node, net(EXTERNAL[0]), &[tor])?;
        let block = blocks_of(lab, "n1")?.into_iter().find(ipnetwork::IpNetwork::is_ipv4).expect("it has one");
        let until = |what: &str, is_so: &dyn Fn(&Route) -> bool| {
            bird.until_routes(block, what, &|routes| routes.iter().any(|route| route.best && is_so(route))).map(drop)
        };
        until("as they are", &|route| route.communities.is_empty() && route.as_path == [ASN])?;

        // What was refused before is taken, what was taken is refused; nothing needs to be sent again.
        let other = format!("[[bgp.peer.import]]\nprefixes = [\"{OTHER}\"]\naction = \"accept\"\n");
        with(&other, GIVES_ALL)?;
        leads_by(node, net(OTHER), &[tor])?;
        leads_by(node, net(EXTERNAL[0]), &[])?;
        with(
            TAKES_EXTERNAL,
            &format!("{GIVES_ALL}prepend = 2\ncommunities = [\"64512:5\", \"64512:1:2\"]\nmed = 9\n"),
        )?;
        leads_by(node, net(EXTERNAL[0]), &[tor])?;
        leads_by(node, net(OTHER), &[])?;
        until("with what was said", &|route| {
            (route.as_path.as_slice(), route.communities.as_slice(), route.med) == (&[ASN; 3], &[(64512, 5)], Some(9))
                && route.large_communities == [[64512, 1, 2]]
        })?;
        // Told nothing any more (RFC 8212), and nothing is taken.
        with("", "")?;
        bird.until_gone(block)?;
        leads_by(node, net(EXTERNAL[0]), &[])?;
        // One that is about to go says so (RFC 8326).
        with(TAKES_EXTERNAL, &format!("{GIVES_ALL}[[bgp.node]]\nnode = \"n1\"\nshutdown = true\n"))?;
        until("with GRACEFUL_SHUTDOWN", &|route| route.communities == [(65535, 0)])?;
        with(TAKES_EXTERNAL, GIVES_ALL)?;
        until("as they were", &|route| route.communities.is_empty())?;
        leads_by(node, net(EXTERNAL[0]), &[tor])?;
        // The router asks for all again (RFC 2918), which changes nothing.
        bird.refresh(node.addresses()[0])?;
        until("the same", &|route| route.as_path == [ASN])?;
        no_session_ended(lab);
        assert!(
            lab.nodes()
                .iter()
                .all(|node| bird.session(node.addresses()[0]).is_ok_and(|session| session.is_established()))
        );
        Ok(())
    });
}

#[test]
fn a_peer_that_goes_and_a_changed_hold_time_concern_one_session_and_without_bgp_nothing_is_left() {
    with_tor(|lab, host, bird| {
        let (node, tor) = (lab.node(1), host.address(false));
        let addresses: Vec<_> = lab.nodes().iter().map(|node| node.addresses()[0]).collect();
        let all = |keys: &str| peer("tor", tor, TOR, keys);
        apply(lab, &all(""))?;
        for node in lab.nodes() {
            leads_by(node, net(EXTERNAL[0]), &[tor])?;
        }
        // Of one node alone: the other one's session ends, with the reason.
        apply(lab, &all("node = \"n1\"\n"))?;
        let other = lab.node(2);
        leads_by(other, net(EXTERNAL[0]), &[])?;
        bird.until_session(addresses[1], "down", &|session| !session.is_established())?;
        assert!(bird.log().contains("Peer de-configured"), "{}", bird.log());
        assert_eq!(sessions_ended(node), 0, "{}", node.last_words(10));

        apply(lab, &all("node = \"n1\"\nhold_time = 30\n"))?;
        deadline::until("its session is another one", PATIENCE, || Ok(sessions_ended(node) == 1))?;
        deadline::until_some("the hold time is the new one", PATIENCE, || {
            let told = bird.birdc("show protocols all")?;
            let is_new = told.lines().any(|line| line.contains("Hold timer") && line.contains("/30"));
            Ok(if is_new { Ok(()) } else { Err(told) })
        })?;
        assert_eq!(bird.until_established(addresses[0])?.asn, ASN);
        leads_by(node, net(EXTERNAL[0]), &[tor])?;

        // The tunnel goes on without BGP.
        let without = lab.config_with("type = \"vxlan\"\n");
        lab.apply_config(&without)?;
        for node in lab.nodes() {
            node.says("BGP: this node speaks no more")?;
            leads_by(node, net(EXTERNAL[0]), &[])?;
            let heard = node.run(&["ss", "-Hltn", "sport", "=", ":179"])?;
            assert_eq!(heard, "", "nobody listens");
        }
        bird.until_session(addresses[0], "down", &|session| !session.is_established())?;
        for block in blocks_of(lab, "n1")?.into_iter().filter(ipnetwork::IpNetwork::is_ipv4) {
            bird.until_gone(block)?;
        }
        apply(lab, &all(""))?;
        lab.nodes().iter().try_for_each(|node: &Node| leads_by(node, net(EXTERNAL[0]), &[tor]))
    });
}
