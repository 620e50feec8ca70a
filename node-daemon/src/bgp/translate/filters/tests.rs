//! Whom the filters that are made let through, held against routes.

use std::borrow::Cow;
use std::net::Ipv4Addr;

use twill_bgp::path::Origin;
use twill_conf::cluster::{Asn as Number, ClusterConf, GracefulRestart, Link};
use twill_fabric::peering::{Announced, Audience, Exchange, HopLimit, Hops, RemoteAs, Session, Who};

use super::*;

/// Two pools, of which one is announced outside.
const POOLS: &str =
    "[[pool]]\nname='out'\ncidr='10.42.0.0/16'\nannounce=true\n[[pool]]\nname='in'\ncidr='10.43.0.0/16'\n";
const OWN_OUT: &str = "10.42.1.0/26";
const OWN_IN: &str = "10.43.1.0/26";
const EXTRA: &str = "198.51.100.0/24";
const OTHERS_OUT: &str = "10.42.2.0/26";
const OTHERS_IN: &str = "10.43.2.0/26";
const FAR: &str = "203.0.113.0/24";
const ALL: [&str; 6] = [OWN_OUT, OWN_IN, EXTRA, OTHERS_OUT, OTHERS_IN, FAR];

fn conf(rest: &str) -> ClusterConf {
    ClusterConf::from_toml(&format!("{POOLS}{rest}")).unwrap()
}

/// Of one configured peer, these rules.
fn written(rules: &str) -> cluster::Filter {
    let conf = conf(&format!("[[bgp.peer]]\nname='r'\naddress='192.0.2.9'\nas=7\n{rules}"));
    conf.bgp.unwrap().peers[0].import.clone().unwrap()
}

fn speaker(shutdown: bool) -> Speaker {
    let announced = |prefix: &str, to| Announced { prefix: prefix.parse().unwrap(), communities: Vec::new(), to };
    Speaker {
        asn: Number::DEFAULT,
        router_id: Ipv4Addr::new(192, 0, 2, 1),
        cluster_id: Ipv4Addr::new(192, 0, 2, 1),
        port: 179,
        graceful_restart: GracefulRestart::Off,
        shutdown,
        peerings: Vec::new(),
        left_alone: Vec::new(),
        announced: vec![
            announced(OWN_OUT, Audience::Everyone),
            announced(OWN_IN, Audience::Inside),
            announced(EXTRA, Audience::Routers),
        ],
        problems: Vec::new(),
    }
}

fn peering(who: Who, kind: Kind, exchange: Exchange) -> Peering {
    let session = Session {
        address: [192, 0, 2, 9].into(),
        port: 179,
        source: None,
        remote: RemoteAs::AnyBut(Number::DEFAULT),
        local_as: Number::DEFAULT,
        kind,
        hop_limit: HopLimit::Guarded,
        passive: false,
        link: Link::default(),
    };
    Peering { who, session, exchange }
}

fn node() -> Who {
    Who::Node("n2".parse().unwrap())
}

fn router() -> Who {
    Who::Router("r".parse().unwrap())
}

const EXTERNAL: Kind = Kind::External(Hops::Single);

fn exchange(import: Import, export: Export, transit: bool) -> Exchange {
    Exchange { import, export, transit, next_hop_self: false, max_prefixes: None }
}

