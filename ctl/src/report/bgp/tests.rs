//! The reports as they are printed, and the cause of each session that is not up.

use serde_json::{Value, json};
use twill_cluster::inquiry::client::Silence;

use super::*;
use crate::arguments::Output;
use crate::print;
use crate::report::{Report, Verdict};

fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

/// A session with the router `tor` that is up, but for what `more` says.
fn peer(more: Value) -> Peer {
    let none = json!({ "received": 0, "accepted": 0, "sent": 0 });
    let mut peer = json!({
        "address": "192.0.2.254", "router": "tor", "asn": 65001, "relation": "external", "state": "Established",
        "age_seconds": 7_300, "ups": 1, "port": 179, "ipv4": none, "ipv6": none,
    });
    for (field, value) in more.as_object().unwrap() {
        peer[field] = value.clone();
    }
    serde_json::from_value(peer).unwrap()
}

fn page(peers: Vec<Peer>) -> PeerPage {
    PeerPage { peers, ..PeerPage::default() }
}

fn answers() -> Answers<PeerPage> {
    let full = json!({
        "bfd": "Up", "ipv4": { "received": 12, "accepted": 10, "sent": 3 }, "ipv6": { "received": 2, "accepted": 1, "sent": 0 },
        "last_error": { "age_seconds": 7_300, "by": "peer", "code": [6, 4], "text": "administrative reset (6/4)" },
    });
    let other = json!({ "address": "192.0.2.2", "router": null, "node": "n2", "relation": "internal", "asn": 64512 });
    let refused =
        json!({ "state": "Active", "age_seconds": 1, "down_seconds": 200, "unreached": "Connection refused" });
    let strangers = Told { what: "peer spine is not spoken with".into(), fix: "correct it".into() };
    [
        (node("n1"), Ok(page(vec![peer(other), peer(full)]))),
        (node("n2"), Ok(PeerPage { troubles: vec![strangers], ..page(vec![peer(refused.clone())]) })),
        (node("n3"), Ok(page(vec![peer(refused)]))),
        (node("n4"), Err(Silence::Dead)),
    ]
    .into()
}

#[test]
fn sessions_are_listed_and_what_several_nodes_say_of_one_peer_is_one_problem() {
    let report = Report::Peers(Peers::new(answers(), false));
    assert_eq!(report.verdict(), Verdict::Problems, "a problem is one, whatever else could not be seen");
    let wanted = "\
NODE  PEER  ADDRESS      AS     STATE        SINCE  RECEIVED  ACCEPTED  SENT  BFD  LAST ERROR
n1    n2    192.0.2.2    64512  Established  2h     0+0       0+0       0+0   -    -
n1    tor   192.0.2.254  65001  Established  2h     12+2      10+1      3+0   Up   administrative reset (6/4) (2h ago)
n2    tor   192.0.2.254  65001  Active       3m     0+0       0+0       0+0   -    Connection refused
n3    tor   192.0.2.254  65001  Active       3m     0+0       0+0       0+0   -    Connection refused

3 of 4 nodes answered: 2 of 4 sessions up

PROBLEM node n2: peer spine is not spoken with
    fix: correct it
PROBLEM nodes n2, n3: the BGP session with peer tor (192.0.2.254) is not up: no connection to 192.0.2.254 port 179: Connection refused
    fix: look whether it is on and reached, listens on port 179, knows this node as a neighbour, and has the same password and, with gtsm, sends with a hop limit of 255 (what differs there looks like silence)

COULD NOT TELL: what the speaker of node n4 knows: its daemon has not been heard of for a minute
    fix: look at twilld on n4: is it running, and does it reach etcd?
";
    assert_eq!(print::render(&report, Output::Text), wanted);
}

