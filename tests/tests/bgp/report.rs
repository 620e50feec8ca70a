//! What `twillctl bgp` says of the speakers, and what it says where there is nothing to say.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};
use twill_testkit::commands_of;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::golden::is_golden;
use twill_tests::routers::{Announcement, Bird, Host, Neighbour, Settings, bird, with_routers};
use twill_tests::{Lab, LabError, Node, Result, with_lab};

use super::stage::{BGP, blocks_of, net, open_lab_v4, sessions_are_up};

/// The AS of the router.
const ASN: u32 = 65001;

/// What a command prints, which must end with this status.
fn told(node: &Node, arguments: &[&str], status: i32) -> Result<String> {
    let told = node.twillctl_told(&[&["bgp"], arguments].concat())?;
    assert_eq!(told.status, Some(status), "{arguments:?}: {told:?}");
    Ok(told.stdout + &told.stderr)
}

fn json(node: &Node, arguments: &[&str], status: i32) -> Result<Value> {
    let printed = told(node, &[arguments, &["-o", "json"]].concat(), status)?;
    serde_json::from_str(&printed).map_err(|_| LabError::wrong(format!("{arguments:?}: {printed}")))
}

/// A router on the nodes' link.
fn peer(name: &str, address: IpAddr) -> String {
    format!("[[bgp.peer]]\nname = \"{name}\"\naddress = \"{address}\"\nas = {ASN}\ngtsm = false\nconnect_retry = 1\n")
}

/// A rule of the peer before it.
fn accepting(prefix: &str) -> String {
    format!("[[bgp.peer.import]]\nprefixes = [\"{prefix}\"]\naction = \"accept\"\n")
}

/// Until a command prints these words.
fn comes_to_tell(node: &Node, arguments: &[&str], words: &str) -> Result<String> {
    deadline::until_some(&format!("{arguments:?} tells {words:?}"), PATIENCE, || {
        let told = node.twillctl_told(&[&["bgp"], arguments].concat())?;
        Ok(if told.stdout.contains(words) { Ok(told.stdout) } else { Err(told) })
    })
}

#[test]
fn the_speakers_of_a_mesh_tell_their_sessions_their_routes_and_why() {
    with_lab(Lab::builder().nodes(2).backend(BGP), |lab| {
        let (one, two) = (lab.node(1), lab.node(2));
        sessions_are_up(one, &["node n2".to_owned()])?;
        sessions_are_up(two, &["node n1".to_owned()])?;
        lab.converged()?;
        let all = told(two, &["peers"], 0)?;
        assert!(all.ends_with("\n2 of 2 nodes answered: 2 of 2 sessions up\n\nno problems\n"), "{all}");
        is_golden("bgp", "peers", &all);
        assert_eq!(json(two, &["peers", "--down"], 0)?["peers"], json!([]));
        let of_one = json(two, &["peers", "--node", "n1"], 0)?;
        let peer = &of_one["peers"][0]["peer"];
        let address = two.addresses()[0].to_string();
        assert_eq!((&peer["node"], &peer["address"], &peer["asn"]), (&json!("n2"), &json!(address), &json!(64512)));
        assert_eq!((&peer["state"], &peer["relation"]), (&json!("Established"), &json!("internal")));
        let counts = json!({"received": 1, "accepted": 1, "sent": 1});
        assert_eq!((&peer["ipv4"], &peer["ipv6"]), (&counts, &counts), "{of_one}");

        let routes = json(two, &["routes", "--node", "n1"], 0)?;
        let told_of: Vec<_> = routes["routes"].as_array().into_iter().flatten().collect();
        assert_eq!(told_of.len(), 4, "{routes}");
        for block in blocks_of(lab, "n2")? {
            let prefix = block.to_string();
            let route = told_of.iter().find(|route| route["prefix"] == prefix.as_str()).expect("it was learned");
            let by = two.addresses().iter().find(|address| address.is_ipv6() == block.is_ipv6()).expect("it has both");
            assert_eq!((&route["used"][0]["from"]["node"], &route["used"][0]["next_hop"]), (&json!("n2"), &json!(by)));
            assert_eq!(json(two, &["routes", "--node", "n1", &prefix, "--peer", "n2"], 0)?["routes"], json!([route]));
            let family = if block.is_ipv6() { "ipv6" } else { "ipv4" };
            is_golden("bgp", &format!("routes-{family}"), &told(two, &["routes", "--node", "n1", &prefix], 0)?);
            let explained = told(two, &["explain", &block.ip().to_string(), "--node", "n1"], 0)?;
            is_golden("bgp", &format!("explain-{family}"), &explained);
            let first =
                format!("Node n1 has 1 route to {prefix}, which covers {}:\n  from node n2 ({address})", block.ip());
            assert!(explained.starts_with(&first), "{explained}");
            assert!(explained.contains("    best: it is used\n"), "{explained}");
            let back = format!("  node n2 ({address}): not told: the peer itself announced it\n");
            assert!(explained.ends_with(&back), "{explained}");
        }
        for block in blocks_of(lab, "n1")? {
            let explained = json(two, &["explain", &block.to_string(), "--node", "n1"], 0)?;
            assert_eq!(
                (&explained["routes"][0]["outcome"], &explained["routes"][0]["from"]),
                (&json!("best"), &Value::Null)
            );
            assert_eq!(explained["told"][0]["told"]["local_pref"], 100, "{explained}");
        }
        let peer_s = blocks_of(lab, "n2")?[0].ip().to_string();
        let variables = [("NODE", "n1"), ("PEER", "n2"), ("ADDRESS", peer_s.as_str())];
        let shown = two.run_script(&commands_of("bgp.md", "look"), &variables)?;
        assert!(shown.matches("best: it is used").count() == 1 && shown.matches("NEXT HOP").count() == 3, "{shown}");
        Ok(())
    });
}