/// Which of all prefixes a filter lets through.
fn passes(filter: &Filter, prefixes: &[&'static str]) -> Vec<&'static str> {
    prefixes.iter().copied().filter(|prefix| apply(filter, prefix).is_some()).collect()
}

fn apply(filter: &Filter, prefix: &str) -> Option<Attributes> {
    let attributes = Attributes::new(Origin::Igp);
    filter.apply(prefix.parse().unwrap(), Cow::Owned(attributes), Some(Asn(7))).ok().map(Cow::into_owned)
}

fn told(who: Who, kind: Kind, export: Export, transit: bool) -> Vec<&'static str> {
    let peering = peering(who, kind, exchange(Import::Pools, export, transit));
    passes(&policy(&speaker(false), &conf("").pools, &peering).export, &ALL)
}

#[test]
fn a_node_is_told_all_but_what_is_for_routers_alone() {
    assert_eq!(told(node(), Kind::Internal, Export::All, true), [OWN_OUT, OWN_IN, OTHERS_OUT, OTHERS_IN, FAR]);
    assert_eq!(told(router(), Kind::Internal, Export::All, true), ALL);
}

#[test]
fn a_router_of_another_as_is_told_what_is_announced_outside_and_of_others_only_in_transit() {
    assert_eq!(told(router(), EXTERNAL, Export::All, false), [OWN_OUT, EXTRA]);
    assert_eq!(told(router(), EXTERNAL, Export::All, true), [OWN_OUT, EXTRA, OTHERS_OUT, FAR]);
    assert_eq!(told(router(), EXTERNAL, Export::Nothing, true), [""; 0]);
}

#[test]
fn an_operators_filter_chooses_among_what_may_be_told() {
    let filter = || {
        let rules = "[[bgp.peer.import]]\nprefixes=['10.42.1.0/26']\naction='reject'\n[[bgp.peer.import]]\nprefixes=['10.0.0.0/8 le 32', \
                     '203.0.113.0/24']\naction='accept'\nprepend=2\n";
        Export::Filter(written(rules))
    };
    assert_eq!(told(router(), EXTERNAL, filter(), true), [OTHERS_OUT, FAR]);
    assert_eq!(told(router(), EXTERNAL, filter(), false), [""; 0]);
    assert_eq!(told(router(), Kind::Internal, filter(), true), [OWN_IN, OTHERS_OUT, OTHERS_IN, FAR]);
    let peering = peering(router(), EXTERNAL, exchange(Import::Pools, filter(), true));
    let path = apply(&policy(&speaker(false), &conf("").pools, &peering).export, FAR).unwrap().as_path;
    assert_eq!(path.to_string(), "7 7", "once, and not for each of the filter's parts");
}

#[test]
fn who_is_about_to_go_says_so_with_every_route() {
    for (kind, preference) in [(EXTERNAL, None), (Kind::Internal, Some(0))] {
        let peering = peering(router(), kind, exchange(Import::Pools, Export::All, false));
        let said = apply(&policy(&speaker(true), &conf("").pools, &peering).export, OWN_OUT).unwrap();
        assert_eq!((said.communities, said.local_pref), (vec![Community::GRACEFUL_SHUTDOWN], preference));
    }
}

#[test]
fn without_a_filter_what_lies_in_the_pools_is_taken_and_a_default_route_only_where_a_rule_names_it() {
    let taken = |import: Import| {
        let peering = peering(router(), EXTERNAL, exchange(import, Export::All, false));
        let import = policy(&speaker(false), &conf("").pools, &peering).import;
        passes(&import, &[OTHERS_OUT, OTHERS_IN, FAR, "10.0.0.0/8", "0.0.0.0/0", "::/0"])
    };
    let filter = |prefixes: &str| Import::Filter(written(&format!("[[bgp.peer.import]]\n{prefixes}action='accept'\n")));
    assert_eq!(taken(Import::Pools), [OTHERS_OUT, OTHERS_IN]);
    assert_eq!(taken(Import::Nothing), [""; 0]);
    assert_eq!(taken(filter("")), [OTHERS_OUT, OTHERS_IN, FAR, "10.0.0.0/8"]);
    assert_eq!(taken(filter("prefixes=['0.0.0.0/0 le 32']\n")), [OTHERS_OUT, OTHERS_IN, FAR, "10.0.0.0/8"]);
    assert_eq!(taken(filter("prefixes=['0.0.0.0/0']\n")), ["0.0.0.0/0"]);
}