#[test]
fn peers_that_are_left_alone_have_a_row_with_the_cause() {
    let own = json!({ "address": "192.0.2.1", "router": "spine", "why": "its address is this node's own" });
    let alone: LeftAlone = serde_json::from_value(own.clone()).unwrap();
    let answers = [(node("n1"), Ok(PeerPage { left_alone: vec![alone], ..page(vec![peer(json!({}))]) }))];
    for only_down in [false, true] {
        let report = Report::Peers(Peers::new(answers.clone().into(), only_down));
        let told = print::render(&report, Output::Text);
        let row = "n1    spine  192.0.2.1    -      left alone   -      -         -         -     -    its address is this node's own\n";
        let row =
            if only_down { row.replace("    -      left alone   -", "  -   left alone  -") } else { row.to_owned() };
        assert!(
            told.contains(&row) && told.contains("\n1 of 1 node answered: 1 of 1 session up, 1 left alone\n"),
            "{told}"
        );
        assert_eq!(serde_json::to_value(&report).unwrap()["left_alone"], json!([{ "node": "n1", "peer": own }]));
        assert_eq!(report.verdict(), Verdict::Good, "what is wrong with it, if anything, is told as a problem");
    }
}

#[test]
fn only_those_that_are_down_may_be_listed_and_who_did_not_answer_is_not_passed_over() {
    let down = Peers::new(answers(), true);
    let listed: Vec<_> = down.peers.iter().map(|row| row.node.as_str()).collect();
    assert_eq!((listed, down.sessions, down.up), (vec!["n2", "n3"], 4, 2));
    let silent =
        Peers::new([(node("n1"), Ok(page(vec![peer(json!({}))]))), (node("n4"), Err(Silence::Dead))].into(), true);
    assert_eq!(Report::Peers(silent).verdict(), Verdict::Unknown);
    let good = Report::Peers(Peers::new([(node("n1"), Ok(page(vec![peer(json!({}))])))].into(), true));
    assert_eq!(good.verdict(), Verdict::Good);
    let wanted = "1 of 1 node answered: 1 of 1 session up\n\nno problems\n";
    assert_eq!(print::render(&good, Output::Text), wanted);
}

#[test]
fn the_shape_of_the_json_is_one_that_programs_can_rely_on() {
    let report = Report::Peers(Peers::new(answers(), true));
    let json: Value = serde_json::from_str(&print::render(&report, Output::Json)).unwrap();
    let none = json!({ "received": 0, "accepted": 0, "sent": 0 });
    assert_eq!(
        json["peers"][0],
        json!({ "node": "n2", "peer": {
            "address": "192.0.2.254", "router": "tor", "asn": 65001, "relation": "external", "state": "Active",
            "age_seconds": 1, "down_seconds": 200, "ups": 1, "port": 179, "unreached": "Connection refused",
            "ipv4": none, "ipv6": none,
        } })
    );
    let rest = ["nodes", "answered", "sessions", "up"].map(|field| json[field].clone());
    assert_eq!((rest, json["problems"][0]["subject"].clone()), ([4, 3, 4, 2].map(Value::from), json!("node n2")));
}

