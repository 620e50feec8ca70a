//! The section `[bgp]`.

use twill_conf::cluster::ClusterConf;

use crate::compare;

fn refusal(toml: &str) -> String {
    ClusterConf::from_toml(toml).map_or_else(|error| error.to_string(), |_| "accepted".into())
}

/// Each row after a pool of 10.42.0.0/16 and `head`.
fn refuse(head: &str, rows: &[(&str, &str)]) {
    compare(rows.iter().map(|(rest, wanted)| {
        (*rest, refusal(&format!("[[pool]]\nname = 'a'\ncidr = '10.42.0.0/16'\n{head}\n{rest}")), *wanted)
    }));
}

#[test]
fn what_holds_for_all_nodes_is_refused_with_key_value_and_what_would_be_right() {
    refuse(
        "[bgp]",
        &[
            ("", "accepted"),
            ("as = 0", r#"bgp.as: "0" is not valid: an AS number, an integer from 1 to 4294967294"#),
            ("as = 4294967295", r#"bgp.as: "4294967295" is not valid: an AS number, an integer from 1 to 4294967294"#),
            (
                "as = 23456",
                r#"bgp.as: "23456" is not valid: an AS number, an integer from 1 to 4294967294; 23456 stands in for numbers of four bytes (RFC 6793)"#,
            ),
            (
                "as = 65535",
                r#"bgp.as: "65535" is not valid: an AS number, an integer from 1 to 4294967294; 65535 is reserved (RFC 7300)"#,
            ),
            (
                "as = '64512.1'",
                r#"bgp.as: "64512.1" is not valid: an AS number, an integer from 1 to 4294967294; 64512.1 is 4227858433"#,
            ),
            (
                "as = '64512'",
                r#"bgp.as: "64512" is not valid: an AS number, an integer from 1 to 4294967294, without quotes"#,
            ),
            ("as = 1.10", "bgp.as: the number 1.1 is not valid: an AS number, an integer from 1 to 4294967294"),
            ("mesh = 'no'", r#"bgp.mesh: the string "no" is not valid: true or false, without quotes"#),
            ("port = 0", r#"bgp.port: "0" is not valid: a TCP port, an integer from 1 to 65535"#),
            (
                "hold_time = 2",
                r#"bgp.hold_time: "2" is not valid: seconds, 3 or more, or 0 for a session that silence does not end"#,
            ),
            (
                "hold_time = 65536",
                r#"bgp.hold_time: "65536" is not valid: seconds, 3 or more, or 0 for a session that silence does not end, an integer from 0 to 65535"#,
            ),
            ("hold_time = 0", "accepted"),
            ("hold_time = 65535", "accepted"),
            (
                "connect_retry = 0",
                r#"bgp.connect_retry: "0" is not valid: the seconds until the next attempt, an integer from 1 to 65535"#,
            ),
            (
                "password_file = 'bgp-password'",
                r#"bgp.password_file: "bgp-password" is not valid: the absolute path of a file on the nodes, as in "/etc/twill/bgp-password""#,
            ),
            (
                "password = 'secret'",
                "bgp.password: a password is not valid: every node and operator could read it here: write it into a file on the nodes, and name that by password_file",
            ),
            ("graceful_restart = true", "accepted"),
            ("graceful_restart = false", "accepted"),
            (
                "graceful_restart = 60",
                "bgp.graceful_restart: the integer 60 is not valid: true, false, or a table that says more",
            ),
            (
                "graceful_restart.time = 4096",
                r#"bgp.graceful_restart.time: "4096" is not valid: the seconds for which routes wait, an integer from 1 to 4095"#,
            ),
            ("graceful_restart.enable = true", "bgp.graceful_restart.enable: unknown key; known here are time"),
            (
                "bfd.interval = 49",
                r#"bgp.bfd.interval: "49" is not valid: milliseconds between two packets, an integer from 50 to 10000"#,
            ),
            (
                "bfd.multiplier = 1",
                r#"bgp.bfd.multiplier: "1" is not valid: the number of lost packets after which the way is down, an integer from 2 to 255"#,
            ),
            (
                "bfd = { intervall = 300 }",
                r#"bgp.bfd.intervall: unknown key; did you mean "interval"? Known here are interval, multiplier"#,
            ),
            (
                "asn = 64512",
                r#"bgp.asn: unknown key; did you mean "as"? Known here are as, mesh, port, graceful_restart, reflectors, node, peer, announce, hold_time, connect_retry, password_file, bfd"#,
            ),
            (
                "[bgp.reflectors]",
                r#"bgp.reflectors.nodes: missing: which nodes are reflectors, by a selector over node labels, as in "has(reflector)""#,
            ),
            (
                "[bgp.reflectors]\nnodes = 'has(r)'\ncluster_id = 1",
                r#"bgp.reflectors.cluster_id: the integer 1 is not valid: an identifier that is written as an IPv4 address, as in "192.0.2.1", and not 0.0.0.0"#,
            ),
            (
                "[bgp.reflectors]\nnodes = 'has(r)'\ncluster_id = '0.0.0.0'",
                r#"bgp.reflectors.cluster_id: "0.0.0.0" is not valid: an identifier that is written as an IPv4 address, as in "192.0.2.1", and not 0.0.0.0"#,
            ),
        ],
    );
}

#[test]
fn a_back_end_whose_nodes_could_not_learn_of_each_other_is_refused() {
    refuse(
        "[backend]\ntype = 'bgp'",
        &[
            ("", "accepted"),
            ("vni = 7", r#"backend.vni: it has no meaning beside type = "bgp": take out vni"#),
            (
                "[bgp]\nmesh = false",
                r#"bgp.mesh: "false" is not valid: with type = "bgp" nodes know by BGP alone of each other's pods: leave it out, or have [bgp.reflectors] or a [[bgp.peer]] for them"#,
            ),
            ("[bgp]\nmesh = false\n[bgp.reflectors]\nnodes = 'has(r)'", "accepted"),
            ("[bgp]\nmesh = false\n[[bgp.peer]]\nname = 'p'\naddress = '192.0.2.1'\nas = 'internal'", "accepted"),
        ],
    );
    refuse("[bgp]\nmesh = false", &[("", "accepted")]);
}

#[test]
fn what_is_otherwise_on_some_nodes_is_refused_with_its_place() {
    refuse(
        "[[bgp.node]]",
        &[
            (
                "node = 'n1'",
                "the 1st [[bgp.node]]: missing: what is otherwise on these nodes: as, router_id or shutdown",
            ),
            (
                "node = 'N1'\nas = 7",
                r#"the 1st [[bgp.node]].node: "N1" is not valid: lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit, at most 253 characters"#,
            ),
            (
                "node = 'n1'\nnodes = 'has(a)'\nas = 7",
                r#"the 1st [[bgp.node]].nodes: it has no meaning beside node = "n1": take out nodes"#,
            ),
            (
                "nodes = 'a'\nas = 7",
                r#"the 1st [[bgp.node]].nodes: "a" is not valid: '==', '!=', 'in' or 'not in' is wanted at the end; a selector over node labels is as in "zone == 'a' && disk != 'slow'""#,
            ),
            (
                "nodes = 'has(a)'\nrouter_id = '10.0.0.1'",
                r#"the 1st [[bgp.node]].router_id: "10.0.0.1" is not valid: it stands beside "node" alone: no two nodes have the same"#,
            ),
            (
                "node = 'n1'\nrouter_id = '10.0.0.1'\n[[bgp.node]]\nnode = 'n2'\nrouter_id = '10.0.0.1'",
                r#"the 2nd [[bgp.node]].router_id: "10.0.0.1" is not valid: no two nodes have the same, and the 1st [[bgp.node]] has it"#,
            ),
            (
                "node = 'n1'\nrouter_id = '0.0.0.0'",
                r#"the 1st [[bgp.node]].router_id: "0.0.0.0" is not valid: an identifier that is written as an IPv4 address, as in "192.0.2.1", and not 0.0.0.0"#,
            ),
            (
                "node = 'n1'\nshutdown = 1",
                "the 1st [[bgp.node]].shutdown: the integer 1 is not valid: true or false, without quotes",
            ),
            (
                "as = 7\nmesh = false",
                "the 1st [[bgp.node]].mesh: unknown key; known here are node, nodes, as, router_id, shutdown",
            ),
        ],
    );
}

const KNOWN_OF_A_PEER: &str = "name, address, as, port, source, local_as, passive, gtsm, multihop, next_hop_self, transit, \
                               max_prefixes, import, export, node, nodes, hold_time, connect_retry, password_file, bfd";

#[test]
fn a_peer_is_refused_with_key_value_and_what_would_be_right() {
    refuse(
        "[[bgp.peer]]",
        &[
            ("", r#"the 1st [[bgp.peer]].name: missing: a name that no other peer has, as in "tor-1""#),
            (
                "name = 'ToR'",
                r#"bgp.peer "ToR".name: "ToR" is not valid: lower-case letters, digits and '-', beginning with a letter or digit, at most 63 characters"#,
            ),
            (
                "name = 'p'\nas = 7",
                r#"bgp.peer "p".address: missing: an address of IPv4 or IPv6, as in "192.0.2.1" or "2001:db8::1""#,
            ),
            (
                "name = 'p'\naddress = 'tor.example'\nas = 7",
                r#"bgp.peer "p".address: "tor.example" is not valid: an address of IPv4 or IPv6, as in "192.0.2.1" or "2001:db8::1""#,
            ),
            (
                "name = 'p'\naddress = '192.0.2.1'",
                r#"bgp.peer "p".as: missing: an AS number, an integer from 1 to 4294967294, or "internal" for the node's own, or "external" for any other"#,
            ),
            (
                "name = 'p'\naddress = '192.0.2.1'\nas = 'ibgp'",
                r#"bgp.peer "p".as: "ibgp" is not valid: an AS number, an integer from 1 to 4294967294, or "internal" for the node's own, or "external" for any other"#,
            ),
            (
                "name = 'p'\naddress = '192.0.2.1'\nas = '1.10'",
                r#"bgp.peer "p".as: "1.10" is not valid: an AS number, an integer from 1 to 4294967294; 1.10 is 65546"#,
            ),
        ],
    );
    let with = |rest: &str| {
        let head = "[[pool]]\nname = 'a'\ncidr = '10.42.0.0/16'\n[[bgp.peer]]\nname = 'p'\n";
        let first = rest.split("[[").next().unwrap_or_default();
        let address = if first.contains("address") { "" } else { "address = '192.0.2.1'\n" };
        let asn = if first.starts_with("as =") { "" } else { "as = 65001\n" };
        refusal(&format!("{head}{address}{asn}{rest}"))
    };
    let unknown =
        format!(r#"bgp.peer "p".hold_timer: unknown key; did you mean "hold_time"? Known here are {KNOWN_OF_A_PEER}"#);
    let rows: &[(&str, &str)] = &[
        ("", "accepted"),
        (
            "address = '224.0.0.1'",
            r#"bgp.peer "p".address: "224.0.0.1" is not valid: the address of one machine: this one is a group's"#,
        ),
        (
            "address = '127.0.0.1'",
            r#"bgp.peer "p".address: "127.0.0.1" is not valid: the address of one machine: this one is the node's own, whichever it is"#,
        ),
        (
            "address = 'fe80::1'",
            r#"bgp.peer "p".address: "fe80::1" is not valid: the address of one machine: this one is link-local, and says nothing without an interface"#,
        ),
        (
            "address = '0.0.0.0'",
            r#"bgp.peer "p".address: "0.0.0.0" is not valid: the address of one machine: this one is nobody's"#,
        ),
        (
            "address = '::ffff:192.0.2.1'",
            r#"bgp.peer "p".address: "::ffff:192.0.2.1" is not valid: the address of one machine: this one is nobody's"#,
        ),
        (
            "source = '2001:db8::1'",
            r#"bgp.peer "p".source: "2001:db8::1" is not valid: of the peer's family, which is IPv4"#,
        ),
        (
            "source = '::1'",
            r#"bgp.peer "p".source: "::1" is not valid: the address of one machine: this one is the node's own, whichever it is"#,
        ),
        (
            "local_as = 65001",
            r#"bgp.peer "p".local_as: "65001" is not valid: another AS than the peer's own: leave it out, and have as = "internal", if the peer is of the nodes' AS"#,
        ),
        (
            "as = 'internal'\nlocal_as = 65001",
            r#"bgp.peer "p".local_as: it has no meaning beside as = "internal": take out local_as"#,
        ),
        (
            "as = 'external'\nnext_hop_self = true",
            r#"bgp.peer "p".next_hop_self: it has no meaning beside as = "external": take out next_hop_self"#,
        ),
        (
            "as = 'internal'\ntransit = true",
            r#"bgp.peer "p".transit: it has no meaning beside as = "internal": take out transit"#,
        ),
        (
            "passive = true\nconnect_retry = 5",
            r#"bgp.peer "p".connect_retry: it has no meaning beside passive = true: take out connect_retry"#,
        ),
        (
            "multihop = 1",
            r#"bgp.peer "p".multihop: "1" is not valid: the hop limit of packets to a peer behind routers, an integer from 2 to 255"#,
        ),
        (
            "multihop = 256",
            r#"bgp.peer "p".multihop: "256" is not valid: the hop limit of packets to a peer behind routers, an integer from 2 to 255"#,
        ),
        ("multihop = 2\ngtsm = true", r#"bgp.peer "p".gtsm: it has no meaning beside multihop = 2: take out gtsm"#),
        ("multihop = 2\nbfd = true", r#"bgp.peer "p".bfd: it has no meaning beside multihop = 2: take out bfd"#),
        (
            "bfd.interval = 10001",
            r#"bgp.peer "p".bfd.interval: "10001" is not valid: milliseconds between two packets, an integer from 50 to 10000"#,
        ),
        (
            "hold_time = 1",
            r#"bgp.peer "p".hold_time: "1" is not valid: seconds, 3 or more, or 0 for a session that silence does not end"#,
        ),
        (
            "max_prefixes = 0",
            r#"bgp.peer "p".max_prefixes: "0" is not valid: the greatest number of prefixes of a family, an integer from 1 to 4294967295"#,
        ),
        (
            "password = 'secret'",
            r#"bgp.peer "p".password: a password is not valid: every node and operator could read it here: write it into a file on the nodes, and name that by password_file"#,
        ),
        ("hold_timer = 9", &unknown),
        (
            "[[bgp.peer]]\nname = 'p'\naddress = '192.0.2.2'\nas = 7",
            r#"the 2nd [[bgp.peer]].name: "p" is not valid: a name that no other peer has; the 1st [[bgp.peer]] has it"#,
        ),
        (
            "[[bgp.peer]]\nname = 'q'\naddress = '192.0.2.1'\nas = 7\nnode = 'n1'",
            r#"bgp.peer "q".address: "192.0.2.1" is not valid: another one than that of peer "p", which is for the same nodes"#,
        ),
        ("node = 'n1'\n[[bgp.peer]]\nname = 'q'\naddress = '192.0.2.1'\nas = 7\nnode = 'n2'", "accepted"),
    ];
    compare(rows.iter().map(|(rest, wanted)| (*rest, with(rest), *wanted)));
    let peers = |count: u16| {
        let peer = |n: u16| format!("[[bgp.peer]]\nname = 'p{n}'\naddress = '192.0.{}.{}'\nas = 7\n", n / 256, n % 256);
        refusal(&format!("[[pool]]\nname = 'a'\ncidr = '10.42.0.0/16'\n{}", (0..count).map(peer).collect::<String>()))
    };
    assert_eq!(peers(512), "accepted");
    assert_eq!(peers(513), r#"bgp.peer: "513 peers" is not valid: at most 512 peers"#);
}

const RANGE: &str = r#"a prefix without host bits, alone or with the lengths of those inside of it, as in "10.0.0.0/8", "10.0.0.0/8 le 24" or "fd00::/8 ge 48 le 64""#;
const COMMUNITY: &str = r#"a community: two numbers up to 65535 as in "64512:100", three up to 4294967295 as in "64512:1:2", or a well-known name: graceful-shutdown, blackhole, no-export, no-advertise, no-export-subconfed"#;

#[test]
fn a_rule_of_a_filter_is_refused_with_its_place() {
    let at = r#"the 1st [[bgp.peer "p".import]]"#;
    let lengths = |own: u8, longest: u8| {
        format!("lengths from {own} to {longest}, \"ge\" not above \"le\": PREFIX ge LEAST le MOST")
    };
    let rows: Vec<(&str, String)> = vec![
        ("", format!(r#"{at}.action: missing: "accept" or "reject", or "next" to change it and ask the next rule"#)),
        ("action = 'drop'", format!(r#"{at}.action: "drop" is not valid: "accept" or "reject", or "next" to change it and ask the next rule"#)),
        ("prefixes = []\naction = 'accept'", format!("{at}.prefixes: missing: at least one; without the key, the rule is about all prefixes")),
        ("prefixes = '10.0.0.0/8'\naction = 'accept'", format!(r#"{at}.prefixes: the string "10.0.0.0/8" is not valid: a list of prefixes"#)),
        ("prefixes = ['10.0.0.0/8', '10.1.0.0/8']\naction = 'accept'", format!(r#"{at}.prefixes[1]: "10.1.0.0/8" is not valid: a prefix has no host bits: 10.0.0.0/8"#)),
        ("prefixes = ['10.0.0.0/8 le 7']\naction = 'accept'", format!(r#"{at}.prefixes[0]: "10.0.0.0/8 le 7" is not valid: {}"#, lengths(8, 32))),
        ("prefixes = ['fd00::/8 ge 65 le 64']\naction = 'accept'", format!(r#"{at}.prefixes[0]: "fd00::/8 ge 65 le 64" is not valid: {}"#, lengths(8, 128))),
        ("prefixes = ['10.0.0.0/8 le 33']\naction = 'accept'", format!(r#"{at}.prefixes[0]: "10.0.0.0/8 le 33" is not valid: {}"#, lengths(8, 32))),
        ("prefixes = ['10.0.0.0/8 le 16 ge 9']\naction = 'accept'", format!(r#"{at}.prefixes[0]: "10.0.0.0/8 le 16 ge 9" is not valid: {RANGE}"#)),
        ("prefixes = ['10.0.0.0/8 ge']\naction = 'accept'", format!(r#"{at}.prefixes[0]: "10.0.0.0/8 ge" is not valid: {RANGE}"#)),
        ("prefixes = ['10.0.0.0/8+']\naction = 'accept'", format!(r#"{at}.prefixes[0]: "10.0.0.0/8+" is not valid: {RANGE}"#)),
        ("action = 'reject'\nmed = 5\nprepend = 2", format!(r#"{at}.med: it has no meaning beside action = "reject": take out med, prepend"#)),
        ("action = 'next'", format!(r#"{at}: missing: with action = "next", something to change: local_pref, med, prepend, communities, remove_communities"#)),
        ("action = 'accept'\nprepend = 17", format!(r#"{at}.prepend: "17" is not valid: how often the AS number is put before the path, an integer from 1 to 16"#)),
        ("action = 'accept'\nprepend = 0", format!(r#"{at}.prepend: "0" is not valid: how often the AS number is put before the path, an integer from 1 to 16"#)),
        ("action = 'accept'\nlocal_pref = -1", format!(r#"{at}.local_pref: "-1" is not valid: a preference, an integer from 0 to 4294967295"#)),
        ("action = 'accept'\ncommunities = ['64512:65536']", format!(r#"{at}.communities[0]: "64512:65536" is not valid: {COMMUNITY}"#)),
        ("action = 'accept'\ncommunities = ['no-such']", format!(r#"{at}.communities[0]: "no-such" is not valid: {COMMUNITY}"#)),
        ("action = 'accept'\ncommunities = ['1:2:4294967296']", format!(r#"{at}.communities[0]: "1:2:4294967296" is not valid: {COMMUNITY}"#)),
        ("action = 'accept'\ncommunities = ['+1:2']", format!(r#"{at}.communities[0]: "+1:2" is not valid: {COMMUNITY}"#)),
        ("action = 'accept'\ncommunity = '1'", format!(r#"{at}.community: "1" is not valid: {COMMUNITY}"#)),
        ("action = 'accept'\nfrom_as = 0", format!(r#"{at}.from_as: "0" is not valid: an AS number, an integer from 1 to 4294967294"#)),
        ("action = 'accept'\nprefix = '10.0.0.0/8'", format!(r#"{at}.prefix: unknown key; did you mean "prefixes"? Known here are prefixes, community, through_as, from_as, action, local_pref, med, prepend, communities, remove_communities"#)),
        (
            "action = 'accept'\n[[bgp.peer.import]]\naction = 'reject'",
            r#"the 2nd [[bgp.peer "p".import]]: a rule that no route comes to is not valid: the 1st [[bgp.peer "p".import]] asks for nothing and decides on everything before it"#.to_owned(),
        ),
        ("action = 'next'\nmed = 0\n[[bgp.peer.import]]\naction = 'reject'", "accepted".to_owned()),
        ("action = 'accept'\nfrom_as = 7\n[[bgp.peer.import]]\naction = 'reject'", "accepted".to_owned()),
    ];
    let head = "[[bgp.peer]]\nname = 'p'\naddress = '192.0.2.1'\nas = 7\n[[bgp.peer.import]]";
    let rows: Vec<(&str, &str)> = rows.iter().map(|(rest, wanted)| (*rest, wanted.as_str())).collect();
    refuse(head, &rows);
    let many = |count: usize| {
        let rule = "[[bgp.peer.export]]\naction = 'next'\nmed = 1\n".repeat(count);
        refusal(&format!(
            "[[pool]]\nname = 'a'\ncidr = '10.42.0.0/16'\n[[bgp.peer]]\nname = 'p'\naddress = '192.0.2.1'\nas = 7\n{rule}"
        ))
    };
    assert_eq!(many(64), "accepted");
    assert_eq!(many(65), r#"bgp.peer "p".export: "65 rules" is not valid: at most 64 rules"#);
}

#[test]
fn what_is_announced_beside_the_pools_is_refused_with_its_place() {
    refuse(
        "[[bgp.announce]]",
        &[
            (
                "",
                r#"the 1st [[bgp.announce]].prefix: missing: an IPv4 or IPv6 prefix without host bits, as in "10.42.0.0/16" or "fd42::/48""#,
            ),
            ("prefix = '10.96.0.0/12'", "accepted"),
            (
                "prefix = '10.96.0.1/12'",
                r#"the 1st [[bgp.announce]].prefix: "10.96.0.1/12" is not valid: a prefix has no host bits: 10.96.0.0/12"#,
            ),
            (
                "prefix = '0.0.0.0/0'",
                r#"the 1st [[bgp.announce]].prefix: "0.0.0.0/0" is not valid: a node is no way to everywhere: a longer prefix"#,
            ),
            (
                "prefix = 'fe80::/10'",
                r#"the 1st [[bgp.announce]].prefix: "fe80::/10" is not valid: a range of addresses that machines have"#,
            ),
            (
                "prefix = '10.42.7.0/24'",
                r#"the 1st [[bgp.announce]].prefix: "10.42.7.0/24" is not valid: it lies inside of pool "a", whose blocks are announced by the nodes that have them: announce = true stands there"#,
            ),
            ("prefix = '10.42.0.0/16'", "accepted"),
            ("prefix = '10.40.0.0/14'\ncommunities = ['64512:1', 'no-export']", "accepted"),
            (
                "prefix = '10.96.0.0/12'\n[[bgp.announce]]\nprefix = '10.96.0.0/12'\nnode = 'n1'",
                r#"the 2nd [[bgp.announce]].prefix: "10.96.0.0/12" is not valid: once for each node; the 1st [[bgp.announce]] has it for the same"#,
            ),
        ],
    );
}

#[test]
fn from_etcd_a_key_of_a_rule_that_is_not_known_is_refused_since_the_rule_would_be_about_more_routes() {
    let json = |rule: &str| {
        let text = format!(
            r#"{{"pool":[{{"name":"a","cidr":"10.42.0.0/16"}}],"bgp":{{"later":1,"bfd":{{"later":1}},"peer":[{{"name":"p",
                "address":"192.0.2.1","as":7,"later":1,"import":[{{"action":"accept"{rule}}}]}}]}}}}"#
        );
        ClusterConf::from_json(text.as_bytes()).map_or_else(|error| error.to_string(), |_| "accepted".into())
    };
    assert_eq!(json(""), "accepted");
    assert!(
        json(r#","later":1"#).starts_with(r#"the 1st [[bgp.peer "p".import]].later: unknown key"#),
        "{}",
        json(r#","later":1"#)
    );
}
