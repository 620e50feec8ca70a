//! Any section `[bgp]` that holds to its rules.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;
use proptest::prelude::*;
use twill_conf::cluster::{
    Announcement, Asn, Bfd, Bgp, Changes, Community, Distance, Filter, GracefulRestart, Link, NodeRule, Nodes, Peer,
    PeerAs, Prefixes, Reflectors, Rule, Then,
};

fn asns() -> impl Strategy<Value = Asn> {
    any::<u32>().prop_filter_map("a number that a system may have", |number| Asn::new(number).ok())
}

fn nodes() -> impl Strategy<Value = Nodes> {
    let selectors = prop::sample::select(vec!["zone == 'a'", "!has(gpu) && zone not in {'a', \"b'c\"}"]);
    prop_oneof![
        Just(Nodes::All),
        "[a-z0-9]{1,9}".prop_map(|name| Nodes::One(name.parse().expect("a name"))),
        selectors.prop_map(|text| Nodes::Labelled(text.parse().expect("a selector"))),
    ]
}

fn links() -> impl Strategy<Value = Link> {
    let hold = prop_oneof![Just(0u16), 3u16..];
    let file = prop::option::of("/[a-z /\"]{0,20}");
    let bfd = prop::option::of((50u32..=10_000, 2u8..));
    (hold, 1u16.., file, bfd).prop_map(|(hold_time, connect_retry, file, bfd)| Link {
        hold_time,
        connect_retry,
        password_file: file.map(Into::into),
        bfd: bfd.map(|(interval, multiplier)| Bfd { interval, multiplier }),
    })
}

fn communities() -> impl Strategy<Value = Vec<Community>> {
    let one = prop_oneof![
        any::<u32>().prop_map(Community::Standard),
        (0xFFFF_FF00u32..=0xFFFF_FF05).prop_map(Community::Standard),
        any::<[u32; 3]>().prop_map(|[global, one, two]| Community::Large(global, one, two)),
    ];
    prop::collection::vec(one, 0..3)
}

fn ranges() -> impl Strategy<Value = Prefixes> {
    (any::<bool>(), any::<u128>(), any::<[u8; 3]>()).prop_map(|(v6, bits, lengths)| {
        let longest = if v6 { 128 } else { 32 };
        let mut lengths = lengths.map(|length| length % (longest + 1));
        lengths.sort_unstable();
        let address = if v6 { IpAddr::V6(bits.into()) } else { IpAddr::V4(Ipv4Addr::from_bits(bits as u32)) };
        let network = IpNetwork::new(address, lengths[0]).expect("a length of the family").network();
        let prefix = IpNetwork::new(network, lengths[0]).expect("a length of the family");
        Prefixes::new(prefix, lengths[1]..=lengths[2]).expect("lengths in their order")
    })
}

fn changes() -> impl Strategy<Value = Changes> {
    let number = || prop::option::of(any::<u32>());
    (number(), number(), 0u8..=16, communities(), communities())
        .prop_map(|(local_pref, med, prepend, remove, add)| Changes { local_pref, med, prepend, remove, add })
}

fn filters() -> impl Strategy<Value = Filter> {
    let then = prop_oneof![
        Just(Then::Reject),
        changes().prop_map(Then::Accept),
        changes().prop_map(|changes| Then::Next(Changes { med: Some(1), ..changes })),
    ];
    let asn = || prop::option::of(asns());
    let community = communities().prop_map(|some| some.first().copied());
    let rule = (prop::collection::vec(ranges(), 1..4), community, asn(), asn(), then);
    let rule =
        rule.prop_map(|(prefixes, community, through, from, then)| Rule { prefixes, community, through, from, then });
    let last = prop::option::of(changes().prop_map(Then::Accept));
    (prop::collection::vec(rule, 0..4), last).prop_map(|(mut rules, last)| {
        let all = |then| Rule { prefixes: Vec::new(), community: None, through: None, from: None, then };
        rules.extend(last.map(all));
        Filter::new(rules).expect("only the last rule asks for nothing")
    })
}