#[test]
fn each_way_to_be_down_has_its_cause_and_what_to_do() {
    let ended = |by: &str, code: Option<[u8; 2]>, text: &str| json!({ "last_error": { "age_seconds": 1, "by": by, "code": code, "text": text } });
    let node = json!({ "node": "n2", "router": null });
    for (more, cause, fix) in [
        (json!({}), "no connection to 192.0.2.254 port 179 has been made so far", "listens on port 179"),
        (node, "no connection to", "look whether twilld runs there"),
        (json!({ "passive": true }), "it is waited for", "calls this node's address"),
        (json!({ "state": "OpenSent" }), "just being opened", "wait a few seconds"),
        (json!({ "shutdown": "work" }), "it is shut down here (work)", "take that back"),
        (json!({ "barred_seconds": 9 }), "more prefixes than max_prefixes", "raise max_prefixes"),
        (ended("nobody", None, "the connection was lost"), "not up: the connection was lost", "compare passwords"),
        (ended("node", Some([2, 2]), "bad peer AS"), "this node has ended it: bad peer AS", "65001 is expected"),
        (ended("peer", Some([2, 2]), "bad peer AS"), "the peer has ended it: bad peer AS", "compare this node's AS"),
        (ended("peer", Some([2, 3]), "bad BGP identifier"), "ended it: bad BGP identifier", "router_id"),
        (ended("node", Some([4, 0]), "hold timer expired"), "hold timer expired", "path to the peer"),
        (ended("node", Some([6, 1]), "maximum"), "maximum", "raise max_prefixes"),
        (ended("peer", Some([6, 1]), "maximum"), "maximum", "announce less"),
        (
            ended("peer", Some([6, 2]), "administrative shutdown"),
            "administrative shutdown",
            "ask whoever runs the peer",
        ),
        (ended("peer", Some([6, 5]), "connection rejected"), "connection rejected", "know this node as a neighbour"),
        (ended("peer", Some([9, 9]), "error 9/9"), "error 9/9", "look at the log of twilld"),
    ] {
        let mut down = json!({ "state": "Active" });
        down.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let told = trouble::of(&peer(down)).unwrap();
        assert!(told.what.contains(cause) && told.fix.contains(fix), "{more}: {told:?}");
    }
    assert_eq!(trouble::of(&peer(json!({}))), None);
}

#[test]
fn routes_are_listed_with_all_their_ways() {
    let tor = |name: &str, address: &str| json!({ "router": name, "address": address });
    let routes = json!([
        { "prefix": "0.0.0.0/0", "used": [
            { "from": tor("tor-a", "192.0.2.253"), "next_hop": "192.0.2.253", "as_path": "65001 65100", "origin": "igp",
              "local_pref": 200, "med": 5, "communities": ["65001:7", "65001:1:2"] },
            { "from": tor("tor-b", "192.0.2.254"), "next_hop": "192.0.2.254", "as_path": "65002 65100", "origin": "igp",
              "stale": true },
        ] },
        { "prefix": "10.42.0.0/26", "used": [{ "as_path": "", "origin": "igp" }] },
    ]);
    let routes = Routes { node: node("n1"), inside: None, peer: None, routes: serde_json::from_value(routes).unwrap() };
    let wanted = "\
PREFIX        NEXT HOP     FROM       AS PATH      PREF  MED  COMMUNITIES        MARKS
0.0.0.0/0     192.0.2.253  tor-a      65001 65100  200   5    65001:7 65001:1:2
              192.0.2.254  tor-b      65002 65100  -     -    -                  stale
10.42.0.0/26  -            this node  -            -     -    -                  own
";
    assert_eq!(print::render(&Report::Routes(routes), Output::Text), wanted);
    let none = Routes {
        node: node("n1"),
        inside: Some("192.0.2.0/24".parse().unwrap()),
        peer: Some("tor-a".into()),
        routes: Vec::new(),
    };
    let wanted = "node n1 uses no route inside of 192.0.2.0/24 of tor-a\n";
    assert_eq!(print::render(&Report::Routes(none), Output::Text), wanted);
}

fn explained(asked: &str, explanation: Value) -> Report {
    let explanation = serde_json::from_value(explanation).unwrap();
    Report::Explained(Explained { node: node("n1"), asked: asked.parse().unwrap(), explanation })
}