#[test]
fn who_asks_for_what_is_not_there_is_told_what_is() {
    with_lab(Lab::builder().nodes(1).backend(BGP), |lab| {
        let one = lab.node(1);
        lab.converged()?;
        let nobody = told(one, &["routes", "--node", "n9"], 1)?;
        assert!(nobody.contains("there is no node n9: 'twillctl node list' shows those that there are"), "{nobody}");
        told(one, &["peers", "--node", "n9"], 1)?;
        told(one, &["explain", "10.42.0.0/16", "--node", "n9"], 1)?;
        let nowhere = told(one, &["explain", "192.0.2.1", "--node", "n1"], 1)?;
        assert!(
            nowhere.starts_with("node n1 has no route that covers 192.0.2.1: no peer has announced one"),
            "{nowhere}"
        );
        let stranger = told(one, &["routes", "--node", "n1", "--peer", "tor"], 1)?;
        assert!(stranger.contains("node n1: it has no BGP peer \"tor\": it has none\n"), "{stranger}");

        lab.apply_config(&lab.config_with("type = \"host-gw\"\n"))?;
        let absent =
            "the cluster's configuration has neither [bgp] nor [backend] type = \"bgp\" ('twillctl config show')\n";
        let all = told(one, &["peers"], 1)?;
        assert!(all.ends_with(&format!("no node speaks BGP: {absent}")), "{all}");
        deadline::until("it speaks no more", PATIENCE, || {
            let told = one.twillctl_told(&["bgp", "routes", "--node", "n1"])?;
            Ok(told.status == Some(1) && told.stderr.ends_with(&format!("it does not speak BGP: {absent}")))
        })?;
        one.kill_daemon()?;
        let silent = told(one, &["peers", "--node", "n1", "--timeout", "1"], 2)?;
        assert!(silent.contains("node n1: no answer within 1 s; try again, with a longer --timeout; "), "{silent}");
        Ok(())
    });
}

#[test]
fn a_router_that_is_not_spoken_with_is_a_problem_with_its_cause() {
    with_routers(&bird::PROGRAMS, open_lab_v4().nodes(1).backend(BGP), |lab| {
        let (one, tor) = (lab.node(1), Host::on(lab, "tor", 1)?);
        let address = tor.address(false);
        lab.apply_config(&lab.config_with(&(BGP.to_owned() + &peer("tor", address))))?;
        let refused = comes_to_tell(one, &["peers"], "Connection refused")?;
        assert!(refused.contains("1 of 1 node answered: 0 of 1 session up\n"), "{refused}");
        let problem = format!("PROBLEM node n1: the BGP session with peer tor ({address}) is not up: ");
        let cause = format!("{problem}no connection to {address} port 179: Connection refused");
        assert!(refused.contains(&cause) && refused.contains("    fix: look whether it is on"), "{refused}");
        let down = json(one, &["peers", "--down"], 1)?;
        assert_eq!((&down["peers"][0]["peer"]["router"], &down["up"]), (&json!("tor"), &json!(0)), "{down}");

        let stranger =
            Settings::new(ASN + 1, Ipv4Addr::new(10, 0, 0, 1)).with(Neighbour::new(one.addresses()[0], 64512));
        let mut bird = Bird::start(&tor, stranger)?;
        let wrong = comes_to_tell(one, &["peers"], &format!("{problem}this node has ended it: bad peer AS (2/2)\n"))?;
        assert!(wrong.contains(&format!("{ASN} is expected\n")), "{wrong}");
        bird.stop()
    });
}

