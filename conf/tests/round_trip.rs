//! What is written can be read, in both forms, whatever is in it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use proptest::prelude::*;
use twill_conf::cluster::{Backend, Bgp, ChecksumOffload, ClusterConf, FirewallConf, Kind, Pool, Reserved, Vxlan};

#[path = "round_trip/bgp.rs"]
mod bgp;

/// A pool in a range of its own: the third byte of 10/8, the second group of fd42::/16.
fn pool(i: u8, v6: bool, (length, block): (u8, u8), masquerade: bool, name: String, more: &More) -> Pool {
    let cidr = if v6 {
        IpNetwork::new(IpAddr::V6(Ipv6Addr::new(0xfd42, u16::from(i), 0, 0, 0, 0, 0, 0)), 32 + length % 97)
    } else {
        IpNetwork::new(IpAddr::V4(Ipv4Addr::new(10, i, 0, 0)), 16 + length % 17)
    };
    let cidr = cidr.expect("a length of the family");
    let lengths = Pool::block_lengths(cidr);
    let block = lengths.start() + block % (lengths.end() - lengths.start() + 1);
    let reserved = more.reserved.then_some(cidr.network()).filter(|_| cidr.prefix() < if v6 { 128 } else { 32 });
    Pool {
        masquerade,
        nodes: more.nodes.map(|text| text.parse().expect("a selector")),
        disabled: more.disabled,
        announce: more.announce,
        reserved: reserved.map(|ip| Reserved::new(ip, ip).expect("one address")).into_iter().collect(),
        ..Pool::new(format!("{name}-{i}").parse().expect("a pool name"), cidr, block)
    }
}

/// What few pools have.
#[derive(Debug, Clone)]
struct More {
    nodes: Option<&'static str>,
    disabled: bool,
    announce: bool,
    reserved: bool,
}

fn more() -> impl Strategy<Value = More> {
    let selectors = ["zone == 'a'", "!has(gpu) && zone not in {'a', \"b'c\"}", "all()"];
    let nodes = prop::option::of(prop::sample::select(selectors.to_vec()));
    (nodes, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(nodes, disabled, announce, reserved)| More {
        nodes,
        disabled,
        announce,
        reserved,
    })
}

fn confs() -> impl Strategy<Value = ClusterConf> {
    let one = (any::<bool>(), any::<u8>(), any::<u8>(), any::<bool>(), "[a-z0-9][a-z0-9-]{0,40}", more());
    let bgp = prop::option::of(bgp::sections());
    (prop::collection::vec(one, 1..=64), backend(), firewall(), bgp).prop_map(|(pools, backend, firewall, bgp)| {
        let pools = pools
            .into_iter()
            .zip(0u8..)
            .map(|((v6, l, b, m, name, more), i)| pool(i, v6, (l, b), m, name, &more))
            .collect();
        let by_bgp = backend.kind == Kind::Bgp;
        let mut bgp = bgp.or_else(|| by_bgp.then(Bgp::default));
        if let Some(bgp) = bgp.as_mut().filter(|bgp| by_bgp && !bgp.joins_nodes()) {
            bgp.mesh = true;
        }
        ClusterConf { pools, backend, firewall, bgp }
    })
}

fn backend() -> impl Strategy<Value = Backend> {
    let offload = prop::sample::select(vec![ChecksumOffload::Auto, ChecksumOffload::On, ChecksumOffload::Off]);
    let vxlan = (1u32..=16_777_215, 1u16.., any::<bool>(), offload)
        .prop_map(|(vni, port, direct, checksum_offload)| Kind::Vxlan(Vxlan { vni, port, direct, checksum_offload }));
    let kind = prop_oneof![vxlan, Just(Kind::HostGw), Just(Kind::Bgp)];
    (kind, prop::option::of(1280u32..=65_535)).prop_map(|(kind, mtu)| Backend { kind, mtu })
}

