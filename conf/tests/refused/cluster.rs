//! The cluster configuration.

use twill_conf::cluster::ClusterConf;

use crate::compare;

fn refusal(toml: &str) -> String {
    ClusterConf::from_toml(toml).map_or_else(|error| error.to_string(), |_| "accepted".into())
}

/// The pool that stands first in each row of [`POOLS`]: `[[pool]]`, `name = "a"`, then the row.
const POOLS: &[(&str, &str)] = &[
    ("", r#"pool "a".cidr: missing: an IPv4 or IPv6 prefix without host bits, as in "10.42.0.0/16" or "fd42::/48""#),
    (
        "cidr = 10",
        r#"pool "a".cidr: the integer 10 is not valid: an IPv4 or IPv6 prefix without host bits, as in "10.42.0.0/16" or "fd42::/48""#,
    ),
    (
        "cidr = '10.42.0.0'",
        r#"pool "a".cidr: "10.42.0.0" is not valid: an IPv4 or IPv6 prefix without host bits, as in "10.42.0.0/16" or "fd42::/48""#,
    ),
    (
        "cidr = '10.42.0.0/255.255.0.0'",
        r#"pool "a".cidr: "10.42.0.0/255.255.0.0" is not valid: an IPv4 or IPv6 prefix without host bits, as in "10.42.0.0/16" or "fd42::/48""#,
    ),
    (
        "cidr = '10.42.0.0/33'",
        r#"pool "a".cidr: "10.42.0.0/33" is not valid: an IPv4 or IPv6 prefix without host bits, as in "10.42.0.0/16" or "fd42::/48""#,
    ),
    (
        "cidr = '10.42.0/16'",
        r#"pool "a".cidr: "10.42.0/16" is not valid: an IPv4 or IPv6 prefix without host bits, as in "10.42.0.0/16" or "fd42::/48""#,
    ),
    ("cidr = '10.42.3.7/16'", r#"pool "a".cidr: "10.42.3.7/16" is not valid: a prefix has no host bits: 10.42.0.0/16"#),
    ("cidr = 'fd42::1/48'", r#"pool "a".cidr: "fd42::1/48" is not valid: a prefix has no host bits: fd42::/48"#),
    (
        "cidr = '0.0.0.0/0'",
        r#"pool "a".cidr: "0.0.0.0/0" is not valid: it overlaps 0.0.0.0/8, "this network" (RFC 791)"#,
    ),
    ("cidr = '127.0.0.0/16'", r#"pool "a".cidr: "127.0.0.0/16" is not valid: it overlaps 127.0.0.0/8, loopback"#),
    (
        "cidr = '169.254.1.0/24'\nblock = 28",
        r#"pool "a".cidr: "169.254.1.0/24" is not valid: it overlaps 169.254.0.0/16, link-local, and the pods' gateway 169.254.1.1 is in it"#,
    ),
    ("cidr = '239.0.0.0/8'", r#"pool "a".cidr: "239.0.0.0/8" is not valid: it overlaps 224.0.0.0/4, multicast"#),
    (
        "cidr = '255.255.255.0/24'",
        r#"pool "a".cidr: "255.255.255.0/24" is not valid: it overlaps 255.255.255.255/32, limited broadcast"#,
    ),
    (
        "cidr = '::/16'",
        r#"pool "a".cidr: "::/16" is not valid: it overlaps ::/127, the unspecified address and loopback"#,
    ),
    (
        "cidr = '::ffff:10.0.0.0/104'",
        r#"pool "a".cidr: "::ffff:10.0.0.0/104" is not valid: it overlaps ::ffff:0.0.0.0/96, IPv4-mapped addresses, which are never on the wire"#,
    ),
    ("cidr = 'fe80::/64'", r#"pool "a".cidr: "fe80::/64" is not valid: it overlaps fe80::/10, link-local"#),
    ("cidr = 'ff05::/16'", r#"pool "a".cidr: "ff05::/16" is not valid: it overlaps ff00::/8, multicast"#),
    (
        "cidr = '10.0.0.0/7'",
        r#"pool "a".cidr: "10.0.0.0/7" is not valid: at most a /8: that is more than enough for any cluster"#,
    ),
    (
        "cidr = 'fc00::/8'",
        r#"pool "a".cidr: "fc00::/8" is not valid: at most a /16: that is more than enough for any cluster"#,
    ),
    (
        "cidr = '10.42.0.0/28'",
        r#"pool "a".block: missing: the pool is smaller than the default block (/26): a prefix length from 28 to 32"#,
    ),
    (
        "cidr = 'fd42::/124'",
        r#"pool "a".block: missing: the pool is smaller than the default block (/122): a prefix length from 124 to 128"#,
    ),
    (
        "cidr = '10.42.0.0/24'\nblock = 23",
        r#"pool "a".block: "23" is not valid: the prefix length of a block, an integer from 24 to 32"#,
    ),
    (
        "cidr = '10.0.0.0/8'\nblock = 15",
        r#"pool "a".block: "15" is not valid: the prefix length of a block, an integer from 16 to 32"#,
    ),
    (
        "cidr = '10.42.0.0/24'\nblock = 33",
        r#"pool "a".block: "33" is not valid: the prefix length of a block, an integer from 24 to 32"#,
    ),
    (
        "cidr = 'fd42::/48'\nblock = 64",
        r#"pool "a".block: "64" is not valid: the prefix length of a block, an integer from 112 to 128"#,
    ),
    (
        "cidr = 'fd42::/48'\nblock = 26",
        r#"pool "a".block: "26" is not valid: the prefix length of a block, an integer from 112 to 128"#,
    ),
    (
        "cidr = 'fd42::/48'\nblock = 4294967418",
        r#"pool "a".block: "4294967418" is not valid: the prefix length of a block, an integer from 112 to 128"#,
    ),
    (
        "cidr = '10.42.0.0/16'\nblock = -1",
        r#"pool "a".block: "-1" is not valid: the prefix length of a block, an integer from 16 to 32"#,
    ),
    (
        "cidr = '10.42.0.0/16'\nblock = '26'",
        r#"pool "a".block: the string "26" is not valid: the prefix length of a block, an integer from 16 to 32"#,
    ),
    (
        "cidr = '10.42.0.0/16'\nblock = 26.0",
        r#"pool "a".block: the number 26.0 is not valid: the prefix length of a block, an integer from 16 to 32"#,
    ),
    (
        "cidr = '10.42.0.0/16'\nblock = nan",
        r#"pool "a".block: the number NaN is not valid: no key takes a number without value"#,
    ),
    (
        "cidr = '10.42.0.0/16'\nmasquerade = 'yes'",
        r#"pool "a".masquerade: the string "yes" is not valid: true or false, without quotes"#,
    ),
    (
        "cidr = '10.42.0.0/16'\nmasquerade = 1",
        r#"pool "a".masquerade: the integer 1 is not valid: true or false, without quotes"#,
    ),
    (
        "cidr = '10.42.0.0/16'\nblok = 26",
        r#"pool "a".blok: unknown key; did you mean "block"? Known here are name, cidr, block, masquerade, nodes, disabled, announce, reserved"#,
    ),
    (
        "cidr = '10.42.0.0/16'\ngateway = '10.42.0.1'",
        r#"pool "a".gateway: unknown key; known here are name, cidr, block, masquerade, nodes, disabled, announce, reserved"#,
    ),
    (
        "cidr = '10.42.0.0/16'\n[[pool]]\nname = 'b'\ncidr = '10.42.3.0/24'",
        r#"pool "b".cidr: "10.42.3.0/24" is not valid: pools may not overlap, and this one lies inside 10.42.0.0/16 of pool "a""#,
    ),
    (
        "cidr = '10.42.0.0/16'\n[[pool]]\nname = 'b'\ncidr = '10.40.0.0/14'",
        r#"pool "b".cidr: "10.40.0.0/14" is not valid: pools may not overlap, and this one contains 10.42.0.0/16 of pool "a""#,
    ),
    (
        "cidr = 'fd42::/48'\n[[pool]]\nname = 'b'\ncidr = 'fd42::/48'",
        r#"pool "b".cidr: "fd42::/48" is not valid: pools may not overlap, and this one is the same as fd42::/48 of pool "a""#,
    ),
    (
        "cidr = '10.42.0.0/16'\n[[pool]]\nname = 'a'\ncidr = '10.43.0.0/16'",
        r#"the 2nd [[pool]].name: "a" is not valid: a name that no other pool has; the 1st [[pool]] has it"#,
    ),
    (
        "cidr = '10.42.0.0/16'\n[[pool]]\nname = 'b'\ncidr = '10.43.0.0/16'\nblok = 26",
        r#"pool "b".blok: unknown key; did you mean "block"? Known here are name, cidr, block, masquerade, nodes, disabled, announce, reserved"#,
    ),
];

#[test]
fn a_pool_is_refused_with_key_value_and_what_would_be_right() {
    compare(POOLS.iter().map(|(rest, wanted)| {
        let toml = format!("[[pool]]\nname = 'a'\n{rest}");
        (*rest, refusal(&toml), *wanted)
    }));
}

const NAMES: &[(&str, &str)] = &[
    ("", r#"the 1st [[pool]].name: missing: a name that is unique in the cluster, as in "default""#),
    ("name = 5", "the 1st [[pool]].name: the integer 5 is not valid: a string"),
    (
        "name = 'Default'",
        r#"pool "Default".name: "Default" is not valid: lower-case letters, digits and '-', beginning with a letter or digit, at most 63 characters"#,
    ),
    (
        "name = ''",
        r#"the 1st [[pool]].name: "" is not valid: lower-case letters, digits and '-', beginning with a letter or digit, at most 63 characters"#,
    ),
    (
        "name = '-a'",
        r#"pool "-a".name: "-a" is not valid: lower-case letters, digits and '-', beginning with a letter or digit, at most 63 characters"#,
    ),
    (
        "name = 1979-05-27",
        "the 1st [[pool]].name: the date 1979-05-27 is not valid: no key takes a date; a text stands in quotes",
    ),
];

#[test]
fn the_name_of_a_pool_follows_its_rule() {
    compare(
        NAMES
            .iter()
            .map(|(name, wanted)| (*name, refusal(&format!("[[pool]]\n{name}\ncidr = '10.42.0.0/16'")), *wanted)),
    );
}

const BACKENDS: &[(&str, &str)] = &[
    (
        "type = 'wireguard'",
        r#"backend.type: "wireguard" is not valid: this version knows "vxlan" or "host-gw" or "bgp""#,
    ),
    ("type = 4", r#"backend.type: the integer 4 is not valid: "vxlan" or "host-gw" or "bgp""#),
    ("vni = 0", r#"backend.vni: "0" is not valid: a VXLAN network identifier, an integer from 1 to 16777215"#),
    (
        "vni = 16777216",
        r#"backend.vni: "16777216" is not valid: a VXLAN network identifier, an integer from 1 to 16777215"#,
    ),
    ("port = 0", r#"backend.port: "0" is not valid: a UDP port, an integer from 1 to 65535"#),
    ("port = 65536", r#"backend.port: "65536" is not valid: a UDP port, an integer from 1 to 65535"#),
    ("port = '4789'", r#"backend.port: the string "4789" is not valid: a UDP port, an integer from 1 to 65535"#),
    (
        "VNI = 7",
        r#"backend.VNI: unknown key; did you mean "vni"? Known here are type, mtu, vni, port, direct, checksum_offload"#,
    ),
    (
        "type = 'host-gw'\nport = 4789\nvni = 7",
        r#"backend.vni: it has no meaning beside type = "host-gw": take out vni, port"#,
    ),
    (
        "type = 'direct'",
        r#"backend.type: "direct" is not valid: this version knows "vxlan" or "host-gw" or "bgp"; direct = true stands beside "vxlan""#,
    ),
    ("type = 'host-gw'\nmtu = 1400", "accepted"),
    ("mtu = 575", r#"backend.mtu: "575" is not valid: an MTU in bytes, an integer from 576 to 65535"#),
    ("mtu = 576", "accepted"),
    ("mtu = '1400'", r#"backend.mtu: the string "1400" is not valid: an MTU in bytes, an integer from 576 to 65535"#),
    (
        "mtu = 1279\n[[pool]]\nname = 'b'\ncidr = 'fd42::/48'",
        r#"backend.mtu: "1279" is not valid: at least 1280, since there are pools of IPv6, whose links carry that much"#,
    ),
    ("direct = 1", "backend.direct: the integer 1 is not valid: true or false, without quotes"),
    ("checksum_offload = 'no'", r#"backend.checksum_offload: "no" is not valid: "auto" or "on" or "off""#),
    ("checksum_offload = true", r#"backend.checksum_offload: true is not valid: "auto" or "on" or "off""#),
];

/// What stands in `[firewall]`.
const FIREWALLS: &[(&str, &str)] = &[
    ("no_masquerade = ['10.0.0.0/8', 'fd00::/8']\nclamp_mss = true\nopen_forward = true", "accepted"),
    (
        "no_masquerade = '10.0.0.0/8'",
        r#"firewall.no_masquerade: the string "10.0.0.0/8" is not valid: a list of networks"#,
    ),
    (
        "no_masquerade = ['10.0.0.1']",
        r#"firewall.no_masquerade[0]: "10.0.0.1" is not valid: an IPv4 or IPv6 prefix without host bits, as in "10.42.0.0/16" or "fd42::/48""#,
    ),
    (
        "no_masquerade = ['fd00::/8', '10.1.0.0/8']",
        r#"firewall.no_masquerade[1]: "10.1.0.0/8" is not valid: a prefix has no host bits: 10.0.0.0/8"#,
    ),
    ("clamp_mss = 1400", "firewall.clamp_mss: the integer 1400 is not valid: true or false, without quotes"),
    (
        "open_forward = 'docker'",
        r#"firewall.open_forward: the string "docker" is not valid: true or false, without quotes"#,
    ),
    ("clamp = true", "firewall.clamp: unknown key; known here are no_masquerade, clamp_mss, open_forward"),
];

/// What stands in a pool of 10.42.0.0/24.
const CHOICES: &[(&str, &str)] = &[
    ("nodes = ['n1']", r#"pool "a".nodes: a list is not valid: a selector over node labels, as in "zone == 'a'""#),
    (
        "nodes = 'zone = a'",
        r#"pool "a".nodes: "zone = a" is not valid: '==', '!=', 'in' or 'not in' is wanted at character 6, "= a"; a selector over node labels is as in "zone == 'a' && disk != 'slow'""#,
    ),
    ("disabled = 'yes'", r#"pool "a".disabled: the string "yes" is not valid: true or false, without quotes"#),
    ("announce = 1", r#"pool "a".announce: the integer 1 is not valid: true or false, without quotes"#),
    (
        "reserved = '10.42.0.1'",
        r#"pool "a".reserved: the string "10.42.0.1" is not valid: a list of ranges of addresses"#,
    ),
    (
        "reserved = ['10.42.0.1', 7]",
        r#"pool "a".reserved: the integer 7 is not valid: addresses of one family: a prefix without host bits, the first and the last with a '-' between, or a single one, as in "10.42.0.0/28", "10.42.9.1-10.42.9.20" or "10.42.0.77""#,
    ),
    (
        "reserved = ['10.42.0.1', '10.42.0.9-10.42.0.3']",
        r#"pool "a".reserved: "10.42.0.9-10.42.0.3" is not valid: the lower address comes first, as in "10.42.0.3-10.42.0.9""#,
    ),
    (
        "reserved = ['10.42.0.240-10.42.1.3']",
        r#"pool "a".reserved: "10.42.0.240-10.42.1.3" is not valid: a range inside of the pool, which is 10.42.0.0/24"#,
    ),
    (
        "reserved = ['fd42::1']",
        r#"pool "a".reserved: "fd42::1" is not valid: a range inside of the pool, which is 10.42.0.0/24"#,
    ),
    (
        "reserved = ['10.42.0.100-10.42.0.255', '10.42.0.0-10.42.0.127']",
        r#"pool "a".reserved: "all of 10.42.0.0/24" is not valid: leave at least one address, or have "disabled = true" in its place"#,
    ),
    ("reserved = ['10.42.0.0-10.42.0.99', '10.42.0.101-10.42.0.255']", "accepted"),
];

#[test]
fn whom_a_pool_is_for_and_what_of_it_is_refused_with_key_value_and_what_would_be_right() {
    compare(CHOICES.iter().map(|(rest, wanted)| {
        (*rest, refusal(&format!("[[pool]]\nname = 'a'\ncidr = '10.42.0.0/24'\n{rest}")), *wanted)
    }));
    let many = |count: u8| {
        let ranges = (0..count).map(|n| format!("'10.42.0.{n}'")).collect::<Vec<_>>().join(",");
        refusal(&format!("[[pool]]\nname = 'a'\ncidr = '10.42.0.0/24'\nreserved = [{ranges}]"))
    };
    assert_eq!(many(16), "accepted");
    assert_eq!(many(17), r#"pool "a".reserved: "17 ranges" is not valid: at most 16 ranges"#);
}

#[test]
fn a_back_end_is_refused_with_key_value_and_what_would_be_right() {
    compare(BACKENDS.iter().map(|(rest, wanted)| {
        (*rest, refusal(&format!("[[pool]]\nname = 'a'\ncidr = '10.42.0.0/16'\n[backend]\n{rest}")), *wanted)
    }));
}

#[test]
fn a_firewall_is_refused_with_key_value_and_what_would_be_right() {
    let with = |rest: &str| refusal(&format!("[[pool]]\nname = 'a'\ncidr = '10.42.0.0/16'\n[firewall]\n{rest}"));
    compare(FIREWALLS.iter().map(|(rest, wanted)| (*rest, with(rest), *wanted)));
    let many = |count: u8| {
        let networks = (0..count).map(|n| format!("'10.{n}.0.0/16'")).collect::<Vec<_>>().join(",");
        with(&format!("no_masquerade = [{networks}]"))
    };
    assert_eq!(many(64), "accepted");
    assert_eq!(many(65), r#"firewall.no_masquerade: "65 networks" is not valid: at most 64 networks"#);
}

const DOCUMENTS: &[(&str, &str)] = &[
    ("", "pool: missing: at least one [[pool]] with a name and a cidr"),
    ("pool = []", "pool: missing: at least one [[pool]] with a name and a cidr"),
    ("[pool]\nname = 'a'", "pool: a table is not valid: tables, each headed [[pool]]"),
    (
        "pool = ['10.42.0.0/16']",
        r#"the 1st [[pool]]: the string "10.42.0.0/16" is not valid: tables, each headed [[pool]]"#,
    ),
    (
        "backend = 'vxlan'\n[[pool]]\nname = 'a'\ncidr = '10.42.0.0/16'",
        r#"backend: the string "vxlan" is not valid: a table headed [backend]"#,
    ),
    (
        "[[pools]]\nname = 'a'",
        r#"pools: unknown key; did you mean "pool"? Known here are pool, backend, firewall, bgp"#,
    ),
    ("[[pool]]\nname = 'a'\nname = 'b'", "the cluster configuration cannot be read: line 3, column 1: duplicate key"),
    (
        "[[pool]]\nname = a",
        "the cluster configuration cannot be read: line 2, column 8: string values must be quoted, expected literal string",
    ),
];

#[test]
fn a_document_of_another_shape_is_refused_with_the_place() {
    compare(DOCUMENTS.iter().map(|(toml, wanted)| (*toml, refusal(toml), *wanted)));
}

#[test]
fn more_than_64_pools_are_refused() {
    let pools =
        |n: usize| (0..n).map(|i| format!("[[pool]]\nname = 'p{i}'\ncidr = '10.{i}.0.0/16'\n")).collect::<String>();
    assert_eq!(refusal(&pools(64)), "accepted");
    assert_eq!(refusal(&pools(65)), r#"pool: "65 pools" is not valid: at most 64 pools"#);
}

#[test]
fn the_edges_of_what_is_right_are_accepted() {
    for rest in [
        "cidr = '10.0.0.0/8'\nblock = 16",
        "cidr = '10.0.0.0/8'\nblock = 32",
        "cidr = '10.42.0.1/32'\nblock = 32",
        "cidr = '10.42.0.0/26'",
        "cidr = 'fd00::/16'\nblock = 112",
        "cidr = 'fd42::7/128'\nblock = 128",
        "cidr = '192.0.2.0/24'\nblock = 24\n[backend]\nvni = 16777215\nport = 1",
    ] {
        assert_eq!(refusal(&format!("[[pool]]\nname = 'a'\n{rest}")), "accepted", "{rest}");
    }
}

#[test]
fn from_etcd_unknown_keys_are_let_pass_and_wrong_values_are_not() {
    let json = br#"{"pool":[{"name":"a","cidr":"10.42.0.0/16","block":26,"masquerade":false,"announce":true}],
                    "backend":{"type":"vxlan","vni":5,"port":4789,"later":true},"later":{"as":64512},"bgp":{"later":1,"node":[{"as":7,"later":1}]}}"#;
    let conf = ClusterConf::from_json(json).unwrap();
    assert!(!conf.pools[0].masquerade);
    assert_eq!(serde_json::from_slice::<ClusterConf>(json).unwrap(), conf);

    let refusals = [
        (
            r#"{"pool":[{"name":"a","cidr":"10.42.0.1/16"}]}"#,
            r#"pool "a".cidr: "10.42.0.1/16" is not valid: a prefix has no host bits: 10.42.0.0/16"#,
        ),
        (
            r#"{"pool":[{"name":"a","cidr":"10.42.0.0/16"}],"backend":{"type":"later"}}"#,
            r#"backend.type: "later" is not valid: this version knows "vxlan" or "host-gw" or "bgp""#,
        ),
        (r#"{"pool":{}}"#, "pool: an object is not valid: tables, each headed [[pool]]"),
        ("[]", "the cluster configuration in etcd cannot be read: one JSON object is wanted, not a list"),
        ("", "the cluster configuration in etcd cannot be read: one JSON object is wanted, and nothing came"),
        ("{", "the cluster configuration in etcd cannot be read: EOF while parsing an object at line 1 column 1"),
    ];
    compare(refusals.map(|(json, wanted)| {
        (json, ClusterConf::from_json(json.as_bytes()).map_or_else(|e| e.to_string(), |_| "accepted".into()), wanted)
    }));
    assert!(serde_json::from_str::<ClusterConf>(refusals[0].0).is_err(), "deserialising does not go around the rules");
}