#[test]
fn what_became_of_each_route_is_explained() {
    with_routers(&bird::PROGRAMS, open_lab_v4().nodes(1).backend(BGP), |lab| {
        let one = lab.node(1);
        let (a, b) = (Host::on(lab, "tor-a", 1)?, Host::on(lab, "tor-b", 2)?);
        let (equal, worse) = (accepting("198.51.100.0/24"), accepting("203.0.113.0/24"));
        let of_a = peer("tor-a", a.address(false)) + &equal + &worse;
        let of_b = peer("tor-b", b.address(false)) + &equal + &worse + "local_pref = 50\n";
        lab.apply_config(&lab.config_with(&(BGP.to_owned() + &of_a + &of_b)))?;
        let settings = |number: u8| {
            let settings = Settings::new(ASN, Ipv4Addr::new(10, 0, 0, number));
            let prefixes = ["198.51.100.0/24", "203.0.113.0/24", "192.0.2.0/24"].map(net);
            let announcing = |settings: Settings, prefix| settings.announcing(Announcement::new(prefix));
            prefixes.into_iter().fold(settings, announcing).with(Neighbour::new(one.addresses()[0], 64512))
        };
        let _routers = [Bird::start(&a, settings(1))?, Bird::start(&b, settings(2))?];
        comes_to_tell(one, &["peers"], "2 of 2 sessions up")?;
        deadline::until("all is learned", PATIENCE, || {
            let peers = json(one, &["peers"], 0)?;
            let counts = |at: usize| peers["peers"][at]["peer"]["ipv4"].clone();
            let all = json!({ "received": 3, "accepted": 2, "sent": 0 });
            Ok([counts(0), counts(1)] == [all.clone(), all])
        })?;

        let (tor_a, tor_b) = (format!("tor-a ({})", a.address(false)), format!("tor-b ({})", b.address(false)));
        let both = json(one, &["routes", "--node", "n1", "198.51.100.0/24"], 0)?;
        let by: Vec<_> =
            both["routes"][0]["used"].as_array().into_iter().flatten().map(|way| &way["next_hop"]).collect();
        assert_eq!(by, [&json!(a.address(false)), &json!(b.address(false))], "{both}");
        let explained = told(one, &["explain", "198.51.100.7", "--node", "n1"], 0)?;
        for line in [
            "Node n1 has 2 routes to 198.51.100.0/24, which covers 198.51.100.7:\n".to_owned(),
            format!("  from peer {tor_a}, next hop {}, AS path {ASN}\n    best: it is used\n", a.address(false)),
            "    also used: as good as the best one\n".to_owned(),
            format!("  peer {tor_a}: not told: the peer itself announced it\n"),
        ] {
            assert!(explained.contains(&line), "{line}{explained}");
        }
        let lost = told(one, &["explain", "203.0.113.0/24", "--node", "n1"], 0)?;
        let of_b = format!("  from peer {tor_b}, next hop {}, AS path {ASN}, local preference 50\n", b.address(false));
        let line = format!("{of_b}    lost against that of peer {tor_a}: lower local preference\n");
        assert!(lost.contains(&line), "{line}{lost}");
        let refused = told(one, &["explain", "192.0.2.0/24", "--node", "n1"], 1)?;
        let line = "    refused: the import filter rejects it since no rule accepts it\n";
        assert_eq!(refused.matches(line).count(), 2, "{refused}");
        assert!(refused.ends_with("\nNone of them is used, and no other route of BGP's covers it.\n"), "{refused}");
        Ok(())
    });
}