fn firewall() -> impl Strategy<Value = FirewallConf> {
    let networks = vec!["10.0.0.0/8", "192.0.2.0/24", "fd00::/8", "::/0"];
    (prop::sample::subsequence(networks, 0..=4), any::<[bool; 2]>()).prop_map(
        |(networks, [clamp_mss, open_forward])| FirewallConf {
            no_masquerade: networks.into_iter().map(|text| text.parse().expect("a network")).collect(),
            clamp_mss,
            open_forward,
        },
    )
}

/// What the schema for editors has against a text.
fn complaints(toml: &str) -> String {
    use std::sync::OnceLock;
    static SCHEMA: OnceLock<jsonschema::Validator> = OnceLock::new();
    let schema = SCHEMA.get_or_init(|| {
        let [document, ..] = twill_conf::reference::documents();
        jsonschema::draft7::new(&document.schema).expect("it is a schema")
    });
    let value: toml::Table = toml.parse().expect("TOML");
    let value = serde_json::to_value(value).expect("JSON");
    schema.iter_errors(&value).map(|error| format!("{}: {error}\n", error.instance_path())).collect()
}

proptest! {
    #[test]
    fn an_editor_marks_nothing_that_is_good(conf in confs()) {
        prop_assert_eq!(complaints(&conf.to_toml()), "");
    }

    #[test]
    fn toml_to_json_to_toml_changes_nothing(conf in confs()) {
        let toml = conf.to_toml();
        let read = ClusterConf::from_toml(&toml).expect("what is written can be read");
        prop_assert_eq!(&read, &conf);
        let stored = ClusterConf::from_json(&read.to_json()).expect("what is stored can be read");
        prop_assert_eq!(&stored, &conf);
        prop_assert_eq!(stored.to_toml(), toml);
    }

    #[test]
    fn a_prefix_that_is_accepted_is_canonical_and_overlaps_nothing(text in "[0-9a-f.:]{1,20}/[0-9]{1,3}") {
        let toml = format!("[[pool]]\nname = \"a\"\nblock = 32\ncidr = \"{text}\"");
        if let Ok(conf) = ClusterConf::from_toml(&toml) {
            prop_assert_eq!(conf.pools[0].cidr.ip(), conf.pools[0].cidr.network());
            let twice = format!("{toml}\n[[pool]]\nname = \"b\"\nblock = 32\ncidr = \"{text}\"");
            prop_assert!(ClusterConf::from_toml(&twice).is_err());
        }
    }

    #[test]
    fn overlap_is_what_the_addresses_say(a in 0u8..=15, b in 0u8..=15, la in 28u8..=32, lb in 28u8..=32) {
        let addresses = |first: u8, length: u8| -> BTreeSet<u8> {
            let first = first & (0xffu16 << (32 - length)) as u8;
            (first..first + (1 << (32 - length))).collect()
        };
        let cidr = |first: u8, length: u8| {
            let first = first & (0xffu16 << (32 - length)) as u8;
            format!("\"10.0.0.{first}/{length}\"")
        };
        let toml = format!(
            "[[pool]]\nname = \"a\"\nblock = 32\ncidr = {}\n[[pool]]\nname = \"b\"\nblock = 32\ncidr = {}",
            cidr(a, la), cidr(b, lb)
        );
        let apart = addresses(a, la).is_disjoint(&addresses(b, lb));
        prop_assert_eq!(ClusterConf::from_toml(&toml).is_ok(), apart, "{}", toml);
    }

    #[test]
    fn no_text_makes_a_reader_panic(text in ".{0,200}") {
        prop_assert!(ClusterConf::from_json(text.as_bytes()).is_err());
        prop_assert!(twill_conf::network::NetworkConf::from_json(text.as_bytes()).is_err());
        // Whether these take it does not matter: an empty line is a good node configuration.
        let words = |refused: Option<twill_conf::Error>| refused.map(|error| error.to_string());
        prop_assert_ne!(words(ClusterConf::from_toml(&text).err()), Some(String::new()));
        prop_assert_ne!(words(twill_conf::node::NodeLayer::from_toml(&text).err()), Some(String::new()));
    }
}
