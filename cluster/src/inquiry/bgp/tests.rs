//! Pages: that they hold as much as an answer may, and all together everything once; records of other versions.

use serde_json::json;

use super::*;
use crate::inquiry::{AnswerRecord, Reply};

fn length_of(answer: Answer) -> usize {
    let record = AnswerRecord { version: "0.1.0".into(), reply: Reply::Bgp { answer } };
    serde_json::to_vec(&record).unwrap().len()
}

fn attributes(communities: usize) -> Attributes {
    Attributes {
        as_path: "64501 64502 64503".into(),
        origin: "igp".into(),
        local_pref: Some(100),
        med: None,
        communities: (0..communities).map(|number| format!("65535:{number}")).collect(),
        originator: None,
        clusters: Vec::new(),
    }
}

fn neighbour(number: u32) -> Neighbour {
    let node = Some(format!("node-{number}.rack-17.example.net").parse().unwrap());
    Neighbour { address: IpAddr::from((0x0A00_0000 + number).to_be_bytes()), node, router: None }
}

fn route(number: u32) -> Route {
    let prefix = IpNetwork::new(IpAddr::from((0x0A2A_0000 + 256 * number).to_be_bytes()), 24).unwrap();
    let used = |number| Used {
        from: Some(neighbour(number)),
        next_hop: Some(neighbour(number).address),
        attributes: attributes(3),
        stale: false,
    };
    Route { prefix, used: vec![used(1), used(2)] }
}

#[test]
fn a_hundred_thousand_routes_come_once_each_in_pages_that_an_answer_can_hold() {
    let all: Vec<Route> = (0..100_000).map(route).collect();
    let (mut found, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let rest = all.iter().filter(|route| after.is_none_or(|after| after < route.prefix));
        let page = RoutePage::fill(rest.map(|route| (route.prefix, Some(route.clone()))), usize::MAX);
        (after, pages) = (page.next, pages + 1);
        assert!(length_of(Answer::Routes(page.clone())) <= LONGEST_ANSWER);
        assert!(pages > 1 || length_of(Answer::Routes(page.clone())) > LONGEST_ANSWER - 4096, "a page is used");
        found.extend(page.routes);
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, all);
    assert!(pages < 300, "{pages}");
}

#[test]
fn a_page_ends_after_so_many_prefixes_although_none_was_asked_for_and_the_next_begins_behind() {
    let looked_at = || (0..10).map(|number| (route(number).prefix, (number == 6).then(|| route(number))));
    let first = RoutePage::fill(looked_at(), 5);
    assert_eq!((first.routes.len(), first.next), (0, Some(route(4).prefix)));
    let second = RoutePage::fill(looked_at().skip(5), 5);
    assert_eq!((second.routes, second.next), (vec![route(6)], None));
}

#[test]
fn a_node_with_thousands_of_peers_tells_them_in_pages() {
    let peer = |number: u32| Peer {
        neighbour: neighbour(number),
        asn: Some(64512),
        relation: Relation::Internal,
        state: State::Active,
        age_seconds: 1,
        down_seconds: Some(100),
        ups: 0,
        port: 179,
        passive: false,
        unreached: Some("Connection refused (os error 111)".into()),
        last_error: None,
        shutdown: None,
        barred_seconds: None,
        bfd: Some(Bfd::Down),
        agreed: None,
        ipv4: Counts::default(),
        ipv6: Counts::default(),
        behind: false,
    };
    let all: Vec<_> = (0..5_000).map(peer).collect();
    let trouble = || vec![Told { what: "w".into(), fix: "f".into() }];
    let alone = LeftAlone { neighbour: all[0].neighbour.clone(), why: "no".into() };
    let alone = vec![alone; 2 * MOST_LEFT_ALONE];
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let rest = all.iter().filter(|peer| after.is_none_or(|after| after < peer.neighbour.address)).cloned();
        let page = PeerPage::fill(rest, trouble(), alone.clone());
        assert!(length_of(Answer::Peers(page.clone())) <= LONGEST_ANSWER);
        assert_eq!(page.left_alone.len(), MOST_LEFT_ALONE);
        assert_eq!(page.next.is_some(), found.len() + page.peers.len() < all.len());
        after = page.next;
        found.extend(page.peers);
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, all);
}

#[test]
fn an_explanation_that_is_too_long_says_how_much_of_it_had_no_room() {
    let candidate = |number| Candidate {
        from: Some(neighbour(number)),
        path_id: 0,
        next_hop: None,
        attributes: attributes(900),
        stale: false,
        outcome: Outcome::Refused { why: "w".into() },
    };
    let telling = |number| Telling { to: neighbour(number), from: None, told: Some(attributes(900)), withheld: None };
    let explanation = Explanation::default().fill((0..30).map(candidate).collect(), (0..30).map(telling).collect());
    assert!(explanation.routes.len() > 5 && explanation.told.len() > 5, "both have room");
    assert_eq!(explanation.routes.len() + explanation.told.len() + explanation.left_out, 60);
    assert!(length_of(Answer::Explained(Box::new(explanation))) <= LONGEST_ANSWER);
}

#[test]
fn words_of_a_newer_version_are_unknown_and_no_error() {
    let peer = json!({
        "address": "192.0.2.1", "router": "tor", "asn": null, "relation": "confederate", "state": "Resting",
        "age_seconds": 1, "ups": 0, "port": 179, "bfd": "Sideways", "later": 1,
        "ipv4": { "received": 1, "accepted": 1, "sent": 1 }, "ipv6": { "received": 0, "accepted": 0, "sent": 0 },
    });
    let peer: Peer = serde_json::from_value(peer).unwrap();
    assert_eq!((peer.relation, peer.state, peer.bfd), (Relation::Unknown, State::Unknown, Some(Bfd::Unknown)));
    let route = json!({ "as_path": "", "origin": "igp", "outcome": "postponed", "until": 7 });
    let route: Candidate = serde_json::from_value(route).unwrap();
    assert_eq!(route.outcome, Outcome::Unknown);
}

#[test]
fn a_peer_is_called_by_its_name_and_by_its_address_however_that_is_written() {
    let router = Some("tor".parse().unwrap());
    let peer = Neighbour { address: "fd00::1".parse().unwrap(), node: None, router };
    for (word, is_called) in [("tor", true), ("fd00:0::1", true), ("fd00::2", false), ("to", false), ("", false)] {
        assert_eq!(peer.is_called(word), is_called, "{word}");
    }
}