#[test]
fn an_explanation_reads_like_an_answer() {
    let tor = |name: &str, address: &str| json!({ "router": name, "address": address });
    let (a, b, n2) =
        (tor("tor-a", "192.0.2.253"), tor("tor-b", "192.0.2.254"), json!({ "node": "n2", "address": "192.0.2.2" }));
    let route = |from: &Value, path: &str, outcome: Value| {
        let mut route = json!({ "from": from, "next_hop": from["address"], "as_path": path, "origin": "igp" });
        for (field, value) in outcome.as_object().unwrap() {
            route[field] = value.clone();
        }
        route
    };
    let report = explained(
        "198.51.100.7/32",
        json!({
            "prefix": "198.51.100.0/24", "used": "198.51.100.0/24", "left_out": 2,
            "routes": [
                route(&a, "65001", json!({ "outcome": "best", "local_pref": 200 })),
                route(&a, "65001", json!({ "outcome": "also-used", "path_id": 2 })),
                route(&b, "65002 65001", json!({ "outcome": "lost", "why": "longer AS path", "to": a, "stale": true })),
                route(&b, "65002", json!({ "outcome": "out-of-reach", "origin": "incomplete", "med": 7 })),
                route(&n2, "", json!({ "outcome": "refused", "why": "the import filter rejects it since no rule accepts it" })),
                { "as_path": "", "origin": "igp", "outcome": "lost", "why": "lower local preference", "to": null },
            ],
            "told": [
                { "to": a, "from": a, "withheld": "the peer itself announced it" },
                { "to": n2, "from": a, "told": { "as_path": "65001", "origin": "igp", "local_pref": 200, "communities": ["1:2"] } },
                { "to": n2, "from": b, "told": { "as_path": "", "origin": "igp" } },
            ],
        }),
    );
    let wanted = "\
Node n1 has 6 routes to 198.51.100.0/24, which covers 198.51.100.7:
  from peer tor-a (192.0.2.253), next hop 192.0.2.253, AS path 65001, local preference 200
    best: it is used
  from peer tor-a (192.0.2.253), next hop 192.0.2.253, AS path 65001
    also used: as good as the best one
  from peer tor-b (192.0.2.254), next hop 192.0.2.254, AS path 65002 65001, stale: kept until that peer is back
    lost against that of peer tor-a (192.0.2.253): longer AS path
  from peer tor-b (192.0.2.254), next hop 192.0.2.254, AS path 65002, MED 7, origin incomplete
    not used: its next hop 192.0.2.254 is out of reach of this node
  from node n2 (192.0.2.2), next hop 192.0.2.2
    refused: the import filter rejects it since no rule accepts it
  its own
    lost against the node's own: lower local preference

What the peers are told:
  peer tor-a (192.0.2.253): not told: the peer itself announced it
  node n2 (192.0.2.2): that of peer tor-a (192.0.2.253): told: AS path 65001, local preference 200, communities 1:2
  node n2 (192.0.2.2): that of peer tor-b (192.0.2.254): told

2 more had no room
";
    assert_eq!((print::render(&report, Output::Text).as_str(), report.verdict()), (wanted, Verdict::Good));
}

#[test]
fn a_prefix_that_no_route_covers_or_that_is_refused_is_a_problem_unless_a_wider_one_is_used() {
    let nothing = json!({ "prefix": null, "used": null, "routes": [], "told": [] });
    let report = explained("fd00::1/128", nothing);
    let wanted = "node n1 has no route that covers fd00::1: no peer has announced one, and it is not the node's own\n";
    assert_eq!((print::render(&report, Output::Text).as_str(), report.verdict()), (wanted, Verdict::Problems));
    let refused = |used: Option<&str>| {
        let route = json!({ "as_path": "", "origin": "igp", "outcome": "refused", "why": "w" });
        explained("10.42.0.7/32", json!({ "prefix": "10.42.0.7/32", "used": used, "routes": [route], "told": [] }))
    };
    for (used, says, verdict) in [
        (None, "None of them is used, and no other route of BGP's covers it.\n", Verdict::Problems),
        (Some("10.42.0.0/26"), "None of them is used: packets go by 10.42.0.0/26.\n", Verdict::Good),
    ] {
        let report = refused(used);
        let text = print::render(&report, Output::Text);
        assert!(text.ends_with(&format!("\n    refused: w\n\n{says}")), "{text}");
        assert_eq!(report.verdict(), verdict);
    }
}