fn peers() -> impl Strategy<Value = Peer> {
    let asn = prop_oneof![asns().prop_map(PeerAs::Number), Just(PeerAs::Internal), Just(PeerAs::External)];
    let distance = prop_oneof![
        Just(Distance::Usual),
        Just(Distance::Guarded),
        Just(Distance::Unguarded),
        (2u8..).prop_map(Distance::Routed)
    ];
    let filter = || prop::option::of(filters());
    let who = (nodes(), asn, prop::option::of(asns()), 1u16.., any::<bool>());
    let how = (distance, links(), any::<[bool; 3]>(), prop::option::of(1u32..));
    (who, how, filter(), filter()).prop_map(
        |(
            (nodes, asn, local_as, port, source),
            (distance, mut link, [passive, own, transit], max_prefixes),
            import,
            export,
        )| {
            if matches!(distance, Distance::Routed(_)) {
                link.bfd = None;
            }
            if passive {
                link.connect_retry = Link::default().connect_retry;
            }
            let name = "placeholder".parse().expect("a name");
            let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 0));
            Peer {
                nodes,
                port,
                source: source.then_some(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1))),
                local_as: local_as.filter(|local| asn != PeerAs::Internal && asn != PeerAs::Number(*local)),
                passive,
                distance,
                link,
                next_hop_self: own && asn != PeerAs::External,
                transit: transit && asn != PeerAs::Internal,
                max_prefixes,
                import,
                export,
                ..Peer::new(name, address, asn)
            }
        },
    )
}

fn node_rules() -> impl Strategy<Value = NodeRule> {
    (nodes(), asns(), prop::option::of(any::<bool>())).prop_map(|(nodes, asn, shutdown)| NodeRule {
        nodes,
        asn: Some(asn),
        router_id: None,
        shutdown,
    })
}

/// Sections whose peers and prefixes are told apart by their places.
pub(crate) fn sections() -> impl Strategy<Value = Bgp> {
    let restart = prop_oneof![Just(GracefulRestart::Off), (1u16..=4095).prop_map(GracefulRestart::Within)];
    let id = || prop::option::of((1u32..).prop_map(Ipv4Addr::from_bits));
    let reflectors = prop::option::of((nodes(), id()));
    let announced = prop::collection::vec((nodes(), communities()), 0..4);
    let lists = (
        prop::collection::vec(peers(), 0..4),
        prop::collection::vec(node_rules(), 0..4),
        prop::option::of(("[a-z0-9]{1,9}", 1u32..)),
        announced,
    );
    (asns(), any::<bool>(), 1u16.., links(), restart, reflectors, lists).prop_map(
        |(asn, mesh, port, link, graceful_restart, reflectors, (mut peers, mut nodes, one, announced))| {
            for (peer, place) in peers.iter_mut().zip(1u8..) {
                peer.name = format!("p{place}").parse().expect("a name");
                peer.address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, place));
            }
            nodes.extend(one.map(|(name, id)| NodeRule {
                nodes: Nodes::One(name.parse().expect("a name")),
                asn: None,
                router_id: Some(Ipv4Addr::from_bits(id)),
                shutdown: None,
            }));
            let announcement = |((nodes, communities), place): ((Nodes, _), u8)| {
                let prefix = IpNetwork::new(Ipv4Addr::new(203, 0, place, 0).into(), 24).expect("a length");
                Announcement { prefix, nodes, communities }
            };
            let reflectors = reflectors.filter(|(nodes, _)| *nodes != Nodes::All);
            Bgp {
                asn,
                mesh,
                port,
                link,
                graceful_restart,
                reflectors: reflectors.map(|(nodes, cluster_id)| Reflectors { nodes, cluster_id }),
                nodes,
                peers,
                announcements: announced.into_iter().zip(0u8..).map(announcement).collect(),
            }
        },
    )
}
